"""Which units are like one another: in their weights, and in the rows on which they fire."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Values of a block of cosines.
BLOCK_VALUES = 2**24


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
    >>> index[:, 0].tolist(), cosine[:, 0].round(2).tolist()
    ([1, 2, 1], [0.6000000238418579, 0.800000011920929, 0.800000011920929])
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norms, out=np.zeros(vectors.shape, np.float32), where=norms > 0, casting="same_kind")
    n = len(unit)
    k = min(k, n - 1)
    index, cosine = np.zeros((n, k), np.int64), np.zeros((n, k), np.float32)
    step = max(1, BLOCK_VALUES // n)
    for start in range(0, n, step):
        products = unit[start : start + step] @ unit.T
        here = np.arange(len(products))
        products[here, start + here] = -np.inf
        # Not all of a row is sorted, for k of thousands.
        some = np.sort(np.argpartition(-products, min(k, n - 1), axis=1)[:, :k], axis=1)
        order = np.argsort(-np.take_along_axis(products, some, axis=1), axis=1, kind="stable")
        chosen = np.take_along_axis(some, order, axis=1)
        index[start : start + step] = chosen
        # A product of unit vectors is 1 at the most, but for rounding.
        cosine[start : start + step] = np.clip(np.take_along_axis(products, chosen, axis=1), -1, 1)
    return index, cosine


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
