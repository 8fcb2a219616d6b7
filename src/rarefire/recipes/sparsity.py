"""Source 000, second part: a penalty on mean activity leaves a large part of the filters near zero.

"Quite a large portion of the weights are nearly zeroed out. The remaining ones have managed to learn a general contrast
pattern. It's interesting to see how smooth they are. I wonder if there is an implicit L2 weight decay." And: "it means
we have to use more hidden units in the hope of finding more meaningful patterns. If I keep the same number of units but
increase the sparsity target then it approaches the random like patterns." All of it is measured here, with what cures
the waste beside it: whitened pictures, and a penalty on each unit.

What the source leaves open, and what is taken here: the factor 1/(NM) that it dropped leaves either K(s − t) on each of
the N×M entries (``entries``), or that over N, as the other gradients are averages over the batch (``units``, taken);
both are shown. Where filters vanish at all, visibles and the hidden units of the positive statistics are sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import Figure

from rarefire import plots
from rarefire.metrics import expected, filters, median_of, metric
from rarefire.metrics.activity import unit_activity
from rarefire.penalties import L2, ActivityPenalty, MeanActivity, NoPenalty, RunningCrossEntropy, TargetMeanOfBiases
from rarefire.preprocess import RemoveMean, Standardise, Step, ZCAWhitening
from rarefire.recipes import Arm
from rarefire.recipes.standardised import Standardised
from rarefire.runs import Picture, Trained

SAMPLED = {"chain_visible": "sample", "positive_hidden": "sample"}
NOISE_FREE = {"chain_visible": "mean"}
OWN = MeanActivity(target=0.01, strength=1.0, scale="units")
TARGETS = (0.05, 0.1, 0.2, 0.3, 0.5)
DECAYS = (0.003, 0.01, 0.03, 0.1)
SIZES = (200, 400)
#: At the source's rate 400 units diverge, so that units are counted at a rate that all sizes bear.
RATE, SIZES_RATE = 0.05, 0.0125
#: A filter is of use if its norm is above this share of the largest.
USEFUL = 0.1


#: What was measured of each fit, by the name of its arm and of the measure.
Seen: TypeAlias = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Kind:
    """One way to train: the machine's arguments, and how pictures are prepared."""

    name: str
    words: str
    arguments: dict[str, Any]
    steps: tuple[Step, ...] = field(default=())


def kinds(n_components: int) -> list[Kind]:
    """Every way, the source's own first."""

    def with_penalty(penalty: ActivityPenalty, **others: Any) -> dict[str, Any]:
        return {"learning_rate": RATE, "penalty": penalty, **SAMPLED, **others}

    none = NoPenalty()
    whitened = (RemoveMean(), ZCAWhitening(epsilon=0.1), Standardise())
    cross_entropy = RunningCrossEntropy(target=0.085, strength=1.0, averaging=0.95, biases_only=True)
    squared = TargetMeanOfBiases(target=0.085, strength=10.0)
    return [
        Kind("own", "penalty, visibles sampled", with_penalty(OWN)),
        Kind("none", "no penalty, visibles sampled", with_penalty(none)),
        Kind("noise_free", "penalty, visibles noise-free", {"learning_rate": RATE, "penalty": OWN, **NOISE_FREE}),
        Kind("none_noise_free", "no penalty, visibles noise-free", {"learning_rate": RATE, **NOISE_FREE}),
        Kind("entries", "penalty on entries", with_penalty(MeanActivity(target=0.01, scale="entries"))),
        *(Kind(f"target_{t:g}", f"target {t:g}", with_penalty(MeanActivity(target=t))) for t in TARGETS),
        *(Kind(f"l2_{d:g}", f"no penalty, L2 {d:g}", with_penalty(none, weight_decay=L2(d))) for d in DECAYS),
        *(
            Kind(
                f"units_{n}",
                f"{n} units, rate {SIZES_RATE:g}",
                with_penalty(OWN, n_components=n, learning_rate=SIZES_RATE),
            )
            for n in (n_components, *SIZES)
        ),
        Kind("per_unit", "penalty on each unit", with_penalty(cross_entropy)),
        Kind("whitened", "penalty, whitened", with_penalty(OWN), whitened),
        Kind("cure", "penalty on each unit, whitened", with_penalty(cross_entropy), whitened),
        Kind("cure_squared", "squared penalty on each unit, whitened", with_penalty(squared), whitened),
    ]


class Sparsity(Standardised):
    """The penalty on mean activity, what it wastes, and what cures that (source 000).

    Arguments are those of :class:`Standardised`.
    """

    name = "sparsity"
    title = "A penalty on mean activity, and the filters that it wastes"

    def arms(self) -> list[Arm]:
        """The source's own, refined, then every way and refinement with every seed."""
        arms = []
        for seed in self.seeds:
            images = self.images(seed)
            for kind in kinds(self.n_components):
                arm = Arm(f"{kind.name}-{seed}", images, self.machine(seed, **kind.arguments), kind.steps)
                arms.append(arm)
                if kind.name == "own":
                    refined = self.refined(arm)
                    arms.insert(0 if seed == self.seed else len(arms), refined)
        return arms

    def _fits(self, trained: Sequence[Trained], name: str) -> list[Trained]:
        by_name = {one.name: one for one in trained}
        head, _, stage = name.partition("-")
        return [by_name[f"{head}-{seed}{'-' if stage else ''}{stage}"] for seed in self.seeds]

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """Filters and activity of every way, medians over seeds: ``MEASURE_KIND``, of the source's own ``MEASURE``."""
        entries: dict[str, dict[str, Any]] = {}
        ways = [(kind.name, kind.words) for kind in kinds(self.n_components)]
        for name, words in [*ways, ("own-refined", "penalty, visibles sampled, refined")]:
            end = {"own": "", "own-refined": "_refined"}.get(name, f"_{name}")
            for measure, entry in median_of([self.looked_at(one) for one in self._fits(trained, name)]).items():
                full = f"{measure}{end}"
                entries[full] = {**entry, "name": full, "explanation": f"{entry['explanation']}; {words}"}

        def says(name: str, words: str, met: bool) -> None:
            entries[name] = expected(entries[name], words, met)

        def value(name: str) -> float:
            return entries[name]["value"]

        says("small", "a large portion", value("small") >= 0.4)
        says("small_refined", "a large portion", value("small_refined") >= 0.4)
        says("small_none", "less than with the penalty", value("small_none") < value("small"))
        says("small_noise_free", "none or hardly any", value("small_noise_free") <= 0.05)
        says("roughness", "smoother than without the penalty: less", value("roughness") < value("roughness_none"))
        last = f"roughness_target_{TARGETS[-1]:g}"
        says(last, "towards random patterns: more than at 0.01", value(last) > value("roughness"))
        for name in ("cure", "cure_squared"):
            says(f"dead_{name}", "none", value(f"dead_{name}") == 0)
            near = abs(value(f"activity_{name}") - value("activity")) <= 0.15 * value("activity")
            says(f"activity_{name}", "that of the source's own, within 15%", near)
        return list(entries.values())

    def looked_at(self, one: Trained) -> dict[str, dict[str, Any]]:
        """What is measured of one machine, by name."""
        weights = one.estimator.components_
        norms = np.linalg.norm(weights, axis=1)
        large = ~filters.small_norms(weights, USEFUL)
        activity = unit_activity(one.estimator.codes_and_active(rows) for rows in one.train.batches())
        entries = [
            metric("small", 1 - large.mean(), "share", "filters below a tenth of the largest norm"),
            metric("useful", large.sum(), "units", "filters above a tenth of the largest norm"),
            metric(
                "dead",
                (~large | activity.dead).sum(),
                "units",
                "below a tenth of the largest norm, or E[h|v] never above 0.5",
            ),
            metric("activity", activity.mean_code.mean(), "", "mean of E[h|v] over units and pictures"),
            metric("norm", np.sqrt((norms**2).mean()), "", "root mean square of the filters' norms"),
            metric(
                "roughness",
                filters.roughness(weights[large], self.shape).mean(),
                "",
                "squared differences of neighbouring weights over squares, mean over useful filters",
            ),
        ]
        return {entry["name"]: entry for entry in entries}

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """Filters of the main ways, norms against roughness, useful filters by units, and the trend in the target."""
        shown = {
            "own": "the source's penalty, visibles sampled",
            "own-refined": "the same, refined",
            "none": "no penalty, visibles sampled",
            "noise_free": "the penalty, visibles noise-free",
            "entries": "the penalty with its factor on every entry",
            f"target_{TARGETS[-2]:g}": f"target {TARGETS[-2]:g}",
            "per_unit": "a penalty on each unit",
            "whitened": "the source's penalty, whitened pictures",
            "cure": "a penalty on each unit, whitened pictures",
        }
        pictures = []
        for name, words in shown.items():
            weights = self._fits(trained, name)[0].estimator.components_
            order = np.argsort(-np.linalg.norm(weights, axis=1), kind="stable")
            pictures.append(
                Picture(
                    name.replace("_", "-"),
                    f"Filters on one scale, {words}; largest first",
                    plots.grid(weights[order], self.shape, limit=np.abs(weights).max()),
                )
            )
        seen = {one.name: self.looked_at(one) for one in trained}
        return [
            *pictures,
            Picture(
                "hidden-decay",
                "Norm and roughness of filters: the penalty, neither, and L2 decay; every fit",
                self._decays(seen),
            ),
            Picture("useful", f"Useful filters by hidden units, rate {SIZES_RATE:g}; every fit", self._sizes(seen)),
            Picture("targets", "Share of small filters, and mean activity, by target; every fit", self._trend(seen)),
        ]

    def _points(self, seen: Seen, name: str, measure: str) -> list[float]:
        return [seen[f"{name}-{seed}"][measure]["value"] for seed in self.seeds]

    def _decays(self, seen: Seen) -> Figure:
        figure, axes = plots.one_chart(6.4, 3.8)
        groups = {
            "penalty": (["own"], plots.VERMILION),
            "neither": (["none"], plots.BLUE),
            "L2": ([f"l2_{d:g}" for d in DECAYS], plots.GREEN),
        }
        for words, (names, colour) in groups.items():
            norms = [x for name in names for x in self._points(seen, name, "norm")]
            smooth = [x for name in names for x in self._points(seen, name, "roughness")]
            axes.plot(norms, smooth, "o", color=colour, label=words)
        axes.set_xlabel("root mean square of the filters' norms")
        axes.set_ylabel("roughness of useful filters")
        axes.legend(frameon=False)
        return figure

    def _sizes(self, seen: Seen) -> Figure:
        figure, axes = plots.one_chart(6.4, 3.8)
        for n in (self.n_components, *SIZES):
            points = self._points(seen, f"units_{n}", "useful")
            axes.plot([n] * len(points), points, "o", color=plots.BLUE)
        axes.set_xlim(0, None)
        axes.set_ylim(0, None)
        axes.set_xlabel("hidden units")
        axes.set_ylabel("useful filters")
        return figure

    def _trend(self, seen: Seen) -> Figure:
        figure, axes = plots.one_chart(6.4, 3.8)
        targets = {OWN.target: "own", **{t: f"target_{t:g}" for t in TARGETS}}
        for measure, words, colour in (
            ("small", "share of filters below a tenth of the largest norm", plots.BLUE),
            ("activity", "mean activity", plots.VERMILION),
        ):
            for t, name in targets.items():
                points = self._points(seen, name, measure)
                axes.plot([t] * len(points), points, "o", color=colour, label=words if name == "own" else None)
        axes.set_xlim(0, None)
        axes.set_ylim(0, None)
        axes.set_xlabel("target")
        axes.legend(frameon=False)
        return figure
