"""Contracts that every member of a family keeps; a new member joins by existing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import rarefire as rf
from rarefire.component import Component, find, from_spec, label, members, to_spec
from rarefire.data.datasets import Dataset
from rarefire.estimators.base import SparseLearner
from rarefire.penalties import ActivityPenalty, NoPenalty, Penalty, WeightPenalty
from rarefire.preprocess import Step
from rarefire.random import Generator
from rarefire.recipes import Recipe, load_all
from rarefire.schedules import Schedule
from rarefire.types import Pass
from rarefire.units import Units

load_all()
_ = rf.BernoulliRBM


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


@pytest.mark.parametrize("base", [Penalty, Schedule, Units, Step, SparseLearner, Dataset, Recipe])
def test_every_member_is_found_by_its_name(base):
    for cls in members(base):
        assert find(base, label(cls)) is cls
        assert find(base, label(cls).upper()) is cls
        assert cls.__doc__


def passes(n=5, m=4):
    """Passes of machine units, away from saturation."""
    generator = Generator(3, "test")
    weight = generator.normal((m, 6), torch.float64)
    x = generator.uniform((n, 6), torch.float64)
    return weight, x


@family(ActivityPenalty)
def test_gradient_of_activity_penalties(cls):
    units = find(Units, "Bernoulli")()
    weight, x = passes()

    def look(pre):
        return Pass(x, pre, units.mean, units.slope, (0.0, 1.0), lambda h: h @ weight, (weight,))

    variants = [cls()]
    if hasattr(cls, "scales"):
        variants = [cls(target=0.3, strength=2.0, scale=scale) for scale in cls.scales]
    for penalty in variants:
        pre = x @ weight.T
        _, exact = penalty.evaluate(look(pre))
        numeric = central_differences(lambda z, penalty=penalty: penalty.evaluate(look(z))[0], pre, 1e-4)
        if cls is NoPenalty:
            assert not exact.any()
            assert not numeric.any()
        else:
            assert relative_gap(exact, numeric) < 1e-8


@family(WeightPenalty)
def test_gradient_of_weight_penalties(cls):
    weight, _ = passes()
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
    from rarefire.data.source import ArraySource, Description

    X = np.random.default_rng(0).normal(3, 2, size=(2500, 5))
    one, other = cls().fit(X), cls().fit_source(ArraySource(X, Description("array")))
    for name in cls.fitted:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)
    np.testing.assert_allclose(one.transform(X), other.apply(X))
    assert set(cls.fitted) == {name for name in vars(one) if name.endswith("_") and name != "n_features_in_"}


@family(Step)
def test_inverse_is_a_right_inverse_where_there_is_one(cls):
    X = np.random.default_rng(0).normal(3, 2, size=(200, 5))
    step = cls().fit(X)
    if hasattr(step, "inverse_transform"):
        codes = step.transform(X)
        np.testing.assert_allclose(step.transform(step.inverse_transform(codes)), codes, atol=1e-12)


@family(Dataset)
def test_datasets_describe_themselves(cls):
    if label(cls) in ("mnist",):
        pytest.skip("needs a file or a network; tests/test_datasets.py opens it where it is")
    source = cls().open()
    rows = source.rows(slice(0, 3))
    assert rows.shape == (3, source.shape[1])
    assert rows.dtype == source.dtype
    assert source.description.name
    if source.description.kind == "image":
        assert np.prod(source.description.shape) == source.shape[1]
    assert source.fingerprint == cls().open().fingerprint
