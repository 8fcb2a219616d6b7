"""Table and history to pictures: every function returns a matplotlib figure and keeps no global state.

Images have one scale rule, :func:`to_grey`, which the page uses too: zero is mid-grey, the limit white, minus
the limit black. Colours are from the palette of Okabe and Ito, which colour-blind people can tell apart.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, LogLocator, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from rarefire.data.source import Description
from rarefire.errors import InputError, printable
from rarefire.features import FeatureTable

Mode = Literal["signed", "positive"]

DPI = 150
WIDEST_STRIP = 4096  # columns that a strip of grey values is drawn for; a screen has no more pixels
MID_GREY = 128
# Light blue, so that a gap is no grey value and stands out from black, mid-grey and white images alike.
GAP = (178, 200, 230)
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
GRID_WIDTH = 1200  # pixels that a grid of small images is enlarged to fill
TILE_WIDTH = 240  # pixels that a single small image is enlarged to at most


def to_grey(values: ArrayLike, limit: ArrayLike) -> NDArray[np.uint8]:
    """Map [-limit, limit] to grey: -limit is 0 (black), 0 is 128 (mid-grey), limit is 255 (white).

    Parameters
    ----------
    values : array-like
        Any shape; values beyond the limit are clipped to it.
    limit : array-like
        One number, or an array that broadcasts against ``values``; where it is zero, everything is mid-grey.
    """
    values, limit = np.broadcast_arrays(np.asarray(values, float), np.asarray(limit, float))
    scaled = np.divide(values, limit, out=np.zeros(values.shape), where=limit > 0)
    return np.clip(MID_GREY + 127.5 * scaled, 0, 255).astype(np.uint8)


def grey_rows(rows: NDArray, limit: float | None = None, mode: Mode = "signed") -> NDArray[np.uint8]:
    """Grey values of images, one a row of shape (n_features,).

    Parameters
    ----------
    limit : float, optional
        The value that is white; by default each image's own largest absolute value. Only for "signed".
    mode : {"signed", "positive"}
        "signed": zero is mid-grey. "positive": 0 is black and 1 is white.
    """
    if mode == "positive":
        return to_grey(2 * np.asarray(rows, float) - 1, 1.0)
    return to_grey(rows, np.abs(rows).max(axis=1, keepdims=True) if limit is None else limit)


def example_mode(rows: NDArray[np.floating]) -> Mode:
    """How data rows are drawn: "positive" when all values lie in [0, 1], "signed" otherwise."""
    return "positive" if rows.size and rows.min() >= 0 and rows.max() <= 1 else "signed"


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """(height, width, channels) of images; :class:`InputError` unless there are one or three channels."""
    height, width, channels = (*shape, 1)[:3]
    if len(shape) not in (2, 3) or channels not in (1, 3):
        raise InputError(
            f"images of shape {tuple(shape)} cannot be drawn: expected (height, width) for grey images or "
            "(height, width, 3) for colour images"
        )
    return height, width, channels


def grid(
    rows: NDArray[np.floating],
    shape: Sequence[int],
    columns: int | None = None,
    limit: float | None = None,
    mode: Mode = "signed",
) -> Figure:
    """Images side by side, with gaps between and around them: one pixel, or a quarter of an enlarged one.

    Parameters
    ----------
    rows, shape
        The images, row-major and channels last; (height, width) or (height, width, 3).
    columns : int, optional
        Images in a row; by default as many as make the picture about square.
    limit, mode
        As for :func:`grey_rows`.

    Raises :class:`InputError` when there is no image, or the shape does not fit the rows.
    """
    height, width, channels = image_shape(shape)
    rows = np.asarray(rows)
    if rows.ndim != 2 or len(rows) == 0 or rows.shape[1] != height * width * channels:
        raise InputError(
            f"rows of shape {rows.shape} are not images of shape {tuple(shape)}: expected one image or more, "
            f"each a row of {height * width * channels} values"
        )
    square = max(1, round(math.sqrt(len(rows) * (height + 1) / (width + 1))))
    columns = min(columns or square, len(rows))
    lines = math.ceil(len(rows) / columns)

    # A whole number of picture pixels for each image pixel: nothing is interpolated.
    zoom = max(1, min(GRID_WIDTH // (columns * (width + 1)), TILE_WIDTH // width))
    gap = max(1, zoom // 4)
    tiles = grey_rows(rows, limit, mode).reshape(-1, height, width, channels)
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    down, across = tiles.shape[1] + gap, tiles.shape[2] + gap
    cells = np.full((lines * columns, down, across, 3), GAP, dtype=np.uint8)
    cells[: len(rows), gap:, gap:] = tiles
    mosaic = np.full((lines * down + gap, columns * across + gap, 3), GAP, dtype=np.uint8)
    cells = cells.reshape(lines, columns, down, across, 3).swapaxes(1, 2)
    mosaic[:-gap, :-gap] = cells.reshape(lines * down, columns * across, 3)
    # The hundredth of a pixel keeps rounding from cutting a row off.
    figure = Figure(figsize=((mosaic.shape[1] + 0.01) / DPI, (mosaic.shape[0] + 0.01) / DPI), dpi=DPI)
    figure.figimage(mosaic, origin="upper")
    return figure


def cost_curves(history: Sequence[dict[str, Any]], label: str) -> Figure:
    """Training and held-out cost over epochs; dashed, the same by the mean field.

    The cost axis is logarithmic, unless a cost is zero or negative.

    Parameters
    ----------
    history : list of dict
        One record an epoch; any of ``epoch``, ``cost``, ``validation_cost`` and these two plus ``_mean_field``.
    label : str
        The unit that the cost axis names: "nats per pixel".
    """
    curves = (
        ("cost", "training", BLUE, "-"),
        ("cost_mean_field", "training, mean-field", BLUE, "--"),
        ("validation_cost", "held out", VERMILION, "-"),
        ("validation_cost_mean_field", "held out, mean-field", VERMILION, "--"),
    )
    figure, axes = one_chart(6.4, 3.8)
    drawn: list[float] = []
    for key, name, colour, style in curves:
        points = [
            (record.get("epoch", place), record[key])
            for place, record in enumerate(history, start=1)
            if record.get(key) is not None and math.isfinite(record[key])
        ]
        if points:
            epochs, costs = zip(*points, strict=True)
            marker = "o" if len(points) == 1 else ""
            axes.plot(epochs, costs, style, color=colour, label=name, linewidth=1.4, marker=marker)
            drawn.extend(costs)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"cost ({label})", parse_math=False)
    axes.xaxis.set_major_locator(_whole_numbers())
    if len(history) == 1:
        axes.set_xlim(0, 2 * history[0].get("epoch", 1))
    if not drawn:
        axes.text(0.5, 0.5, "no cost was recorded", ha="center", va="center", transform=axes.transAxes)
        return figure
    if min(drawn) > 0:
        log_axis(axes, max(drawn) / min(drawn))
    axes.legend(frameon=False)
    return figure


def log_axis(axes: Axes, span: float) -> None:
    """A logarithmic y axis with plain numbers, and some whatever the span from smallest to largest value."""
    axes.set_yscale("log")
    few = (1.0,) if span > 1000 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(AutoLocator() if span < 10 else LogLocator(subs=few))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def activity(table: FeatureTable) -> Figure:
    """Share of rows on which a unit is active, and its mean code, each sorted; dead and always-on marked."""
    figure, (left, right) = charts(2, 8.0, 3.6)
    sides = (
        (left, table.share_active, "share of rows on which active"),
        (right, table.mean_code, "mean code over all rows"),
    )
    for axes, values, label in sides:
        order = np.argsort(-values, kind="stable")
        place = np.arange(1, len(order) + 1)
        axes.plot(place, values[order], ".-", color=BLUE, linewidth=1, markersize=3)
        for marked, name, colour, marker in (
            (table.dead, "dead", VERMILION, "x"),
            (table.always_on, "always on", GREEN, "^"),
        ):
            here = marked[order]
            count = f"{name}: {here.sum():,} of {len(here):,} units"
            # Markers at the edge are shown whole; without any, an unclipped line would confuse the layout.
            look: dict[str, Any] = {"color": colour, "markersize": 4, "clip_on": not here.any()}
            axes.plot(place[here], values[order][here], marker, label=count, **look)
        axes.set_xlabel("units, most active first")
        axes.set_ylabel(label)
        axes.set_xlim(1 - 0.03 * len(order), 1.03 * len(order))
        axes.xaxis.set_major_locator(_whole_numbers())
    top = max(0.05, min(1.02, 1.15 * float(table.share_active.max())))
    left.set_ylim(-0.02 * top, top)
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def spread(table: FeatureTable) -> Figure:
    """Units by the share of rows on which they are active, rows by the number of active units, units by norm."""
    figure, panels = charts(3, 9.6, 3.0)
    rows = "documents" if table.description.kind == "words" else "rows"
    panels[0].hist(table.share_active, bins=np.linspace(0, 1, 26).tolist(), color=BLUE)
    panels[0].xaxis.set_major_formatter(PercentFormatter(1.0))
    panels[0].set_xlabel(f"share of {rows} on which active")
    most = int(np.flatnonzero(table.active_histogram).max(initial=0))
    counts = np.arange(most + 1)
    panels[1].hist(counts, bins=min(40, most + 1), weights=table.active_histogram[: most + 1], color=BLUE)
    panels[1].set_xlabel(f"units active on one of the {rows}")
    panels[2].hist(table.norm, bins=25, color=BLUE)
    panels[2].set_xlabel("norm of weights")
    for axes, what in zip(panels, ("units", rows, "units"), strict=True):
        axes.set_ylabel(what)
        axes.yaxis.set_major_locator(_whole_numbers())
    panels[1].xaxis.set_major_locator(_whole_numbers())
    return figure


def reconstructions(table: FeatureTable) -> Figure | None:
    """Rows that are images in a line, below each what comes back of it and the difference; None for other rows.

    Differences have the scale of the rows.
    """
    if table.description.kind != "image" or table.description.shape is None or table.inputs.shape[0] == 0:
        return None
    inputs = table.inputs.toarray()
    mode = example_mode(inputs)
    limit = 1.0 if mode == "positive" else float(np.abs(inputs).max()) or 1.0
    # In signed values, so that differences stand beside rows of either kind.
    lines = [2 * rows - 1 if mode == "positive" else rows for rows in (inputs, table.outputs)]
    lines.append(table.outputs - inputs)
    return grid(np.concatenate(lines), table.description.shape, columns=len(inputs), limit=limit)


def top_features(table: FeatureTable, n_units: int = 24, n_weights: int = 8) -> Figure:
    """For the units of largest norm, the columns of largest weight as bars: :func:`strongest`."""
    names = column_names(table.description, table.components.shape[1])
    units = np.sort(np.argsort(-table.norm, kind="stable")[:n_units])
    n_weights = min(n_weights, len(names))
    columns = min(4, len(units))
    lines = math.ceil(len(units) / columns)
    size = (max(3.0 * columns, 4.5), lines * (0.55 + 0.19 * n_weights) + 0.45)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    what = "Words of largest weight" if table.description.kind == "words" else "Largest weights"
    which = f"; the {len(units)} of {len(table.norm):,} units of largest norm" if len(units) < len(table.norm) else ""
    figure.suptitle(what + which, fontsize=9)
    all_axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, unit in zip(all_axes, units, strict=False):
        top = strongest(table, unit, n_weights)
        weights = table.components[unit, top]
        axes.barh(range(len(top)), weights, color=np.where(weights < 0, VERMILION, BLUE))
        axes.set_yticks(range(len(top)), [_short(names[column]) for column in top])
        for text in axes.get_yticklabels():
            text.set_parse_math(False)  # a dollar sign in a column's name is a dollar sign
        axes.set_ylim(n_weights - 0.5, -0.5)
        if not weights.any():
            axes.set_xlim(-1, 1)
        axes.axvline(0, color="0.3", linewidth=0.6)
        axes.set_title(f"unit {unit}", fontsize=8, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axes.tick_params(labelsize=7, length=2)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in all_axes[len(units) :]:
        axes.set_visible(False)
    return figure


def strongest(table: FeatureTable, unit: int, count: int) -> NDArray[np.int64]:
    """The columns that tell what a unit stands for, ``count`` at the most.

    Named columns and plain ones come by absolute weight, largest first. Words come by weight: a document has a few
    of them, and a unit is called after those that excite it. Negative weights have a third of the places, and those
    that positive ones leave; they stand last, most negative last of all. A weight of zero tells nothing and is left
    out.
    """
    return leading(table.components[unit], count, words=table.description.kind == "words")


def leading(weights: NDArray[np.floating], count: int, *, words: bool) -> NDArray[np.int64]:
    """As :func:`strongest`, by the weights of one unit."""
    if not words:
        return np.argsort(-np.abs(weights), kind="stable")[:count]
    order = np.argsort(-weights, kind="stable")
    above, below = int((weights > 0).sum()), int((weights < 0).sum())
    n_positive = min(above, count - min(below, count // 3))
    n_negative = min(below, count - n_positive)
    return np.concatenate([order[:n_positive], order[len(order) - n_negative :]])


def heat_map(table: FeatureTable) -> Figure:
    """The components as a picture, one unit a row; white is zero, red positive and blue negative."""
    figure, axes = one_chart(7.0, min(max(1.6 + 0.12 * len(table.components), 2.4), 8.0))
    limit = float(np.abs(table.components).max()) or 1.0
    image = axes.imshow(
        table.components, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    axes.set_xlabel("column")
    axes.set_ylabel("unit")
    axes.xaxis.set_major_locator(_whole_numbers())
    axes.yaxis.set_major_locator(_whole_numbers())
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="weight")
    return figure


def features(table: FeatureTable) -> Figure:
    """All features as the data suggest: a grid of images, bars of words or named columns, or a heat map."""
    if table.description.kind == "image" and table.description.shape is not None:
        return grid(table.components, table.description.shape)
    return top_features(table) if table.description.kind in ("named", "words") else heat_map(table)


def optimal_inputs(table: FeatureTable) -> Figure | None:
    """The images that excite the units most, as a grid with each image's own limit.

    None where there is nothing to see: rows that are no images, and units whose optimal inputs are their components.
    """
    if table.description.kind != "image" or table.description.shape is None or not table.untied:
        return None
    return grid(table.optimal, table.description.shape)


def text_table(
    header: Sequence[str], lines: Sequence[Sequence[str]], widths: Sequence[float], size: float = 7.0
) -> Figure:
    """Lines of text in columns.

    Parameters
    ----------
    header, lines : sequence of str
        As many cells in each line as in the header.
    widths : sequence of float
        Share of the figure's width for each column.
    size : float
        Points.
    """
    height = 0.022 * size * (len(lines) + 2)
    figure = Figure(figsize=(8.0, height), dpi=DPI)
    starts = np.cumsum([0.01, *widths])[:-1]
    for place, cells in enumerate([header, *lines]):
        y = 1 - (place + 0.9) / (len(lines) + 2)
        for x, cell in zip(starts, cells, strict=True):
            weight = "bold" if place == 0 else "normal"
            figure.text(x, y, cell, fontsize=size, va="center", parse_math=False, weight=weight)
    return figure


def drawn_shape(what: Description, n_features: int) -> tuple[int, int, int] | None:
    """Height, width and channels of what rows are drawn as: an image, or a strip of a plain row that is no wider than
    a screen; None for rows that are told by the names of their columns.
    """
    if what.kind == "image" and what.shape is not None:
        return image_shape(what.shape)
    return (1, n_features, 1) if what.kind == "plain" and n_features <= WIDEST_STRIP else None


def column_names(what: Description, n_features: int) -> tuple[str, ...]:
    """The columns' names, or "column 0", ... where they have none."""
    return what.feature_names or tuple(f"column {i}" for i in range(n_features))


def signed_names(weights: NDArray[np.floating], columns: NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """The names of columns, a minus before those of negative weight, those of none left out."""
    return [("−" if weights[column] < 0 else "") + names[column] for column in columns if weights[column] != 0]


def write(figure: Figure, kind: Literal["png", "svg"] = "png") -> bytes:
    """The figure as PNG at 150 dots an inch, or as SVG with letters as shapes; equal figures give equal bytes."""
    buffer = io.BytesIO()
    silent = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    with warnings.catch_warnings(), rc_context({"svg.hashsalt": "rarefire"}):
        warnings.filterwarnings("ignore", message="Glyph")  # a word in letters that the font has not shows as boxes
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=silent[kind])
    return buffer.getvalue()


def one_chart(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of this size in inches, with one tidy chart in it."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _tidy(axes)
    return figure, axes


def charts(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure of this size in inches, with tidy charts side by side."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    panels = list(figure.subplots(1, n))
    for axes in panels:
        _tidy(axes)
    return figure, panels


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= 22 else name[:21] + "…"


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
