"""From what the user wrote to a source: a dataset's name, a file, or a folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rarefire.component import members, nearest
from rarefire.data.arrays import IDX_NAME, load_idx, load_npy, load_npz
from rarefire.data.datasets import Dataset, TextDataset
from rarefire.data.images import SUFFIXES, load_folder, load_patches
from rarefire.data.source import Source
from rarefire.data.tables import load_csv
from rarefire.data.text import load_text
from rarefire.errors import InputError
from rarefire.random import Generator

N_PATCHES = 10000
SUPPORTED = ".npy, .npz, .csv, .txt (both also .gz), IDX (such as train-images-idx3-ubyte.gz) and folders of images"


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
        gzipped too) or of a folder of images.
    patch : int, optional
        Cut patches of this height and width: 10,000 from a folder of images, or those of a dataset.
    column : str, optional
        Which array of an ``.npz`` file; which columns of a CSV file, separated by commas, or the one that holds
        texts.
    seed : int
        For what is drawn at random: a folder's patches, and datasets with a seed.
    vocabulary : sequence of str, optional
        The words that are the columns of a text, as an earlier source of texts has them in
        ``description.feature_names``; when left out, they are chosen from all of its documents
        (:func:`rarefire.data.text.bag_of_words`). Sources that are no texts have columns of their own.

    Raises
    ------
    InputError
        If there is no such dataset or path, it cannot be read, or an option does not apply to it.
    """
    if patch is not None and patch < 1:
        raise InputError(f"--patch {patch} must be at least 1")
    datasets = {cls.__name__.lower(): cls for cls in members(Dataset)}
    is_path = "/" in where or os.sep in where or Path(where).suffix != ""
    if not is_path and where.lower() in datasets:
        return _dataset(datasets[where.lower()], patch, column, seed, vocabulary)
    if not where or not os.path.exists(where):
        raise InputError(
            f"'{where}' is no file or folder that exists, and no dataset (there are: "
            f"{', '.join(sorted(datasets))}){nearest(where, datasets)}"
        )
    if os.path.isdir(where):
        _refuse(where, column=column)
        if patch is None:
            return load_folder(where)
        return load_patches(where, patch, N_PATCHES, Generator(seed, "patches"))
    return _file(Path(where), patch, column, vocabulary)


def _dataset(cls: Any, patch: int | None, column: str | None, seed: int, vocabulary: Sequence[str] | None) -> Source:
    name = cls.__name__.lower()
    allowed = cls._get_param_names()
    _refuse(name, column=column)
    if "patch" not in allowed:
        _refuse(name, patch=patch)
    wanted = {"patch": patch, "seed": seed}
    arguments = {key: value for key, value in wanted.items() if key in allowed and value is not None}
    dataset = cls(**arguments)
    return dataset.open(vocabulary) if isinstance(dataset, TextDataset) else dataset.open()


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
    raise InputError(f"{path} is of no kind that can be read; these are {SUPPORTED}")


def _refuse(where: str, *, patch: int | None = None, column: str | None = None) -> None:
    if patch is not None:
        raise InputError(f"--patch does not apply to {where}, only to folders of images and to photos; leave it out")
    if column is not None:
        raise InputError(f"--column does not apply to {where}, only to .npz and .csv files; leave it out")
