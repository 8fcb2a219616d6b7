"""The recipe of the likelihood, cut short, on scikit-learn's digits in place of MNIST."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rarefire as rf
from rarefire import recipes
from rarefire.artifact import RunDirectory
from rarefire.data.datasets import Digits
from rarefire.data.source import ArraySource, Description
from rarefire.metrics.likelihood import log_partition
from rarefire.recipes.likelihood import Likelihood, binary_free_energy, machine_of_protocol
from rarefire.runs import Watch


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pairs = [("n_components", 12), ("n_epochs", 2), ("n_temperatures", 600), ("n_runs", 40), ("n_sweeps", 40)]
    spec = recipes.recipe_spec("likelihood", "faithful", "digits", pairs, 0, "cpu")
    place = RunDirectory(tmp_path_factory.mktemp("likelihood") / "run")
    place.create(spec)
    recipes.go_on(place, spec, Watch())
    return place


def test_both_estimates_are_the_exact_likelihood_of_a_small_machine(run):
    entries = {entry["name"]: entry["value"] for entry in run.metrics()}
    estimator = rf.load(run.path)
    machine = estimator.fitted_model()
    test = Digits().open().subset(estimator.split(1797, 0).held_out)
    energies = [binary_free_energy(machine, test, seed) for seed in (0, 1, 2)]
    exact = -np.median(energies) - log_partition(machine)
    for name, error in (
        ("test_log_likelihood", "standard_error"),
        ("test_log_likelihood_reverse", "standard_error_reverse"),
    ):
        assert entries[name] == pytest.approx(exact, abs=4 * entries[error])
    assert entries["likelihood_gap"] == entries["test_log_likelihood"] - entries["test_log_likelihood_reverse"]
    assert entries["log_likelihood_600"] == entries["test_log_likelihood"]
    assert {"log_likelihood_2", "log_likelihood_reverse_38", "train_log_likelihood", "cost"} <= set(entries)


def test_page_and_pictures(run):
    assert run.complete
    assert {name for name, _ in run.figures()} >= {"temperatures", "samples", "features"}
    gap = next(entry for entry in run.metrics() if entry["name"] == "likelihood_gap")
    assert gap["expected"] == "at most 0.5 either way"
    assert gap["within"] is (abs(gap["value"]) < 0.5)
    assert "11.75" in gap["explanation"]
    # The published figure is of MNIST and 500 units only.
    assert not any("published" in entry for entry in run.metrics())


def test_numbers_of_temperatures_end_at_the_recipes_own():
    assert Likelihood(n_temperatures=15000).counts == [59, 234, 938, 3750, 15000]
    assert Likelihood(n_temperatures=3).counts == [2, 3]


def test_free_energy_of_drawn_rows():
    machine = machine_of_protocol(3, 0, 0).set_params(device="cpu").fit(np.eye(4)).fitted_model()
    binary = ArraySource(np.eye(4), Description("array"))
    expected = machine.free_energy(torch.eye(4, dtype=torch.float64)).mean()
    assert binary_free_energy(machine, binary, 0) == pytest.approx(float(expected))
    machine.visible_bias[:] = torch.tensor([1.0, -2.0, 3.0, 0.5])
    machine.weight[:] = 0
    # Of values of a quarter the mean free energy is −¼ Σ a − 3 ln 2.
    grey = ArraySource(np.full((20000, 4), 0.25), Description("array"))
    assert binary_free_energy(machine, grey, 0) == pytest.approx(-2.5 / 4 - 3 * np.log(2), abs=0.05)
    assert binary_free_energy(machine, grey, 0) != binary_free_energy(machine, grey, 1)
