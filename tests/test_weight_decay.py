"""Weight decay in both families: where it joins a step, and where proximal steps come to rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

import rarefire as rf
from rarefire.data.batch import Batch
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError
from rarefire.penalties import L1, L2, KLDivergence, NoPenalty, RunningCrossEntropy, TargetMeanOfBiases
from rarefire.random import Generator
from rarefire.schedules import Linear
from rarefire.solvers.adam import Adam
from rarefire.solvers.sgd import SGD
from rarefire.types import Loss

DIGITS = load_digits().data[:100] / 16
RATE, MOMENTUM, STRENGTH = 0.1, 0.8, 0.3

#: Without random draws, so that the gradient at the same parameters is the same.
STILL = {"chain_visible": "mean", "chain_hidden": "mean", "persistent": False}


def families():
    """One estimator of each family, all rows in one update, gradient descent with momentum, without decay."""
    settings = {"n_components": 5, "learning_rate": RATE, "momentum": MOMENTUM, "batch_size": None, "random_state": 0}
    return [
        rf.BernoulliRBM(**settings, **STILL, init_scale=0.5),
        rf.GaussianRBM(**settings, **STILL, init_scale=0.5, learn_variance=True),
        rf.SparseAutoencoder(**settings, solver="sgd", weight_decay=NoPenalty()),
        rf.SparseAutoencoder(**settings, solver="sgd", weight_decay=NoPenalty(), tied=True),
    ]


def gradients(estimator, parameters):
    """Of the objective without decay, on all rows."""
    model = estimator._model_of({name: torch.from_numpy(value) for name, value in parameters.items()})
    batch = Batch.of(torch.from_numpy(DIGITS))
    loss, _ = estimator._objective().evaluate(model, batch, {}, Generator(0, "test"))
    return {name: gradient.numpy() for name, gradient in loss.dense_grads(model.parameters).items()}


def fitted(estimator):
    return {name: getattr(estimator, attribute).copy() for attribute, name in estimator.parameter_names.items()}


@pytest.mark.parametrize("plain", families(), ids=lambda e: type(e).__name__ + ("-tied" * getattr(e, "tied", False)))
@pytest.mark.parametrize(
    ("decay", "of"),
    [(L2(STRENGTH), lambda w: STRENGTH * w), (L1(STRENGTH), lambda w: STRENGTH * np.sign(w))],
    ids=["L2", "L1"],
)
def test_decay_joins_the_gradient_before_momentum_and_is_scaled_by_the_rate(plain, decay, of):
    """Two steps by hand: u₁ = g₁ + d₁, θ₂ = θ₁ − ηu₁; u₂ = μu₁ + g₂ + d₂, θ₃ = θ₂ − ηu₂."""
    source = ArraySource(DIGITS, Description("digits"))
    start = plain._initial(source, torch.float64, Generator(0, "initial"))
    theta = {name: value.numpy() for name, value in start.items()}
    u = {name: np.zeros_like(value) for name, value in theta.items()}
    estimator = clone(plain).set_params(weight_decay=decay)
    for _ in range(2):
        g = gradients(plain, theta)
        for name in theta:
            d = of(theta[name]) if "weight" in name else 0
            u[name] = MOMENTUM * u[name] + g[name] + d
            theta[name] = theta[name] - RATE * u[name]
        estimator.partial_fit(DIGITS)
        for name, value in fitted(estimator).items():
            np.testing.assert_allclose(value, theta[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("plain", families(), ids=lambda e: type(e).__name__ + ("-tied" * getattr(e, "tied", False)))
def test_a_proximal_step_follows_the_update_and_moves_weights_alone(plain):
    """w ← sign(w)·max(|w| − λη/(1 − μ), 0) after each of two steps, biases and velocities as without it."""
    source = ArraySource(DIGITS, Description("digits"))
    start = plain._initial(source, torch.float64, Generator(0, "initial"))
    theta = {name: value.numpy() for name, value in start.items()}
    u = {name: np.zeros_like(value) for name, value in theta.items()}
    estimator = clone(plain).set_params(weight_decay=L1(STRENGTH, proximal=True))
    for _ in range(2):
        g = gradients(plain, theta)
        for name in theta:
            u[name] = MOMENTUM * u[name] + g[name]
            theta[name] = theta[name] - RATE * u[name]
            if "weight" in name:
                w = theta[name]
                theta[name] = np.sign(w) * np.maximum(np.abs(w) - STRENGTH * RATE / (1 - MOMENTUM), 0)
        estimator.partial_fit(DIGITS)
        for name, value in fitted(estimator).items():
            np.testing.assert_allclose(value, theta[name], rtol=1e-9, atol=1e-12, err_msg=name)
    zeros = np.mean([np.mean(value == 0) for name, value in fitted(estimator).items() if "weight" in name])
    assert 0.1 < zeros < 1


@pytest.mark.parametrize(
    ("solver", "n"),
    [
        (SGD(0.1), 1000),
        (SGD(0.02, momentum=0.9), 2000),
        (SGD(Linear(0.05, 0.0), momentum=0.5), 2000),
        (Adam(0.01), 3000),
        (Adam(Linear(0.05, 0.0)), 2000),
    ],
    ids=repr,
)
def test_proximal_steps_rest_at_the_closed_form_of_the_lasso(solver, n):
    """Of ½ Σ c(w − m)² + λ Σ|w| the minimum is sign(m)·max(|m| − λ/c, 0); gradient steps straddle its zeros."""
    curvature = torch.tensor([0.5, 1.0, 2.0, 4.0, 1.0, 3.0]).double()
    middle = torch.tensor([2.0, -0.3, 0.1, -1.0, 0.5001, 0.2]).double()
    expected = middle.sign() * (middle.abs() - 0.5 / curvature).clamp(min=0)
    ends = {}
    for proximal in (True, False):
        penalty = L1(0.5, proximal)

        def evaluate(parameters, penalty=penalty):
            gradient = curvature * (parameters["weight"] - middle) + penalty.gradient(parameters["weight"])
            return Loss({"weight": gradient}, shrinkage={"weight": penalty.shrinkage}), {}

        # From both sides, and from zeros.
        parameters = {"weight": torch.tensor([-1.0, 1.0, 0.0, 1.0, 0.0, -1.0]).double()}
        state = solver.initial(parameters)
        for step in range(n):
            solver.step(evaluate, parameters, state, step / n)
        ends[proximal] = parameters["weight"]
    torch.testing.assert_close(ends[True], expected, atol=1e-4, rtol=0)
    assert torch.equal(ends[True] == 0, expected == 0)
    assert (expected == 0).sum() == 2
    torch.testing.assert_close(ends[False], expected, atol=0.2, rtol=0)
    assert not (ends[False] == 0).any()


AUTOENCODER = {"max_iter": 40, "batch_size": 10, "penalty": NoPenalty()}


@pytest.mark.parametrize(
    ("estimator", "strength"),
    [
        (rf.BernoulliRBM(8, n_iter=40, momentum=0.5), 0.03),
        (rf.GaussianRBM(8, n_iter=40, learning_rate=0.02, momentum=0.5), 0.04),
        (rf.SparseAutoencoder(8, solver="sgd", momentum=0.9, learning_rate=0.05, **AUTOENCODER), 0.005),
        (rf.SparseAutoencoder(8, solver="adam", learning_rate=0.01, **AUTOENCODER), 0.005),
        (rf.SparseAutoencoder(8, solver="adam", learning_rate=0.01, tied=True, **AUTOENCODER), 0.005),
    ],
    ids=["BernoulliRBM", "GaussianRBM", "sgd", "adam", "tied"],
)
def test_weights_become_exactly_zero_in_both_families(estimator, strength):
    X = (DIGITS - DIGITS.mean(axis=0)) / 0.3 if isinstance(estimator, rf.GaussianRBM) else DIGITS
    sharp, straddling, blank = (
        clone(estimator).set_params(random_state=0, weight_decay=decay).fit(X)
        for decay in (L1(strength, proximal=True), L1(strength), L1(1e3, proximal=True))
    )
    for name in ("components_", "encoder_weight_") if hasattr(sharp, "encoder_weight_") else ("components_",):
        assert 0.05 < (getattr(sharp, name) == 0).mean() < 0.9, name
        assert (getattr(straddling, name) != 0).all(), name
        assert not getattr(blank, name).any(), name
    # Both forms have the same points of rest, so that what is reconstructed is much the same.
    costs = [e.history_[-1]["cost"] for e in (sharp, straddling)]
    assert costs[0] == pytest.approx(costs[1], rel=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight_decay": L1(0.1, proximal=True)}, "proximal=True.* proximal steps; use 'adam'"),
        ({"penalty": RunningCrossEntropy(averaging=None)}, "what no value has; use 'adam'"),
        ({"penalty": TargetMeanOfBiases()}, "what no value has; use 'adam'"),
        ({"penalty": RunningCrossEntropy()}, "running average"),
    ],
)
def test_lbfgs_refuses_what_is_not_the_gradient_of_its_value(changes, words):
    with pytest.raises(InputError, match=words):
        rf.SparseAutoencoder(3, solver="lbfgs", **changes).fit(DIGITS)


@pytest.mark.filterwarnings("ignore:values of the data lie")
@pytest.mark.parametrize(
    "changes",
    [
        {"weight_decay": L1(0.1, proximal=True)},
        {"penalty": RunningCrossEntropy(averaging=None)},
        {"penalty": TargetMeanOfBiases()},
        {"penalty": KLDivergence(averaging=0.9)},
    ],
    ids=repr,
)
def test_check_gradient_refuses_what_is_not_the_gradient_of_its_value(changes):
    name = type(next(iter(changes.values()))).__name__
    with pytest.raises(InputError, match=rf"{name}\(.*not the derivative of its value"):
        rf.check_gradient(rf.SparseAutoencoder(3, random_state=0, **changes), DIGITS[:10])
