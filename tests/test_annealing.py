"""Annealed importance sampling against enumeration and closed forms, in both directions."""

import dataclasses

import numpy as np
import pytest
import torch

from enumeration import joint, machine, states
from rarefire.metrics.likelihood import log_partition
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.random import Generator
from rarefire.sampling.annealing import _estimate, anneal, annealed, forward, inverse_temperatures, reverse
from rarefire.sampling.path import Path
from rarefire.sampling.tempering import tempered
from rarefire.units import Bernoulli, Gaussian
from test_likelihood import gaussian_log_partition, gaussian_machine


def path_of(m, seed=0):
    """From a base that is not the machine's own bias."""
    return Path(m, torch.from_numpy(np.random.default_rng(seed).normal(size=len(m.visible_bias))))


def at(path, beta):
    """The machine at β, written as one machine."""
    m = path.machine
    changed = {
        "weight": beta * m.weight,
        "hidden_bias": beta * m.hidden_bias,
        "visible_bias": beta * m.visible_bias + (1 - beta) * path.base,
    }
    return m.with_parameters({**m.parameters, **changed})


def exact_samples(m, n, seed):
    """Independent visibles of a machine with binary units, drawn from the enumerated distribution."""
    p = joint(m).sum(axis=1)
    drawn = np.random.default_rng(seed).choice(len(p), size=n, p=p / p.sum())
    return torch.from_numpy(states(len(m.visible_bias))[drawn])


@pytest.mark.parametrize("make", [machine, gaussian_machine])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_path_is_a_machine_at_every_temperature(make, beta):
    path = path_of(make(5, 4, seed=2))
    v = torch.from_numpy(np.random.default_rng(0).integers(0, 2, size=(7, 5)).astype(float))
    u = path.machine.hidden_input(v)
    there = at(path, beta)
    torch.testing.assert_close(path.free_energy(v, u, beta), there.free_energy(v))
    torch.testing.assert_close(path.free_energy(v, u, torch.full((7, 1), beta).double()), there.free_energy(v))
    if beta == 0:
        assert path.log_partition_base == pytest.approx(log_partition(there), abs=1e-12)


def test_free_energies_along_the_path_do_not_ask_which_law_hidden_units_have():
    """Real-valued hidden units of variance 1: Σ(v − a)²/2 − Σ[(z² − b²)/2 + ½ ln 2π], z = Wv + b, all at β."""
    path, beta = path_of(dataclasses.replace(gaussian_machine(5, 4, seed=2, learnt=False), hidden=Gaussian())), 0.3
    v = np.random.default_rng(0).normal(size=(7, 5))
    m = at(path, beta)
    w, b, a = m.weight.numpy(), m.hidden_bias.numpy(), m.visible_bias.numpy()
    z = v @ w.T + b
    expected = ((v - a) ** 2 / 2).sum(axis=1) - ((z**2 - b**2) / 2 + np.log(2 * np.pi) / 2).sum(axis=1)
    rows = torch.from_numpy(v)
    np.testing.assert_allclose(path.free_energy(rows, path.machine.hidden_input(rows), beta), expected)
    # At β = 0 nine independent normal laws.
    assert path.log_partition_base == pytest.approx(9 / 2 * np.log(2 * np.pi))


def test_gibbs_step_leaves_the_distribution_at_its_temperature():
    path, beta, n = path_of(machine(3, 4, seed=1, scale=2.0)), 0.7, 200_000
    v = exact_samples(at(path, beta), n, seed=0)
    v = path.gibbs(path.machine.hidden_input(v), beta, Generator(0, "test"))
    counts = np.bincount((v @ torch.tensor([4.0, 2.0, 1.0]).double()).long().numpy(), minlength=8)
    expected = joint(at(path, beta)).sum(axis=1) * n
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # 7 degrees of freedom, one in a thousand


def test_gaussian_gibbs_step_has_the_moments_at_its_temperature():
    path, beta, n = path_of(gaussian_machine(3, 2, seed=1)), 0.6, 200_000
    m = at(path, beta)
    h, s2 = states(2), m.visible.variance.numpy()
    means = m.visible_bias.numpy() + h @ m.weight.numpy()
    log_p = -m.hidden_free_energy(torch.from_numpy(h)).numpy()
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    rng = np.random.default_rng(0)
    v = torch.from_numpy(means[rng.choice(4, size=n, p=p)] + np.sqrt(s2) * rng.normal(size=(n, 3)))
    v = path.gibbs(path.machine.hidden_input(v), beta, Generator(0, "test")).numpy()
    variance = s2 + p @ means**2 - (p @ means) ** 2
    np.testing.assert_allclose(v.mean(axis=0), p @ means, atol=4 * np.sqrt(variance.max() / n))
    np.testing.assert_allclose(v.var(axis=0), variance, rtol=0.03)


def test_two_temperatures_are_importance_sampling():
    """The weights' expectation over the base, state by state, is Z over Z at the base; and the other way round."""
    path = path_of(machine(4, 3, seed=5, scale=2.0))
    v = torch.from_numpy(states(4))
    weights = anneal(path, v, [0.0, 1.0], Generator(0, "test")).exp().numpy()
    ratio = np.exp(log_partition(path.machine) - path.log_partition_base)
    assert joint(at(path, 0.0)).sum(axis=1) @ weights == pytest.approx(ratio, rel=1e-12)
    assert joint(path.machine).sum(axis=1) @ (1 / weights) == pytest.approx(1 / ratio, rel=1e-12)


def z_scores(estimates, exact):
    return np.array([(one.value - z) / one.standard_error for one, z in zip(estimates, exact, strict=True)])


def check_calibration(scores):
    assert (np.abs(scores) <= 3).mean() >= 0.98
    # Neither a standard error that is too large to be exceeded, nor one that is too small.
    assert 0.8 < scores.std() < 1.2
    assert abs(scores.mean()) < 4 / np.sqrt(len(scores))


def test_errors_of_200_machines_are_those_that_the_standard_error_says():
    machines = [machine(8, 1 + seed % 20, seed) for seed in range(200)]
    exact = [log_partition(m) for m in machines]
    up = [forward(path_of(m), 30, 100, Generator(seed, "forward")) for seed, m in enumerate(machines)]
    check_calibration(z_scores(up, exact))


def test_errors_of_reverse_runs_from_exact_samples():
    machines = [machine(7, 1 + seed % 6, seed) for seed in range(100)]
    exact = [log_partition(m) for m in machines]
    down = [
        reverse(path_of(m), 40, exact_samples(m, 100, seed), Generator(seed, "reverse"))
        for seed, m in enumerate(machines)
    ]
    check_calibration(z_scores(down, exact))


@pytest.mark.slow
@pytest.mark.parametrize("learnt", [False, True])
def test_gaussian_machines_in_both_directions(learnt):
    machines = [gaussian_machine(4, 5, seed, learnt=learnt) for seed in range(60)]
    exact = [gaussian_log_partition(m) for m in machines]
    estimates = [annealed(path_of(m), [100], 100, seed, n_sweeps=40)[0] for seed, m in enumerate(machines)]
    for scores in (z_scores(estimates, exact), z_scores([one.reverse for one in estimates], exact)):
        assert np.abs(scores).max() < 4
        assert 0.6 < scores.std() < 1.4


def test_few_temperatures_err_to_either_side_and_many_to_none():
    """Forward estimates rise towards ln Z, reverse ones fall, so that their gap tells how far to trust either."""
    machines = [machine(10, 8, seed, scale=3.0) for seed in range(10)]
    exact = np.array([log_partition(m) for m in machines])
    found = [annealed(path_of(m), [3, 20, 300], 10, seed, n_sweeps=100) for seed, m in enumerate(machines)]
    up, down = (
        np.array([[side(one).value for one in row] for row in found]).mean(axis=0) - exact.mean()
        for side in (lambda one: one, lambda one: one.reverse)
    )
    assert up[0] < -1
    assert up[0] < up[1] < 0.1
    assert abs(up[2]) < 0.1
    assert down[0] > 1
    assert down[0] > down[1] > -0.1
    assert abs(down[2]) < 0.1
    spreads = np.array([[one.spread for one in row] for row in found])
    assert (np.diff(spreads.mean(axis=0)) < 0).all()


def test_nothing_to_estimate_without_weights():
    """Along a path that only moves biases the weights vary little; along one that moves nothing, not at all."""
    bias = torch.tensor([3000.0, -2000.0, 5.0]).double()
    none = torch.zeros(4, 3).double()
    m = BoltzmannMachine(none, none[:, 0], bias, Bernoulli(), Bernoulli())
    one = forward(Path(m, bias), 10, 50, Generator(0, "test"))
    exact = 4 * np.log(2) + 3000 + np.log1p(np.exp(5.0))
    assert one.value == pytest.approx(exact, rel=1e-14)
    assert (one.standard_error, one.spread) == (0, 0)
    assert one.effective_runs == pytest.approx(50)


def test_estimates_from_log_weights_out_of_range():
    log_weights = torch.log(torch.tensor([1.0, 2.0, 3.0, 6.0]).double()) + 5000
    one = _estimate(log_weights, 7.0, 1, 10)
    assert one.value == pytest.approx(5007 + np.log(3), abs=1e-9)
    assert one.standard_error == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 3 / 2, abs=1e-9)
    assert one.effective_runs == pytest.approx(144 / 50)
    assert one.spread == pytest.approx(np.log([1, 2, 3, 6]).std(ddof=1))
    assert _estimate(-log_weights, 7.0, -1, 10).value == pytest.approx(5007 - np.log((1 + 1 / 2 + 1 / 3 + 1 / 6) / 4))


def test_single_precision_finds_the_same():
    m = machine(40, 12, seed=0, scale=0.5)
    single = m.with_parameters({name: value.float() for name, value in m.parameters.items()})
    one = forward(Path(single, torch.zeros(40)), 2000, 100, Generator(0, "test"))
    assert one.value == pytest.approx(log_partition(m), abs=3 * one.standard_error)
    assert one.standard_error < 0.02


def test_likelihood_from_ln_z():
    path = path_of(machine(5, 4))
    z = annealed(path, [20], 10, 0, n_sweeps=4)[0]
    likelihood = z.log_likelihood(2.0)
    assert likelihood.value == -2.0 - z.value
    assert likelihood.reverse.value == -2.0 - z.reverse.value
    assert likelihood.gap == pytest.approx(-z.gap)
    assert likelihood.standard_error == z.standard_error


def test_streams_of_the_two_directions_are_independent():
    path = path_of(machine(5, 4))
    with_reverse, without = (annealed(path, [20], 10, 0, n_sweeps=n)[0] for n in (4, 0))
    assert without.reverse is None
    assert with_reverse.value == without.value
    assert (with_reverse.swap_rate, without.swap_rate) == (None, None)
    mix = Generator(0, "annealing", "tempering")
    assert with_reverse.reverse.swap_rate == tempered(path, 10, 4, mix).rates.nan_to_num().min()
    assert with_reverse.reverse.value != annealed(path, [20], 10, 0, n_sweeps=5)[0].reverse.value


def test_temperatures_run_from_one_end_to_the_other():
    betas = inverse_temperatures(15)
    assert (betas[0], betas[-1], len(betas)) == (0.0, 1.0, 15)
    assert (np.diff(betas) > 0).all()


def test_the_last_temperature_of_a_run_is_weighed_and_not_sampled():
    path = path_of(machine(4, 3, seed=5))
    v = torch.from_numpy(states(4))
    generator, own = Generator(0, "test"), Generator(0, "test")
    weights = anneal(path, v, [0.0, 0.4, 1.0], generator)
    moved = path.gibbs(path.machine.hidden_input(v), 0.4, own)
    assert generator.state() == own.state()
    expected = at(path, 0.0).free_energy(v) - at(path, 0.4).free_energy(v)
    expected += at(path, 0.4).free_energy(moved) - at(path, 1.0).free_energy(moved)
    torch.testing.assert_close(weights, expected)


def test_a_pair_of_temperatures_that_was_never_exchanged_counts_as_always_rejected():
    one = annealed(path_of(machine(5, 4)), [5], 3, 0, n_sweeps=1, n_replicas=3)[0]
    assert one.reverse.swap_rate == 0


def test_the_tempering_that_is_meant_by_default(monkeypatch):
    asked = []

    def shorter(path, n_chains, n_sweeps, generator, *, n_temperatures):
        asked.append((n_chains, n_sweeps, n_temperatures))
        return tempered(path, n_chains, 4, generator, n_temperatures=3)

    monkeypatch.setattr("rarefire.sampling.annealing.tempered", shorter)
    annealed(path_of(machine(3, 2)), [3], 2, 0)
    assert asked == [(2, 2000, 20)]
