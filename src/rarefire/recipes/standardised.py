"""What the recipes of source 000 share: small standardised pictures, a Gaussian machine, and its refinement.

What the source has, and what is taken here:

- "5000 input images, normalized to μ=0, σ=1", of "64 (16×16)" pixels, with a 64-100-64 autoencoder: 16×16 are 256
  pixels, not 64, so one of the two numbers is wrong. As the autoencoder has 64 inputs too, 8×8 is taken; ``side=16``
  is the other reading.
- Its pictures are CIFAR-10's, greys. Here patches are cut from photographs; ``source`` takes CIFAR-10's binary batches,
  and ``from=resized`` shrinks whole pictures instead of cutting.
- Standardised may be each pixel over all pictures, each picture by itself, or all values by two numbers
  (``standardise``).
- "1000 iterations" are read as updates by batches of 100, 20 passes over the pictures: hidden units then are active
  half of the time without decay, as the source says. ``unit=epochs`` reads them as passes. The 500 iterations of the
  refinement are read the same way.
"""

from __future__ import annotations

from abc import ABC
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rarefire.activations import Identity
from rarefire.arguments import Choice, Free, Rule, Whole
from rarefire.data.images import extract_patches
from rarefire.data.open import grey_pictures
from rarefire.data.origins import PatchProvenance, Places
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError
from rarefire.estimators.autoencoder import SparseAutoencoder
from rarefire.estimators.gaussian import GaussianRBM
from rarefire.losses import SquaredError
from rarefire.penalties import NoPenalty
from rarefire.random import Generator
from rarefire.recipes import Arm, Recipe

BATCH = 100


class Standardised(Recipe, ABC):
    """Recipe on small standardised pictures; see the module.

    Parameters
    ----------
    preset : str
        "faithful".
    seed : int
        The first seed.
    source : str or None
        A folder of photographs, or CIFAR-10's batches; None takes the two photographs that scikit-learn carries.
    from_ : {"patches", "resized"}
        Whether pictures are cut from the photographs or whole photographs made small.
    standardise : {"pixel", "image", "global"}
        Over what values have mean 0 and variance 1.
    repeats : int
        Fits of each kind, with pictures and a seed of its own.
    n_images, side : int
        How many pictures, and their height and width.
    n_components : int
        Hidden units.
    unit : {"updates", "epochs"}
        What an iteration is.
    iterations, refinements : int
        Of the machine and of its refinement.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "seed": Whole(0),
        "source": Free(),
        "from_": Choice(("patches", "resized")),
        "standardise": Choice(("pixel", "image", "global")),
        "repeats": Whole(1),
        "n_images": Whole(BATCH),
        "side": Whole(3),
        "n_components": Whole(1),
        "unit": Choice(("updates", "epochs")),
        "iterations": Whole(1),
        "refinements": Whole(1),
    }
    document = "000"

    def __init__(
        self,
        preset: str = "faithful",
        seed: int = 0,
        source: str | None = None,
        from_: str = "patches",
        standardise: str = "pixel",
        repeats: int = 3,
        n_images: int = 5000,
        side: int = 8,
        n_components: int = 100,
        unit: str = "updates",
        iterations: int = 1000,
        refinements: int = 500,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.source = source
        self.from_ = from_
        self.standardise = standardise
        self.repeats = repeats
        self.n_images = n_images
        self.side = side
        self.n_components = n_components
        self.unit = unit
        self.iterations = iterations
        self.refinements = refinements

    @property
    def seeds(self) -> range:
        """One for each fit of a kind."""
        return range(self.seed, self.seed + self.repeats)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of a picture."""
        return self.side, self.side

    def images(self, seed: int) -> Source:
        """The pictures of a seed, standardised: (n_images, side²), float32."""
        generator = Generator(seed, "patches")
        pictures, name = grey_pictures(self.source), Path(self.source or "scikit-learn's two photographs").name
        if self.from_ == "patches":
            (seen, places), how = (
                extract_patches(pictures.images, self.side, self.n_images, generator),
                "cut at random places",
            )
        else:
            seen, places = _resized(pictures.images, self.side, self.n_images, generator)
            how = "whole pictures made small"
        rows = seen.astype(np.float64)
        over = {"pixel": 0, "image": 1, "global": None}[self.standardise]
        rows = rows - rows.mean(axis=over, keepdims=True)
        deviation = rows.std(axis=over, keepdims=True)
        rows = rows / np.where(deviation < 1e-8, 1, deviation)  # a flat picture stays flat
        notes = f"grey, {how}, mean 0 and variance 1 over each {self.standardise}"
        description = Description(name, "image", self.shape, notes=notes)
        provenance = PatchProvenance(pictures.provenance, places)
        return ArraySource(rows.astype(np.float32), description, provenance=provenance)

    def epochs(self, iterations: int) -> int:
        """Passes over the pictures that so many iterations are."""
        return iterations if self.unit == "epochs" else max(1, round(iterations * BATCH / self.n_images))

    def machine(self, seed: int, **arguments: Any) -> GaussianRBM:
        """The source's machine: momentum 0.9, batches of 100, CD-1."""
        own: dict[str, Any] = {
            "n_components": self.n_components,
            "momentum": 0.9,
            "batch_size": BATCH,
            "n_iter": self.epochs(self.iterations),
            "random_state": seed,
        }
        return GaussianRBM(**{**own, **arguments})

    def refined(self, arm: Arm) -> Arm:
        """The arm that refines the machine of another, by gradient descent on the reconstruction alone."""
        model = SparseAutoencoder(
            n_components=arm.estimator.n_components,
            output=Identity(),
            loss=SquaredError(),
            penalty=NoPenalty(),
            weight_decay=NoPenalty(),
            solver="sgd",
            learning_rate=0.01,
            batch_size=BATCH,
            max_iter=self.epochs(self.refinements),
            random_state=arm.estimator.random_state,
        )
        return Arm(f"{arm.name}-refined", arm.source, model, arm.steps, init=arm.name)


def _resized(
    pictures: list[NDArray[np.float64]], side: int, n_images: int, generator: Generator
) -> tuple[NDArray[np.float32], Places]:
    """Different pictures, the largest square in the middle of each, made ``side`` pixels high and wide."""
    if len(pictures) < n_images:
        raise InputError(
            f"from=resized makes one small picture of each, and there are {len(pictures)} of the {n_images} asked for; "
            "give a source with more (such as cifar10), or from=patches"
        )
    chosen = np.sort(generator.permutation(len(pictures))[:n_images]).astype(np.int32)
    sizes = np.array([pictures[index].shape for index in chosen], np.int32)
    sides = sizes.min(axis=1)
    corners = (sizes - sides[:, None]) // 2
    rows = []
    for index, least, (top, left) in zip(chosen, sides, corners, strict=True):
        picture = pictures[index]
        square = Image.fromarray(picture[top : top + least, left : left + least].astype(np.float32), "F")
        rows.append(np.asarray(square.resize((side, side), Image.Resampling.BOX)).ravel())
    return np.stack(rows), Places(chosen, corners, sides)
