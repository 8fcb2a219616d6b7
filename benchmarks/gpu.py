"""Epochs of a Bernoulli machine on a GPU, beside the CPU, scikit-learn, and what matrix products alone take there."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from boltzmann import HIDDEN, RATE, VISIBLE, binary_rows, five_products
from sklearn import neural_network
from timing import ceilings, run, side_by_side, times, told, waited_for

import rarefire as rf

BATCHES = (10, 100, 1000, 10_000)
#: Epochs of a fit, whose time is shared out among them: rows are sent, and the update is recorded, once in a fit.
EPOCHS = 5


def fits(size: int, n: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Seconds of fits of n rows, by who does it; of the products of as many epochs beside them."""
    X = binary_rows(n)
    there = torch.from_numpy(X).to(device)
    common = {"learning_rate": RATE, "batch_size": size, "n_iter": EPOCHS, "random_state": 0}

    def ours(where: torch.device, graph: str = "1", **options: Any) -> Callable[[], None]:
        def fit() -> None:
            os.environ["RAREFIRE_GRAPH"] = graph
            rf.BernoulliRBM(HIDDEN, device=str(where), **common, **options).fit(X)

        return fit

    def products() -> None:
        with device:
            for _ in range(EPOCHS):
                five_products(there, size)

    return side_by_side(
        {
            "scikit-learn": lambda: neural_network.BernoulliRBM(HIDDEN, **common).fit(X),
            "CPU": ours(torch.device("cpu")),
            "GPU, as a graph": ours(device),
            "GPU, step by step": ours(device, graph="0"),
            "GPU, as a graph, bfloat16": ours(device, precision="bfloat16"),
            "GPU, five products": waited_for(products, device),
        },
        repeats,
    )


def measure(quick: bool = False) -> dict[str, Any]:
    """Fits at each size of batch; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        return {"device": None}
    device = torch.device("cuda")
    n, repeats = (10_000, 1) if quick else (50_000, 3)
    return {
        "device": torch.cuda.get_device_name(device),
        "rows": n,
        "gflops": ceilings(8192, device),
        "batches": {str(size): fits(size, n, repeats, device) for size in BATCHES},
    }


def tell(found: dict[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """A heading, the rows of a table (the first is its head), and what is to be said of it."""
    if found["device"] is None:
        return "Bernoulli machine on a GPU", [], ["No GPU was at hand, so that none of this was measured."]
    rows = [("batch", "who", f"{EPOCHS} epochs (lowest to highest)", "against scikit-learn", "against our CPU")]
    for size, entry in found["batches"].items():
        for name, seconds in entry.items():
            against = (times(entry["scikit-learn"], seconds), times(entry["CPU"], seconds))
            rows.append((size, name, told(seconds), *against))
    reached = ", ".join(f"{value:,.0f} GFLOP/s in {kind}" for kind, value in found["gflops"].items())
    said = [
        f"Whole calls of `fit` for {EPOCHS} epochs of {found['rows']:,} binary rows in float32, {VISIBLE} visible and "
        f"{HIDDEN} hidden units, PCD-1, on {found['device']}, where square matrix products reach {reached}; recording "
        "the update and sending the rows are among what is timed. The five products are the matrix products of the "
        "updates alone, at their own shapes.",
    ]
    return "Bernoulli machine on a GPU", rows, said


if __name__ == "__main__":
    run(measure)
