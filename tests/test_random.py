"""Generators: laws, reproducibility, state as JSON."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from rarefire.random import Generator, integer_seed


def test_uniform_numbers_are_uniform():
    u = Generator(0, "test").uniform((200_000,), torch.float64).numpy()
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert u.min() >= 0
    assert u.max() < 1


def test_normal_numbers_are_normal():
    z = Generator(0, "test").normal((100_000,), torch.float64).numpy()
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_neighbouring_bits_are_independent():
    """Both halves of each 64-bit word are used; neither repeats the other."""
    u = Generator(1, "test").uniform((100_000, 2), torch.float64).numpy()
    table = np.histogram2d(u[:, 0], u[:, 1], bins=8)[0]
    assert stats.chisquare(table.ravel()).pvalue > 1e-3


def test_draws_are_the_same_in_both_types():
    one, two = (Generator(5, "test").uniform((7, 3), dtype) for dtype in (torch.float32, torch.float64))
    assert torch.equal(one.double(), two)
    p = torch.full((1000,), 0.3)
    assert torch.equal(Generator(5, "a").bernoulli(p).double(), Generator(5, "a").bernoulli(p.double()))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_bernoulli_at_the_ends(p):
    assert (Generator(0, "test").bernoulli(torch.full((10_000,), p)) == p).all()


def test_state_is_json_and_restores_the_stream():
    generator = Generator(3, "test")
    generator.uniform((5,), torch.float32)
    generator.permutation(10)
    state = json.loads(json.dumps(generator.state()))
    expected = generator.uniform((9,), torch.float32), generator.permutation(20), generator.normal((3,), torch.float32)
    other = Generator(99, "other")
    other.set_state(state)
    got = other.uniform((9,), torch.float32), other.permutation(20), other.normal((3,), torch.float32)
    assert torch.equal(expected[0], got[0])
    np.testing.assert_array_equal(expected[1], got[1])
    assert torch.equal(expected[2], got[2])


def test_purposes_and_seeds_give_different_streams():
    streams = [Generator(0, "a"), Generator(0, "b"), Generator(1, "a"), Generator(0, "a", 1)]
    draws = [tuple(stream.uniform((4,), torch.float64).tolist()) for stream in streams]
    assert len(set(draws)) == 4


def test_nothing_global_is_touched():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (what is tested)
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    Generator(0, "x").uniform((10,), torch.float32)
    assert torch.rand(1) == expected[0]
    assert np.random.rand() == expected[1]  # noqa: NPY002


def test_integer_seed():
    assert integer_seed(7) == 7
    assert integer_seed(np.int64(7)) == 7
    assert integer_seed(None) != integer_seed(None)
    state = np.random.RandomState(0)
    assert integer_seed(state) != integer_seed(state)
    assert integer_seed(np.random.RandomState(0)) == integer_seed(np.random.RandomState(0))
