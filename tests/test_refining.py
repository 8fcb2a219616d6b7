"""SparseAutoencoder that begins as a fitted machine: where it starts, what is refused, clones, grids and runs."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

import rarefire as rf
from rarefire.activations import ReLU, Sigmoid
from rarefire.errors import InputError
from rarefire.losses import BernoulliCrossEntropy, SquaredError
from rarefire.penalties import L2, NoPenalty

DIGITS = load_digits().data[:300] / 16
GREYS = (DIGITS - DIGITS.mean(axis=0)) / (DIGITS.std(axis=0) + 0.1)


def fitted(cls, rows, **settings):
    return cls(12, n_iter=15, random_state=0, **settings).fit(rows)


@pytest.fixture(scope="module")
def machines():
    """Each kind of machine, fitted, and the rows that it was fitted to."""
    return {
        "unit variance": (fitted(rf.GaussianRBM, GREYS, learning_rate=0.01), GREYS),
        "learnt variance": (fitted(rf.GaussianRBM, GREYS, learning_rate=0.01, learn_variance=True), GREYS),
        "binary": (fitted(rf.BernoulliRBM, DIGITS, learning_rate=0.1), DIGITS),
    }


KINDS = pytest.mark.parametrize("kind", ["unit variance", "learnt variance", "binary"])


@KINDS
@pytest.mark.parametrize("tied", [False, True])
def test_training_begins_at_the_machine(machines, kind, tied):
    rbm, rows = machines[kind]
    if tied and kind == "learnt variance":
        with pytest.raises(InputError, match="divides its weights by a variance on the way up; set tied=False"):
            rf.SparseAutoencoder.from_rbm(rbm, tied=True).fit(rows)
        return
    start = rf.SparseAutoencoder.from_rbm(rbm, tied=tied, max_iter=0).fit(rows)
    codes = rbm.transform(rows)
    assert codes.std() > 0.1
    np.testing.assert_allclose(start.transform(rows), codes, rtol=1e-12)
    np.testing.assert_allclose(start.inverse_transform(codes), rbm.reconstruct(rows), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(start.components_, rbm.components_)
    variance = np.exp(rbm.log_variance_) if kind == "learnt variance" else 1
    np.testing.assert_allclose(start.encoder_weight_, rbm.components_ / variance)
    if kind == "learnt variance":
        assert np.abs(rbm.log_variance_).max() > 0.1


def test_units_sizes_and_loss_are_the_machines_and_there_are_no_penalties(machines):
    greys, binary = (rf.SparseAutoencoder.from_rbm(machines[kind][0]) for kind in ("unit variance", "binary"))
    assert (greys.n_components, greys.parts()["penalty_"], greys.parts()["weight_decay_"]) == (
        12,
        NoPenalty(),
        NoPenalty(),
    )
    assert (binary.parts()["output_"], binary.parts()["loss_"]) == (Sigmoid(), BernoulliCrossEntropy())
    assert greys.parts()["loss_"] == SquaredError()
    assert rf.SparseAutoencoder.from_rbm(machines["binary"][0], weight_decay=L2(0.1)).weight_decay == L2(0.1)


@KINDS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fitting_refines_the_weights_and_leaves_the_machine_alone(machines, kind, dtype):
    rbm, rows = machines[kind]
    before = {name: getattr(rbm, name).copy() for name in rbm.parameter_names}
    rate = {
        "solver": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "batch_size": 50,
        "max_iter": 20,
        "random_state": 0,
    }
    refined = rf.SparseAutoencoder.from_rbm(rbm, **rate).fit(rows.astype(dtype))
    assert refined.components_.dtype == dtype
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(rbm, name), value)

    def cost(reconstructed):
        if kind == "binary":
            return -(rows * np.log(reconstructed) + (1 - rows) * np.log(1 - reconstructed)).sum(axis=1).mean()
        return 0.5 * ((rows - reconstructed) ** 2).sum(axis=1).mean()

    start = cost(rbm.reconstruct(rows))
    end = cost(refined.inverse_transform(refined.transform(rows)))
    assert end < 0.97 * start
    assert refined.history_[0]["objective"] < 1.05 * start  # the first epoch begins there, not at random
    assert end < refined.history_[-1]["cost"] < 1.02 * end  # as the batches passed, before their updates


def test_a_second_fit_begins_at_the_machine_again_and_a_warm_one_where_the_first_ended(machines):
    rbm, rows = machines["unit variance"]
    refined = rf.SparseAutoencoder.from_rbm(rbm, max_iter=3, random_state=0).fit(rows)
    first = refined.components_.copy()
    np.testing.assert_array_equal(refined.fit(rows).components_, first)
    np.testing.assert_array_equal(refined.set_params(warm_start=True, max_iter=0).fit(rows).components_, first)
    np.testing.assert_array_equal(refined.set_params(warm_start=False).fit(rows).components_, rbm.components_)


def test_partial_fit_begins_at_the_machine(machines):
    rbm, rows = machines["unit variance"]
    settings = {"solver": "sgd", "learning_rate": 0.01, "batch_size": None, "random_state": 0}
    step = rf.SparseAutoencoder.from_rbm(rbm, **settings).partial_fit(rows)
    once = rf.SparseAutoencoder.from_rbm(rbm, **settings, max_iter=1).fit(rows)
    np.testing.assert_allclose(step.components_, once.components_, atol=1e-12)
    assert 0 < np.abs(step.components_ - rbm.components_).max() < 0.1


def of_machine(rbm, **changes):
    return rf.SparseAutoencoder.from_rbm(rbm, **changes).fit(GREYS)


def test_what_cannot_be_the_machine_is_refused(machines):
    unfitted = rf.GaussianRBM(12)
    rbm, binary = machines["unit variance"][0], machines["binary"][0]
    for call, words in [
        (lambda: rf.SparseAutoencoder.from_rbm(unfitted), "not fitted; call its fit first"),
        (lambda: rf.SparseAutoencoder(12, init=unfitted).fit(GREYS), "not fitted; call its fit first"),
        (lambda: rf.SparseAutoencoder(12, init=FrozenEstimator(unfitted)).fit(GREYS), "not fitted"),
        (lambda: rf.SparseAutoencoder(12, init="rbm").fit(GREYS), "must be a fitted BernoulliRBM or GaussianRBM"),
        (lambda: rf.SparseAutoencoder.from_rbm(rf.SparseAutoencoder()), "must be a fitted BernoulliRBM"),
        (lambda: of_machine(rbm, n_components=11), "64 columns and 12 units.*ask for 64 and 11"),
        (lambda: rf.SparseAutoencoder.from_rbm(rbm).fit(GREYS[:, :60]), "64 columns and 12 units.*ask for 60 and 12"),
        (lambda: of_machine(rbm, activation=ReLU()), r"GaussianRBM, whose activation is Sigmoid\(\), but .*ReLU"),
        (lambda: of_machine(rbm, output=Sigmoid()), r"whose output is Identity\(\), but output=Sigmoid"),
        (lambda: of_machine(binary, output=None, loss=None), r"BernoulliRBM, whose output is Sigmoid\(\)"),
        (lambda: of_machine(rbm, init_scale=2.0), "leave init_scale and init_output alone"),
        (lambda: of_machine(rbm, init_output="mean"), "leave init_scale and init_output alone"),
    ]:
        with pytest.raises(InputError, match=words):
            call()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_clone_keeps_the_very_machine_and_is_not_fitted(machines, frozen):
    rbm, rows = machines["learnt variance"]
    init = FrozenEstimator(rbm) if frozen else rbm
    refined = rf.SparseAutoencoder(12, init=init, max_iter=2, random_state=0).fit(rows)
    copies = [clone(refined), clone(clone(refined))]
    for copy in copies:
        assert not hasattr(copy, "components_")
        assert copy.init.estimator is rbm
        np.testing.assert_array_equal(copy.fit(rows).components_, refined.components_)
    assert refined.init is init


def test_grid_search_over_the_refinement(machines):
    rbm, rows = machines["unit variance"]
    refined = rf.SparseAutoencoder.from_rbm(rbm, solver="sgd", max_iter=5, random_state=0)
    search = GridSearchCV(refined, {"learning_rate": [1e-9, 0.01]}, cv=2, error_score="raise").fit(rows)
    assert search.best_params_ == {"learning_rate": 0.01}
    # The rate that moves nothing leaves the machine as it was, in every fold.
    halves = [
        -0.5 * ((rows[s] - rbm.reconstruct(rows[s])) ** 2).sum(axis=1).mean() for s in (slice(150), slice(150, 300))
    ]
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(halves), rel=1e-4)
    assert search.best_estimator_.init.estimator is rbm


def test_grid_search_over_machines(machines):
    good, rows = machines["unit variance"]
    poor = rf.GaussianRBM(12, n_iter=0, random_state=0).fit(rows)
    grid = {"init": [FrozenEstimator(poor), FrozenEstimator(good)]}
    search = GridSearchCV(rf.SparseAutoencoder.from_rbm(poor, max_iter=0), grid, cv=2, error_score="raise").fit(rows)
    assert search.best_params_["init"].estimator is good
    assert search.best_score_ > search.cv_results_["mean_test_score"][0] + 0.5


def test_save_and_load(machines, tmp_path):
    """A run holds no machine: what training began with is not needed any more."""
    rbm, rows = machines["learnt variance"]
    refined = rf.SparseAutoencoder.from_rbm(rbm, max_iter=2, random_state=0).fit(rows)
    refined.save(tmp_path / "run")
    again = rf.load(tmp_path / "run")
    np.testing.assert_array_equal(again.transform(rows), refined.transform(rows))
    assert again.init is None
    rest = {name: value for name, value in refined.get_params(deep=False).items() if name != "init"}
    assert {name: value for name, value in again.get_params(deep=False).items() if name != "init"} == rest
    for one in (again, refined):
        one.partial_fit(rows)
    np.testing.assert_array_equal(again.components_, refined.components_)


@pytest.mark.parametrize("updates", [1, 8])
def test_an_interrupted_refinement_goes_on_bit_for_bit_without_the_machine(machines, tmp_path, monkeypatch, updates):
    rbm, rows = machines["learnt variance"]
    settings = {"max_iter": 4, "batch_size": 100, "dropout": 0.2, "random_state": 0}
    whole = rf.SparseAutoencoder.from_rbm(rbm, **settings).fit(rows)
    asked = iter(range(updates))

    @contextlib.contextmanager
    def stopped_after():
        yield lambda: next(asked, None) == updates - 1

    monkeypatch.setattr("rarefire.estimators.base.interruptible", stopped_after)
    with pytest.raises(KeyboardInterrupt, match="go on with"):
        rf.SparseAutoencoder.from_rbm(rbm, **settings, checkpoint_dir=str(tmp_path / "run")).fit(rows)
    resumed = rf.resume(tmp_path / "run", rows)
    for name in whole.parameter_names:
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    assert resumed.history_ == whole.history_


def test_a_run_that_was_stopped_before_its_first_checkpoint_says_what_is_missing(machines, tmp_path, monkeypatch):
    rbm, rows = machines["unit variance"]
    monkeypatch.setattr("rarefire.estimators.base.RunDirectory.write_checkpoint", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rf.SparseAutoencoder.from_rbm(rbm, max_iter=2, checkpoint_dir=str(tmp_path / "run")).fit(rows)
    with pytest.raises(InputError, match="has no checkpoint"):
        rf.resume(tmp_path / "run", rows)


def test_tensors_begin_at_the_machine_too(machines):
    rbm, rows = machines["unit variance"]
    start = rf.SparseAutoencoder.from_rbm(rbm, max_iter=0).fit(torch.from_numpy(rows))
    np.testing.assert_array_equal(start.components_, rbm.components_)
