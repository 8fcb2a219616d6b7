"""Epochs of a Bernoulli machine, 784 visible and 500 hidden units, beside scikit-learn's and beside bare torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import neural_network
from timing import run, side_by_side, times, told

import rarefire as rf
from rarefire.data.datasets import MNIST
from rarefire.errors import NotAtHand
from rarefire.precision import products

#: What the figures are to be held against.
AIM = (
    "Aimed at: 4 and 2.5 times scikit-learn for PCD-1 with batches of 10 and 100, and at 100 a share of 80% of "
    "the five products; 5 and 8 times for bfloat16 at 100 and 1,000; a likelihood within 0.5 nats. Beside its "
    "products an update draws random numbers, reads rows, takes sigmoids and sums, each of them a pass over "
    "memory that plain torch and NumPy make by itself."
)

VISIBLE, HIDDEN, RATE, EPOCHS = 784, 500, 0.05, 3
BATCHES = (10, 100, 1000)
#: Hidden units of machines whose likelihood is summed up exactly.
SUMMED = 20


def binary_rows(n: int) -> NDArray[np.float32]:
    """Rows of 0 and 1; what they show changes no time."""
    rng = np.random.default_rng(0)
    return (rng.random((n, VISIBLE)) < rng.random(VISIBLE) * 0.3).astype(np.float32)


def five_products(X: torch.Tensor, size: int) -> None:
    """What no PCD-1 epoch can do without: up, down, up, and the two statistics, at their own shapes."""
    weight, v, h = torch.randn(HIDDEN, VISIBLE), X[:size].clone(), torch.rand(size, HIDDEN)
    up, down, gradient = torch.empty(size, HIDDEN), torch.empty(size, VISIBLE), torch.empty(HIDDEN, VISIBLE)
    for _ in range(0, len(X), size):
        torch.mm(v, weight.T, out=up)
        torch.mm(h, weight, out=down)
        torch.mm(v, weight.T, out=up)
        torch.mm(h.T, v, out=gradient)
        gradient.addmm_(h.T, v)


def bare_loop(X: torch.Tensor, size: int) -> None:
    """PCD-1 as one writes it down with torch: nothing is watched, shuffled or kept."""
    weight = 0.01 * torch.randn(HIDDEN, VISIBLE)
    a, b, h = torch.zeros(VISIBLE), torch.zeros(HIDDEN), torch.zeros(size, HIDDEN)
    for rows in X.split(size):
        positive = torch.sigmoid(torch.addmm(b, rows, weight.T))
        v = torch.bernoulli(torch.sigmoid(torch.addmm(a, h, weight)))
        mean = torch.sigmoid(torch.addmm(b, v, weight.T))
        weight += RATE / len(rows) * (positive.T @ rows - mean.T @ v)
        a += RATE * (rows.mean(dim=0) - v.mean(dim=0))
        b += RATE * (positive.mean(dim=0) - mean.mean(dim=0))
        h = torch.bernoulli(mean)


def epoch(size: int, n: int, repeats: int) -> dict[str, Any]:
    """Seconds of three epochs of n rows, by who does it."""
    X = binary_rows(n)
    tensor = torch.from_numpy(X)
    common = {"learning_rate": RATE, "batch_size": size, "n_iter": EPOCHS, "random_state": 0}

    def ours(**options: Any) -> Any:
        return lambda: rf.BernoulliRBM(HIDDEN, **common, **options).fit(X)

    def rounded() -> None:
        with products("bfloat16"):
            for _ in range(EPOCHS):
                five_products(tensor, size)

    return side_by_side(
        {
            "scikit-learn": lambda: neural_network.BernoulliRBM(HIDDEN, **common).fit(X),
            "PCD-1": ours(),
            "CD-1": ours(persistent=False),
            "PCD-1, bfloat16": ours(precision="bfloat16"),
            "bare loop": lambda: [bare_loop(tensor, size) for _ in range(EPOCHS)],
            "five products": lambda: [five_products(tensor, size) for _ in range(EPOCHS)],
            "five products, bfloat16": rounded,
        },
        repeats,
    )


def likelihoods(n_iter: int, seeds: int) -> dict[str, Any] | None:
    """Exact log-likelihoods of held-out MNIST after the same epochs in either precision, of machines small enough.

    Estimates for 500 hidden units after so few epochs differ by ten nats from seed to seed, and say nothing; those of
    machines trained to the end are the recipe `likelihood`'s. None without MNIST.
    """
    try:
        source = MNIST().open()
    except NotAtHand:
        return None
    X = (source.rows(slice(0, 12_000)) > 0.5).astype(np.float32)
    found: dict[str, Any] = {"epochs": n_iter}
    for precision in ("full", "bfloat16"):
        found[precision] = []
        for seed in range(seeds):
            arguments = {"learning_rate": RATE, "batch_size": 100, "n_iter": n_iter, "random_state": seed}
            machine = rf.BernoulliRBM(SUMMED, precision=precision, **arguments).fit(X[:10_000])
            found[precision].append(machine.log_likelihood(X[10_000:]).value)
    return found


def measure(quick: bool = False) -> dict[str, Any]:
    """Epochs at each size of batch, and what the precision does to the likelihood."""
    n, repeats = (1000, 1) if quick else (10_000, 5)
    return {
        "rows": n,
        "batches": {str(size): epoch(size, n, repeats) for size in BATCHES},
        "likelihood": likelihoods(*((1, 1) if quick else (10, 5))),
    }


def tell(found: dict[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """A heading, the rows of a table (the first is its head), and what is to be said of it."""
    rows = [("batch", "who", "three epochs (lowest to highest)", "against scikit-learn", "share of five products")]
    for size, entry in found["batches"].items():
        for name, seconds in entry.items():
            least = "five products, bfloat16" if name.endswith("bfloat16") else "five products"
            share = entry[least]["median"] / seconds["median"]
            rows.append((size, name, told(seconds), times(entry["scikit-learn"], seconds), f"{100 * share:.0f}%"))
    said = [
        f"Whole calls of `fit` for {EPOCHS} epochs of {found['rows']:,} binary rows in float32, {VISIBLE} visible and "
        f"{HIDDEN} hidden units. The bare loop is PCD-1 in plain torch without anything around it; the five "
        "products are the matrix products of its updates alone, at their own shapes and in the precision of the row.",
    ]
    if (likelihood := found["likelihood"]) is not None:
        full, low = (np.array(likelihood[precision]) for precision in ("full", "bfloat16"))
        error = np.hypot(*(one.std(ddof=1) / np.sqrt(len(one)) if len(one) > 1 else 0.0 for one in (full, low)))
        said.append(
            f"Mean log-likelihood of 2,000 held-out digits of MNIST, a sum over all states of {SUMMED} hidden units, "
            f"after {likelihood['epochs']} epochs on 10,000 in batches of 100, means over {len(full)} seeds: "
            f"{full.mean():.2f} nats (full), {low.mean():.2f} nats (bfloat16), a difference of "
            f"{low.mean() - full.mean():.2f} ± {error:.2f}. Machines of {HIDDEN} units "
            "trained to the end, in either precision, are in [results.md](results.md): `likelihood` and "
            "`likelihood-bfloat16`."
        )
    return "Bernoulli machine", rows, said


if __name__ == "__main__":
    run(measure)
