"""Which units are like one another: in their weights, and in the rows on which they fire."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: Values of a block of cosines.
BLOCK_VALUES = 2**24


def directions(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Vectors of norm 1, of shape (n, m); zero where a vector is."""
    # By the largest value first: squares of very small values would be zero, of very large ones infinite.
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    scaled = np.divide(vectors, largest, out=np.zeros_like(vectors), where=largest > 0)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.divide(scaled, norms, out=scaled, where=norms > 0)


def most_alike(vectors: NDArray[np.floating], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    r"""For each vector the ``k`` others of largest cosine, :math:`a^\top b / (\|a\| \|b\|)`.

    Of vectors less their means this is Pearson's correlation.

    Parameters
    ----------
    vectors : ndarray of shape (n, m)
        One a row. The cosine with a vector of zeros is 0.
    k : int
        How many; fewer where there are fewer others.

    Returns
    -------
    index : ndarray of int of shape (n, k)
        Rows of ``vectors``, most alike first.
    cosine : ndarray of shape (n, k), float32

    Examples
    --------
    >>> index, cosine = most_alike(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]), 1)
    >>> index[:, 0].tolist(), [f"{value:.1f}" for value in cosine[:, 0]]
    ([1, 2, 1], ['0.6', '0.8', '0.8'])
    """
    n = len(vectors)
    k = min(k, n - 1)
    index, cosine = np.zeros((n, k), np.int64), np.zeros((n, k), np.float32)
    for here, cosines in _cosines(vectors, itself=-np.inf):
        # Not all of a row is sorted, for its length may be thousands.
        some = np.sort(np.argpartition(-cosines, min(k, n - 1), axis=1)[:, :k], axis=1)
        order = np.argsort(-np.take_along_axis(cosines, some, axis=1), axis=1, kind="stable")
        index[here] = np.take_along_axis(some, order, axis=1)
        cosine[here] = np.take_along_axis(cosines, index[here], axis=1)
    return index, cosine


def mutual_coherence(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    r"""For each vector the largest :math:`|a^\top b| / (\|a\| \|b\|)` over all others; 0 for one alone.

    The largest of them is what is called the mutual coherence of a dictionary: Donoho and Huo (2001), Uncertainty
    principles and ideal atomic decomposition.

    Examples
    --------
    >>> mutual_coherence(np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])).tolist()
    [1.0, 1.0, 0.0]
    """
    largest = np.zeros(len(vectors), np.float32)
    for here, cosines in _cosines(vectors, itself=0):
        largest[here] = np.abs(cosines).max(axis=1)
    return largest


def _cosines(vectors: NDArray[np.floating], itself: float) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Cosines of some vectors with all, a block of rows at a time; with itself a vector has what is given."""
    unit = directions(vectors)
    step = max(1, BLOCK_VALUES // len(unit))
    for start in range(0, len(unit), step):
        here = slice(start, start + step)
        # A product of unit vectors is 1 at the most, but for rounding.
        cosines = np.clip(unit[here] @ unit.T, -1, 1)
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = itself
        yield here, cosines


def share_together(active: NDArray[np.bool_], index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of the rows on which a unit is active, the share on which another is, too.

    Parameters
    ----------
    active : ndarray of bool of shape (n_units, n_rows)
    index : ndarray of int of shape (n_units, k)
        For each unit the others that are asked for.

    Returns
    -------
    share : ndarray of shape (n_units, k), float32
        Zero for a unit that is never active.
    """
    share = np.zeros(index.shape, np.float32)
    for unit, others in enumerate(index):
        if (rows := np.flatnonzero(active[unit])).size:
            share[unit] = active[np.ix_(others, rows)].mean(axis=1)
    return share
