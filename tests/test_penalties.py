"""Penalties against their written values, what their arguments may be, and the ends of the range of numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import rarefire as rf
from rarefire.activations import LeakyReLU, Sigmoid, Tanh
from rarefire.errors import InputError
from rarefire.penalties import (
    L1,
    L2,
    ActivityPenalty,
    CrossEntropy,
    KLDivergence,
    L1Activity,
    MeanActivity,
    NoPenalty,
    Penalty,
    RunningCrossEntropy,
    StudentT,
    TargetMean,
    TargetMeanOfBiases,
    WeightPenalty,
    shrink,
)
from rarefire.types import Pass
from test_gaussian import differences

PRE = np.random.default_rng(0).normal(size=(5, 3))
K, T = 2.5, 0.2


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def seen(pre, f=None):
    f = f or Sigmoid()
    z = torch.as_tensor(pre)
    return Pass(z, z, f, f.slope, f.range, lambda h: h, rate_gain=f.rate_gain)


def divergence(q):
    return T * np.log(T / q) + (1 - T) * np.log((1 - T) / (1 - q))


WRITTEN = [
    (MeanActivity(T, K, "units"), lambda h: 3 * K / 2 * (h.mean() - T) ** 2),
    (MeanActivity(T, K, "mean"), lambda h: K / 2 * (h.mean() - T) ** 2),
    (MeanActivity(T, K, "entries"), lambda h: 15 * K / 2 * (h.mean() - T) ** 2),
    (TargetMean(T, K), lambda h: K * ((h.mean(axis=0) - T) ** 2).sum()),
    (TargetMeanOfBiases(T, K), lambda h: K * ((h.mean(axis=0) - T) ** 2).sum()),
    (KLDivergence(T, K), lambda h: K * divergence(h.mean(axis=0)).sum()),
    (CrossEntropy(T, K), lambda h: -K * (T * np.log(h) + (1 - T) * np.log(1 - h)).sum() / 5),
    (L1Activity(K), lambda h: K * np.abs(h).sum() / 5),
    (StudentT(K), lambda h: K * np.log(1 + h**2).sum() / 5),
    (NoPenalty(), lambda h: 0.0),
]


LAYERS = [(Sigmoid(), sigmoid), (Tanh(), np.tanh), (LeakyReLU(0.3), lambda z: np.where(z > 0, z, 0.3 * z))]


@pytest.mark.parametrize(("penalty", "written"), WRITTEN, ids=lambda p: repr(p) if isinstance(p, Penalty) else "")
def test_value_and_gradient_are_those_of_the_written_value(penalty, written):
    for f, codes in LAYERS:
        if penalty.misfit(f.range):
            continue
        of_rates = penalty.needs_rates and isinstance(f, Tanh)

        def value_at(z, codes=codes, of_rates=of_rates):
            return written((codes(z) + 1) / 2 if of_rates else codes(z))

        value, pull = penalty.evaluate(seen(PRE, f))
        assert float(value) == pytest.approx(value_at(PRE), rel=1e-12), f
        np.testing.assert_allclose(pull, differences(value_at, PRE), rtol=1e-6, atol=1e-10, err_msg=repr(f))


@pytest.mark.parametrize("f", [Sigmoid(), Tanh()], ids=repr)
def test_the_guides_rule_pulls_every_row_alike(f):
    q = sigmoid(f.rate_gain * PRE).mean(axis=0)
    value, pull = RunningCrossEntropy(T, K).evaluate(seen(PRE, f))
    assert float(value) == pytest.approx(-K * (T * np.log(q) + (1 - T) * np.log(1 - q)).sum())
    np.testing.assert_allclose(pull, np.tile(K * f.rate_gain * (q - T) / 5, (5, 1)))


@pytest.mark.parametrize("bias", [-60.0, -20.0, 15.0])
def test_the_pull_of_a_rate_that_is_almost_0_or_1_is_lost_in_neither_type(bias):
    """−ρ/q · q(1 − q) + (1 − ρ)/(1 − q) · q(1 − q) = q − ρ, however near q is to an end of its range."""
    for dtype, gap in ((torch.float32, 0.2), (torch.float64, 1e-6)):
        value, pull = KLDivergence(T, K).evaluate(seen(torch.full((4, 2), bias, dtype=dtype)))
        np.testing.assert_allclose(pull.sum(dim=0), K * (sigmoid(bias) - T), rtol=gap if bias > 0 else 1e-5)
        log_q, log_not_q = -np.log1p(np.exp(-bias)), -np.log1p(np.exp(bias))
        exact = 2 * K * (T * (np.log(T) - log_q) + (1 - T) * (np.log(1 - T) - log_not_q))
        assert float(value) == pytest.approx(exact, rel=0.05 if bias > 0 else 1e-5)


@pytest.mark.parametrize("penalty", [KLDivergence(T), RunningCrossEntropy(T), CrossEntropy(T)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rates_of_exactly_0_and_1_have_large_finite_values(penalty, dtype):
    for bias in (-2e4, 2e4):
        value, pull = penalty.evaluate(seen(torch.full((4, 2), bias, dtype=dtype)))
        assert 10 < float(value) < 1e6
        assert torch.isfinite(pull).all()


def test_a_cross_entropy_takes_rates_that_are_sigmoids():
    p = dataclasses.replace(seen(PRE), rate_gain=None)
    for penalty in (CrossEntropy(), RunningCrossEntropy()):
        with pytest.raises(ValueError, match="no sigmoid"):
            penalty.evaluate(p)


def test_weight_penalties_have_their_written_values():
    weights = [torch.from_numpy(np.random.default_rng(k).normal(size=(3, 4))) for k in range(2)]
    weights[0][0, 0] = 0.0
    flat = np.concatenate([w.numpy().ravel() for w in weights])
    assert float(L2(K).value(weights)) == pytest.approx(K / 2 * (flat**2).sum(), rel=1e-12)
    assert float(L1(K).value(iter(weights))) == pytest.approx(K * np.abs(flat).sum(), rel=1e-12)
    assert float(NoPenalty().value(weights)) == 0
    np.testing.assert_allclose(L2(K).gradient(weights[0]), K * weights[0])
    np.testing.assert_array_equal(L1(K).gradient(weights[0]), K * np.sign(weights[0].numpy()))
    for penalty in (L1(K, proximal=True), NoPenalty()):
        np.testing.assert_array_equal(penalty.gradient(weights[0]), np.zeros((3, 4)))
    assert [p.shrinkage for p in (L1(K, proximal=True), L1(K), L2(K), NoPenalty())] == [K, 0, 0, 0]


@pytest.mark.parametrize("threshold", [0.5, torch.tensor([0.5, 1.0, 0.0])])
def test_a_proximal_step_is_the_minimum_of_its_problem(threshold):
    """Of ½(x − w)² + threshold·|x|, found on a fine grid."""
    weight = torch.tensor([[-2.0, 0.9, 0.1], [0.4, -1.0, -0.1]]).double()
    grid = np.linspace(-3, 3, 6001)[:, None, None]
    costs = 0.5 * (grid - weight.numpy()) ** 2 + np.asarray(threshold) * np.abs(grid)
    expected = np.take_along_axis(np.broadcast_to(grid, costs.shape), costs.argmin(axis=0)[None], axis=0)[0]
    shrink(weight, threshold)
    np.testing.assert_allclose(weight, expected, atol=6e-4)
    assert (weight[np.abs(expected) < 1e-9] == 0).all()


#: What is allowed and what is refused.
OPEN = [1e-9, 0.999], [-1e-9, 0.0, 1.0]
HALF_OPEN = [0.0, 0.999, None], [-1e-9, 1.0]
POSITIVE = [0.0, 1e9], [-1e-9]


@pytest.mark.parametrize(
    ("cls", "ranges"),
    [
        (MeanActivity, {"strength": POSITIVE, "scale": (["units", "mean", "entries"], ["unit"])}),
        (TargetMean, {"strength": POSITIVE}),
        (TargetMeanOfBiases, {"strength": POSITIVE}),
        (RunningCrossEntropy, {"target": OPEN, "strength": POSITIVE, "averaging": HALF_OPEN}),
        (KLDivergence, {"target": OPEN, "strength": POSITIVE, "averaging": HALF_OPEN}),
        (CrossEntropy, {"target": OPEN, "strength": POSITIVE}),
        (L1Activity, {"strength": POSITIVE}),
        (StudentT, {"strength": POSITIVE}),
        (L2, {"strength": POSITIVE}),
        (L1, {"strength": POSITIVE}),
    ],
)
def test_arguments_lie_where_the_penalty_means_something(cls, ranges):
    role = "penalty" if issubclass(cls, ActivityPenalty) else "weight_decay"
    for name, (allowed, refused) in ranges.items():
        for value in allowed:
            rf.SparseAutoencoder(solver="adam", **{role: cls(**{name: value})}).check_arguments()
        for value in refused:
            with pytest.raises(InputError, match=name):
                rf.SparseAutoencoder(solver="adam", **{role: cls(**{name: value})}).check_arguments()


@pytest.mark.parametrize(
    ("penalty", "arguments"),
    [
        (MeanActivity(), (0.01, 1.0, "units")),
        (TargetMean(), (0.0, 1.0)),
        (TargetMeanOfBiases(), (0.0, 1.0)),
        (RunningCrossEntropy(), (0.05, 1.0, 0.9, False)),
        (KLDivergence(), (0.01, 1.0, None)),
        (CrossEntropy(), (0.05, 1.0)),
        (L1Activity(), (1.0,)),
        (StudentT(), (1.0,)),
        (L2(), (1e-4,)),
        (L1(), (1e-4, False)),
    ],
    ids=lambda p: type(p).__name__,
)
def test_a_penalty_of_which_nothing_is_said_is_the_documents(penalty, arguments):
    assert penalty == type(penalty)(*arguments)


def test_what_a_penalty_says_of_itself():
    rates = {KLDivergence, RunningCrossEntropy, CrossEntropy}
    zero = {L1Activity, StudentT}
    biases = {TargetMeanOfBiases}
    for cls in {type(penalty) for penalty, _ in WRITTEN} | rates:
        assert cls.needs_rates == (cls in rates)
        assert cls.needs_zero == (cls in zero)
        assert cls().biases_only == (cls in biases)
        assert bool(cls.misfit(None)) == (cls in rates)
        assert bool(cls.misfit((-1.0, 1.0))) == (cls in zero)
        assert not cls.misfit((0.0, 1.0))
        assert cls().exact == (cls not in biases | {RunningCrossEntropy})
    assert not KLDivergence(averaging=0.9).exact
    assert RunningCrossEntropy(biases_only=True).biases_only


@pytest.mark.parametrize(("base", "methods"), [(ActivityPenalty, ["evaluate"]), (WeightPenalty, ["value", "gradient"])])
def test_a_penalty_that_leaves_something_out_is_none(base, methods):
    whole = dict.fromkeys(methods, lambda self, *args: None)
    type("_Whole", (base,), whole)()
    for missing in methods:
        with pytest.raises(TypeError, match=missing):
            type("_Part", (base,), {name: method for name, method in whole.items() if name != missing})()
