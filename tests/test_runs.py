"""Runs that stop and go on: the same bits as runs that were left alone."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone

import rarefire as rf
from rarefire import activations, losses, penalties, recipes, runs, schedules
from rarefire.artifact import RunDirectory
from rarefire.checkpoint import TrainState
from rarefire.data.open import open_source
from rarefire.errors import InputError, Interrupted, RunError
from rarefire.preprocess import ClipRescale, PCAWhitening, RemoveMean, Standardise, ZCAWhitening
from rarefire.resuming import go_on

SAME = ("weights.safetensors", "history.jsonl", "metrics.json", "features.safetensors", "report.html")

pytestmark = pytest.mark.usefixtures("undrawn")

#: One setting of everything that a checkpoint must hold. 45 training rows make 6 batches, the last one short.
CONFIGURATIONS = {
    "PCD": {},
    "PCD with other chains": {"n_chains": 3, "gibbs_steps": 2},
    "CD": {"persistent": False, "chain_visible": "mean", "positive_hidden": "sample"},
    "momentum": {"momentum": 0.7},
    "schedules": {
        "learning_rate": schedules.Linear(0.2, 0.01),
        "momentum": schedules.Switch(0.5, 0.9, when=0.4),
    },
    "averaging": {"averaging": 0.8, "persistent": False},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 1, "tol": 0.02, "n_iter": 9},
    "best of averages": {"early_stopping": True, "n_iter_no_change": 2, "averaging": 0.5, "learning_rate": 3.0},
    "weight decay": {"weight_decay": penalties.L2(0.01)},
    "penalty": {"penalty": penalties.MeanActivity(target=0.1, strength=2.0)},
    "full batch": {"batch_size": None, "momentum": 0.5},
}


#: The same for autoencoders, with each solver.
AUTOENCODERS = {
    "adam": {},
    "adam with everything": {
        "dropout": 0.3,
        "input_dropout": 0.2,
        "penalty": penalties.KLDivergence(target=0.1, averaging=0.9),
        "learning_rate": schedules.Linear(0.01, 0.001),
        "averaging": 0.8,
        "tied": True,
    },
    "sgd": {
        "solver": "sgd",
        "learning_rate": schedules.Linear(0.05, 0.01),
        "momentum": schedules.Switch(0.5, 0.9, when=0.4),
        "activation": activations.ReLU(),
    },
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs, tied": {"solver": "lbfgs", "activation": activations.Tanh(), "tied": True},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 1, "tol": 1.5, "max_iter": 9},
    "early stopping of lbfgs": {
        "solver": "lbfgs", "early_stopping": True, "n_iter_no_change": 2, "tol": 1e-3, "max_iter": 30,
    },
    "best of averages": {
        "early_stopping": True, "n_iter_no_change": 2, "averaging": 0.5, "solver": "sgd", "learning_rate": 0.5,
    },
    "words": {
        "loss": losses.BernoulliCrossEntropy(), "output": activations.Sigmoid(), "penalty": penalties.TargetMean(),
        "activation": activations.ThresholdedReLU(threshold=0.1), "sparse_output": True,
    },
}  # fmt: skip


@pytest.fixture
def rows(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "rows.npy", (rng.random((50, 1)) > rng.random(12)).astype(np.float32))
    return tmp_path / "rows.npy"


def machine(**arguments):
    defaults = {"n_components": 6, "n_iter": 4, "batch_size": 8, "device": "cpu", "validation_fraction": 0.1}
    return rf.BernoulliRBM(**{**defaults, **arguments})


def autoencoder(**arguments):
    defaults = {"n_components": 6, "max_iter": 4, "batch_size": 8, "device": "cpu", "validation_fraction": 0.1}
    if arguments.get("solver") == "lbfgs":
        defaults["batch_size"] = "auto"
    return rf.SparseAutoencoder(**{**defaults, **arguments})


#: Both families by name, for what must hold whatever is trained.
FAMILIES = {"machine": machine, "autoencoder": autoencoder}
both = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def epochs(family, number):
    """The argument that sets how often a family passes over the rows."""
    return {"n_iter" if family is machine else "max_iter": number}


ALL = [(machine, name) for name in CONFIGURATIONS] + [(autoencoder, name) for name in AUTOENCODERS]
every_configuration = pytest.mark.parametrize(
    ("family", "name"), ALL, ids=[f"{family.__name__} {name}" for family, name in ALL]
)


def configured(family, name, **arguments):
    chosen = CONFIGURATIONS if family is machine else AUTOENCODERS
    return family(**{**chosen[name], **arguments})


def begin(path, source, estimator, steps=(), seed=0):
    where = {"where": str(source), "patch": None, "column": None, "seed": seed}
    directory = RunDirectory(path)
    directory.create(runs.fit_spec(where, open_source(**where), list(steps), estimator, seed))
    return directory


def stop_at(*batches):
    """Stops at these batches, counted over the whole life of the run."""
    count = 0

    def ask():
        nonlocal count
        count += 1
        return count in batches

    return ask


def bits(directory):
    return {name: (directory.path / name).read_bytes() for name in SAME}


def finish(directory, watch=None):
    go_on(directory, watch or runs.Watch())


def go_on_to_the_end(directory, should_stop, checkpoint_every=1e9):
    """Interrupt and go on until the run is done; how often it was interrupted."""
    stops = 0
    while True:
        try:
            finish(directory, runs.Watch(should_stop=should_stop, checkpoint_every=checkpoint_every))
        except Interrupted:
            stops += 1
            assert next(directory.path.rglob("checkpoint/state.safetensors"))
            assert not directory.weights.exists()
            assert not directory.complete
            continue
        assert directory.complete
        assert not directory.checkpoint.parent.exists()
        return stops


@every_configuration
def test_stopped_runs_end_with_the_same_bits(tmp_path, rows, family, name):
    estimator = configured(family, name)
    alone = begin(tmp_path / "alone", rows, estimator)
    finish(alone)
    # The first batch, within an epoch, the last of an epoch, and just after it; an epoch has one batch or six.
    stops = (1, 2, 3) if estimator.batch_size in (None, "auto") else (1, 5, 6, 7, 16)
    stopped = begin(tmp_path / "stopped", rows, estimator)
    assert go_on_to_the_end(stopped, stop_at(*stops)) >= 3
    assert bits(stopped) == bits(alone)


@pytest.mark.parametrize(
    ("family", "name"),
    [(machine, "early stopping"), (autoencoder, "early stopping"), (autoencoder, "early stopping of lbfgs")],
)
def test_early_stopping_did_stop_early(tmp_path, rows, family, name):
    estimator = configured(family, name)
    directory = begin(tmp_path / "run", rows, estimator)
    finish(directory)
    assert 1 < len(directory.history()) < estimator.n_epochs


def test_a_run_that_lbfgs_ends_early_goes_on_the_same(tmp_path):
    """Its one step ends where every gradient is zero; stopped just there, it must not be begun again."""
    np.save(tmp_path / "zeros.npy", np.zeros((20, 3)))
    nothing = {"penalty": penalties.NoPenalty(), "weight_decay": penalties.NoPenalty()}
    estimator = autoencoder(solver="lbfgs", activation=activations.ReLU(), max_iter=50, **nothing)
    alone, stopped = (begin(tmp_path / name, tmp_path / "zeros.npy", estimator) for name in ("alone", "stopped"))
    finish(alone)
    assert go_on_to_the_end(stopped, stop_at(1, 2, 3, 4)) == 4
    assert len(alone.history()) == 1
    assert bits(stopped) == bits(alone)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_rows_that_are_sparse_go_on_too(tmp_path, solver):
    sp.save_npz(tmp_path / "x.npz", sp.random_array((50, 12), density=0.3, rng=0, format="csr", dtype=np.float32))
    alone, stopped = (
        begin(tmp_path / name, tmp_path / "x.npz", autoencoder(solver=solver)) for name in ("alone", "stopped")
    )
    finish(alone)
    assert go_on_to_the_end(stopped, stop_at(1, 2, 3)) == 3
    assert bits(stopped) == bits(alone)


@pytest.mark.parametrize(
    ("family", "steps"),
    [
        (machine, [ClipRescale(low=0.0, high=1.0)]),
        (machine, [Standardise(), ClipRescale(2.0, 0.0, 1.0)]),
        (autoencoder, [RemoveMean(), PCAWhitening(n_components=5)]),
        (autoencoder, [ZCAWhitening(), ClipRescale()]),
    ],
)
def test_preparation_goes_on_too(tmp_path, family, steps):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(5, 2, size=(50, 12)))
    alone = begin(tmp_path / "alone", tmp_path / "x.npy", family(), steps)
    finish(alone)
    stopped = begin(tmp_path / "stopped", tmp_path / "x.npy", family(), steps)
    assert go_on_to_the_end(stopped, stop_at(4, 9)) == 2
    assert bits(stopped) == bits(alone)
    raw = np.load(tmp_path / "x.npy")
    np.testing.assert_array_equal(rf.load(stopped.path).transform(raw), rf.load(alone.path).transform(raw))


@both
def test_stopping_after_every_batch(tmp_path, rows, family):
    alone = begin(tmp_path / "alone", rows, family(**epochs(family, 2)))
    finish(alone)
    stopped = begin(tmp_path / "stopped", rows, family(**epochs(family, 2)))
    # Twelve batches; what follows training would stop as well, and begin again for ever.
    assert go_on_to_the_end(stopped, stop_at(*range(1, 13))) == 12
    assert bits(stopped) == bits(alone)


class Killed(BaseException):
    """Stands for a signal that nothing catches."""


class Dying:
    """A method that is killed before or after its work, at one count of such moments over all methods."""

    left = 0

    def __init__(self, method):
        self.method = method

    def __get__(self, directory, cls):
        def call(*arguments):
            self.moment()
            self.method(directory, *arguments)
            self.moment()

        return call

    @classmethod
    def moment(cls):
        cls.left -= 1
        if cls.left == 0:
            raise Killed


@pytest.mark.parametrize(
    "estimator",
    [
        machine(n_iter=3, batch_size=23, early_stopping=True, averaging=0.5, momentum=0.5),
        autoencoder(solver="lbfgs", max_iter=4, early_stopping=True),
        autoencoder(
            max_iter=3, batch_size=23, dropout=0.4, penalty=penalties.KLDivergence(averaging=0.9), averaging=0.5
        ),
    ],
    ids=["machine", "lbfgs", "adam"],
)
def test_a_kill_at_any_write(tmp_path, rows, monkeypatch, estimator):
    """Killed before and after each file that is replaced and each line that is added."""
    monkeypatch.setattr(runs, "write_page", lambda directory, *fitted: directory.write("report.html", b"page"))
    alone = begin(tmp_path / "alone", rows, estimator)
    finish(alone)
    for method in ("write", "append_history"):
        monkeypatch.setattr(RunDirectory, method, Dying(getattr(RunDirectory, method)))
    for moments in range(1, 200):
        Dying.left = 0
        killed = begin(tmp_path / f"killed{moments}", rows, estimator)
        Dying.left = moments
        try:
            finish(killed, runs.Watch(checkpoint_every=0))
        except Killed:
            finish(killed)
            assert bits(killed) == bits(alone), moments
        else:
            break
    assert moments > 25


def test_a_kill_before_the_first_checkpoint(tmp_path, rows):
    alone = begin(tmp_path / "alone", rows, machine())
    finish(alone)
    killed = begin(tmp_path / "killed", rows, machine())
    killed.append_history({"epoch": 1, "cost": 3.0}, 0.1)
    finish(killed)
    assert bits(killed) == bits(alone)


def test_a_run_that_is_taken_away_while_it_goes_on(tmp_path, rows):
    """Nothing is written into its place, where it would look like part of a run."""
    run = begin(tmp_path / "run", rows, machine())
    polls = []

    def taken_away():
        polls.append(None)
        if len(polls) == 3:
            shutil.rmtree(run.path)
        return False

    with pytest.raises(RunError, match=r"run has no spec\.json any more, so nothing of the run can be kept; begin it"):
        finish(run, runs.Watch(should_stop=taken_away, checkpoint_every=0))
    assert not run.path.exists()


def test_a_torn_last_line(tmp_path, rows):
    alone = begin(tmp_path / "alone", rows, machine())
    finish(alone)
    for tail in (b"{", b'{"epoch": 2, "cost": 0.3}\n{"epo', b'{"epoch": 2, "cost": 0.3}'):
        torn = begin(tmp_path / f"torn{len(tail)}", rows, machine())
        with pytest.raises(Interrupted, match=r"stopped in (epoch|iteration) 2 of 4"):
            finish(torn, runs.Watch(should_stop=stop_at(8)))
        for name in ("history.jsonl", "timing.jsonl"):
            with open(torn.path / name, "ab") as file:
                file.write(tail)
        assert len(torn.history()) == 1 + tail.count(b"\n")
        finish(torn)
        assert bits(torn) == bits(alone)
        assert len((torn.path / "timing.jsonl").read_text().splitlines()) == 4


def test_left_over_files_of_a_killed_process_go(tmp_path, rows):
    directory = begin(tmp_path / "run", rows, machine())
    (directory.path / "figures").mkdir()
    left = [directory.path / ".spec.json.99.part", directory.path / "figures/.cost.png.99.part"]
    for path in left:
        path.write_text("half")
    with directory.locked():
        finish(directory)
    assert not any(path.exists() for path in left)
    # A kill between the last two acts of a run, of which the first makes it whole.
    directory.checkpoint.parent.mkdir()
    directory.checkpoint.write_text("the last state")
    with directory.locked():
        finish(directory)
    assert not directory.checkpoint.parent.exists()
    # One that was killed while it wrote its very first file does not stand in the way either.
    (tmp_path / "new").mkdir()
    (tmp_path / "new/.spec.json.99.part").write_text("half")
    begin(tmp_path / "new", rows, machine())


@both
def test_same_seed_same_bytes(tmp_path, rows, monkeypatch, family):
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    for path, seed in ((first, 0), (second, 0), (other, 1)):
        finish(begin(path, rows, family(), seed=seed))
        monkeypatch.setattr("time.time", lambda: 0.0)
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert bits(RunDirectory(first)) == bits(RunDirectory(second))
    assert (first / "spec.json").read_bytes() == (second / "spec.json").read_bytes()
    assert (first / "weights.safetensors").read_bytes() != (other / "weights.safetensors").read_bytes()


# Recipes ----------------------------------------------------------------------------------------------------------


def lines(path):
    """The specification that ``rarefire run`` writes for two small machines."""
    settings = [("repeats", 2), ("n_samples", 40), ("n_components", 5), ("n_iter", 4), ("batch_size", 12)]
    directory = RunDirectory(path)
    spec = recipes.recipe_spec("lines", "faithful", None, settings, 0, "cpu")
    directory.create(spec)
    return directory


@pytest.mark.slow
def test_a_recipe_goes_on_in_either_arm(tmp_path):
    alone = lines(tmp_path / "alone")
    finish(alone)
    stopped = lines(tmp_path / "stopped")
    assert go_on_to_the_end(stopped, stop_at(1, 7, 13, 20)) == 4
    assert bits(stopped) == bits(alone)
    assert {path.name for path in (stopped.path / "arms").iterdir()} == {"seed-1"}
    for name in ("weights.safetensors", "history.jsonl"):
        assert (stopped.arm("seed-1").path / name).read_bytes() == (alone.arm("seed-1").path / name).read_bytes()
    with pytest.raises(InputError, match=f"part of the run {stopped}"):
        finish(stopped.arm("seed-1"))


@pytest.mark.slow
def test_a_recipe_that_was_killed_between_its_arms(tmp_path):
    alone = lines(tmp_path / "alone")
    finish(alone)
    killed = lines(tmp_path / "killed")
    shutil.copytree(alone.path / "arms", killed.path / "arms")
    done = killed.arm("seed-1").weights.stat()
    finish(killed)
    assert killed.arm("seed-1").weights.stat().st_mtime_ns == done.st_mtime_ns  # it was not trained again
    assert bits(killed) == bits(alone)


#: Recipes of autoencoders, small.
SMALL = {
    "kl": [("max_iter", 3), ("n_components", 4)],
    "structure": [("n_samples", 200), ("n_bottleneck", 5), ("n_sparse", 8), ("max_iter", 3)],
    "patches": [("repeats", 2), ("n_patches", 300), ("max_iter", 3)],
    "strokes": [("source", "digits"), ("n_samples", 60), ("n_components", 4), ("max_iter", 3)],
}


def small(path, name):
    directory = RunDirectory(path)
    directory.create(recipes.recipe_spec(name, "faithful", None, SMALL[name], 0, "cpu"))
    return directory


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_of_autoencoders_goes_on(tmp_path, monkeypatch, name):
    """Stopped within arms and between two, which have their own preparation, it measures the same."""
    monkeypatch.setattr(runs, "write_page", lambda directory, *fitted: directory.write("report.html", b"page"))
    alone, stopped = small(tmp_path / "alone", name), small(tmp_path / "stopped", name)
    finish(alone)
    arms = {path.name for path in (alone.path / "arms").iterdir()} if (alone.path / "arms").exists() else set()
    # Three iterations an arm: in the first, at its last, in the second where there is one, and within measuring.
    stops = (1, 3, 5, 3 * (len(arms) + 1)) if arms else (1, 2, 3)
    assert go_on_to_the_end(stopped, stop_at(*stops)) == len(stops)
    assert bits(stopped) == bits(alone)
    for arm in arms:
        for file in ("weights.safetensors", "history.jsonl"):
            assert (stopped.arm(arm).path / file).read_bytes() == (alone.arm(arm).path / file).read_bytes()
    assert alone.figures()
    assert stopped.figures() == alone.figures()


@pytest.mark.parametrize("name", ["structure", "patches"])
def test_a_recipe_of_autoencoders_that_was_killed_between_its_arms(tmp_path, monkeypatch, name):
    """With one arm done and the others not begun; where arms prepare their rows, what they learnt is loaded."""
    monkeypatch.setattr(runs, "write_page", lambda directory, *fitted: directory.write("report.html", b"page"))
    alone, killed = small(tmp_path / "alone", name), small(tmp_path / "killed", name)
    finish(alone)
    first = min((alone.path / "arms").iterdir(), key=lambda path: (path / "weights.safetensors").stat().st_mtime_ns)
    shutil.copytree(first, killed.arm(first.name).path)
    done = killed.arm(first.name).weights.stat()
    finish(killed)
    assert killed.arm(first.name).weights.stat().st_mtime_ns == done.st_mtime_ns  # it was not trained again
    assert bits(killed) == bits(alone)


# What must not go on ----------------------------------------------------------------------------------------------


@pytest.fixture(params=FAMILIES)
def halfway(tmp_path, rows, request):
    directory = begin(tmp_path / "run", rows, FAMILIES[request.param]())
    with pytest.raises(Interrupted):
        finish(directory, runs.Watch(should_stop=stop_at(8)))
    return directory


def test_changed_data_is_refused(halfway, rows, contents):
    values = np.load(rows)
    values[3, 3] = 1 - values[3, 3]
    np.save(rows, values)
    before = contents(halfway.path)
    with pytest.raises(InputError, match=r"rows\.npy has changed since the run .* began"):
        finish(halfway)
    assert contents(halfway.path) == before


def test_lost_data_is_refused(halfway, rows, cli):
    rows.unlink()
    outcome = cli("resume", halfway)
    assert outcome.code == 2
    assert "is no file or folder" in outcome.err
    assert not (halfway.path / ".lock").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.write_bytes(b"x" * 100), "is damaged"),
        (lambda path: path.write_bytes(other_state()), "does not belong"),
    ],
)
def test_a_damaged_checkpoint_is_refused(halfway, cli, damage, words):
    damage(halfway.checkpoint)
    outcome = cli("resume", halfway, "--quiet")
    assert outcome.code == 1
    assert outcome.err.startswith("rarefire: the checkpoint")
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    assert "--overwrite" in outcome.err
    assert not halfway.weights.exists()


def other_state():
    return TrainState({"weight": torch.zeros(2, 2)}, {}).to_bytes()


def test_a_history_that_lost_lines_is_refused(halfway, cli):
    (halfway.path / "history.jsonl").write_bytes(b"")
    outcome = cli("resume", halfway, "--quiet")
    assert outcome.code == 1
    assert "holds 0 of the 1 epochs" in outcome.err


def test_an_unfinished_run_is_not_loaded(halfway, cli):
    with pytest.raises(InputError, match="unfinished run; rarefire resume goes on with it"):
        rf.load(halfway.path)
    assert "unfinished" in cli("show", halfway).out


def test_a_replaced_run_does_not_go_on_from_the_old_checkpoint(halfway, rows, tmp_path):
    spec = halfway.spec()
    alone = begin(tmp_path / "alone", rows, autoencoder(solver="lbfgs"), seed=5)
    finish(alone)
    with pytest.raises(InputError, match="unfinished run"):
        halfway.create(spec)
    halfway.create(alone.spec(), overwrite=True)
    assert not halfway.checkpoint.exists()
    finish(halfway)
    assert bits(halfway) == bits(alone)


# Two at once ------------------------------------------------------------------------------------------------------


def test_one_directory_one_worker(tmp_path, rows, cli):
    directory = begin(tmp_path / "run", rows, machine())
    entered, leave = threading.Event(), threading.Event()

    def work():
        with directory.locked():
            entered.set()
            leave.wait(60)

    other = threading.Thread(target=work)
    other.start()
    entered.wait(60)
    # flock belongs to the open file, so a second opening in this process stands for a second process.
    outcome = cli("resume", directory)
    assert outcome.code == 1
    assert f"another process is working on {directory}" in outcome.err
    with pytest.raises(RunError, match="another process"):
        rf.resume(directory.path)
    leave.set()
    other.join()
    assert cli("resume", directory, "--quiet").code == 0
    assert not (directory.path / ".lock").exists()


def test_a_link_or_a_pipe_in_place_of_the_lock_is_no_lock(tmp_path):
    """It would be locked, or emptied, elsewhere; or waited for."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(victim)
    with pytest.raises(RunError, match="cannot be written"), RunDirectory(tmp_path / "run").locked():
        pass
    assert victim.read_text() == "mine"
    (tmp_path / "run/.lock").unlink()
    os.mkfifo(tmp_path / "run/.lock")
    with RunDirectory(tmp_path / "run").locked():
        pass


def test_a_run_that_cannot_be_replaced_stays_whole(tmp_path, rows, monkeypatch, contents):
    directory = begin(tmp_path / "run", rows, machine())
    finish(directory)
    before = contents(directory.path)
    spec = directory.spec()
    rename, moved = os.rename, []

    def refuse_the_third(source, target):
        if len(moved) == 2:
            moved.append(target)
            raise PermissionError(1, "Operation not permitted")
        moved.append(target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_the_third)
    with pytest.raises(RunError, match="cannot be written"):
        directory.create(spec, overwrite=True)
    assert len(moved) > 3
    assert contents(directory.path) == before
    monkeypatch.undo()
    directory.create(spec, overwrite=True)
    assert set(contents(directory.path)) == {"spec.json"}


def test_ctrl_c_while_python_goes_on_with_a_run_leaves_a_checkpoint(tmp_path, rows):
    X = np.load(rows)
    estimator = rf.BernoulliRBM(4, n_iter=30, random_state=0)
    alone = clone(estimator).set_params(checkpoint_dir=str(tmp_path / "alone")).fit(X)
    path = tmp_path / "run"
    RunDirectory(path).create({**estimator.spec(0), "data": estimator.source_of(X).spec(), "warm": False})
    fit_source, seen = rf.BernoulliRBM.fit_source, []

    def interrupted(self, *arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        seen.append(1)
        return fit_source(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rf.BernoulliRBM, "fit_source", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"stopped in epoch 1 of 30; go on with rarefire\.resume"):
            rf.resume(path, X)
    assert seen
    assert RunDirectory(path).checkpoint.is_file()
    np.testing.assert_array_equal(rf.resume(path, X).components_, alone.components_)


def test_a_lock_on_a_file_that_was_taken_away_does_not_count(tmp_path, monkeypatch):
    """A process that ends removes the file that another has just opened; that one must try again."""
    directory, real = RunDirectory(tmp_path / "run"), fcntl.flock
    lost = iter([True])

    def flock(file, operation):
        if next(lost, False):
            (tmp_path / "run/.lock").unlink()
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with directory.locked():
        assert (tmp_path / "run/.lock").exists()
        with pytest.raises(RunError, match="another process"), directory.locked():
            pass
    assert not (tmp_path / "run").exists()


def test_a_foreign_directory_is_left_as_it_was(tmp_path, contents):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    X = np.eye(6)
    for act in (
        lambda path: machine(validation_fraction=None, checkpoint_dir=str(path)).fit(X),
        lambda path: machine(validation_fraction=None).fit(X).save(path),
    ):
        with pytest.raises(InputError, match="belong to no run"):
            act(tmp_path / "mine")
    with pytest.raises(InputError, match="n_components=0"):
        machine(n_components=0, checkpoint_dir=str(tmp_path / "new")).fit(X)
    assert contents(tmp_path) == {"mine": None, "mine/thesis.txt": b"years of work"}


# From Python ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((machine, name) for name in ("PCD", "averaging", "early stopping")),
        *((autoencoder, name) for name in ("adam with everything", "sgd", "lbfgs", "lbfgs, tied")),
        (autoencoder, "early stopping of lbfgs"),
    ],
)
def test_resume_of_a_fit_on_an_array(tmp_path, rows, monkeypatch, family, name, sparse):
    X = np.load(rows)
    if sparse:
        X = sp.csr_array(X)
    given = {"random_state": 3}
    alone = configured(family, name, checkpoint_dir=str(tmp_path / "alone"), **given).fit(X)
    estimator = configured(family, name, checkpoint_dir=str(tmp_path / "stopped"), **given)
    stop_a_fit(monkeypatch, estimator, X, at=2 if estimator.batch_size == "auto" else 8)
    with pytest.raises(InputError, match="was begun from Python on an array"):
        rf.resume(tmp_path / "stopped")
    with pytest.raises(InputError, match="fingerprint"):
        rf.resume(tmp_path / "stopped", X[::-1])
    with pytest.raises(InputError, match=r"rarefire\.resume"):
        rf.load(tmp_path / "stopped")
    resumed = rf.resume(tmp_path / "stopped", X)
    for file in ("weights.safetensors", "history.jsonl"):
        assert (tmp_path / "stopped" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
    for attribute in alone.parameter_names:
        np.testing.assert_array_equal(getattr(resumed, attribute), getattr(alone, attribute))
    assert resumed.history_ == alone.history_
    again = rf.resume(tmp_path / "stopped", X)
    np.testing.assert_array_equal(again.components_, alone.components_)


def stop_a_fit(monkeypatch, estimator, X, at):
    """End a fit as a kill would, after its checkpoint at a batch."""
    fit_source = type(estimator).fit_source
    with monkeypatch.context() as patch:
        patch.setattr(
            type(estimator),
            "fit_source",
            lambda self, *a, **k: fit_source(self, *a, **{**k, "should_stop": stop_at(at)}),
        )
        with pytest.raises(KeyboardInterrupt, match="go on with rarefire"):
            estimator.fit(X)


@pytest.mark.parametrize(
    "estimator",
    [
        machine(n_iter=2),
        autoencoder(max_iter=2, penalty=penalties.KLDivergence(averaging=0.9)),
        autoencoder(max_iter=2, solver="lbfgs"),
        autoencoder(max_iter=2, solver="sgd", momentum=0.5, tied=True),
    ],
    ids=["machine", "adam", "lbfgs", "sgd"],
)
def test_a_warm_start_is_not_forgotten(tmp_path, rows, monkeypatch, estimator):
    """Its weights are nowhere but in the estimator, so a checkpoint is written before the first batch."""
    X = np.load(rows)

    def warm(path):
        fitted = clone(estimator).set_params(warm_start=True, random_state=0).fit(X)
        return fitted.set_params(checkpoint_dir=str(path))

    warm(tmp_path / "alone").fit(X)
    killed = warm(tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr("rarefire.trainer.Trainer.update", dies)
        with pytest.raises(Killed):
            killed.fit(X)
    rf.resume(tmp_path / "killed", X)
    name = "weights.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def dies(*_):
    raise Killed


@pytest.mark.parametrize(
    "estimator",
    [
        autoencoder(penalty=penalties.KLDivergence(averaging=0.9), learning_rate=0.01, dropout=0.3),
        autoencoder(solver="sgd", momentum=0.9, tied=True, sparse_output=True),
    ],
    ids=["adam", "sgd"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_go_on_after_loading_bit_for_bit(tmp_path, rows, estimator, dtype):
    """What the solver, the dropped units and the running averages remember is saved with the model."""
    X = np.load(rows).astype(dtype)
    # Fits of one update know no parts of the data, so what is saved is what a partial fit goes on from.
    alone = clone(estimator).set_params(random_state=0, validation_fraction=None).fit(X)
    alone.save(tmp_path / "run")
    loaded = rf.load(tmp_path / "run")
    for _ in range(3):
        alone.partial_fit(X[:20])
        loaded.partial_fit(X[:20])
    for attribute in (*alone.parameter_names, *(name for name in ("running_mean_",) if hasattr(alone, name))):
        np.testing.assert_array_equal(getattr(loaded, attribute), getattr(alone, attribute))
        assert getattr(loaded, attribute).dtype == dtype
    loaded.save(tmp_path / "again")
    alone.save(tmp_path / "alone")
    for name in ("weights.safetensors", "history.jsonl", "spec.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


@both
def test_names_of_columns_survive(tmp_path, rows, monkeypatch, family):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.load(rows), columns=[f"pixel{i}" for i in range(12)])
    family(checkpoint_dir=str(tmp_path / "alone"), random_state=0).fit(frame)
    stop_a_fit(monkeypatch, family(checkpoint_dir=str(tmp_path / "stopped"), random_state=0), frame, at=3)
    assert list(rf.resume(tmp_path / "stopped", frame).feature_names_in_) == list(frame.columns)
    name = "weights.safetensors"
    assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


@pytest.mark.parametrize(
    "estimator",
    [
        machine(learning_rate=schedules.Switch(0.1, 9e5), momentum=0.9, weight_decay=penalties.L2(1.0)),
        autoencoder(
            solver="sgd", learning_rate=schedules.Switch(0.01, 9e5), momentum=0.9, activation=activations.ReLU()
        ),
    ],
    ids=FAMILIES,
)
def test_divergence_keeps_the_last_good_checkpoint(tmp_path, rows, estimator):
    directory = begin(tmp_path / "run", rows, estimator)
    with pytest.raises(RunError, match=r"diverged in epoch \d.*learning_rate"):
        finish(directory, runs.Watch(checkpoint_every=0))
    state = TrainState.read(directory.checkpoint, torch.device("cpu"))
    assert all(torch.isfinite(value).all() for value in state.parameters.values())
    assert [json.loads(line)["epoch"] for line in Path(directory.path, "history.jsonl").read_text().splitlines()]
    assert not directory.complete


DIVERGING = {
    "sgd": rf.SparseAutoencoder(5, solver="sgd", learning_rate=1000.0, activation=activations.ReLU()),
    "adam": rf.SparseAutoencoder(5, solver="adam", learning_rate=9e5, activation=activations.LeakyReLU(), max_iter=300),
    "binary": rf.BernoulliRBM(5, learning_rate=3.0, weight_decay=penalties.L2(1e3), n_iter=200),
    "Gaussian": rf.GaussianRBM(5, learning_rate=50.0, n_iter=50),
    "deep": rf.DeepBeliefNetwork(
        [rf.GaussianRBM(5, n_iter=1), rf.BernoulliRBM(4, n_iter=1)], fine_tune="mean", learning_rate=1e5, solver="sgd"
    ),
}


@pytest.mark.parametrize("name", DIVERGING)
@pytest.mark.filterwarnings("ignore:values of the data")
def test_divergence_names_the_rate_the_epoch_and_what_helps(name):
    """Also before a first fit is there, which leaves nothing that looks fitted."""
    X = 10 * np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    estimator = clone(DIVERGING[name]).set_params(random_state=0)
    with np.errstate(all="ignore"), pytest.raises(RunError) as error:
        estimator.fit(X)
    message = str(error.value)
    rate = DIVERGING[name].learning_rate
    assert re.search(r"diverged in epoch \d+: .* is no longer finite; .*learning_rate", message), message
    assert any(text in message for text in (f"{rate:g} ", f"{rate!r}")), message
    assert re.search(r"lower learning_rate|a weaker penalty", message), message
    assert not hasattr(estimator, "components_")


def test_a_squared_gradient_that_overflows_is_noticed():
    """Adam divides by its root, so that weights stay as they are for ever, and finite."""
    X = 1e12 * np.random.default_rng(0).random((60, 8)).astype(np.float32)
    estimator = rf.SparseAutoencoder(5, solver="adam", activation=activations.ReLU(), max_iter=3)
    with pytest.raises(RunError, match=r"the solver's memory of gradients is no longer finite; .*rescale the data"):
        estimator.fit(X)
