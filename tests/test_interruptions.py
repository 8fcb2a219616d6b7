"""Real processes that are killed at random moments, interrupted, or run out of disk.

``RAREFIRE_KILLS`` sets how often each configuration is killed.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import rarefire as rf
from rarefire.artifact import RunDirectory

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RAREFIRE_KILLS", "3"))

SAME = ("weights.safetensors", "history.jsonl", "metrics.json", "features.safetensors", "report.html")

MACHINE = ["--estimator", "BernoulliRBM", "n_components=100", "n_iter=60"]
CONFIGURATIONS = {
    "PCD": MACHINE,
    "CD with everything": [
        *MACHINE,
        "persistent=false",
        "momentum=Switch",
        "learning_rate=Linear",
        "averaging=0.9",
        "weight_decay=L2",
        "penalty=MeanActivity",
    ],
    "Gaussian with everything": [
        "--estimator",
        "GaussianRBM",
        "n_components=100",
        "n_iter=60",
        "persistent=true",
        "momentum=Switch",
        "learning_rate=Linear",
        "learning_rate__first=0.001",
        "averaging=0.9",
        "centring=0.01",
        "learn_variance=true",
        "weight_decay=L1",
        "weight_decay__proximal=true",
        "penalty=KLDivergence",
        "penalty__averaging=0.9",
        "penalty__strength=0.01",
    ],
    "layers": [
        "--estimator",
        "DeepBeliefNetwork",
        "machines=[64, 64]",
        "layer1__n_iter=10",
        "layer2__n_iter=10",
        "layer2__centring=0.01",
        "init=transpose",
        "fine_tune=sample",
        "max_iter=60",
        "learning_rate=Linear",
        "learning_rate__first=0.01",
        "averaging=0.9",
    ],
    "lbfgs": ["n_components=100", "solver=lbfgs", "max_iter=150", "output=Sigmoid"],
    "adam with everything": [
        "n_components=100",
        "max_iter=60",
        "dropout=0.3",
        "input_dropout=0.2",
        "penalty=KLDivergence",
        "penalty__averaging=0.9",
        "learning_rate=Linear",
        "learning_rate__first=0.01",
        "averaging=0.9",
        "batch_size=50",
    ],
    "sgd": [
        "n_components=100",
        "max_iter=100",
        "solver=sgd",
        "activation=LeakyReLU",
        "learning_rate=0.01",
        "momentum=Switch",
        "tied=true",
    ],
}


RECIPE = ["n_samples=200", "n_bottleneck=5", "n_sparse=8", "max_iter=30"]

#: A program of a user, who fits with ``checkpoint_dir`` and goes on with ``resume``.
PROGRAM = """
import sys
import numpy as np
import rarefire as rf

X = np.load("digits.npy")
if sys.argv[1] == "fit":
    rf.GaussianRBM(50, n_iter=30, momentum=0.5, random_state=1, checkpoint_dir="run").fit(X)
else:
    rf.resume("run", X)
"""


def configurations(*names):
    """Those of one name in one process, so that each is run without disturbance once."""
    return pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names])


#: Not the dataset, whose features are searched for edges: that takes longer than these fits.
DIGITS = "digits.npy"
OFTEN = ["--checkpoint-every", "0.05", "--quiet"]


def fit(name, out, options=OFTEN):
    if name == "recipe":
        return ["run", "structure", *settings(RECIPE), "--device", "cpu", "--out", out, *options]
    return ["fit", DIGITS, "--device", "cpu", *settings(CONFIGURATIONS[name]), "--out", out, *options]


def settings(given):
    return [word for text in given for word in (["--set", text] if "=" in text else [text])]


def write_digits(folder):
    np.save(folder / DIGITS, (load_digits().data / 16).astype(np.float32))
    (folder / "program.py").write_text(PROGRAM)


@pytest.fixture
def here(tmp_path):
    write_digits(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Alone:
    """A run that nobody disturbed, and the seconds from its beginning on disk to its end."""

    path: Path
    seconds: float


@pytest.fixture(scope="module")
def alone(tmp_path_factory, process):
    """Runs that nobody disturbs, by configuration."""
    made = {}

    def run(name, words, process=process):
        if name not in made:
            folder = tmp_path_factory.mktemp("alone")
            write_digits(folder)
            one = process(*words, cwd=folder)
            await_file(folder / "run/spec.json", one)
            began = time.monotonic()
            _, err = one.communicate(timeout=240)
            assert (one.returncode, err) == (0, "")
            made[name] = Alone(folder / "run", time.monotonic() - began)
        return made[name]

    return run


def assert_same(run, other):
    """Weights, history and metrics, and all that is made of them, of a run and of the runs inside it."""
    names = sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.name in SAME)
    assert names
    assert names == sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.name in SAME)
    for name in names:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    figures = {path.name: path.read_bytes() for path in (other / "figures").glob("*")}
    assert {path.name: path.read_bytes() for path in (run / "figures").glob("*")} == figures
    assert not list(run.rglob("*.part"))
    assert not list(run.rglob("checkpoint"))


def await_file(path, process, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def reached(run):
    """How far a run had come when it was killed; the lock is there while a process works on it."""
    if not (run / ".lock").exists() and not (run / "weights.safetensors").exists():
        return "while Python started"
    if not (run / "spec.json").exists():
        return "before spec.json"
    if (run / "weights.safetensors").exists():
        return "at its end"
    if (run / "features.safetensors").exists():
        return "while it was measured and drawn"
    # The last checkpoint of a recipe is that of the arm at hand.
    return "between checkpoints" if list(run.rglob("state.safetensors")) else "before the first checkpoint"


def kill_and_go_on(here, process, name, begin, go_on, other, record_property):
    """Kill a run KILLS times, each time while it works, and go on; a run that ended before the kill is begun anew."""
    rng = random.Random(name)
    run, kills = here / "run", collections.Counter()
    while True:
        # What was killed before its spec.json stood is begun again, all else goes on.
        late = (run / "features.safetensors").exists()
        (run / ".lock").unlink(missing_ok=True)  # that of a process that was killed holds nobody
        one = process(*(go_on if (run / "spec.json").exists() else begin), cwd=here)
        # What was killed near its end goes on to it, so that the next kill meets a run that begins.
        if kills.total() < KILLS and not late:
            if rng.random() < 0.9:  # most of a short process is the start of Python
                # What was left near its end may be done before its lock is seen.
                while one.poll() is None and not (run / ".lock").exists():
                    time.sleep(0.005)
                wait = rng.uniform(0, other.seconds)
            else:
                wait = rng.uniform(0, 2)
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(wait)
            one.kill()
        _, err = one.communicate(timeout=240)
        if one.returncode == -signal.SIGKILL:
            kills[reached(run)] += 1
            continue
        assert (one.returncode, err) == (0, ""), err
        assert_same(run, other.path)
        if kills.total() >= KILLS:
            break
        shutil.rmtree(run)
    record_property("configuration", name)
    record_property("kills", json.dumps({f"{place}, at random": n for place, n in kills.items()}))


@configurations(*CONFIGURATIONS, "recipe")
def test_killed_at_random_moments(here, alone, process, name, record_property):
    begin = fit(name, "run")
    kill_and_go_on(here, process, name, begin, ["resume", "run", *OFTEN], alone(name, begin), record_property)


@configurations("program")
def test_programs_killed_at_random_moments(here, alone, program, name, record_property):
    """A kill before the first checkpoint begins again from spec.json: a program writes one every 30 seconds."""
    other = alone(name, ["fit"], program)
    kill_and_go_on(here, program, name, ["fit"], ["resume"], other, record_property)


@configurations("PCD", "layers", "lbfgs")
def test_killed_before_the_first_checkpoint(here, alone, process, finished, name, record_property):
    seldom = ["--checkpoint-every", "1000", "--quiet"]
    other = alone(name, fit(name, "run"))
    run = here / "run"
    one = process(*fit(name, "run", seldom), cwd=here)
    history = run / ("layers/layer1/history.jsonl" if name == "layers" else "history.jsonl")
    await_file(history, one)
    while len(history.read_bytes().splitlines()) < 3:
        time.sleep(0.005)
    one.kill()
    one.communicate()
    assert one.returncode == -signal.SIGKILL
    assert reached(run) == "before the first checkpoint"
    assert finished("resume", "run", *seldom, cwd=here).code == 0
    assert_same(run, other.path)
    record_property("configuration", name)
    record_property("kills", json.dumps({"before the first checkpoint": 1}))


@configurations("PCD", "lbfgs", "sgd")
def test_killed_between_two_checkpoints(here, alone, process, finished, name, record_property):
    """Always while it trains, which a random moment of a short run may miss."""
    other = alone(name, fit(name, "run"))
    rng = random.Random(1)
    run = here / "run"
    words = fit(name, "run")
    for _ in range(KILLS):
        one = process(*words, cwd=here)
        await_file(run / "checkpoint/state.safetensors", one)
        seen = (run / "checkpoint/state.safetensors").stat().st_mtime_ns
        while (run / "checkpoint/state.safetensors").stat().st_mtime_ns == seen and one.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        one.send_signal(signal.SIGKILL)
        _, err = one.communicate()
        assert one.returncode == -signal.SIGKILL, err
        # Half a line is what a kill within a write leaves; resuming drops it.
        with open(run / "history.jsonl", "ab") as file:
            file.write(b'{"epoch": 99, "cost"')
        words = ["resume", "run", *OFTEN]
    assert not (run / "weights.safetensors").exists()
    outcome = finished(*words, cwd=here)
    assert (outcome.code, outcome.err) == (0, "")
    assert_same(run, other.path)
    record_property("configuration", name)
    record_property("kills", json.dumps({"between checkpoints": KILLS}))


@configurations("PCD", "lbfgs")
def test_interrupted_by_hand(here, alone, process, finished, name):
    other = alone(name, fit(name, "run"))
    run = here / "a run"
    one = process(*fit(name, "a run"), cwd=here)
    await_file(run / "checkpoint/state.safetensors", one)
    one.send_signal(signal.SIGINT)
    out, err = one.communicate(timeout=60)
    assert one.returncode == 130
    assert out == ""
    assert err.startswith(("rarefire: stopped in epoch ", "rarefire: stopped in iteration "))
    assert err.endswith("; go on with: rarefire resume 'a run'\n")
    assert err.count("\n") == 1
    assert (run / "checkpoint/state.safetensors").is_file()
    assert not (run / "weights.safetensors").exists()
    assert not (run / ".lock").exists()
    assert finished("resume", "a run", *OFTEN, cwd=here).code == 0
    assert_same(run, other.path)


MOMENTS = 10


@pytest.mark.parametrize("command", ["fit", "encode", "report", "show"])
def test_ctrl_c_at_any_moment(here, process, cli, contents, command):
    """Also while libraries are loaded: one sentence and exit code 130, or it was done; nothing is half-written."""
    quick = [DIGITS, "--set", "max_iter=3", "--set", "n_components=8", "--quiet", "--device", "cpu"]
    words = {
        "fit": ["fit", *quick, "--out", "new"],
        "encode": ["encode", "run", DIGITS, "-o", "codes.npy"],
        "report": ["report", "run"],
        "show": ["show", "run"],
    }[command]
    assert cli("fit", here / DIGITS, *quick[1:], "--out", here / "run").code == 0
    before = contents(here)
    began = time.monotonic()
    assert process(*words, cwd=here).wait() == 0
    seconds = time.monotonic() - began
    after = contents(here)
    assert command == "show" or after.keys() != before.keys() or command == "report"
    codes = []
    first = min(0.15, 0.4 * seconds)  # a quick command takes no longer than that
    for moment in range(MOMENTS):
        shutil.rmtree(here / "new", ignore_errors=True)
        (here / "codes.npy").unlink(missing_ok=True)
        one = process(*words, cwd=here)
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.wait(first + moment / MOMENTS * (seconds - first))
        one.send_signal(signal.SIGINT)
        _, err = one.communicate(timeout=60)
        if "KeyboardInterrupt" in err and "rarefire/cli" not in err:
            continue  # before Python has come to our first line, Ctrl-C is its own affair
        codes.append(one.returncode)
        assert one.returncode in (0, 130), (moment, err)
        assert err == "" if one.returncode == 0 else re.fullmatch(r"rarefire: (interrupted|stopped [^\n]*)\n", err), err
        left = contents(here)
        assert {name: left[name] for name in before if left[name] != before[name]} == {}
        assert not [name for name in left if name.endswith((".part", ".lock"))]
        assert left.get("codes.npy") in (None, after.get("codes.npy"))
    assert 130 in codes


def test_two_processes_on_one_directory(here, process, finished):
    first = process(*(word.replace("n_iter=60", "n_iter=100000") for word in fit("PCD", "run")), cwd=here)
    await_file(here / "run/checkpoint/state.safetensors", first)
    for words in (["resume", "run"], fit("PCD", "run"), [*fit("PCD", "run"), "--overwrite"]):
        second = finished(*words, cwd=here)
        assert second.code in (1, 2)
        assert second.err.startswith("rarefire: ")
        assert second.err.count("\n") == 1
        if words[0] == "resume" or words[-1] == "--overwrite":
            assert "another process is working on run; wait for it or choose another directory" in second.err
    assert first.poll() is None
    first.kill()
    first.communicate()
    with RunDirectory(here / "run").locked():
        pass  # the lock went with the process


def test_two_processes_started_at_once(here, alone, process):
    """One gets the directory, the other says so, whichever comes first."""
    other = alone("PCD", fit("PCD", "run"))
    both = [process(*fit("PCD", "run"), cwd=here) for _ in range(2)]
    said = [one.communicate(timeout=240)[1] for one in both]
    assert sorted(one.returncode for one in both)[0] == 0
    [(code, refusal)] = [(one.returncode, err) for one, err in zip(both, said, strict=True) if one.returncode]
    # It came while the other worked, or was so late that the run had begun, or was done.
    assert code in (1, 2)
    assert re.fullmatch(r"rarefire: (another process is working on|run holds an? (un)?finished run)[^\n]*\n", refusal)
    assert_same(here / "run", other.path)


def test_a_directory_that_holds_another_run(here, cli, contents):
    """Also one that holds something else."""
    quick = ["--set", "max_iter=1", "--set", "n_components=3", "--quiet", "--out"]
    for name in ("run", "files"):
        (here / name).mkdir()
    (here / "files/notes.txt").write_text("mine")
    assert cli("fit", here / DIGITS, *quick, here / "run").code == 0
    before = contents(here)
    for words, reason in (
        (["fit", here / DIGITS, *quick, here / "run"], "holds a finished run; choose another directory, or replace it"),
        (["run", "lines", "--quiet", "--out", here / "run"], "holds a finished run; choose another directory"),
        (["fit", here / DIGITS, *quick, here / "files"], "holds files that belong to no run"),
        (["fit", here / DIGITS, *quick, here / "files", "--overwrite"], "holds files that belong to no run"),
        (["fit", here / DIGITS, *quick, here / "files/notes.txt"], "is a file; give the run a directory"),
    ):
        outcome = cli(*words)
        assert outcome.code == 2
        assert reason in outcome.err
        assert outcome.err.count("\n") == 1
        assert contents(here) == before


@pytest.fixture
def full(tmp_path):
    """A file system with room for two small runs, and what fills it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1500k", "tmpfs", disk], capture_output=True, text=True
    )
    if not made or made.returncode:
        pytest.skip(f"no small file system can be mounted here ({made.stderr.strip() if made else 'no mount'})")

    def fill():
        with contextlib.suppress(OSError), open(disk / "ballast", "wb", buffering=0) as file:
            while file.write(b"x" * 512):
                pass

    yield disk, fill
    subprocess.run([shutil.which("umount"), "-l", disk], check=True)


def failed(outcome, *words):
    assert outcome.code == 1, outcome
    assert outcome.err.startswith("rarefire: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err


def test_a_full_disk(full, tmp_path, cli, contents):
    disk, fill = full
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((200, 30)) > 0.5).astype(np.float32))
    quick = ["--set", "max_iter=3", "--set", "n_components=8", "--device", "cpu", "--quiet"]
    assert cli("fit", tmp_path / "x.npy", *quick, "--out", disk / "run").code == 0
    assert cli("encode", disk / "run", tmp_path / "x.npy", "-o", disk / "codes.npy").code == 0
    fill()
    before = contents(disk)
    space = "No space left on device"
    failed(cli("fit", tmp_path / "x.npy", *quick, "--seed", "1", "--out", disk / "run", "--overwrite"), space)
    failed(cli("report", disk / "run"), space, "report.html")
    failed(cli("encode", disk / "run", tmp_path / "x.npy", "-o", disk / "codes.npy"), space, "codes.npy")
    failed(cli("encode", disk / "run", tmp_path / "x.npy", "-o", disk / "codes.npz"), space, "codes.npz")
    failed(cli("fit", tmp_path / "x.npy", *quick, "--out", disk / "new"), space, "new")
    assert contents(disk) == before
    rf.load(disk / "run")


def test_a_disk_that_fills_up_while_training(full, tmp_path, cli):
    """The run stops with a sentence, and goes on once there is room."""
    disk, _ = full
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((200, 30)) > 0.5).astype(np.float32))
    words = ["--set", "max_iter=3000", "--set", "n_components=8", "--set", "batch_size=none", "--device", "cpu"]
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 1_230_000)
    failed(
        cli("fit", tmp_path / "x.npy", *words, "--checkpoint-every", "0.05", "--quiet", "--out", disk / "run"),
        "No space left on device",
        "rarefire resume",
    )
    assert not (disk / "run/weights.safetensors").exists()
    # 3000 epochs need more than this disk has, so the rest is done on another.
    moved = shutil.copytree(disk / "run", tmp_path / "moved")
    assert cli("resume", moved, "--quiet").code == 0
    assert cli("fit", tmp_path / "x.npy", *words, "--quiet", "--out", tmp_path / "alone").code == 0
    assert_same(moved, tmp_path / "alone")


@pytest.mark.parametrize("room", [0, 1, 3, 10, 30, 100, 200, 300, 500])
def test_a_disk_with_so_much_room(full, tmp_path, cli, contents, room):
    """Whatever file does not fit: an earlier run is whole, and the new one is complete or goes on elsewhere."""
    disk, fill = full
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((200, 30)) > 0.5).astype(np.float32))
    quick = [
        tmp_path / "x.npy",
        "--set",
        "max_iter=3",
        "--set",
        "n_components=8",
        "--device",
        "cpu",
        "--quiet",
        "--out",
    ]
    assert cli("fit", *quick, disk / "old").code == 0
    old = contents(disk / "old")
    (disk / "room").write_bytes(b"x" * 1024 * room)
    fill()
    (disk / "room").unlink()
    outcome = cli("fit", *quick, disk / "new")
    assert contents(disk / "old") == old
    assert not list(disk.rglob("*.part"))
    if outcome.code == 0:
        assert_same(disk / "new", disk / "old")
        return
    failed(outcome, "No space left on device", "new")
    if (disk / "new").exists():
        assert not (disk / "new/weights.safetensors").exists()
        moved = shutil.copytree(disk / "new", tmp_path / "moved")
        assert cli("resume", moved, "--quiet").code == 0
        assert_same(moved, disk / "old")


def test_a_quota_on_the_size_of_files(tmp_path, process, cli, contents):
    """What a file may hold is limited, as by a quota; needs no right to mount anything."""
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((3000, 30)) > 0.5).astype(np.float32))
    quick = ["fit", "x.npy", "--set", "max_iter=2", "--set", "n_components=40", "--device", "cpu", "--quiet", "--out"]
    assert process(*quick, "run", cwd=tmp_path).wait() == 0
    assert process("encode", "run", "x.npy", "-o", "codes.npy", cwd=tmp_path).wait() == 0
    before = contents(tmp_path)
    size = 20_000
    assert all(len(before[name]) > size for name in ("codes.npy", "run/report.html"))
    for words, name in (
        (["encode", "run", "x.npy", "-o", "codes.npy"], "codes.npy"),
        (["report", "run"], "run/report.html"),
        ([*quick, "new"], "new"),
    ):
        one = process(*words, cwd=tmp_path, largest_file=size)
        _, err = one.communicate(timeout=60)
        assert one.returncode == 1
        assert re.fullmatch(rf"rarefire: {re.escape(name)}[^\n]* cannot be written \(File too large\)[^\n]*\n", err), (
            err
        )
        after = contents(tmp_path)
        assert {name: after[name] for name in before} == before
        assert not [name for name in after if name.endswith(".part")]
    assert not (tmp_path / "new/weights.safetensors").exists()
    assert process("resume", "new", cwd=tmp_path).wait() == 0
    assert_same(tmp_path / "new", tmp_path / "run")


def test_a_read_only_file_system(full, tmp_path, cli, contents):
    """Which stops root too."""
    disk, _ = full
    refuses_to_write(cli, contents, tmp_path, disk, lambda: remount(disk, "ro"), lambda: remount(disk, "rw"))


def remount(disk, mode):
    subprocess.run([shutil.which("mount"), "-o", f"remount,{mode}", disk], check=True)


def test_a_read_only_directory(tmp_path, cli, contents):
    if os.geteuid() == 0:
        pytest.skip("root may write in a read-only directory; the read-only file system stands for it")
    disk = tmp_path / "disk"
    disk.mkdir()
    folders = [disk / "run/figures", disk / "run", disk]
    refuses_to_write(
        cli,
        contents,
        tmp_path,
        disk,
        lambda: [folder.chmod(0o500) for folder in folders],
        lambda: [folder.chmod(0o700) for folder in reversed(folders)],
    )


def refuses_to_write(cli, contents, folder, disk, close, open_again):
    source = folder / "x.npy"
    np.save(source, np.eye(40))
    words = ["fit", source, "--set", "max_iter=1", "--set", "n_components=3", "--quiet", "--out"]
    assert cli(*words, disk / "run").code == 0
    before = contents(disk)
    close()
    try:
        failed(cli(*words, disk / "run", "--overwrite"), "cannot be written")
        failed(cli(*words, disk / "new"), "cannot be written")
        failed(cli("report", disk / "run"), "cannot be written")
        failed(cli("encode", disk / "run", source, "-o", disk / "codes.npy"), "cannot be written")
        assert cli("show", disk / "run").code == 0
        assert cli("resume", disk / "run").code == 0
    finally:
        open_again()
    assert contents(disk) == before
