"""Parallel tempering against enumeration, and where plain Gibbs sampling stays where it is."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from enumeration import joint, machine, states
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.random import Generator
from rarefire.sampling import gibbs
from rarefire.sampling.path import Path
from rarefire.sampling.tempering import Replicas, temper, tempered
from rarefire.units import Bernoulli
from test_annealing import at, exact_samples, path_of
from test_likelihood import gaussian_machine


def counts_of(v):
    n = v.shape[1]
    return np.bincount((v.double() @ torch.from_numpy(2.0 ** np.arange(n)[::-1])).long().numpy(), minlength=2**n)


def chi_square(v, m):
    expected = joint(m).sum(axis=1) * len(v)
    return ((counts_of(v) - expected) ** 2 / expected).sum()


def stationary(path, n_chains, betas, seed=0):
    """Replicas that are exact samples at their own temperatures."""
    v = torch.cat([exact_samples(at(path, float(beta)), n_chains, [seed, place]) for place, beta in enumerate(betas)])
    none = torch.zeros(len(betas) - 1, dtype=torch.float64)
    return Replicas(torch.as_tensor(betas).double(), v, 0, none, none)


def test_exchanges_leave_every_temperatures_distribution():
    """Far apart, so that many exchanges are refused; an exchange by another ratio would mix the distributions."""
    path, n = path_of(machine(3, 4, seed=3, scale=2.5)), 50_000
    replicas = temper(path, stationary(path, n, [0.0, 0.4, 1.0]), 3, Generator(0, "test"))
    assert (replicas.rates < 0.9).all()
    for place, beta in enumerate((0.0, 0.4, 1.0)):
        # 7 degrees of freedom, once in a thousand.
        assert chi_square(replicas.v[place * n : (place + 1) * n], at(path, beta)) < 24.3


def test_rates_are_those_of_the_enumerated_ratio():
    path, n, betas = path_of(machine(3, 4, seed=3, scale=2.5)), 50_000, (0.0, 0.4, 1.0)
    replicas = temper(path, stationary(path, n, betas), 2, Generator(0, "test"))
    np.testing.assert_array_equal(replicas.tried, [n, n])
    logs = [np.log(joint(at(path, beta)).sum(axis=1)) for beta in betas]
    for pair in (0, 1):
        low, high = logs[pair], logs[pair + 1]
        ratio = np.exp(low[None, :] + high[:, None] - low[:, None] - high[None, :])  # state below, state above
        expected = (np.exp(low)[:, None] * np.exp(high)[None, :] * np.minimum(1, ratio)).sum()
        assert float(replicas.rates[pair]) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / n))


def two_modes(tilt=0.1):
    """Eight visibles that want to be alike, through four hidden units: all off or all on; the energy of both is equal
    but for the tilt."""
    w = torch.full((4, 8), 3.0, dtype=torch.float64)
    bias = -w.sum(dim=0) / 2 + tilt
    return BoltzmannMachine(w, -w.sum(dim=1) / 2, bias, Bernoulli(), Bernoulli())


def test_tempering_crosses_between_modes_where_gibbs_sampling_does_not():
    m, n = two_modes(), 500
    p = joint(m).sum(axis=1)
    up = p[states(8).sum(axis=1) > 4].sum()
    assert 0.6 < up < 0.8
    assert p[0] + p[-1] > 0.97
    v, _ = gibbs(m, torch.zeros(n, 4, dtype=torch.float64), 300, Generator(0, "gibbs"))
    assert (v.sum(dim=1) > 4).double().mean() < 0.1
    path = Path(m, torch.zeros(8, dtype=torch.float64))
    replicas = tempered(path, n, 300, Generator(0, "test"), n_temperatures=6)
    share = (replicas.samples.sum(dim=1) > 4).double().mean()
    assert float(share) == pytest.approx(up, abs=4 * np.sqrt(up * (1 - up) / n))
    # A chain that was off a hundred sweeps ago is on about as often as any other.
    later = temper(path, replicas, 100, Generator(1, "test")).samples
    off = replicas.samples.sum(dim=1) < 4
    moved = (later[off].sum(dim=1) > 4).double().mean()
    assert float(moved) > 0.7 * up


def test_samples_have_the_enumerated_distribution():
    m = machine(4, 5, seed=8, scale=2.0)
    v = tempered(path_of(m), 20_000, 40, Generator(0, "test"), n_temperatures=5).samples
    expected = joint(m).sum(axis=1)
    assert 0.5 * np.abs(counts_of(v) / len(v) - expected).sum() < 0.015


def test_gaussian_visibles_are_tempered():
    m = gaussian_machine(3, 4, seed=3, scale=0.8)
    h, s2 = states(4), m.visible.variance.numpy()
    log_p = -m.hidden_free_energy(torch.from_numpy(h)).numpy()
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    means = m.visible_bias.numpy() + h @ m.weight.numpy()
    deviation = np.sqrt(s2 + p @ means**2 - (p @ means) ** 2)
    v = tempered(path_of(m), 10_000, 60, Generator(0, "test"), n_temperatures=8).samples.numpy()
    np.testing.assert_allclose((v.mean(axis=0) - p @ means) / deviation, 0, atol=0.045)
    np.testing.assert_allclose(v.std(axis=0) / deviation, 1, atol=0.04)


def test_state_goes_in_and_out():
    path = path_of(machine(4, 3, seed=1))
    start = Replicas.initial(path, 10, 4, Generator(0, "start"))
    before = start.v.clone()
    whole = temper(path, start, 7, Generator(1, "test"))
    generator = Generator(1, "test")
    parts = temper(path, temper(path, start, 3, generator), 4, generator)
    torch.testing.assert_close(parts.v, whole.v, rtol=0, atol=0)
    torch.testing.assert_close(parts.accepted, whole.accepted, rtol=0, atol=0)
    assert whole.step == 7
    np.testing.assert_array_equal(whole.tried, [40, 30, 40])
    torch.testing.assert_close(start.v, before, rtol=0, atol=0)
    assert not start.tried.any()


def test_respacing_evens_the_rates_out():
    # A machine whose units freeze late: evenly spaced neighbours are exchanged always or hardly ever.
    path = Path(two_modes(), torch.zeros(8, dtype=torch.float64))
    generator = Generator(0, "test")
    replicas = temper(path, Replicas.initial(path, 200, 8, generator), 200, generator)
    uneven = replicas.rates
    again = replicas.respaced()
    assert (again.betas[0], again.betas[-1]) == (0, 1)
    assert not again.tried.any()
    even = temper(path, again, 200, generator).rates
    assert float(even.max() - even.min()) < 0.5 * float(uneven.max() - uneven.min())
    assert float(even.min()) > float(uneven.min())
    fresh = Replicas.initial(path, 10, 8, generator)
    assert fresh.respaced() is fresh


def test_one_temperature_is_no_path():
    with pytest.raises(ValueError, match="at least 2"):
        Replicas.initial(path_of(machine()), 3, 1, Generator(0, "test"))


@pytest.mark.parametrize("n_chains", [1, 5])
def test_two_temperatures_are_exchanged_in_every_second_sweep(n_chains):
    path = path_of(machine(4, 3, seed=1))
    generator = Generator(0, "test")
    replicas = temper(path, Replicas.initial(path, n_chains, 2, generator), 5, generator)
    np.testing.assert_array_equal(replicas.tried, [3 * n_chains])
    assert replicas.step == 5
    # A sweep without exchanges is a Gibbs step at each temperature, and draws nothing else.
    v = replicas.v
    beta = replicas.betas.repeat_interleave(n_chains)[:, None]
    same, own = Generator(1, "test"), Generator(1, "test")
    after = temper(path, replicas, 1, same)
    torch.testing.assert_close(after.v, path.gibbs(path.machine.hidden_input(v), beta, own), rtol=0, atol=0)
    assert same.state() == own.state()


def test_new_temperatures_divide_the_rejections_evenly():
    """Between the old β the sum of rejections is a straight line, on which the new β lie at equal heights."""
    rates, betas = np.array([0.5, 1.0, 0.25, 0.0]), np.array([0.0, 0.1, 0.4, 0.8, 1.0])
    v = torch.zeros(10, 3).double()
    tried = torch.full((4,), 8.0).double()
    old = Replicas(torch.from_numpy(betas), v, 7, tried, tried * torch.from_numpy(rates))
    new = old.respaced()
    heights = np.interp(new.betas, betas, np.concatenate([[0.0], np.cumsum(1 - rates)]))
    # A pair that was never rejected counts as one that is rejected once in a thousand.
    np.testing.assert_allclose(heights, np.linspace(0, 2.25, 5), atol=2e-3)
    assert (np.diff(new.betas) > 0).all()
    assert (new.betas[0], new.betas[-1], new.step) == (0, 1, 7)
    assert new.v is v
    assert not new.tried.any()
    assert not new.accepted.any()
    # Where no pair was rejected, all are alike.
    free = Replicas(torch.linspace(0, 1, 5).double(), v, 0, tried, tried).respaced()
    np.testing.assert_allclose(free.betas, np.linspace(0, 1, 5))
    # One pair that was not tried says nothing yet.
    untried = tried.clone()
    untried[2] = 0
    unknown = Replicas(old.betas, v, 7, untried, untried)
    assert unknown.respaced() is unknown


def test_temperatures_move_after_the_first_and_the_second_quarter_of_the_sweeps():
    path = path_of(machine(4, 3, seed=1, scale=2.0))
    got = tempered(path, 6, 22, Generator(0, "test"), n_temperatures=3)
    generator = Generator(0, "test")
    replicas = Replicas.initial(path, 6, 3, generator)
    seen = [replicas.betas]
    for sweeps in (5, 5):
        replicas = temper(path, replicas, sweeps, generator).respaced()
        seen.append(replicas.betas)
    replicas = temper(path, replicas, 12, generator)
    assert not any(torch.equal(one, other) for one, other in pairwise(seen))
    assert got.step == 22
    torch.testing.assert_close(got.v, replicas.v, rtol=0, atol=0)
    torch.testing.assert_close(got.betas, seen[-1], rtol=0, atol=0)


def test_twenty_temperatures_where_none_are_asked_for():
    assert len(tempered(path_of(machine()), 2, 4, Generator(0, "test")).betas) == 20


def test_chains_begin_at_independent_samples_of_the_base_at_every_temperature():
    path = path_of(machine(3, 2, seed=1))
    replicas = Replicas.initial(path, 20_000, 4, Generator(0, "test"))
    np.testing.assert_allclose(replicas.betas, [0, 1 / 3, 2 / 3, 1])
    assert (replicas.step, replicas.v.shape) == (0, (80_000, 3))
    assert replicas.tried.tolist() == replicas.accepted.tolist() == [0, 0, 0]
    for place in range(4):
        assert chi_square(replicas.v[20_000 * place : 20_000 * (place + 1)], at(path, 0.0)) < 24.3
    torch.testing.assert_close(replicas.samples, replicas.v[60_000:], rtol=0, atol=0)
