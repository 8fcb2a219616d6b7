"""The sampler's stationary distribution against the enumerated one."""

import dataclasses

import numpy as np
import pytest
import torch

from enumeration import joint, machine, states
from rarefire.random import Generator
from rarefire.sampling import gibbs, half_step
from rarefire.sampling.annealing import Estimate
from rarefire.sampling.path import Path
from rarefire.sampling.tempering import Replicas


def test_stationary_distribution_is_the_machines_own():
    m = machine(n_visible=3, n_hidden=2, seed=1)
    n = 200_000
    v, mean = gibbs(m, torch.zeros(n, 2, dtype=torch.float64), 60, Generator(0, "test"))
    h = half_step(m.hidden, mean, "sample", Generator(1, "test"))
    index = (v @ torch.tensor([4.0, 2.0, 1.0], dtype=v.dtype)) * 4 + h @ torch.tensor([2.0, 1.0], dtype=v.dtype)
    counts = np.bincount(index.long().numpy(), minlength=32)
    expected = joint(m).ravel() * n
    # Chi-square with 31 degrees of freedom: 61.1 is exceeded once in a thousand.
    assert ((counts - expected) ** 2 / expected).sum() < 61.1


def test_one_step_from_the_exact_distribution_stays_there():
    m = machine(n_visible=3, n_hidden=2, seed=4, scale=2.0)
    n = 200_000
    p_h = joint(m).sum(axis=0)
    rng = np.random.default_rng(0)
    h = torch.from_numpy(states(2)[rng.choice(4, size=n, p=p_h)])
    v, _ = gibbs(m, h, 1, Generator(0, "test"))
    counts = np.bincount((v @ torch.tensor([4.0, 2.0, 1.0], dtype=v.dtype)).long().numpy(), minlength=8)
    expected = joint(m).sum(axis=1) * n
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # 7 degrees of freedom, one in a thousand


def test_mean_half_steps_draw_nothing():
    m = machine()
    h = torch.rand(5, 3, dtype=torch.float64)
    generator = Generator(0, "test")
    before = generator.state()
    v, mean = gibbs(m, h, 3, generator, visible="mean", hidden="mean")
    assert generator.state() == before
    expected = h
    for _ in range(3):
        x = m.visible_mean(expected)
        expected = m.hidden_mean(x)
    torch.testing.assert_close(v, x)
    torch.testing.assert_close(mean, expected)


def test_what_goes_in_and_out_of_a_sampler_does_not_change():
    path = Path(machine(), torch.zeros(4).double())
    for record in (path, Replicas.initial(path, 2, 3, Generator(0, "test")), Estimate(1.0, 0.1)):
        for field in dataclasses.fields(record):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(record, field.name, None)
