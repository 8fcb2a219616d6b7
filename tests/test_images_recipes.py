"""Recipes on standardised pictures, cut short: what they measure, and the arms that start from others."""

from __future__ import annotations

import numpy as np
import pytest

import rarefire as rf
from rarefire import recipes
from rarefire.artifact import RunDirectory
from rarefire.errors import InputError
from rarefire.recipes.decay import Decay
from rarefire.recipes.edges import Edges
from rarefire.recipes.sparsity import Sparsity, kinds
from rarefire.runs import Watch
from rarefire.settings import parse_pairs


def short(name, directory, *pairs, source=None):
    spec = recipes.recipe_spec(name, "faithful", source, parse_pairs(pairs), 0, "cpu")
    place = RunDirectory(directory)
    place.create(spec)
    recipes.go_on(place, spec, Watch())
    return place, {entry["name"]: entry for entry in place.metrics()}


def test_decay_cut_short(tmp_path):
    place, entries = short("decay", tmp_path / "run", "n_images=300", "repeats=1", "iterations=30", "refinements=30")
    assert entries["kurtosis_l1"]["expected"] == "more than without decay: spots"
    assert {"r2_none", "r2_l2_refined", "near_zero_l1_refined"} <= set(entries)
    machine, refined = rf.load(place.arm("none-0").path), rf.load(place.arm("none-0-refined").path)
    assert refined.encoder_weight_.shape == machine.components_.shape
    # Ten passes at a small rate leave a refined machine where it began, near enough to be told from a random start.
    assert np.corrcoef(refined.components_.ravel(), machine.components_.ravel())[0, 1] > 0.9
    assert not np.array_equal(refined.components_, machine.components_)
    assert entries["r2_none_refined"]["value"] > entries["r2_none"]["value"]
    names = {name for name, _ in place.figures()}
    assert {"none", "l1", "l2", "l1-refined", "reconstructions-refined"} <= names


@pytest.mark.parametrize(
    ("how", "axis"), [("pixel", 0), ("image", 1), ("global", None)], ids=["pixel", "image", "global"]
)
def test_three_readings_of_standardised(how, axis):
    rows = Decay(standardise=how, n_images=400, side=6).images(0).rows(slice(None)).astype(np.float64)
    assert rows.shape == (400, 36)
    np.testing.assert_allclose(rows.mean(axis=axis), 0, atol=1e-5)
    deviation = rows.std(axis=axis)
    flat = deviation < 0.5  # pictures that are the same everywhere
    assert np.mean(flat) < 0.2
    np.testing.assert_allclose(np.where(flat, 1, deviation), 1, rtol=1e-4)
    other = Decay(standardise=how, n_images=400, side=6).images(1).rows(slice(None))
    assert not np.array_equal(rows, other)


def test_iterations_are_updates_or_passes():
    recipe = Decay()
    assert recipe.epochs(recipe.iterations) * recipe.n_images / 100 == 1000
    assert recipe.epochs(recipe.refinements) * recipe.n_images / 100 == 500
    assert Decay(unit="epochs").epochs(1000) == 1000


def test_resized_makes_one_picture_of_each(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    means = []
    for index in range(120):
        picture = rng.integers(0, 256, (16, 24), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{index:03}.png")
        # The middle square of 16×16, made 4×4 by means of 4×4 pixels.
        means.append(picture[:, 4:20].reshape(4, 4, 4, 4).mean(axis=(1, 3)).ravel() / 255)
    recipe = Decay(source=str(tmp_path), from_="resized", n_images=120, side=4, standardise="global")
    rows = recipe.images(0).rows(slice(None))
    expected = np.stack(means)
    np.testing.assert_allclose(rows, (expected - expected.mean()) / expected.std(), atol=1e-4)
    with pytest.raises(InputError, match="there are 120 of the 121"):
        Decay(source=str(tmp_path), from_="resized", n_images=121, side=4).images(0)
    with pytest.raises(InputError, match="from=patches"):
        short("decay", tmp_path / "run", "from=resized")


def test_sparsity_cut_short(tmp_path):
    place, entries = short("sparsity", tmp_path / "run", "n_images=200", "repeats=1", "iterations=10", "refinements=4")
    assert len(kinds(100)) == len({kind.name for kind in kinds(100)})
    for kind in kinds(100)[1:]:
        assert {f"small_{kind.name}", f"activity_{kind.name}", f"roughness_{kind.name}"} <= set(entries)
    assert entries["useful_units_400"]["value"] <= 400
    assert entries["small"]["expected"] == "a large portion"
    assert rf.load(place.arm("units_200-0").path).n_components == 200
    prepared = rf.load(place.arm("cure-0").path)
    assert [type(step).__name__ for _, step in prepared.steps[:-1]] == ["RemoveMean", "ZCAWhitening", "Standardise"]


def test_sparsity_is_told_of_units_of_no_use():
    recipe, name = Sparsity(n_images=200, repeats=1), "own"
    estimator = rf.GaussianRBM(n_components=4, n_iter=0, random_state=0).fit(recipe.images(0).rows(slice(None)))
    large, small = np.full(64, 1.0), np.full(64, 0.09)
    estimator.components_ = np.stack([large, small, -large, large]).astype(np.float32)
    estimator.intercept_hidden_ = np.array([0, 0, 0, -1e6], dtype=np.float32)
    from rarefire.runs import Trained

    found = recipe.looked_at(Trained(estimator, [], recipe.images(0), None, name))
    # One filter is small; another is large, but its unit never fires.
    assert found["useful"]["value"] == 3
    assert found["small"]["value"] == 0.25
    assert found["dead"]["value"] == 2
    assert found["norm"]["value"] == pytest.approx(np.sqrt((3 * 64 + 64 * 0.09**2) / 4), rel=1e-5)


def test_edges_cut_short(tmp_path):
    place, entries = short("edges", tmp_path / "run", "n_patches=6000", "repeats=1", "updates=120", "n_components=16")
    assert entries["edges"]["expected"] == "0.90 or more"
    assert {"edges_patches_5000", "edges_updates_60", "edges_updates_30", "edges_plain", "edges_penalised"} <= set(
        entries
    )
    # As many updates on fewer patches, fewer on as many.
    assert rf.load(place.arm("patches_5000-0").path).steps[-1][1].n_iter == 2
    assert rf.load(place.path).steps[-1][1].n_iter == 2
    assert len(rf.load(place.arm("plain-0").path).steps) == 3
    assert {"distinct", "filters-plain", "patches"} <= {name for name, _ in place.figures()}


def test_edges_updates_are_equal_whatever_the_number_of_patches():
    recipe = Edges()
    for setting in recipe.settings():
        machine = recipe._machine(setting, 0)
        assert machine.n_iter * setting.n_patches / machine.batch_size == pytest.approx(setting.updates, rel=0.01)


def test_settings_go_to_the_machines_and_what_only_refinements_have_to_them():
    spec = recipes.recipe_spec("decay", "faithful", None, parse_pairs(["repeats=1", "n_images=100"]), 0, "cpu")
    assert spec["estimator"]["class"].endswith("SparseAutoencoder")
    pairs = parse_pairs(["repeats=1", "n_images=100", "learning_rate=0.02", "max_iter=3"])
    recipe = Decay(repeats=1, n_images=100)
    arms = recipes._configured(recipe, pairs[2:], "cpu")
    machines, refined = [arm for arm in arms if arm.init is None], [arm for arm in arms if arm.init]
    assert {arm.estimator.learning_rate for arm in machines} == {0.02}
    assert {arm.estimator.learning_rate for arm in refined} == {0.01}
    assert {arm.estimator.max_iter for arm in refined} == {3}
    with pytest.raises(InputError, match="no_such"):
        recipes._configured(recipe, [("no_such", 1)], "cpu")
