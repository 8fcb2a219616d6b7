"""Source 000: the oriented edges that the author looked for in a Boltzmann machine, and did not find.

"I haven't really observed the edge or Gabor like patterns reported in the literature. Maybe my training data is too
small?" It was: what decides is the number of distinct patches. With 5,000, as in the source, a machine that sees as
many updates as another on 200,000 learns patches by heart. What else it takes is varied one at a time.

What is taken here: patches of 12×12 grey pixels from photographs halved in size, each without its mean, ZCA-whitened
with ε = 0.1 of the mean eigenvalue, and standardised; 144 hidden units, CD-1 with sampled visibles, momentum 0.9, rate
0.02, batches of 100, 96,000 updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure

from rarefire import plots
from rarefire.arguments import Free, Rule, Whole
from rarefire.data.images import extract_patches
from rarefire.data.source import ArraySource, Description, Source
from rarefire.estimators.gaussian import GaussianRBM
from rarefire.metrics import expected, gabor, median_of, metric
from rarefire.metrics.activity import unit_activity
from rarefire.metrics.filters import small_norms
from rarefire.penalties import ActivityPenalty, MeanActivity
from rarefire.preprocess import RemoveMean, Standardise, Step, ZCAWhitening
from rarefire.random import Generator
from rarefire.recipes import Arm, Recipe, grouped
from rarefire.recipes.patches import photographs
from rarefire.runs import Picture, Trained

BATCH = 100
#: Patches that activity is measured on.
ROWS = 20000


@dataclass(frozen=True)
class Setting:
    """One column of the ablation: what differs from the recipe's own setting, in ``name``."""

    name: str
    n_patches: int
    updates: int
    whitened: bool = True
    penalty: ActivityPenalty | None = None


class Edges(Recipe):
    """Oriented edges from a Gaussian machine on whitened patches, and what they depend on (source 000).

    Parameters
    ----------
    preset : str
        "faithful".
    seed : int
        The first seed.
    source : str or None
        A folder of photographs, or CIFAR-10's batches; None takes the two photographs that scikit-learn carries.
    repeats : int
        Number of fits of each setting, with patches and a seed of its own.
    n_patches : int
        Distinct patches.
    updates : int
        Mini-batch updates.
    side, n_components : int
        Height and width of a patch, and hidden units.
    ablation : bool
        Whether the machine is trained with fewer patches, fewer updates, without whitening (``plain``) and with the
        source's sparsity penalty (``penalised``) as well.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "seed": Whole(0),
        "source": Free(),
        "repeats": Whole(1),
        "n_patches": Whole(BATCH),
        "updates": Whole(1),
        "side": Whole(6),
        "n_components": Whole(1),
    }
    name = "edges"
    title = "A Boltzmann machine finds edges, given patches enough"
    document = "000"

    def __init__(
        self,
        preset: str = "faithful",
        seed: int = 0,
        source: str | None = None,
        repeats: int = 3,
        n_patches: int = 200000,
        updates: int = 96000,
        side: int = 12,
        n_components: int = 144,
        ablation: bool = True,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.source = source
        self.repeats = repeats
        self.n_patches = n_patches
        self.updates = updates
        self.side = side
        self.n_components = n_components
        self.ablation = ablation

    def settings(self) -> list[Setting]:
        """The recipe's own setting, then those that differ from it in one thing."""
        own = Setting("own", self.n_patches, self.updates)
        if not self.ablation:
            return [own]
        fewer = [n for n in (5000, 20000, 60000) if n < self.n_patches]
        return [
            own,
            *(replace(own, name=f"patches_{n}", n_patches=n) for n in fewer),
            *(replace(own, name=f"updates_{self.updates // k}", updates=self.updates // k) for k in (2, 4)),
            replace(own, name="plain", whitened=False),
            replace(own, name="penalised", penalty=MeanActivity(target=0.01, strength=1.0)),
        ]

    def arms(self) -> list[Arm]:
        """Every setting with every seed."""
        sources = [self._patches(seed) for seed in self._seeds]
        return [
            Arm(
                f"{setting.name}-{seed}",
                source.subset(np.arange(setting.n_patches)) if setting.n_patches < self.n_patches else source,
                self._machine(setting, seed),
                self._steps(setting),
            )
            for setting in self.settings()
            for seed, source in zip(self._seeds, sources, strict=True)
        ]

    @property
    def _seeds(self) -> range:
        return range(self.seed, self.seed + self.repeats)

    def _patches(self, seed: int) -> Source:
        photographed = photographs(self.source)
        patches, places = extract_patches(photographed.images, self.side, self.n_patches, Generator(seed, "patches"))
        notes = "grey, halved in size, patches at random places"
        description = Description(photographed.name, "image", (self.side,) * 2, notes=notes)
        return ArraySource(patches.astype(np.float32), description, provenance=photographed.provenance(places))

    def _machine(self, setting: Setting, seed: int) -> GaussianRBM:
        return GaussianRBM(
            n_components=self.n_components,
            learning_rate=0.02,
            momentum=0.9,
            batch_size=BATCH,
            n_iter=max(1, round(setting.updates * BATCH / setting.n_patches)),
            chain_visible="sample",
            penalty=setting.penalty,
            random_state=seed,
        )

    def _steps(self, setting: Setting) -> tuple[Step, ...]:
        whitening = (ZCAWhitening(epsilon=0.1),) if setting.whitened else ()
        return (RemoveMean(), *whitening, Standardise())

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """Edge share, dead units and activity: medians over seeds, of the other settings as ``..._NAME``."""
        entries = []
        for setting, fits in grouped(self.settings(), trained):
            own = setting.name == "own"
            for name, entry in median_of([self._measured(one) for one in fits]).items():
                if own and name == "edges":
                    entry = expected(entry, "0.90 or more", entry["value"] >= 0.9)
                elif own and name == "dead":
                    entry = expected(entry, "none", entry["value"] == 0)
                elif not own:
                    text = f"{setting.name.replace('_', ' ')}: {entry['explanation']}"
                    entry = {**entry, "name": f"{name}_{setting.name}", "explanation": text}
                entries.append(entry)
        return entries

    def _measured(self, one: Trained) -> dict[str, dict[str, Any]]:
        components = one.estimator.components_
        rows = one.train.rows(slice(0, ROWS))
        units = unit_activity([one.estimator.codes_and_active(rows)])
        entries = [
            metric(
                "edges",
                self._edge_share(one),
                "share",
                "filters that a Gabor pair explains, that oscillate, and that have an orientation",
            ),
            metric(
                "dead",
                (units.dead | small_norms(components)).sum(),
                "units",
                f"never E[h|v] > 0.5 on {len(rows)} patches, or with a filter below a tenth of the largest norm",
            ),
            metric("mean_activity", units.mean_code.mean(), "", f"mean of E[h|v] over units and {len(rows)} patches"),
        ]
        return {entry["name"]: entry for entry in entries}

    def _edge_share(self, one: Trained) -> float:
        return gabor.edge_likeness(one.estimator.components_, (self.side, self.side)).share

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """Filters of every setting, and the edge share by the number of distinct patches."""
        shape = (self.side, self.side)
        groups = grouped(self.settings(), trained)
        pictures = [
            Picture(
                "patches",
                "64 whitened patches, as the machine sees them",
                plots.grid(trained[0].train.rows(slice(0, 64)), shape),
            )
        ]
        for setting, fits in groups:
            order = np.argsort(-np.linalg.norm(fits[0].estimator.components_, axis=1), kind="stable")
            filters = plots.grid(fits[0].estimator.components_[order], shape)
            text = "Filters, largest first" if setting.name == "own" else f"The same, {setting.name.replace('_', ' ')}"
            pictures.append(Picture(f"filters-{setting.name}", text, filters))
        if self.ablation:
            chart = self._chart(
                [(s.n_patches, fits) for s, fits in groups if s.name.split("_")[0] in ("own", "patches")]
            )
            pictures.append(Picture("distinct", f"Edge share after {self.updates} updates, every fit", chart))
        return pictures

    def _chart(self, groups: Sequence[tuple[int, Sequence[Trained]]]) -> Figure:
        figure, axes = plots.one_chart(6.4, 3.8)
        for n_patches, fits in groups:
            shares = [self._edge_share(one) for one in fits]
            axes.plot([n_patches] * len(shares), shares, "o", color=plots.BLUE)
        axes.set_xscale("log")
        axes.set_xticks([n for n, _ in groups], [f"{n:,}" for n, _ in groups])
        axes.minorticks_off()
        axes.set_ylim(0, 1)
        axes.set_xlabel("distinct patches")
        axes.set_ylabel("share of edge-like filters")
        return figure
