"""How time and memory grow with rows, features, components and batch, for one machine and one autoencoder."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from begun import begun
from memory import apart, grown
from timing import run

import rarefire as rf
from rarefire.data.batch import Batch
from rarefire.data.source import ArraySource, Description
from rarefire.estimators.splitting import Split

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "growth.png"
#: What grows, to which values; the others stay as they are in ``FIXED``.
GROWTH = {
    "rows": (1000, 3162, 10_000, 31_623, 100_000),
    "features": (100, 316, 1000, 3162, 10_000, 31_623),
    "components": (100, 316, 1000, 3162, 10_000, 31_623),
    "batch": (32, 100, 316, 1000, 3162, 10_000),
}
FIXED = {"features": 200, "components": 200, "batch": 100}
FAMILIES = ("BernoulliRBM", "SparseAutoencoder")
#: What is measured, by what it is called.
OF = {"time": "seconds", "memory": "grown_mb"}


def learner(family: str, components: int, batch: int) -> Any:
    """PCD-1 or Adam, one epoch, everything else as it is by default."""
    if family == "BernoulliRBM":
        return rf.BernoulliRBM(components, batch_size=batch, n_iter=1, random_state=0)
    return rf.SparseAutoencoder(components, batch_size=batch, max_iter=1, random_state=0)


def point(family: str, quantity: str, value: int, least: float) -> dict[str, float]:
    """Seconds of an update (of a fit of one epoch where rows grow), and by how many MB a fit grows beyond its rows."""
    size = {**FIXED, quantity: value}
    n_rows = value if quantity == "rows" else 2 * size["batch"]
    X = np.random.default_rng(0).random((n_rows, size["features"]), dtype=np.float32)
    source = ArraySource(X, Description("growth"))
    learner(family, 10, 10).fit(X[:20, :10])
    estimator = learner(family, size["components"], size["batch"])
    everything = Split(np.arange(n_rows), np.arange(0))
    _, memory = grown(lambda: estimator.fit_source(source, everything, seed=0))
    trainer, state, generator = begun(estimator, source, [])

    def work() -> None:
        if quantity == "rows":
            estimator.fit_source(source, everything, seed=0)
        else:
            trainer.update(state, Batch(source, np.arange(size["batch"])), generator, 0.0)

    seconds: list[float] = []
    while len(seconds) < 4 or sum(seconds) < least:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return {"value": value, "seconds": statistics.median(seconds[1:]), "grown_mb": memory}


def exponents(points: list[dict[str, float]], of: str) -> str:
    """The slopes of the logarithms over the last decade and over the last two."""
    slopes = []
    for decades in (1, 2):
        last = [one for one in points if one["value"] >= 0.99 * points[-1]["value"] / 10**decades]
        slopes.append(np.polyfit(*(np.log([one[key] for one in last]) for key in ("value", of)), 1)[0])
    return "{:.2f} ({:.2f})".format(*slopes)


def draw(found: dict[str, dict[str, list[dict[str, float]]]], path: Path) -> None:
    """Eight panels on logarithmic axes: time above, memory below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(GROWTH), figsize=(13, 6.2), sharey="row", layout="constrained")
    labels = ("seconds of an update\n(rows: of a fit of one epoch)", "memory of a fit\nbeyond its rows (MB)")
    for row, (of, label) in enumerate(zip(OF.values(), labels, strict=True)):
        axes[row, 0].set_ylabel(label)
        for axis, quantity in zip(axes[row], GROWTH, strict=True):
            for family, marker in zip(FAMILIES, "os", strict=True):
                points = found[family][quantity]
                values, heights = ([one[key] for one in points] for key in ("value", of))
                name = f"{family}: {exponents(points, of)}"
                axis.loglog(values, heights, marker=marker, markersize=4, label=name)
            axis.set_xlabel(quantity if quantity != "batch" else "rows of a batch")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7, loc="upper left")
        low, high = axes[row, 0].get_ylim()
        axes[row, 0].set_ylim(low, 6 * high)  # room for the legends
    figure.savefig(path, dpi=110)
    plt.close(figure)


def measure(quick: bool = False) -> dict[str, Any]:
    """All points, each in a process of its own, and the picture."""
    found = {
        family: {
            quantity: [
                apart(point, family, quantity, value, 0.0 if quick else 0.5)
                for value in (values[:3] if quick else values)
            ]
            for quantity, values in GROWTH.items()
        }
        for family in FAMILIES
    }
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            draw(found, Path(folder) / PICTURE.name)
    else:
        draw(found, PICTURE)
    return found


def tell(found: dict[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """A heading, the rows of a table (the first is its head), and what is to be said of it."""
    rows: list[tuple[str, ...]] = [("grows", "from", "to", *(f"{family}, {of}" for family in FAMILIES for of in OF))]
    for quantity in GROWTH:
        points = {family: found[family][quantity] for family in FAMILIES}
        ends = [f"{int(points[FAMILIES[0]][end]['value']):,}" for end in (0, -1)]
        rows.append((quantity, *ends, *(exponents(points[family], of) for family in FAMILIES for of in OF.values())))
    said = [
        "Exponents of growth, fitted to the last decade (to the last two): 1 is in proportion, 0 not at all. What does "
        "not grow is "
        + ", ".join(f"{name} {value}" for name, value in FIXED.items())
        + ". Time is that of an update (of a fit of one epoch where rows grow), memory by how much a fit grows "
        "beyond the rows that it is given, parameters included; each point in a process of its own. Where rows grow, "
        "memory is that of the parameters and of one batch, to which the order of the rows adds eight bytes a row.",
        "![Time and memory against rows, features, components and batch, on logarithmic axes](figures/growth.png)",
    ]
    return "How cost grows", rows, said


if __name__ == "__main__":
    run(measure)
