"""Folders of images as sources: whole images of one size, or square patches at random positions.

And what is done to an image before patches are cut from it: halving, and whitening by the 1/f law.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import struct
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from scipy.fft import dctn, idctn

from rarefire.data.checks import check_expansion
from rarefire.data.origins import Album, PatchProvenance, Places
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError
from rarefire.random import Generator

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

# No other format is tried, whatever a file's content looks like (Pillow would start Ghostscript for one).
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
_UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, SyntaxError, ArithmeticError,
    RuntimeError, MemoryError, struct.error,
)  # fmt: skip
# Pillow logs of damaged files what it then raises as well; without a handler that would go to standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# There is one for all threads of a process.
_STANDARD_ERROR = threading.Lock()
# What Pillow needs for a pixel, where it is not four.
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
_SCALES = {np.dtype(np.uint8): 1 / 255, np.dtype(np.uint16): 1 / 65535}


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name; hidden files and sub-folders are left out.

    Raises
    ------
    InputError
        If the folder cannot be read, holds no image, or one that is a broken link, a pipe or a device.
    """
    try:
        entries = sorted(folder.iterdir())
        named = [e for e in entries if e.suffix.lower() in SUFFIXES and not e.name.startswith(".") and not e.is_dir()]
        unusable = [e for e in named if not e.is_file()]
    except OSError as error:
        raise InputError(f"{folder} cannot be read as a folder ({error.strerror}); check the path") from error
    if unusable:
        raise InputError(f"{unusable[0]} is no file, or a link to none; take it out of the folder")
    if not named:
        raise InputError(
            f"there are no images directly in the folder {folder}; put {', '.join(SUFFIXES)} files into it"
        )
    return named


def read_image(path: Path, grey: bool = True) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The pixels of an image file, of shape (height, width), or (height, width, 3) unless ``grey``.

    Colour becomes grey by Pillow's weights (0.299 red, 0.587 green, 0.114 blue). Grey images of 16 bits keep
    them all; in other modes Pillow delivers 8 bits. Transparency is ignored, and so is the orientation that a camera
    noted, but in a TIFF file, which Pillow turns. Of several frames the first is read.

    Raises
    ------
    InputError
        If the file is damaged, has more pixels than Pillow takes for safe or than are in proportion to its
        size, or holds more than 16 bits a pixel and channel.
    """
    with _opened(path) as image:
        size, mode = image.size, "L" if grey else "RGB"
        with _silent() if image.format == "TIFF" and sys.__stderr__ is not None else nullcontext():
            image.load()
        deep = image.mode.startswith(("I", "F"))
        values = np.asarray(image if deep or image.mode == mode else image.convert(mode))
        if values.shape[1::-1] != size:
            raise ValueError("its pixels are not of the size that its header claims")
    if not deep:
        return values
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"{path} holds more than 16 bits a pixel; save the images with 8 or 16 bits, or as one .npy array"
        )
    levels = values.astype(np.uint16)
    return levels if grey else np.repeat(levels[:, :, None], 3, axis=2)


class FolderAlbum(Album):
    """Image files, which must stay what they are now for as long as they are asked for.

    Parameters
    ----------
    files : sequence of Path
        In the order of their numbers.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.stamps = [_stamp(path) for path in files]

    def name(self, number: int) -> str:
        """That of the file."""
        return self.files[number].name

    def size(self, number: int) -> tuple[int, int]:
        """(height, width), from the file's header."""
        return _header(self._file(number))[:2]

    def pixels(self, number: int) -> NDArray[Any]:
        """In colour."""
        return read_image(self._file(number), grey=False)

    def _file(self, number: int) -> Path:
        path = self.files[number]
        if self.stamps[number] not in (None, there := _stamp(path)):
            what = "has changed" if there else "is gone"
            raise InputError(f"{path} {what} since it was opened; put it back as it was, or open the folder again")
        return path


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


class SampleAlbum(Album):
    """The two photographs that scikit-learn brings along; see :func:`grey_images`."""

    def name(self, number: int) -> str:
        """That of the file."""
        return Path(_sample_images().filenames[number]).name

    def size(self, number: int) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.pixels(number).shape[:2]
        return height, width

    def pixels(self, number: int) -> NDArray[Any]:
        """In colour."""
        return _sample_images().images[number]


def sample_pixels() -> list[NDArray[np.uint8]]:
    """The two photographs that scikit-learn brings along, in grey: (427, 640) each."""
    return [np.asarray(Image.fromarray(image).convert("L")) for image in _sample_images().images]


def _sample_images() -> Any:
    from sklearn.datasets import load_sample_images

    return load_sample_images()


def grey_images(where: Path | str | None = None) -> list[NDArray[np.float64]]:
    """Grey images with values in [0, 1], as :func:`extract_patches` takes them.

    Parameters
    ----------
    where : Path or str, optional
        A folder of images, of any sizes, which are all held in memory. By default the two photographs that
        scikit-learn brings along, 427×640 pixels: china.jpg (danielbuechele) and flower.jpg (vultilion) of Flickr,
        under CC BY 2.0.

    Returns
    -------
    list of ndarray of shape (height, width), float64
        In the order of :func:`image_files`.

    Raises
    ------
    InputError
        If there is no image, or one cannot be read.
    """
    if where is None:
        pixels: Sequence[NDArray[Any]] = sample_pixels()
    else:
        files = image_files(Path(where))
        _check_total(files, sum(8 * height * width for height, width, _ in map(_header, files)))
        pixels = [read_image(path) for path in files]
    return [image * _SCALES[image.dtype] for image in pixels]


def halve(image: NDArray[Any]) -> NDArray[np.float64]:
    """The image at half its height and width: each pixel is the mean of 2×2; an odd last row or column is dropped.

    Parameters
    ----------
    image : ndarray of shape (height, width) or (height, width, channels)
        Values of any type; those of the result are on the same scale, as floats.

    Raises
    ------
    InputError
        If it is less than two pixels high or wide, or no image.
    """
    height, width = (n // 2 for n in _image_size(image, (2, 3), least=2))
    blocks = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, *image.shape[2:])
    return blocks.mean(axis=(1, 3), dtype=np.float64)


def whiten_image(image: NDArray[Any], cutoff: float = 0.4) -> NDArray[np.float64]:
    """Filter a grey image by R(f) = f exp(−(f/f₀)⁴), which makes a 1/f amplitude spectrum even up to f₀.

    At its borders the image goes on as its mirror image. Taken as periodic, as a plain Fourier transform has it, a
    border would meet the opposite one, and the jump would show as a bright frame. R(0) = 0, so the mean is lost.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        Values of any type.
    cutoff : float
        f₀ in cycles a pixel; 0.5 is the finest wave that pixels can show.

    Returns
    -------
    ndarray of shape (height, width), float64
        Of mean 0, and not scaled: divide all images of a set by one number, or their contrasts change.

    Raises
    ------
    InputError
        If it is no grey image, or the cut-off is not above 0.

    Notes
    -----
    Source: Olshausen and Field, "Sparse coding with an overcomplete basis set: a strategy employed by V1?", Vision
    Research 37 (1997); f₀ was 200 cycles a picture of 512 pixels. They scaled the whole set to a variance of 0.1.
    """
    gain = one_over_f_gain(_image_size(image, (2,)), cutoff)
    return idctn(dctn(np.asarray(image, np.float64), norm="ortho") * gain, norm="ortho")


def one_over_f_gain(size: tuple[int, int], cutoff: float) -> NDArray[np.float64]:
    """R(f) = f exp(−(f/f₀)⁴) of each wave of the cosine transform (DCT-II) of an image.

    That transform is the Fourier transform of the image beside its mirror images, whose period is twice the image:
    wave (j, k) has j/2h cycles a pixel down and k/2w across.

    Parameters
    ----------
    size : (height, width)
        Of the image.
    cutoff : float
        f₀ in cycles a pixel.

    Raises
    ------
    InputError
        If the cut-off is not above 0.
    """
    if not cutoff > 0:
        raise InputError(f"a cut-off of {cutoff!r} cycles a pixel was asked for; it must be above 0")
    height, width = size
    f = np.hypot.outer(np.arange(height) / (2 * height), np.arange(width) / (2 * width))
    with np.errstate(over="ignore"):  # far above the cut-off nothing passes
        return f * np.exp(-((f / cutoff) ** 4))


def load_folder(folder: Path | str, grey: bool = True) -> Source:
    """All images of a folder, which must have one size, as rows scaled to [0, 1].

    They are held in memory as bytes, or with 16 bits as soon as one image has them.

    Raises
    ------
    InputError
        If there is no image, two differ in size (the message names the first two), one cannot be read, or all
        together would take memory out of proportion to their files.
    """
    folder = Path(folder)
    files = image_files(folder)
    album = FolderAlbum(files)
    height, width, deep = _header(files[0])
    for path in files[1:]:
        *size, deeper = _header(path)
        deep = deep or deeper
        if size != [height, width]:
            raise InputError(
                f"the images of {folder} differ in size: {files[0].name} is {_size((height, width))} and "
                f"{path.name} is {_size(size)}; use --patch N for patches of N by N pixels, or make "
                "them all one size"
            )
    shape = (height, width) if grey else (height, width, 3)
    dtype = np.dtype(np.uint16 if deep else np.uint8)
    # As bytes all of them, and one row as floats.
    _check_total(files, math.prod(shape) * max(len(files) * dtype.itemsize, 8))
    values = np.empty((len(files), math.prod(shape)), dtype)
    for row, path in zip(values, files, strict=True):
        pixels = read_image(path, grey).ravel()
        row[:] = pixels if pixels.dtype == dtype else pixels.astype(dtype) * 257
    notes = f"{'grey' if grey else 'colour'} values scaled to [0, 1]"
    return ArraySource(values, Description(folder.name, "image", shape, notes=notes), _SCALES[dtype], album)


def load_patches(folder: Path | str, side: int, n_patches: int, generator: Generator) -> Source:
    """Grey patches in [0, 1] from the images of a folder; one image at a time is in memory.

    Raises
    ------
    InputError
        If there is no image, one cannot be read, or one is smaller than a patch. It is not skipped, for
        the patches would then come from fewer images than the folder shows.
    """
    folder = Path(folder)
    files = image_files(folder)
    album = FolderAlbum(files)
    sizes = []
    for path in files:
        sizes.append(_header(path)[:2])
        if side > min(sizes[-1]):
            raise InputError(
                f"{path} is {_size(sizes[-1])}, too small for patches of {side} by {side} pixels; "
                f"take it out of the folder, or use --patch {min(sizes[-1])} or less"
            )
    patches, places = extract_patches((read_image(path) for path in files), side, n_patches, generator, sizes)
    return ArraySource(patches, _of_patches(folder.name, side), provenance=PatchProvenance(album, places))


def cut_patches(source: Source, side: int, n_patches: int, generator: Generator) -> Source:
    """Patches from images that are the rows of a source, grey and of one size; values stay what they are.

    Raises
    ------
    InputError
        If the images are smaller than a patch.
    """
    name = source.description.name
    height, width = source.description.shape or ()
    if side > min(height, width):
        raise InputError(
            f"the images of {name} are {_size((height, width))}, too small for patches of {side} by {side} pixels; "
            f"use --patch {min(height, width)} or less"
        )
    images = (row.reshape(height, width) for rows in source.batches() for row in rows)
    patches, places = extract_patches(images, side, n_patches, generator, [(height, width)] * source.shape[0])
    return ArraySource(patches, _of_patches(name, side), provenance=PatchProvenance(source, places))


def extract_patches(
    images: Iterable[NDArray[Any]],
    side: int,
    n_patches: int,
    generator: Generator,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> tuple[NDArray[np.float32], Places]:
    """Square patches at positions drawn uniformly, with replacement, from all positions in all images.

    Parameters
    ----------
    images : iterable of ndarray of shape (height, width)
        Grey images, gone through once: 8 or 16 bits, which are scaled to [0, 1], or floats, which are not.
    side : int
        Height and width of a patch.
    n_patches : int
        How many.
    generator : Generator
        Where the positions come from; the order of the rows is random too.
    sizes : sequence of (height, width), optional
        The images' sizes; needed when ``images`` is not a sequence.

    Returns
    -------
    patches : ndarray of shape (n_patches, side * side), float32
        One patch a row, row-major.
    places : Places
        Where each was cut.

    Raises
    ------
    InputError
        If ``side`` or ``n_patches`` is below 1, or an image is smaller than a patch.
    """
    if sizes is None:
        images = list(images)
        sizes = [image.shape for image in images]
    if side < 1 or n_patches < 1:
        raise InputError(f"{n_patches} patches of {side} by {side} pixels were asked for; both must be at least 1")
    free = np.array(sizes, dtype=np.int64).reshape(-1, 2) - side + 1
    if not len(free) or free.min() < 1:
        raise InputError(f"patches of {side} by {side} pixels do not fit in every image; use smaller ones")
    share = np.cumsum(free.prod(axis=1)) / free.prod(axis=1).sum()
    draws = generator.uniform((n_patches, 3), torch.float64).numpy()
    which = np.searchsorted(share, draws[:, 0], side="right")
    corners = (draws[:, 1:] * free[which]).astype(np.int64)
    patches = np.empty((n_patches, side, side), np.float32)
    for number, image in enumerate(images):
        scale = np.float32(_SCALES.get(image.dtype, 1.0))
        for row in np.flatnonzero(which == number):
            top, left = corners[row]
            patches[row] = image[top : top + side, left : left + side].astype(np.float32) * scale
    return patches.reshape(n_patches, -1), Places(which.astype(np.int32), corners.astype(np.int32), side)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            _check_canvas(path)
            # Mapped, for a file would be asked for as many bytes as one of its fields claims, and set them aside.
            with (
                path.open("rb") as stream,
                mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
                Image.open(cast(IO[bytes], content), formats=_FORMATS) as image,
            ):
                # Each row has a pointer as well.
                check_expansion(path, image.height * (8 + image.width * _BYTES.get(image.mode, 4)))
                yield image
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path} claims more pixels than is safe to unpack; cut it into smaller images") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is of none of the formats that are read ({', '.join(_FORMATS)}), or is damaged where it begins; "
            "replace it or take it away"
        ) from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
        raise InputError(f"{path} cannot be read as an image ({reason}); replace it or take it away") from error


def _check_canvas(path: Path) -> None:
    """Pillow's reader of WebP makes two pictures of the size that the file claims before it says what that is."""
    with path.open("rb") as stream:
        head = stream.read(30)
    if head[8:12] != b"WEBP" or len(head) < 30:
        return
    if head[12:16] == b"VP8X":
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
    elif head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    check_expansion(path, 4 * width * height)


def _header(path: Path) -> tuple[int, int, bool]:
    """Height, width, and whether it has 16 bits; no pixel is read."""
    with _opened(path) as image:
        return image.height, image.width, image.mode.startswith("I")


def _check_total(files: Sequence[Path], claimed: int) -> None:
    check_expansion(files[0].parent, claimed, sum(path.stat().st_size for path in files))


@contextmanager
def _silent() -> Iterator[None]:
    # libtiff tells standard error, in its own words, what it tells Pillow as well.
    with _STANDARD_ERROR, open(os.devnull, "wb") as sink:
        kept = os.dup(2)
        try:
            os.dup2(sink.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _image_size(image: NDArray[Any], dimensions: tuple[int, ...], least: int = 1) -> tuple[int, int]:
    """(height, width), where it has one of these numbers of dimensions and at least ``least`` pixels each way."""
    if image.ndim not in dimensions or min(image.shape) < 1 or min(image.shape[:2]) < least:
        wanted = " or ".join(("(height, width)", "(height, width, channels)")[n - 2] for n in dimensions)
        pixels = "one pixel" if least == 1 else f"{least} pixels"
        raise InputError(
            f"an array of shape {image.shape} was given for an image; {wanted}, {pixels} or more, is needed"
        )
    return image.shape[0], image.shape[1]


def _of_patches(name: str, side: int) -> Description:
    notes = f"{side} by {side} patches at random positions, grey values scaled to [0, 1]"
    return Description(name, "image", (side, side), notes=notes)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}×{shape[0]} pixels"
