"""Source 003: the divergence that keeps a unit's mean activation at its target, as a curve.

The source draws KL(ρ‖ρ̂) for ρ = 0.2 over ρ̂: zero at 0.2, growing without bound towards both ends. Here the curve is
that of the penalty itself, and beneath it stand the units of an autoencoder that was trained with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import NDArray

from rarefire import plots
from rarefire.arguments import Number, Rule, Whole
from rarefire.data.datasets import Digits
from rarefire.estimators.autoencoder import SparseAutoencoder
from rarefire.metrics import against, expected, metric
from rarefire.metrics.activity import unit_activity
from rarefire.penalties import KLDivergence
from rarefire.recipes import Arm, Recipe
from rarefire.runs import Picture, Trained


class KL(Recipe):
    """The divergence from ρ = 0.2 as a curve, and the units of an autoencoder on it (source 003).

    Parameters
    ----------
    preset : str
        "faithful".
    seed : int
        Fixes the autoencoder's initial weights.
    target : float
        ρ.
    n_components, max_iter : int
        Hidden units and iterations of the autoencoder, which learns scikit-learn's digits.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "seed": Whole(0),
        "target": Number(0, 1, above=True),
        "n_components": Whole(1),
        "max_iter": Whole(1),
    }
    name = "kl"
    title = "The divergence that keeps units at their target"
    document = "003"

    def __init__(
        self,
        preset: str = "faithful",
        seed: int = 0,
        target: float = 0.2,
        n_components: int = 25,
        max_iter: int = 200,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.target = target
        self.n_components = n_components
        self.max_iter = max_iter

    def arms(self) -> list[Arm]:
        """One autoencoder with this target."""
        model = SparseAutoencoder(
            n_components=self.n_components,
            penalty=KLDivergence(target=self.target, strength=3.0),
            solver="lbfgs",
            max_iter=self.max_iter,
            random_state=self.seed,
        )
        return [Arm("digits", Digits().open(), model)]

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """Where the curve is lowest, its value there and near the ends, and where the units are."""
        rates, curve = self._curve(100_000)
        lowest = int(curve.argmin())
        ends = KLDivergence(self.target).divergence(torch.tensor([1e-6, 1 - 1e-6], dtype=torch.float64))
        units = mean_rates(trained[0])
        entries = [
            metric("kl_lowest_at", rates[lowest], "", "mean rate at which the divergence is lowest"),
            metric("kl_lowest", curve[lowest], "nats", "the divergence there"),
            metric("kl_near_0", ends[0], "nats", "the divergence at a mean rate of 10⁻⁶"),
            metric("kl_near_1", ends[1], "nats", "the divergence at a mean rate of 1 − 10⁻⁶"),
            metric("unit_rate_median", np.median(units), "", "median over units of the mean rate after training"),
            metric("unit_rate_spread", units.std(), "", "standard deviation over units of the mean rate"),
        ]
        for place in (2, 3):
            entries[place] = expected(entries[place], "far above 0", entries[place]["value"] > 1)
        if self.target == 0.2:
            entries[0] = against(entries[0], 0.2, self.document, tolerance=1e-5)
            entries[1] = against(entries[1], 0.0, self.document, tolerance=1e-9)
        return [*entries, *trained[0].estimator.measure(trained[0].train, trained[0].held_out)]

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """The curve with the units on it."""
        return [
            Picture("curve", f"KL(ρ‖ρ̂) for ρ = {self.target:g}, and the trained units on it", self._chart(trained[0]))
        ]

    def _curve(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean rates strictly between 0 and 1, and the divergence at each, both of shape (n − 1,)."""
        rates = torch.arange(1, n, dtype=torch.float64) / n
        return rates.numpy(), KLDivergence(self.target).divergence(rates).numpy()

    def _chart(self, trained: Trained) -> Figure:
        figure, sides = plots.charts(2, 9.0, 3.6)
        # The divergence grows with the logarithm of the distance to either end, which a logistic axis shows.
        rates = 1 / (1 + np.exp(-np.linspace(-14, 14, 2001)))
        units = mean_rates(trained)
        curve, at_units = (KLDivergence(self.target).divergence(torch.from_numpy(q)).numpy() for q in (rates, units))
        for axes in sides:
            axes.plot(rates, curve, color=plots.BLUE, label="KL(ρ‖ρ̂)")
            axes.plot(self.target, 0, "o", color=plots.GREEN, markersize=9, fillstyle="none", label="its lowest point")
            axes.plot(units, at_units, "|", color=plots.VERMILION, markersize=12, label="trained units")
            axes.set_xlabel("mean rate ρ̂")
        sides[0].set_ylabel("divergence (nats)")
        sides[0].legend(frameon=False)
        sides[1].set_xscale("logit")
        sides[1].xaxis.set_major_locator(FixedLocator([1e-6, 1e-4, 0.01, 0.2, 0.99, 1 - 1e-4, 1 - 1e-6]))
        sides[1].xaxis.set_major_formatter(FixedFormatter(["10⁻⁶", "10⁻⁴", "0.01", "0.2", "0.99", "1−10⁻⁴", "1−10⁻⁶"]))
        sides[1].xaxis.set_minor_locator(NullLocator())
        sides[1].set_xlabel("mean rate ρ̂, logistic axis")
        return figure


def mean_rates(trained: Trained) -> NDArray[np.float64]:
    """Mean rate of each unit over the training rows, of shape (n_components,)."""
    return unit_activity(map(trained.estimator.codes_and_active, trained.train.batches())).mean_code
