"""Contracts that every member of a family keeps; a new member joins by existing."""

from __future__ import annotations

import json
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import rarefire as rf
from rarefire import errors as rf_errors
from rarefire.activations import Activation, Identity, Sigmoid, Tanh
from rarefire.component import Component, find, from_spec, label, members, to_spec
from rarefire.data.batch import Batch
from rarefire.data.datasets import Dataset
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError
from rarefire.estimators.base import SparseLearner
from rarefire.losses import ReconstructionLoss, SquaredError
from rarefire.models.autoencoder import Autoencoder
from rarefire.objectives.reconstruction import Reconstruction
from rarefire.penalties import (
    L1,
    ActivityPenalty,
    NoPenalty,
    Penalty,
    RunningCrossEntropy,
    TargetMean,
    TargetMeanOfBiases,
    WeightPenalty,
)
from rarefire.preprocess import Step
from rarefire.random import Generator
from rarefire.recipes import Recipe, load_all
from rarefire.schedules import Schedule
from rarefire.types import Pass
from rarefire.units import Units

load_all()
_ = rf.BernoulliRBM, rf.DeepBeliefNetwork, rf.GaussianRBM, rf.SparseAutoencoder


def family(base, suits=lambda cls: True):
    found = [cls for cls in members(base) if suits(cls)]
    assert found
    return pytest.mark.parametrize("cls", found, ids=label)


def relative_gap(g, h):
    return (g - h).norm() / (g + h).norm()


def central_differences(value_of, at, step=1e-5):
    """Fourth-order central differences: the error is of order step⁴, far below 1e-8."""
    g = torch.zeros_like(at)
    for index in np.ndindex(*at.shape):
        values = []
        for k in (-2, -1, 1, 2):
            moved = at.clone()
            moved[index] += k * step
            values.append(float(value_of(moved)))
        g[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return g


@pytest.mark.filterwarnings("ignore:values of the data lie")
@parametrize_with_checks([cls() for base in (SparseLearner, Step) for cls in members(base)])
def test_scikit_learns_contract(estimator, check):
    check(estimator)


@family(Component)
def test_components_survive_json_and_clone(cls):
    component = cls()
    spec = json.loads(json.dumps(to_spec(component), allow_nan=False))
    assert from_spec(spec) == component
    assert clone(component) == component
    assert from_spec(spec).get_params() == component.get_params()


@pytest.mark.parametrize(
    "base", [Activation, ReconstructionLoss, Penalty, Schedule, Units, Step, SparseLearner, Dataset, Recipe]
)
def test_every_member_is_found_by_its_name(base):
    for cls in members(base):
        assert find(base, label(cls)) is cls
        assert find(base, label(cls).upper()) is cls
        assert cls.__doc__


@family(Activation)
def test_slope_of_activations(cls):
    f = cls()
    z = f.points()
    assert len(z) > 50
    assert all((z < kink).any() and (z > kink).any() for kink in f.kinks)
    numeric = central_differences(lambda t: f(t).sum(), z, 1e-3)
    assert relative_gap(f.slope(z, f(z)), numeric) < 1e-10


@family(Activation)
def test_ranges_and_rates_of_activations(cls):
    f = cls()
    z = torch.cat([torch.linspace(-30, 30, 601, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    codes = f(z)
    assert f.active(codes).any()
    assert not f.active(codes).all()
    if f.range is None:
        assert codes.max() == 30
        return
    low, high = f.range
    torch.testing.assert_close(codes.min(), torch.tensor(low, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(codes.max(), torch.tensor(high, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close((codes - low) / (high - low), torch.sigmoid(f.rate_gain * z))


@family(ReconstructionLoss)
def test_gradient_of_losses(cls):
    generator = Generator(5, "test")
    z = generator.normal((4, 6), torch.float64)
    x = generator.uniform((4, 6), torch.float64)
    outputs = [output for output in (Identity(), Sigmoid(), Tanh()) if not cls().unsuited(output)]
    assert outputs
    for output in outputs:
        values, exact = cls().evaluate(x, z, output)
        assert values.shape == (4,)
        numeric = central_differences(lambda t, output=output: cls().evaluate(x, t, output)[0].sum(), z, 1e-3)
        assert relative_gap(exact, numeric) < 1e-8


def weight_and_rows(n=5, m=4):
    """A weight matrix and rows of a machine with m units."""
    generator = Generator(3, "test")
    weight = generator.normal((m, 6), torch.float64)
    x = generator.uniform((n, 6), torch.float64)
    return weight, x


def variants_of(cls):
    """Instances of a penalty: its defaults, and each of its scales."""
    return [cls(target=0.3, strength=2.0, scale=scale) for scale in cls.scales] if hasattr(cls, "scales") else [cls()]


def gap_of_penalty(penalty, pre, look):
    _, exact = penalty.evaluate(look(pre))
    numeric = central_differences(lambda z: penalty.evaluate(look(z))[0], pre, 1e-3)
    if isinstance(penalty, NoPenalty):
        assert not exact.any()
        assert not numeric.any()
        return 0.0
    return relative_gap(exact, numeric)


def layers_for(cls):
    """Every activation and unit type that a penalty fits: function, slope, range, gain of the rates, and inputs."""
    layers = [(f(), f().slope, f().range, f().rate_gain, f().points()) for f in members(Activation)]
    for units in (units() for units in members(Units)):
        bounds = units.support if all(map(np.isfinite, units.support)) else None
        layers.append((units.mean, units.slope, bounds, units.rate_gain, torch.linspace(-3, 3, 80)))
    fitting = [layer for layer in layers if not cls.misfit(layer[2])]
    assert fitting
    return fitting


#: Penalties whose pull is not, or not on all parameters, the derivative of their value: each has tests of its own.
INEXACT = {RunningCrossEntropy, TargetMeanOfBiases}


def test_inexact_penalties_say_so_and_have_tests_of_their_own():
    assert {cls for cls in members(ActivityPenalty) if not cls().exact} == INEXACT


@family(ActivityPenalty, lambda cls: cls is not RunningCrossEntropy)
def test_gradient_of_activity_penalties_on_every_activation_and_unit_that_they_fit(cls):
    """With respect to the units' inputs, which :class:`TargetMeanOfBiases` follows exactly too."""
    weight, x = weight_and_rows()
    fitting = layers_for(cls)
    for f, slope, bounds, gain, points in fitting:
        order = torch.from_numpy(Generator(1, "points").permutation(len(points))[:20])
        pre = points[order].to(torch.float64).reshape(5, 4)

        def look(z, f=f, slope=slope, bounds=bounds, gain=gain):
            return Pass(x, z, f, slope, bounds, lambda h: h @ weight, (weight,), rate_gain=gain)

        for penalty in variants_of(cls):
            assert gap_of_penalty(penalty, pre, look) < 1e-8, (penalty, f)


@pytest.mark.parametrize("averaging", [None, 0.9])
@pytest.mark.parametrize("biases_only", [False, True])
def test_the_guides_rule_is_the_derivative_where_rows_are_alike_and_q_minus_p_over_n_anywhere(averaging, biases_only):
    weight, x = weight_and_rows()
    p, strength = 0.1, 3.0
    penalty = RunningCrossEntropy(p, strength, averaging, biases_only)
    assert not penalty.exact
    gains = set()
    for f, slope, bounds, gain, points in layers_for(RunningCrossEntropy):

        def look(z, f=f, slope=slope, bounds=bounds, gain=gain):
            return Pass(x, z, f, slope, bounds, lambda h: h @ weight, (weight,), rate_gain=gain)

        order = torch.from_numpy(Generator(1, "points").permutation(len(points))[:20])
        pre = points[order].to(torch.float64).reshape(5, 4)
        value, pull = penalty.evaluate(look(pre))
        q = torch.sigmoid(gain * pre).mean(dim=0)
        assert float(value) == pytest.approx(float(-strength * (p * q.log() + (1 - p) * (1 - q).log()).sum()))
        # Of tanh units the rate is σ(2z), so that their input is pulled twice as much.
        torch.testing.assert_close(pull, (strength * gain * (q - p) / 5).expand(5, 4))
        assert gap_of_penalty(penalty, pre, look) > 1e-3
        assert gap_of_penalty(penalty, pre[:1].repeat(5, 1), look) < 1e-8
        gains.add(gain)
    assert gains == {1.0, 2.0}


@pytest.mark.parametrize("penalty", [TargetMeanOfBiases(0.3, 2.0), RunningCrossEntropy(0.3, 2.0, None, True)])
@pytest.mark.parametrize("tied", [False, True])
def test_a_penalty_of_biases_leaves_all_else_to_the_objective(penalty, tied):
    weight, x = weight_and_rows()
    bias = torch.linspace(-1, 1, 4, dtype=torch.float64)
    decoder = None if tied else weight.flip(0)
    model = Autoencoder(weight, bias, torch.zeros(6).double(), Sigmoid(), Identity(), decoder)
    plain, held = (
        Reconstruction(SquaredError(), p, NoPenalty()).evaluate(model, Batch.of(x), {}, Generator(0, "test"))[0]
        for p in (NoPenalty(), penalty)
    )
    assert held.value > plain.value
    for name, gradient in held.grads.items():
        if name != "encoder_bias":
            assert torch.equal(gradient, plain.grads[name]), name
    rates = torch.sigmoid(x @ weight.T + bias)
    gap = rates.mean(dim=0) - 0.3
    exact = (4 * gap * (rates * (1 - rates)).mean(dim=0)) if isinstance(penalty, TargetMean) else 2 * gap
    torch.testing.assert_close(held.grads["encoder_bias"] - plain.grads["encoder_bias"], exact)


def away_from_kinks(model, X):
    """The estimator with the first seed from which no unit's input lies near a kink, and some units are on."""
    kinks = model.parts()["activation_"].kinks
    for seed in range(1000):
        model.set_params(random_state=seed)
        start = model._model_of(
            model._initial(ArraySource(X, Description("test")), torch.float64, Generator(seed, "initial"))
        )
        z = start.hidden_input(torch.from_numpy(X))
        if all(((z - kink).abs() > 0.002).all() for kink in kinks) and (start.activation(z) != 0).double().mean() > 0.2:
            return model
    raise AssertionError("no seed keeps away from the kinks")


@family(Activation)
def test_gradient_of_the_whole_objective(cls):
    X = np.random.default_rng(0).uniform(size=(8, 5))
    exact = [penalty() for penalty in members(ActivityPenalty) if penalty not in INEXACT]
    for penalty in (penalty for penalty in exact if not penalty.misfit(cls.range)):
        for loss in (loss() for loss in members(ReconstructionLoss)):
            for tied in (False, True):
                model = rf.SparseAutoencoder(
                    n_components=3,
                    activation=cls(),
                    output=Sigmoid(),
                    loss=loss,
                    penalty=penalty,
                    tied=tied,
                    dropout=0.3,
                    # Dropped inputs move the units' inputs, past kinks too.
                    input_dropout=0.0 if cls().kinks else 0.2,
                    init_scale=4.0,
                )
                assert rf.check_gradient(away_from_kinks(model, X), X, max_entries=20) < 1e-8, model


@family(ActivityPenalty)
def test_a_penalty_that_means_nothing_for_a_range_is_refused(cls):
    for f in members(Activation):
        model = rf.SparseAutoencoder(activation=f(), penalty=cls())
        if cls.misfit(f.range):
            with pytest.raises(rf_errors.InputError, match=f"does not fit {f.__name__} units; use one of .*TargetMean"):
                model.check_arguments()
        else:
            model.check_arguments()


@pytest.mark.parametrize("penalty", [*(cls() for cls in members(WeightPenalty)), L1(0.3, proximal=True)], ids=str)
def test_gradient_of_weight_penalties(penalty):
    weight, _ = weight_and_rows()
    numeric = central_differences(lambda w: penalty.value([w]), weight, 1e-4)
    exact = penalty.gradient(weight)
    if isinstance(penalty, NoPenalty):
        assert not exact.any()
        assert not numeric.any()
        return
    if penalty.shrinkage:
        # What a proximal step takes off is no part of the gradient.
        assert not exact.any()
        exact = penalty.shrinkage * weight.sign()
    assert relative_gap(exact, numeric) < 1e-8
    two = penalty.value([weight, 2 * weight])
    assert two == pytest.approx(float(penalty.value([weight]) + penalty.value([2 * weight])))


@family(Units)
def test_units_are_of_the_exponential_family(cls):
    units, z = cls(), torch.linspace(-3, 3, 13, dtype=torch.float64)
    bias = torch.linspace(0.5, -0.7, 13, dtype=torch.float64)
    mean = units.mean(z)
    # The mean is the derivative of the log partition, its slope the second derivative.
    first = central_differences(lambda t: units.log_partition(t, bias).sum(), z, 1e-3)
    assert relative_gap(first, mean) < 1e-8
    second = central_differences(lambda t: units.mean(t).sum(), z, 1e-3)
    assert relative_gap(second, units.slope(z, mean)) < 1e-8


@family(Units)
def test_log_partition_is_the_sum_or_integral_over_the_units_values(cls):
    """Of exp(t(s)·(z − b) − e(s, b)), by the two values of a binary unit or on a fine grid; P(s | z) has mean z's."""
    units = cls()
    z, b = torch.linspace(-3, 3, 7).double().reshape(-1, 1), torch.linspace(0.8, -1.2, 7).double().reshape(-1, 1)
    low, high = units.support
    discrete = (low, high) == (0.0, 1.0)
    # Steps of 1/64 are exact, and integrate a normal law to the last digit.
    s = (torch.arange(2.0) if discrete else torch.arange(-1920, 1921) / 64).double().expand(7, -1)
    width = 1.0 if discrete else 1 / 64
    weights = torch.exp(units.statistic(s) * (z - b) - units.energy(s, b)) * width
    torch.testing.assert_close(units.log_partition(z, b)[:, 0], weights.sum(dim=1).log(), rtol=1e-9, atol=1e-9)
    mean = (weights * s).sum(dim=1) / weights.sum(dim=1)
    torch.testing.assert_close(units.mean(z)[:, 0], mean, rtol=1e-9, atol=1e-9)


@family(Units)
def test_units_begin_at_the_mean_that_is_asked_for(cls):
    """The input at which the mean is that of the values, but for half a value of either end of a bounded range."""
    units, n = cls(), 200
    total = torch.tensor([20.0, 100.0, 190.0], dtype=torch.float64)
    bounded = all(map(np.isfinite, units.support))
    expected = (total + 0.5) / (n + 1) if bounded else total / n
    torch.testing.assert_close(units.mean(units.input_of_mean(total, n)), expected)


@family(Units)
def test_samples_have_the_mean_and_lie_in_the_support(cls):
    units = cls()
    z = torch.linspace(-2, 2, 5, dtype=torch.float64).repeat(100_000, 1)
    mean = units.mean(z)
    draws = units.sample(mean, Generator(0, "test"))
    deviation = draws.std(dim=0) / np.sqrt(len(z))
    assert ((draws.mean(dim=0) - mean[0]).abs() < 4.5 * deviation).all()
    low, high = units.support
    assert draws.min() >= low
    assert draws.max() <= high


@family(Step)
def test_steps_fit_a_source_as_they_fit_an_array(cls):
    X = np.random.default_rng(0).normal(3, 2, size=(2500, 5))
    one, other = cls().fit(X), cls().fit_source(ArraySource(X, Description("array")))
    for name in cls.fitted:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)
    np.testing.assert_allclose(one.transform(X), other.apply(X))
    assert other.n_outputs == one.transform(X).shape[1] == len(one.get_feature_names_out())
    assert set(cls.fitted) == {name for name in vars(one) if name.endswith("_") and name != "n_features_in_"}


@family(Step)
def test_inverse_is_a_right_inverse_where_there_is_one(cls):
    X = np.random.default_rng(0).normal(3, 2, size=(200, 5))
    step = cls().fit(X)
    if hasattr(step, "inverse_transform"):
        codes = step.transform(X)
        np.testing.assert_allclose(step.transform(step.inverse_transform(codes)), codes, atol=1e-12)


@family(Dataset)
def test_datasets_describe_themselves(cls, monkeypatch):
    # What is on this machine is opened; nothing is downloaded.
    on_disk = partial(sklearn.datasets.fetch_20newsgroups, download_if_missing=False)
    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", on_disk)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", Mock(side_effect=OSError("no download in a test")))
    try:
        source = cls().open()
    except InputError as error:
        if "not at hand" not in str(error):
            raise
        pytest.skip(str(error))
    rows = source.rows(slice(0, 3))
    assert rows.shape == (3, source.shape[1])
    assert rows.dtype == source.dtype
    assert source.description.name
    if source.description.kind == "image":
        assert np.prod(source.description.shape) == source.shape[1]
    assert source.fingerprint == cls().open().fingerprint
