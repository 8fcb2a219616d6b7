"""The page of two runs in a real browser, opened from disk."""

import numpy as np
import pytest

from rarefire.data.source import ArraySource, Description
from rarefire.features import feature_table
from rarefire.report.comparing import Side, build_comparison, match

pytestmark = pytest.mark.slow

EVIL = "</script><img src=x onerror=alert(1)>"
RNG = np.random.default_rng(0)
FIRST = RNG.standard_normal((30, 16)).astype(np.float32)
FIRST[3] = 0
#: A permutation with more and more noise, so that cosines go from 1 downwards, and five units more.
NOISE = np.linspace(0, 2.5, 30)[:, None] * RNG.standard_normal((30, 16))
SECOND = np.concatenate([(FIRST + NOISE)[::-1], RNG.standard_normal((5, 16))]).astype(np.float32)


def make_side(name, components, link=None, cost_label="nats", **description):
    rows = np.random.default_rng(1).random((50, components.shape[1])).astype(np.float32)

    def encode(rows):
        codes = np.maximum(rows @ components.T, 0)
        return codes, codes > 0

    optimal = components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-9)
    table = feature_table(components, optimal, encode, ArraySource(rows, Description("made up", **description)))
    history = [{"epoch": n, "cost": 1 / n, "validation_cost": 1.1 / n} for n in range(1, 40)]
    facts = [("Estimator", f"Estimator(of={EVIL!r})")]
    metrics = [{"name": "cost", "value": 0.5, "unit": "nats", "explanation": EVIL}]
    return Side(name, f"title {name}", facts, {"seed": name, "same": "1"}, history, cost_label, metrics, table, link)


IMAGE = {"kind": "image", "shape": (4, 4)}


def sides(link=None, **description):
    description = description or IMAGE
    return make_side("one", FIRST, link, **description), make_side("two " + EVIL, SECOND, link, **description)


@pytest.fixture
def visit(opened):
    """Opens the page of two runs."""

    def open_page(a, b, either_sign=False, **how):
        return opened(build_comparison(a, b, either_sign), **how)

    return open_page


def shown(page):
    """The pairs in the list: unit of A, unit of B."""
    texts = page.eval_on_selector_all(
        "#pairs li", "items => items.map(i => [...i.querySelectorAll('a, strong')].map(e => e.textContent))"
    )
    return [(int(a.removeprefix("A ")), int(b.removeprefix("B "))) for a, b in texts]


def alone(page, letter):
    names = page.eval_on_selector_all(
        f"#unmatched-{letter} li", "items => items.map(i => i.querySelector('a, strong').textContent)"
    )
    return [int(name.removeprefix(f"{letter} ")) for name in names]


def slide(page, value):
    page.locator("#threshold").fill(str(value))


def test_the_slider_moves_pairs_to_the_unmatched(visit):
    page = visit(*sides())
    expected = match(FIRST, SECOND)
    for threshold in (0.5, 0.9, 0.0, 1.0):
        slide(page, threshold)
        pairs = [tuple(pair) for pair, c in zip(expected.pairs, expected.cosine, strict=True) if c >= threshold]
        # float32 in the page, so that a copy may be just below 1.
        if threshold < 1:
            assert shown(page) == pairs
            assert 0 < len(pairs) < 30
        assert sorted([*(a for a, _ in shown(page)), *alone(page, "A")]) == list(range(30))
        assert sorted([*(b for _, b in shown(page)), *alone(page, "B")]) == list(range(35))
        assert 3 in alone(page, "A")
        count = len(shown(page))
        assert page.text_content("#summary").startswith(f"{count} of 30 units of A and of 35 units of B match")
        assert page.text_content("#matched-heading") == f"Matched: {count} pair{'' if count == 1 else 's'}"
    median = np.median(expected.cosine[expected.cosine >= 0.5])
    slide(page, 0.5)
    assert f"median cosine is {median:.4g}" in page.text_content("#summary")


def test_sorting(visit):
    page = visit(*sides())
    pairs = shown(page)
    for key, place in (("a", 0), ("b", 1)):
        page.locator("#sort").select_option(key)
        assert shown(page) == sorted(pairs, key=lambda pair: pair[place])
    page.locator("#reverse").check()
    assert shown(page) == sorted(pairs, key=lambda pair: pair[1], reverse=True)
    page.locator("#sort").select_option("cosine")
    assert shown(page) == pairs[::-1]


def test_keyboard(visit):
    page = visit(*sides())
    page.locator("#threshold").focus()
    before = len(shown(page))
    page.keyboard.press("End")
    assert len(shown(page)) < before
    page.keyboard.press("Home")
    assert page.text_content("#threshold-value") == "0"
    # The list is scrolled with the keys once it has the focus.
    window = page.locator("#matched .window")
    window.focus()
    page.keyboard.press("End")
    for _ in range(50):  # wait_for_function would evaluate a string, which the page's policy forbids
        if scrolled := page.evaluate("document.querySelector('#matched .window').scrollTop"):
            break
        page.wait_for_timeout(100)
    assert scrolled > 0
    assert window.get_attribute("role") == "group"
    assert window.get_attribute("aria-labelledby") == "matched-heading"


def test_pictures_are_the_components(visit):
    page = visit(*sides())
    page.locator("#matched").scroll_into_view_if_needed()
    page.wait_for_selector("#pairs canvas")
    unit = shown(page)[0][0]
    drawn = page.eval_on_selector(
        "#pairs canvas", "c => [...c.getContext('2d').getImageData(0, 0, 4, 4).data].filter((_, i) => i % 4 === 0)"
    )
    limit = np.abs(FIRST[unit]).max()
    np.testing.assert_allclose(drawn, np.floor(128 + 127.5 * FIRST[unit] / limit).clip(0, 255), atol=1)


def test_every_picture_is_there_before_it_comes_into_sight(visit):
    page = visit(*sides())
    assert page.evaluate("scrollY") == 0
    pictures = page.eval_on_selector_all(".picture", "all => all.map(one => one.querySelectorAll('canvas').length)")
    assert pictures == [1] * (30 + 35)


def test_links_to_the_pages_of_the_runs(visit):
    page = visit(*sides(link="runs/a%20b/report.html"))
    a, b = shown(page)[0]
    links = page.eval_on_selector_all("#pairs li:first-child a", "links => links.map(l => l.getAttribute('href'))")
    assert links == [f"runs/a%20b/report.html#unit={a}", f"runs/a%20b/report.html#unit={b}"]


def test_words(visit):
    names = (*(f"word{i}" for i in range(15)), EVIL)
    page = visit(*sides(kind="words", feature_names=names))
    a, _ = shown(page)[0]
    words = page.text_content("#pairs li:first-child .words").split(", ")
    assert words[0] == names[np.argmax(FIRST[a])]
    assert words[-1] == "−" + names[np.argmin(FIRST[a])]
    assert "no weights" in page.text_content("#unmatched-A")


def test_opposite_signs_are_named(visit):
    page = visit(make_side("one", FIRST, **IMAGE), make_side("two", -FIRST, **IMAGE), either_sign=True)
    assert len(shown(page)) == 29
    assert page.text_content("#pairs .cosine") == "−1cosine, opposite sign"


def test_columns_that_differ(visit):
    page = visit(make_side("one", FIRST), make_side("two", FIRST[:, :9], cost_label="half a squared error"))
    assert "16 columns, B on 9" in page.text_content("#reason")
    assert page.locator("#pairs, #histogram").count() == 0
    assert page.locator(".chart canvas").count() == 2
    assert "different units" in page.text_content("#training")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("description", [IMAGE, {"kind": "plain"}], ids=["image", "plain"])
def test_no_sideways_scrolling_and_both_schemes(visit, width, scheme, description):
    page = visit(*sides(link="runs/two/report.html", **description), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".chart canvas").count() == 2
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
    assert (red < 60) == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "description",
    [IMAGE, {"kind": "plain"}, {"kind": "words", "feature_names": tuple(f"word{i}" for i in range(16))}],
    ids=["image", "plain", "words"],
)
def test_an_accessibility_checker_finds_nothing(visit, flaws, scheme, description):
    assert flaws(visit(*sides(link="runs/two/report.html", **description), scheme=scheme)) == []


def test_thousands_of_pairs_stay_fluid(visit):
    many = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
    page = visit(make_side("one", many, **IMAGE), make_side("two", many[::-1], **IMAGE))
    assert page.text_content("#matched-heading") == "Matched: 3,000 pairs"
    first = shown(page)
    assert 0 < len(first) < 500
    # More come when the end comes into sight, and by the button.
    page.locator("#matched .window").evaluate("w => { w.scrollIntoView(); w.scrollTop = w.scrollHeight; }")
    page.wait_for_timeout(500)
    assert len(shown(page)) > len(first)
    before = len(shown(page))
    page.locator("#matched button").evaluate("b => b.click()")
    assert len(shown(page)) > before
    assert len(set(shown(page))) == len(shown(page))
    took = page.evaluate(
        """() => {
             const slider = document.getElementById("threshold");
             const start = performance.now();
             slider.value = 1;
             slider.dispatchEvent(new Event("input"));
             document.body.offsetHeight;
             return performance.now() - start;
           }"""
    )
    assert took < 2000
