"""Matching the features of two runs, and the command that writes their page."""

from __future__ import annotations

import itertools
import json
import re
import shutil

import numpy as np
import pytest
import torch

from rarefire import activations
from rarefire.activations import Activation
from rarefire.component import members
from rarefire.data.source import ArraySource, Description
from rarefire.features import feature_table
from rarefire.report.comparing import MOST_COSINES, match, metric_rows, why_unmatched


def make_table(components, **description):
    components = np.asarray(components, np.float32)
    rows = np.random.default_rng(0).random((30, components.shape[1])).astype(np.float32)

    def encode(rows):
        codes = np.maximum(rows @ components.T, 0)
        return codes, codes > 0

    source = ArraySource(rows, Description("made up", **description))
    return feature_table(components, components, encode, source)


def cosine(a, b):
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms else 0.0


def best_sum(a, b, either_sign):
    """The largest sum of cosines over all injections of the smaller set into the larger one."""
    if len(a) > len(b):
        a, b = b, a
    alike = [[abs(cosine(u, v)) if either_sign else max(0.0, cosine(u, v)) for v in b] for u in a]
    return max(sum(alike[i][j] for i, j in enumerate(to)) for to in itertools.permutations(range(len(b)), len(a)))


@pytest.mark.parametrize("either_sign", [False, True])
@pytest.mark.parametrize(("n_a", "n_b"), [(5, 5), (3, 6), (6, 4), (1, 1)])
def test_sum_of_cosines_is_the_largest_of_all_permutations(n_a, n_b, either_sign):
    rng = np.random.default_rng(n_a + 10 * n_b)
    a, b = rng.standard_normal((n_a, 4)), rng.standard_normal((n_b, 4))
    found = match(a, b, either_sign)
    assert len(set(found.pairs[:, 0])) == len(set(found.pairs[:, 1])) == len(found.pairs)
    np.testing.assert_allclose(found.cosine, [cosine(a[i], b[j]) for i, j in found.pairs], rtol=1e-12)
    alike = np.abs(found.cosine) if either_sign else found.cosine
    assert (alike > 0).all()
    assert (np.diff(alike) <= 0).all()
    np.testing.assert_allclose(alike.sum(), best_sum(a, b, either_sign), rtol=1e-12)


@pytest.mark.parametrize("either_sign", [False, True])
def test_a_permuted_and_noised_copy_is_recovered(either_sign):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((60, 100)).astype(np.float32)
    order = rng.permutation(60)
    flips = rng.choice([-1, 1], 60) if either_sign else np.ones(60)
    b = np.concatenate(
        [a[order] * flips[:, None] + 0.3 * rng.standard_normal((60, 100)), rng.standard_normal((7, 100))]
    )
    found = match(a, b * rng.random((67, 1)) * 10, either_sign)
    at = np.argsort(found.pairs[:, 1])
    np.testing.assert_array_equal(found.pairs[at][:, 0], order)
    np.testing.assert_array_equal(found.pairs[at][:, 1], np.arange(60))
    np.testing.assert_array_equal(np.sign(found.cosine[at]), flips)


def test_opposite_signs_match_only_where_asked():
    a = np.eye(3, 5)
    assert len(match(a, -a).pairs) == 0
    np.testing.assert_array_equal(match(a, -a, either_sign=True).cosine, [-1, -1, -1])


def test_units_without_weights_match_none():
    a, b = np.eye(4), np.eye(4)[[1, 0, 2]]
    a[2] = b[2] = 0
    found = match(a, b)
    assert {tuple(pair) for pair in found.pairs} == {(0, 1), (1, 0)}
    np.testing.assert_array_equal(found.nearest[0], [1, 0, -1, -1])
    np.testing.assert_array_equal(found.nearest[1], [1, 0, -1])
    np.testing.assert_array_equal(found.nearest_cosine[0], [1, 1, 0, 0])
    assert len(match(np.zeros((2, 3)), np.eye(3)).pairs) == 0


def test_nearest_may_be_in_another_pair():
    """Two units of A are alike the one unit of B: one gets it, the other is told of it."""
    a, b = np.array([[1.0, 0.1, 0], [1.0, 0.3, 0]]), np.array([[1.0, 0, 0]])
    found = match(a, b)
    np.testing.assert_array_equal(found.pairs, [[0, 0]])
    np.testing.assert_array_equal(found.nearest[0], [0, 0])
    np.testing.assert_allclose(found.nearest_cosine[0], [cosine(a[0], b[0]), cosine(a[1], b[0])])


def test_weights_whose_squares_no_float_holds():
    a = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(match(a * np.float32(1e-38), a * np.float32(1e38)).cosine, 1)


def test_columns_that_differ():
    assert why_unmatched(make_table(np.eye(3)), make_table(np.eye(2, 3))) == ""
    assert "3 columns, B on 4" in why_unmatched(make_table(np.eye(3)), make_table(np.eye(4)))
    image = {"kind": "image", "shape": (2, 3)}
    turned = why_unmatched(make_table(np.eye(6), **image), make_table(np.eye(6), kind="image", shape=(3, 2)))
    assert "images of 2 × 3, B of 3 × 2" in turned
    named = {"kind": "named", "feature_names": ("x", "y")}
    other = {"kind": "named", "feature_names": ("y", "x")}
    assert "different names" in why_unmatched(make_table(np.eye(2), **named), make_table(np.eye(2), **other))
    # An array may hold the same pixels as images.
    assert why_unmatched(make_table(np.eye(6), **image), make_table(np.eye(6))) == ""


def test_too_many_units_are_not_matched():
    class Wide:
        components = np.broadcast_to(np.float32(1), (int(MOST_COSINES**0.5) + 1, 2))
        description = Description("wide")

    assert "too many" in why_unmatched(Wide, Wide)


def test_differences_of_figures():
    nats, bits = {"unit": "nats"}, {"unit": "bits"}
    a = [{"name": "cost", "value": 0.5, **nats}, {"name": "likelihood", "value": -80.0, **nats}]
    a += [{"name": "dead_units", "value": 3, "published": 2, "source": "001", "tolerance": 1, "within": True}]
    b = [{"name": "dead_units", "value": 7}, {"name": "cost", "value": 0.25, **nats}]
    b += [{"name": "likelihood", "value": -99.5, **bits}, {"name": "extra", "value": 1.0}]
    rows = {row["name"]: row for row in metric_rows(a, b)}
    assert list(rows) == ["cost", "likelihood", "dead_units", "extra"]
    assert [rows[name]["difference"] for name in rows] == ["−0.25", "", "+4", ""]
    # A figure that is something else in the other run has no difference either.
    told = [[{"name": "active_mean", "value": 1.0, "explanation": words}] for words in ("sampled on", "above a half")]
    (row,) = metric_rows(*told)
    assert (row["difference"], row["explanation"]) == ("", "A: sampled on; B: above a half")
    assert rows["dead_units"]["published"] == "2 (source 001)"
    assert rows["extra"]["cells"][0] is None
    assert [cell["unit"] for cell in rows["likelihood"]["cells"]] == ["nats", "bits"]


@pytest.mark.parametrize("cls", members(Activation), ids=lambda cls: cls.__name__)
def test_activations_say_whether_signs_matter(cls):
    activation = cls()
    z = activation.points()
    f, mirrored = activation(z), activation(-z)
    odd = torch.equal(f, -mirrored) and torch.equal(activation.active(f), activation.active(mirrored))
    assert activation.either_sign == odd


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(cli, tmp_path, monkeypatch, undrawn):
    """Two runs on the same rows, one on others, and one that was saved from Python."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("rows.npy", rng.random((60, 9)))
    np.save("wide.npy", rng.random((60, 12)))
    quick = ["--device", "cpu", "--quiet", "--set"]
    assert cli("fit", "rows.npy", "--out", "one", *quick, "max_iter=3", "--set", "n_components=5").code == 0
    machine = ["--estimator", "BernoulliRBM", "--seed", 1]
    assert cli("fit", "rows.npy", "--out", "two", *machine, *quick, "n_iter=2", "--set", "n_components=4").code == 0
    assert cli("fit", "wide.npy", "--out", "wide", *quick, "max_iter=2").code == 0
    return tmp_path


def page_data(path):
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())
    return json.loads(data)


def refused(outcome, *words):
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    assert all(word in outcome.err for word in words), outcome.err


def test_the_command_writes_one_page_beside_the_first_run(runs, cli, contents):
    before = contents(runs)
    outcome = cli("report", "one", "two")
    assert (outcome.code, outcome.out, outcome.err) == (0, "compare-one-two.html\n", "")
    after = contents(runs)
    page = after.pop("compare-one-two.html")
    assert after == before
    data = page_data(runs / "compare-one-two.html")
    assert [run["n_units"] for run in data["runs"]] == [5, 4]
    assert [run["link"] for run in data["runs"]] == ["one/report.html", "two/report.html"]
    # Built again it is the same, bit for bit.
    assert cli("report", "one", "two").code == 0
    assert (runs / "compare-one-two.html").read_bytes() == page


def test_the_page_says_what_differs(runs, cli):
    assert cli("report", "one", "two").code == 0
    text = (runs / "compare-one-two.html").read_text()
    differing, equal = text.split("<details>")
    for setting in ("estimator", "seed", "n_components", "max_iter"):
        assert f'<th scope="row">{setting}</th>' in differing
    for setting in ("data fingerprint", "validation_fraction", "version of torch"):
        assert f'<th scope="row">{setting}</th>' in equal
    assert "different units" in text  # half a squared error, and nats


def test_links_follow_the_place_of_the_page(runs, cli):
    (runs / "pages").mkdir()
    shutil.move("two", "a two #1")
    assert cli("report", "one", "a two #1", "--output", "pages/both.html").out == "pages/both.html\n"
    links = [run["link"] for run in page_data(runs / "pages/both.html")["runs"]]
    assert links == ["../one/report.html", "../a%20two%20%231/report.html"]
    (runs / "one/report.html").unlink()
    assert cli("report", "one", "a two #1").code == 0
    assert page_data(runs / "compare-one-a two #1.html")["runs"][0]["link"] is None


def test_runs_on_other_columns_are_shown_without_matching(runs, cli):
    assert cli("report", "one", "wide").code == 0
    text = (runs / "compare-one-wide.html").read_text()
    assert "A was trained on 9 columns, B on 12" in text
    assert page_data(runs / "compare-one-wide.html")["matching"] is None
    assert 'data-runs="0 1"' in text
    assert '<th role="rowheader" scope="row">cost' in text


def test_what_cannot_be_compared_or_written(runs, cli):
    refused(cli("report", "one", "nowhere"), "nowhere is no run")
    (runs / "two/features.safetensors").unlink()
    refused(cli("report", "one", "two"), "two holds no finished run")
    refused(cli("report", "one", "--output", "x.html"), "--output x.html", "two runs")
    refused(cli("report", "one", "wide", "--output", "none/x.html"), "none")
    refused(cli("report", "one", "wide", "--output", "one"), "one is a folder")
    assert not list(runs.glob("*.html"))


def test_what_is_no_such_page_is_never_replaced(runs, cli):
    for path in (runs / "notes.html", runs / "one/report.html"):
        path.touch()
        before = path.read_bytes()
        refused(cli("report", "one", "two", "--output", path), "no page of two runs", "--output")
        assert path.read_bytes() == before
    shutil.copy("one/report.html", "compare-one-two.html")
    refused(cli("report", "one", "two"), "no page of two runs")


def test_preparation_is_spoken_of(runs, cli):
    for name, seed, source in (("white", 0, "rows.npy"), ("white too", 1, "rows.npy"), ("other", 0, "more.npy")):
        np.save("more.npy", np.random.default_rng(5).random((60, 9)))
        words = ["--prepare", "PCAWhitening", "--seed", seed, "--set", "max_iter=2", "--device", "cpu", "--quiet"]
        assert cli("fit", source, "--out", name, *words).code == 0
    for other, sentence in (("white too", None), ("one", "prepared differently"), ("other", "fitted to other data")):
        assert cli("report", "white", other).code == 0
        text = (runs / f"compare-white-{other}.html").read_text()
        for caution in ("prepared differently", "fitted to other data"):
            assert (caution in text) == (caution == sentence)


def test_an_arm_of_a_run(runs, cli):
    """The page stands beside the run, not in it; directories whose names are no text are linked all the same."""
    spec = json.loads((runs / "two/spec.json").read_text())
    (runs / "one/arms").mkdir()
    shutil.copytree("two", "one/arms/b\udcff")
    (runs / "one/arms/b\udcff/spec.json").write_text(json.dumps(spec | {"kind": "arm"}))
    outcome = cli("report", runs / "one/arms/b\udcff", "two")
    assert outcome.code == 0, outcome.err
    (page,) = runs.glob("*.html")
    assert page.name == "compare-one-b\udcff-two.html"
    assert page_data(page)["runs"][0]["link"] == "one/arms/b%FF/report.html"


def test_defaults_are_told_for_what_they_are(runs, cli):
    """What None stands for, and arguments that are as the class has them, are equal or differ as any other."""
    words = ["--set", "max_iter=2", "--device", "cpu", "--quiet", "--set", "penalty=KLDivergence"]
    for name, more in (("bare", words[:-2]), ("spelt", [*words, "--set", "penalty__target=0.05"]), ("own", words)):
        strength = ["--set", "penalty__strength=3.0"] if name == "spelt" else []
        assert cli("fit", "rows.npy", "--out", name, *more, *strength).code == 0
    assert cli("report", "bare", "spelt").code == 0
    differing, equal = (runs / "compare-bare-spelt.html").read_text().split("<details>")[:2]
    assert '<th scope="row">penalty</th>' not in differing
    assert '<th scope="row">penalty</th>' in equal
    assert cli("report", "bare", "own").code == 0
    differing = (runs / "compare-bare-own.html").read_text().split("<details>")[0]
    assert "target=0.05" in differing
    assert "target=0.01" in differing


def test_either_sign_where_both_runs_allow_it(runs, cli):
    linear = ["--set", "activation=ThresholdedLinear", "--set", "max_iter=2", "--device", "cpu", "--quiet"]
    assert activations.ThresholdedLinear.either_sign
    for name in ("linear", "more"):
        assert cli("fit", "rows.npy", "--out", name, *linear).code == 0
    assert cli("report", "linear", "more").code == 0
    assert "taken for one" in (runs / "compare-linear-more.html").read_text()
    assert cli("report", "linear", "one").code == 0
    assert "opposite sign do not match" in (runs / "compare-linear-one.html").read_text()
