"""Small pictures of features and training for notebooks: HTML without scripts, in the colours of the page around it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rarefire.data.source import Description
from rarefire.errors import InputError
from rarefire.plots import column_names, drawn_shape, grey_rows, image_shape, leading, signed_names
from rarefire.report import number, visible

N_PICTURES = 60  # units drawn at the most, fewer where images are large
N_PIXELS = 2**18  # of all of them together
N_TOLD = 12  # units whose columns are named
N_NAMES = 6  # columns named for a unit
N_POINTS = 240  # of a curve
TILE_WIDTH = 40  # pixels of the screen that a small image is enlarged to

_NOTE = "margin:.25em 0;font-size:.9em;opacity:.8"


@dataclass(frozen=True)
class Picture:
    """HTML that a notebook shows."""

    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def text(value: Any) -> str:
    """A text from data, fit for HTML."""
    return escape(visible(str(value)))


def note(sentence: str) -> str:
    """A line in small letters; the sentence is HTML."""
    return f'<p style="{_NOTE}">{sentence}</p>'


def features(components: NDArray[np.floating], description: Description) -> str:
    """Some units, those of largest norm: as images, as strips, or by the names of their columns of largest weight.

    Parameters
    ----------
    components : ndarray of shape (n_units, n_features)
        What each unit adds to a reconstruction.
    description : Description
        What the columns are. Only rows that are known to be images are drawn as such.
    """
    n_units, n_features = components.shape
    if (shape := drawn_shape(description, n_features)) is None:
        return _told(components, description)
    plain, (height, width, _) = description.kind == "plain", shape
    chosen = _largest(components, min(N_PICTURES, max(1, N_PIXELS // (height * width))))
    png, zoom, wide = (strips(components[chosen]), 1, 480) if plain else grid(components[chosen], shape)
    what = "a row of weights for each unit, from first to last column" if plain else "features"
    grey = "zero is mid-grey, black and white are minus and plus each unit's largest absolute weight"
    data = base64.b64encode(png).decode()
    style = f"display:block;width:{wide * zoom}px;max-width:100%;image-rendering:pixelated"
    style += f";height:{6 * len(chosen)}px" if plain else ""
    which = _which(len(chosen), n_units)
    return f'<img alt="{what}: {which}" src="data:image/png;base64,{data}" style="{style}">' + note(
        f"{which}; {f'{what}; ' if plain else ''}{grey}"
    )


def grid(rows: NDArray[np.floating], shape: tuple[int, int, int]) -> tuple[bytes, int, int]:
    """Images side by side as a PNG file, with gaps of one transparent pixel; how far to enlarge it, and its width."""
    height, width, channels = shape
    zoom = max(1, TILE_WIDTH // width)
    columns = min(len(rows), max(1, 640 // (zoom * (width + 1))))
    lines = math.ceil(len(rows) / columns)
    tiles = grey_rows(rows).reshape(-1, height, width, channels)
    cells = np.zeros((lines * columns, height + 1, width + 1, 4), dtype=np.uint8)
    cells[: len(rows), :-1, :-1, :3] = tiles
    cells[: len(rows), :-1, :-1, 3] = 255
    mosaic = cells.reshape(lines, columns, height + 1, width + 1, 4).swapaxes(1, 2)
    mosaic = mosaic.reshape(lines * (height + 1), columns * (width + 1), 4)[:-1, :-1]
    return _png(mosaic), zoom, mosaic.shape[1]


def strips(rows: NDArray[np.floating]) -> bytes:
    """Grey values of rows as a PNG file, a line of pixels for each."""
    return _png(grey_rows(rows))


def cost_curve(history: Sequence[dict[str, Any]], unit: str = "") -> str:
    """Training cost over the epochs as a small drawing, held-out cost dashed; nothing where none was recorded."""
    curves = []
    for key, name, dash in (("cost", "training", ""), ("validation_cost", "held out", "4 3")):
        points = [(i, record[key]) for i, record in enumerate(history) if math.isfinite(record.get(key, math.nan))]
        if points:
            every = math.ceil(len(points) / N_POINTS)
            curves.append((name, dash, [*points[:-1:every], points[-1]]))
    if not curves:
        return ""
    costs = np.array([cost for _, _, points in curves for _, cost in points])
    log = costs.min() > 0 and costs.max() >= 10 * costs.min()
    scale = math.log if log else float
    low, high = scale(costs.min()), scale(costs.max())
    lines = []
    for _, dash, points in curves:
        along = [
            (4 + 232 * i / max(1, len(history) - 1), 60 - 56 * (scale(y) - low) / ((high - low) or 1))
            for i, y in points
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in along)
        dots = f' stroke-dasharray="{dash}"' if dash else ""
        lines.append(
            f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="1.5"{dots}/>'
            if len(points) > 1
            else f'<circle cx="{along[0][0]:.1f}" cy="{along[0][1]:.1f}" r="2" fill="currentColor"/>'
        )
    ends = ", ".join(f"{name} {number(float(points[-1][1]))}" for name, _, points in curves)
    about = f"cost by epoch{f' in {text(unit)}' if unit else ''}: at the end {ends}"
    hint = f"{'; logarithmic' if log else ''}{'; held out dashed' if len(curves) > 1 else ''}"
    return (
        f'<svg role="img" aria-label="{about}" viewBox="0 0 240 64" '
        f'style="display:block;width:240px;height:64px;max-width:100%;margin-top:.5em">{"".join(lines)}</svg>'
        + note(about + hint)
    )


def boxed(*parts: str) -> str:
    """One picture of several parts."""
    return f'<div style="font-family:system-ui,sans-serif;max-width:48em;margin:.75em 0">{"".join(parts)}</div>'


def described(description: Description | None, names: Sequence[str] | None, n_features: int) -> Description:
    """What the columns are, by what is known of them: a description, else the names of the columns, else nothing."""
    if description is not None:
        return description
    named = None if names is None else tuple(map(str, names))
    return Description("array", "plain" if named is None else "named", None, named)


def as_images(shape: Sequence[int], n_features: int) -> Description:
    """The description of rows that are images of this shape.

    Raises
    ------
    InputError
        If they cannot be.
    """
    if math.prod(image_shape(shape)) != n_features:
        raise InputError(f"rows of {n_features} columns are no images of shape {tuple(shape)}; give the shape of a row")
    return Description("array", "image", tuple(shape))


def _told(components: NDArray[np.floating], description: Description) -> str:
    """Units by the names of their columns of largest weight, a minus before negative ones."""
    chosen = _largest(components, N_TOLD)
    names = column_names(description, components.shape[1])
    items = []
    for unit in chosen:
        columns = leading(components[unit], N_NAMES, words=description.kind == "words")
        told = text(", ".join(signed_names(components[unit], columns, names)))
        items.append(f'<tr><th scope="row" style="text-align:left">unit {unit}</th>')
        items.append(f'<td style="text-align:left">{told or "no weights"}</td></tr>')
    return f"<table>{''.join(items)}</table>" + note(f"{_which(len(chosen), len(components))}, by largest weights")


def _largest(components: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """The units of largest norm, in the order of their numbers."""
    norms = np.linalg.norm(components, axis=1)
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def _which(count: int, n_units: int) -> str:
    units = f"{n_units:,} unit{'s' if n_units > 1 else ''}"
    return units if count == n_units else f"{count} of {units}, those of largest norm"


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
