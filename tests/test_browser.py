"""The page in a real browser, opened from disk."""

import re
import shutil

import numpy as np
import pytest

from rarefire.data.source import ArraySource, Description
from rarefire.features import feature_table
from rarefire.report import Page, build_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
]

N_UNITS = 67
HISTORY = [{"epoch": n, "cost": 1 / n, "validation_cost": 1.1 / n, "active_mean": 5.0} for n in range(1, 40)]


def make_table(kind="image", n_units=N_UNITS, n_features=64, **description):
    rng = np.random.default_rng(0)
    components = rng.standard_normal((n_units, n_features)).astype(np.float32)
    components[3] = 0
    rows = rng.random((300, n_features)).astype(np.float32)

    def encode(rows):
        codes = np.maximum((rows - 0.5) @ components.T, 0)
        return codes, codes > 0

    return feature_table(components, encode, ArraySource(rows, Description("made up", kind, **description)))


TABLE = make_table(shape=(8, 8))


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Opens a page and, at the end, holds it to silence: no error, no request but for the file itself."""
    contexts, troubles = [], []

    def open_page(table=TABLE, anchor="", width=1280, scheme="light"):
        file = tmp_path / "report.html"
        file.write_text(build_page(Page("A page", "of features", [], HISTORY, "nats", [], table)), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.split("#")[0] == file.as_uri() else troubles.append(request.url),
        )
        page.goto(file.as_uri() + anchor)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def selected(page):
    (unit,) = page.eval_on_selector_all('#grid [aria-selected="true"]', "tiles => tiles.map(tile => tile.dataset.unit)")
    assert page.text_content("#unit-heading") == f"Unit {unit}"
    return int(unit)


def order(page):
    return page.eval_on_selector_all("#grid .tile", "tiles => tiles.map(tile => Number(tile.dataset.unit))")


def colours(page, selector):
    """The grey values on a canvas, row by row."""
    pixels = page.eval_on_selector(
        selector,
        "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)",
    )
    return np.array(pixels).reshape(-1, 4)[:, 0]


def test_all_units_are_there_and_drawn(visit):
    page = visit()
    assert order(page) == list(range(N_UNITS))
    assert selected(page) == 0
    page.wait_for_selector('.tile[data-unit="3"] canvas')
    weights = TABLE.components[0]
    drawn = colours(page, '.tile[data-unit="0"] canvas')
    assert len(set(drawn)) > 10
    assert drawn[np.abs(weights).argmax()] in (0, 255)
    assert ((drawn > 128) == (weights / np.abs(weights).max() > 1 / 127.5)).mean() > 0.95
    assert set(colours(page, '.tile[data-unit="3"] canvas')) == {128}
    assert page.locator("#examples li").count() == TABLE.example_index.shape[1]
    assert page.locator(".chart canvas").count() == 3


def test_deep_link(visit):
    page = visit(anchor="#unit=17")
    assert selected(page) == 17
    page.evaluate("location.hash = '#unit=20'")
    page.wait_for_function("document.getElementById('unit-heading').textContent === 'Unit 20'")
    assert selected(page) == 20


def test_unknown_link_shows_the_first(visit):
    assert selected(visit(anchor="#unit=9999")) == 0


def test_click_and_keyboard(visit):
    page = visit()
    page.click('.tile[data-unit="5"]')
    assert selected(page) == 5
    assert page.url.endswith("#unit=5")
    page.focus('.tile[aria-selected="true"]')
    for key, unit in (("ArrowRight", 6), ("ArrowLeft", 5), ("Home", 0), ("ArrowLeft", 0), ("End", N_UNITS - 1)):
        page.keyboard.press(key)
        assert selected(page) == unit
        assert page.evaluate("Number(document.activeElement.dataset.unit)") == unit
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    boxes = [page.locator(f'.tile[data-unit="{unit}"]').bounding_box() for unit in (0, selected(page))]
    assert boxes[0]["x"] == boxes[1]["x"]
    assert boxes[0]["y"] < boxes[1]["y"]
    # One stop for the Tab key, however many units there are.
    assert page.locator('#grid [tabindex="0"]').count() == 1


def test_every_unit_shows_its_examples(visit):
    page = visit()
    for unit in range(N_UNITS):
        assert selected(page) == unit
        codes = re.findall(r"code (\S+)", page.inner_text("#examples"))
        expected = TABLE.example_codes[unit]
        np.testing.assert_allclose([float(code) for code in codes], expected, rtol=1e-3)
        page.click("#next")
    assert selected(page) == 0


def test_sorting(visit):
    page = visit()
    for key, values in (("share_active", TABLE.share_active), ("norm", TABLE.norm)):
        page.select_option("#sort", key)
        assert order(page) == np.argsort(-values.astype(np.float32), kind="stable").tolist()
    page.check("#reverse")
    assert order(page)[-1] == TABLE.norm.argmax()
    page.uncheck("#reverse")
    page.select_option("#sort", "index")
    assert order(page) == list(range(N_UNITS))


def test_dark_mode_follows_the_system(visit):
    background = "getComputedStyle(document.body).backgroundColor"
    page = visit()
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (light, dark)]
    assert brightness[0] > 600
    assert brightness[1] < 150


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["image", "named", "plain"])
def test_no_horizontal_overflow(visit, kind, width):
    extra = {
        "image": {"shape": (8, 8)},
        "named": {"feature_names": tuple(f"a_rather_long_name_without_spaces_{i}" * 2 for i in range(64))},
        "plain": {},
    }[kind]
    page = visit(make_table(kind, **extra), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(order(page)) == N_UNITS


def test_log_axis(visit):
    page = visit()
    label = "charts.get(document.querySelector('[data-chart=cost]')).scales.y.distr"
    costs = [value for record in HISTORY for key, value in record.items() if "cost" in key]
    assert page.is_checked("#log-axis") == (max(costs) >= 10 * min(costs))
    page.check("#log-axis")
    assert page.evaluate(label) == 3
    page.uncheck("#log-axis")
    assert page.evaluate(label) != 3


def test_names_stay_text(visit):
    names = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", *map(str, range(62)))
    page = visit(make_table("named", feature_names=names))
    assert page.locator("img").count() == 0
    assert names[0] in page.text_content("#features")


def test_a_thousand_units_stay_fluid(visit):
    page = visit(make_table(n_units=1000, shape=(8, 8)))
    page.wait_for_selector('.tile[data-unit="0"] canvas')
    # Only what is near the visible part is drawn.
    assert page.locator("#grid canvas").count() < 700
    page.focus('.tile[aria-selected="true"]')
    page.keyboard.press("End")
    page.wait_for_selector('.tile[data-unit="999"] canvas')
    assert selected(page) == 999
    milliseconds = page.evaluate(
        "() => { const start = performance.now(); byId('sort').value = 'norm'; arrange();"
        " document.body.offsetHeight; return performance.now() - start; }"
    )
    assert milliseconds < 1000
