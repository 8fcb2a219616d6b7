"""Several processes: what they tell one another, and that torchrun's fits are those of one process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.multiprocessing as mp

import program_exchange
import program_ranks
import rarefire as rf
from rarefire.data import mapped
from rarefire.data.batch import Batch
from rarefire.data.source import ArraySource, Description
from rarefire.parallel import Ranks
from rarefire.random import Generator

PROGRAM = Path(program_ranks.__file__)

#: How torchrun may end at the latest, in seconds, also when a process dies.
LIMIT = 240


# In one process ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
def test_shares_are_all_rows_in_order_and_as_long_as_one_another(size, n):
    shares = [range(n)[Ranks(rank, size).share(n)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("width", [1, 4, 7])
@pytest.mark.parametrize("total", [1, 5, 11])
def test_draws_of_some_rows_are_those_rows_of_a_draw_of_all(width, total):
    for start, stop in (
        (0, total),
        (0, 0),
        (total // 2, total),
        (1, total - 1) if total > 1 else (0, 1),
        (total, total),
    ):
        whole, some = Generator(3, "test"), Generator(3, "test")
        rows = some.rows_of(start, total)
        shape = (stop - start, width)
        for _ in range(2):
            assert torch.equal(
                rows.uniform(shape, torch.float32), whole.uniform((total, width), torch.float32)[start:stop]
            )
            p = torch.full((total, width), 0.3)
            assert torch.equal(rows.bernoulli(p[start:stop]), whole.bernoulli(p)[start:stop])
            drawn = whole.normal((total, width), torch.float64)
            assert torch.equal(rows.normal(shape, torch.float64), drawn[start:stop])
        assert some.state() == whole.state()


@pytest.mark.parametrize("index", [slice(None), np.array([5, 3, 8, 0, 1, 9, 2])])
@pytest.mark.parametrize("part_values", [2**23, 6])
def test_batches_of_all_processes_are_the_whole_batch(index, part_values, monkeypatch):
    monkeypatch.setattr("rarefire.data.batch.PART_VALUES", part_values)
    source = ArraySource(np.arange(20.0).reshape(10, 2), Description("test"))
    shares = [Batch.share(source, index, "cpu", Ranks(rank, 3)) for rank in range(3)]
    assert {share.n for share in shares} == {len(source.array[index])}
    parts = [list(share.parts(2)) for share in shares]
    assert len({len(of_share) for of_share in parts}) == 1  # as many exchanges on each
    read = torch.cat([part for of_share in parts for part in of_share])
    np.testing.assert_array_equal(read.numpy(), source.array[index])


# Exchanges --------------------------------------------------------------------------------------------------------


def test_exchanges_give_the_same_on_all_processes(tmp_path):
    mp.spawn(program_exchange.exchange, (2, str(tmp_path / "meeting"), str(tmp_path)), nprocs=2)
    answers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [answer.pop("alone") for answer in answers] == [0, 1]
    assert answers[0] == answers[1]
    assert answers[0] == {
        "sum": {"wide": [[3.0, 4.0]], "narrow": [2.0, 2.0, 2.0], "number": 11.0},
        "types": ["torch.float64", "torch.float32", "torch.float64"],
        "rows": np.arange(10.0).reshape(5, 2).tolist(),
        "any": [True, False],
        "same": [True, False],
        "first": 0,
        "error": "said by 0",
    }


# Under torchrun ---------------------------------------------------------------------------------------------------

Torchrun = Callable[..., subprocess.Popen]


@pytest.fixture(scope="module")
def torchrun() -> Iterator[Torchrun]:
    """Start a module or a program with torchrun, on one thread a process; what still runs at the end is ended."""
    running: list[subprocess.Popen] = []

    def start(n: int, *words: object, cwd: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
        running.append(
            subprocess.Popen(
                [*command, *map(str, words)],
                cwd=cwd,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield start
    for one in running:
        if one.poll() is None:
            one.terminate()  # killed, it would leave its processes behind
        one.communicate()


@pytest.fixture(scope="module")
def ended(torchrun):
    """Run something with torchrun until it ends: exit code, standard output, what rarefire said of errors, the rest."""

    def run(n: int, *words: object, cwd: Path) -> tuple[int, str, list[str], str]:
        one = torchrun(n, *words, cwd=cwd)
        out, err = one.communicate(timeout=LIMIT)
        said = [line for line in err.splitlines() if line.startswith("rarefire: ")]
        return one.returncode, out, said, err

    return run


def assert_one(said: list[str], sentence: str, err: str) -> None:
    """Of all processes one has said one thing."""
    assert len(said) == 1, err
    assert sentence in said[0]


@pytest.fixture(scope="module")
def alone():
    """The same fits in this process."""
    return {name: program_ranks.fitted(name) for name in program_ranks.EXACT}


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_a_fit_is_that_of_one_process(n, ended, alone, tmp_path):
    code, _, _, err = ended(n, PROGRAM, "fits", tmp_path, cwd=tmp_path)
    assert code == 0, err
    for name, expected in alone.items():
        for rank in range(n):
            got = dict(np.load(tmp_path / f"{name}-{rank}.npz"))
            assert set(got) == set(expected)
            for part, values in expected.items():
                np.testing.assert_allclose(got[part], values, rtol=0, atol=1e-10, err_msg=f"{name} {part} {rank}")


@pytest.mark.slow
def test_rows_in_parts_are_those_of_one_process(ended, monkeypatch, tmp_path):
    code, _, _, err = ended(3, PROGRAM, "parts", tmp_path, cwd=tmp_path)
    assert code == 0, err
    got = {path.stem: np.load(path)["encoder_weight_"] for path in tmp_path.glob("*.npz")}
    for name, estimator in program_ranks.IN_PARTS.items():
        np.testing.assert_array_equal(got[f"{name}-1"], got[f"{name}-0"])
        np.testing.assert_array_equal(got[f"{name}-2"], got[f"{name}-0"])
        if name != "dropped":  # whose draws are in another order
            expected = estimator.fit(program_ranks.ROWS).encoder_weight_
            np.testing.assert_allclose(got[f"{name}-0"], expected, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_a_file_is_mixed_as_in_one_process(ended, monkeypatch, tmp_path):
    for name in ("BLOCK_BYTES", "MIXED_BLOCKS"):
        monkeypatch.setattr(mapped, name, getattr(mapped, name))  # put back afterwards
    np.save(tmp_path / "rows.npy", program_ranks.ROWS)
    code, _, _, err = ended(2, PROGRAM, "blocks", tmp_path, cwd=tmp_path)
    assert code == 0, err
    np.testing.assert_array_equal(np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy"))
    np.testing.assert_allclose(np.load(tmp_path / "0.npy"), program_ranks.blocked(tmp_path / "rows.npy"), atol=1e-10)


@pytest.mark.slow
def test_columns_are_sampled_in_one_process_also_by_a_run_that_goes_on(ended, tmp_path):
    """Each would follow columns of its own, and their weights would part."""
    run = tmp_path / "run"
    sp.save_npz(tmp_path / "rows.npz", program_ranks.FEW)
    words = ["fit", "rows.npz", "--quiet", "--out", run]
    for argument in ("solver=adam", "n_components=5", "max_iter=100000", "reconstruction_sampling=0.5"):
        words += ["--set", argument]
    code, _, said, err = ended(2, "-m", "rarefire", *words, cwd=tmp_path)
    assert code != 0
    assert_one(said, "reconstruction_sampling draws columns in one process, and there are several", err)
    assert not run.exists()
    strike = ("command_line", run, 0, signal.SIGINT.value)
    code, _, said, err = ended(1, PROGRAM, *strike, *words, cwd=tmp_path)
    assert_one(said, "stopped in", err)
    before = (run / "checkpoint" / "state.safetensors").read_bytes()
    code, _, said, err = ended(2, "-m", "rarefire", "resume", run, "--quiet", cwd=tmp_path)
    assert code != 0
    assert_one(said, "reconstruction_sampling draws columns in one process, and there are several", err)
    assert (run / "checkpoint" / "state.safetensors").read_bytes() == before


@pytest.mark.slow
def test_programs_have_one_seed_one_directory_and_the_same_errors(ended, tmp_path):
    code, _, _, err = ended(2, PROGRAM, "misuse", tmp_path, cwd=tmp_path)
    assert code == 0, err
    answers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert answers[0] == answers[1]
    different, held, diverged, arguments = answers[0]["sentences"]
    assert "different rows" in different
    assert "finished run" in held
    assert "diverged" in diverged
    assert arguments == "the processes were given different arguments; give the same to each"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "1.json", "run"]


MACHINE = (
    *("--estimator", "BernoulliRBM", "--set", "n_components=8", "--set", "n_iter=60", "--set", "n_chains=7"),
    *("--set", "batch_size=20", "--set", "momentum=0.5", "--checkpoint-every", "0.2", "--quiet"),
)
#: What is the same, bit for bit, in a run and its repeat.
SAME = ("weights.safetensors", "history.jsonl", "metrics.json", "features.safetensors", "report.html")


def assert_close(run: Path, other: Path) -> None:
    one, two = rf.load(run), rf.load(other)
    for name in ("components_", "intercept_hidden_", "intercept_visible_", "h_samples_"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=0, atol=1e-10)
    assert one.n_iter_ == two.n_iter_ == 60
    for record, expected in zip(one.history_, two.history_, strict=True):
        assert record == pytest.approx(expected, abs=1e-10)


@pytest.fixture(scope="module")
def undisturbed(ended, finished, tmp_path_factory):
    """A run on two processes, and the same on one."""
    folder = tmp_path_factory.mktemp("undisturbed")
    np.save(folder / "bits.npy", program_ranks.BITS)
    code, out, said, err = ended(2, "-m", "rarefire", "fit", "bits.npy", *MACHINE, cwd=folder)
    assert (code, said) == (0, []), err
    assert out.count("report.html") == 1
    assert [path.name for path in (folder / "runs").iterdir()] == ["bits-BernoulliRBM"]
    assert finished("fit", "bits.npy", *MACHINE, "--out", "alone", cwd=folder).code == 0
    return folder


@pytest.mark.slow
def test_the_command_line_trains_what_one_process_does(undisturbed):
    assert_close(undisturbed / "runs" / "bits-BernoulliRBM", undisturbed / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_job_and_the_run_goes_on_on_any_number(rank, undisturbed, ended, finished, tmp_path):
    run = tmp_path / "run"
    words = ("fit", undisturbed / "bits.npy", *MACHINE, "--out", run)
    code, _, said, err = ended(2, PROGRAM, "command_line", run, rank, signal.SIGKILL.value, *words, cwd=tmp_path)
    assert code != 0
    assert_one(said, "another process of this job has ended", err)
    assert f"rarefire resume {run}" in said[0]
    assert not (run / "weights.safetensors").exists()
    shutil.copytree(run, tmp_path / "three")
    assert finished("resume", run, "--quiet", cwd=tmp_path).code == 0
    code, _, said, err = ended(3, "-m", "rarefire", "resume", "three", "--quiet", cwd=tmp_path)
    assert (code, said) == (0, []), err
    for went_on in (run, tmp_path / "three"):
        assert_close(went_on, undisturbed / "alone")


@pytest.mark.slow
def test_what_torchrun_starts_again_goes_on(undisturbed, ended, tmp_path):
    """With ``--max-restarts`` the store of the processes before is still there, and says what they said."""
    run = tmp_path / "run"
    words = ("fit", undisturbed / "bits.npy", *MACHINE, "--out", run)
    again = ("--max-restarts", "1", "--nproc-per-node", "2")
    code, _, said, err = ended(2, *again, PROGRAM, "command_line", run, 1, signal.SIGKILL.value, *words, cwd=tmp_path)
    assert code != 0
    assert any("holds an unfinished run" in line for line in said), err
    strike = ("command_line", run, 1, signal.SIGKILL.value)
    code, _, _, err = ended(2, *again, PROGRAM, *strike, "resume", run, "--quiet", cwd=tmp_path)
    assert (code, (run / "weights.safetensors").is_file()) == (0, True), err
    assert_close(run, undisturbed / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_ctrl_c_of_one_process_stops_all_and_the_repeat_has_the_same_bits(rank, undisturbed, ended, tmp_path):
    run = tmp_path / "run"
    words = ("fit", undisturbed / "bits.npy", *MACHINE, "--out", run)
    code, _, said, err = ended(2, PROGRAM, "command_line", run, rank, signal.SIGINT.value, *words, cwd=tmp_path)
    assert code != 0
    assert_one(said, "stopped in epoch", err)
    assert "exitcode  : 130" in err
    code, _, said, err = ended(2, "-m", "rarefire", "resume", run, "--quiet", cwd=tmp_path)
    assert (code, said) == (0, []), err
    for name in SAME:
        assert (run / name).read_bytes() == (undisturbed / "runs" / "bits-BernoulliRBM" / name).read_bytes(), name


@pytest.mark.slow
# A hundred iterations of L-BFGS, which divide by differences of gradients, make more of the order of summation.
@pytest.mark.parametrize(("solver", "tolerance"), [("adam", 1e-10), ("lbfgs", 1e-4)], ids=["adam", "lbfgs"])
def test_runs_of_autoencoders_go_on_on_another_number(solver, tolerance, ended, finished, tmp_path):
    np.save(tmp_path / "rows.npy", np.tile(program_ranks.ROWS, (20, 1)))
    words = ["fit", "rows.npy", "--quiet"]
    for argument in ("n_components=8", f"solver={solver}", "max_iter=100", "output=Sigmoid"):
        words += ["--set", argument]
    assert finished(*words, "--out", "alone", cwd=tmp_path).code == 0
    run = tmp_path / "run"
    strike = ("command_line", run, 0, signal.SIGINT.value)
    code, _, said, err = ended(2, PROGRAM, *strike, *words, "--out", run, cwd=tmp_path)
    assert code != 0
    assert_one(said, "stopped in", err)
    code, _, said, err = ended(3, "-m", "rarefire", "resume", run, "--quiet", cwd=tmp_path)
    assert (code, said) == (0, []), err
    one, other = rf.load(tmp_path / "alone"), rf.load(run)
    assert one.n_iter_ == other.n_iter_ == 100
    for name in one.parameter_names:
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=0, atol=tolerance)


@pytest.mark.slow
def test_ctrl_c_of_torchrun_leaves_a_checkpoint(undisturbed, torchrun, tmp_path):
    run = tmp_path / "run"
    endless = [word.replace("n_iter=60", "n_iter=100000") for word in MACHINE]
    one = torchrun(2, "-m", "rarefire", "fit", undisturbed / "bits.npy", *endless, "--out", run, cwd=tmp_path)
    while not (run / "history.jsonl").is_file():
        assert one.poll() is None, one.communicate()[1]
        time.sleep(0.05)
    one.send_signal(signal.SIGINT)
    err = one.communicate(timeout=LIMIT)[1]
    assert err.count("rarefire: stopped in epoch") == 1, err
    assert (run / "checkpoint" / "state.safetensors").is_file()


@pytest.mark.slow
def test_a_recipe_trains_on_several_processes(ended, finished, tmp_path):
    words = ("run", "lines", "--set", "n_iter=2", "--set", "repeats=1", "--quiet")
    code, _, said, err = ended(2, "-m", "rarefire", *words, "--out", "two", cwd=tmp_path)
    assert (code, said) == (0, []), err
    assert finished(*words, "--out", "one", cwd=tmp_path).code == 0
    one, two = rf.load(tmp_path / "one"), rf.load(tmp_path / "two")
    np.testing.assert_allclose(two.components_, one.components_, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_recipe_that_fits_while_it_measures_does_so_alone(ended, tmp_path):
    settings = ("repeats=1", "n_iter=8", "tuning_epochs=3", "n_samples=200", "n_components=6", "sizes=[4]")
    words = ["run", "layers", "--quiet", "--out", "run"]
    for setting in settings:
        words += ["--set", setting]
    code, out, said, err = ended(2, "-m", "rarefire", *words, cwd=tmp_path)
    assert (code, said) == (0, []), err
    assert out.count("report.html") == 1
    names = {entry["name"] for entry in json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]}
    assert any("identity_trained" in name for name in names)


@pytest.mark.slow
def test_what_is_wrong_is_said_once(ended, undisturbed, tmp_path):
    for words, sentence in (
        (("fit", "digits", "--set", "n_components=0"), "n_components=0"),
        (("fit", "digits", "--out", undisturbed / "alone"), "finished run"),
        (("resume", tmp_path), "is no run"),
    ):
        code, out, said, err = ended(2, "-m", "rarefire", *words, cwd=tmp_path)
        assert (code, out) == (1, "")
        assert_one(said, sentence, err)
        assert "exitcode  : 2" in err
    assert list(tmp_path.iterdir()) == []
    code, _, said, err = ended(2, "-m", "rarefire", "fit", "digits", "--bogus", cwd=tmp_path)
    assert (code, err.count("No such option")) == (1, 1)


@pytest.mark.slow
def test_an_error_of_one_process_is_said_by_it(ended, tmp_path):
    np.save(tmp_path / "bits.npy", program_ranks.BITS)
    (tmp_path / "elsewhere").mkdir()
    words = ("astray", tmp_path / "elsewhere", "fit", "bits.npy", "--quiet")
    code, _, said, err = ended(2, PROGRAM, *words, cwd=tmp_path)
    assert code == 1
    assert_one(said, "bits.npy", err)


@pytest.mark.slow
def test_rank_0_does_the_rest_alone(ended, undisturbed):
    for words in (("show", "alone"), ("encode", "alone", "bits.npy", "-o", "codes.npy")):
        code, out, said, err = ended(2, "-m", "rarefire", *words, cwd=undisturbed)
        assert (code, said) == (0, []), err
        assert out.count("alone: complete") + out.count("codes.npy: 83 rows") == 1
