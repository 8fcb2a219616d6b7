"""Penalties inside contrastive divergence, against derivatives of their written values, and what they reach."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

import rarefire as rf
from enumeration import machine
from rarefire.component import label, members
from rarefire.data.batch import Batch
from rarefire.objectives.averages import Averages
from rarefire.penalties import (
    L2,
    ActivityPenalty,
    KLDivergence,
    MeanActivity,
    NoPenalty,
    RunningCrossEntropy,
    TargetMeanOfBiases,
)
from rarefire.random import Generator
from test_gaussian import CD, LEARNT, arrays, differences, gaussian

DIGITS = load_digits().data[:600] / 16
ROWS = np.random.default_rng(3).uniform(size=(6, 4))
N, M = 6, 3
K, T = 2.5, 0.2

MACHINES = pytest.mark.parametrize(
    "m", [machine(seed=3), gaussian(False, 4, 3), gaussian(True, 4, 3)], ids=["binary", "unit variance", "learnt"]
)


def parameters_of(m):
    """W, b, a and σ², which binary visibles have none of: their statistic is the value itself."""
    if "log_variance" in m.parameters or m.visible.support != (0.0, 1.0):
        return arrays(m)
    return m.weight.numpy(), m.hidden_bias.numpy(), m.visible_bias.numpy(), np.ones(4)


def rates(W, b, variance):
    """E[h|v] of every row."""
    return 1 / (1 + np.exp(-((ROWS / variance) @ W.T + b)))


def added(penalty, m, state=None, **changes):
    """What a penalty adds to each gradient: with and without it, from the same random numbers."""
    objective = dataclasses.replace(CD, **changes)
    batch = Batch.of(torch.from_numpy(ROWS))
    plain, _ = objective.evaluate(m, batch, state or {}, Generator(0, "test"))
    both, after = dataclasses.replace(objective, penalty=penalty).evaluate(m, batch, state or {}, Generator(0, "test"))
    both, plain = both.dense_grads(m.parameters), plain.dense_grads(m.parameters)
    return {name: (both[name] - plain[name]).numpy() for name in plain}, after


def assert_derivatives(got, value, m):
    """Of a value that is a function of W, b and σ² alone."""
    W, b, _, variance = parameters_of(m)
    np.testing.assert_allclose(got["weight"], differences(lambda x: value(x, b, variance), W), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        got["hidden_bias"], differences(lambda x: value(W, x, variance), b), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(got["visible_bias"], 0, atol=1e-12)
    if m.log_variance is not None:
        exact = differences(lambda x: value(W, b, np.exp(x)), np.log(variance))
        np.testing.assert_allclose(got["log_variance"], exact, rtol=1e-6, atol=1e-9)


@MACHINES
@pytest.mark.parametrize(("scale", "c"), [("mean", 1), ("units", M), ("entries", N * M)])
@pytest.mark.parametrize("positive_hidden", ["mean", "sample"])
def test_mean_activity_adds_the_derivative_of_its_written_value(m, scale, c, positive_hidden):
    """c·K/2·(s − t)², with s the mean over the N×M matrix of E[h|v], whatever enters the statistics of the data."""

    def value(W, b, variance):
        return c * K / 2 * (rates(W, b, variance).mean() - T) ** 2

    got, _ = added(MeanActivity(T, K, scale), m, positive_hidden=positive_hidden)
    assert_derivatives(got, value, m)
    W, b, _, variance = parameters_of(m)
    h = rates(W, b, variance)
    by_hand = c * K / (N * M) * (h.mean() - T) * h * (1 - h)
    np.testing.assert_allclose(got["hidden_bias"], by_hand.sum(axis=0), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(got["weight"], by_hand.T @ (ROWS / variance), rtol=1e-9, atol=1e-14)


def test_units_is_the_scale_that_is_meant_by_default():
    assert MeanActivity().scale == "units"
    ours, _ = added(MeanActivity(T, K), machine(seed=3))
    theirs, _ = added(MeanActivity(T, K, "units"), machine(seed=3))
    np.testing.assert_array_equal(ours["weight"], theirs["weight"])


@MACHINES
def test_divergence_of_a_running_average_is_followed_as_if_it_were_the_batchs_mean(m):
    d, rho = 0.9, 0.05
    before = {"running_mean": torch.tensor([0.3, 0.1, 0.2]).double(), "running_weight": torch.tensor([0.5]).double()}
    got, after = added(KLDivergence(rho, K, averaging=d), m, before)
    W, b, _, variance = parameters_of(m)
    h = rates(W, b, variance)
    total, weight = d * before["running_mean"].numpy() + (1 - d) * h.mean(axis=0), d * 0.5 + 1 - d
    np.testing.assert_allclose(after["running_mean"], total)
    np.testing.assert_allclose(after["running_weight"], [weight])
    q = total / weight
    pull = K * (-rho / q + (1 - rho) / (1 - q)) * h * (1 - h) / N
    np.testing.assert_allclose(got["hidden_bias"], pull.sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(got["weight"], pull.T @ (ROWS / variance), rtol=1e-9)
    # Which is 1/(1 − d) times the derivative of the divergence of the average, by the weights' share of this batch.

    def value(W, b, variance):
        q = (d * before["running_mean"].numpy() + (1 - d) * rates(W, b, variance).mean(axis=0)) / weight
        kl = rho * np.log(rho / q) + (1 - rho) * np.log((1 - rho) / (1 - q))
        return K * kl.sum() * weight / (1 - d)

    assert_derivatives(got, value, m)


@MACHINES
@pytest.mark.parametrize("biases_only", [False, True])
def test_the_guides_rule_moves_biases_by_q_minus_p_and_weights_by_that_times_the_rows_mean(m, biases_only):
    d, p = 0.9, 0.1
    state = Averages.initial(M, torch.float64, torch.device("cpu"))
    W, b, _, variance = parameters_of(m)
    mean = rates(W, b, variance).mean(axis=0)
    penalty = RunningCrossEntropy(p, K, averaging=d, biases_only=biases_only)
    got, after = added(penalty, m, state)
    np.testing.assert_allclose(got["hidden_bias"], K * (mean - p))
    weight = np.zeros_like(W) if biases_only else np.outer(K * (mean - p), (ROWS / variance).mean(axis=0))
    np.testing.assert_allclose(got["weight"], weight, atol=1e-12)
    np.testing.assert_allclose(got["visible_bias"], 0, atol=1e-12)
    np.testing.assert_allclose(after["running_mean"] / after["running_weight"], mean)
    if m.log_variance is not None:
        np.testing.assert_allclose(got["log_variance"], -(W * weight).sum(axis=0), atol=1e-12)
    # The next batch is the same, with units that all have been silent before it.
    silent = {"running_mean": torch.zeros(M).double(), "running_weight": torch.ones(1).double()}
    got, _ = added(penalty, m, silent)
    np.testing.assert_allclose(got["hidden_bias"], K * (0.1 * mean - p))


@MACHINES
@pytest.mark.parametrize("centring", [None, 0.1])
def test_the_squared_distance_of_each_units_mean_moves_biases_alone(m, centring):
    """Lee, Ekanadham and Ng (2008): λ Σⱼ (p − ⟨E[hⱼ|v]⟩)², by its derivative with respect to the hidden biases."""
    state = {"hidden_offset": torch.full((M,), 0.5).double(), "visible_offset": torch.from_numpy(ROWS.mean(axis=0))}
    got, _ = added(TargetMeanOfBiases(T, K), m, state, centring=centring)
    W, b, _, variance = parameters_of(m)
    exact = differences(lambda x: K * ((rates(W, x, variance).mean(axis=0) - T) ** 2).sum(), b)
    np.testing.assert_allclose(got["hidden_bias"], exact, rtol=1e-6)
    for name in set(got) - {"hidden_bias"}:
        np.testing.assert_array_equal(got[name], 0)


FITS = {
    rf.BernoulliRBM: (DIGITS, {"learning_rate": 0.1, "persistent": False}, 1),
    rf.GaussianRBM: ((DIGITS - DIGITS.mean(axis=0)) / 0.3, {"learning_rate": 0.02, "persistent": False}, 5),
}


@pytest.fixture(scope="module", params=FITS)
def fitted(request):
    """From penalty to the mean rate of every unit, and by what its strength is multiplied."""
    X, settings, factor = FITS[request.param]

    def rates_with(penalty):
        rbm = request.param(8, **settings, batch_size=20, n_iter=20, random_state=0, penalty=penalty)
        return rbm.fit(X).transform(X).mean(axis=0)

    assert np.abs(rates_with(None) - 0.15).mean() > 0.3
    return rates_with, factor


@pytest.mark.parametrize(
    "penalty",
    [
        KLDivergence(0.15, 1.0, averaging=0.9),
        RunningCrossEntropy(0.15, 4.0),
        RunningCrossEntropy(0.15, 4.0, averaging=0.95, biases_only=True),
        RunningCrossEntropy(0.15, 4.0, averaging=None),
        TargetMeanOfBiases(0.15, 30.0),
    ],
    ids=repr,
)
def test_every_unit_comes_to_its_target(fitted, penalty):
    rates_with, factor = fitted
    stronger = clone(penalty).set_params(strength=factor * penalty.strength)
    assert np.abs(rates_with(stronger) - 0.15).mean() < 0.07


@pytest.mark.parametrize(("scale", "strength"), [("mean", 80.0), ("units", 5.0), ("entries", 0.5)])
def test_the_layers_mean_comes_to_its_target_at_every_scale(scale, strength):
    settings = {"n_components": 16, "n_iter": 15, "persistent": False, "random_state": 0}
    rbm = rf.BernoulliRBM(**settings, penalty=MeanActivity(0.1, strength, scale)).fit(DIGITS)
    assert abs(rbm.transform(DIGITS).mean() - 0.1) < 0.03


@LEARNT
def test_penalty_decay_and_likelihood_add_up(learnt):
    """The order in which they join the gradient changes nothing: the variance does not follow the decay."""
    m = gaussian(learnt, 4, 3)
    batch = Batch.of(torch.from_numpy(ROWS))
    penalty, decay = {"penalty": MeanActivity(T, K)}, {"weight_decay": L2(0.7)}
    none, one, other, both = (
        dataclasses.replace(CD, **parts).evaluate(m, batch, {}, Generator(0, "test"))[0].dense_grads(m.parameters)
        for parts in ({}, penalty, decay, penalty | decay)
    )
    assert isinstance(CD.penalty, NoPenalty)
    for name, gradient in both.items():
        torch.testing.assert_close(gradient, one[name] + other[name] - none[name])
        expected = 0.7 * m.weight if name == "weight" else torch.zeros_like(gradient)
        torch.testing.assert_close(other[name] - none[name], expected)


@pytest.mark.parametrize("cls", list(members(ActivityPenalty)), ids=label)
@pytest.mark.parametrize("centring", [None, 0.01])
def test_a_penalty_leaves_persistent_chains_their_way(cls, centring):
    rows = (np.random.default_rng(0).random((40, 6)) < 0.4).astype(float)
    chains = []
    for penalty in (None, cls() if cls is NoPenalty else cls().set_params(strength=0.0)):
        machine = rf.BernoulliRBM(4, penalty=penalty, centring=centring, n_iter=3, random_state=0).fit(rows)
        chains.append(machine.h_samples_)
        assert machine.h_samples_.any()
    np.testing.assert_array_equal(*chains)
