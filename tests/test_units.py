"""Laws of units against SciPy's distributions, with the variance that contract tests leave at one."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from rarefire.random import Generator
from rarefire.units import Bernoulli, Gaussian, Units, bernoulli_cost, smoothed_log_odds

VARIANCE = np.array([0.3, 1.0, 2.5])
MEANS = np.array([-1.2, 0.4, 2.0])
BIAS = np.array([0.7, -0.5, 0.2])


@pytest.mark.parametrize("variance", [None, VARIANCE], ids=["unit variance", "own variance"])
def test_real_values_have_the_density_that_energy_and_log_partition_say(variance):
    """ln P(s | z) = t(s)·(z − b) − e(s, b) − ln Σₛ …, for every bias alike."""
    units = Gaussian(None if variance is None else torch.from_numpy(variance))
    s = np.linspace(-3, 3, 21).reshape(7, 3)
    states, z, b = torch.from_numpy(s), torch.from_numpy(MEANS), torch.from_numpy(BIAS)
    log_density = units.statistic(states) * (z - b) - units.energy(states, b) - units.log_partition(z, b)
    deviation = 1.0 if variance is None else np.sqrt(variance)
    np.testing.assert_allclose(log_density, scipy.stats.norm.logpdf(s, MEANS, deviation), rtol=1e-12)
    # And without the constant: at a unit's own bias as input, the energy is that of its distance from there.
    np.testing.assert_allclose(
        units.energy(states, b) + units.log_partition(b, b),
        -scipy.stats.norm.logpdf(s, BIAS, deviation),
        rtol=1e-12,
    )


@pytest.mark.parametrize("variance", [None, VARIANCE], ids=["unit variance", "own variance"])
def test_samples_of_real_values_are_normal_about_their_means(variance):
    units, n = Gaussian(None if variance is None else torch.from_numpy(variance)), 50_000
    draws = units.sample(torch.from_numpy(MEANS).expand(n, 3), Generator(0, "test")).numpy()
    deviation = np.ones(3) if variance is None else np.sqrt(variance)
    for i in range(3):
        # The largest gap between the two distribution functions; more than this once in ten thousand.
        assert scipy.stats.kstest(draws[:, i], scipy.stats.norm(MEANS[i], deviation[i]).cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.02


def test_the_cost_of_binary_values_is_minus_their_log_probability_however_sure():
    z = torch.tensor([[-800.0, -3.0, 0.0, 0.5, 800.0]]).double()
    p = scipy.special.expit(z.numpy())
    for s in (0.0, 1.0):
        expected = -scipy.special.log_expit((2 * s - 1) * z.numpy())
        np.testing.assert_allclose(bernoulli_cost(torch.full_like(z, s), z), expected, rtol=1e-12)
        np.testing.assert_allclose(Bernoulli().cost(torch.full_like(z, s), z), expected, rtol=1e-12)
    inner = slice(1, 4)
    expected = -(0.3 * np.log(p[:, inner]) + 0.7 * np.log(1 - p[:, inner]))
    np.testing.assert_allclose(bernoulli_cost(torch.full_like(z, 0.3), z)[:, inner], expected, rtol=1e-12)


def test_binary_units_have_bernoullis_law():
    z, b = torch.linspace(-4, 4, 9).double(), torch.linspace(1, -1, 9).double()
    units, p = Bernoulli(), scipy.special.expit(np.linspace(-4, 4, 9))
    np.testing.assert_allclose(units.mean(z), p)
    np.testing.assert_allclose(units.slope(z, units.mean(z)), scipy.stats.bernoulli(p).var())
    for s in (0.0, 1.0):
        state = torch.full_like(z, s)
        log_p = units.statistic(state) * (z - b) - units.energy(state, b) - units.log_partition(z, b)
        np.testing.assert_allclose(log_p, scipy.stats.bernoulli(p).logpmf(s))
    assert (units.binary, Gaussian().binary) == (True, False)
    # By it rates are σ(gz); real values have none.
    assert (units.rate_gain, Gaussian().rate_gain) == (1.0, None)
    assert Gaussian().support == (-np.inf, np.inf)


def test_the_cost_of_real_values_is_half_their_squared_distance_whatever_the_variance():
    s, z = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[0.0, 1.0, 0.5]])
    for units in (Gaussian(), Gaussian(torch.from_numpy(VARIANCE))):
        torch.testing.assert_close(units.cost(s, z), torch.tensor([[0.5, 4.5, 0.0]]))


def test_log_odds_of_sums_that_rounding_carried_past_their_ends_are_those_at_the_ends():
    total = torch.tensor([-0.2, 0.0, 3.0, 10.0, 10.4]).double()
    exact = scipy.special.logit(np.array([0.5, 0.5, 3.5, 10.5, 10.5]) / 11)
    np.testing.assert_allclose(smoothed_log_odds(total, 10), exact, rtol=1e-12)


LAW = {name: method for name, method in vars(Bernoulli).items() if inspect.isfunction(method)}


@pytest.mark.parametrize("missing", LAW)
def test_a_law_that_leaves_something_out_is_none(missing):
    type("_Whole", (Units,), LAW)()
    with pytest.raises(TypeError, match=missing):
        type("_Part", (Units,), {name: method for name, method in LAW.items() if name != missing})()
