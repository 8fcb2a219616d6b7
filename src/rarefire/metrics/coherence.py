"""Whether the words of a feature belong together: how often they are in the same documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def top_words(components: NDArray[np.floating], n: int = 10) -> NDArray[np.int64]:
    """The columns of the largest weights of each unit, largest first; of equal ones the first column.

    Parameters
    ----------
    components : ndarray of shape (n_units, n_features)
        Weights; negative ones are the smallest.
    n : int
        How many columns.

    Returns
    -------
    ndarray of shape (n_units, n), int64

    Raises
    ------
    ValueError
        If there are not so many columns, or ``n`` is below 1.

    Examples
    --------
    >>> top_words(np.array([[0.1, -3.0, 2.0], [5.0, 6.0, 5.0]]), 2).tolist()
    [[2, 0], [1, 0]]
    """
    if not 1 <= n <= components.shape[1]:
        raise ValueError(f"n={n} must be between 1 and the number of columns, {components.shape[1]}")
    return np.argsort(-np.asarray(components), axis=1, kind="stable")[:, :n]


def npmi(top: NDArray[np.integer[Any]], X: Any) -> NDArray[np.float64]:
    r"""Mean normalised pointwise mutual information of the pairs of each unit's words.

    With :math:`p(i)` the share of documents that have word i, and :math:`p(i, j)` of those that have both,

    .. math:: \operatorname{npmi}(i, j) = \frac{\ln \frac{p(i, j)}{p(i) p(j)}}{-\ln p(i, j)}

    is 1 for words that are always together, 0 for independent ones, and -1 for those that never meet, where it is
    the limit. Two words that are both in every document are independent too, and count 0.

    Parameters
    ----------
    top : ndarray of int of shape (n_units, n_words)
        Columns of ``X``, those of one unit in a row, as :func:`top_words` gives them.
    X : csr_array of shape (n_documents, n_features)
        Not zero where a document has a word.

    Returns
    -------
    ndarray of shape (n_units,), float64
        The mean over a unit's pairs. A word that no document has cannot be judged: pairs with it are left out,
        and where that leaves none the mean is NaN.

    Raises
    ------
    ValueError
        If a unit has fewer than two words, the same word twice, or one that is no column of ``X``; if ``X`` has
        no documents.

    Notes
    -----
    Sources: Bouma (2009), Normalized (pointwise) mutual information in collocation extraction; Lau, Newman and
    Baldwin (2014), Machine reading tea leaves, who judge topics by its mean over pairs of their top words. They
    count in a sliding window over a reference corpus; here a whole document is the window.

    Examples
    --------
    The first two words are always together, the last two are in two documents each and in one together:

    >>> X = sp.csr_array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    >>> npmi(np.array([[0, 1], [0, 2], [0, 3]]), X).tolist()
    [1.0, 0.0, -1.0]
    """
    top, X = np.asarray(top), sp.csr_array(X)
    if top.ndim != 2 or top.shape[1] < 2:
        raise ValueError(f"top has the shape {top.shape}; give at least two words for each unit, a unit in a row")
    if X.shape[0] == 0:
        raise ValueError("X has no documents, so there is nothing to count")
    if top.size and (top.min() < 0 or top.max() >= X.shape[1]):
        raise ValueError(
            f"top names columns from {top.min()} to {top.max()}, but X has those from 0 to {X.shape[1] - 1}"
        )
    if (np.diff(np.sort(top, axis=1), axis=1) == 0).any():
        raise ValueError("top names a word twice for one unit; name each once")
    # Only the columns asked for, and as wide integers: bytes could not count documents.
    used, place = np.unique(top, return_inverse=True)
    present = (X[:, used] != 0).astype(np.int64).tocsc()
    first, second = np.triu_indices(top.shape[1], 1)
    means = np.full(len(top), np.nan)
    for unit, words in enumerate(place.reshape(top.shape)):
        columns = present[:, words]
        together = (columns.T @ columns).toarray()
        alone = together.diagonal()
        i, j = first[alone[first] * alone[second] > 0], second[alone[first] * alone[second] > 0]
        if len(i):
            means[unit] = _npmi(together[i, j], alone[i], alone[j], X.shape[0]).mean()
    return means


def _npmi(
    together: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64], n: int
) -> NDArray[np.float64]:
    values = np.where(together == 0, -1.0, 0.0)
    meet = (together > 0) & (together < n)
    # Counts rather than shares under the logarithm, so that 1 and 0 come out as they are.
    both, one, other = together[meet].astype(np.float64), first[meet], second[meet]
    values[meet] = np.log(both * n / (one.astype(np.float64) * other)) / np.log(n / both)
    return values
