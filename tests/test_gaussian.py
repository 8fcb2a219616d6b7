"""GaussianRBM: the machine against sums and integrals by the definition of its energy, and what training reaches."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import r2_score

import rarefire as rf
from enumeration import joint, machine, states
from rarefire.data.batch import Batch
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError, RunError
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.objectives.contrastive import ContrastiveDivergence
from rarefire.penalties import L1, L2, KLDivergence, MeanActivity, NoPenalty
from rarefire.random import Generator
from rarefire.schedules import Linear, Switch
from rarefire.units import Bernoulli, Gaussian

ROWS = np.random.default_rng(0).normal(size=(5, 2))
CD = ContrastiveDivergence(
    gibbs_steps=1,
    persistent=False,
    positive_hidden="mean",
    chain_hidden="sample",
    chain_visible="sample",
    negative_hidden="mean",
    penalty=NoPenalty(),
    weight_decay=NoPenalty(),
)
LEARNT = pytest.mark.parametrize("learnt", [False, True], ids=["unit variance", "learnt variance"])


def gaussian(learnt, n_visible=2, n_hidden=3, seed=0):
    rng = np.random.default_rng(seed)
    tensors = [torch.from_numpy(rng.normal(size=s)) for s in ((n_hidden, n_visible), n_hidden, n_visible)]
    log_variance = torch.from_numpy(rng.uniform(-0.8, 0.8, size=n_visible)) if learnt else None
    return BoltzmannMachine(*tensors, hidden=Bernoulli(), visible=Gaussian(), log_variance=log_variance)


def arrays(m):
    """W, b, a and σ² of a machine."""
    variance = np.ones(len(m.visible_bias)) if m.log_variance is None else np.exp(m.log_variance.numpy())
    return m.weight.numpy(), m.hidden_bias.numpy(), m.visible_bias.numpy(), variance


def energies(parameters, v, offsets=(0.0, 0.0)):
    """E(v, h) for rows of v and every h: Σ(v − a)²/2σ² − b·(h − λ) − (h − λ)·W(v − μ)/σ², (λ, μ) the offsets."""
    W, b, a, variance = parameters
    h = states(len(b)) - offsets[0]
    own = ((v - a) ** 2 / (2 * variance)).sum(axis=1)
    return own[:, None] - h @ b - ((v - offsets[1]) / variance) @ W.T @ h.T


def grid(parameters):
    """Points that cover all visible states, and the area of each; half a deviation apart, sums are integrals."""
    W, _, a, variance = parameters
    deviation = np.sqrt(variance)
    # Nine deviations beyond the means of all hidden states, and beyond what offsets add.
    reach = np.abs(W).sum(axis=0) + np.abs(a) + 9 * deviation
    axes = [np.arange(-r, r, s / 2) for r, s in zip(reach, deviation, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(a))
    return points, np.prod(deviation / 2)


def log_sum(x, axis):
    top = x.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=axis)) + top.squeeze(axis)


def log_likelihood(parameters, rows, offsets=(0.0, 0.0)):
    """Mean of ln P(v) over rows: summed over the hidden states, its normalising constant by integration."""
    points, area = grid(parameters)
    log_z = log_sum(log_sum(-energies(parameters, points, offsets), axis=1), axis=0) + np.log(area)
    return float(log_sum(-energies(parameters, rows, offsets), axis=1).mean() - log_z)


def differences(value_of, at, step=1e-4):
    """Central differences of fourth order."""
    g = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        values = []
        for k in (-2, -1, 1, 2):
            moved = at.copy()
            moved[index] += k * step
            values.append(value_of(moved))
        g[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return g


def derivatives(parameters, rows, offsets=(0.0, 0.0)):
    """Derivatives of the log-likelihood with respect to W, b, a and ln σ²."""
    out = []
    for i in range(4):

        def value(x, i=i):
            changed = [*parameters]
            changed[i] = np.exp(x) if i == 3 else x
            return log_likelihood(changed, rows, offsets)

        out.append(differences(value, np.log(parameters[i]) if i == 3 else parameters[i]))
    return out


# Energy, conditionals, free energies ------------------------------------------------------------------------------


@LEARNT
def test_energy_and_free_energy_by_definition(learnt):
    m = gaussian(learnt)
    expected = energies(arrays(m), ROWS)
    h = torch.from_numpy(states(3))
    got = [m.energy(torch.from_numpy(np.tile(row, (8, 1))), h).numpy() for row in ROWS]
    np.testing.assert_allclose(got, expected, atol=1e-12)
    np.testing.assert_allclose(m.free_energy(torch.from_numpy(ROWS)), -np.log(np.exp(-expected).sum(axis=1)))


@LEARNT
def test_free_energy_of_the_hidden_units_is_an_integral_over_the_visibles(learnt):
    m = gaussian(learnt)
    points, area = grid(arrays(m))
    integrals = np.exp(-energies(arrays(m), points)).sum(axis=0) * area
    np.testing.assert_allclose(m.hidden_free_energy(torch.from_numpy(states(3))), -np.log(integrals), rtol=1e-9)


@LEARNT
def test_conditionals_are_those_of_the_joint_density(learnt):
    m = gaussian(learnt)
    weights = np.exp(-energies(arrays(m), ROWS))
    hidden = weights / weights.sum(axis=1, keepdims=True) @ states(3)
    np.testing.assert_allclose(m.hidden_mean(torch.from_numpy(ROWS)), hidden, rtol=1e-12)
    points, _ = grid(arrays(m))
    density = np.exp(-energies(arrays(m), points))
    density /= density.sum(axis=0)
    means = density.T @ points
    np.testing.assert_allclose(m.visible_mean(torch.from_numpy(states(3))), means, rtol=1e-9)
    # Samples have that mean, and the variance of the density.
    n, generator = 100_000, Generator(0, "test")
    for h, mean, column in zip(states(3), means, density.T, strict=True):
        variance = column @ (points - mean) ** 2
        draws = m.visible.sample(m.visible_mean(torch.from_numpy(h).repeat(n, 1)), generator).numpy()
        assert (np.abs(draws.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / n)).all()
        assert (np.abs(draws.var(axis=0) / variance - 1) < 4.5 * np.sqrt(2 / n)).all()


@LEARNT
def test_one_visible_unit_is_a_mixture_of_normal_laws(learnt):
    """Σₕ P(h) N(a + Wᵀh, σ²): ln P(v) = −F(v) − ln Z, with Z = Σ exp(−Fₕ(h))."""
    m = gaussian(learnt, n_visible=1)
    W, b, a, variance = arrays(m)
    h, v = states(3), np.linspace(-3, 3, 7)[:, None]
    means = a + h @ W
    masses = np.exp(h @ b + ((means**2 - a**2) / (2 * variance))[:, 0])
    masses /= masses.sum()
    expected = (masses * np.exp(-((v - means.T) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)).sum(axis=1)
    log_z = torch.logsumexp(-m.hidden_free_energy(torch.from_numpy(h)), dim=0)
    np.testing.assert_allclose((-m.free_energy(torch.from_numpy(v)) - log_z).exp(), expected, rtol=1e-12)


# The gradient -----------------------------------------------------------------------------------------------------


def gradient_of_model_expectations(objective, m, rows, state, monkeypatch):
    """What the objective gives where the chains' visibles are distributed as the machine itself, by integration."""
    if isinstance(m.visible, Bernoulli):
        points, weights = states(len(m.visible_bias)), joint(m).sum(axis=1)
    else:
        points, _ = grid(arrays(m))
        log_density = log_sum(-energies(arrays(m), points), axis=1)
        weights = np.exp(log_density - log_density.max())
        weights /= weights.sum()
        kept = weights > 1e-12
        points, weights = points[kept], weights[kept]
    total: dict[str, np.ndarray] = {}
    for point, weight in zip(torch.from_numpy(points[:, None, :]), weights, strict=True):
        monkeypatch.setattr(
            "rarefire.objectives.contrastive.gibbs",
            lambda m, h, *_, point=point, **__: (point.expand(len(h), -1), m.hidden_mean(point.expand(len(h), -1))),
        )
        loss, after = objective.evaluate(m, Batch.of(torch.from_numpy(rows)), state, Generator(0, "test"))
        for name, gradient in loss.dense_grads(m.parameters).items():
            total[name] = total.get(name, 0) + weight * gradient.numpy()
    return total, after


@LEARNT
def test_with_exact_model_expectations_the_gradient_is_that_of_the_likelihood(learnt, monkeypatch):
    m = gaussian(learnt, seed=1)
    got, _ = gradient_of_model_expectations(CD, m, ROWS, {}, monkeypatch)
    expected = derivatives(arrays(m), ROWS)
    names = ["weight", "hidden_bias", "visible_bias", *(["log_variance"] if learnt else [])]
    assert set(got) == set(names)
    for name, exact in zip(names, expected, strict=False):
        # Contrastive divergence goes down.
        np.testing.assert_allclose(-got[name], exact, rtol=1e-6, atol=1e-8, err_msg=name)


@LEARNT
@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_the_centred_gradient_is_that_of_the_centred_machine_in_plain_biases(learnt, decay, monkeypatch):
    """A step in W, b', a' of the machine about offsets λ, μ moves b = b' − Wμ/σ² and a = a' − Wᵀλ by what is stated."""
    m, sliding = gaussian(learnt, seed=1), 0.25
    state = {
        "hidden_offset": torch.tensor([0.2, 0.5, 0.9]).double(),
        "visible_offset": torch.tensor([0.7, -0.4]).double(),
    }
    before = {name: value.clone() for name, value in state.items()}
    objective = dataclasses.replace(CD, centring=sliding, weight_decay=L2(decay))
    got, after = gradient_of_model_expectations(objective, m, ROWS, state, monkeypatch)

    mu = state["visible_offset"].numpy()
    lam = (1 - sliding) * state["hidden_offset"].numpy() + sliding * m.hidden_mean(torch.from_numpy(ROWS)).mean(
        0
    ).numpy()
    np.testing.assert_allclose(after["hidden_offset"], lam)
    np.testing.assert_array_equal(after["visible_offset"], mu)
    assert all(torch.equal(value, before[name]) for name, value in state.items())

    W, b, a, variance = arrays(m)
    centred = [W, b + W @ (mu / variance), a + W.T @ lam, variance]
    assert log_likelihood(centred, ROWS, (lam, mu)) == pytest.approx(log_likelihood(arrays(m), ROWS))
    dW, db, da, _ = derivatives(centred, ROWS, (lam, mu))
    dW = dW - decay * W
    np.testing.assert_allclose(-got["weight"], dW, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(-got["hidden_bias"], db - dW @ (mu / variance), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(-got["visible_bias"], da - dW.T @ lam, rtol=1e-6, atol=1e-8)
    if learnt:
        # The variance is followed with the plain biases held.
        np.testing.assert_allclose(-got["log_variance"], derivatives(arrays(m), ROWS)[3], rtol=1e-6, atol=1e-8)


def test_the_centred_gradient_of_a_binary_machine(monkeypatch):
    m, rows = machine(n_visible=3, n_hidden=2, seed=4), states(3)[[1, 3, 4, 7]]
    lam, mu = np.array([0.3, 0.8]), np.array([0.6, 0.1, 0.5])
    state = {"hidden_offset": torch.from_numpy(lam), "visible_offset": torch.from_numpy(mu)}
    got, _ = gradient_of_model_expectations(dataclasses.replace(CD, centring=0.0), m, rows, state, monkeypatch)
    W, b, a = (m.parameters[name].numpy() for name in ("weight", "hidden_bias", "visible_bias"))

    def likelihood(W, b, a):
        v, h = states(3) - mu, states(2) - lam
        log_weights = (v @ a)[:, None] + h @ b + v @ W.T @ h.T
        log_p = log_sum(log_weights, axis=1) - log_sum(log_weights.ravel(), axis=0)
        return float(log_p[rows.astype(int) @ [4, 2, 1]].mean())

    centred = [W, b + W @ mu, a + W.T @ lam]
    dW, db, da = (
        differences(lambda x, i=i: likelihood(*centred[:i], x, *centred[i + 1 :]), centred[i]) for i in range(3)
    )
    np.testing.assert_allclose(-got["weight"], dW, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(-got["hidden_bias"], db - dW @ mu, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(-got["visible_bias"], da - dW.T @ lam, rtol=1e-6, atol=1e-8)


@LEARNT
def test_noise_free_and_sampled_visibles_of_the_chain(learnt):
    m, n = gaussian(learnt, seed=1), 50_000
    W, b, a, variance = arrays(m)
    batch = Batch.of(torch.from_numpy(np.tile(ROWS[:1], (n, 1))))
    up = 1 / (1 + np.exp(-(W @ (ROWS[0] / variance) + b)))
    down = a + W.T @ up
    grads = {}
    for how in ("mean", "sample"):
        objective = dataclasses.replace(CD, chain_visible=how, chain_hidden="mean")
        grads[how] = objective.evaluate(m, batch, {}, Generator(0, "test"))[0].dense_grads(m.parameters)
    np.testing.assert_allclose(grads["mean"]["visible_bias"], (down - ROWS[0]) / variance, rtol=1e-9)
    again = 1 / (1 + np.exp(-(W @ (down / variance) + b)))
    np.testing.assert_allclose(grads["mean"]["hidden_bias"], again - up, rtol=1e-9)
    expected = np.outer(again, down / variance) - np.outer(up, ROWS[0] / variance)
    np.testing.assert_allclose(grads["mean"]["weight"], expected, rtol=1e-9)
    # A mean over n samples of variance σ² is off by about σ/√n, and by no less than nothing.
    gap = np.abs((grads["sample"]["visible_bias"] - grads["mean"]["visible_bias"]).numpy()) * np.sqrt(variance * n)
    assert ((gap > 1e-3) & (gap < 4.5)).all()
    if learnt:
        # ⟨(v − a)²⟩/2σ² of the samples is larger by ½.
        own = (grads["sample"]["log_variance"] + (m.weight * grads["sample"]["weight"]).sum(0)) - (
            grads["mean"]["log_variance"] + (m.weight * grads["mean"]["weight"]).sum(0)
        )
        np.testing.assert_allclose(own, 0.5, atol=0.05)


# What training reaches --------------------------------------------------------------------------------------------


def test_learnt_variances_are_those_of_the_source():
    """Two binary causes of two columns each, and noise of its own in every column: exactly a machine of two units."""
    rng = np.random.default_rng(0)
    deviation, loadings = np.array([0.5, 0.6, 0.8, 0.4]), np.array([[1.2, -1.5, 0, 0], [0, 0, 2.0, 1.0]])
    rows = (rng.random((4000, 2)) < [0.5, 0.3]) @ loadings + deviation * rng.normal(size=(4000, 4))
    rbm = rf.GaussianRBM(
        2, learn_variance=True, centring=0.01, init_visible="mean", init_scale=0.1, batch_size=100, random_state=0,
        learning_rate=Linear(0.05, 0.0, when=0.5), n_iter=150,
    ).fit(rows)  # fmt: skip
    np.testing.assert_allclose(np.sqrt(rbm.variance_), deviation, rtol=0.06)
    # Each unit takes one pair of columns, up to its sign.
    order = np.argsort(np.abs(rbm.components_[:, 2]))
    np.testing.assert_allclose(np.abs(rbm.components_[order]), np.abs(loadings), atol=0.12)
    # And rows are nearly as likely as under their own law: sums over the four states of the causes.
    fresh = (rng.random((4000, 2)) < [0.5, 0.3]) @ loadings + deviation * rng.normal(size=(4000, 4))
    masses = np.where(states(2) == 1, [0.5, 0.3], [0.5, 0.7]).prod(axis=1)
    squares = ((fresh[:, None] - states(2) @ loadings) / deviation) ** 2
    entropy = -np.log((masses * np.exp(-0.5 * squares.sum(axis=2))).sum(axis=1)).mean()
    entropy += np.log(deviation).sum() + 2 * np.log(2 * np.pi)
    m = rbm.fitted_model(torch.float64)
    log_z = torch.logsumexp(-m.hidden_free_energy(torch.from_numpy(states(2))), dim=0)
    assert -0.01 < float(m.free_energy(torch.from_numpy(fresh)).mean() + log_z) - entropy < 0.05


def test_offsets_of_a_fit_are_means_of_rows_and_of_hidden_units():
    rows = np.random.default_rng(1).normal(0.3, 1, size=(200, 6))
    common = {"n_components": 3, "batch_size": None, "random_state": 0, "init_scale": 1.0}
    start = rf.GaussianRBM(**common, n_iter=0, centring=0.1).fit(rows)
    np.testing.assert_allclose(start.visible_offset_, rows.mean(axis=0))
    np.testing.assert_array_equal(start.hidden_offset_, 0.5)
    one = rf.GaussianRBM(**common, n_iter=1, centring=0.1).fit(rows)
    np.testing.assert_allclose(one.hidden_offset_, 0.45 + 0.1 * start.transform(rows).mean(axis=0))
    np.testing.assert_allclose(one.visible_offset_, rows.mean(axis=0))
    held_out = rf.GaussianRBM(**common, n_iter=0, centring=0.1, validation_fraction=0.3).fit(rows)
    train = np.delete(rows, held_out.validation_indices_, axis=0)
    np.testing.assert_allclose(held_out.visible_offset_, train.mean(axis=0))


def patches(n, side=8):
    """Standardised patches of scikit-learn's two photographs."""
    rng, greys = np.random.default_rng(0), [image.mean(axis=2) for image in load_sample_images().images]
    rows = []
    for _ in range(n):
        grey = greys[rng.integers(len(greys))]
        y, x = (rng.integers(size - side + 1) for size in grey.shape)
        rows.append(grey[y : y + side, x : x + side].ravel())
    X = np.array(rows)
    return ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)


@pytest.mark.parametrize(("rate", "updates"), [(0.1, 35), (0.03, 89)])
def test_the_binary_machines_rates_diverge_and_the_message_says_what_is_stable(rate, updates):
    message = rf"diverged in epoch 1: .*learning_rate × active units was {rate:g} × 128 = .*below about 2"
    with pytest.raises(RunError, match=message):
        rf.GaussianRBM(learning_rate=rate, n_iter=1, random_state=0).fit(patches(10 * updates))


def test_the_message_of_a_later_epoch_counts_the_units_that_are_active():
    rows = patches(200)
    rbm = rf.GaussianRBM(learning_rate=Switch(0.003, 0.5, when=0.5), n_iter=10, random_state=0)
    before = rf.GaussianRBM(n_iter=5, random_state=0).fit(rows).history_[-1]["active_mean"]
    with pytest.raises(RunError, match=rf"active units was [\d.]+ × {before:.0f} = "):
        rbm.fit(rows)


def test_the_defaults_hold():
    assert rf.GaussianRBM().learning_rate == 0.003
    assert rf.GaussianRBM().n_components == 256
    rows = patches(1000)
    machine = rf.GaussianRBM(n_iter=3, random_state=0, validation_fraction=0.3).fit(rows)
    costs = [record["validation_cost_mean_field"] for record in machine.history_]
    # Half the squared error; half the variance, ½, is what no feature at all costs.
    assert max(costs) < 0.15


@LEARNT
def test_values_far_from_standardised_bring_one_warning_that_names_the_remedy(learnt):
    """Learnt variances are no remedy: they begin at 1 as well, and are far from where they should be for long."""
    rows = np.random.default_rng(0).normal(size=(30, 4))
    for factor in (0.01, 100.0):
        with pytest.warns(
            UserWarning, match=r"standard deviation of .* begin with 1; standardise.*Standardise"
        ) as caught:
            rf.GaussianRBM(2, n_iter=0, learn_variance=learnt).fit(factor * rows)
        assert len(caught) == 1


@pytest.mark.filterwarnings("error::UserWarning")
def test_no_warning_where_rows_are_standardised_or_all_alike():
    rf.GaussianRBM(2, n_iter=0).fit(np.random.default_rng(0).normal(size=(30, 4)))
    rf.GaussianRBM(2, n_iter=0).fit(np.full((5, 4), 7.0))


@LEARNT
def test_measures_are_those_of_scikit_learn(learnt):
    rows = np.random.default_rng(0).normal(size=(300, 5)) @ np.random.default_rng(1).normal(size=(5, 5)) / 2 + 0.5
    train, held_out = rows[:200], rows[200:]
    rbm = rf.GaussianRBM(
        20, n_iter=30, learning_rate=0.02, learn_variance=learnt, init_scale=0.3, init_visible="mean", random_state=0
    ).fit(train)
    sources = [ArraySource(part, Description("test")) for part in (train, held_out)]
    measured = {entry["name"]: entry["value"] for entry in rbm.measure(*sources)}
    reconstructed = rbm.reconstruct(train)
    r2 = r2_score(train, reconstructed, multioutput="variance_weighted")
    assert 0.1 < r2 < 1
    assert measured["explained_variance"] == pytest.approx(r2)
    residual = ((held_out - rbm.reconstruct(held_out)) ** 2).sum()
    spread = ((held_out - train.mean(axis=0)) ** 2).sum()
    assert measured["cv_explained_variance"] == pytest.approx(1 - residual / spread)
    assert measured["cost_mean_field"] == pytest.approx(0.5 * ((train - reconstructed) ** 2).mean())
    np.testing.assert_allclose(rbm.score_samples(train), -0.5 * ((train - reconstructed) ** 2).mean(axis=1))
    W, b, a, variance = arrays(rbm.fitted_model())
    np.testing.assert_allclose(reconstructed, a + 1 / (1 + np.exp(-(train / variance @ W.T + b))) @ W)


def test_visible_biases_may_begin_at_the_mean():
    rows = np.random.default_rng(0).normal(3, 1, size=(50, 4))
    np.testing.assert_array_equal(rf.GaussianRBM(2, n_iter=0).fit(rows).intercept_visible_, 0)
    started = rf.GaussianRBM(2, n_iter=0, init_visible="mean").fit(rows)
    np.testing.assert_allclose(started.intercept_visible_, rows.mean(axis=0))
    binary = (rows > 3).astype(float)
    rates = (binary.sum(axis=0) + 0.5) / 51
    started = rf.BernoulliRBM(2, n_iter=0, init_visible="mean").fit(binary)
    np.testing.assert_allclose(started.intercept_visible_, np.log(rates / (1 - rates)))


def test_samples_follow_the_machine():
    """Mean and variance of the mixture, by enumeration, with variances that differ."""
    rbm = rf.GaussianRBM(3, learn_variance=True, n_iter=0, random_state=0).fit(ROWS)
    for name, value in zip(
        ("components_", "intercept_hidden_", "intercept_visible_", "log_variance_"),
        (p.numpy() for p in gaussian(True, seed=5).parameters.values()),
        strict=True,
    ):
        setattr(rbm, name, value)
    m, n = rbm.fitted_model(), 20_000
    p = torch.softmax(-m.hidden_free_energy(torch.from_numpy(states(3))), dim=0).numpy()
    means = m.visible_mean(torch.from_numpy(states(3))).numpy()
    mean = p @ means
    variance = rbm.variance_ + p @ (means - mean) ** 2
    draws = rbm.sample(n, gibbs_steps=60)
    assert (np.abs(draws.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / n)).all()
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.06)
    stepped = rbm.gibbs(draws)
    assert stepped.dtype == np.float64
    np.testing.assert_allclose(stepped.var(axis=0), variance, rtol=0.06)


# Saving, going on -------------------------------------------------------------------------------------------------

DIGITS = load_digits().data[:300] / 6

EVERYTHING = {
    "n_components": 12,
    "n_iter": 6,
    "batch_size": 32,
    "learning_rate": Linear(0.02, 0.001),
    "momentum": Switch(0.5, 0.9),
    "persistent": True,
    "n_chains": 20,
    "gibbs_steps": 2,
    "positive_hidden": "sample",
    "negative_hidden": "sample",
    "penalty": KLDivergence(0.1, 0.1, averaging=0.9),
    "weight_decay": L1(0.01, proximal=True),
    "centring": 0.05,
    "averaging": 0.5,
    "learn_variance": True,
    "init_visible": "mean",
    "validation_fraction": 0.2,
    "random_state": 3,
}

FITTED = (
    "components_", "intercept_hidden_", "intercept_visible_", "log_variance_", "h_samples_", "running_mean_",
    "running_weight_", "hidden_offset_", "visible_offset_", "validation_indices_",
)  # fmt: skip


def assert_same(one, other):
    for name in FITTED:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.history_ == other.history_


@pytest.fixture(scope="module")
def everything():
    return rf.GaussianRBM(**EVERYTHING).fit(DIGITS)


def test_save_and_load_with_every_option(everything, tmp_path):
    everything.save(tmp_path / "run")
    other = rf.load(tmp_path / "run")
    assert other.get_params() == everything.get_params()
    assert_same(other, everything)
    np.testing.assert_array_equal(other.variance_, np.exp(everything.log_variance_))
    np.testing.assert_array_equal(other.transform(DIGITS), everything.transform(DIGITS))


@pytest.mark.parametrize("updates", [1, 7, 8, 29])
def test_interrupted_and_resumed_with_every_option_is_the_same_bit_for_bit(everything, tmp_path, monkeypatch, updates):
    """Eight updates an epoch: at the first, just before and at the end of an epoch, and in the fourth."""
    asked = iter(range(updates))

    @contextlib.contextmanager
    def stopped_after():
        yield lambda: next(asked, None) == updates - 1

    monkeypatch.setattr("rarefire.estimators.base.interruptible", stopped_after)
    rbm = rf.GaussianRBM(**EVERYTHING, checkpoint_dir=str(tmp_path / "run"))
    with pytest.raises(KeyboardInterrupt, match=f"stopped in epoch {(updates - 1) // 8 + 1} of 6"):
        rbm.fit(DIGITS)
    assert_same(rf.resume(tmp_path / "run", DIGITS), everything)


def test_partial_fit_goes_on_after_saving_with_every_option(tmp_path):
    whole = ("learning_rate", "momentum", "averaging", "validation_fraction")
    settings = {**{k: v for k, v in EVERYTHING.items() if k not in whole}, "learning_rate": 0.01, "momentum": 0.5}
    one = rf.GaussianRBM(**settings)
    for chunk in np.array_split(DIGITS[:90], 3):
        one.partial_fit(chunk)
    np.testing.assert_allclose(one.visible_offset_, DIGITS[:30].mean(axis=0))  # kept from the first call
    one.save(tmp_path / "run")
    other = rf.load(tmp_path / "run")
    for rbm in (one, other):
        rbm.partial_fit(DIGITS[90:120])
    assert_same(one, other)


def test_partial_fit_is_the_update_of_fit():
    settings = {"n_components": 4, "learning_rate": 0.01, "batch_size": None, "random_state": 0, "momentum": 0.5,
                "chain_visible": "mean", "chain_hidden": "mean", "learn_variance": True, "centring": 0.1,
                "penalty": MeanActivity(0.1)}  # fmt: skip
    once, step = rf.GaussianRBM(**settings, n_iter=3).fit(DIGITS), rf.GaussianRBM(**settings)
    for _ in range(3):
        step.partial_fit(DIGITS)
    # fit goes through the rows in another order, which changes sums in their last places alone.
    for name in ("components_", "intercept_hidden_", "intercept_visible_", "log_variance_", "hidden_offset_"):
        np.testing.assert_allclose(getattr(step, name), getattr(once, name), rtol=1e-9, atol=1e-12)


def test_arguments_that_were_changed_since_make_no_other_machine_of_the_fitted_one(tmp_path):
    for learnt in (False, True):
        rbm = rf.GaussianRBM(3, n_iter=1, learn_variance=learnt, random_state=0).fit(DIGITS)
        codes, variance = rbm.transform(DIGITS), rbm.variance_
        assert (variance == 1).all() == (not learnt)
        rbm.set_params(learn_variance=not learnt)
        np.testing.assert_array_equal(rbm.variance_, variance)
        for call in (rbm.transform, rbm.partial_fit, rbm.set_params(warm_start=True).fit):
            with pytest.raises(InputError, match=f"fitted with learn_variance={learnt}, which is {not learnt} now"):
                call(DIGITS)
        with pytest.raises(InputError, match="learn_variance"):
            rbm.save(tmp_path / "run")
        np.testing.assert_array_equal(rbm.set_params(learn_variance=learnt).transform(DIGITS), codes)
        # A fit that begins anew is another machine, and remembers no variances.
        rbm.set_params(learn_variance=not learnt, warm_start=False).fit(DIGITS)
        assert hasattr(rbm, "log_variance_") != learnt
        rbm.transform(DIGITS)


def test_arguments_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match=r"centring=1\.0 of GaussianRBM"):
        rf.GaussianRBM(3, centring=1.0).fit(DIGITS)
    rbm = rf.GaussianRBM(3, n_iter=1, random_state=0).fit(DIGITS).set_params(centring=0.1)
    with pytest.raises(InputError, match="hidden_offset_ is not fitted"):
        rbm.save(tmp_path / "run")


@LEARNT
def test_to_torch_is_the_same_function_and_has_gradients(learnt):
    rbm = rf.GaussianRBM(3, n_iter=3, learning_rate=0.02, learn_variance=learnt, random_state=0).fit(DIGITS)
    module, rows = rbm.to_torch(), torch.from_numpy(DIGITS[:5])
    codes = module(rows)
    np.testing.assert_allclose(codes.detach(), rbm.transform(DIGITS[:5]))
    np.testing.assert_allclose(module.decode(codes).detach(), rbm.reconstruct(DIGITS[:5]))
    codes.sum().backward()
    names = {"weight", "hidden_bias", "visible_bias"} | ({"log_variance"} if learnt else set())
    assert {name for name, _ in module.named_parameters()} == names
    assert all(getattr(module, name).grad.abs().sum() > 0 for name in names - {"visible_bias"})


def test_divergence_between_measurements_is_told_as_ever():
    rows = 30 * np.random.default_rng(0).standard_normal((60, 8))
    told = pytest.warns(UserWarning, match="values of the data")
    with told, pytest.raises(RunError, match=r"diverged in epoch \d+: .* lower learning_rate"):
        rf.GaussianRBM(5, learning_rate=5.0, n_iter=50, eval_every=7, random_state=0).fit(rows)
