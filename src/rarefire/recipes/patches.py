"""Sources 001 and 003: a sparse autoencoder learns oriented edges from patches of natural images.

What the source has, and what is taken here:

- its images came whitened; here photographs are halved in size (which takes the camera's noise and the artefacts of
  compression away) and whitened by a 1/f filter;
- 10,000 patches of 8×8 pixels lose their mean, are clipped at three standard deviations and mapped to [0.1, 0.9], the
  range that sigmoid output units reach;
- 25 hidden units, target 0.01, weight decay 1e-4, sparsity weight 3, 400 iterations of L-BFGS: the settings of the
  exercise that the source works through. (Its text gives "0.5" as an example of a small value near zero, which must
  have been 0.05.)

The source asks why the picture of the input that excites a unit most, among inputs of norm 1, still means something
when inputs are not of norm 1, and suspects whitening. So the same is done without whitening, and for each unit the
ranks of its activations are compared with those of the input's cosine to its weights, and of the input's norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata

from rarefire import plots
from rarefire.activations import Sigmoid
from rarefire.arguments import Free, Rule, Whole
from rarefire.data.images import extract_patches, halve, whiten_image
from rarefire.data.open import grey_pictures
from rarefire.data.origins import PatchProvenance, Places, Provenance
from rarefire.data.source import ArraySource, Description, Source
from rarefire.estimators.autoencoder import SparseAutoencoder
from rarefire.estimators.gradient import check_gradient
from rarefire.features import SMALLEST_EDGE
from rarefire.metrics import against, expected, gabor, median_of, metric
from rarefire.penalties import L2, KLDivergence
from rarefire.preprocess import ClipRescale, RemoveMean
from rarefire.random import Generator
from rarefire.recipes import Arm, Recipe
from rarefire.runs import Picture, Trained

TARGET = 0.01
CORRELATIONS = (
    "cosine_correlation",
    "norm_correlation",
    "cosine_correlation_towards",
    "norm_correlation_towards",
    "side_share",
    "norm_spread",
)


def autoencoder_of_source(n_components: int, target: float, decay: float, max_iter: int, seed: int) -> Any:
    """The source's model: sigmoid units in both layers, sparsity weight 3, L-BFGS on all rows."""
    return SparseAutoencoder(
        n_components=n_components,
        activation=Sigmoid(),
        output=Sigmoid(),
        penalty=KLDivergence(target=target, strength=3.0),
        weight_decay=L2(decay),
        solver="lbfgs",
        max_iter=max_iter,
        random_state=seed,
    )


class Patches(Recipe):
    """Patches of photographs: oriented edges, and what whitening has to do with them (sources 001 and 003).

    Parameters
    ----------
    preset : str
        "faithful".
    seed : int
        The first seed.
    source : str or None
        A folder of photographs; None takes the two that scikit-learn carries.
    repeats : int
        Number of fits with whitening, and as many without; each has a seed and patches of its own.
    n_patches, side : int
        How many patches, and their height and width.
    n_components : int
        Hidden units.
    max_iter : int
        Iterations.
    check_gradient : bool
        Whether the gradient is compared with differences before training: slow, so off, as the source has it.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "seed": Whole(0),
        "source": Free(),
        "repeats": Whole(1),
        "n_patches": Whole(100),
        "side": Whole(3),
        "n_components": Whole(1),
        "max_iter": Whole(1),
    }
    name = "patches"
    title = "A sparse autoencoder learns edges from photographs"
    document = "001"

    def __init__(
        self,
        preset: str = "faithful",
        seed: int = 0,
        source: str | None = None,
        repeats: int = 3,
        n_patches: int = 10000,
        side: int = 8,
        n_components: int = 25,
        max_iter: int = 400,
        check_gradient: bool = False,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.source = source
        self.repeats = repeats
        self.n_patches = n_patches
        self.side = side
        self.n_components = n_components
        self.max_iter = max_iter
        self.check_gradient = check_gradient

    def arms(self) -> list[Arm]:
        """For each seed one fit with whitening, then one without."""
        photographed = photographs(self.source)
        arms = []
        for whitened in (True, False):
            name = "whitened" if whitened else "plain"
            images = photographed.images
            seen = [whiten_image(image) for image in images] if whitened else images
            for seed in range(self.seed, self.seed + self.repeats):
                model = autoencoder_of_source(self.n_components, TARGET, 1e-4, self.max_iter, seed)
                rows = self._rows(seen, photographed, whitened, seed)
                arms.append(Arm(f"{name}-{seed}", rows, model, (RemoveMean(), ClipRescale())))
        return arms

    def _rows(
        self, images: Sequence[NDArray[np.float64]], photographed: Photographs, whitened: bool, seed: int
    ) -> Source:
        # The same seed gives the same places in the whitened and in the plain photographs.
        patches, places = extract_patches(images, self.side, self.n_patches, Generator(seed, "patches"))
        notes = f"grey, halved in size, {'1/f-whitened' if whitened else 'not whitened'}, patches at random places"
        description = Description(photographed.name, "image", (self.side, self.side), notes=notes)
        # In double precision, as the source's own tool computes.
        return ArraySource(patches.astype(np.float64), description, provenance=photographed.provenance(places))

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """Medians over the seeds: with whitening by their plain names, without it as ``..._plain``."""
        whitened, plain = trained[: self.repeats], trained[self.repeats :]
        entries = median_of([measure_fit(one) for one in whitened])
        entries["mean_rate"] = against(entries["mean_rate"], TARGET, self.document, tolerance=0.002)
        if "edges" in entries:
            entries["edges"] = expected(entries["edges"], "half or more", entries["edges"]["value"] >= 0.5)
        compared = ("edges", "mean_rate", *CORRELATIONS)
        without = median_of([measure_fit(one) for one in plain])
        for name in compared:
            if name in without:
                entry = without[name]
                entries[f"{name}_plain"] = {
                    **entry,
                    "name": f"{name}_plain",
                    "explanation": f"without whitening: {entry['explanation']}",
                }
        if self.check_gradient:
            entries["gradient_gap"] = gradient_gap(whitened[0])
        return list(entries.values())

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """Optimal inputs with and without whitening, some patches, and the rank correlations of every unit."""
        whitened, plain = trained[: self.repeats], trained[self.repeats :]
        shape = (self.side, self.side)
        columns = round(np.sqrt(self.n_components))

        def inputs(one: Trained) -> Figure:
            return plots.grid(one.estimator.optimal_inputs(), shape, columns=columns)

        rows = whitened[0].train.rows(slice(0, 64))
        return [
            Picture(
                "optimal-whitened", "The inputs that excite each unit most, whitened photographs", inputs(whitened[0])
            ),
            Picture("optimal-plain", "The same without whitening", inputs(plain[0])),
            Picture("patches", "64 of the whitened patches, as the model sees them", plots.grid(rows - 0.5, shape)),
            Picture(
                "correlations",
                "Every unit's activation: rank correlation with the input's cosine to its weights, and with its norm",
                correlation_chart(whitened, plain),
            ),
        ]


class Photographs(NamedTuple):
    """Photographs in grey and halved in size, what they are called, and where they come from."""

    images: list[NDArray[np.float64]]
    name: str
    whole: Provenance

    def provenance(self, places: Places) -> PatchProvenance:
        """That of patches cut from the images."""
        return PatchProvenance(self.whole, places, scale=2)


def photographs(source: str | None) -> Photographs:
    """The photographs of a folder, or scikit-learn's two, halved."""
    name = "scikit-learn's two photographs" if source is None else Path(source).name
    pictures = grey_pictures(source)
    return Photographs([halve(image) for image in pictures.images], name, pictures.provenance)


def gradient_gap(trained: Trained) -> dict[str, Any]:
    """The entry that compares the gradient with differences."""
    gap = check_gradient(trained.estimator, trained.train.rows(slice(0, 100)))
    return metric("gradient_gap", gap, "", "‖g − g′‖/‖g + g′‖ of the gradient and central differences, on 100 rows")


def measure_fit(trained: Trained) -> dict[str, dict[str, Any]]:
    """What one fit is judged by, by name."""
    estimator, shape = trained.estimator, trained.train.description.shape
    entries = {entry["name"]: entry for entry in estimator.measure(trained.train, trained.held_out)}
    if shape is not None and min(shape) >= SMALLEST_EDGE:
        height, width = shape
        share = gabor.edge_likeness(estimator.optimal_inputs(), (height, width)).share
        text = "share of the encoder's filters that are edge-like (edge_share is that of the decoder's)"
        entries["edges"] = metric("edges", share, "share", text)
    found = rank_correlations(trained)
    texts = {
        "cosine_correlation": "size of the rank correlation of activation and the patch's cosine to the weights, mean",
        "norm_correlation": "size of the rank correlation with the patch's norm (its contrast), mean over units",
        "cosine_correlation_towards": "as cosine_correlation, over patches on the unit's side alone (cosine above 0)",
        "norm_correlation_towards": "as norm_correlation, over those patches",
        "side_share": "share of the patches that are on a unit's side (cosine above 0), mean over units",
        "norm_spread": "standard deviation over mean of the patches' norms",
    }
    for name, text in texts.items():
        entries[name] = metric(name, np.abs(found[name]).mean(), "", text)
    return entries


def rank_correlations(trained: Trained) -> dict[str, Any]:
    """For each unit Spearman's correlation of its activation with cosine and norm of the patches, by metric.

    A patch is taken about its own mean, which differs from mid-grey by the little that clipping leaves. With
    s = w·p + b for a patch p, the activation σ(s) has the rank of ‖p‖ times the cosine, so that cosine and norm share
    it between them.
    """
    rows = trained.train.rows(slice(None))
    patches = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(patches, axis=1)
    patches, rows, norms = patches[norms > 0], rows[norms > 0], norms[norms > 0]
    cosines = patches @ trained.estimator.optimal_inputs().T / norms[:, None]
    codes = trained.estimator.transform(rows)
    found: dict[str, list[float]] = {}
    for code, cosine in zip(codes.T, cosines.T, strict=True):
        for end, chosen in (("", slice(None)), ("_towards", cosine > 0)):
            for name, other in (("cosine", cosine), ("norm", norms)):
                value = np.corrcoef(rankdata(code[chosen]), rankdata(other[chosen]))[0, 1]
                found.setdefault(f"{name}_correlation{end}", []).append(value)
    return {
        **{name: np.array(values) for name, values in found.items()},
        "side_share": (cosines > 0).mean(axis=0),
        "norm_spread": norms.std() / norms.mean(),
    }


def correlation_chart(whitened: Sequence[Trained], plain: Sequence[Trained]) -> Figure:
    """A point for each unit: correlation with the cosine against that with the norm."""
    figure, axes = plots.one_chart(6.4, 3.8)
    for group, name, colour in ((whitened, "whitened", plots.BLUE), (plain, "not whitened", plots.VERMILION)):
        points = [rank_correlations(one) for one in group]
        cosine, norm = (
            np.concatenate([found[f"{what}_correlation"] for found in points]) for what in ("cosine", "norm")
        )
        axes.plot(cosine, norm, "o", color=colour, markersize=4, alpha=0.7, label=name)
    axes.set_xlabel("rank correlation of activation with the cosine to the weights")
    axes.set_ylabel("rank correlation with the patch's norm")
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.legend(frameon=False)
    return figure
