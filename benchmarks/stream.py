"""Data larger than memory: training from disk against memory, transform against scikit-learn, memory of fit and encode.

Each function measures and returns plain numbers; ``python benchmarks/stream.py [--quick]`` prints them all as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM

import rarefire as rf
from rarefire.data import mapped
from rarefire.data.arrays import load_npy
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import Interrupted
from rarefire.estimators.splitting import Split

COLUMNS, UNITS, BATCH = 784, 500, 100
LEARNERS = {
    "machine": lambda: rf.BernoulliRBM(UNITS, batch_size=BATCH, n_iter=1),
    "autoencoder": lambda: rf.SparseAutoencoder(UNITS, solver="adam", batch_size=BATCH, max_iter=1),
}


def written(path: Path, n_bytes: int, dtype: Any = np.float32) -> Path:
    """A .npy file of about so many bytes, of rows of zeros and ones, a fifth of them ones."""
    n_rows = n_bytes // (COLUMNS * np.dtype(dtype).itemsize)
    array = np.lib.format.open_memmap(path, "w+", dtype, (n_rows, COLUMNS))
    some = (np.random.default_rng(0).random((10_000, COLUMNS)) < 0.2).astype(dtype)
    for start in range(0, n_rows, len(some)):
        array[start : start + len(some)] = some[: n_rows - start]
    array.flush()
    return path


def forget(path: Path) -> None:
    """Have the system read a file from the disk the next time."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rate(learner: Any, source: Source, updates: int) -> float:
    """Rows a second over so many updates of the first epoch, all from its begin on."""
    times: list[float] = []

    def stop() -> bool:
        times.append(time.perf_counter())
        return len(times) == updates

    split = Split(np.arange(source.shape[0]), np.arange(0))
    begin = time.perf_counter()
    with contextlib.suppress(Interrupted):
        learner.fit_source(source, split, seed=0, should_stop=stop)
    return len(times) * BATCH / (times[-1] - begin)


def training(folder: Path, n_bytes: int = 4 * 2**30, updates: int = 2000, repeats: int = 3) -> dict[str, Any]:
    """Rows a second from a file that no page of is in memory, and from an array in memory."""
    path = written(folder / "rows.npy", n_bytes)
    memory = ArraySource(np.array(np.load(path, mmap_mode="r")[: updates * BATCH]), Description("memory"))
    disk = load_npy(path)
    result: dict[str, Any] = {"bytes": path.stat().st_size}
    for name, learner in LEARNERS.items():
        rates: dict[str, list[float]] = {"disk": [], "memory": []}
        for _ in range(repeats):
            forget(path)
            rates["disk"].append(rate(learner(), disk, updates))
            rates["memory"].append(rate(learner(), memory, updates))
        found = {where: statistics.median(values) for where, values in rates.items()}
        result[name] = {
            **{f"{where}_rows_per_second": value for where, value in found.items()},
            "rates": rates,
            "ratio": found["disk"] / found["memory"],
        }
    return result


def shuffling(seeds: int = 5, n_iter: int = 8) -> dict[str, Any]:
    """Mean cost by epoch on digits sorted by class: rows mixed as a whole, by blocks, and read block after block."""
    images, labels = load_digits(return_X_y=True)
    rows = np.repeat(np.argsort(labels, kind="stable"), 5)
    noisy = np.random.default_rng(0).random((len(rows), 64)) < 0.02 + 0.96 * images[rows] / 16
    curves: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, noisy.astype(np.float32))
        for name, block, n_mixed in (("as a whole", len(rows), 1), ("by blocks", 8, 256), ("block by block", 800, 1)):
            with mock.patch.multiple(mapped, BLOCK_BYTES=block * 64 * 4, MIXED_BLOCKS=n_mixed):
                costs = []
                for seed in range(seeds):
                    learner = rf.BernoulliRBM(30, batch_size=20, n_iter=n_iter, learning_rate=0.05, persistent=False)
                    learner.fit_source(load_npy(path), Split(np.arange(len(rows)), np.arange(0)), seed=seed)
                    costs.append([record["cost_mean_field"] for record in learner.history_])
            curves[name] = {"mean": np.mean(costs, axis=0).tolist(), "deviation": np.std(costs, axis=0).tolist()}
    return curves


def transform(n_rows: int = 1_000_000, repeats: int = 3) -> dict[str, Any]:
    """Seconds of ``transform`` here and in scikit-learn, with the same weights."""
    rows = (np.random.default_rng(0).random((n_rows, COLUMNS), dtype=np.float32) < 0.2).astype(np.float32)
    ours = rf.BernoulliRBM(UNITS, n_iter=0, random_state=0).fit(rows[:100])
    theirs = BernoulliRBM(UNITS, n_iter=1, random_state=0).fit(rows[:100])
    theirs.components_, theirs.intercept_hidden_ = ours.components_, ours.intercept_hidden_
    seconds: dict[str, list[float]] = {"rarefire": [], "scikit-learn": []}
    for _ in range(repeats):
        for name, learner in (("rarefire", ours), ("scikit-learn", theirs)):
            begin = time.perf_counter()
            learner.transform(rows)
            seconds[name].append(time.perf_counter() - begin)
    found = {name: statistics.median(values) for name, values in seconds.items()}
    return {"rows": n_rows, "seconds": seconds, "ratio": found["scikit-learn"] / found["rarefire"]}


def fitting(folder: Path, n_bytes: int = 4 * 2**30, limit: int = 2 * 2**30, units: int = 100) -> dict[str, Any]:
    """Anonymous memory of ``rarefire fit`` on a file, in a control group of so many bytes where one can be made."""
    path = written(folder / "large.npy", n_bytes)
    forget(path)
    words = ("fit", path, "--estimator", "BernoulliRBM", "--set", f"n_components={units}", "--set", "batch_size=100")
    with memory_group(limit) as group:
        out = folder / "run"
        used = peak(*words, "--set", "n_iter=1", "--set", "learning_rate=0.01", "--out", out, "--quiet", group=group)
    path.unlink()
    return {"bytes": n_bytes, "limit": limit if group else None, **used}


def encoding(folder: Path, sizes: tuple[int, ...] = (100 * 2**20, 400 * 2**20)) -> dict[str, Any]:
    """Anonymous memory of ``rarefire encode`` for results of these sizes, dense and sparse."""
    rows = np.load(written(folder / "some.npy", 2**20))
    run = folder / "encoder"
    rf.SparseAutoencoder(UNITS, activation=rf.activations.ReLU(), max_iter=1, random_state=0).fit(rows).save(run)
    result: dict[str, Any] = {}
    for size in sizes:
        path = written(folder / "rows.npy", size // (4 * UNITS) * COLUMNS, np.uint8)
        for suffix in ("npy", "npz"):
            out = folder / f"codes.{suffix}"
            result[f"{suffix} of {size}"] = peak("encode", run, path, "-o", out)
            out.unlink()
    return result


def peak(*words: Any, group: Path | None = None) -> dict[str, float]:
    """Largest anonymous and resident memory in bytes, and seconds, of a process of the command line."""

    def join() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "rarefire", *map(str, words)], preexec_fn=join)
    anonymous = resident = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, KeyError):
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in status if line.endswith("kB")}
            anonymous, resident = max(anonymous, sizes["RssAnon"]), max(resident, sizes["VmRSS"])
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return {"anonymous": anonymous, "resident": resident, "seconds": time.perf_counter() - begin}


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path | None]:
    """A control group with a memory limit, of either version; None where none can be made."""
    for root, name in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup") / root / f"rarefire-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    yield None


def main(quick: bool = False) -> dict[str, Any]:
    """All of them, in a temporary folder beside this file's place of work."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        large = 2**29 if quick else 4 * 2**30
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "shuffling": lambda: shuffling(1, 2) if quick else shuffling(),
            "encoding": lambda: encoding(folder, (2**24, 2**26) if quick else (100 * 2**20, 400 * 2**20)),
            "transform": lambda: transform(50_000 if quick else 1_000_000),
            "training": lambda: training(folder, large, 300 if quick else 2000),
            "fitting": lambda: fitting(folder, large, 2**29 if quick else 2 * 2**30),
        }
        return {part: measure() for part, measure in parts.items()}


if __name__ == "__main__":
    print(json.dumps(main("--quick" in sys.argv[1:]), indent=1))
