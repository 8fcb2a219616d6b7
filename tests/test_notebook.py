"""What estimators and runs show of themselves in a notebook."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import estimator_html_repr

import rarefire as rf
from rarefire.errors import InputError
from rarefire.plots import to_grey
from rarefire.report import number

EVIL = "<script>alert('x')</script>\"&\u202e"
X = np.random.default_rng(0).random((60, 12))
VOID = {"img", "br", "meta", "input", "link", "circle", "polyline", "path", "rect"}


class Balanced(HTMLParser):
    """Reads HTML and sees that every element is closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def pixels(reader):
    (image,) = reader.all("img")
    head, data = image["src"].split(",")
    assert head == "data:image/png;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def fitted(**arguments):
    return rf.SparseAutoencoder(n_components=5, max_iter=4, validation_fraction=0.2, random_state=0, **arguments).fit(X)


def shown(estimator):
    """What a notebook is given, without scikit-learn's diagram."""
    diagram = re.sub(r"id-\d+", "id", estimator_html_repr(estimator))
    whole = re.sub(r"id-\d+", "id", estimator._repr_mimebundle_()["text/html"])
    assert whole.startswith(diagram)
    return whole.removeprefix(diagram)


@pytest.mark.parametrize("name", ["BernoulliRBM", "GaussianRBM", "SparseAutoencoder", "DeepBeliefNetwork"])
def test_every_estimator_shows_itself_once_it_is_fitted(name):
    estimator = getattr(rf, name)(random_state=0)
    assert shown(estimator) == ""
    estimator.fit(X)
    reader = Balanced(shown(estimator))
    assert reader.all("script") == []
    assert f"{len(estimator.components_)} units" in reader.text
    assert shown(estimator) == estimator._repr_html_().partition("</body>")[2]
    assert shown(clone(estimator)) == ""


def test_figures_agree_with_the_history():
    sae = fitted()
    reader = Balanced(shown(sae))
    last = sae.history_[-1]
    assert f"5 units · {number(last['active_mean'])} active on a row on average · 4 iterations" in reader.text
    ends = f"training {number(last['cost'])}, held out {number(last['validation_cost'])}"
    assert f"in {sae.cost_unit}: at the end {ends}" in reader.text
    curves = reader.all("polyline")
    assert ["stroke-dasharray" in curve for curve in curves] == [False, True]
    costs = [record["cost"] for record in sae.history_]
    heights = [float(point.split(",")[1]) for point in curves[0]["points"].split()]
    assert len(heights) == 4
    np.testing.assert_array_equal(np.argsort(heights), np.argsort(costs)[::-1])  # down is up in a drawing


def test_long_histories_stay_small_and_keep_their_ends():
    sae = fitted()
    sae.history_ = [{"epoch": n, "cost": 1 / n} for n in range(1, 10_001)]
    reader = Balanced(shown(sae))
    (curve,) = reader.all("polyline")
    points = curve["points"].split()
    assert 100 < len(points) <= 242
    assert points[0].startswith("4.0,4.0")
    assert points[-1] == "236.0,60.0"
    assert "logarithmic" in reader.text


def test_rows_of_an_array_are_no_pictures_until_that_is_said():
    sae = fitted()
    drawn = pixels(Balanced(shown(sae)))
    limits = np.abs(sae.components_).max(axis=1, keepdims=True)
    np.testing.assert_array_equal(drawn, to_grey(sae.components_, limits))

    reader = Balanced(sae.picture(shape=(3, 4))._repr_html_())
    mosaic = pixels(reader)
    tiles = to_grey(sae.components_, limits).reshape(5, 3, 4)
    columns = (mosaic.shape[1] + 1) // 5
    for unit, tile in enumerate(tiles):
        top, left = 4 * (unit // columns), 5 * (unit % columns)
        np.testing.assert_array_equal(mosaic[top : top + 3, left : left + 4, :3], tile[..., None].repeat(3, axis=2))
        assert (mosaic[top : top + 3, left : left + 4, 3] == 255).all()
    with pytest.raises(InputError, match=r"12 columns are no images of shape \(2, 4\)"):
        sae.picture(shape=(2, 4))
    with pytest.raises(InputError, match="cannot be drawn"):
        sae.picture(shape=(2, 3, 2))


def test_of_many_units_those_of_largest_norm():
    rbm = rf.BernoulliRBM(n_components=100, n_iter=1, random_state=0).fit(X)
    rbm.components_ = np.arange(100)[::-1, None] * np.linspace(-1, 1, 12)
    reader = Balanced(shown(rbm))
    assert "60 of 100 units, those of largest norm" in reader.text
    assert pixels(reader).shape == (60, 12)
    assert (pixels(reader) == to_grey(np.linspace(-1, 1, 12), 1)).all()


def test_named_columns_are_told_and_escaped():
    frame = pd.DataFrame(X, columns=[EVIL, *(f"column-{i}" for i in range(11))])
    sae = clone(fitted()).fit(frame)
    sae.components_[0] = 0
    sae.components_[1] = [-9, 5, *np.linspace(1, 0, 10)]
    text = shown(sae)
    reader = Balanced(text)
    assert reader.all("script") == reader.all("img") == []
    assert "\u202e" not in text
    told = reader.text.split("unit 1")[1]
    assert unescape(told).startswith("−<script>alert('x')</script>\"&\\u202e, column-0, column-1, ")
    assert "no weights" in reader.text.split("unit 1")[0]


def test_after_partial_fit_there_is_no_curve():
    reader = Balanced(shown(rf.BernoulliRBM(n_components=3, random_state=0).partial_fit(X)))
    assert reader.all("svg") == []
    assert "iteration" not in reader.text


def test_inside_others_scikit_learns_diagram_is_alone():
    pipeline = make_pipeline(MinMaxScaler(), rf.BernoulliRBM(n_components=3, n_iter=1, random_state=0)).fit(X)
    search = GridSearchCV(clone(fitted()), {"max_iter": [1, 2]}, cv=2).fit(X)
    for whole, inside in ((pipeline, "BernoulliRBM"), (search, "SparseAutoencoder")):
        text = whole._repr_html_()
        assert inside in text
        assert "data:image/png" not in text


def test_the_text_display_is_left_alone():
    with config_context(display="text"):
        assert list(fitted()._repr_mimebundle_()) == ["text/plain"]
        assert not hasattr(fitted(), "_repr_html_")


# Runs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(cli, tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    shutil.rmtree("a run #1", ignore_errors=True)
    quick = ["--set", "max_iter=3", "--set", "n_components=6", "--device", "cpu", "--quiet"]
    assert cli("fit", "digits", "--out", "a run #1", *quick).code == 0
    return tmp_path / "a run #1"


def test_a_run_shows_itself(run):
    one = rf.Run("a run #1")
    assert repr(one) == "Run('a run #1')"
    reader = Balanced(one._repr_html_())
    assert reader.all("script") == []
    assert "digits: SparseAutoencoder" in reader.text
    assert "1,797 rows of 64" in reader.text
    (link,) = reader.all("a")
    assert link["href"] == "a%20run%20%231/report.html"
    sae = rf.load(run)
    mosaic = pixels(reader)
    tile = to_grey(sae.components_[0].astype(np.float32), np.abs(sae.components_[0]).max()).reshape(8, 8)
    np.testing.assert_array_equal(mosaic[:8, :8, 0], tile)
    # An estimator that comes from a run on images knows their shape, until it is fitted to something else.
    np.testing.assert_array_equal(pixels(Balanced(shown(sae))), mosaic)
    assert pixels(Balanced(shown(sae.fit(X)))).shape == (6, 12)


def test_figures_of_a_run_stand_beside_the_published(run):
    entries = [{"name": f"cost{EVIL}", "value": 0.5, "unit": EVIL, "published": 0.25, "tolerance": 0.5, "within": True}]
    (run / "metrics.json").write_text(json.dumps({"metrics": entries}))
    text = rf.Run(run)._repr_html_()
    reader = Balanced(text)
    assert reader.all("script") == []
    assert "published 0.25 ✓ within ±0.5" in reader.text
    assert "open" in reader.all("details")[0]


def test_an_unfinished_run_and_one_from_python(run, tmp_path):
    fitted().save(tmp_path / "saved")
    reader = Balanced(rf.Run(tmp_path / "saved")._repr_html_())
    assert "SparseAutoencoder" in reader.text
    assert len(reader.all("svg")) == 1
    assert reader.all("img") == reader.all("a") == []
    for name in ("weights.safetensors", "features.safetensors", "metrics.json", "report.html"):
        (run / name).unlink()
    reader = Balanced(rf.Run(run)._repr_html_())
    assert "unfinished; rarefire resume goes on with it" in reader.text
    assert reader.all("img") == []


def test_what_is_no_run(tmp_path):
    with pytest.raises(InputError, match="is no run"):
        rf.Run(tmp_path)
