"""Mean, variance and covariance of the columns of a source, a batch at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rarefire.data.source import Source


class Moments:
    """Mean and second moment of each column by Chan's update, stable for any offset of the data.

    All values are taken relative to the first row, so that a constant column has exactly its value as mean, and
    a variance of exactly zero.

    Parameters
    ----------
    source : Source
        The rows.
    joint : bool
        Whether the second moment is that of all pairs of columns.

    Attributes
    ----------
    mean : ndarray of shape (n_features,), float64
        Of each column.
    variance : ndarray of shape (n_features,), or (n_features, n_features) with ``joint``; float64
        The mean square about the mean, divided by the number of rows N; with ``joint`` the covariance matrix.
    """

    def __init__(self, source: Source, joint: bool = False) -> None:
        def square(rows: NDArray[np.float64]) -> NDArray[np.float64]:
            return rows.T @ rows if joint else (rows**2).sum(axis=0)

        first = source.rows(slice(0, 1)).astype(np.float64)[0]
        n, mean = 0, np.zeros(source.shape[1])
        total = np.zeros((source.shape[1],) * (1 + joint))
        for rows in source.batches():
            batch = rows - first
            m, batch_mean = len(batch), batch.mean(axis=0)
            gap = batch_mean - mean
            total += square(batch - batch_mean) + square(gap[None]) * (n * m / (n + m))
            mean += gap * m / (n + m)
            n += m
        self.mean, self.variance = first + mean, total / n
