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
from rarefire.data.datasets import Dataset
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError
from rarefire.estimators.base import SparseLearner
from rarefire.losses import ReconstructionLoss
from rarefire.penalties import ActivityPenalty, NoPenalty, Penalty, WeightPenalty
from rarefire.preprocess import Step
from rarefire.random import Generator
from rarefire.recipes import Recipe, load_all
from rarefire.schedules import Schedule
from rarefire.types import Pass
from rarefire.units import Units

load_all()
_ = rf.BernoulliRBM, rf.SparseAutoencoder


def family(base):
    found = list(members(base))
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


@family(ActivityPenalty)
def test_gradient_of_activity_penalties_on_every_activation_and_unit_that_they_fit(cls):
    weight, x = weight_and_rows()
    layers = [(f(), f().slope, f().range, f().rate_gain, f().points()) for f in members(Activation)]
    for units in (units() for units in members(Units)):
        bounds = units.support if all(map(np.isfinite, units.support)) else None
        layers.append((units.mean, units.slope, bounds, units.rate_gain, torch.linspace(-3, 3, 80)))
    fitting = [layer for layer in layers if not cls.misfit(layer[2])]
    assert fitting
    for f, slope, bounds, gain, points in fitting:
        order = torch.from_numpy(Generator(1, "points").permutation(len(points))[:20])
        pre = points[order].to(torch.float64).reshape(5, 4)

        def look(z, f=f, slope=slope, bounds=bounds, gain=gain):
            return Pass(x, z, f, slope, bounds, lambda h: h @ weight, (weight,), rate_gain=gain)

        for penalty in variants_of(cls):
            assert gap_of_penalty(penalty, pre, look) < 1e-8, (penalty, f)


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
    for penalty in (penalty() for penalty in members(ActivityPenalty) if not penalty.misfit(cls.range)):
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


@family(WeightPenalty)
def test_gradient_of_weight_penalties(cls):
    weight, _ = weight_and_rows()
    penalty = cls()
    numeric = central_differences(lambda w: penalty.value([w]), weight, 1e-4)
    exact = penalty.gradient(weight)
    if cls is NoPenalty:
        assert not exact.any()
    else:
        assert relative_gap(exact, numeric) < 1e-8
        two = penalty.value([weight, 2 * weight])
        assert two == pytest.approx(float(penalty.value([weight]) + penalty.value([2 * weight])))


@family(Units)
def test_units_are_of_the_exponential_family(cls):
    units, z = cls(), torch.linspace(-3, 3, 13, dtype=torch.float64)
    mean = units.mean(z)
    # The mean is the derivative of the log partition, its slope the second derivative.
    first = central_differences(lambda t: units.log_partition(t).sum(), z, 1e-3)
    assert relative_gap(first, mean) < 1e-8
    second = central_differences(lambda t: units.mean(t).sum(), z, 1e-3)
    assert relative_gap(second, units.slope(z, mean)) < 1e-8


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
