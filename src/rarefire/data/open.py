"""From what the user wrote to a source: a dataset's name, a file, or a folder of images or of files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rarefire.component import members, nearest
from rarefire.data.arrays import IDX_NAME, load_idx, load_npy, load_npz, load_shards, shard_files
from rarefire.data.cifar import batch_files, load_batches
from rarefire.data.datasets import Dataset, TextDataset
from rarefire.data.images import (
    SUFFIXES,
    FolderAlbum,
    SampleAlbum,
    cut_patches,
    grey_images,
    image_files,
    load_folder,
    load_patches,
)
from rarefire.data.origins import Provenance
from rarefire.data.source import Source
from rarefire.data.tables import load_csv
from rarefire.data.text import load_text
from rarefire.errors import InputError, printable
from rarefire.random import Generator

N_PATCHES = 10000
SUPPORTED = (
    ".npy, .npz, .csv, .txt (both also .gz), IDX (such as train-images-idx3-ubyte.gz), CIFAR-10's binary batches "
    "(.bin), and folders of images, of .npy files or of such batches"
)


def open_source(
    where: str,
    *,
    patch: int | None = None,
    column: str | None = None,
    seed: int = 0,
    vocabulary: Sequence[str] | None = None,
) -> Source:
    """Open a dataset or a path.

    A word with neither a separator nor a suffix is a dataset's name first and a path second.

    Parameters
    ----------
    where : str
        A dataset's name; or the path of a ``.npy``, ``.npz``, ``.csv``, ``.txt`` or IDX file (the last three
        gzipped too), of a binary batch of CIFAR-10 (``.bin``), or of a folder of images, of ``.npy`` files that are
        one matrix together, or of such batches.
    patch : int, optional
        Cut patches of this height and width: 10,000 from a folder of images or from CIFAR-10, or those of a dataset.
    column : str, optional
        Which array of an ``.npz`` file; which columns of a CSV file, separated by commas, or the one that holds
        texts.
    seed : int
        For what is drawn at random: patches, and datasets with a seed.
    vocabulary : sequence of str, optional
        The words that are the columns of a text, as an earlier source of texts has them in
        ``description.feature_names``; when left out, they are chosen from all of its documents
        (:func:`rarefire.data.text.bag_of_words`). Sources that are no texts have columns of their own.

    Raises
    ------
    InputError
        If there is no such dataset or path, it cannot be read, or an option does not apply to it.
    """
    with _in_one_line():
        return _open(where, patch, column, seed, vocabulary)


def _open(where: str, patch: int | None, column: str | None, seed: int, vocabulary: Sequence[str] | None) -> Source:
    try:
        str.encode(where)
    except UnicodeEncodeError:
        raise InputError(f"the name '{where}' is not in UTF-8, so no run could record it; rename the file") from None
    if patch is not None and patch < 1:
        raise InputError(f"--patch {patch} cuts no patches; give a side of at least 1")
    if (cls := _named(where)) is not None:
        return _dataset(cls, patch, column, seed, vocabulary)
    if not where or not os.path.exists(where):
        names = sorted(cls.name for cls in members(Dataset))
        raise InputError(
            f"'{where[:200]}' is no file or folder that exists, and no dataset{nearest(where, names)}; "
            f"give a path, or one of these: {', '.join(names)}"
        )
    if batches := batch_files(where):
        _refuse(where, column=column)
        return _pieces(load_batches(batches, Path(where).name), patch, seed)
    if os.path.isdir(where):
        _refuse(where, column=column)
        if patch is None:
            shards = shard_files(where)
            if not shards:
                return load_folder(where)
            if pictures := sorted(path.name for path in Path(where).glob("[!.]*") if path.suffix.lower() in SUFFIXES):
                raise InputError(
                    f"{where} holds pictures ({pictures[0]}) and .npy files ({shards[0].name}), and a source is made "
                    "of one kind; put them into folders of their own, or give --patch to cut patches from the pictures"
                )
            return load_shards(shards, Path(where).name)
        return load_patches(where, patch, N_PATCHES, Generator(seed, "patches"))
    return _file(Path(where), patch, column, vocabulary)


class GreyPictures(NamedTuple):
    """Grey pictures, and where they come from."""

    images: list[NDArray[np.float64]]
    provenance: Provenance


def grey_pictures(where: str | None = None) -> GreyPictures:
    """Grey pictures with values in [0, 1], as :func:`rarefire.data.images.extract_patches` takes them.

    Parameters
    ----------
    where : str, optional
        A dataset of photographs (``cifar10``), a binary batch of CIFAR-10 or a folder of them, or a folder of images of
        any sizes; a word is a dataset's name first, as in :func:`open_source`. By default the two photographs that
        scikit-learn brings along (:func:`rarefire.data.images.grey_images`).

    Returns
    -------
    images : list of ndarray of shape (height, width), float64
        All are held in memory: 400 MiB for CIFAR-10's training part.
    provenance : Provenance
        That of rows which are these pictures.

    Raises
    ------
    InputError
        If there is no picture, one cannot be read, or the dataset is not at hand.
    """
    if where is None:
        return GreyPictures(grey_images(), SampleAlbum())
    with _in_one_line():
        cls = _named(where)
        if cls is not None and cls.photographs:
            return _images(cls().open())
        if batches := batch_files(where):
            return _images(load_batches(batches, Path(where).name))
        album = FolderAlbum(image_files(Path(where)))
        return GreyPictures(grey_images(where), album)


@contextmanager
def _in_one_line() -> Iterator[None]:
    # Names of files, and names in them, may hold line ends and codes that a terminal obeys.
    try:
        yield
    except InputError as error:
        if str(error).isprintable():
            raise
        raise type(error)(printable(str(error))) from error


def _images(source: Source) -> GreyPictures:
    shape = source.description.shape or ()
    return GreyPictures(list(source.rows(slice(None)).astype(np.float64).reshape(-1, *shape)), source)


def _named(where: str) -> type[Dataset] | None:
    """The dataset of this name, a class; None for a path, which has a separator or a suffix, and for another word."""
    is_path = "/" in where or os.sep in where or Path(where).suffix != ""
    return None if is_path else next((cls for cls in members(Dataset) if cls.name == where.lower()), None)


def _pieces(source: Source, patch: int | None, seed: int) -> Source:
    return source if patch is None else cut_patches(source, patch, N_PATCHES, Generator(seed, "patches"))


def _dataset(cls: Any, patch: int | None, column: str | None, seed: int, vocabulary: Sequence[str] | None) -> Source:
    allowed = cls._get_param_names()
    _refuse(cls.name, column=column)
    if "patch" not in allowed and not cls.photographs:
        _refuse(cls.name, patch=patch)
    wanted = {"patch": patch, "seed": seed}
    arguments = {key: value for key, value in wanted.items() if key in allowed and value is not None}
    dataset = cls(**arguments)
    if isinstance(dataset, TextDataset):
        return dataset.open(vocabulary)
    return _pieces(dataset.open(), patch if dataset.photographs else None, seed)


def _file(path: Path, patch: int | None, column: str | None, vocabulary: Sequence[str] | None) -> Source:
    name = path.name.lower()
    _refuse(str(path), patch=patch)
    if name.endswith(".npz"):
        return load_npz(path, column)
    if name.endswith((".csv", ".csv.gz")):
        return load_csv(path, column, vocabulary)
    _refuse(str(path), column=column)
    if name.endswith(".npy"):
        return load_npy(path)
    if IDX_NAME.search(name):
        return load_idx(path)
    if name.endswith((".txt", ".txt.gz")):
        return load_text(path, vocabulary)
    if name.endswith(SUFFIXES):
        raise InputError(f"{path} is one image; give the folder that holds it, with --patch N for patches of it")
    raise InputError(f"{path} is of no kind that can be read; give one of these: {SUPPORTED}")


def _refuse(where: str, *, patch: int | None = None, column: str | None = None) -> None:
    if patch is not None:
        raise InputError(
            f"--patch does not apply to {where}, only to folders of images, to photos and to CIFAR-10; leave it out"
        )
    if column is not None:
        raise InputError(f"--column does not apply to {where}, only to .npz and .csv files; leave it out")
