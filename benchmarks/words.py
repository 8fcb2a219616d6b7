"""Binary documents: dense rows, sparse rows, and sparse rows with reconstruction sampling, side by side."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import rarefire as rf
from rarefire.activations import ReLU, Sigmoid
from rarefire.data.source import ArraySource, Description
from rarefire.estimators.splitting import Split
from rarefire.events import EpochEnded
from rarefire.losses import BernoulliCrossEntropy
from rarefire.penalties import L1Activity, NoPenalty


def documents(
    n_rows: int, n_words: int = 50_000, per_row: int = 100, n_topics: int = 100, seed: int = 0
) -> sp.csr_array:
    """Which words are in each document: a mixture of three topics, each a law of Zipf that prefers some words."""
    rng = np.random.default_rng(seed)
    zipf = 1 / (np.arange(n_words) + 10.0)
    topics = np.cumsum(zipf * rng.gamma(0.1, size=(n_topics, n_words)), axis=1)
    topics /= topics[:, -1:]
    columns = np.empty((n_rows, per_row), np.int32)
    for row in columns:
        found: np.ndarray = np.empty(0, np.int64)
        while len(found) < per_row:
            tokens = [np.searchsorted(topics[t], rng.random(per_row)) for t in rng.integers(n_topics, size=3)]
            words, first = np.unique(np.concatenate([found, rng.permuted(np.concatenate(tokens))]), return_index=True)
            found = words[np.argsort(first)]
        row[:] = np.sort(found[:per_row])
    offsets = np.arange(n_rows + 1, dtype=np.int32) * per_row
    return sp.csr_array((np.ones(columns.size, np.float32), columns.ravel(), offsets), shape=(n_rows, n_words))


def anonymous() -> float:
    """Anonymous memory of this process, in MB."""
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) / 1024 if found else float("nan")


def epochs(estimator: rf.SparseAutoencoder, rows: Any) -> dict[str, float]:
    """Fit, and give the seconds of an epoch (median), the smallest and the largest, and what memory grew by."""
    seconds: list[float] = []
    memory: list[float] = []
    before = anonymous()

    def listen(event: Any) -> None:
        memory.append(anonymous() - before)
        if isinstance(event, EpochEnded):
            seconds.append(event.seconds)

    source = ArraySource(rows, Description("words"))
    estimator.fit_source(source, Split(np.arange(rows.shape[0]), np.arange(0)), seed=0, listeners=[listen])
    return {"epoch_s": float(np.median(seconds)), "min_s": min(seconds), "max_s": max(seconds), "grown_mb": max(memory)}


def words(
    n_rows: int = 4000,
    n_components: int = 100,
    batch_size: int = 100,
    n_epochs: int = 3,
    solver: str = "adam",
    sampling: float = 0.2,
    n_words: int = 50_000,
    arms: tuple[str, ...] = ("dense", "sparse", "sampled"),
    **arguments: Any,
) -> dict[str, Any]:
    """Train on the same rows three ways; ratios are to the dense one, costs in nats a row of held-out documents."""
    X = documents(n_rows + 500, n_words)
    train, held_out = X[:n_rows], X[n_rows:]
    result: dict[str, Any] = {}
    for arm in arms:
        estimator = rf.SparseAutoencoder(
            n_components,
            activation=ReLU(),
            output=Sigmoid(),
            loss=BernoulliCrossEntropy(),
            penalty=L1Activity(0.01),
            weight_decay=NoPenalty(),
            init_output="mean",
            solver=solver,
            max_iter=n_epochs,
            batch_size=batch_size,
            reconstruction_sampling=sampling if arm == "sampled" else None,
            **arguments,
        )
        rows = train.astype(bool).toarray() if arm == "dense" else train
        result[arm] = epochs(estimator, rows) | {"held_out_cost": -estimator.score(held_out)}
    if "dense" in result:
        for arm in result:
            result[arm]["speed"] = result["dense"]["epoch_s"] / result[arm]["epoch_s"]
            result[arm]["cost_ratio"] = result[arm]["held_out_cost"] / result["dense"]["held_out_cost"]
    return result


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and epochs")
    quick = parser.parse_args().quick
    sizes = [(100, 100)] if quick else [(100, 100), (100, 500), (1000, 100), (1000, 500)]
    table = {f"batch {b}, hidden {k}": words(1000 if quick else 4000, k, b, 1 if quick else 3) for b, k in sizes}
    if not quick:
        table["100,000 rows"] = words(100_000, n_epochs=1, arms=("sampled",))
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
