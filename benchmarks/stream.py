"""Data larger than memory: training from disk, the order of rows, transform, and the memory of fit and encode."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from matplotlib.figure import Figure
from memory import status
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM
from timing import run, side_by_side, times, told

import rarefire as rf
from rarefire.data import mapped
from rarefire.data.arrays import load_npy
from rarefire.data.saving import save_npy
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import Interrupted
from rarefire.estimators.splitting import Split

#: What the figures are to be held against.
AIM = (
    "Aimed at: 80% of the rate in memory, less than 2 GB of anonymous memory, and twice scikit-learn's rate of "
    "`transform`."
)

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "figures" / "shuffling.png"
COLUMNS, UNITS, BATCH = 784, 500, 100
LEARNERS = {
    "BernoulliRBM": lambda: rf.BernoulliRBM(UNITS, batch_size=BATCH, n_iter=1),
    "SparseAutoencoder": lambda: rf.SparseAutoencoder(UNITS, solver="adam", batch_size=BATCH, max_iter=1),
}
#: Of the command line, with few units so that a pass over the file is what takes the time.
FITS = {
    "BernoulliRBM": ("n_iter=1", "learning_rate=0.01"),
    "SparseAutoencoder": ("max_iter=1", "solver=adam"),
}
#: How rows are mixed: rows of a block, None for all, and blocks that are mixed.
ORDERS = (("as a whole", None, 1), ("by blocks", 8, 256), ("block by block", 800, 1))
MIB = 2**20


def written(path: Path, n_bytes: int, dtype: Any = np.float32) -> Path:
    """A .npy file of about so many bytes, of rows of zeros and ones, a fifth of them ones."""
    n_rows = n_bytes // (COLUMNS * np.dtype(dtype).itemsize)
    some = (np.random.default_rng(0).random((10_000, COLUMNS)) < 0.2).astype(dtype)
    with path.open("wb") as file:
        batches = (some[: n_rows - start] for start in range(0, n_rows, len(some)))
        save_npy(file, batches, (n_rows, COLUMNS), some.dtype)
    return path


def forget(path: Path) -> None:
    """Have the system read a file from the disk the next time; it keeps what some process has mapped."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# Training -----------------------------------------------------------------------------------------------------


def train(learner: Any, source: Source, updates: int) -> None:
    """So many updates of the first epoch, and all that comes before them."""
    left = iter(range(updates - 1, -1, -1))
    with contextlib.suppress(Interrupted):
        learner.fit_source(
            source, Split(np.arange(source.shape[0]), np.arange(0)), seed=0, should_stop=lambda: not next(left)
        )


def training(folder: Path, n_bytes: int, updates: int, repeats: int) -> dict[str, Any]:
    """Seconds of so many updates on a file that no page of is in memory, and on an array in memory."""
    path = written(folder / "rows.npy", n_bytes)
    memory = ArraySource(np.array(np.load(path, mmap_mode="r")[: updates * BATCH]), Description("memory"))
    found: dict[str, Any] = {"bytes": path.stat().st_size, "rows": updates * BATCH, "learners": {}}
    opened: list[ArraySource] = []

    def open_and_forget() -> None:
        opened[:] = [load_npy(path)]  # which reads it once for its extremes
        mapping = mapped.mapping_of(opened[0].array)
        assert mapping is not None
        mapping.madvise(mmap.MADV_DONTNEED)  # the system keeps what some process has mapped
        forget(path)

    for name, learner in LEARNERS.items():
        found["learners"][name] = side_by_side(
            {
                "opening": open_and_forget,
                "disk": lambda learner=learner: train(learner(), opened[0], updates),
                "memory": lambda learner=learner: train(learner(), memory, updates),
            },
            repeats,
        )
    path.unlink()
    return found


# Order --------------------------------------------------------------------------------------------------------


def shuffling(seeds: int, n_iter: int) -> dict[str, Any]:
    """Mean held-out cost by epoch on digits sorted by class, in the three orders."""
    images, labels = load_digits(return_X_y=True)
    rows = np.repeat(np.argsort(labels, kind="stable"), 5)
    noisy = np.random.default_rng(0).random((len(rows), 64)) < 0.02 + 0.96 * images[rows] / 16
    out = np.arange(0, len(rows), 10)  # held out
    found: dict[str, Any] = {"seeds": seeds, "rows": len(rows), "curves": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, noisy.astype(np.float32))
        for name, block, n_mixed in ORDERS:
            with mock.patch.multiple(mapped, BLOCK_BYTES=(block or len(rows)) * 64 * 4, MIXED_BLOCKS=n_mixed):
                costs = []
                for seed in range(seeds):
                    learner = rf.BernoulliRBM(30, batch_size=20, n_iter=n_iter, learning_rate=0.05, persistent=False)
                    learner.fit_source(load_npy(path), Split(np.setdiff1d(np.arange(len(rows)), out), out), seed=seed)
                    costs.append([record["validation_cost_mean_field"] for record in learner.history_])
            deviation = np.std(costs, axis=0, ddof=min(1, seeds - 1))
            found["curves"][name] = {"mean": np.mean(costs, axis=0).tolist(), "deviation": deviation.tolist()}
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """The cost curves of the three orders, with a deviation over seeds to either side."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    looks = (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-", "^"))
    for (name, curve), (colour, line, marker) in zip(found["curves"].items(), looks, strict=True):
        epochs = np.arange(1, len(curve["mean"]) + 1)
        mean, deviation = np.array(curve["mean"]), np.array(curve["deviation"])
        axes.plot(epochs, mean, line, color=colour, marker=marker, markersize=4, label=name)
        axes.fill_between(epochs, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="epoch", ylabel="held-out cost (nats per pixel)", xticks=epochs)
    axes.legend(title="rows are mixed", frameon=False)
    figure.savefig(path, dpi=150)


# Transform ----------------------------------------------------------------------------------------------------


def transform(n_rows: int, repeats: int) -> dict[str, Any]:
    """Seconds and memory of ``transform`` here and in scikit-learn, with the same weights."""
    some = (np.random.default_rng(0).random((10_000, COLUMNS), dtype=np.float32) < 0.2).astype(np.float32)
    rows = np.tile(some, (n_rows // len(some), 1))
    ours = rf.BernoulliRBM(UNITS, n_iter=0, random_state=0).fit(some[:100])
    theirs = BernoulliRBM(UNITS, n_iter=1, random_state=0).fit(some[:100])
    theirs.components_, theirs.intercept_hidden_ = ours.components_, ours.intercept_hidden_
    tensor, weight, product = torch.from_numpy(rows), torch.from_numpy(ours.components_), torch.empty(2048, UNITS)

    def products() -> None:
        for part in tensor.split(len(product)):
            torch.mm(part, weight.T, out=product[: len(part)])

    both = {"scikit-learn": lambda: theirs.transform(rows), "rarefire": lambda: ours.transform(rows)}
    result = 4 * n_rows * UNITS
    beyond = {name: added_memory(do) - result for name, do in both.items()}
    seconds = side_by_side({**both, "the matrix product alone": products}, repeats)
    return {"rows": n_rows, "seconds": seconds, "beyond": beyond}


def added_memory(do: Callable[[], Any]) -> float:
    """Bytes of anonymous memory that this process has more at the most while it does something."""
    before, largest, done = anonymous(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(0.005):
            largest = max(largest, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    do()
    done.set()
    watcher.join()
    return largest - before


def anonymous(process: int | str = "self") -> float:
    """Bytes of a process's memory that are no pages of files."""
    return status("RssAnon", process) * MIB


# The command line ---------------------------------------------------------------------------------------------


def fitting(folder: Path, n_bytes: int, limit: int) -> dict[str, Any]:
    """Anonymous memory of ``rarefire fit`` on a file, in a control group of so many bytes where one can be made."""
    found: dict[str, Any] = {"bytes": n_bytes, "limit": limit, "estimators": {}}
    for (name, arguments), n_files in zip(FITS.items(), (1, 8), strict=True):
        path = folder / f"large-{n_files}"
        path.mkdir()
        for k in range(n_files):
            forget(written(path / f"{k}.npy", n_bytes // n_files))
        words = ["fit", path, "--estimator", name, "--out", folder / f"run-{name}", "--quiet"]
        for argument in ("n_components=16", "batch_size=1000", *arguments):
            words += ["--set", argument]
        with memory_group(limit) as group:
            found["estimators"][name] = {**peak(*words, group=group), "limited": group is not None, "files": n_files}
        shutil.rmtree(path)
    return found


def encoding(folder: Path, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Anonymous memory of ``rarefire encode`` for results of these sizes, dense and sparse."""
    rows = np.load(written(folder / "some.npy", MIB))
    run = folder / "encoder"
    rf.SparseAutoencoder(UNITS, activation=rf.activations.ReLU(), max_iter=1, random_state=0).fit(rows).save(run)
    found: dict[str, Any] = {"npy": {}, "npz": {}}
    for size in sizes:
        path = written(folder / "rows.npy", size // (4 * UNITS) * COLUMNS, np.uint8)
        for suffix, entry in found.items():
            out = folder / f"codes.{suffix}"
            entry[str(size)] = peak("encode", run, path, "-o", out)
            out.unlink()
    return found


def peak(*words: Any, group: Path | None = None) -> dict[str, float]:
    """Largest anonymous memory in bytes, and seconds, of a process of the command line."""

    def join() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    began = time.perf_counter()
    command = [sys.executable, "-m", "rarefire", *map(str, words)]
    process = subprocess.Popen(command, preexec_fn=join, stdout=subprocess.DEVNULL)
    largest = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError):  # it ends
            largest = max(largest, anonymous(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return {"anonymous": largest, "seconds": time.perf_counter() - began}


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


# All ----------------------------------------------------------------------------------------------------------


def measure(quick: bool = False) -> dict[str, Any]:
    """All of them, with files in a temporary folder at the place of work."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        found = {
            "transform": transform(20_000 if quick else 1_000_000, 1 if quick else 3),
            "shuffling": shuffling(2, 2) if quick else shuffling(5, 8),
            "encoding": encoding(folder, (16 * MIB, 32 * MIB) if quick else (100 * MIB, 400 * MIB)),
            "training": training(folder, (300 if quick else 4096) * MIB, 100 if quick else 2000, 1 if quick else 3),
            "fitting": fitting(folder, 300 * MIB if quick else 8 * 10**9, 2048 * MIB),
        }
    if not quick:
        draw(found["shuffling"], PICTURE)
    return found


def tell(found: dict[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """A heading, the rows of a table (the first is its head), and what is to be said of it."""
    rows: list[tuple[str, ...]] = [("what", "here", "beside it", "ratio")]
    training, encoded = found["training"], found["transform"]
    for name, seconds in training["learners"].items():
        disk, memory = (rates(training["rows"], seconds[where]) for where in ("disk", "memory"))
        share = disk["median"] / memory["median"]
        rows.append(
            (f"{name}, training from disk", per_second(disk), f"{per_second(memory)} in memory", f"{100 * share:.0f}%")
        )
    seconds, beyond = encoded["seconds"], encoded["beyond"]
    what = f"transform of {encoded['rows']:,} rows"
    for other in ("scikit-learn", "the matrix product alone"):
        rows.append(
            (
                what,
                told(seconds["rarefire"]),
                f"{told(seconds[other])} {other}",
                times(seconds[other], seconds["rarefire"]),
            )
        )
    rows.append(
        (
            f"{what}: memory beyond rows and result",
            mib(beyond["rarefire"]),
            f"{mib(beyond['scikit-learn'])} scikit-learn",
            "",
        )
    )
    for suffix, sizes in found["encoding"].items():
        (small, few), (large, many) = sizes.items()
        rows.append(
            (
                f"encode to .{suffix}: memory for codes of {mib(int(large))}",
                mib(many["anonymous"]),
                f"{mib(few['anonymous'])} for {mib(int(small))}",
                "",
            )
        )
    fitted = found["fitting"]
    for name, entry in fitted["estimators"].items():
        size = f"{fitted['bytes'] / 1e9:.1f} GB in {entry['files']} file{'s'[: entry['files'] > 1]}"
        where = (
            f"in a group of {mib(fitted['limit'])}"
            if entry["limited"]
            else "without a limit, as no group could be made"
        )
        rows.append((f"{name}, `rarefire fit` on {size}: memory", mib(entry["anonymous"]), where, ""))
    return "Data larger than memory", rows, said(found)


def said(found: dict[str, Any]) -> list[str]:
    """What is to be said of them."""
    training, shuffled = found["training"], found["shuffling"]
    whole, blocks, apart = (shuffled["curves"][name] for name, *_ in ORDERS)

    def away(curve: dict[str, Any]) -> list[float]:
        return [(a - b) / s for a, b, s in zip(curve["mean"], whole["mean"], whole["deviation"], strict=True)]

    size, most = f"{training['bytes'] / 1e9:.1f} GB", max(map(abs, away(blocks)))
    return [
        f"Training: {training['rows']:,} rows of a file of {size}, {COLUMNS} columns of float32, {UNITS} units, "
        f"batches of {BATCH}; nothing of the file is in memory when it begins. Memory is "
        "anonymous memory (RssAnon) at its highest, for a command with Python and its libraries: pages of files do not "
        "count. `rarefire fit` makes one epoch with 16 units in batches of 1,000, and everything after it: metrics, "
        "table of features, page.",
        f"Rows mixed by blocks against rows mixed as a whole, on {shuffled['rows']:,} digits sorted by class: their "
        f"cost, mean of {shuffled['seeds']} seeds, differs by {most:.1f} deviations over seeds in any epoch at the "
        f"most, and by {away(blocks)[-1]:+.1f} after the last. Blocks read one after the other end "
        f"{away(apart)[-1]:.0f} deviations above.",
        "![Cost by epoch in the three orders, and a deviation to either side](figures/shuffling.png)",
    ]


def rates(n_rows: int, seconds: dict[str, float]) -> dict[str, float]:
    """Rows a second, from seconds."""
    return {"median": n_rows / seconds["median"], "low": n_rows / seconds["high"], "high": n_rows / seconds["low"]}


def per_second(rate: dict[str, float]) -> str:
    """Rows a second, with their spread."""
    return f"{rate['median']:,.0f} rows/s ({rate['low']:,.0f} to {rate['high']:,.0f})"


def mib(n_bytes: float) -> str:
    """Bytes in MiB."""
    return f"{n_bytes / MIB:,.0f} MiB"


if __name__ == "__main__":
    run(measure)
