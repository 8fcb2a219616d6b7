"""Source 002: how cost and activity depend on the number of hidden units."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rarefire import plots
from rarefire.arguments import Rule, Several, Whole
from rarefire.data.datasets import Lines as LineImages
from rarefire.metrics import against, median, metric
from rarefire.recipes import Arm, Recipe
from rarefire.recipes.lines import machine_of_source, measure_machine
from rarefire.runs import Picture, Trained

#: Laws of the cost in the number of units N, from slower to faster than log N; each is fitted as a + b f(N).
LAWS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "log_log": lambda n: np.log(np.log(n)),
    "log": np.log,
    "square_root": np.sqrt,
}


class LinesUnits(Recipe):
    """Cost and activity on lines against the number of hidden units, 10 to 200 (source 002).

    Parameters
    ----------
    preset : str
        As for the recipe ``lines``.
    seed : int
        The first seed.
    repeats : int
        Machines for each number of units; figures are medians over them.
    units : tuple of int
        The numbers of hidden units; the largest is the run's own. Laws are fitted to three or more.
    n_samples : int
        Pictures, a tenth of them held out.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "seed": Whole(0),
        "repeats": Whole(1),
        "units": Several(Whole(2)),  # of one unit there is no log log
        "n_samples": Whole(20),
    }
    name = "lines-units"
    title = "How many hidden units do lines need?"
    document = "002"
    presets: ClassVar[tuple[str, ...]] = ("faithful", "best")

    def __init__(
        self,
        preset: str = "faithful",
        seed: int = 0,
        repeats: int = 3,
        units: Sequence[int] = (10, 20, 40, 67, 100, 150, 200),
        n_samples: int = 3000,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.repeats = repeats
        self.units = units
        self.n_samples = n_samples

    def arms(self) -> list[Arm]:
        """Machines of every size, the largest first."""
        return [
            Arm(
                f"units-{n}-seed-{seed}",
                LineImages(n_samples=self.n_samples, seed=seed).open(),
                machine_of_source(self.preset, n, seed),
            )
            for n in sorted(self.units, reverse=True)
            for seed in range(self.seed, self.seed + self.repeats)
        ]

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """Medians for each number of units, and how well each law of the cost fits."""
        entries: list[dict[str, Any]] = []
        for n, measured in medians(trained).items():
            chosen = ["cost", "cost_mean_field", "cv_cost", "cv_cost_mean_field", "exact_cost", "exact_cost_mean_field"]
            for name in [*(name for name in chosen if name in measured), "active_mean", "active_max"]:
                entry = {
                    **measured[name],
                    "name": f"{name}_{n}",
                    "explanation": f"{n} units: {measured[name]['explanation']}",
                }
                if n == 200 and self.preset == "faithful":
                    if name in ("cost", "cv_cost"):
                        entry = against(entry, 0.002, self.document, tolerance=0.0005, better="lower")
                    elif name == "active_mean":
                        entry = against(entry, 100, self.document, tolerance=20, better="equal")
                entries.append(entry)
        sizes, costs = curve(entries, "cost")
        if len(sizes) < 3:
            return entries
        for what, values in (("cost", costs), ("ln cost", np.log(costs))):
            for law, f in LAWS.items():
                text = f"share of variance that {what} = a + b·{law}(units) explains"
                entries.append(metric(f"r2_{what.replace(' ', '_')}_{law}", explained(f(sizes), values), "", text))
        return entries

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """Cost and active units against the number of units."""
        return [
            Picture(
                "cost-units", "Cost by number of hidden units (medians), with the laws fitted", cost_by_size(metrics)
            ),
            Picture("active-units", "Active units by number of hidden units (medians)", active_by_size(metrics)),
        ]


def medians(trained: Sequence[Trained]) -> dict[int, dict[str, dict[str, Any]]]:
    """For each number of units, every entry as the median over its machines."""
    groups: dict[int, list[dict[str, dict[str, Any]]]] = {}
    for one in sorted(trained, key=lambda one: one.estimator.n_components):
        measured = {entry["name"]: entry for entry in measure_machine(one)}
        groups.setdefault(one.estimator.n_components, []).append(measured)
    return {n: {name: median([one[name] for one in group]) for name in group[0]} for n, group in groups.items()}


def curve(metrics: Sequence[dict[str, Any]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers of units N, and the value of the entry ``name_N`` at each; both empty where there is none."""
    found = [(re.fullmatch(rf"{name}_(\d+)", entry["name"]), entry["value"]) for entry in metrics]
    points = np.array([(int(match[1]), value) for match, value in found if match], dtype=float).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def explained(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """R² of the straight line through y against x."""
    rest = y - np.polyval(np.polyfit(x, y, 1), x)
    return float(1 - rest.var() / y.var())


def cost_by_size(metrics: Sequence[dict[str, Any]]) -> Figure:
    """Cost against the number of units, both axes logarithmic, with the laws of ln cost."""
    figure, axes = plots.one_chart(6.4, 4.2)
    curves = (
        ("cost", "training", plots.BLUE, "-"),
        ("cost_mean_field", "training, mean-field", plots.BLUE, "--"),
        ("cv_cost", "held out", plots.VERMILION, "-"),
        ("cv_cost_mean_field", "held out, mean-field", plots.VERMILION, "--"),
    )
    for name, label, colour, style in curves:
        sizes, costs = curve(metrics, name)
        if len(sizes):  # without held-out rows two of them are missing
            axes.plot(sizes, costs, style, marker="o", markersize=4, color=colour, label=label)
    sizes, costs = curve(metrics, "cost")
    fine = np.geomspace(sizes[0], sizes[-1], 200)
    for (law, f), style in zip(LAWS.items() if len(sizes) > 2 else (), (":", "-.", "--"), strict=False):
        line = np.polyfit(f(sizes), np.log(costs), 1)
        axes.plot(fine, np.exp(np.polyval(line, f(fine))), linestyle=style, color="0.45", label=f"ln cost, {law} law")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{n:g}" for n in sizes])
    axes.minorticks_off()
    axes.set_xlabel("hidden units")
    axes.set_ylabel("cost (nats per pixel)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def active_by_size(metrics: Sequence[dict[str, Any]]) -> Figure:
    """Mean and most active units against the number of units."""
    figure, axes = plots.one_chart(6.4, 3.8)
    for name, label, colour in (("active_max", "most", plots.VERMILION), ("active_mean", "mean", plots.BLUE)):
        sizes, active = curve(metrics, name)
        axes.plot(sizes, active, marker="o", markersize=4, color=colour, label=label)
    axes.plot(sizes, sizes / 2, linestyle=":", color="0.45", label="half of the units")
    axes.set_xlabel("hidden units")
    axes.set_ylabel("active units a picture")
    axes.legend(frameon=False)
    return figure
