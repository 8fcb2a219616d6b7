"""The partition function by summing over states, and likelihoods of fitted machines, against sums written out here."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

import rarefire as rf
from enumeration import energies, joint, machine, states
from rarefire.data.synthetic import bars_and_stripes
from rarefire.errors import InputError
from rarefire.metrics import likelihood
from rarefire.metrics.likelihood import log_partition
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.schedules import Linear
from rarefire.units import Bernoulli, Gaussian


def gaussian_machine(n_visible=5, n_hidden=4, seed=0, scale=0.5, learnt=True):
    rng = np.random.default_rng(seed)
    tensors = [torch.from_numpy(scale * rng.normal(size=s)) for s in ((n_hidden, n_visible), n_hidden, n_visible)]
    log_variance = torch.from_numpy(rng.normal(size=n_visible)) if learnt else None
    return BoltzmannMachine(*tensors, Bernoulli(), Gaussian(), log_variance=log_variance)


def gaussian_log_partition(m):
    """Σₕ exp(b·h) Πᵢ ∫ exp[−(v − aᵢ)²/2σᵢ² + v cᵢ/σᵢ²] dv, c = Wᵀh: each integral is √2πσ² exp[(ac + c²/2)/σ²]."""
    w, b, a = m.weight.numpy(), m.hidden_bias.numpy(), m.visible_bias.numpy()
    s2 = np.ones_like(a) if m.log_variance is None else np.exp(m.log_variance.numpy())
    h = states(len(b))
    c = h @ w
    return logsumexp(h @ b + ((a * c + c**2 / 2) / s2 + 0.5 * np.log(2 * np.pi * s2)).sum(axis=1))


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(4, 3), (3, 6), (5, 5), (1, 1)])
def test_sum_over_either_layer_is_the_sum_over_all_pairs(n_visible, n_hidden):
    for seed in range(5):
        m = machine(n_visible, n_hidden, seed, scale=2.0)
        assert log_partition(m) == pytest.approx(logsumexp(-energies(m)), abs=1e-10)


@pytest.mark.parametrize("learnt", [False, True])
def test_gaussian_visibles_are_integrated_out(learnt):
    for seed in range(5):
        m = gaussian_machine(seed=seed, learnt=learnt)
        assert log_partition(m) == pytest.approx(gaussian_log_partition(m), abs=1e-10)


def test_gaussian_closed_form_is_the_integral():
    m = gaussian_machine(n_visible=2, n_hidden=3, seed=1)
    grid = np.linspace(-30, 30, 601)
    v = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    w, b, a, s2 = m.weight.numpy(), m.hidden_bias.numpy(), m.visible_bias.numpy(), np.exp(m.log_variance.numpy())
    densities = [-((v - a) ** 2 / (2 * s2)).sum(axis=1) + y @ b + (v / s2) @ w.T @ y for y in states(3)]
    assert gaussian_log_partition(m) == pytest.approx(logsumexp(densities) + 2 * np.log(0.1), abs=1e-6)


def test_sum_in_blocks_is_the_sum(monkeypatch):
    m = machine(9, 7, seed=3)
    whole = log_partition(m)
    monkeypatch.setattr(likelihood, "_BLOCK", 45)  # five states at a time, of 128
    assert log_partition(m) == pytest.approx(whole, abs=1e-12)


def test_sum_is_in_double_precision_and_does_not_overflow():
    m = machine(6, 5, seed=2, scale=300.0)
    single = m.with_parameters({name: value.float() for name, value in m.parameters.items()})
    exact = m.with_parameters({name: value.float().double() for name, value in m.parameters.items()})
    assert log_partition(m) > 710  # where exp overflows
    assert log_partition(single) == pytest.approx(logsumexp(-energies(exact)), rel=1e-13)


def test_turning_a_unit_around_moves_ln_z_by_its_bias():
    m = machine(6, 5, seed=7, scale=2.0)
    w, b, a = m.weight.clone(), m.hidden_bias + m.weight[:, 2], m.visible_bias.clone()
    w[:, 2] *= -1
    a[2] *= -1
    turned = m.with_parameters({"weight": w, "hidden_bias": b, "visible_bias": a})
    assert log_partition(turned) == pytest.approx(log_partition(m) - float(m.visible_bias[2]), abs=1e-10)


def test_layers_too_large_to_sum_over():
    with pytest.raises(InputError, match=r"2\^26 states of the smaller layer.*annealed importance sampling"):
        log_partition(machine(30, 26))
    with pytest.raises(InputError, match=r"2\^26 states of the hidden layer"):
        log_partition(gaussian_machine(n_visible=3, n_hidden=26))


def test_bars_and_stripes_as_counted():
    rows = bars_and_stripes(3)
    assert rows.shape == (16, 9)
    pictures, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(pictures) == 14
    twice = pictures[counts == 2]
    np.testing.assert_array_equal(sorted(twice.sum(axis=1)), [0, 9])
    for picture in pictures.reshape(-1, 3, 3):
        assert (picture == picture[:, :1]).all() or (picture == picture[:1]).all()
    assert (counts * np.log(counts / 16)).sum() == pytest.approx(-41.59, abs=5e-3)
    assert 14 * np.log(1 / 14) == pytest.approx(-36.95, abs=5e-3)
    assert len(np.unique(bars_and_stripes(4), axis=0)) == 30
    with pytest.raises(InputError, match="side of 2 to 12"):
        bars_and_stripes(1)


def test_machine_learns_bars_and_stripes():
    """Near the bound of −41.59 nats, and not past it; pixels drawn on their own would have −99.8."""
    rows = bars_and_stripes(3).astype(float)
    rate = Linear(0.3, 0.0, when=0.5)
    settings = {"learning_rate": rate, "batch_size": 16, "gibbs_steps": 5, "n_chains": 500, "centring": 0.01}
    rbm = rf.BernoulliRBM(n_components=16, n_iter=1500, random_state=0, device="cpu", **settings).fit(rows)
    total = 16 * rbm.log_likelihood(rows, method="exact").value
    assert -45 < total < -41.588


@pytest.fixture(scope="module")
def fitted():
    rows = (np.random.default_rng(0).random((60, 6)) < [0.9, 0.5, 0.5, 0.2, 0.2, 0.1]).astype(float)
    rows[:, 1] = rows[:, 2]
    rbm = rf.BernoulliRBM(n_components=5, n_iter=40, learning_rate=0.3, random_state=0, device="cpu").fit(rows)
    return rbm, rows


def test_log_likelihood_is_the_enumerated_one(fitted):
    rbm, rows = fitted
    p = np.log(joint(rbm.fitted_model()).sum(axis=1))
    expected = p[(rows @ 2 ** np.arange(6)[::-1]).astype(int)].mean()
    exact = rbm.log_likelihood(rows)
    assert exact.value == pytest.approx(expected, abs=1e-10)
    assert (exact.standard_error, exact.reverse, exact.gap) == (0.0, None, None)
    annealed = rbm.log_likelihood(rows, method="ais", n_temperatures=200, n_runs=200, n_sweeps=100)
    assert annealed.value == pytest.approx(expected, abs=4 * annealed.standard_error)
    assert annealed.reverse.value == pytest.approx(expected, abs=4 * annealed.reverse.standard_error)
    assert 0 < annealed.standard_error < 0.1
    assert annealed.gap == annealed.value - annealed.reverse.value


def test_one_partition_serves_several_parts(fitted):
    rbm, rows = fitted
    z = rbm.log_partition(rows, method="ais", n_temperatures=50, n_runs=20, reverse=False)
    assert z.reverse is None
    assert z.n_temperatures == 50
    halves = [rbm.log_likelihood(part, z).value for part in (rows[:30], rows[30:])]
    assert np.mean(halves) == pytest.approx(rbm.log_likelihood(rows, z).value, abs=1e-12)
    assert rbm.log_likelihood(rows, z).value == pytest.approx(-rbm.free_energy(rows).mean() - z.value)


def test_estimates_are_fixed_by_their_seed_and_disturb_no_stream(fitted):
    rbm, rows = fitted
    options = {"method": "ais", "n_temperatures": 20, "n_runs": 10, "n_sweeps": 5}
    one = rbm.log_partition(rows, **options)
    rbm.gibbs(rows)
    assert rbm.log_partition(rows, **options) == one
    assert rbm.log_partition(rows, **options, random_state=1) != one
    assert rbm.log_partition(**options) != one  # the path begins at the chains' means
    before = rbm.fit(rows).gibbs(rows)
    rbm.fit(rows).log_partition(**options)
    np.testing.assert_array_equal(rbm.gibbs(rows), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "guess"}, "method='guess' must be one of"),
        ({"n_runs": 1}, "n_runs=1 must be a whole number of at least 2"),
        ({"n_temperatures": 1}, "n_temperatures=1 must be"),
        ({"n_sweeps": 0}, "n_sweeps=0 must be"),
    ],
)
def test_options_that_are_refused(fitted, options, message):
    rbm, rows = fitted
    with pytest.raises(InputError, match=message):
        rbm.log_partition(rows, **options)


def test_rows_and_options_of_a_likelihood_that_are_refused(fitted):
    rbm, rows = fitted
    with pytest.raises(InputError, match="other than 0 and 1"):
        rbm.log_likelihood(rows * 0.5)
    with pytest.raises(InputError, match="n_runs would change nothing"):
        rbm.log_likelihood(rows, rbm.log_partition(), n_runs=3)


def test_tempered_samples_of_a_fitted_machine(fitted):
    rbm, rows = fitted
    v = rbm.sample(4000, gibbs_steps=40, n_temperatures=5)
    assert v.shape == (4000, 6)
    counts = np.bincount((v @ 2 ** np.arange(6)[::-1]).astype(int), minlength=64)
    expected = 4000 * joint(rbm.fitted_model()).sum(axis=1)
    common = expected > 5
    # At most 63 degrees of freedom, of which 110 is exceeded once in five thousand times.
    assert ((counts - expected) ** 2 / expected)[common].sum() < 110
    with pytest.raises(InputError, match="not both"):
        rbm.sample(60, init=rows, n_temperatures=5)
    with pytest.raises(InputError, match="n_temperatures=1 must be"):
        rbm.sample(n_temperatures=1)
