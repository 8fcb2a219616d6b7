"""The sparse autoencoder of CS294A with L-BFGS: how long until the objective is low, beside NumPy with SciPy."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from timing import run, side_by_side, told

import rarefire as rf
from rarefire.activations import Sigmoid
from rarefire.data.batch import Batch
from rarefire.data.datasets import MNIST
from rarefire.data.images import extract_patches, grey_images, halve, whiten_image
from rarefire.data.source import ArraySource, Description
from rarefire.errors import NotAtHand
from rarefire.events import EpochEnded, Event
from rarefire.penalties import L2, KLDivergence
from rarefire.preprocess import ClipRescale, RemoveMean
from rarefire.random import Generator

#: What the figures are to be held against.
AIM = "Aimed at: 4 times, for both."

ITERATIONS, CLOSE = 400, 1.005


def patches(n: int) -> NDArray[np.float64]:
    """Whitened patches of two photographs, in [0.1, 0.9]."""
    pictures = [whiten_image(halve(image)) for image in grey_images()]
    rows = extract_patches(pictures, 8, n, Generator(0, "patches"))[0]
    return ClipRescale().fit_transform(RemoveMean().fit_transform(rows))


def digits(n: int) -> NDArray[np.float64]:
    """Digits of MNIST, in [0, 1]."""
    return MNIST().open().rows(slice(0, n)).astype(np.float64)


#: Name, rows, hidden units, target rate and weight decay.
PROBLEMS: tuple[tuple[str, Callable[[int], NDArray[np.float64]], int, float, float], ...] = (
    ("patches, 64-25-64", patches, 25, 0.01, 1e-4),
    ("MNIST, 784-196-784", digits, 196, 0.1, 3e-3),
)
STRENGTH = 3.0


def estimator(n_hidden: int, target: float, decay: float, **options: Any) -> rf.SparseAutoencoder:
    """Ours, with the objective of CS294A."""
    return rf.SparseAutoencoder(
        n_hidden,
        activation=Sigmoid(),
        output=Sigmoid(),
        penalty=KLDivergence(target=target, strength=STRENGTH),
        weight_decay=L2(decay),
        solver="lbfgs",
        **options,
    )


def numpy_objective(
    X: NDArray[np.float64], n_hidden: int, target: float, decay: float
) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
    """Value and gradient of all parameters in one vector, as the lecture notes have it."""
    n, n_visible = X.shape
    size = n_hidden * n_visible

    def sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-z))

    def evaluate(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        W, D = theta[:size].reshape(n_hidden, n_visible), theta[size : 2 * size].reshape(n_hidden, n_visible)
        b, c = theta[2 * size : 2 * size + n_hidden], theta[2 * size + n_hidden :]
        h = sigmoid(X @ W.T + b)
        out = sigmoid(h @ D + c)
        q = h.mean(axis=0)
        error = out - X
        value = 0.5 * (error**2).sum() / n + 0.5 * decay * ((W**2).sum() + (D**2).sum())
        value += STRENGTH * (target * np.log(target / q) + (1 - target) * np.log((1 - target) / (1 - q))).sum()
        delta3 = error * out * (1 - out) / n
        pull = STRENGTH / n * ((1 - target) / (1 - q) - target / q)
        delta2 = (delta3 @ D.T + pull) * h * (1 - h)
        gradients = (delta2.T @ X + decay * W, h.T @ delta3 + decay * D, delta2.sum(axis=0), delta3.sum(axis=0))
        return value, np.concatenate([gradient.ravel() for gradient in gradients])

    return evaluate


def course_of_scipy(
    evaluate: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    start: NDArray[np.float64],
    iterations: int,
) -> list[tuple[float, float]]:
    """Seconds and objective after each iteration."""
    course: list[tuple[float, float]] = []
    began = time.perf_counter()

    def keep(intermediate_result: Any) -> None:
        course.append((time.perf_counter() - began, float(intermediate_result.fun)))

    options = {"maxiter": iterations, "maxfun": 10 * iterations, "ftol": 0.0, "gtol": 0.0}
    minimize(evaluate, start, jac=True, method="L-BFGS-B", callback=keep, options=options)
    return course


def course_of_ours(model: rf.SparseAutoencoder, X: NDArray[np.float32]) -> list[tuple[float, float]]:
    """The same of a fit."""
    course: list[tuple[float, float]] = []
    began = time.perf_counter()

    def keep(event: Event) -> None:
        if isinstance(event, EpochEnded):
            course.append((time.perf_counter() - began, event.record["objective"]))

    source = ArraySource(X, Description("rows"))
    model.fit_source(source, model.split(len(X), model.random_state), seed=model.random_state, listeners=[keep])
    return course


def first_below(course: list[tuple[float, float]], level: float) -> float | None:
    """When the objective first reaches a level."""
    return next((seconds for seconds, value in course if value <= level), None)


def problem(
    X: NDArray[np.float64], n_hidden: int, target: float, decay: float, *, starts: int, iterations: int
) -> dict[str, Any]:
    """Both from the same starts, in turns; and one evaluation of the objective."""
    evaluate = numpy_objective(X, n_hidden, target, decay)
    narrow = X.astype(np.float32)
    found = []
    for seed in range(starts):
        begun = estimator(n_hidden, target, decay, max_iter=0, random_state=seed).fit(X)
        parts = (begun.encoder_weight_, begun.decoder_weight_, begun.encoder_bias_, begun.decoder_bias_)
        theirs = course_of_scipy(evaluate, np.concatenate([part.ravel() for part in parts]), iterations)
        ours = course_of_ours(estimator(n_hidden, target, decay, max_iter=iterations, random_state=seed), narrow)
        level = theirs[-1][1] * CLOSE
        found.append(
            {
                "objective": theirs[-1][1],
                "ours": ours[-1][1],
                "scipy_all_seconds": theirs[-1][0],
                "scipy_seconds": first_below(theirs, level),
                "seconds": first_below(ours, level),
            }
        )
    start = np.concatenate([part.ravel() for part in parts])
    once = one_evaluation(begun, narrow)
    return {"starts": found, "evaluation": side_by_side({"NumPy": lambda: evaluate(start), "rarefire": once}, 10)}


def one_evaluation(model: rf.SparseAutoencoder, X: NDArray[np.float32]) -> Callable[[], Any]:
    """What evaluates our objective and its gradient once, in float32."""
    objective = model._objective()
    batch = Batch(ArraySource(X, Description("rows")), slice(None))
    at = model.fitted_model(torch.float32)
    return lambda: objective.evaluate(at, batch, {}, Generator(0, "none"))


def measure(quick: bool = False) -> dict[str, Any]:
    """Every problem whose data is at hand."""
    rows, starts, iterations = (1000, 1, 20) if quick else (10_000, 5, ITERATIONS)
    found: dict[str, Any] = {"rows": rows, "iterations": iterations, "problems": {}}
    for name, read, n_hidden, target, decay in PROBLEMS:
        try:
            X = read(rows)
        except NotAtHand:
            continue
        found["problems"][name] = problem(X, n_hidden, target, decay, starts=starts, iterations=iterations)
    return found


def spread(values: list[float]) -> str:
    """The median, with the lowest and the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def tell(found: dict[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """A heading, the rows of a table (the first is its head), and what is to be said of it."""
    head = (
        "problem",
        "NumPy and SciPy, until there (lowest to highest)",
        "ours, until there",
        "ratio",
        "one evaluation, NumPy",
        "ours",
    )
    rows: list[tuple[str, ...]] = [head]
    for name, entry in found["problems"].items():
        pairs = [(one["scipy_seconds"], one["seconds"]) for one in entry["starts"]]
        missed = sum(ours is None for _, ours in pairs)
        theirs, ours = ([math.inf if one is None else one for one in side] for side in zip(*pairs, strict=True))
        ratios = [one / other for one, other in zip(theirs, ours, strict=True)]
        rows.append(
            (
                name,
                spread(theirs) + " s",
                spread(ours) + " s" + (f", never from {missed} starts" if missed else ""),
                spread(ratios) + "×",
                told(entry["evaluation"]["NumPy"]),
                told(entry["evaluation"]["rarefire"]),
            )
        )
    said = [
        f"Until the objective of {found['rows']:,} rows is within 0.5% of where NumPy with SciPy's L-BFGS-B ends after "
        f"{found['iterations']} iterations, for both, in float64 there and float32 here, from the same initial "
        f"weights; medians over {max(len(entry['starts']) for entry in found['problems'].values())} starts.",
    ]
    return "Sparse autoencoder, L-BFGS", rows, said


if __name__ == "__main__":
    run(measure)
