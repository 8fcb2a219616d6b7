"""Recipes, cut short: what they measure, and the rules that their figures rest on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rarefire as rf
from rarefire import recipes
from rarefire.artifact import RunDirectory
from rarefire.data.synthetic import all_line_images
from rarefire.errors import InputError
from rarefire.metrics import median
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.random import Generator
from rarefire.recipes.lines import exact_costs, repeated, single_lines
from rarefire.recipes.lines_units import explained
from rarefire.runs import Watch
from rarefire.units import Bernoulli


def short(name, directory, *pairs):
    spec = recipes.recipe_spec(name, "faithful", None, list(pairs), 0, "cpu")
    place = RunDirectory(directory)
    place.create(spec)
    recipes.go_on(place, spec, Watch())
    return place


@pytest.mark.slow
def test_lines_cut_short(tmp_path):
    place = short("lines", tmp_path / "run", ("repeats", 2), ("n_iter", 4), ("n_samples", 200))
    entries = {entry["name"]: entry for entry in place.metrics()}
    assert entries["cost"]["published"] == 0.004
    assert entries["cv_cost"]["published"] == 0.005
    # Untrained machines are nowhere near it, and the verdict says so.
    assert entries["cost"]["within"] is False
    assert entries["entropy"]["value"] == pytest.approx(3.156, abs=5e-4)
    assert "median of 2 fits" in entries["cost"]["explanation"]
    assert place.complete
    assert place.arm("seed-1").complete
    assert place.page.is_file()
    assert {name for name, _ in place.figures()} >= {"examples", "codes", "seeds", "flips", "features", "cost"}
    assert rf.load(place.path).n_iter == 4
    assert rf.load(place.path / "arms" / "seed-1").random_state == 1


def test_lines_units_cut_short(tmp_path):
    pairs = (("repeats", 1), ("n_iter", 3), ("n_samples", 100), ("units", [4, 6, 9]))
    place = short("lines-units", tmp_path / "run", *pairs)
    names = [entry["name"] for entry in place.metrics()]
    assert {"cost_4", "cost_6", "cv_cost_9", "active_mean_9", "r2_cost_log", "r2_ln_cost_log_log"} <= set(names)
    assert rf.load(place.path).n_components == 9


def test_settings_go_to_the_recipe_or_to_the_estimator():
    spec = recipes.recipe_spec("lines", "faithful", None, [("repeats", 1), ("positive_hidden", "sample")], 3, "cpu")
    assert spec["recipe"]["settings"]["arguments"]["repeats"] == 1
    assert spec["estimator"]["arguments"]["positive_hidden"] == "sample"
    assert spec["estimator"]["arguments"]["random_state"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("line", "faithful", None, []), "did you mean 'lines'"),
        (("lines", "quick", None, []), "has no preset 'quick'"),
        (("lines", "faithful", "digits", []), "takes no --source"),
        (("lines", "faithful", None, [("n_itr", 3)]), "did you mean 'n_iter'"),
    ],
)
def test_what_a_recipe_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        recipes.recipe_spec(*arguments, 0, "cpu")


def test_the_inner_split_never_sees_the_held_out_rows():
    outer, inner = (recipes.lines.Lines(repeats=1, seed=5, inner=flag).arms()[0] for flag in (False, True))
    split = outer.estimator.split(3000, 5)
    np.testing.assert_array_equal(inner.source.rows(slice(None)), outer.source.rows(split.train))


def test_faithful_protocol_is_the_sources():
    machine = recipes.lines.machine_of_source("faithful", 67, 0)
    rate, momentum = machine.learning_rate, machine.momentum
    assert [rate.at(epoch / 2000) for epoch in (0, 999, 1000, 1999)] == [1, 1, 3, 3]
    assert [momentum.at(epoch / 2000) for epoch in (0, 999, 1000, 1999)] == [0.5, 0.5, 0.9, 0.9]
    assert machine.weight_decay.strength == 0.001
    assert (machine.n_iter, machine.batch_size, machine.validation_fraction) == (2000, None, 0.1)


def test_exact_cost_of_a_machine_whose_pixels_are_independent():
    """Without weights the cost is the cross-entropy of fixed pixel probabilities, whatever the hidden units do."""
    bias = torch.linspace(-2, 0, 81, dtype=torch.float64)
    zeros = torch.zeros(3, 81, dtype=torch.float64)
    machine = BoltzmannMachine(zeros, zeros[:, 0], bias, Bernoulli(), Bernoulli())
    images, weights = all_line_images()
    on, p = weights @ images, torch.sigmoid(bias).numpy()
    expected = -(on * np.log(p) + (1 - on) * np.log(1 - p)).mean()
    sampled, mean_field = exact_costs(machine, Generator(0, "test"), draws=2)
    assert sampled == pytest.approx(expected)
    assert mean_field == pytest.approx(expected)
    _, flips = repeated(machine, torch.from_numpy(images[:500]).double(), Generator(0, "test"), draws=50)
    v = images[:500]
    assert flips.mean() == pytest.approx((v * (1 - p) + (1 - v) * p).mean(), abs=1e-3)


def test_a_single_line_is_more_than_half_of_the_squared_weight():
    filters = np.zeros((4, 81))
    filters[0, :9] = 1
    filters[1].reshape(9, 9)[:, 3] = -2
    filters[2, :9] = 1
    filters[2, 18:27] = 1.01
    filters[3] = 1
    np.testing.assert_array_equal(single_lines(filters), [True, True, True, False])
    filters[2, 36:45] = 1
    assert not single_lines(filters)[2]


def test_median_and_explained_variance():
    entries = [{"name": "x", "value": v, "unit": "u", "explanation": "e"} for v in (3.0, 1.0, 2.0)]
    assert median(entries)["value"] == 2.0
    assert median(entries[:1])["value"] == 3.0
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert explained(x, 3 - 2 * x) == pytest.approx(1.0)
    y = np.array([0.0, 1.0, 0.0, 1.0])
    assert explained(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
