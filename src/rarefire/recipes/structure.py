"""Source 003, its key idea: what an autoencoder discovers is structure; where there is none, nothing compresses.

"Suppose the inputs were independent Gaussian: the task of compression would be very difficult. If there is structure,
correlated inputs, the algorithm discovers it." Natural patches of 10×10 pixels stand against independent Gaussian
numbers with the same variances, pixel by pixel, in a bottleneck of 50 units and with 200 sparse units. Principal
components are the best that 50 linear units can do, so their explained variance is the optimum beside ours.

The source gives no figures; what must come out is an order: patches well above noise, and noise near 50/100. The 200
units need a weight decay that counts: the sparsity penalty holds mean rates alone, and with small weight decay units
hover about their target, never fire, and are read by large decoder weights as a linear map would read them, on noise
and on patches alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from rarefire import plots
from rarefire.arguments import Free, Number, Rule, Whole
from rarefire.data.images import extract_patches
from rarefire.data.source import ArraySource, Description, Source
from rarefire.estimators.autoencoder import SparseAutoencoder
from rarefire.metrics import expected, metric
from rarefire.penalties import L2, ActivityPenalty, KLDivergence, NoPenalty
from rarefire.random import Generator
from rarefire.recipes import Arm, Recipe
from rarefire.recipes.patches import photographs
from rarefire.runs import Picture, Trained

SIDE = 10


class Structure(Recipe):
    """Natural patches against independent Gaussian numbers: structure compresses, noise does not (source 003).

    Parameters
    ----------
    preset : str
        "faithful".
    seed : int
        Fixes patches, noise, held-out rows and initial weights.
    source : str or None
        A folder of photographs; None takes the two that scikit-learn carries.
    n_samples : int
        Patches, a fifth of them held out.
    n_bottleneck, n_sparse : int
        Hidden units of the small and of the sparse autoencoder.
    sparse_decay : float
        Weight decay of the sparse autoencoder.
    max_iter : int
        Iterations.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "seed": Whole(0),
        "source": Free(),
        "n_samples": Whole(200),
        "n_bottleneck": Whole(1),
        "n_sparse": Whole(1),
        "sparse_decay": Number(0),
        "max_iter": Whole(1),
    }
    name = "structure"
    title = "Structure compresses, noise does not"
    document = "003"

    def __init__(
        self,
        preset: str = "faithful",
        seed: int = 0,
        source: str | None = None,
        n_samples: int = 10000,
        n_bottleneck: int = 50,
        n_sparse: int = 200,
        sparse_decay: float = 0.05,
        max_iter: int = 400,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.source = source
        self.n_samples = n_samples
        self.n_bottleneck = n_bottleneck
        self.n_sparse = n_sparse
        self.sparse_decay = sparse_decay
        self.max_iter = max_iter

    def arms(self) -> list[Arm]:
        """Patches and noise, each with the bottleneck and with sparse units."""
        patches = self._patches()
        noise = self._noise(patches)
        models: dict[str, tuple[int, ActivityPenalty, float]] = {
            "sparse": (self.n_sparse, KLDivergence(target=0.05, strength=3.0), self.sparse_decay),
            "bottleneck": (self.n_bottleneck, NoPenalty(), 1e-5),
        }
        return [
            Arm(f"{kind}-{name}", source, self._model(*settings))
            for kind, source in (("patches", patches), ("noise", noise))
            for name, settings in models.items()
        ]

    def _model(self, n_components: int, penalty: ActivityPenalty, decay: float) -> SparseAutoencoder:
        return SparseAutoencoder(
            n_components=n_components,
            penalty=penalty,
            weight_decay=L2(decay),
            solver="lbfgs",
            max_iter=self.max_iter,
            validation_fraction=0.2,
            random_state=self.seed,
        )

    def _patches(self) -> Source:
        photographed = photographs(self.source)
        patches, places = extract_patches(photographed.images, SIDE, self.n_samples, Generator(self.seed, "patches"))
        rows = patches.astype(np.float64)
        rows -= rows.mean(axis=1, keepdims=True)
        rows /= rows.std()
        notes = "grey, halved in size, mean of each patch removed, divided by one number to a variance of 1"
        description = Description(photographed.name, "image", (SIDE, SIDE), notes=notes)
        return ArraySource(rows, description, provenance=photographed.provenance(places))

    def _noise(self, patches: Source) -> Source:
        deviations = patches.rows(slice(None)).std(axis=0)
        draws = Generator(self.seed, "noise").normal((self.n_samples, SIDE**2), torch.float64).numpy()
        notes = "independent normal numbers with the variances of the patches' pixels"
        return ArraySource(draws * deviations, Description("noise", "image", (SIDE, SIDE), notes=notes))

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """Held-out explained variance of every model, and of as many principal components as the bottleneck has."""
        entries = []
        for kind, group in (("patches", trained[:2]), ("noise", trained[2:])):
            for name, one in zip(("sparse", "bottleneck"), group, strict=True):
                own = {entry["name"]: entry for entry in one.estimator.measure(one.train, one.held_out)}
                value = own["cv_explained_variance"]["value"]
                text = f"held-out variance of {kind} explained by {len(one.estimator.components_)} units"
                entries.append(metric(f"{kind}_{name}", value, "share", text))
                if name == "sparse":
                    text = f"mean rate of the sparse units on {kind}, whose target is 0.05"
                    entries.append(metric(f"{kind}_mean_rate", own["mean_rate"]["value"], "", text))
                    text = f"sparse units with a rate above 0.5, mean over the training rows of {kind}"
                    entries.append(metric(f"{kind}_active", own["active_mean"]["value"], "units", text))
            text = (
                f"held-out variance of {kind} explained by {self.n_bottleneck} principal components, the linear optimum"
            )
            entries.append(metric(f"{kind}_pca", explained_by_pca(group[0], self.n_bottleneck), "share", text))
        value = {entry["name"]: entry["value"] for entry in entries}
        outcomes = {
            "patches_bottleneck": ("near patches_pca", value["patches_bottleneck"] > value["patches_pca"] - 0.05),
            "noise_bottleneck": ("near noise_pca", abs(value["noise_bottleneck"] - value["noise_pca"]) < 0.05),
            "noise_pca": ("near 0.5", abs(value["noise_pca"] - 0.5) < 0.1),
            "patches_sparse": ("above noise_sparse", value["patches_sparse"] > value["noise_sparse"]),
        }
        if (self.n_bottleneck, self.n_sparse) != (50, 200):
            return entries
        return [expected(entry, *outcomes[entry["name"]]) if entry["name"] in outcomes else entry for entry in entries]

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """Explained variances side by side, and what the sparse units look for in patches and in noise."""
        values = {entry["name"]: entry["value"] for entry in metrics}

        def inputs(one: Trained) -> Figure:
            return plots.grid(one.estimator.optimal_inputs()[:100], (SIDE, SIDE), columns=10)

        return [
            Picture("explained", "Held-out variance explained", self._bars(values)),
            Picture("sparse-patches", "What 100 of the sparse units look for in patches", inputs(trained[0])),
            Picture("sparse-noise", "What 100 of them look for in noise", inputs(trained[2])),
        ]

    def _bars(self, values: dict[str, float]) -> Figure:
        figure, axes = plots.one_chart(6.4, 3.4)
        kinds = (
            ("bottleneck", f"{self.n_bottleneck} units", plots.BLUE),
            ("pca", f"{self.n_bottleneck} principal components", "0.6"),
            ("sparse", f"{self.n_sparse} sparse units", plots.VERMILION),
        )
        for place, (name, label, colour) in enumerate(kinds):
            heights = [values[f"patches_{name}"], values[f"noise_{name}"]]
            bars = axes.bar(np.arange(2) + 0.27 * (place - 1), heights, 0.25, color=colour, label=label)
            axes.bar_label(bars, fmt="%.2f", fontsize=8)
        axes.set_xticks([0, 1], ["natural patches", "independent Gaussian numbers"])
        axes.set_ylabel("held-out variance explained")
        axes.set_ylim(0, 1.2)
        axes.legend(frameon=False, ncols=3, fontsize=8, loc="upper center")
        return figure


def explained_by_pca(trained: Trained, n_components: int) -> float:
    """Share of the held-out rows' squared distance from the training mean that principal components explain."""
    assert trained.held_out is not None  # the recipe holds rows out
    train, held_out = trained.train.rows(slice(None)), trained.held_out.rows(slice(None))
    pca = PCA(min(n_components, *train.shape), svd_solver="full").fit(train)
    left = held_out - pca.inverse_transform(pca.transform(held_out))
    return float(1 - (left**2).sum() / ((held_out - train.mean(axis=0)) ** 2).sum())
