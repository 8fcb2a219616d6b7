"""Where a row comes from: a part of a photograph, or a document; looked up when it is asked for, and not kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rarefire.errors import InputError, printable

#: Characters of a document that its origin shows, at the most.
LONGEST_TEXT = 4000


@dataclass(frozen=True)
class PictureOrigin:
    """A row that is a photograph, or a part of one.

    Parameters
    ----------
    photograph : int
        Its number, by which :meth:`Provenance.photograph` gives its pixels.
    name : str
        What it is called: the name of its file, with what no screen shows escaped.
    size : (height, width)
        Of the photograph, in pixels.
    box : (top, left, height, width)
        The part, in shares of the photograph's height and width; (0, 0, 1, 1) is all of it.
    """

    photograph: int
    name: str
    size: tuple[int, int]
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class DocumentOrigin:
    """A row that is a document.

    Parameters
    ----------
    text : str
        The document, or where it begins: at most ``LONGEST_TEXT`` characters. Nothing in it is escaped.
    cut : bool
        Whether it goes on. The text then ends before a word that would not be whole.
    title : str or None
        What it is called: the title of a film, the group of a post.
    """

    text: str
    cut: bool
    title: str | None = None

    @classmethod
    def of(cls, document: str, title: str | None = None, longest: int = LONGEST_TEXT) -> DocumentOrigin:
        """A whole document, cut where it is too long."""
        document = document.strip()
        if len(document) <= longest:
            return cls(document, False, title)
        end = longest
        # Half a word would be taken for another one; where there is nothing but one word, it is cut after all.
        while end and _in_word(document[end - 1]) and _in_word(document[end]):
            end -= 1
        return cls(document[: end or longest].rstrip(), True, title)


Origin = PictureOrigin | DocumentOrigin


class Provenance:
    """Where the rows of a source come from; of this one nothing is known."""

    def origins(self, index: NDArray[np.int64]) -> Sequence[Origin] | None:
        """Where the rows at ``index`` come from, one entry each; None where that is not known.

        Files are read again, and only what is asked for is kept.

        Raises
        ------
        InputError
            If a file is gone, cannot be read, or has changed since it was opened.
        """
        return None

    def photograph(self, number: int, longest_side: int = 480) -> NDArray[np.uint8]:
        """The pixels of a photograph that an origin names, read again from its file, whatever was done to the rows.

        Parameters
        ----------
        number : int
            As :class:`PictureOrigin` has it.
        longest_side : int
            Pixels of the longer side, at the most; a smaller photograph stays as it is.

        Returns
        -------
        ndarray of shape (height, width) or (height, width, 3)
            Grey where every pixel is.

        Raises
        ------
        InputError
            If the rows come from no photograph, or its file is gone, cannot be read, or has changed.
        """
        raise InputError("these rows come from no photograph; ask for one only where origins() names it")


class Album(Provenance, ABC):
    """Pictures that are read when they are asked for; as a provenance, that of rows each of which is one of them."""

    @abstractmethod
    def name(self, number: int) -> str:
        """What a picture is called."""

    @abstractmethod
    def size(self, number: int) -> tuple[int, int]:
        """(height, width) of a picture, read without its pixels where that is possible."""

    @abstractmethod
    def pixels(self, number: int) -> NDArray[Any]:
        """All pixels of a picture, 8 or 16 bits: (height, width) or (height, width, 3)."""

    def origins(self, index: NDArray[np.int64]) -> list[PictureOrigin]:
        """Each row is a picture of its own, all of it."""
        numbers = np.asarray(index).tolist()
        return [PictureOrigin(n, printable(self.name(n)), self.size(n), (0.0, 0.0, 1.0, 1.0)) for n in numbers]

    def photograph(self, number: int, longest_side: int = 480) -> NDArray[np.uint8]:
        """The picture, made smaller."""
        if longest_side < 1:
            raise InputError(f"a photograph of {longest_side} pixels was asked for; ask for 1 or more")
        pixels = self.pixels(number)
        if pixels.dtype == np.uint16:
            pixels = (pixels // 257).astype(np.uint8)
        if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
        height, width = pixels.shape[:2]
        share = min(1.0, longest_side / max(height, width))
        size = max(1, round(share * width)), max(1, round(share * height))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


@dataclass(frozen=True)
class Places:
    """Squares in pictures, one for each row.

    Parameters
    ----------
    picture : ndarray of int32 of shape (n_rows,)
        The number of the picture.
    corner : ndarray of int32 of shape (n_rows, 2)
        Top and left, in pixels.
    side : int or ndarray of int32 of shape (n_rows,)
        Height and width.
    """

    picture: NDArray[np.int32]
    corner: NDArray[np.int32]
    side: int | NDArray[np.int32]


class PatchProvenance(Provenance):
    """That of rows which are squares cut from pictures.

    Parameters
    ----------
    pictures : Provenance
        That of the pictures: an album, or a source of which each row is one.
    places : Places
        Where each row lies.
    scale : int
        How many pixels of the photographs, in each direction, are one of those that ``places`` counts: 2 where pictures
        were halved.
    """

    def __init__(self, pictures: Provenance, places: Places, scale: int = 1) -> None:
        self.pictures = pictures
        self.places = places
        self.scale = scale

    def origins(self, index: NDArray[np.int64]) -> list[PictureOrigin] | None:
        """The part of the photograph that each row was cut from."""
        numbers, inverse = np.unique(self.places.picture[index], return_inverse=True)
        wholes = self.pictures.origins(numbers.astype(np.int64))
        if wholes is None:
            return None
        sides = np.broadcast_to(self.places.side, len(self.places.picture))[index]
        rows = zip(inverse.tolist(), self.places.corner[index].tolist(), sides.tolist(), strict=True)
        return [_part(wholes[which], corner, side, self.scale) for which, corner, side in rows]

    def photograph(self, number: int, longest_side: int = 480) -> NDArray[np.uint8]:
        """The photograph, made smaller."""
        return self.pictures.photograph(number, longest_side)


def _part(whole: Origin, corner: Sequence[int], side: int, scale: int) -> PictureOrigin:
    assert isinstance(whole, PictureOrigin)  # patches are cut from pictures
    height, width = (pixels / scale for pixels in whole.size)
    return replace(whole, box=(corner[0] / height, corner[1] / width, side / height, side / width))


def _in_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"
