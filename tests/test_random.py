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


def test_bernoulli_draws_compare_with_each_number_of_24_bits_once(monkeypatch):
    """Of all bits that a row and an entry can have, P(1) is p rounded up to a multiple of 2**-24."""
    generator = Generator(0, "test")
    own = np.tile(np.arange(2**16, dtype=np.uint16), (2**8, 1)).view(np.uint64)
    words = np.hstack([own, np.arange(2**8, dtype=np.uint64)[:, None]])
    monkeypatch.setattr(generator, "_words", lambda n_rows, n: words)
    for dtype in (torch.float32, torch.float64):
        for k in (0, 1, 255, 256, 257, 2**23, 2**24 - 1, 2**24):
            p = torch.full((2**8, 2**16), k / 2**24, dtype=dtype)
            assert generator.bernoulli(p).sum(dtype=torch.float64) == k


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 4), (7, 5), (7, 2, 3), (7, 0)])
def test_rows_are_drawn_together_or_one_after_the_other(shape):
    p = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    one, other = Generator(4, "test"), Generator(4, "test")
    drawn = one.bernoulli(p)
    assert drawn.shape == p.shape
    assert torch.equal(drawn, torch.cat([other.bernoulli(part) for part in (p[:3], p[3:3], p[3:4], p[4:])]))
    assert one.state() == other.state()


@pytest.mark.parametrize("p", [2.0**-20, 1e-5, 0.3, 1 - 2.0**-18])
def test_bernoulli_draws_have_their_probability_and_do_not_depend_on_each_other(p):
    """Among 500,000 rows of 500 entries, ones, and pairs of ones in a row or a column, are as many as should be."""
    n, width = 500_000, 500
    generator = Generator(2, "test")
    drawn = [generator.bernoulli(torch.full((10_000, width), p)) for _ in range(n // 10_000)]
    rows = torch.cat([some.sum(dim=1, dtype=torch.float64) for some in drawn]).numpy()
    columns = torch.stack([some.sum(dim=0, dtype=torch.float64) for some in drawn]).sum(dim=0).numpy()
    assert stats.binomtest(int(rows.sum()), width * n, p).pvalue > 1e-3
    for counts, trials in ((rows, width), (columns, n)):
        # A sum of independent binomial counts' squared deviations has this mean and variance.
        m2 = trials * p * (1 - p)
        m4 = m2 * (1 + 3 * (trials - 2) * p * (1 - p))
        deviation = ((counts - trials * p) ** 2).sum() - len(counts) * m2
        assert abs(deviation) < 4 * (len(counts) * (m4 - m2**2)) ** 0.5


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_bernoulli_at_the_ends(p):
    assert (Generator(0, "test").bernoulli(torch.full((10_000,), p)) == p).all()


def test_state_is_json_and_restores_the_stream():
    generator = Generator(3, "test")
    generator.uniform((5,), torch.float32)
    generator.bernoulli(torch.full((3,), 0.5))
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
