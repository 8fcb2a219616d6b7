"""Binary documents: dense rows, sparse rows, and sparse rows with reconstruction sampling, side by side."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from begun import begun
from memory import apart, grown
from timing import run, side_by_side, times, told

import rarefire as rf
from rarefire.activations import ReLU, Sigmoid
from rarefire.data.batch import Batch
from rarefire.data.source import ArraySource, Description
from rarefire.losses import BernoulliCrossEntropy
from rarefire.penalties import L1Activity, NoPenalty
from rarefire.random import Generator

#: What the figures are to be held against.
AIM = "Aimed at: 10 times with reconstruction sampling, and a held-out cost within 2%."

COLUMNS, SAMPLING = 50_000, 0.2


def documents(
    n_rows: int, n_words: int = COLUMNS, per_row: int = 100, n_topics: int = 100, seed: int = 0
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


def autoencoder(n_components: int, batch_size: int, *, sampled: bool, max_iter: int = 1) -> rf.SparseAutoencoder:
    """Rectified codes of documents, trained by Adam."""
    return rf.SparseAutoencoder(
        n_components,
        activation=ReLU(),
        output=Sigmoid(),
        loss=BernoulliCrossEntropy(),
        penalty=L1Activity(0.01),
        weight_decay=NoPenalty(),
        init_output="mean",
        max_iter=max_iter,
        batch_size=batch_size,
        reconstruction_sampling=SAMPLING if sampled else None,
        random_state=0,
    )


def updates(X: sp.csr_array, n_components: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """Seconds of one update by Adam, with the reading of its rows, by what the rows are."""

    def arm(rows: Any, *, sampled: bool = False) -> Callable[[], Any]:
        source = ArraySource(rows, Description("words"))
        trainer, state, generator = begun(autoencoder(n_components, batch_size, sampled=sampled), source, [])
        parts = itertools.cycle(Generator(0, "order").permutation(X.shape[0]).reshape(-1, batch_size))
        return lambda: trainer.update(state, Batch(source, next(parts)), generator, 0.0)

    dense = arm(X.astype(bool).toarray())
    return side_by_side({"dense": dense, "sparse": arm(X), "sampled": arm(X, sampled=True)}, repeats)


def costs(
    train: sp.csr_array, held_out: sp.csr_array, n_components: int, batch_size: int, n_epochs: int
) -> dict[str, float]:
    """Nats a row of held-out documents, of the first model and after the same epochs with all columns and with some."""

    def cost(max_iter: int, *, sampled: bool = False) -> float:
        estimator = autoencoder(n_components, batch_size, sampled=sampled, max_iter=max_iter)
        return -estimator.fit(train).score(held_out)

    return {
        "epochs": n_epochs,
        "initial": cost(0),
        "sparse": cost(n_epochs),
        "sampled": cost(n_epochs, sampled=True),
    }


def encoding(n_rows: int, per_row: int, repeats: int) -> dict[str, Any]:
    """Seconds and growth of memory of ``transform``, on sparse rows and on as many dense ones as fit."""
    X = documents(n_rows, per_row=per_row)
    estimator = autoencoder(100, 100, sampled=False, max_iter=0).fit(X[:100])
    few = X[: n_rows // 10]
    dense = few.astype(np.float32).toarray()
    estimator.transform(X[:10])
    _, memory = grown(lambda: estimator.transform(X))
    seconds = side_by_side(
        {"sparse": lambda: estimator.transform(X), "dense": lambda: estimator.transform(dense)}, repeats
    )
    return {"values": X.nnz, "rows": n_rows, "dense_rows": few.shape[0], "seconds": seconds, "grown_mb": memory}


def large(n_rows: int) -> dict[str, Any]:
    """One epoch with sampling: its seconds, and by how much memory grew, parameters and averages included."""
    X = documents(n_rows)
    autoencoder(100, 100, sampled=True).fit(X[:200])
    estimator = autoencoder(100, 100, sampled=True)
    seconds: list[float] = []

    def fit() -> None:
        began = time.perf_counter()
        estimator.fit(X)
        seconds.append(time.perf_counter() - began)

    _, memory = grown(fit)
    parameters = sum(getattr(estimator, name).nbytes for name in estimator.parameter_names) / 2**20
    return {"rows": n_rows, "seconds": seconds[0], "grown_mb": memory, "parameters_mb": parameters}


def measure(quick: bool = False) -> dict[str, Any]:
    """Updates and costs at each size, encoding by how many words a row has, and many rows."""
    # Those in processes of their own come first: see memory.apart.
    encoded = [apart(encoding, 200 if quick else 10_000, n, 1 if quick else 7) for n in (25, 50, 100, 200)]
    many = apart(large, 1000 if quick else 100_000)
    n_train = 2000 if quick else 10_000
    X = documents(n_train + 500)
    train, held_out = X[:n_train], X[n_train:]
    sizes = []
    for batch_size, n_components, n_epochs in ((100, 100, 4), (100, 500, 2), (1000, 100, 10), (1000, 500, 4)):
        if quick and (batch_size, n_components) != (100, 100):
            continue
        sizes.append(
            {
                "batch": batch_size,
                "hidden": n_components,
                "seconds": updates(train[:2000], n_components, batch_size, 1 if quick else 9),
                "costs": costs(train, held_out, n_components, batch_size, 1 if quick else n_epochs),
            }
        )
    return {"train": n_train, "sizes": sizes, "encoding": encoded, "large": many}


def tell(found: dict[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """A heading, the rows of a table (the first is its head), and what is to be said of it."""
    rows: list[tuple[str, ...]] = [
        ("batch", "hidden", "dense", "sparse", "sampled", "sampled to dense", "held-out cost, sampled to all columns")
    ]
    for size in found["sizes"]:
        seconds, nats = size["seconds"], size["costs"]
        rows.append(
            (
                str(size["batch"]),
                str(size["hidden"]),
                *(told(seconds[arm]) for arm in ("dense", "sparse", "sampled")),
                times(seconds["dense"], seconds["sampled"]),
                f"{nats['sampled'] / nats['sparse']:.3f} ({nats['epochs']} epochs, from {nats['initial']:.0f} nats a "
                f"row to {nats['sparse']:.0f} and {nats['sampled']:.0f})",
            )
        )
    few, most = found["encoding"][0], found["encoding"][-1]
    slower = most["seconds"]["sparse"]["median"] / few["seconds"]["sparse"]["median"]
    each = ", ".join(
        f"{told(one['seconds']['sparse'])} and {one['grown_mb']:.0f} MB for {one['values'] // one['rows']} words a row"
        for one in found["encoding"]
    )
    dense = most["seconds"]["dense"]["median"] / most["dense_rows"]
    large = found["large"]
    said = [
        f"Binary documents of 100 words of {COLUMNS:,}, a sparse autoencoder trained by Adam. One update, with the "
        "reading of its rows: rows and reconstruction dense, rows sparse, and with reconstruction sampling "
        f"(`reconstruction_sampling={SAMPLING}`) too. Costs are of held-out rows at all columns, after the same epochs "
        f"on {found['train']:,} rows.",
        f"Encoding {few['rows']:,} rows by 100 units: {each}; {most['values'] / few['values']:.0f} times the values "
        f"take {slower:.1f} times as long. Dense rows take {1e6 * dense:.0f} µs each, sparse ones of "
        f"{most['values'] // most['rows']} words {1e6 * most['seconds']['sparse']['median'] / most['rows']:.1f} µs.",
        f"{large['rows']:,} rows with sampling, 100 units, batches of 100: {large['seconds']:.1f} s for a fit of one "
        f"epoch, in which memory grew by {large['grown_mb']:.0f} MB; the parameters alone are "
        f"{large['parameters_mb']:.0f} MB, and Adam's averages twice as much.",
    ]
    return "Sparse documents", rows, said


if __name__ == "__main__":
    run(measure)
