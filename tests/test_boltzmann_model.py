"""Energy, conditionals and free energy against sums over every state."""

import numpy as np
import torch

from enumeration import energies, joint, machine, states


def test_energy_of_all_pairs():
    m = machine()
    v, h = states(4), states(3)
    got = np.array([m.energy(torch.from_numpy(np.tile(x, (8, 1))), torch.from_numpy(h)).numpy() for x in v])
    np.testing.assert_allclose(got, energies(m), atol=1e-12)


def test_free_energy_is_minus_log_sum_over_hidden_states():
    for seed in range(5):
        m = machine(seed=seed, scale=2.0)
        expected = -np.log(np.exp(-energies(m)).sum(axis=1))
        np.testing.assert_allclose(m.free_energy(torch.from_numpy(states(4))).numpy(), expected, atol=1e-12)


def test_conditionals_are_those_of_the_joint_distribution():
    m = machine(seed=3)
    p = joint(m)
    hidden = (p / p.sum(axis=1, keepdims=True)) @ states(3)
    visible = (p / p.sum(axis=0)).T @ states(4)
    np.testing.assert_allclose(m.hidden_mean(torch.from_numpy(states(4))).numpy(), hidden, atol=1e-12)
    np.testing.assert_allclose(m.visible_mean(torch.from_numpy(states(3))).numpy(), visible, atol=1e-12)


def test_log_pseudo_likelihood_from_the_enumerated_distribution():
    from rarefire.metrics.likelihood import log_pseudo_likelihood

    m = machine(seed=5)
    p = joint(m).sum(axis=1)
    v = states(4)
    expected = []
    for row in v:
        total = 0.0
        for i in range(4):
            flipped = row.copy()
            flipped[i] = 1 - flipped[i]
            here, there = (p[int(s @ [8, 4, 2, 1])] for s in (row, flipped))
            total += np.log(here / (here + there))
        expected.append(total)
    np.testing.assert_allclose(log_pseudo_likelihood(m, torch.from_numpy(v)).numpy(), expected, atol=1e-12)


def test_log_pseudo_likelihood_does_not_depend_on_the_block_size(monkeypatch):
    from rarefire.metrics import likelihood

    m, v = machine(n_visible=7, n_hidden=5), torch.rand(6, 7, dtype=torch.float64)
    whole = likelihood.log_pseudo_likelihood(m, v)
    monkeypatch.setattr(likelihood, "_BLOCK", 60)
    torch.testing.assert_close(likelihood.log_pseudo_likelihood(m, v), whole)
