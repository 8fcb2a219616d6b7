"""Figures: exact pixels of the image grid, and nothing clipped or missing on the axes."""

import base64
import io
import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.sparse as sp
from PIL import Image

from rarefire import plots
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError
from rarefire.features import feature_table

GAP = np.array(plots.GAP)


def make_table(n_units, n_features, optimal=None, **description):
    rng = np.random.default_rng(0)
    components = rng.standard_normal((n_units, n_features)).astype(np.float32)
    components[-1] = 0
    rows = rng.standard_normal((60, n_features)).astype(np.float32)

    def encode(rows):
        codes = np.maximum(rows @ components.T - 1, 0)
        return codes, codes > 0

    if optimal is None:
        optimal = components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-9)
    return feature_table(components, optimal, encode, ArraySource(rows, Description("made up", **description)))


def decode(figure):
    return np.asarray(Image.open(io.BytesIO(plots.write(figure))).convert("RGB")).astype(int)


def tiles(pixels):
    """Boxes (top, bottom, left, right) of everything that is not gap, found from the picture alone."""
    ink = (pixels != GAP).any(axis=2)
    lines = _runs(ink.any(axis=1))
    return [(top, bottom, *run) for top, bottom in lines for run in _runs(ink[top:bottom].any(axis=0))]


def _runs(flags):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_scale_rule():
    grey = plots.to_grey([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], 1.0)
    assert grey.tolist() == [0, 0, 64, 128, 191, 255, 255]
    assert grey.dtype == np.uint8
    assert plots.to_grey(np.array([[1.0, -3.0], [0.0, 0.0]]), [[2.0], [0.0]]).tolist() == [[191, 0], [128, 128]]


def test_grid_pixels():
    rows = np.array([[-2, 0, 0, 2], [0, 0, 0, 0], [-1, 0.5, 1, 0]], dtype=np.float32)
    pixels = decode(plots.grid(rows, (2, 2), columns=2))
    boxes = tiles(pixels)
    assert len(boxes) == 3

    corners = []
    for top, bottom, left, right in boxes:
        box = pixels[top:bottom, left:right]
        half = len(box) // 2
        quarters = [box[:half, :half], box[:half, half:], box[half:, :half], box[half:, half:]]
        # Each image pixel is a flat square: nothing was interpolated.
        assert all((quarter == quarter[0, 0]).all() for quarter in quarters)
        assert all((quarter[0, 0] == quarter[0, 0, 0]).all() for quarter in quarters)
        corners.append([quarter[0, 0, 0] for quarter in quarters])
    # Each image by its own largest absolute value; a zero image is mid-grey.
    assert corners == [[0, 128, 128, 255], [128] * 4, [0, 191, 255, 128]]


def test_common_limit():
    rows = np.array([[1.0], [4.0]])
    pixels = decode(plots.grid(rows, (1, 1), columns=2, limit=2.0))
    assert [pixels[top, left, 0] for top, _, left, _ in tiles(pixels)] == [191, 255]


def test_positive_mode():
    pixels = decode(plots.grid(np.array([[0.0], [0.5], [1.0]]), (1, 1), columns=3, mode="positive"))
    assert [pixels[top, left, 0] for top, _, left, _ in tiles(pixels)] == [0, 128, 255]
    assert plots.example_mode(np.array([[0.0, 1.0]])) == "positive"
    assert plots.example_mode(np.array([[-0.1, 1.0]])) == plots.example_mode(np.array([[0.0, 16.0]])) == "signed"


@pytest.mark.parametrize("n", [1, 2, 25, 67, 256, 1000, 10_000])
def test_number_and_size_of_tiles(n):
    rng = np.random.default_rng(n)
    pixels = decode(plots.grid(rng.standard_normal((n, 6)), (3, 2)))
    boxes = tiles(pixels)
    assert len(boxes) == n
    heights, widths = {b - t for t, b, _, _ in boxes}, {r - le for _, _, le, r in boxes}
    assert len(heights) == len(widths) == 1
    (height,), (width,) = heights, widths
    assert (height % 3, width % 2) == (0, 0)
    assert height // 3 == width // 2
    columns = len({left for _, _, left, _ in boxes})
    gap = boxes[0][0]
    lines = math.ceil(n / columns)
    assert pixels.shape == (lines * (height + gap) + gap, columns * (width + gap) + gap, 3)
    # The gap is on all sides, of one colour, and far from mid-grey.
    assert (pixels[:gap] == GAP).all()
    assert (pixels[:, -gap:] == GAP).all()
    assert np.abs(GAP - plots.MID_GREY).max() > 64


def test_colour_images():
    row = np.zeros((1, 2, 1, 3))
    row[0, 0, 0] = [1, 0, -1]
    pixels = decode(plots.grid(row.reshape(1, -1), (2, 1, 3)))
    ((top, bottom, left, _),) = tiles(pixels)
    assert pixels[top, left].tolist() == [255, 128, 0]
    assert pixels[bottom - 1, left].tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    ("rows", "shape"), [(np.zeros((2, 5)), (2, 2)), (np.zeros((0, 4)), (2, 2)), (np.zeros((2, 8)), (2, 2, 2))]
)
def test_grid_refuses_what_is_no_image(rows, shape):
    with pytest.raises(InputError, match="expected"):
        plots.grid(rows, shape)


def history(n):
    return [
        {
            "epoch": epoch,
            "cost": 1 / epoch,
            "cost_mean_field": 0.8 / epoch,
            "validation_cost": 1.2 / epoch,
            "validation_cost_mean_field": 0.9 / epoch,
        }
        for epoch in range(1, n + 1)
    ]


def test_cost_curves():
    figure = plots.cost_curves(history(50), "nats per pixel")
    (axes,) = figure.axes
    assert axes.get_ylabel() == "cost (nats per pixel)"
    assert axes.get_xlabel() == "epoch"
    assert axes.get_yscale() == "log"
    styles = {line.get_label(): line.get_linestyle() for line in axes.lines}
    assert styles == {
        "training": "-",
        "training, mean-field": "--",
        "held out": "-",
        "held out, mean-field": "--",
    }
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(styles)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1 / epoch for epoch in range(1, 51)])


def test_cost_curves_of_what_is_there():
    some = plots.cost_curves([{"cost": 1.0}, {"cost": float("nan")}, {"cost": -1.0}], "nats per row").axes[0]
    assert some.get_yscale() == "linear"
    assert some.lines[0].get_xdata().tolist() == [1, 3]
    assert not plots.cost_curves([], "nats").axes[0].lines


def test_activity_counts():
    table = make_table(10, 5)
    legend = plots.activity(table).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [
        f"dead: {table.dead.sum()} of 10 units",
        f"always on: {table.always_on.sum()} of 10 units",
    ]
    assert table.dead.sum() >= 1


WORDS = ("a_word_that_goes_on_and_on_and_on", *(f"word{i}" for i in range(199)))
NAMES = ("price in $", r"$\no_such$ command", "<b>bold</b>", "a very long name that goes on and on", "plain")
FIGURES = {
    "cost": lambda: plots.cost_curves(history(300), "nats per pixel"),
    "cost, one epoch": lambda: plots.cost_curves(history(1), "nats per pixel"),
    "cost, none": lambda: plots.cost_curves([], "nats per pixel"),
    **{f"activity {n}": lambda n=n: plots.activity(make_table(n, 5)) for n in (1, 67, 1000)},
    **{f"heat map {n}": lambda n=n: plots.features(make_table(n, 12)) for n in (1, 67, 1000)},
    **{
        f"top features {n}": lambda n=n: plots.features(make_table(n, 5, kind="named", feature_names=NAMES))
        for n in (1, 5, 67)
    },
    **{
        f"top words {n}": lambda n=n: plots.features(make_table(n, 200, kind="words", feature_names=WORDS))
        for n in (1, 5, 67)
    },
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped(name):
    figure = FIGURES[name]()
    png = Image.open(io.BytesIO(plots.write(figure)))
    width, height = figure.get_size_inches()
    assert png.size == (int(width * 150), int(height * 150))
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    # A colour bar is narrow; an axis that the layout gave up on has no width at all.
    assert all(axes.get_window_extent().width > 10 for axes in figure.axes)


def test_equal_figures_give_equal_files():
    assert plots.write(FIGURES["cost"]()) == plots.write(FIGURES["cost"]())


def test_top_features_are_the_largest():
    table = make_table(3, 5, kind="named", feature_names=NAMES)
    axes = plots.top_features(table, n_weights=2).axes[1]
    widths = [bar.get_width() for bar in axes.patches]
    order = np.argsort(-np.abs(table.components[1]))[:2]
    np.testing.assert_allclose(widths, table.components[1][order])
    assert axes.get_yticklabels()[0].get_text()[:5] == NAMES[order[0]][:5]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 5, -9, 3, -2, 4, 2, 6], [7, 1, 5, 3, 4, 2]),  # two of six places for negative weights
        ([1, 5, 0, 3, 0, 4, 2, 6], [7, 1, 5, 3, 6, 0]),  # none negative: all places for the positive ones
        ([-1, 0, -2, 0, -3, 0, 0, 1], [7, 0, 2, 4]),  # one positive leaves places; zeros take none
        ([0] * 8, []),
    ],
)
def test_strongest_words(weights, expected):
    table = make_table(2, 8, kind="words", feature_names=tuple("abcdefgh"))
    table.components[0] = weights
    assert plots.strongest(table, 0, 6).tolist() == expected


def test_top_words_say_how_many_of_how_many():
    table = make_table(67, 200, kind="words", feature_names=WORDS)
    figure = plots.features(table)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 24
    assert figure.get_suptitle() == "Words of largest weight; the 24 of 67 units of largest norm"
    for axes in shown:
        unit = int(axes.get_title(loc="left").removeprefix("unit "))
        widths = [bar.get_width() for bar in axes.patches]
        weights = np.sort(table.components[unit])
        np.testing.assert_allclose(widths, [*weights[:-7:-1], *weights[1::-1]])
        assert axes.get_yticklabels()[0].get_text()[:5] == WORDS[table.components[unit].argmax()][:5]


def test_how_units_are_spread():
    table = make_table(12, 5)
    share, at_once, norms = plots.spread(table).axes
    heights = [[bar.get_height() for bar in axes.patches] for axes in (share, at_once, norms)]
    assert heights[0] == np.histogram(table.share_active, bins=25, range=(0, 1))[0].tolist()
    assert sum(heights[1]) == table.n_surveyed
    assert heights[2] == np.histogram(table.norm, bins=25)[0].tolist()


def test_reconstructions_stand_below_their_rows():
    table = make_table(3, 4, kind="image", shape=(2, 2))
    assert plots.reconstructions(table) is None
    rows = np.array([[0, 1, 0.5, 0], [1, 1, 0, 0]], np.float32)
    back = np.array([[0.5, 1, 0.5, 0], [1, 0, 0, 0]], np.float32)
    shown = replace(table, inputs=sp.csr_array(rows), outputs=back)
    pixels = decode(plots.reconstructions(shown))
    corners = [
        [pixels[y, x, 0] for y in (top, bottom - 1) for x in (left, right - 1)]
        for top, bottom, left, right in tiles(pixels)
    ]
    expected = np.concatenate([255 * rows, 255 * back, 128 + 127.5 * (back - rows)])
    np.testing.assert_allclose(corners, expected, atol=1)


def test_optimal_inputs_where_they_are_pictures_of_their_own():
    assert plots.optimal_inputs(make_table(3, 4, kind="image", shape=(2, 2))) is None
    optimal = np.array([[-2, 0, 0, 2], [0, 0, 0, 0], [-1, 0.5, 1, 0]], dtype=np.float32)
    assert plots.optimal_inputs(make_table(3, 4, optimal)) is None
    pixels = decode(plots.optimal_inputs(make_table(3, 4, optimal, kind="image", shape=(2, 2))))
    corners = [
        [pixels[y, x, 0] for y in (top, bottom - 1) for x in (left, right - 1)]
        for top, bottom, left, right in tiles(pixels)
    ]
    assert corners == [[0, 128, 128, 255], [128] * 4, [0, 191, 255, 128]]


def test_features_follows_the_kind():
    image = plots.features(make_table(4, 6, kind="image", shape=(2, 3)))
    assert len(tiles(decode(image))) == 4
    assert len(plots.features(make_table(4, 6)).axes) == 2  # picture and colour bar


def test_svg_is_the_same_every_time_and_keeps_pixels():
    rows = np.arange(12, dtype=np.float32).reshape(3, 4) - 6
    once, again = (plots.write(plots.grid(rows, (2, 2)), "svg") for _ in range(2))
    assert once == again
    images = [node for node in ElementTree.fromstring(once).iter() if node.tag.endswith("}image")]
    href = images[0].get("{http://www.w3.org/1999/xlink}href")
    inside = np.asarray(Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2]))).convert("RGB")).astype(int)
    assert "scale(1 -1)" in images[0].get("transform")  # it stands on its head in the file
    np.testing.assert_array_equal(inside[::-1], decode(plots.grid(rows, (2, 2))))
    assert len(images) == 1


def test_names_that_no_file_can_hold_are_written_out():
    table = make_table(3, 4, kind="named", feature_names=("a\x00b", "--", "\ud800", "<&>"))
    for kind in ("png", "svg"):
        drawn = plots.write(plots.features(table), kind)
    ElementTree.fromstring(drawn)
