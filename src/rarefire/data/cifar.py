"""CIFAR-10's binary batches as a source: bytes of colour on disk, grey rows when they are read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rarefire.data.checks import reading
from rarefire.data.mapped import Stacked
from rarefire.data.origins import Album
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError

SIDE = 32
CLASSES = 10
PLANE = SIDE * SIDE
RECORD = 1 + 3 * PLANE

_HINT = "unpack the binary version, cifar-10-binary.tar.gz, and give its folder cifar-10-batches-bin or a file of it"
_PICKLED = re.compile(r"data_batch_\d+|test_batch|batches\.meta|cifar-10-python\.(tar\.gz|tgz|tar)", re.IGNORECASE)
_ARCHIVE = re.compile(r"cifar-10-\w+\.(tar\.gz|tgz|tar)", re.IGNORECASE)

# Images that are made grey at a time: 12 MiB of colour.
_AT_A_TIME = 4096


def batch_files(where: Path | str) -> list[Path]:
    """The binary batches that a path stands for.

    Parameters
    ----------
    where : Path or str
        A ``.bin`` file stands for itself; a folder for its ``data_batch_*.bin``, the training part.

    Returns
    -------
    list of Path
        In the order of their numbers; empty where the path is, or holds, no such file.

    Raises
    ------
    InputError
        If it is CIFAR-10's Python version, whose batches are pickles, or an archive.
    """
    where = Path(where)
    if not os.path.isdir(where):
        _check_version(where)
        return [where] if where.suffix.lower() == ".bin" else []
    # A number with more digits is larger.
    found = sorted(where.glob("data_batch_*.bin"), key=lambda path: (len(path.name), path.name))
    if not found:
        for path in sorted(where.glob("data_batch_*")):
            _check_version(path)
    return found


def load_batches(paths: Sequence[Path], name: str) -> ArraySource:
    """Binary batches of CIFAR-10 as grey images with values in [0, 1]: (n_images, 1024), float32.

    A batch has 3073 bytes for each image: its label, 0 to 9, which is checked and left out, and three planes of
    32×32 bytes, red, green and blue, row-major. The files stay where they are and are memory-mapped; colour becomes
    grey when rows are read, by the weights and to the whole levels of :func:`rarefire.data.images.read_image`.

    Parameters
    ----------
    paths : sequence of Path
        The files, one after the other.
    name : str
        What the source is called.

    Raises
    ------
    InputError
        If a file cannot be read, is empty, has a size that is no multiple of 3073, or a label above 9.

    Notes
    -----
    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images" (2009); the format is described at
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    greys = _Greys([_mapped(path) for path in paths])
    notes = f"grey values of {', '.join(path.name for path in paths)}, bytes divided by 255"
    description = Description(name, "image", (SIDE, SIDE), notes=notes)
    return ArraySource(greys, description, 1 / 255, _Colours(greys.colour, paths))


class _Greys:
    """Memory-mapped batches as an array of grey bytes, of which only the rows that are asked for are computed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, batches: Sequence[np.memmap]) -> None:
        self.colour = Stacked([batch[:, 1:] for batch in batches])
        self.shape = (self.colour.shape[0], PLANE)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        rows = np.arange(self.shape[0])[index]
        grey = np.empty((len(rows), PLANE), np.uint8)
        for start in range(0, len(rows), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            planes = self.colour[rows[part]].reshape(-1, 3, PLANE)
            channels = [Image.fromarray(planes[:, channel]) for channel in range(3)]
            grey[part] = np.asarray(Image.merge("RGB", channels).convert("L"))
        return grey


class _Colours(Album):
    """The images in colour, each called by its file and its number there."""

    def __init__(self, colour: Stacked, paths: Sequence[Path]) -> None:
        self.colour = colour
        self.paths = paths

    def name(self, number: int) -> str:
        file = int(np.searchsorted(self.colour.ends, number, side="right"))
        return f"{self.paths[file].name}, image {number - self.colour.starts[file]} (counted from 0)"

    def size(self, number: int) -> tuple[int, int]:
        return SIDE, SIDE

    def pixels(self, number: int) -> NDArray[np.uint8]:
        return self.colour[np.array([number])].reshape(3, SIDE, SIDE).transpose(1, 2, 0)


def _mapped(path: Path) -> np.memmap:
    with reading(path, "a batch of CIFAR-10"):
        size = path.stat().st_size
        if size % RECORD:
            raise InputError(
                f"{path} is no batch of CIFAR-10, or is cut off: it has {size} bytes, and a batch has {RECORD} for "
                f"each image; {_HINT}"
            )
        batch = np.memmap(path, np.uint8, "r", shape=(size // RECORD, RECORD))
        wrong = np.flatnonzero(batch[:, 0] >= CLASSES)
        if len(wrong):
            raise InputError(
                f"{path} is no batch of CIFAR-10: the label of image {wrong[0]} (counted from 0) is "
                f"{batch[wrong[0], 0]}, and labels are 0 to {CLASSES - 1}; {_HINT}"
            )
        return batch


def _check_version(path: Path) -> None:
    if _PICKLED.fullmatch(path.name):
        raise InputError(
            f"{path} is of CIFAR-10's Python version, which is pickled, and pickles are never read; {_HINT}"
        )
    if _ARCHIVE.fullmatch(path.name):
        raise InputError(f"{path} is an archive, which is not read; {_HINT}")
