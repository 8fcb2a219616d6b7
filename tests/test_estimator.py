"""BernoulliRBM: what it adds to scikit-learn's, and what training reaches, against enumeration."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import BernoulliRBM as Theirs
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import MinMaxScaler

import rarefire as rf
from enumeration import log_likelihood
from rarefire.errors import InputError, RunError
from rarefire.objectives.contrastive import ContrastiveDivergence
from rarefire.penalties import L2, KLDivergence, MeanActivity
from rarefire.schedules import Linear, Switch

DIGITS = load_digits().data / 16


P = np.array([0.5, 0.3, 0.2, 0.6])


def bars(n=1000, seed=0, noise=0.0):
    """Rows of 4×2 pixels: each column of pixels is all on or all off, then pixels flip with probability ``noise``."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.random((n, 4)) < P, 2, axis=1)
    return (rows ^ (rng.random(rows.shape) < noise)).astype(float)


def bars_entropy(noise):
    """Entropy of a row in nats: columns are independent, and a pair of pixels has four states."""
    off, on = np.array([1 - noise, noise]), np.array([noise, 1 - noise])
    pairs = [(1 - p) * np.outer(off, off) + p * np.outer(on, on) for p in P]
    return -sum((pair * np.log(pair)).sum() for pair in pairs)


def exact(rbm, rows):
    """Mean log-likelihood of rows under a fitted machine, summed over every state."""
    return log_likelihood(rbm.fitted_model(torch.float64), rows)


# What training reaches ------------------------------------------------------------------------------------------


def test_training_approaches_the_entropy_of_the_data():
    rbm = rf.BernoulliRBM(8, learning_rate=Linear(0.2, 0.0, 0.5), batch_size=50, n_iter=200, random_state=0)
    rbm.fit(bars(5000, noise=0.1))
    fresh = bars(20_000, seed=1, noise=0.1)
    assert bars_entropy(0.1) - 0.02 < -exact(rbm, fresh) < bars_entropy(0.1) + 0.05


@pytest.mark.parametrize("seed", [0, 1])
def test_a_short_last_batch_does_no_harm(seed):
    """With 1001 rows in batches of 100 scikit-learn divides its chains by the wrong number, and ruins the model."""
    arguments = {"n_components": 8, "learning_rate": 0.1, "batch_size": 100, "n_iter": 150, "random_state": seed}
    even, odd = bars(1000), bars(1001)
    ours = [exact(rf.BernoulliRBM(**arguments).fit(rows), even) for rows in (even, odd)]
    assert abs(ours[0] - ours[1]) < 0.25
    theirs = rf.BernoulliRBM(**arguments).fit(even)
    scikit_learns = Theirs(**arguments).fit(odd)
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        setattr(theirs, name, getattr(scikit_learns, name))
    assert exact(theirs, even) < ours[1] - 1


def test_weight_decay_shrinks_weights_and_not_biases():
    rows = bars()
    plain, decayed = (
        rf.BernoulliRBM(8, n_iter=50, random_state=0, weight_decay=decay).fit(rows) for decay in (None, L2(0.05))
    )
    assert np.linalg.norm(decayed.components_) < 0.6 * np.linalg.norm(plain.components_)
    # Two pixels of a column agree, whose log-odds decay leaves to the biases.
    assert np.abs(decayed.intercept_visible_).max() > 0.2


@pytest.mark.slow
def test_a_penalty_moves_activity_to_its_target():
    arguments = {"n_components": 30, "n_iter": 30, "random_state": 0, "persistent": False}
    free = rf.BernoulliRBM(**arguments).fit(DIGITS)
    held = rf.BernoulliRBM(**arguments, penalty=MeanActivity(target=0.05, strength=5.0)).fit(DIGITS)
    kl = rf.BernoulliRBM(**arguments, penalty=KLDivergence(target=0.05, strength=1.0)).fit(DIGITS)
    activity = [rbm.transform(DIGITS).mean() for rbm in (free, held, kl)]
    assert activity[0] > 0.2
    assert abs(activity[1] - 0.05) < 0.03
    assert abs(activity[2] - 0.05) < 0.03


def test_weight_decay_is_scaled_by_the_learning_rate():
    """One full-batch update from equal states differs by −η λ W alone."""
    rows = DIGITS[:50]
    common = {"n_components": 4, "learning_rate": 0.3, "random_state": 1, "init_scale": 0.5}
    start = rf.BernoulliRBM(**common, n_iter=0).fit(rows).components_
    plain, decayed = (
        rf.BernoulliRBM(**common, n_iter=1, batch_size=None, weight_decay=d).fit(rows) for d in (None, L2(0.7))
    )
    np.testing.assert_allclose(decayed.components_ - plain.components_, -0.3 * 0.7 * start, atol=1e-12)
    np.testing.assert_allclose(decayed.intercept_hidden_, plain.intercept_hidden_)


def test_averaging_gives_the_average_over_epochs():
    rows, common = DIGITS[:100], {"n_components": 5, "random_state": 0, "batch_size": None}
    steps = [rf.BernoulliRBM(**common, n_iter=n).fit(rows).components_ for n in (1, 2, 3)]
    averaged = rf.BernoulliRBM(**common, n_iter=3, averaging=0.8).fit(rows)
    expected = 0.64 * steps[0] + 0.16 * steps[1] + 0.2 * steps[2]
    np.testing.assert_allclose(averaged.components_, expected)


# Scikit-learn's ways --------------------------------------------------------------------------------------------


def test_same_constructor_arguments_and_defaults_as_scikit_learns():
    theirs, ours = Theirs().get_params(), rf.BernoulliRBM().get_params()
    assert {name: ours[name] for name in theirs} == theirs


def test_code_written_for_scikit_learns_runs():
    for cls in (Theirs, rf.BernoulliRBM):
        rbm = cls(12, learning_rate=0.05, batch_size=20, n_iter=2, verbose=0, random_state=0).fit(DIGITS)
        assert rbm.components_.shape == (12, 64)
        assert rbm.intercept_hidden_.shape == (12,)
        assert rbm.intercept_visible_.shape == (64,)
        assert rbm.h_samples_.shape == (20, 12)
        assert rbm.gibbs(DIGITS).shape == DIGITS.shape
        assert rbm.gibbs(DIGITS).dtype == bool
        assert rbm.score_samples(DIGITS).shape == (1797,)
        if cls is rf.BernoulliRBM:
            assert rbm.partial_fit(DIGITS[:10]) is rbm


def test_same_free_energy_and_transform_as_scikit_learns():
    theirs = Theirs(10, n_iter=3, random_state=0).fit(DIGITS)
    ours = rf.BernoulliRBM(10, n_iter=1, random_state=0).fit(DIGITS)
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        setattr(ours, name, getattr(theirs, name))
    np.testing.assert_allclose(ours.transform(DIGITS), theirs.transform(DIGITS))
    np.testing.assert_allclose(ours.free_energy(DIGITS), theirs._free_energy(DIGITS))
    # Their pseudo-likelihood takes one random pixel of each row: ours is its mean over draws.
    draws = [theirs.set_params(random_state=seed).score_samples(DIGITS).mean() for seed in range(40)]
    assert abs(ours.score(DIGITS) - np.mean(draws)) < 4.5 * np.std(draws) / np.sqrt(40)


def test_grid_search_needs_no_scorer():
    search = GridSearchCV(rf.BernoulliRBM(8, n_iter=3, random_state=0), {"learning_rate": [1e-4, 0.1]}, cv=2)
    assert search.fit(DIGITS).best_params_ == {"learning_rate": 0.1}
    nested = rf.BernoulliRBM(4, n_iter=1, penalty=MeanActivity())
    GridSearchCV(nested, {"penalty__strength": [0.1, 1.0]}, cv=2).fit(DIGITS[:100])
    assert nested.penalty == MeanActivity()


def test_pipelines_unions_and_frames():
    target = load_digits().target
    steps = [("scale", MinMaxScaler()), ("rbm", rf.BernoulliRBM(20, n_iter=5, random_state=0))]
    pipeline = Pipeline([*steps, ("classify", LogisticRegression(max_iter=200))]).fit(DIGITS, target)
    assert pipeline.score(DIGITS, target) > 0.6
    union = FeatureUnion([("a", rf.BernoulliRBM(3, n_iter=1)), ("b", rf.BernoulliRBM(4, n_iter=1))])
    assert union.fit_transform(DIGITS).shape == (1797, 7)
    frame = pd.DataFrame(DIGITS[:50, :3], columns=["x", "y", "z"])
    rbm = rf.BernoulliRBM(2, n_iter=1, random_state=0).set_output(transform="pandas").fit(frame)
    assert list(rbm.transform(frame).columns) == ["bernoullirbm0", "bernoullirbm1"]
    assert list(rbm.feature_names_in_) == ["x", "y", "z"]


def test_fit_changes_no_argument_and_clone_is_equal():
    rbm = rf.BernoulliRBM(3, n_iter=1, learning_rate=Switch(0.1, 0.2), weight_decay=L2(0.1), random_state=0)
    before = repr(rbm.get_params())
    rbm.fit(DIGITS[:30])
    assert repr(rbm.get_params()) == before
    assert repr(clone(rbm).get_params()) == before


# Reproducibility and going on -----------------------------------------------------------------------------------


def test_same_seed_same_bits_and_another_seed_others():
    fits = [rf.BernoulliRBM(5, n_iter=3, random_state=seed).fit(DIGITS[:200]) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(fits[0].components_, fits[1].components_)
    assert not np.array_equal(fits[0].components_, fits[2].components_)


def test_partial_fit_goes_on_after_saving(tmp_path):
    one = rf.BernoulliRBM(5, momentum=0.5, random_state=0)
    for chunk in np.array_split(DIGITS[:60], 3):
        one.partial_fit(chunk)
    one.save(tmp_path / "run")
    other = rf.load(tmp_path / "run")
    for rbm in (one, other):
        rbm.partial_fit(DIGITS[60:80])
    np.testing.assert_array_equal(one.components_, other.components_)
    np.testing.assert_array_equal(one.h_samples_, other.h_samples_)


def test_partial_fit_is_one_update_whatever_the_number_of_chains():
    """With the visibles' means the negative phase of chains that start at zero does not depend on their number."""
    fits = [
        rf.BernoulliRBM(5, chain_visible="mean", n_chains=n, random_state=0).partial_fit(DIGITS[:37])
        for n in (1, 10, 200)
    ]
    for rbm, n in zip(fits, (1, 10, 200), strict=True):
        np.testing.assert_allclose(rbm.components_, fits[0].components_, atol=1e-12)
        assert rbm.h_samples_.shape == (n, 5)


def test_warm_start_goes_on_from_the_weights():
    rbm = rf.BernoulliRBM(5, n_iter=0, warm_start=True, random_state=0).fit(DIGITS[:50])
    rbm.components_ = np.full((5, 64), 0.25)
    np.testing.assert_array_equal(rbm.fit(DIGITS[:50]).components_, 0.25)
    assert np.abs(rbm.set_params(warm_start=False).fit(DIGITS[:50]).components_).max() < 0.1


def test_a_second_fit_does_not_remember_the_first():
    fresh = rf.BernoulliRBM(5, n_iter=2, random_state=0).fit(DIGITS[:50])
    used = rf.BernoulliRBM(5, n_iter=2, random_state=0).fit(DIGITS[100:200]).fit(DIGITS[:50])
    np.testing.assert_array_equal(fresh.components_, used.components_)


def test_partial_fit_refuses_what_speaks_of_a_whole_fit():
    with pytest.raises(InputError, match="no last epoch"):
        rf.BernoulliRBM(2, learning_rate=Switch()).partial_fit(DIGITS[:5])
    with pytest.raises(InputError, match=r"averaging=0\.9 has no meaning"):
        rf.BernoulliRBM(2, averaging=0.9).partial_fit(DIGITS[:5])


def test_save_and_load(tmp_path):
    rbm = rf.BernoulliRBM(5, n_iter=2, random_state=0, validation_fraction=0.2, penalty=MeanActivity(0.1)).fit(DIGITS)
    rbm.save(tmp_path / "run")
    other = rf.load(tmp_path / "run")
    assert other.get_params() == rbm.get_params()
    assert other.history_ == rbm.history_
    for name in ("components_", "intercept_hidden_", "intercept_visible_", "h_samples_", "validation_indices_"):
        np.testing.assert_array_equal(getattr(other, name), getattr(rbm, name))
    np.testing.assert_array_equal(other.transform(DIGITS), rbm.transform(DIGITS))
    with pytest.raises(InputError, match="holds a finished run"):
        rbm.save(tmp_path / "run")


# Held-out rows --------------------------------------------------------------------------------------------------


def test_held_out_rows_are_not_trained_on():
    rows = DIGITS[:100].copy()
    rbm = rf.BernoulliRBM(4, n_iter=3, random_state=0, validation_fraction=0.2).fit(rows)
    held_out = rbm.validation_indices_
    assert len(held_out) == 20
    rows[held_out] = 1.0
    again = rf.BernoulliRBM(4, n_iter=3, random_state=0, validation_fraction=0.2).fit(rows)
    np.testing.assert_array_equal(rbm.components_, again.components_)
    assert rbm.history_[-1]["validation_cost"] != again.history_[-1]["validation_cost"]


def test_early_stopping_keeps_the_best_parameters():
    rbm = rf.BernoulliRBM(
        10, learning_rate=0.5, n_iter=200, random_state=0, early_stopping=True, n_iter_no_change=5, tol=1e-3
    ).fit(DIGITS[:300])
    costs = [record["validation_cost"] for record in rbm.history_]
    assert rbm.n_iter_ == len(costs) < 200
    # The last improvement by more than tol lies five epochs back.
    best, at = np.inf, 0
    for epoch, cost in enumerate(costs, start=1):
        if cost < best - 1e-3:
            best, at = cost, epoch
    assert rbm.n_iter_ == at + 5
    shorter = rf.BernoulliRBM(10, learning_rate=0.5, n_iter=at, random_state=0, validation_fraction=0.1).fit(
        DIGITS[:300]
    )
    np.testing.assert_array_equal(rbm.components_, shorter.components_)


def test_history_has_costs_and_the_free_energy_gap():
    rbm = rf.BernoulliRBM(8, n_iter=2, random_state=0, validation_fraction=0.5).fit(DIGITS[:600])
    record = rbm.history_[-1]
    train = DIGITS[np.setdiff1d(np.arange(600), rbm.validation_indices_)]
    v = DIGITS[rbm.validation_indices_]
    p = rbm.reconstruct(v)
    expected = -(v * np.log(p) + (1 - v) * np.log(1 - p)).mean()
    assert record["validation_cost_mean_field"] == pytest.approx(expected)
    gap = rbm.free_energy(v).mean() - rbm.free_energy(train).mean()
    assert record["free_energy_gap"] == pytest.approx(gap)
    sampled = [rbm.reconstruct(v, hidden="sample") for _ in range(20)]
    costs = [-(v * np.log(p) + (1 - v) * np.log(1 - p)).mean() for p in sampled]
    assert abs(record["validation_cost"] - np.mean(costs)) < 5 * np.std(costs)


@pytest.mark.parametrize("persistent", [True, False])
def test_the_cost_of_an_epoch_is_that_of_its_batches_before_their_updates(persistent):
    arguments = {"learning_rate": 0.5, "persistent": persistent, "batch_size": None, "random_state": 0}
    before = rf.BernoulliRBM(8, n_iter=3, **arguments).fit(DIGITS)
    after = rf.BernoulliRBM(8, n_iter=4, **arguments).fit(DIGITS)
    sampled = [before.reconstruct(DIGITS, hidden="sample") for _ in range(20)]
    costs = [-(DIGITS * np.log(p) + (1 - DIGITS) * np.log(1 - p)).mean() for p in sampled]
    assert abs(after.history_[-1]["cost"] - np.mean(costs)) < 5 * np.std(costs)


def test_the_cost_of_long_epochs_is_that_of_some_batches():
    """Of a machine that stands still, whose cost on about 500 rows is near that on all, and is not the same."""
    rows = np.tile(DIGITS, (4, 1))
    machine = rf.BernoulliRBM(8, n_iter=2, learning_rate=1e-9, init_scale=0.5, random_state=0, batch_size=50)
    costs = [record["cost"] for record in machine.fit(rows).history_]
    p = machine.reconstruct(rows)
    mean_field = -(rows * np.log(p) + (1 - rows) * np.log(1 - p)).mean()
    assert costs == pytest.approx([mean_field] * 2, rel=0.1)
    assert costs[0] != costs[1]


@pytest.mark.parametrize(
    ("batch_size", "watched"), [(50, list(range(2, 40, 4))), (300, [2, 6]), (1000, [1]), (2000, [0])]
)
def test_batches_whose_cost_is_asked_for_are_spread_over_the_epoch(monkeypatch, batch_size, watched):
    asked, evaluate = [], ContrastiveDivergence.evaluate

    def evaluated(self, model, batch, state, generator):
        asked.append(batch.watched)
        return evaluate(self, model, batch, state, generator)

    monkeypatch.setattr(ContrastiveDivergence, "evaluate", evaluated)
    rf.BernoulliRBM(4, n_iter=1, batch_size=batch_size, random_state=0).fit(np.tile(DIGITS, (2, 1))[:2000])
    assert len(asked) == -(-2000 // batch_size)
    assert np.flatnonzero(asked).tolist() == watched


def test_what_is_measured_every_so_often_is_as_without():
    arguments = {"n_iter": 5, "random_state": 0, "validation_fraction": 0.3}
    every, some = (rf.BernoulliRBM(8, eval_every=n, **arguments).fit(DIGITS) for n in (1, 2))
    np.testing.assert_array_equal(every.components_, some.components_)
    for whole, part in zip(every.history_, some.history_, strict=True):
        names = set(whole) if part["epoch"] in (2, 4, 5) else {"epoch", "cost", "learning_rate", "momentum"}
        assert part == {name: value for name, value in whole.items() if name in names}
    assert {"validation_cost", "active_mean", "free_energy_gap"} <= set(some.history_[1])


def test_early_stopping_counts_what_was_measured():
    arguments = {"early_stopping": True, "n_iter_no_change": 2, "tol": 1e9, "n_iter": 50, "random_state": 0}
    rbm = rf.BernoulliRBM(8, eval_every=3, **arguments).fit(DIGITS)
    assert rbm.n_iter_ == 9  # the first is the best
    assert rbm.stop_reason_ == "validation_cost has not improved for 6 epochs"


def test_every_epoch_has_its_line_whatever_was_measured(capsys):
    rf.BernoulliRBM(4, n_iter=4, eval_every=2, verbose=1, random_state=0).fit(DIGITS[:50])
    lines = capsys.readouterr().out.splitlines()
    assert [("pseudo-likelihood" in line, "cost" in line) for line in lines] == [(False, True), (True, False)] * 2


# Kinds of data --------------------------------------------------------------------------------------------------


def test_sparse_and_dense_rows_give_the_same_machine():
    rows = (DIGITS[:200] > 0.5).astype(float)
    dense = rf.BernoulliRBM(4, n_iter=2, random_state=0).fit(rows)
    for container in (sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix):
        other = rf.BernoulliRBM(4, n_iter=2, random_state=0).fit(container(rows))
        np.testing.assert_array_equal(dense.components_, other.components_)
        np.testing.assert_allclose(dense.transform(rows), other.transform(container(rows)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_tensors_are_answered_in_kind(dtype):
    rows = torch.from_numpy(DIGITS[:50]).to(dtype)
    rbm = rf.BernoulliRBM(4, n_iter=2, random_state=0).fit(rows)
    array = rf.BernoulliRBM(4, n_iter=2, random_state=0).fit(rows.numpy())
    np.testing.assert_array_equal(rbm.components_, array.components_)
    assert isinstance(rbm.components_, np.ndarray)
    codes = rbm.transform(rows)
    assert codes.dtype == dtype
    assert codes.device == rows.device
    np.testing.assert_allclose(codes.numpy(), array.transform(rows.numpy()), rtol=1e-6)
    for answer in (rbm.inverse_transform(codes), rbm.reconstruct(rows), rbm.free_energy(rows), rbm.gibbs(rows)):
        assert isinstance(answer, torch.Tensor)
    assert isinstance(rbm.score(rows), float)


def test_to_torch_is_the_same_function_and_has_gradients():
    rbm = rf.BernoulliRBM(4, n_iter=2, random_state=0).fit(DIGITS[:50])
    module = rbm.to_torch()
    rows = torch.from_numpy(DIGITS[:5])
    np.testing.assert_allclose(module(rows).detach().numpy(), rbm.transform(DIGITS[:5]))
    np.testing.assert_allclose(module.decode(module(rows)).detach().numpy(), rbm.reconstruct(DIGITS[:5]))
    module(rows).sum().backward()
    assert module.weight.grad.abs().sum() > 0
    assert set(module.state_dict()) == {"weight", "hidden_bias", "visible_bias"}


def test_values_outside_the_range_bring_one_warning_that_names_range_and_remedy():
    with pytest.warns(UserWarning, match=r"\[-1, 16\].*\[0, 1\].*Rescale") as caught:
        rf.BernoulliRBM(2, n_iter=1).fit(np.array([[-1.0, 16.0], [0.0, 1.0]]))
    assert len(caught) == 1


def test_divergence_is_noticed():
    # Decay with rate times strength above 2 overshoots zero further at each update.
    rbm = rf.BernoulliRBM(5, learning_rate=1.0, weight_decay=L2(1e4), n_iter=20, batch_size=1, random_state=0)
    with pytest.raises(RunError, match=r"diverged in epoch \d+.*learning_rate"):
        rbm.fit(DIGITS[:50])


def test_samples_follow_the_machine():
    rows = bars()
    rbm = rf.BernoulliRBM(6, n_iter=60, batch_size=50, random_state=0).fit(rows)
    draws = rbm.sample(3000, gibbs_steps=200)
    assert set(np.unique(draws)) == {0.0, 1.0}
    # Samples are as likely under the machine as its entropy says: compare with enumeration.
    from enumeration import joint, states

    p = joint(rbm.fitted_model(torch.float64)).sum(axis=1)
    np.testing.assert_allclose(draws.mean(axis=0), p @ states(8), atol=4.5 * 0.5 / np.sqrt(3000))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_components": 0}, "n_components=0 of BernoulliRBM must be a whole number of at least 1"),
        ({"n_components": 2.5}, "n_components=2.5 of BernoulliRBM must be a whole number"),
        ({"learning_rate": 0}, r"learning_rate=0 of BernoulliRBM must be a number in \(0, 1e\+06\) or a schedule"),
        ({"learning_rate": "fast"}, "learning_rate='fast' of BernoulliRBM must be"),
        ({"momentum": 1.0}, r"momentum=1.0 of BernoulliRBM must be a number in \[0, 1\) or a schedule"),
        ({"averaging": 1.5}, "averaging=1.5"),
        ({"batch_size": 0}, "batch_size=0 of BernoulliRBM must be a whole number of at least 1 or None"),
        ({"positive_hidden": "both"}, "must be one of 'mean', 'sample'"),
        ({"weight_decay": 0.1}, "weight_decay=0.1 of BernoulliRBM must be an instance of WeightPenalty, such as L2"),
        ({"penalty": L2()}, "must be an instance of ActivityPenalty, such as MeanActivity"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"validation_fraction": 0.001}, "leaves 0 rows held out"),
        ({"early_stopping": True, "validation_fraction": 0.0}, "needs held-out rows"),
        ({"persistent": "no"}, "persistent='no' of BernoulliRBM must be true or false"),
        ({"n_chains": 10**12}, "n_chains=1000000000000 .* is too large"),
        ({"learning_rate": 10**400}, "learning_rate=1000"),
        ({"random_state": -1}, "random_state=-1 must be a whole number of at least 0"),
        ({"penalty": KLDivergence(target=2.0)}, "target=2.0 of KLDivergence must be a number in"),
        ({"penalty": MeanActivity(scale="cat")}, "scale='cat' of MeanActivity must be one of 'units'"),
        ({"device": "toaster"}, "device 'toaster' is not available"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        rf.BernoulliRBM(**{"n_components": 2, "n_iter": 1, **arguments}).fit(DIGITS[:20])


@pytest.mark.parametrize(
    ("name", "schedule"), [("momentum", Switch(0.5, 2.0, when=0.9)), ("learning_rate", Linear(0.1, -5.0))]
)
def test_schedules_must_stay_in_the_range(name, schedule):
    with pytest.raises(InputError, match="reaches"):
        rf.BernoulliRBM(2, n_iter=20, **{name: schedule}).fit(DIGITS[:20])


def test_nothing_is_written_for_arguments_that_cannot_be(tmp_path):
    for bad in ({"penalty": MeanActivity(scale="cat")}, {"device": "toaster"}):
        with pytest.raises(InputError):
            rf.BernoulliRBM(2, n_iter=1, checkpoint_dir=tmp_path / "run", **bad).fit(DIGITS[:20])
        assert not (tmp_path / "run").exists()


def test_a_run_that_was_loaded_can_be_fitted_again(tmp_path):
    rf.BernoulliRBM(2, n_iter=1, checkpoint_dir=tmp_path / "run").fit(DIGITS[:20])
    rf.load(tmp_path / "run").fit(DIGITS[:20])


def test_going_on_with_other_shapes_is_refused():
    rbm = rf.BernoulliRBM(3, n_iter=1, warm_start=True).fit(DIGITS[:20])
    with pytest.raises(InputError, match=r"has shape \(3, 64\).*now ask for \(3, 10\)"):
        rbm.fit(DIGITS[:20, :10])
    rbm = rf.BernoulliRBM(3).partial_fit(DIGITS[:20]).set_params(n_components=5)
    with pytest.raises(InputError, match=r"has shape \(3, 64\).*now ask for \(5, 64\)"):
        rbm.partial_fit(DIGITS[:20])


def test_chains_of_an_earlier_fit_do_not_stay():
    rbm = rf.BernoulliRBM(3, n_iter=1).fit(DIGITS[:20])
    assert not hasattr(rbm.set_params(persistent=False).fit(DIGITS[:20]), "h_samples_")


def test_samples_after_a_fit_depend_on_the_fit_alone():
    one = rf.BernoulliRBM(3, n_iter=1, random_state=0).fit(DIGITS[:20])
    first = one.gibbs(DIGITS)
    assert not np.array_equal(one.gibbs(DIGITS), first)
    np.testing.assert_array_equal(one.fit(DIGITS[:20]).gibbs(DIGITS), first)


def test_a_map_of_bytes_is_not_widened_as_a_whole(tmp_path):
    np.save(tmp_path / "bytes.npy", (DIGITS * 16).astype(np.uint8) // 16)
    rows = np.load(tmp_path / "bytes.npy", mmap_mode="r")
    rbm = rf.BernoulliRBM(3, n_iter=2, random_state=0)
    assert np.shares_memory(rbm.source_of(rows).array, rows)
    np.testing.assert_array_equal(
        rbm.fit(rows).components_, rf.BernoulliRBM(3, n_iter=2, random_state=0).fit(np.float32(rows)).components_
    )


def test_a_failed_first_update_leaves_nothing_fitted():
    rbm = rf.BernoulliRBM(3, weight_decay=L2(1e300), init_scale=1e10)
    with pytest.raises(RunError, match="diverged"):
        rbm.partial_fit(DIGITS[:20])
    with pytest.raises(NotFittedError):
        rbm.transform(DIGITS)


def test_a_model_whose_arguments_were_changed_is_not_saved(tmp_path):
    fitted = rf.BernoulliRBM(3, n_iter=1).fit(DIGITS[:20])
    with pytest.raises(InputError, match="now ask for"):
        fitted.set_params(n_components=9).save(tmp_path / "run")
    other = rf.BernoulliRBM(3, n_iter=1, persistent=False).fit(DIGITS[:20]).set_params(persistent=True)
    with pytest.raises(InputError, match="h_samples_ is not fitted"):
        other.save(tmp_path / "run")
    assert other.sample(2, gibbs_steps=2).shape == (2, 64)
    assert not (tmp_path / "run").exists()


def test_samples_from_a_tensor_are_a_tensor():
    rbm = rf.BernoulliRBM(3, n_iter=1, random_state=0).fit(DIGITS[:20])
    start = torch.from_numpy(DIGITS[:2])
    assert isinstance(rbm.sample(2, gibbs_steps=3, init=start), torch.Tensor)
    with pytest.raises(InputError, match=r"n_samples=2\.5 must be a whole number"):
        rbm.sample(2.5)


def test_ctrl_c_in_python_leaves_a_checkpoint(tmp_path):
    whole = rf.BernoulliRBM(8, n_iter=40, random_state=0).fit(DIGITS)
    rbm = rf.BernoulliRBM(8, n_iter=40, random_state=0, checkpoint_dir=str(tmp_path / "run"))
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt, match=r"go on with rarefire\.resume"):
        rbm.fit(DIGITS)
    assert (tmp_path / "run" / "checkpoint" / "state.safetensors").is_file()
    np.testing.assert_array_equal(rf.resume(tmp_path / "run", DIGITS).components_, whole.components_)


def test_numpy_generators_are_seeds():
    one, two = (rf.BernoulliRBM(3, n_iter=1, random_state=np.random.default_rng(0)).fit(DIGITS[:20]) for _ in "ab")
    np.testing.assert_array_equal(one.components_, two.components_)


def test_a_machine_keeps_running_averages(tmp_path):
    """Σ (1 − d)dᵏ ⟨E[h|v]⟩ over the batches so far, saved, resumed, and carried from update to update."""
    d, n = 0.8, 40
    arguments = {"penalty": KLDivergence(averaging=d), "learning_rate": 0.5, "batch_size": None, "random_state": 0}
    rbm = rf.BernoulliRBM(3, **arguments)
    mean, weight = np.zeros(3), 0.0
    for chunk in np.array_split(DIGITS[: 3 * n], 3):
        # A fit of no epochs gives the weights that the first update begins with.
        before = (
            rbm.transform(chunk) if weight else rf.BernoulliRBM(3, **arguments, n_iter=0).fit(chunk).transform(chunk)
        )
        mean, weight = d * mean + (1 - d) * before.mean(axis=0), d * weight + (1 - d)
        rbm.partial_fit(chunk)
        np.testing.assert_allclose(rbm.running_mean_, mean)
        np.testing.assert_allclose(rbm.running_weight_, [weight])
    rbm.save(tmp_path / "run")
    again = rf.load(tmp_path / "run")
    np.testing.assert_array_equal(again.running_mean_, rbm.running_mean_)
    for one in (rbm, again):
        one.partial_fit(DIGITS[:n])
    np.testing.assert_array_equal(again.components_, rbm.components_)
    assert not hasattr(rbm.set_params(penalty=None).fit(DIGITS[:n]), "running_mean_")
