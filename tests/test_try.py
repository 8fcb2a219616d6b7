"""What the page computes of an input is what Python computes: in a browser, and through the page's own controls."""

from __future__ import annotations

import html
import io
import re
import unicodedata
import warnings
from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_iris, load_sample_image
from sklearn.pipeline import make_pipeline

import rarefire as rf
from rarefire import activations, losses, preprocess
from rarefire.activations import Activation
from rarefire.component import label, members
from rarefire.data.source import ArraySource, Description
from rarefire.data.synthetic import line_images
from rarefire.data.text import bag_of_words
from rarefire.features import feature_table
from rarefire.preprocess import Step, fit_steps, prepared
from rarefire.random import Generator
from rarefire.report import Page, build_page, pack
from rarefire.report import trying as trying_module
from rarefire.report.trying import N_EXAMPLES, Parts, trying
from rarefire.types import Affine
from rarefire.units import Units


def fitted(estimator, rows, description, steps=()):
    """A pipeline of fitted steps and estimator, its table, and what the page holds of it."""
    source, steps = ArraySource(rows, description), list(steps)
    fit_steps(steps, source)
    ready = prepared(source, steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit_source(ready, estimator.split(rows.shape[0], 0), seed=0)
    table = feature_table(estimator.components_, estimator.optimal_inputs(), estimator.codes_and_active, ready)
    return make_pipeline(*steps, estimator), table, trying(estimator.fitted_model(), steps, description, table)


DIGITS = (load_digits().data[:300] / 16).astype(np.float32)
OF_DIGITS = Description("digits", "image", (8, 8))
LINES = line_images(300, Generator(0, "lines")).astype(np.float32)
OF_LINES = Description("lines", "image", (9, 9))
IRIS = load_iris()
OF_IRIS = Description("iris", "named", None, tuple(IRIS.feature_names))
PLOTS = [
    "The captain of a ship flies to an alien planet.",
    "An alien planet, a ship, and no captain.",
    "Love and a wedding; the heart of a captain.",
    "A wedding, a kiss, and love again!",
    "Police find a murder, a gun and a détective.",
    "The détective finds the gun, and love.",
]
WORDS, VOCABULARY = bag_of_words(PLOTS)
OF_WORDS = Description("plots", "words", feature_names=VOCABULARY)


def colours():
    """Patches of 6×6 colour pixels."""
    image = load_sample_image("flower.jpg")[:240, :240].astype(np.float32) / 255
    return image.reshape(40, 6, 40, 6, 3).transpose(0, 2, 1, 3, 4).reshape(1600, -1)[::5]


def sae(**arguments):
    return rf.SparseAutoencoder(**{"n_components": 12, "max_iter": 5, "batch_size": 50, "device": "cpu", **arguments})


def rbm(cls=rf.BernoulliRBM, **arguments):
    return cls(**{"n_components": 10, "n_iter": 3, "learning_rate": 0.05, "device": "cpu", **arguments})


def network(*machines, **arguments):
    layers = [(f"layer{i}", machine) for i, machine in enumerate(machines, 1)]
    return rf.DeepBeliefNetwork(layers, max_iter=2, device="cpu", **arguments)


#: Estimator, rows, what they are, steps.
CASES = {
    "sigmoid units of clipped digits": lambda: (sae(), DIGITS, OF_DIGITS, [preprocess.ClipRescale()]),
    "tied tanh units": lambda: (sae(activation=activations.Tanh(), tied=True), DIGITS, OF_DIGITS, []),
    "whitened digits": lambda: (
        sae(activation=activations.ThresholdedLinear(0.5)), DIGITS, OF_DIGITS,
        [preprocess.RemoveMean(), preprocess.ZCAWhitening()],
    ),
    "axes of digits in double precision": lambda: (
        sae(activation=activations.ReLU()), DIGITS.astype(np.float64), OF_DIGITS,
        [preprocess.PCAWhitening(n_components=20)],
    ),
    "colour patches": lambda: (
        sae(activation=activations.ELU(0.7)), colours(), Description("flower", "image", (6, 6, 3)),
        [preprocess.OneOverFWhitening(), preprocess.Standardise()],
    ),
    "binary digits": lambda: (
        sae(output=activations.Sigmoid(), loss=losses.BernoulliCrossEntropy()), DIGITS, OF_DIGITS,
        [preprocess.Rescale(), preprocess.Binarise(0.4)],
    ),
    "a machine of lines": lambda: (rbm(), LINES, OF_LINES, []),
    "a machine of variances": lambda: (
        rbm(rf.GaussianRBM, learn_variance=True), DIGITS, OF_DIGITS, [preprocess.Standardise()],
    ),
    "a deep network of lines": lambda: (network(rbm(), rbm(n_components=5)), LINES, OF_LINES, []),
    "a fine-tuned deep network of digits": lambda: (
        network(
            rbm(rf.GaussianRBM, learn_variance=True, init_scale=0.3), rbm(n_components=6, init_scale=0.5),
            rbm(n_components=4, init_scale=0.5), fine_tune="mean",
        ),
        DIGITS, OF_DIGITS, [preprocess.Standardise()],
    ),
    "words": lambda: (
        sae(activation=activations.LeakyReLU(0.1), output=activations.Sigmoid(), loss=losses.BernoulliCrossEntropy(),
            batch_size=3),
        WORDS, OF_WORDS, [],
    ),
    "standardised words": lambda: (
        sae(activation=activations.Tanh(), batch_size=3), WORDS, OF_WORDS, [preprocess.Standardise()],
    ),
    "named columns": lambda: (
        sae(activation=activations.Tanh(), n_components=3), IRIS.data, OF_IRIS, [preprocess.Standardise()],
    ),
    "plain columns": lambda: (
        sae(activation=activations.ThresholdedReLU(0.2)), DIGITS, Description("rows"), [],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    """The cases, each fitted once."""
    there = {}

    def make(name):
        if name not in there:
            there[name] = fitted(*CASES[name]())
        return there[name]

    return make


# ---------------------------------------------------------------- in Python


def test_examples_are_raw_rows_of_the_training(made):
    for name in ("sigmoid units of clipped digits", "a machine of variances", "tied tanh units"):
        examples = np.array(made(name)[2].data["examples"])
        assert len(examples) == N_EXAMPLES
        nearest = np.abs(examples[:, None] - DIGITS[None]).max(axis=2).min(axis=1)
        # What was clipped at three standard deviations, digits do not reach.
        assert nearest.max() < 1e-5
        assert len(np.unique(examples, axis=0)) == N_EXAMPLES
    rows = {tuple(np.flatnonzero(row)) for row in WORDS.toarray()}
    for name in ("words", "standardised words"):
        told = made(name)[2].data["examples"]
        assert told
        assert {tuple(columns) for columns in told} <= rows


def test_inputs_of_the_table_are_what_is_begun_from(made):
    pipeline, _, _ = made("axes of digits in double precision")
    steps, model = [step for _, step in pipeline.steps[:-1]], pipeline[-1]
    rows = DIGITS[:5].astype(np.float64)
    ready = prepared(ArraySource(DIGITS.astype(np.float64), OF_DIGITS), steps)
    shown = steps[0].transform(rows), model.inverse_transform(pipeline.transform(rows))
    table = feature_table(model.components_, model.optimal_inputs(), model.codes_and_active, ready, shown=shown)
    data = trying(model.fitted_model(), steps, OF_DIGITS, table).data
    # Of rows that lost axes, the nearest that have the same codes.
    assert len(data["examples"]) == 5
    np.testing.assert_allclose(pipeline.transform(np.array(data["examples"])), pipeline.transform(rows), atol=1e-4)


def test_the_range_to_draw_in_is_that_of_raw_values(made):
    for name in ("a machine of lines", "a machine of variances", "binary digits"):
        data = made(name)[2].data["input"]
        assert (data["low"], data["high"]) == (0, 1)
    _, _, section = fitted(sae(), 100 + 16 * DIGITS, OF_DIGITS, [preprocess.Standardise()])
    assert (section.data["input"]["low"], section.data["input"]["high"]) == pytest.approx((100, 116), abs=1e-3)


def test_tied_weights_travel_once(made):
    shapes = [tuple(array["shape"]) for array in made("tied tanh units")[2].data["arrays"]]
    assert sorted(shapes) == [(12,), (12, 64), (64,)]
    assert sum(len(array["shape"]) == 2 for array in made("a machine of lines")[2].data["arrays"]) == 1
    assert sum(len(array["shape"]) == 2 for array in made("a machine of variances")[2].data["arrays"]) == 2


class _Silent(Activation):
    """Says nothing of JavaScript."""

    def __call__(self, z):
        return z.clamp(min=0)

    def slope(self, z, f):
        return (f > 0).to(f.dtype)


class _Steeper(activations.ReLU):
    """Computes something else than the class whose JavaScript it has."""

    def __call__(self, z):
        return 2 * z.clamp(min=0)


class _Shifted(preprocess.RemoveMean):
    """A step with another inverse than the class whose JavaScript it has."""

    def inverse_transform(self, X):
        return X + 1


@pytest.mark.parametrize("activation", [_Silent(), _Steeper()], ids=["silent", "steeper"])
def test_what_does_not_say_how_it_is_computed_is_refused_in_a_sentence(activation):
    _, table, section = fitted(sae(activation=activation), DIGITS, OF_DIGITS)
    assert re.fullmatch(
        rf"An input cannot be tried here, because the activation {type(activation).__name__} does not say [^.]+"
        r"give its class the attribute javascript, [^.]+\.",
        section.refusal,
    )
    page = build_page(Page("t", "t", table=table, trying=section))
    assert section.refusal in html.unescape(page)
    assert "try-data" not in page
    assert "const formulas" not in page


def test_another_inverse_is_not_taken_for_the_one_stated():
    _, _, section = fitted(sae(), DIGITS, OF_DIGITS, [_Shifted()])
    assert (section.data["restore"], section.data["level"]) == ([], 1)
    # Rows of the table are what the step gives, and stay so where it is applied again.
    assert not section.refusal


def test_more_values_than_a_page_carries_are_refused_in_a_sentence(monkeypatch, made):
    n_values = 12 * 64 + 12 + 64
    pipeline, table, _ = made("tied tanh units")
    model = pipeline[-1].fitted_model()
    monkeypatch.setattr(trying_module, "MOST_VALUES", n_values)
    assert not trying(model, [], OF_DIGITS, table).refusal
    monkeypatch.setattr(trying_module, "MOST_VALUES", n_values - 1)
    sentence = trying(model, [], OF_DIGITS, table).refusal
    assert f"{n_values:,} values" in sentence
    assert "rarefire encode" in sentence


def test_a_page_built_again_is_the_same(tmp_path, cli, undrawn):
    np.savetxt(tmp_path / "iris.csv", IRIS.data, delimiter=",", header="a,b,c,<d>", comments="")
    run = tmp_path / "run"
    words = ("--set", "n_components=3", "--set", "max_iter=2", "--prepare", "Standardise", "--out", run)
    assert cli("fit", tmp_path / "iris.csv", *words).code == 0
    first = (run / "report.html").read_bytes()
    assert b'id="try-data"' in first
    assert cli("report", run).code == 0
    assert (run / "report.html").read_bytes() == first
    # Of a run without weights all else is shown.
    (run / "weights.safetensors").unlink()
    assert cli("report", run).code == 0
    without = (run / "report.html").read_bytes()
    assert b'id="features"' in without
    assert b'id="try"' not in without


# ---------------------------------------------------------------- in a browser


@pytest.fixture
def visit(opened, made):
    """Opens a page at its section."""

    def open_page(case, **how):
        _, table, section = made(case) if isinstance(case, str) else case
        page = opened(build_page(Page("A page", "to try", table=table, trying=section)), **how)
        page.locator("#try").scroll_into_view_if_needed()
        page.wait_for_selector("#try-back > *")
        return page

    return open_page


def close(got, expected):
    """Within 1e-4 of the largest value."""
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def computed(page, rows):
    """Codes, what comes back and what was given of each row, by the page."""
    answers = page.evaluate(
        "rows => rows.map((row) => { const { codes, back, given } = compute(row);"
        " return [codes, back, given].map((values) => Array.from(values)); })",
        rows.astype(float).tolist(),
    )
    return tuple(np.array(values) for values in zip(*answers, strict=True))


def rows_of(name):
    """Rows that were trained on, and others."""
    _, rows, description, _ = CASES[name]()
    rows = rows.toarray().astype(np.float32) if description.kind == "words" else rows
    others = np.random.default_rng(1).permutation(rows[:40].ravel()).reshape(rows[:40].shape)[:10]
    return np.concatenate([rows[:20], others, np.zeros_like(rows[:1])])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_codes_and_reconstructions_are_those_of_python(visit, made, name):
    pipeline, _, section = made(name)
    rows = rows_of(name)
    codes, back, given = computed(visit(name), rows)
    expected = pipeline.transform(rows)
    close(codes, expected)
    assert np.ptp(expected, axis=0).max() > 1e-3
    level = section.data["level"]
    shared = rows
    for _, step in pipeline.steps[:level]:
        shared = step.transform(shared)
    close(back, pipeline[level:].inverse_transform(expected))
    behind = pipeline[level:-1]
    close(given, behind.inverse_transform(behind.transform(shared)) if len(behind) else shared)


def family(base):
    """Its members in this package: those of other tests say nothing of JavaScript."""
    return pytest.mark.parametrize("cls", [cls for cls in members(base) if "rarefire." in cls.__module__], ids=label)


def evaluated(browser, parts, data, rows):
    """What the page's scripts compute, without a page around them."""
    assets = resources.files("rarefire.report") / "assets"
    data = {"single": parts.single, "prepare": [], "restore": [], "encode": [], "decode": [], **data}
    data["arrays"] = [pack(array) for array in parts.arrays]
    page = browser.new_page()
    for script in (
        *((assets / name).read_text(encoding="utf-8") for name in ("base.js", "compute.js")),
        parts.script(),
    ):
        page.add_script_tag(content=script)
    page.evaluate("data => { globalThis.compute = computing(data, formulas); }", data)
    answer = computed(page, rows)
    page.close()
    return answer


@pytest.mark.slow
@family(Activation)
def test_javascript_of_activations(browser, cls):
    f, parts = cls(), Parts(single=False)
    z = torch.cat([f.points(), torch.tensor([-40.0, 0.0, 40.0], dtype=torch.float64)])
    layer = parts.layer(Affine(torch.eye(len(z), dtype=torch.float64), torch.zeros_like(z), f))
    codes, _, _ = evaluated(browser, parts, {"encode": [layer]}, z[None].numpy())
    np.testing.assert_allclose(codes[0], f(z), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@family(Units)
def test_javascript_of_units(browser, cls):
    law, parts, z = cls(), Parts(single=False), torch.linspace(-40, 40, 81, dtype=torch.float64)
    layer = parts.layer(Affine(torch.eye(len(z), dtype=torch.float64), torch.zeros_like(z), law))
    codes, _, _ = evaluated(browser, parts, {"encode": [layer]}, z[None].numpy())
    np.testing.assert_allclose(codes[0], law.mean(z), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@family(Step)
def test_javascript_of_steps(browser, cls, dtype):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(60, 8)) @ rng.normal(size=(8, 30)) + 0.3 * rng.normal(size=(60, 30))).astype(dtype)
    step = cls().fit_source(ArraySource(rows[:50], Description("made up", "image", (2, 5, 3))))
    parts = Parts(single=dtype == np.float32)
    data = {"prepare": [parts.step(step, "javascript", "apply")]}
    invertible = hasattr(step, "inverse_transform")
    if invertible:
        data["restore"] = [parts.step(step, "javascript_inverse", "inverse_transform")]
    codes, back, _ = evaluated(browser, parts, data, rows)
    expected = step.transform(rows)
    # Sums are taken in another order, and a rounding of float32 that differs stays so.
    rtol = 1e-6 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(codes, expected, rtol=0, atol=rtol * np.abs(expected).max())
    restored = step.inverse_transform(expected) if invertible else expected
    # Waves of little gain come back as large as the rounding before them was small.
    np.testing.assert_allclose(back, restored, rtol=0, atol=100 * rtol * np.abs(restored).max())


@pytest.mark.slow
def test_words_are_cut_as_python_cuts_them(visit, made):
    """Letters of every script, digits, marks and signs; those younger than one of the two Unicode tables left out."""
    letters = [chr(i) for i in range(0x3000) if unicodedata.category(chr(i)) not in ("Cn", "Cs", "Co", "Cc")]
    rng = np.random.default_rng(0)
    page = visit("words")
    cut = "text => [...new Set(wordsOf(text))].sort()"
    for _ in range(20):
        text = "".join(rng.choice(letters, 2000)) + " ΌΣΟΣ İstanbul STRASSE straße naïve x_y 12th a I"
        _, words = bag_of_words([text], min_df=1)
        assert page.evaluate(cut, text) == sorted(words, key=lambda word: word.encode("utf-16-be"))


def listed(page):
    """The codes that the page lists, by unit."""
    lines = page.eval_on_selector_all(
        "#try-features li",
        "items => items.map(i => [i.querySelector('a').hash, i.querySelector('.value').textContent])",
    )
    return {int(hash.removeprefix("#unit=")): float(value.replace("−", "-")) for hash, value in lines}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_which_features_fire_is_as_the_table_has_it(visit, made, name):
    pipeline, _, section = made(name)
    n, rows = section.data["input"]["n"], section.data["examples"]
    if section.data["input"]["kind"] == "words":
        rows = [np.isin(np.arange(n), places) for places in rows]
    rows = np.array(rows, np.float32)
    _, active = pipeline[-1].codes_and_active(pipeline[:-1].transform(rows) if len(pipeline) > 1 else rows)
    page = visit(name)
    page.locator("#try").scroll_into_view_if_needed()
    for place, expected in enumerate(active.sum(axis=1)):
        page.locator("#try-examples button").nth(place).click()
        page.wait_for_timeout(100)
        told = page.text_content("#try-count")
        assert told == f"{expected or 'None'} of {active.shape[1]} fire{'s' if expected == 1 else ''}."


@pytest.mark.slow
def test_the_keyboard_comes_to_the_section(visit, made):
    page = visit("binary digits")
    page.wait_for_timeout(300)
    page.evaluate("scrollTo(0, 0)")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#try') !== null"):
            return
    raise AssertionError("Tab passes the section by")


def expect_codes(page, codes, low=0.0):
    """That the listed codes become the strongest of these."""
    first = np.argsort(-np.abs(codes - low), kind="stable")[:12]
    page.wait_for_timeout(150)  # the page computes with the next picture of the screen
    there = listed(page)
    assert next(iter(there)) == first[0]
    assert len(there) == len([unit for unit in first if codes[unit] != low])
    np.testing.assert_allclose([there[unit] for unit in there], codes[list(there)], rtol=1e-3, atol=1e-6)


def becomes(page, selector, pattern):
    """Waits for a text; Playwright's own waiting for a function needs eval, which the page's policy forbids."""
    for _ in range(50):
        if re.fullmatch(pattern, page.text_content(selector)):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{page.text_content(selector)!r} is not {pattern}")


def spot(page, x, y, side):
    """The middle of a pixel of the drawing, on the screen."""
    box = page.locator("#try-drawing").bounding_box()
    return box["x"] + (x + 0.5) * box["width"] / side, box["y"] + (y + 0.5) * box["height"] / side


@pytest.mark.slow
def test_drawing_by_mouse(visit, made):
    machine = made("a machine of lines")[0]
    page = visit("a machine of lines")
    page.locator("#try").get_by_role("button", name="Clear").click()
    row = np.zeros((9, 9), np.float32)
    expect_codes(page, machine.transform(row.reshape(1, -1))[0])
    page.mouse.move(*spot(page, 0, 3, 9))
    page.mouse.down()
    page.mouse.move(*spot(page, 8, 3, 9))  # at once: pixels between are painted too
    page.mouse.up()
    page.mouse.move(*spot(page, 4, 7, 9))  # not pressed
    row[3] = 1
    expect_codes(page, machine.transform(row.reshape(1, -1))[0])
    page.select_option("#try-broad", "2")
    page.fill("#try-brush", "0.5")
    page.mouse.click(*spot(page, 5.5, 6.5, 9))
    row[6:8, 5:7] = 0.5
    expect_codes(page, machine.transform(row.reshape(1, -1))[0])
    page.locator("#try").get_by_role("button", name="Invert").click()
    expect_codes(page, machine.transform(1 - row.reshape(1, -1))[0])


@pytest.mark.slow
def test_drawing_by_keyboard(visit, made):
    machine = made("a machine of lines")[0]
    page = visit("a machine of lines")
    page.locator("#try").get_by_role("button", name="Clear").click()
    page.focus("#try-drawing")
    row = np.zeros((9, 9), np.float32)
    for key in ("ArrowUp", "ArrowLeft", "ArrowLeft", " ", "ArrowDown", " "):
        page.keyboard.press(key)
    row[3:5, 2] = 1
    expect_codes(page, machine.transform(row.reshape(1, -1))[0])
    page.keyboard.press("ArrowUp")
    assert page.text_content("#try-said") == "line 4, column 3: 1"
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert page.text_content("#try-said") == "line 4, column 9: 0"
    # The page does not scroll away under the one who draws.
    before = page.evaluate("scrollY")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("scrollY") == before


@pytest.mark.slow
def test_examples_and_what_comes_back(visit, made):
    pipeline, _, section = made("a machine of variances")
    page = visit("a machine of variances", width=390, scheme="dark")
    buttons = page.locator("#try-examples button")
    assert buttons.count() == N_EXAMPLES
    buttons.nth(3).click()
    row = np.array(section.data["examples"][3], np.float32)[None]
    codes = pipeline.transform(row)
    expect_codes(page, codes[0])
    back = pipeline.inverse_transform(codes)[0]
    pixels = page.eval_on_selector_all(
        "#try-back canvas",
        "all => all.map((canvas) => Array.from(canvas.getContext('2d').getImageData(0, 0, 8, 8).data)"
        ".filter((_, i) => i % 4 === 0))",
    )
    shown = [np.clip(255 * values, 0, 255) for values in (row[0], back, (back - row[0] + 1) / 2)]
    np.testing.assert_allclose(pixels, shown, atol=0.51)
    becomes(page, "#try-said", rf".* Strongest: unit {codes[0].argmax()}, .*")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    link = page.locator("#try-features a").nth(1)
    unit = link.get_attribute("href").removeprefix("#unit=")
    link.click()
    becomes(page, "#unit-heading", f"Unit {unit}")


@pytest.mark.slow
def test_a_picture_from_a_file_or_the_clipboard(visit, made):
    pipeline, _, _ = made("colour patches")
    page = visit("colour patches")
    pixels = np.zeros((6, 6, 3), np.uint8)
    pixels[:3], pixels[3:, :, 2] = (255, 128, 0), 200
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    data = made("colour patches")[2].data["input"]
    row = (data["low"] + (data["high"] - data["low"]) * (pixels / 255)).astype(np.float32).reshape(1, -1)
    page.set_input_files("#try-file", {"name": "a.png", "mimeType": "image/png", "buffer": stream.getvalue()})
    expect_codes(page, pipeline.transform(row)[0])
    page.set_input_files("#try-file", {"name": "b.png", "mimeType": "image/png", "buffer": b"no picture"})
    becomes(page, "#try-problem", r"b\.png cannot be read as a picture; choose a PNG or JPEG file\.")
    page.locator("#try-examples button").nth(0).click()
    assert page.text_content("#try-problem") == ""
    page.evaluate(
        """bytes => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([Uint8Array.from(bytes)], "c.png", { type: "image/png" }));
          byId("try-drawing").dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }""",
        list(stream.getvalue()),
    )
    page.wait_for_timeout(200)
    expect_codes(page, pipeline.transform(row)[0])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "low"), [("words", 0.0), ("standardised words", -1.0)])
def test_a_sentence_has_the_codes_of_the_sentence(visit, made, name, low):
    pipeline, _, _ = made(name)
    page = visit(name)
    sentence = "POLICE seek the Détective_, a détective; & a zeppelin, <b>love</b>"
    page.fill("#try-text", sentence)
    rows = bag_of_words([sentence], VOCABULARY)[0].toarray().astype(np.float32)
    codes = pipeline.transform(rows)
    expect_codes(page, codes[0], low)
    assert page.text_content("#try-unknown") == "Unknown to the model: seek, détective_, zeppelin."
    told = page.eval_on_selector_all(
        "#try-back tbody tr", "rows => rows.map(r => [...r.children].map(c => c.textContent))"
    )
    back = pipeline.inverse_transform(codes)[0]
    order = np.argsort(-back, kind="stable")[:20]
    told_back = [float(value.replace("−", "-")) for _, value, _ in told]
    np.testing.assert_allclose(told_back, back[order], rtol=1e-3, atol=1e-5)
    assert [there for _, _, there in told] == ["yes" if rows[0, i] else "no" for i in order]
    page.fill("#try-text", "")
    expect_codes(page, pipeline.transform(np.zeros_like(rows))[0], low)
    assert page.text_content("#try-unknown") == ""


@pytest.mark.slow
def test_fields_of_named_columns(visit, made):
    pipeline, _, _ = made("named columns")
    page = visit("named columns")
    for i, value in enumerate((5.0, 3.25, 4.5, -1e-2)):
        page.fill(f"#try-column-{i}", str(value))
    row = np.array([[5.0, 3.25, 4.5, -1e-2]])
    expect_codes(page, pipeline.transform(row)[0], low=-1.0)
    page.fill("#try-column-2", "")
    assert page.text_content("#try-problem") == "petal length (cm) is no number; give one."
    page.fill("#try-column-2", "4.5")
    assert page.text_content("#try-problem") == ""
    told = page.eval_on_selector_all(
        "#try-back tbody tr", "rows => rows.map(r => [...r.children].map(c => c.textContent))"
    )
    assert [name for name, _, _ in told] == IRIS.feature_names
    assert [float(given.replace("−", "-")) for _, given, _ in told] == row[0].tolist()


@pytest.mark.slow
def test_numbers_of_plain_columns(visit, made):
    pipeline, _, _ = made("plain columns")
    page = visit("plain columns")
    row = np.linspace(-1, 1, 64)
    page.fill("#try-numbers", ",\n ".join(map(str, row)))
    expect_codes(page, pipeline.transform(row[None])[0])
    for text, sentence in (
        ("1, 2 3", "These are 3 numbers; give 64, one for each column."),
        ("", "These are 0 numbers; give 64, one for each column."),
        ("1, two, 3", 'Value 2, "two", is no number; give 64 numbers.'),
        ("1e999", 'Value 1, "1e999", is no number; give 64 numbers.'),
    ):
        page.fill("#try-numbers", text)
        assert page.text_content("#try-problem") == sentence


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_horizontal_overflow_on_a_phone(visit, name):
    page = visit(name, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_hostile_names_are_text(visit):
    names = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "__proto__", "constructor")
    case = fitted(sae(n_components=3), IRIS.data, Description("<b>", "named", None, names))
    page = visit(case)
    assert page.locator("img").count() == 0
    assert all(name in page.text_content("#try-back") for name in names)
    assert page.locator("#try-input label").all_text_contents() == list(names)
