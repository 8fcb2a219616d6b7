"""Source 001, its second exercise: pen strokes from handwritten digits.

The exercise that the source works through gives the settings: the first 10,000 digits of MNIST, 784-196-784, target
0.1, weight decay 3e-3, sparsity weight 3, 400 iterations. The source shows the weights as a picture of strokes. It ran
out of memory and made eight runs of 50 iterations, each begun with the last one's weights; ``warm_start=True`` does
that, and is not needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from rarefire import plots
from rarefire.arguments import Free, Rule, Whole
from rarefire.data.datasets import MNIST, Digits
from rarefire.data.open import open_source
from rarefire.data.source import Source
from rarefire.errors import NotAtHand
from rarefire.metrics import against
from rarefire.recipes import Arm, Recipe
from rarefire.recipes.patches import autoencoder_of_source, gradient_gap
from rarefire.runs import Picture, Trained

TARGET = 0.1


class Strokes(Recipe):
    """Handwritten digits: features that are pen strokes (source 001).

    MNIST where it is at hand (see the dataset ``mnist``), and the smaller digits of scikit-learn where it is not: the
    run says which.

    Parameters
    ----------
    preset : str
        "faithful".
    seed : int
        Fixes the initial weights.
    source : str or None
        Other data, with values in [0, 1]; None takes the digits.
    n_samples : int
        The first so many rows.
    n_components : int or None
        Hidden units; None is a quarter of the pixels, 196 of 784 as in the source.
    max_iter : int
        Iterations.
    check_gradient : bool
        Whether the gradient is compared with differences: "extremely slow on this MNIST dataset", says the source, so
        it is off.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "seed": Whole(0),
        "source": Free(),
        "n_samples": Whole(10),
        "n_components": Whole(1, none=True),
        "max_iter": Whole(1),
    }
    name = "strokes"
    title = "A sparse autoencoder learns pen strokes"
    document = "001"

    def __init__(
        self,
        preset: str = "faithful",
        seed: int = 0,
        source: str | None = None,
        n_samples: int = 10000,
        n_components: int | None = None,
        max_iter: int = 400,
        check_gradient: bool = False,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.source = source
        self.n_samples = n_samples
        self.n_components = n_components
        self.max_iter = max_iter
        self.check_gradient = check_gradient

    def arms(self) -> list[Arm]:
        """One fit."""
        rows = self._rows()
        rows = rows.subset(np.arange(min(self.n_samples, rows.shape[0])))
        n_components = self.n_components or max(1, rows.shape[1] // 4)
        return [Arm("digits", rows, autoencoder_of_source(n_components, TARGET, 3e-3, self.max_iter, self.seed))]

    def _rows(self) -> Source:
        if self.source is not None:
            return open_source(self.source)
        try:
            return MNIST().open()
        except NotAtHand:
            source = Digits().open()
            notes = f"{source.description.notes}; scikit-learn's digits in place of MNIST, which is not at hand"
            source.description = replace(source.description, notes=notes)
            return source

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """Cost, activity, and the mean rate beside its target."""
        (one,) = trained
        entries = {entry["name"]: entry for entry in one.estimator.measure(one.train, one.held_out)}
        if one.train.description.name == "mnist":  # the source's figures are for no other data
            entries["mean_rate"] = against(entries["mean_rate"], TARGET, self.document, tolerance=0.02)
        if self.check_gradient:
            entries["gradient_gap"] = gradient_gap(one)
        return list(entries.values())

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """Optimal inputs, and digits above their reconstructions."""
        (one,) = trained
        shape = one.train.description.shape
        if one.train.description.kind != "image" or shape is None:
            return []
        rows = one.train.rows(slice(0, 10))
        again = one.estimator.inverse_transform(one.estimator.transform(rows))
        pairs = plots.grid(np.concatenate([rows, again]), shape, columns=len(rows), mode="positive")
        return [
            Picture(
                "strokes", "The inputs that excite each unit most", plots.grid(one.estimator.optimal_inputs(), shape)
            ),
            Picture("reconstructions", "Digits, and below them their reconstructions", pairs),
        ]
