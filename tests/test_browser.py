"""The page in a real browser, opened from disk."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from PIL import Image

from rarefire.data.source import ArraySource, Description
from rarefire.features import feature_table
from rarefire.report import SCRIPTS, Page, build_page, visible

pytestmark = pytest.mark.slow

N_UNITS = 67
HISTORY = [{"epoch": n, "cost": 1 / n, "validation_cost": 1.1 / n, "active_mean": 5.0} for n in range(1, 40)]


def make_table(kind="image", n_units=N_UNITS, n_features=64, untied=False, **description):
    rng = np.random.default_rng(0)
    components = rng.standard_normal((n_units, n_features)).astype(np.float32)
    components[3] = 0
    rows = rng.random((300, n_features)).astype(np.float32)

    def encode(rows):
        codes = np.maximum((rows - 0.5) @ components.T, 0)
        return codes, codes > 0

    optimal = components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-9)
    source = ArraySource(rows, Description("made up", kind, **description))
    return feature_table(components, -optimal if untied else optimal, encode, source)


SUBJECTS = {
    "space": ("alien", "planet", "ship", "captain", "astronaut"),
    "love": ("love", "wedding", "kiss", "marry", "heart"),
    "crime": ("police", "murder", "detective", "gun", "prison"),
}


def words_table(untied=False):
    """A unit for each of three subjects, one that nothing excites, and one that all subjects silence."""
    rng = np.random.default_rng(0)
    names = tuple(word for words in SUBJECTS.values() for word in words) + tuple(f"filler{i}" for i in range(500))
    components = np.zeros((5, len(names)), np.float32)
    rows = (rng.random((120, len(names))) < 0.05).astype(np.float32)
    rows[:, :15] = 0
    for subject in range(3):
        own = slice(5 * subject, 5 * subject + 5)
        components[subject, own] = np.linspace(2, 1, 5)
        components[subject, 15:20] = -0.1
        rows[subject::3, own] = rng.random((40, 5)) < 0.7
    components[4, :15] = -1 - np.arange(15) / 10
    optimal = components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-9)
    if untied:
        optimal[1] = optimal[2]

    def encode(rows):
        codes = np.maximum(rows @ components.T, 0)
        return codes, codes > 0

    source = ArraySource(sp.csr_array(rows), Description("plots", "words", feature_names=names))
    return feature_table(components, optimal, encode, source)


TABLE = make_table(shape=(8, 8))


@pytest.fixture
def visit(opened):
    """Opens the page of a table, or another one."""

    def open_page(table=TABLE, page=None, **how):
        return opened(build_page(page or Page("A page", "of features", [], HISTORY, "nats", [], table)), **how)

    return open_page


def selected(page):
    (unit,) = page.eval_on_selector_all('#grid [aria-selected="true"]', "tiles => tiles.map(tile => tile.dataset.unit)")
    assert page.text_content("#unit-heading") == f"Unit {unit}"
    assert page.get_attribute("#units", "aria-activedescendant") == f"tile-{unit}"
    return int(unit)


def order(page):
    """The units in the order of the grid, from the first line to the last; only those in sight are elements."""
    seen = {}
    page.evaluate("byId('grid').scrollTop = 0")
    while True:
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        tiles = page.eval_on_selector_all(
            "#grid .tile", "tiles => tiles.map(t => [t.ariaPosInSet, t.ariaSetSize, t.dataset.unit].map(Number))"
        )
        seen |= {place: unit for place, _, unit in tiles}
        if len(seen) == (tiles[0][1] if tiles else 0):
            return [seen[place] for place in sorted(seen)]
        page.evaluate("byId('grid').scrollTop += byId('grid').clientHeight")


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
    assert page.locator("#strongest-examples li").count() == TABLE.example_index.shape[1]
    assert page.locator(".chart canvas").count() == 6  # cost, activity in training, codes, and three of all units


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
    page.focus("#units")
    for key, unit in (("ArrowRight", 6), ("ArrowLeft", 5), ("Home", 0), ("ArrowLeft", 0), ("End", N_UNITS - 1)):
        page.keyboard.press(key)
        assert selected(page) == unit
        assert page.evaluate("document.activeElement.id") == "units"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    boxes = [page.locator(f'.tile[data-unit="{unit}"]').bounding_box() for unit in (0, selected(page))]
    assert boxes[0]["x"] == boxes[1]["x"]
    assert boxes[0]["y"] < boxes[1]["y"]
    # One stop for the Tab key, however many units there are.
    assert page.locator('#grid [tabindex="0"]').count() == 1
    page.focus("#next")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert selected(page) == page.evaluate("grid.columns") + 1


def test_every_unit_shows_its_examples(visit):
    page = visit()
    for unit in range(N_UNITS):
        assert selected(page) == unit
        codes = re.findall(r"code (\S+)", page.inner_text("#strongest-examples"))
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
@pytest.mark.parametrize("kind", ["image", "named", "plain", "words"])
def test_no_horizontal_overflow(visit, kind, width):
    extra = {
        "image": {"shape": (8, 8)},
        "named": {"feature_names": tuple(f"a_rather_long_name_without_spaces_{i}" * 2 for i in range(64))},
        "plain": {},
        "words": {"feature_names": tuple(f"a_rather_long_word_without_spaces_{i}" * 2 for i in range(64))},
    }[kind]
    page = visit(make_table(kind, untied=True, **extra), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(order(page)) == N_UNITS


def test_log_axis(visit):
    page = visit()
    label = "charts.get(document.querySelector('[data-chart=cost]')).chart.scales.y.distr"
    costs = [value for record in HISTORY for key, value in record.items() if "cost" in key]
    assert page.is_checked("#log-axis") == (max(costs) >= 10 * min(costs))
    page.check("#log-axis")
    assert page.evaluate(label) == 3
    page.uncheck("#log-axis")
    assert page.evaluate(label) != 3


def test_words(visit):
    table = words_table()
    page = visit(table, anchor="#unit=2")
    told = page.eval_on_selector_all("#grid .tile", "tiles => tiles.map(t => [...t.children].map(c => c.textContent))")
    assert len(told) == 5
    for unit, words in enumerate(SUBJECTS.values()):
        assert told[unit][1:] == list(words)
    assert told[3] == ["unit 3 · dead"]
    # Where no word excites a unit, those that silence it most.
    assert told[4][1:4] == ["−prison", "−gun", "−detective"]

    assert selected(page) == 2
    shown = page.eval_on_selector_all(".bars tr", "rows => rows.map(r => [r.children[0].textContent, r.innerText])")
    assert [name for name, _ in shown] == [*SUBJECTS["crime"], *(f"filler{i}" for i in range(5))]
    assert page.locator(".bars .negative").count() == 5
    widths = page.eval_on_selector_all(".bars .bar", "bars => bars.map(bar => bar.getBoundingClientRect().width)")
    np.testing.assert_allclose(np.array(widths) / widths[0], [1, 0.875, 0.75, 0.625, 0.5] + [0.05] * 5, atol=0.01)

    rows, names = table.example_rows.toarray(), table.description.feature_names
    documents = page.eval_on_selector_all("#strongest-examples li", "items => items.map(item => item.innerText)")
    assert len(documents) == 9
    for document, place, code in zip(documents, table.example_index[2], table.example_codes[2], strict=True):
        found = re.fullmatch(r"\d · code (\S+)\s+(.+?)(?: … and (\d+) more)?", document)
        words = found[2].split(", ")
        assert float(found[1]) == pytest.approx(code, rel=1e-3)
        assert {names.index(word) for word in words} <= set(np.flatnonzero(rows[place]))
        assert len(words) + int(found[3] or 0) == rows[place].sum()
        # First those that drive the code.
        own = [word for word in SUBJECTS["crime"] if rows[place, names.index(word)]]
        assert words[: len(own)] == own
    assert "documents" in page.text_content("#spread")
    assert page.locator("#features canvas:not(.chart canvas)").count() == 0
    page.click('.tile[data-unit="3"]')
    assert selected(page) == 3
    assert page.locator(".bars .bar").count() == 0


def test_optimal_inputs_stand_beside_features(visit):
    page = visit(make_table(shape=(8, 8), untied=True))
    captions = page.locator("#unit-feature figcaption").all_text_contents()
    assert captions == ["what it adds to a reconstruction", "the input that excites it most"]
    drawn = [colours(page, f"#unit-feature figure:nth-child({n}) canvas").astype(int) for n in (1, 2)]
    assert np.abs(drawn[0] + drawn[1] - 256).max() <= 1
    # A machine's are the same pictures, and shown once.
    assert visit().locator("#unit-feature canvas").count() == 1


def test_words_that_excite_a_unit_are_told_where_they_differ(visit):
    page = visit(words_table(untied=True), anchor="#unit=1")
    names, values = (page.locator(f"#unit-facts {tag}").all_text_contents() for tag in ("dt", "dd"))
    facts = dict(zip(names, values, strict=True))
    assert facts["the input that excites it most"] == ", ".join(SUBJECTS["crime"])
    assert "what it adds to a reconstruction" in page.text_content(".bars caption")


def test_names_stay_text(visit):
    names = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", *map(str, range(62)))
    page = visit(make_table("named", feature_names=names))
    assert page.locator("img").count() == 0
    assert names[0] in page.text_content("#features")


#: Each would leave a mark, open a dialog or ask for a file, if it were read as anything but text.
HOSTILE = (
    "<script>window.marked = 1</script>",
    "</script><script>window.marked = 2</script>",
    "</title></style><img src=x onerror='window.marked = 3'>",
    "<!--<script>",
    "\" onmouseover='window.marked = 4' autofocus onfocus='window.marked = 5' x=\"",
    "' onclick=\"window.marked = 6\" style='position:fixed",
    "javascript:window.marked=7",
    "<a href='javascript:window.marked=8'>x</a><iframe src='http://127.0.0.1:9/'></iframe>",
    "<svg onload=alert(9)><style>@import 'http://127.0.0.1:9/'</style></svg>",
    "{{ constructor.constructor('window.marked = 10')() }}${window.marked = 11}`",
    '\\"};window.marked=12;//\u2028window.marked=13',
    "\u202eabc\u2066 \u0000 \x1b[31m \ud800 &lt;b&gt; &#x3c;b>",
    "$x^2$ %s __proto__",
)


@pytest.mark.parametrize("kind", ["named", "words"])
def test_a_page_of_hostile_names_is_text(visit, kind):
    """Whatever stands in the data is shown as it is: nothing runs, nothing is asked for, no element is made of it."""
    names = (*HOSTILE, "__proto__", "constructor", *(f"column {i}" for i in range(62 - len(HOSTILE))))
    table = make_table(kind, n_units=20, untied=True, feature_names=names)
    metrics = [
        {"name": text, "value": 1.0, "unit": text, "explanation": text, "expected": text, "within": False}
        for text in HOSTILE
    ]
    history = [{"epoch": 1, "cost": 2.0, **dict.fromkeys(HOSTILE, 1.0)}, {"epoch": 2, "cost": 1.0}]
    figures = [(text, b"\x89PNG") for text in HOSTILE]
    facts = [(text, text) for text in HOSTILE]
    for title in (HOSTILE[0], HOSTILE[2]):
        page = visit(page=Page(title, HOSTILE[1], facts, history, HOSTILE[4], metrics, table, figures))
        assert page.title() == title
        assert page.text_content("h1") == title
        assert page.text_content(".subtitle") == HOSTILE[1]
    shown = [visible(text) for text in HOSTILE]
    assert page.locator(".facts dt").all_text_contents() == shown
    assert page.locator(".facts dd").all_text_contents() == shown
    assert page.locator("#figures figcaption p").all_text_contents() == shown
    assert page.eval_on_selector_all("#figures img", "images => images.map(image => image.alt)") == shown
    told = page.locator("#metrics tbody tr").all_inner_texts()
    assert all(" ".join(text.split()) in " ".join(row.split()) for text, row in zip(shown, told, strict=True))
    assert visible(HOSTILE[4]) in page.get_attribute("[data-chart=cost]", "aria-label")
    # Every unit in turn: tiles with their tooltips, bars, optimal inputs, examples.
    seen = ""
    for _ in range(20):
        page.click("#next")
        seen += page.text_content("#features")
        page.hover('#grid [aria-selected="true"]')
    titles = page.eval_on_selector_all("#grid .tile", "tiles => tiles.map(tile => tile.title).join()")
    assert all(text in seen for text in (*shown, "__proto__", "constructor"))
    assert any(text in titles for text in shown)
    page.mouse.move(0, 0)
    for _ in range(30):
        page.keyboard.press("Tab")
    assert page.evaluate("window.marked") is None
    made = page.evaluate(
        "['script', 'style', 'iframe', 'a', 'svg', 'b', 'form', 'link'].map(t => document.querySelectorAll(t).length)"
    )
    n_scripts, n_links = len(SCRIPTS) + 1, 1 + page.locator("nav a").count()
    assert made == [n_scripts, 1, 0, n_links, 0, 0, 0, 0]
    assert page.locator("img").count() == len(HOSTILE)
    handlers = "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
    assert page.evaluate(handlers) == []


INJECTED = """<script>window.marked = 1</script><style>h1 { color: rgb(1, 2, 3) }</style><base href="http://127.0.0.1:9/">
<img src="http://127.0.0.1:9/a.png"><img src="b.png" onerror="window.marked = 2"><svg onload="window.marked = 3"></svg>
<link rel="stylesheet" href="http://127.0.0.1:9/c.css"><script src="http://127.0.0.1:9/d.js"></script>
<iframe src="http://127.0.0.1:9/e"></iframe><object data="http://127.0.0.1:9/f"></object>
<p style="color: rgb(4, 5, 6)" id="styled"></p><form action="http://127.0.0.1:9/g" id="form"><input name="x"></form>"""


@pytest.mark.parametrize("guarded", [True, False])
def test_the_policy_keeps_out_what_gets_in(browser, tmp_path, guarded):
    """Markup that stands in a page, however it came there, does nothing; without the policy it would."""
    text = build_page(Page("A page", "of features", [], HISTORY, "nats", [], TABLE))
    text = text.replace("</header>", f"</header>{INJECTED}")
    if not guarded:
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    context = browser.new_context()
    page, asked, said = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))

    def answer(route):
        if route.request.url == file.as_uri():
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    page.route("**/*", answer)
    page.goto(file.as_uri())
    page.wait_for_timeout(300)
    colours = [page.eval_on_selector(one, "e => getComputedStyle(e).color") for one in ("h1", "#styled")]
    assert (page.evaluate("window.marked") is None) == guarded
    assert (colours == ["rgb(1, 2, 3)", "rgb(4, 5, 6)"]) != guarded
    assert page.evaluate("document.baseURI === location.href") == guarded
    for act in ("fetch('http://127.0.0.1:9/h').catch(() => 0)", "new WebSocket('ws://127.0.0.1:9/i')"):
        page.evaluate(f"() => {{ try {{ {act} }} catch {{}} }}")
    # Nor can the page's own script make markup or code of a text.
    for act in ("document.createElement('p').innerHTML = '<b>x</b>'", "setTimeout('1')"):
        refused = page.evaluate(f"() => {{ try {{ {act}; return false }} catch {{ return true }} }}")
        assert refused == guarded, act
    page.evaluate("setTimeout(() => document.getElementById('form').submit())")
    page.wait_for_timeout(300)
    assert {url.rpartition("/")[2].partition("?")[0] for url in asked} >= (
        set() if guarded else {"a.png", "b.png", *"efgh"}
    )
    assert (asked == []) == guarded
    assert any("Content Security Policy" in text for text in said) == guarded
    context.close()


def test_only_what_is_in_sight_is_made(visit):
    """Ten thousand units: few elements at any time, and no step that takes a person's patience."""
    page = visit(make_table(n_units=10_000, shape=(8, 8)))
    page.wait_for_selector('.tile[data-unit="0"] canvas')
    assert page.locator("#grid .tile").count() < 1000
    for act in (
        "byId('sort').value = 'norm'; arrange()",
        "byId('grid').scrollTop = byId('grid').scrollHeight / 2; fill()",
        "byId('search').value = 'unit 99'; arrange()",
        "choose(9999)",
    ):
        milliseconds = page.evaluate(
            f"() => {{ const start = performance.now(); {act}; document.body.offsetHeight;"
            " return performance.now() - start; }"
        )
        assert milliseconds < 1000, act
    assert page.locator("#grid .tile").count() < 1000
    page.click("#clear")
    page.select_option("#sort", "index")
    page.focus("#units")
    page.keyboard.press("End")
    assert selected(page) == 9999
    assert page.locator('.tile[data-unit="9999"] canvas').is_visible()
    page.keyboard.press("Home")
    assert selected(page) == 0


def unit_values(key):
    return {
        "share_active": 100 * TABLE.share_active,
        "mean_code": TABLE.mean_code,
        "norm": TABLE.norm,
        "coherence": TABLE.coherence,
        "gabor_fit": 100 * TABLE.gabor_fit,
        "index": np.arange(N_UNITS),
    }[key]


def test_ranges(visit):
    page = visit()
    page.click("#filters summary")
    for key in ("share_active", "mean_code", "norm", "coherence", "gabor_fit", "index"):
        values = unit_values(key)
        low, high = np.round(np.nanquantile(values, [0.2, 0.7]), 3)
        page.fill(f"#{key}-from", str(low))
        page.fill(f"#{key}-to", str(high))
        expected = np.flatnonzero((values >= low) & (values <= high))
        assert 0 < len(expected) < N_UNITS
        assert order(page) == expected.tolist(), key
        assert page.text_content("#count") == f"{len(expected)} of {N_UNITS} units."
        page.click("#clear")
    assert order(page) == list(range(N_UNITS))
    page.fill("#norm-from", "7")
    page.fill("#mean_code-to", "0.5")
    both = (TABLE.norm >= 7) & (TABLE.mean_code <= 0.5)
    assert order(page) == np.flatnonzero(both).tolist()


def test_a_range_that_no_unit_is_in(visit):
    page = visit()
    page.click("#filters summary")
    page.fill("#norm-from", "1e9")
    assert page.locator("#grid .tile").count() == 0
    assert page.text_content("#count") == f"0 of {N_UNITS} units."
    page.click("#next")
    page.focus("#units")
    page.keyboard.press("ArrowRight")
    page.click("#clear")
    assert selected(page) == 0


def test_a_bar_of_units_asks_for_these(visit):
    page = visit()
    box = page.locator("#norm-chart .u-over").bounding_box()
    counts, edges = np.histogram(TABLE.norm.astype(np.float32), bins=25)
    bar = int(np.argmax(counts))
    step = edges[1] - edges[0]
    share = (edges[bar] + step / 2 - (edges[0] - step / 4)) / (edges[-1] - edges[0] + step / 2)
    page.locator("#norm-chart .u-over").click(position={"x": float(share * box["width"]), "y": box["height"] / 2})
    shown = order(page)
    assert abs(len(shown) - counts[bar]) <= 1  # one at an edge may fall to either side
    assert all(edges[bar] - 1e-4 <= TABLE.norm[unit] <= edges[bar + 1] + 1e-4 for unit in shown)
    assert selected(page) in shown


def test_the_outermost_bars_keep_their_units(visit):
    """An end of a range is rounded outwards: the largest and the smallest unit are still in it."""
    page = visit()
    values = TABLE.norm.astype(np.float32)
    for low, high, unit in ((values.max() - 0.1, values.max(), values.argmax()), (values.min(), 0.1, values.argmin())):
        page.evaluate(f"pick('norm', {float(low)!r}, {float(high)!r})")
        assert unit in order(page)


def test_search(visit):
    page = visit(words_table())
    page.fill("#search", "Wedding")
    assert order(page) == [1, 4]  # one that it excites, and one that it silences
    page.fill("#search", "unit 2")
    assert order(page) == [2]
    page.fill("#search", "nothing like it")
    assert order(page) == []


def test_notes(visit, tmp_path):
    page = visit()
    page.click('.tile[data-unit="4"]')
    page.fill("#note", "a vertical edge")
    page.click('.tile[data-unit="9"]')
    assert page.input_value("#note") == ""
    page.fill("#search", "vertical")
    assert order(page) == [4]
    page.fill("#search", "")
    page.check("#noted")
    assert order(page) == [4]
    page.uncheck("#noted")
    with page.expect_download() as waiting:
        page.click("#export")
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    assert json.loads(file.read_text())["notes"] == {"4": "a vertical edge"}
    # Kept for the next time that the page is opened.
    page.reload()
    page.click('.tile[data-unit="4"]')
    assert page.input_value("#note") == "a vertical edge"
    file.write_text(json.dumps({"run": "another", "notes": {"11": "a spot", "4": ""}}))
    page.set_input_files("#import", file)
    page.locator("#notes-said:not(:empty)", has_text="another run").wait_for()
    page.check("#noted")
    assert order(page) == [11]
    for damage in ("[", '{"notes": {"99999": "x"}}', '{"notes": {"1": 2}}', "{}"):
        file.write_text(damage)
        page.set_input_files("#import", file)
        page.locator("#notes-said", has_text="not brought in").wait_for()
        page.evaluate("byId('notes-said').textContent = ''")


def test_notes_of_the_run_are_on_its_page(visit):
    page = visit(page=Page("A page", "of features", [], [], "", [], TABLE, notes={"7": "from the directory"}))
    page.check("#noted")
    assert order(page) == [7]
    assert page.input_value("#note") == ""
    page.click('.tile[data-unit="7"]')
    assert page.input_value("#note") == "from the directory"


def test_how_often_which_code(visit):
    page = visit(anchor="#unit=5")
    silent, active = TABLE.histogram[5]
    drawn = page.evaluate("charts.get(byId('codes')).chart.data")
    assert [count or 0 for count in drawn[1]] == (silent + active).tolist()
    assert [count or 0 for count in drawn[2]] == silent.tolist()
    low, high = TABLE.code_range[5]
    np.testing.assert_allclose(drawn[0], low + (high - low) * (np.arange(30) + 0.5) / 30, rtol=1e-5)
    assert f"{active.sum()} of 300" in page.get_attribute("#codes", "aria-label")


def test_examples_between_and_relatives(visit):
    page = visit(anchor="#unit=5")
    for group in ("median", "threshold"):
        codes = re.findall(r"code (\S+)", page.inner_text(f"#{group}-examples"))
        np.testing.assert_allclose([float(code) for code in codes], getattr(TABLE, f"{group}_codes")[5], rtol=1e-3)
    for group, values in (("together", TABLE.together_correlation), ("alike", TABLE.alike_cosine)):
        units = re.findall(r"unit (\d+)", page.inner_text(f"#{group}"))
        there = getattr(TABLE, f"{group}_index")[5][values[5] > 0]
        assert [int(unit) for unit in units] == there.tolist()
    page.locator("#alike button").first.click()
    assert selected(page) == TABLE.alike_index[5, 0]
    assert page.evaluate("document.activeElement.id") == "unit-heading"
    # A unit that is never active has no examples but its strongest.
    dead = make_table(shape=(8, 8))
    dead = replace(dead, median_index=np.full_like(dead.median_index, -1))
    page = visit(dead)
    assert not page.locator("#median-group").is_visible()
    assert page.locator("#threshold-group").is_visible()


def test_examples_in_place_on_their_photograph(visit):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    rows = [
        {"name": "meadow.jpg", "box": [0.25, 0.5, 0.1, 0.2], "photograph": 0}
        if place % 2
        else {"name": "one of many.jpg", "box": [0, 0, 0.1, 0.1], "photograph": None}
        for place in range(TABLE.example_rows.shape[0])
    ]
    contexts = {
        "rows": rows,
        "photographs": [{"name": "meadow.jpg", "jpeg": base64.b64encode(stream.getvalue()).decode()}],
    }
    page = visit(page=Page("A page", "of features", [], [], "", [], TABLE, contexts=contexts))
    framed = [rank + 1 for rank, place in enumerate(TABLE.example_index[0]) if place % 2]
    assert [int(n) for n in page.locator(".frame").all_text_contents()] == framed
    numbered = re.findall(r"(\d) · code", page.inner_text("#strongest-examples"))
    assert [int(n) for n in numbered] == list(range(1, 10))
    assert "·" not in page.inner_text("#median-examples")
    image = page.locator("#photographs img")
    assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [90, 60]
    box, frame = image.bounding_box(), page.locator(".frame").first.bounding_box()
    there = [
        (frame["y"] - box["y"]) / box["height"],
        (frame["x"] - box["x"]) / box["width"],
        frame["height"] / box["height"],
        frame["width"] / box["width"],
    ]
    np.testing.assert_allclose(there, rows[1]["box"], atol=0.02)
    assert page.inner_text("#strongest-examples").count("one of many.jpg") == 9 - len(framed)


def test_words_that_drive_a_code_are_marked_in_the_document(visit):
    table = words_table()
    names = table.description.feature_names
    rows = table.example_rows.toarray()
    # The first example is so short that words that lower the code are among those told of it.
    first = table.example_index[2, 0]
    rows[first] = 0
    rows[first, [names.index(word) for word in ("gun", "police", "filler1", "filler3", "filler99")]] = 1
    table = replace(table, example_rows=sp.csr_array(rows))
    texts = [
        " ".join(f"{names[j].upper()}," for j in np.flatnonzero(row)) + " and <b>no word</b> of the model's"
        for row in rows
    ]
    contexts = {
        "rows": [{"text": text, "cut": False, "title": f"Film {n}"} for n, text in enumerate(texts)],
        "photographs": [],
    }
    page = visit(page=Page("A page", "of features", [], [], "", [], table, contexts=contexts), anchor="#unit=2")
    for rank, place in enumerate(table.example_index[2]):
        item = page.locator("#strongest-examples li").nth(rank)
        assert f"Film {place}" in item.inner_text()
        if item.locator("details").count():
            item.locator("summary").click()
            item = item.locator("details p")
        assert "<b>no word</b>" in item.inner_text()
        marked = {word.lower() for word in item.locator("mark.up").all_text_contents()}
        assert marked == {word for word in SUBJECTS["crime"] if rows[place, names.index(word)]}
        lowered = {word.lower() for word in item.locator("mark.down").all_text_contents()}
        assert lowered <= {f"filler{i}" for i in range(5)}
        assert rank > 0 or lowered == {"filler1", "filler3"}


def test_reconstructions(visit):
    rng = np.random.default_rng(2)
    inputs, outputs = rng.random((3, 64)), rng.random((3, 64))
    table = replace(TABLE, inputs=sp.csr_array(inputs.astype(np.float32)), outputs=outputs.astype(np.float32))
    page = visit(table)
    assert page.locator("#reconstructions-list li").count() == 3
    for i in range(3):
        parts = [
            colours(page, f"#reconstructions-list li:nth-child({i + 1}) figure:nth-child({n}) canvas")
            for n in (1, 2, 3)
        ]
        for drawn, expected in zip(
            parts, (255 * inputs[i], 255 * outputs[i], 128 + 127.5 * (outputs - inputs)[i]), strict=True
        ):
            np.testing.assert_allclose(drawn, expected, atol=1.5)
    words = words_table()
    inputs = np.zeros((2, 515), np.float32)
    inputs[0, [0, 3]] = 1
    outputs = np.zeros_like(inputs)
    outputs[0, [0, 1]] = 0.9, 0.4
    page = visit(replace(words, inputs=sp.csr_array(inputs), outputs=outputs))
    first = page.locator("#reconstructions-list li:first-child tbody tr").all_inner_texts()
    assert [line.split() for line in first] == [
        ["alien", "1", "0.9", "−0.1"],
        ["captain", "1", "0", "−1"],
        ["planet", "0", "0.4", "0.4"],
        *[[name, "0", "0", "0"] for name in ("ship", "astronaut", "love", "wedding", "kiss")],
    ]
    assert visit().locator("#reconstructions").count() == 0


def test_each_layer_of_a_network_has_its_curve(visit):
    layers = [
        ("lower", [{"epoch": n, "cost": 4.0 / n} for n in (1, 2, 3)], "nats"),
        ("upper", [{"epoch": 1, "cost": 2.0}], "nats"),
    ]
    page = visit(page=Page("A page", "of features", [], [], "", layers=layers, table=TABLE))
    assert page.locator("#training h3").all_text_contents() == ["Cost of lower", "Cost of upper"]
    drawn = page.evaluate("[...document.querySelectorAll('[data-chart]')].map(one => charts.get(one).chart.data)")
    assert drawn == [[[1, 2, 3], [4, 2, pytest.approx(4 / 3)]], [[1], [2]]]


def test_a_unit_that_is_chosen_comes_into_sight_on_a_phone(visit):
    page = visit(width=390, anchor="#unit=17")
    assert page.locator("#unit-heading").bounding_box()["y"] < 800
    page.locator("#grid").scroll_into_view_if_needed()
    page.click('.tile[data-unit="20"]')
    page.wait_for_timeout(100)
    assert selected(page) == 20
    assert 0 <= page.locator("#unit-heading").bounding_box()["y"] < 800


def test_named_columns_have_their_signs(visit):
    table = make_table("named", feature_names=tuple(f"c{i}" for i in range(64)))
    page = visit(table)
    for unit in (0, 5):
        tile = page.locator(f'.tile[data-unit="{unit}"] span').all_text_contents()
        weights = table.components[unit]
        expected = [("−" if weights[i] < 0 else "") + f"c{i}" for i in np.argsort(-np.abs(weights), kind="stable")[:3]]
        assert tile == expected


def every_kind():
    metrics = [
        {"name": "cost", "value": 0.5, "unit": "nats", "explanation": "what it is", "published": 0.5, "within": True}
    ]
    for kind, extra in (
        ("image", {"shape": (8, 8)}),
        ("named", {"feature_names": tuple(f"column {i}" for i in range(64))}),
        ("plain", {}),
    ):
        table = make_table(kind, untied=True, **extra)
        shown = sp.csr_array(table.example_rows[:3])
        yield (
            kind,
            Page(
                kind,
                "of features",
                [("Seed", "0")],
                HISTORY,
                "nats",
                metrics,
                replace(table, inputs=shown, outputs=shown.toarray()),
                key_figures=[("units", "67", "Hidden units.")],
            ),
        )
    yield "words", Page("words", "of documents", [], HISTORY, "", metrics, words_table())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("kind", "made"), list(every_kind()))
def test_an_accessibility_checker_finds_nothing(visit, flaws, kind, made, scheme):
    assert flaws(visit(page=made, scheme=scheme)) == []
