"""The page: self-contained, escaped, and its data what went in."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest
import scipy.sparse as sp

from rarefire import plots
from rarefire.data.source import ArraySource, Description
from rarefire.features import FeatureTable, feature_table
from rarefire.report import (
    SCRIPTS,
    Page,
    build_page,
    curve_summaries,
    embed_json,
    history_columns,
    number,
    verdict,
    visible,
)

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\u2028"


def make_table(kind="image", n_units=5, untied=False, **description):
    rng = np.random.default_rng(0)
    components = rng.standard_normal((n_units, 6)).astype(np.float32)
    components[1] = 0
    rows = rng.random((40, 6)).astype(np.float32)

    def encode(rows):
        codes = np.maximum(rows @ components.T, 0)
        return codes, codes > 0

    optimal = components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-9)
    source = ArraySource(rows, Description("made up", kind, **description))
    return feature_table(components, optimal[::-1] if untied else optimal, encode, source)


class Reader(HTMLParser):
    """Collects the elements, and the text of the scripts as a browser would take it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.inside = dict(attrs)
            self.scripts.append([self.inside, ""])

    def handle_endtag(self, tag):
        if tag == "script":
            self.inside = None

    def handle_data(self, data):
        if self.inside is not None:
            self.scripts[-1][1] += data

    @property
    def data(self):
        (text,) = (text for attributes, text in self.scripts if attributes.get("id") == "data")
        return json.loads(text)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def full():
    history = [{"epoch": 1, "cost": 0.5, "validation_cost": 0.6, "active_mean": 3.0}, {"epoch": 2, "cost": 0.25}]
    metrics = [{"name": "cv_cost", "value": 0.0051, "published": 0.005, "source": "002", "within": True}]
    table = make_table(shape=(2, 3))
    figures = [("A caption", plots.write(plots.features(table)))]
    return build_page(Page("Title", "Subtitle", [("Seed", "0")], history, "nats", metrics, table, figures))


def unpack(packed):
    array = np.frombuffer(base64.b64decode(packed["base64"]), np.dtype(packed["dtype"]).newbyteorder("<"))
    return array.reshape(packed["shape"])


def test_markup_stays_text():
    names = (EVIL, *"abcde")
    table = make_table("named", feature_names=names)
    metrics = [{"name": EVIL, "value": 1.0, "explanation": EVIL, "unit": EVIL, "source": EVIL, "published": 1.0}]
    evil = build_page(Page(EVIL, EVIL, [(EVIL, EVIL)], [{"cost": 1.0}], EVIL, metrics, table, [(EVIL, b"png")]))
    tame = build_page(Page("t", "t", [("t", "t")], [{"cost": 1.0}], "t", metrics, table, [("t", b"png")]))
    names_of = lambda page: [tag for tag, _ in Reader(page).tags]  # noqa: E731
    assert names_of(evil) == names_of(tame)
    assert EVIL not in evil
    assert "<img src=x" not in evil
    assert EVIL in Reader(evil).data["features"]["names"]


#: What a name from a file may hold.
HOSTILE = (
    EVIL,
    "<!-- <script>",
    "--></title></style></textarea></noscript><svg onload=alert(1)>",
    "\" onmouseover=alert(1) x='",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "&lt;b&gt;&#60;",
    "\\u003cb\\u003e\\",
    "%s {0} $x^2$ $\\frac{1}{0$ $$",
    "line\u2028separators\u2029",
    "\u202eright to left\u2066",
    "nothing\x00at all\x1b[2J\x07\x85",
    "half a pair \ud800",
    "日本語 עברית \U0001f600",
)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_page_is_a_file_whatever_is_in_it(text):
    """It can be written, holds nothing that HTML forbids or that turns text around, and its JSON is the text's."""
    table = make_table("named", feature_names=(text, *"abcde"))
    metrics = [
        {"name": text, "value": 1.0, "expected": text, "within": False},
        {"name": "b", "value": 2.0, "unit": text},
    ]
    page = build_page(
        Page(text, text, [(text, text)], [{"cost": 1.0, text: 2.0}], text, metrics, table, [(text, b"png")])
    )
    assert page.encode().decode() == page
    assert not set(page) & {*map(chr, range(32)), "\x7f", "\x85", "\u202e", "\u2066"} - {"\n", "\t"}
    data = Reader(page).data
    assert visible(text) in data["features"]["names"]
    assert {key.encode("utf-16", "surrogatepass") for key in data["histories"][0]} >= {
        text.encode("utf-16", "surrogatepass")
    }
    tame = build_page(Page("t", "t", [("t", "t")], [{"cost": 1.0}], "t", metrics, table, [("t", b"png")]))
    assert [tag for tag, _ in Reader(page).tags] == [tag for tag, _ in Reader(tame).tags]
    assert [list(attributes) for _, attributes in Reader(page).tags] == [list(a) for _, a in Reader(tame).tags]


def test_what_does_not_show_is_written_out():
    assert visible("a\x00\x1b[2J\u202eb\ud800") == "a\\x00\\x1b[2J\\u202eb\\ud800"
    shown = "tab\tline\n\u00a0\u200c\u200d عربى日本語 <&>'\"\\"
    assert visible(shown) == shown


def test_a_dollar_in_a_name_is_a_dollar():
    """Names are drawn as they are, what no screen shows written out: as mathematics they would be other letters."""
    names = ("$x^2$", "$\\frac{1}{0$", "$$", "%s", "_nolegend_", "a\x00b")
    figure = plots.features(make_table("named", feature_names=names))
    drawn = {text.get_text() for text in figure.axes[0].get_yticklabels()}
    assert drawn == {*names[:-1], "a\\x00b"}
    assert not any(text.get_parse_math() for text in figure.axes[0].get_yticklabels())
    assert plots.write(figure).startswith(b"\x89PNG")
    table = plots.text_table(["$a", "$b"], [names[:2]], [0.5, 0.5])
    assert plots.write(table).startswith(b"\x89PNG")


def test_json_survives():
    value = {"text": EVIL + "\u2029\ud800", "numbers": [1, 0.5, None], "deep": {"<": ">"}}
    text = str(embed_json(value))
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029\ud800")
    with pytest.raises(ValueError):
        embed_json(float("nan"))


def test_history_round_trip(full):
    assert Reader(full).data["histories"][0] == {
        "epoch": [1, 2],
        "cost": [0.5, 0.25],
        "validation_cost": [0.6, None],
        "active_mean": [3.0, None],
    }
    assert history_columns([{"cost": float("inf")}, {"cost": 1 / 3}]) == {"epoch": [1, 2], "cost": [None, 0.3333333]}


def test_images_follow_the_scale_rule(full):
    table, data = make_table(shape=(2, 3)), Reader(full).data["features"]
    images = unpack(data["images"])
    assert images.shape == (5, 6)
    assert (images[1] == 128).all()
    largest = np.abs(table.components[0]).argmax()
    assert images[0, largest] == (255 if table.components[0, largest] > 0 else 0)
    np.testing.assert_array_equal(unpack(data["limits"]), np.abs(table.components).max(axis=1))
    assert data["example_groups"] == {"strongest": 9, "median": 3, "threshold": 3}
    for what in ("index", "codes"):
        groups = [getattr(table, f"{group}_{what}") for group in ("example", "median", "threshold")]
        np.testing.assert_array_equal(unpack(data[f"example_{what}"]), np.concatenate(groups, axis=1))
    # Data in [0, 1]: 0 is black and 1 white.
    assert data["example_mode"] == "positive"
    drawn = unpack(data["example_images"]) / 255
    np.testing.assert_allclose(drawn, table.example_rows.toarray(), atol=0.005)
    assert data["optimal_images"] is None


def test_optimal_inputs_are_drawn_where_they_differ():
    data = Reader(build_page(Page("t", "t", table=make_table(shape=(2, 3), untied=True)))).data["features"]
    # Scaled to its own largest value, a unit vector looks as what it was made from.
    np.testing.assert_array_equal(unpack(data["optimal_images"]), unpack(data["images"])[::-1])


@pytest.mark.parametrize("kind", ["named", "plain"])
def test_top_columns(kind):
    names = tuple("uvwxyz") if kind == "named" else None
    table = make_table(kind, feature_names=names)
    data = Reader(build_page(Page("t", "t", table=table))).data["features"]
    shown = names or tuple(f"column {i}" for i in range(6))
    tops, weights = unpack(data["top_names"]), unpack(data["top_weights"])
    for unit, component in enumerate(table.components):
        assert {data["names"][i]: w for i, w in zip(tops[unit], weights[unit], strict=True)} == dict(
            zip(shown, component, strict=True)
        )
        assert (np.diff(np.abs(weights[unit])) <= 0).all()
    first = table.example_rows.toarray()[table.example_index[0, 0]]
    labels = [data["names"][i] for i in unpack(data["example_names"])[0, 0]]
    assert dict(zip(labels, unpack(data["example_values"])[0, 0], strict=True)) == dict(zip(shown, first, strict=True))
    assert labels[0] == shown[np.abs(first * table.components[0]).argmax()]


def words_table(n_units=64, n_words=50_000, n_documents=600, untied=False):
    """Documents of sixty words out of fifty thousand; unit 1 has no weights, and unit 2 none that is positive."""
    rng = np.random.default_rng(0)
    columns = np.stack([rng.choice(n_words, 60, replace=False) for _ in range(n_documents)])
    documents = sp.csr_array(
        (np.ones(columns.size, np.float32), columns.ravel(), np.arange(0, columns.size + 1, 60)),
        (n_documents, n_words),
    )
    components = rng.standard_normal((n_units, n_words)).astype(np.float32)
    components[1] = 0
    components[2] = -np.abs(components[2])
    optimal = components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-9)
    if untied:
        optimal = np.roll(optimal, 1, axis=0)

    def encode(rows):
        codes = np.maximum(rows @ optimal.T, 0)
        return codes, codes > 0

    names = tuple(f"word{i}" for i in range(n_words))
    return feature_table(
        components, optimal, encode, ArraySource(documents, Description("t", "words", feature_names=names))
    )


@pytest.mark.parametrize("untied", [False, True])
def test_words(untied):
    table = words_table(n_units=4, n_words=3000, n_documents=40, untied=untied)
    text = build_page(Page("t", "t", table=table))
    data = Reader(text).data["features"]
    assert "Strongest documents" in text

    def named(key, *place):
        return [data["names"][i] for i in unpack(data[key])[place] if i >= 0]

    order = [f"word{i}" for i in np.argsort(-table.components[0])]
    assert named("top_names", 0) == order[:16] + order[-8:]
    np.testing.assert_array_equal(unpack(data["top_weights"])[0, -1], table.components[0].min())
    assert named("top_names", 1) == []
    assert (unpack(data["top_weights"])[1] == 0).all()
    assert named("top_names", 2) == [f"word{i}" for i in np.argsort(-table.components[2])[-24:]]
    assert (unpack(data["top_weights"])[2] < 0).all()

    # A document's words, first those that excite the unit; nothing that it does not have.
    document = table.example_rows.toarray()[table.example_index[0, 0]]
    there = np.flatnonzero(document)
    order = there[np.argsort(-table.optimal[0, there], kind="stable")]
    assert named("example_names", 0, 0) == [f"word{i}" for i in order[:20]]
    assert (unpack(data["example_values"])[0, 0] == 1).all()
    np.testing.assert_array_equal(unpack(data["example_drives"])[0, 0], table.optimal[0, order[:20]])
    assert (unpack(data["example_sizes"]) == 60).all()
    if untied:
        assert named("optimal_names", 0) == [f"word{i}" for i in np.argsort(-table.optimal[0])[:8]]
    else:
        assert "optimal_names" not in data


def test_size_of_a_page_of_words():
    """64 units over 50,000 words: what is shown takes place, what the weights would take (17 MB) does not."""
    table = words_table()
    empty = len(build_page(Page("t", "t")))
    assert len(build_page(Page("t", "t", table=table))) - empty < 700_000


def test_a_wide_plain_table_is_told_and_not_drawn():
    wide = FeatureTable(**{**vars(words_table(n_units=4, n_documents=20)), "description": Description("wide")})
    data = Reader(build_page(Page("t", "t", table=wide))).data["features"]
    assert data["kind"] == "named"
    assert "images" not in data
    assert data["names"][0].startswith("column ")


def test_charts_of_what_was_recorded():
    record = {"cost": 2.0, "objective": 3.0, "penalty": 0.75, "weight_decay": 0.25}
    charts = [curve["key"] for curve in curve_summaries(history_columns([{**record, "zeros": 0.5}]), "nats")]
    assert charts == ["cost", "objective", "zeros"]
    # Sigmoid units are never exactly zero.
    charts = [curve["key"] for curve in curve_summaries(history_columns([{**record, "zeros": 0.0}]), "nats")]
    assert charts == ["cost", "objective"]


def test_content_policy(full):
    reader = Reader(full)
    (policy,) = (m["content"] for m in reader.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    # What these four do not name is forbidden; the last four are not covered by default-src.
    assert {name for name in directives if name.endswith("-src")} == {
        "default-src",
        "img-src",
        "style-src",
        "script-src",
    }
    assert directives["default-src"] == directives["base-uri"] == directives["form-action"] == "'none'"
    assert directives["require-trusted-types-for"] == "'script'"
    assert directives["trusted-types"] == "'none'"
    assert directives["img-src"] == "data:"
    assert "unsafe" not in policy
    executable = [text for attributes, text in reader.scripts if attributes.get("type") != "application/json"]
    assert len(executable) == len(SCRIPTS)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in executable]
    assert directives["script-src"].split() == [f"'sha256-{value}'" for value in hashes]
    (style,) = re.findall(r"<style>(.*?)</style>", full, re.DOTALL)
    assert directives["style-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
    assert not any(
        "style" in attributes or any(key.startswith("on") for key in attributes) for _, attributes in reader.tags
    )


def test_nothing_is_fetched(full):
    reader = Reader(full)
    addresses = [
        value
        for _, attributes in reader.tags
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "poster", "data", "action"}
    ]
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert not reader.all("link")
    assert not re.search(r"url\(|@import", full)
    # The one address in the file is uPlot's own, in a comment.
    assert re.findall(r"https?://[^\s\"']+", full) == ["https://github.com/leeoniya/uPlot"]


def test_size_before_data():
    assert len(build_page(Page("t", "t")).encode()) < 1_000_000


def test_sections_only_where_there_is_something(full):
    sections = {attributes["id"] for attributes in Reader(full).all("section")}
    assert sections == {"metrics", "training", "features", "spread", "figures"}
    assert Reader(build_page(Page("t", "t"))).all("section") == []
    assert [image["alt"] for image in Reader(full).all("img")] == ["A caption"]


def test_verdict_in_words():
    published = {"name": "cost", "published": 0.005, "tolerance": 0.001, "better": "lower"}
    assert verdict({**published, "value": 0.0051, "within": True}) == "✓ within ±0.001"
    assert verdict({**published, "value": 0.003, "within": True}) == "✓ better than published"
    assert verdict({**published, "value": 0.007, "within": False}) == "✗ not within ±0.001"
    assert verdict({"name": "cost", "value": 1.0}) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (True, "yes"), (12345, "12,345"), (0.00412345, "0.004123"), (-2.5, "−2.5"), ("n/a", "n/a")],
)
def test_numbers_for_reading(value, text):
    assert number(value) == text


def test_vendored_library_names_its_version():
    vendor = resources.files("rarefire.report") / "assets" / "vendor"
    version = re.search(r"uPlot (\S+) ", (vendor / "README.md").read_text()).group(1)
    assert f"(v{version})" in (vendor / "uPlot.iife.min.js").read_text()
    assert "MIT" in (vendor / "LICENSE").read_text()
