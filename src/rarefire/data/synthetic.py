"""Made data: pictures of random horizontal and vertical lines (source 002), and all there can be; bars and stripes."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import torch
from numpy.typing import NDArray

from rarefire.errors import InputError
from rarefire.random import Generator

LINE_COUNTS = (0.7, 0.21, 0.09)
"""Probability of no, one and two lines in one direction; a third, "vanishingly small", is left out."""


def line_images(n_samples: int, generator: Generator, side: int = 9) -> NDArray[np.uint8]:
    """Pictures of full rows and columns of pixels, drawn independently in the two directions.

    In each direction there are no, one or two lines with the probabilities of ``LINE_COUNTS``, at distinct
    positions, all sets of positions alike.

    Parameters
    ----------
    n_samples : int
        How many pictures.
    generator : Generator
        Where the randomness comes from.
    side : int
        Height and width in pixels, at least 3.

    Returns
    -------
    ndarray of shape (n_samples, side * side), uint8
        1 on a line and 0 elsewhere, row-major.

    Raises
    ------
    InputError
        If ``side`` is below 3.
    """
    _check_side(side)
    count_draws = generator.uniform((n_samples, 2, 1), torch.float64).numpy()
    counts = (count_draws >= LINE_COUNTS[0]).astype(np.int64) + (count_draws >= LINE_COUNTS[0] + LINE_COUNTS[1])
    # The first places of a random order are distinct and uniform.
    keys = generator.uniform((n_samples, 2, side), torch.float64).numpy()
    places = keys.argsort(axis=2).argsort(axis=2)
    on = places < counts
    return _draw(on[:, 0], on[:, 1])


def all_line_images(side: int = 9) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Every picture that :func:`line_images` can draw, with its probability.

    There is one for each pair of sets of positions: (1 + side + side (side - 1) / 2)**2, which is 2,116 for a
    side of 9. No two are the same picture: with three pixels a side or more, two columns never fill a row,
    so a row is full exactly where a horizontal line lies, and likewise for columns.

    Returns
    -------
    images : ndarray of shape (n_images, side * side), uint8
        1 on a line and 0 elsewhere, row-major.
    probabilities : ndarray of shape (n_images,), float64
        They add up to 1.

    Raises
    ------
    InputError
        If ``side`` is below 3.
    """
    _check_side(side)
    sets, weights = [], []
    for count, probability in enumerate(LINE_COUNTS):
        chosen = list(combinations(range(side), count))
        sets += [np.isin(np.arange(side), positions) for positions in chosen]
        weights += [probability / len(chosen)] * len(chosen)
    pairs = np.array(list(product(range(len(sets)), repeat=2)))
    one = np.array(sets)
    probability_of = np.array(weights)
    return (
        _draw(one[pairs[:, 0]], one[pairs[:, 1]]),
        probability_of[pairs[:, 0]] * probability_of[pairs[:, 1]],
    )


def line_entropy(side: int = 9) -> float:
    """Entropy of the pictures in nats, -Σ p ln p: 3.156 for a side of 9.

    No model's expected -ln p(picture) is lower; the cost of reconstructing a picture is another quantity.

    Raises
    ------
    InputError
        If ``side`` is below 3.
    """
    _, probabilities = all_line_images(side)
    return float(-(probabilities * np.log(probabilities)).sum())


def bars_and_stripes(side: int = 3) -> NDArray[np.uint8]:
    """Pictures of full rows only, every choice of them, then of full columns only: 2 · 2**side rows, in fixed order.

    The empty and the full picture stand on both lists, and are counted twice: for a side of 3 there are 16 rows of 14
    pictures, and no model gives the rows a log-likelihood above 12 ln(1/16) + 4 ln(2/16) = −41.59 nats in total.
    Over the 14 pictures, once each, the bound is −14 ln 14 = −36.95.

    Returns
    -------
    ndarray of shape (2 * 2**side, side * side), uint8
        1 on a line and 0 elsewhere, row-major.

    Raises
    ------
    InputError
        If ``side`` is below 2, where rows are columns, or above 12.

    Source: MacKay (2003), Information theory, inference, and learning algorithms, section 43.1.
    """
    if not 2 <= side <= 12:
        raise InputError(f"bars and stripes have a side of 2 to 12 pixels, and {side} was given")
    chosen = np.array(list(product([False, True], repeat=side)))
    none = np.zeros_like(chosen)
    return np.concatenate([_draw(chosen, none), _draw(none, chosen)])


def _draw(rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> NDArray[np.uint8]:
    pictures = rows[:, :, None] | columns[:, None, :]
    return pictures.reshape(len(pictures), -1).astype(np.uint8)


def _check_side(side: int) -> None:
    if side < 3:
        raise InputError(f"pictures of lines need a side of at least 3 pixels, and {side} was given")
