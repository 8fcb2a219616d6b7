"""How well a score predicts labels: average precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def average_precision(scores: ArrayLike, labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average precision of one score for many labels, Σₖ (Rₖ − Rₖ₋₁) Pₖ over the score's distinct values.

    Pₖ and Rₖ are precision and recall of the rows whose score is at least the k-th largest value, so that rows of equal
    scores count together: most codes of a sparse unit are zero. A score that says nothing has a label's share of rows.

    Parameters
    ----------
    scores : array-like of shape (n_rows,)
        One unit's codes.
    labels : ndarray of bool of shape (n_rows, n_labels)
        Which rows have which label.

    Returns
    -------
    ndarray of shape (n_labels,)
        NaN for a label that no row has.
    """
    scores = np.asarray(scores)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))
    hits = np.cumsum(labels[order], axis=0)[ends].astype(np.float64)
    precision = hits / (ends + 1)[:, None]
    with np.errstate(invalid="ignore"):
        recall = hits / hits[-1]
    return (np.diff(recall, axis=0, prepend=0.0) * precision).sum(axis=0)
