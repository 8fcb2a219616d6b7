"""Features as text graphics: small pictures of half blocks, words, and a histogram of how often units are active."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from rich.text import Text

from rarefire.display import bars
from rarefire.errors import printable
from rarefire.features import FeatureTable
from rarefire.plots import column_names, grey_rows, image_shape, signed_names, strongest

#: Pixels of a picture's longer side at most; larger ones are drawn with means of pixels.
SIDE = 16
#: Lines of pictures, units that are told in words, and words for each.
PICTURE_LINES, N_TOLD, N_WORDS = 2, 8, 8
#: From black to white, where there are no colours.
SHADES = " ░▒▓█"


def activity(table: FeatureTable) -> Iterator[str]:
    """How many units are active on how large a share of rows: a histogram in tenths, and both ends in words."""
    rows = "documents" if table.description.kind == "words" else "rows"
    counts = np.histogram(table.share_active, bins=10, range=(0, 1))[0]
    n_units = len(table.norm)
    yield f"{n_units} units by the share of {rows} on which they are active, 0% to 100%:  {bars(counts.tolist())}"
    median = 100 * float(np.median(table.share_active))
    yield f"median {median:.3g}% of {rows}; dead, on none: {table.dead.sum()}; always on: {table.always_on.sum()}"


def features(table: FeatureTable, width: int, *, colour: bool) -> Iterator[Text]:
    """The units of largest norm, as pictures where rows are such, else in words; lines of at most ``width`` columns.

    Parameters
    ----------
    colour : bool
        Whether greys can be shown; else pictures are made of five shades.
    """
    kind, shape = table.description.kind, table.description.shape
    units = np.argsort(-table.norm, kind="stable")
    if kind == "image" and shape is not None:
        beside = max(1, (width + 1) // (math.ceil(shape[1] / _block(shape)) + 1))
        chosen = np.sort(units[: beside * PICTURE_LINES])
        yield from _which(len(chosen), len(units))
        for start in range(0, len(chosen), beside):
            here = chosen[start : start + beside]
            pictures = small(grey_rows(table.components[here]).reshape(-1, *image_shape(shape)))
            yield from _pictures(pictures, here, colour=colour)
        return
    chosen = np.sort(units[:N_TOLD])
    yield from _which(len(chosen), len(units))
    names = column_names(table.description, table.components.shape[1])
    for unit in chosen:
        told = signed_names(table.components[unit], strongest(table, unit, N_WORDS), names)
        share = f"{100 * table.share_active[unit]:.3g}%"
        line = Text(f"{unit:>6}  {share:>6}  {printable(', '.join(told))}")
        line.truncate(width, overflow="ellipsis")
        yield line


def small(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (n, height, width, channels) with at most ``SIDE`` pixels a side, by means of square blocks."""
    factor = _block(pictures.shape[1:])
    starts = [np.arange(0, side, factor) for side in pictures.shape[1:3]]
    sums = np.add.reduceat(np.add.reduceat(pictures.astype(float), starts[0], axis=1), starts[1], axis=2)
    sizes = [np.diff([*start, side]) for start, side in zip(starts, pictures.shape[1:3], strict=True)]
    return (sums / np.outer(*sizes)[:, :, None]).round().astype(np.uint8)


def _block(shape: Sequence[int]) -> int:
    """The side of the blocks of pixels that are one in a picture of this height and width."""
    return math.ceil(max(shape[:2]) / SIDE)


def _which(shown: int, n_units: int) -> Iterator[Text]:
    if shown < n_units:
        yield Text(f"the {shown} of {n_units} units of largest norm:")


def _pictures(pictures: NDArray[np.uint8], units: NDArray[np.int64], *, colour: bool) -> Iterator[Text]:
    """The units' pictures side by side with their numbers below; a character is two pixels, one above the other."""
    height, width, _ = pictures.shape[1:]
    for top in range(0, height, 2):
        rows = zip(pictures[:, top], pictures[:, min(top + 1, height - 1)], strict=True)
        shown = (Text.assemble(*map(partial(_pixels, colour=colour), upper, lower)) for upper, lower in rows)
        yield Text(" ").join(shown)
    yield Text(" ".join(f"{unit:<{width}}" for unit in units))


def _pixels(above: NDArray[np.uint8], below: NDArray[np.uint8], *, colour: bool) -> tuple[str, Style]:
    if not colour:
        mean = (float(above.mean()) + float(below.mean())) / 2
        return SHADES[int(mean / 256 * len(SHADES))], Style.null()
    # One channel stands for all three.
    upper, lower = (f"#{''.join(f'{value:02x}' for value in np.resize(pixel, 3))}" for pixel in (above, below))
    return "▀", Style(color=upper, bgcolor=lower)
