"""The named datasets: each is a small class, and its name in lower case is the dataset's name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from rarefire.arguments import Rule, Whole, check
from rarefire.component import Component
from rarefire.data.arrays import load_idx
from rarefire.data.fetch import mnist_images
from rarefire.data.images import extract_patches
from rarefire.data.source import ArraySource, Description, Source
from rarefire.data.synthetic import line_images
from rarefire.errors import InputError
from rarefire.random import Generator


class Dataset(Component, ABC):
    """A dataset with a name, that of its class in lower case; :meth:`open` makes, finds or fetches it."""

    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__name__.lower()

    @abstractmethod
    def open(self) -> Source:
        """The rows.

        Raises
        ------
        InputError
            If an argument cannot be, or the data are not at hand.
        """


class Lines(Dataset):
    """Pictures of 9×9 pixels with up to two horizontal and two vertical lines; 1 on a line, 0 elsewhere.

    Generated as source 002 describes (:func:`rarefire.data.synthetic.line_images`), so no licence applies.

    Parameters
    ----------
    n_samples : int
        How many pictures.
    seed : int
        Which ones.
    """

    rules: ClassVar[dict[str, Rule]] = {"n_samples": Whole(1), "seed": Whole(0)}

    def __init__(self, n_samples: int = 3000, seed: int = 0) -> None:
        self.n_samples = n_samples
        self.seed = seed

    def open(self) -> Source:
        """Draw the pictures: (n_samples, 81), float32."""
        check(self)
        generator = Generator(self.seed, "dataset", self.name)
        images = line_images(self.n_samples, generator)
        return ArraySource(images, Description(self.name, "image", (9, 9), notes="1 on a line, 0 elsewhere"))


class Digits(Dataset):
    """Handwritten digits, 1,797 images of 8×8 pixels in [0, 1], steps of 1/16; from scikit-learn.

    ``load_digits``: the test part of the UCI set "Optical Recognition of Handwritten Digits"
    (Alpaydin and Kaynak, 1998); scikit-learn names no licence for it.
    """

    def open(self) -> Source:
        """Read the embedded images: (1797, 64), float32."""
        from sklearn.datasets import load_digits

        values = load_digits().data.astype(np.uint8)
        notes = "counts of 0 to 16 divided by 16"
        return ArraySource(values, Description(self.name, "image", (8, 8), notes=notes), scale=1 / 16)


class Photos(Dataset):
    """Grey patches of two colour photographs, 427×640 pixels: scikit-learn's ``load_sample_images``.

    A patch is cut at a random position from grey values in [0, 1], loses its own mean, and all are divided by
    one number, the standard deviation of all values together: that keeps patches what they were up to
    contrast, where a number for each pixel would bend them. Values lie around 0, mostly within ±3, some
    beyond ±7. The photographs, china.jpg (danielbuechele) and flower.jpg (vultilion) of Flickr, are under
    CC BY 2.0.

    Parameters
    ----------
    patch : int
        Height and width of a patch, at least 2 (one pixel less its mean is 0).
    n_patches : int
        How many.
    seed : int
        Which ones.
    """

    rules: ClassVar[dict[str, Rule]] = {"patch": Whole(2), "n_patches": Whole(1), "seed": Whole(0)}

    def __init__(self, patch: int = 8, n_patches: int = 10000, seed: int = 0) -> None:
        self.patch = patch
        self.n_patches = n_patches
        self.seed = seed

    def open(self) -> Source:
        """Cut and standardise the patches: (n_patches, patch * patch), float32."""
        from PIL import Image
        from sklearn.datasets import load_sample_images

        check(self)
        side = self.patch
        generator = Generator(self.seed, "dataset", self.name)
        grey = [np.asarray(Image.fromarray(image).convert("L")) for image in load_sample_images().images]
        patches = extract_patches(grey, side, self.n_patches, generator).astype(np.float64)
        patches -= patches.mean(axis=1, keepdims=True)
        deviation = patches.std()
        if deviation == 0:
            raise InputError("all the patches of photos are flat; draw more of them")
        notes = f"grey in [0, 1], mean of each patch removed, divided by {deviation:.6g} (one for all pixels)"
        description = Description(self.name, "image", (side, side), notes=notes)
        return ArraySource((patches / deviation).astype(np.float32), description)


class MNIST(Dataset):
    """Handwritten digits, images of 28×28 pixels in [0, 1], steps of 1/255 (LeCun, Cortes and Burges, 1998).

    Looked for in ``$RAREFIRE_DATA`` and the user's cache, then fetched from OpenML; no licence is stated.

    Parameters
    ----------
    part : {"train", "test"}
        60,000 or 10,000 images.
    """

    def __init__(self, part: str = "train") -> None:
        self.part = part

    def open(self) -> Source:
        """Find the images: (60000, 784) or (10000, 784), float32."""
        source = load_idx(mnist_images(self.part))
        if source.description.shape != (28, 28):
            raise InputError(
                f"{mnist_images(self.part)} holds no images of 28 by 28 pixels; put MNIST's own file there"
            )
        source.description = replace(source.description, name=self.name)
        return source
