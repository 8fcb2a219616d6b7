"""The pictures of lines, against counting by hand, closed forms and chi-square."""

from __future__ import annotations

from math import comb, log

import numpy as np
import pytest

from rarefire.data.synthetic import all_line_images, line_entropy, line_images
from rarefire.errors import InputError
from rarefire.random import Generator

PROBABILITIES = np.array([0.7, 0.21, 0.09])


def lines_in(images, side):
    """Which rows and which columns are full, read from the pixels."""
    pictures = images.reshape(-1, side, side)
    return pictures.all(axis=2), pictures.all(axis=1)


def test_every_sample_is_a_union_of_its_lines():
    images = line_images(2000, Generator(0, "test"))
    assert images.shape == (2000, 81)
    assert images.dtype == np.uint8
    rows, columns = lines_in(images, 9)
    np.testing.assert_array_equal(images.reshape(-1, 9, 9), rows[:, :, None] | columns[:, None, :])
    assert rows.sum(axis=1).max() == 2
    assert columns.sum(axis=1).max() == 2


def test_counts_and_positions_have_their_probabilities():
    n = 40000
    rows, columns = lines_in(line_images(n, Generator(1, "test")), 9)
    joint = np.zeros((3, 3))
    np.add.at(joint, (rows.sum(axis=1), columns.sum(axis=1)), 1)
    expected = n * np.outer(PROBABILITIES, PROBABILITIES)
    # 8 degrees of freedom: the 99.99th percentile of chi-square is 31.8; independence is part of it.
    assert ((joint - expected) ** 2 / expected).sum() < 31.8
    for lines in (rows, columns):
        single = lines[lines.sum(axis=1) == 1].sum(axis=0)
        # 8 degrees of freedom again.
        assert ((single - single.mean()) ** 2 / single.mean()).sum() < 31.8
        pairs = lines[lines.sum(axis=1) == 2].astype(int)
        together = (pairs.T @ pairs)[np.triu_indices(9, 1)]
        # 35 degrees of freedom: 74.9.
        assert ((together - together.mean()) ** 2 / together.mean()).sum() < 74.9


def test_same_seed_same_pictures():
    one, two, other = (line_images(100, Generator(seed, "test")) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


@pytest.mark.parametrize("side", [3, 4, 9])
def test_all_pictures_are_different_and_their_probabilities_are_right(side):
    images, probabilities = all_line_images(side)
    n = (1 + side + comb(side, 2)) ** 2
    assert images.shape == (n, side * side)
    assert len(np.unique(images, axis=0)) == n
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    rows, columns = (lines.sum(axis=1) for lines in lines_in(images, side))
    sets = np.array([1, side, comb(side, 2)])
    by_hand = (PROBABILITIES / sets)[rows] * (PROBABILITIES / sets)[columns]
    np.testing.assert_allclose(probabilities, by_hand, rtol=1e-12)


def test_there_are_2116_pictures_and_the_samples_are_among_them():
    images, _ = all_line_images()
    assert images.shape == (2116, 81)
    known = {image.tobytes() for image in images}
    assert all(image.tobytes() in known for image in line_images(500, Generator(0, "test")))


def test_entropy_is_the_closed_form():
    count = -sum(p * log(p) for p in PROBABILITIES)
    closed = 2 * (count + 0.21 * log(9) + 0.09 * log(comb(9, 2)))
    assert line_entropy() == pytest.approx(closed, abs=1e-12)
    assert round(line_entropy(), 3) == 3.156


def test_sides_too_small_are_refused():
    for call in (
        lambda: line_images(3, Generator(0, "test"), 2),
        lambda: all_line_images(2),
        lambda: line_entropy(1),
    ):
        with pytest.raises(InputError, match="at least 3"):
            call()
