"""Real processes that are killed at random moments, interrupted, or run out of disk.

``RAREFIRE_KILLS`` sets how often each configuration is killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits

import rarefire as rf
from rarefire.artifact import RunDirectory

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RAREFIRE_KILLS", "2"))

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
        "learning_rate__first=0.003",
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


def configurations(*names):
    """Those of one name in one process, so that each is run without disturbance once."""
    return pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names])


#: Not the dataset, whose features are searched for edges: that takes longer than these fits.
DIGITS = "digits.npy"
OFTEN = ["--checkpoint-every", "0.05", "--quiet"]


def fit(name, out):
    words = [word for given in CONFIGURATIONS[name] for word in (["--set", given] if "=" in given else [given])]
    return ["fit", DIGITS, "--device", "cpu", *words, "--out", out, *OFTEN]


def write_digits(folder):
    np.save(folder / DIGITS, (load_digits().data / 16).astype(np.float32))


@pytest.fixture
def here(tmp_path):
    write_digits(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def alone(tmp_path_factory, finished):
    """Runs that nobody disturbs, by configuration, and how long each takes."""
    made = {}

    def run(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("alone")
            write_digits(folder)
            began = time.monotonic()
            outcome = finished(*fit(name, "run"), cwd=folder)
            assert (outcome.code, outcome.err) == (0, "")
            made[name] = folder / "run", time.monotonic() - began
        return made[name]

    return run


def assert_same(run, other):
    layers = [str(path.relative_to(other)) for path in other.glob("layers/*/*") if path.name in SAME]
    for name in [*SAME, *layers]:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name


def await_file(path, process, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


@configurations("CD with everything", "Gaussian with everything", "layers", "lbfgs", "adam with everything")
def test_killed_at_random_moments(here, alone, process, name):
    other, seconds = alone(name)
    rng = random.Random(name)
    run, kills = here / "run", 0
    while True:
        # What was killed before its spec.json stood is begun again, all else goes on.
        words = ["resume", "run", *OFTEN] if (run / "spec.json").exists() else fit(name, "run")
        one = process(*words, cwd=here)
        try:
            # From the start of the process to just beyond its end, wherever the run stands by then.
            _, err = one.communicate(timeout=rng.uniform(0, 1.1) * seconds if kills < KILLS else 240)
        except subprocess.TimeoutExpired:
            one.kill()
            one.communicate()
            kills += 1
            continue
        assert (one.returncode, err) == (0, ""), err
        if kills >= KILLS:
            break
        kills += 1  # it was done before the kill came: the next one hits a finished run
    assert_same(run, other)
    assert not list(run.rglob("*.part"))


@configurations("PCD", "lbfgs", "sgd")
def test_killed_between_two_checkpoints(here, alone, process, finished, name):
    """Always while it trains, which a random moment of a short run may miss."""
    other, _ = alone(name)
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
        one.communicate()
        words = ["resume", "run", *OFTEN]
    assert not (run / "weights.safetensors").exists()
    outcome = finished(*words, cwd=here)
    assert (outcome.code, outcome.err) == (0, "")
    assert_same(run, other)


@configurations("PCD", "lbfgs")
def test_interrupted_by_hand(here, alone, process, finished, name):
    other, _ = alone(name)
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
    assert_same(run, other)


def test_two_processes_on_one_directory(here, process, finished):
    first = process(*fit("PCD", "run"), cwd=here)
    await_file(here / "run/checkpoint/state.safetensors", first)
    second = finished("resume", "run", cwd=here)
    assert second.code == 1
    assert second.err == "rarefire: another process is working on run; wait for it or choose another directory\n"
    first.kill()
    first.communicate()
    with RunDirectory(here / "run").locked():
        pass  # the lock went with the process


@pytest.fixture
def full(tmp_path):
    """A file system of a few hundred kilobytes, and what fills it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], capture_output=True, text=True
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
    ballast.write_bytes(b"x" * 400_000)
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
