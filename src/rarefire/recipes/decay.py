"""Source 000, first part: what weight decay does to the features of a Gaussian machine.

The source shows three panels of 100 filters: without decay "pretty random and meaningless", with L1 "stronger localised
spot like features", with L2 "a bunch of random patterns except smoother", which "has the effect of smoothing the
reconstruction image". It is amazed how well random patterns reconstruct. What is said of the panels is measured here,
before and after refinement by an autoencoder.

What it leaves open, and what is taken here: the multipliers 0.01 and 0.1 are λ of λ Σ|w| and of λ/2 Σw², and
reconstructions in training are noise-free. With sampled ones (``chain_visible=sample``) filters are brightness and
noise in every panel, and L1 leaves few weights near zero: the noise in the gradient outweighs λ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rarefire import plots
from rarefire.metrics import expected, filters, median_of, metric
from rarefire.penalties import L1, L2, NoPenalty, WeightPenalty
from rarefire.recipes import Arm
from rarefire.recipes.standardised import Standardised
from rarefire.runs import Picture, Trained

PANELS: dict[str, WeightPenalty] = {"none": NoPenalty(), "l1": L1(0.01), "l2": L2(0.1)}
WORDS = {"none": "without decay", "l1": "L1 0.01", "l2": "L2 0.1"}
STAGES = {"": "before refinement", "_refined": "after refinement"}

#: What the source says of a panel: (measure, panel, whether more or less than without decay, in words).
SAID = (
    ("near_zero", "l1", 1, "more than without decay"),
    ("kurtosis", "l1", 1, "more than without decay: spots"),
    ("spread", "l1", -1, "less than without decay: localised"),
    ("smoothness", "l2", 1, "more than without decay"),
    ("roughness", "l2", -1, "less than without decay: smoother reconstructions"),
)


class Decay(Standardised):
    """Weight decay, none, L1 and L2, before and after refinement (source 000).

    Arguments are those of :class:`Standardised`.
    """

    name = "decay"
    title = "Weight decay turns random patterns into spots, or smooths them"

    def arms(self) -> list[Arm]:
        """For each panel and seed a machine and its refinement; the first is the refined machine with L1."""
        machines, refined = {}, {}
        for seed in self.seeds:
            images = self.images(seed)
            for panel, decay in PANELS.items():
                machine = self.machine(seed, learning_rate=0.01, weight_decay=decay, chain_visible="mean")
                machines[panel, seed] = Arm(f"{panel}-{seed}", images, machine)
                refined[panel, seed] = self.refined(machines[panel, seed])
        first = refined.pop(("l1", self.seed))
        return [first, *machines.values(), *refined.values()]

    def _found(self, trained: Sequence[Trained], panel: str, stage: str) -> list[Trained]:
        """The fits of a panel, one for each seed, in one of the stages."""
        by_name = {one.name: one for one in trained}
        return [by_name[f"{panel}-{seed}{stage.replace('_', '-')}"] for seed in self.seeds]

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """Filters and reconstructions of every panel in both stages: medians over seeds, as ``MEASURE_PANEL_STAGE``."""
        entries: dict[str, dict[str, Any]] = {}
        for stage, when in STAGES.items():
            for panel in PANELS:
                fits = median_of([self.looked_at(one) for one in self._found(trained, panel, stage)])
                for name, entry in fits.items():
                    full = f"{name}_{panel}{stage}"
                    text = f"{entry['explanation']}; {WORDS[panel]}, {when}"
                    entries[full] = {**entry, "name": full, "explanation": text}
            for name, panel, sign, words in SAID:
                one, other = entries[f"{name}_{panel}{stage}"], entries[f"{name}_none{stage}"]
                entries[one["name"]] = expected(one, words, sign * (one["value"] - other["value"]) > 0)
        half = entries["activity_none"]
        entries["activity_none"] = expected(half, "about a half", abs(half["value"] - 0.5) <= 0.05)
        first = [np.linalg.eigvalsh(np.cov(self.images(seed).rows(slice(None)).T)) for seed in self.seeds]
        text = "variance of the pictures that one direction holds, their brightness more or less; median over seeds"
        share = float(np.median([values[-1] / values.sum() for values in first]))
        entries["first_component"] = metric("first_component", share, "share", text)
        well = entries["r2_none"]
        entries["r2_none"] = expected(well, "quite well: 0.9 or more", well["value"] >= 0.9)
        return list(entries.values())

    def looked_at(self, one: Trained) -> dict[str, dict[str, Any]]:
        """What is measured of one fit, by name; its filters are what a unit adds to a reconstruction."""
        weights = one.estimator.components_
        rows = one.train.rows(slice(None))
        codes = one.estimator.transform(rows)
        again = one.estimator.inverse_transform(codes)
        live = weights[np.ptp(weights, axis=1) > 0]  # a filter without weights has no shape
        entries = [
            metric(
                "near_zero",
                filters.near_zero_share(weights),
                "share",
                "weights below a tenth of their root mean square",
            ),
            metric(
                "kurtosis",
                filters.kurtosis(live).mean(),
                "",
                "excess kurtosis of a filter's weights, mean over filters",
            ),
            metric("spread", filters.spread(live, self.shape).mean(), "pixels", "spatial spread of a filter, mean"),
            metric(
                "smoothness",
                filters.smoothness(live, self.shape).mean(),
                "",
                "correlation of neighbouring weights, mean",
            ),
            metric(
                "small",
                filters.small_norm_share(weights),
                "share",
                "filters with less than a tenth of the largest norm",
            ),
            metric("activity", codes.mean(), "", "mean of E[h|v] over units and pictures"),
            metric("r2", filters.r_squared(rows, again), "share", "variance of the pictures that reconstructions keep"),
            metric(
                "roughness",
                np.average(filters.roughness(again, self.shape), weights=(again**2).sum(axis=1)),
                "",
                "squared differences of neighbouring pixels over squares, reconstructions",
            ),
        ]
        return {entry["name"]: entry for entry in entries}

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """The panels before and after refinement, and some pictures with their reconstructions."""
        pictures = []
        for stage, when in STAGES.items():
            for panel in PANELS:
                weights = self._found(trained, panel, stage)[0].estimator.components_
                caption = f"Filters {WORDS[panel]}, {when}"
                pictures.append(Picture(f"{panel}{stage}".replace("_", "-"), caption, plots.grid(weights, self.shape)))
        for stage, when in STAGES.items():
            name = f"reconstructions{stage}".replace("_", "-")
            text = f"Pictures, and their reconstructions without decay, with L1 and with L2, {when}"
            pictures.append(Picture(name, text, self._reconstructions(trained, stage)))
        return pictures

    def _reconstructions(self, trained: Sequence[Trained], stage: str, n: int = 16) -> Figure:
        fits = [self._found(trained, panel, stage)[0] for panel in PANELS]
        rows = fits[0].train.rows(slice(0, n))
        again = [one.estimator.inverse_transform(one.estimator.transform(rows)) for one in fits]
        return plots.grid(np.concatenate([rows, *again]), self.shape, columns=n)
