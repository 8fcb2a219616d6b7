"""Preparation of rows before a model sees them: steps that are fitted on training rows and saved with the run.

Each step is a scikit-learn transformer, and is also fitted on a source without reading it whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from rarefire.arguments import Number, Rule, check
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError


class Step(OneToOneFeatureMixin, TransformerMixin, BaseEstimator, ABC):
    """Map of rows to rows that keeps their number of columns."""

    #: Names of the fitted arrays, which are all that a run has to save.
    fitted: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit_source(self, source: Source) -> Step:
        """Fit to the rows of a source, a batch at a time."""

    @abstractmethod
    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """Transform one batch of shape (n_rows, n_features); what was given is not changed."""

    def fit(self, X: Any, y: Any = None) -> Step:
        """Fit to a matrix of shape (n_samples, n_features)."""
        X = validate_data(self, X, dtype=(np.float64, np.float32))
        return self.fit_source(ArraySource(X, Description("array")))

    def transform(self, X: Any) -> NDArray[np.floating]:
        """Transform a matrix of shape (n_samples, n_features)."""
        check_is_fitted(self)
        return self.apply(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))

    def __sklearn_tags__(self) -> Any:
        """Float types are kept."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class _Moments:
    """Mean and variance of each column by Chan's update, stable for any offset of the data.

    All values are taken relative to the first row, so that a constant column has exactly its value as mean, and
    a variance of exactly zero.
    """

    def __init__(self, source: Source) -> None:
        first = source.rows(slice(0, 1)).astype(np.float64)[0]
        n, mean, square = 0, np.zeros(source.shape[1]), np.zeros(source.shape[1])
        for rows in source.batches():
            batch = rows - first
            m, batch_mean = len(batch), batch.mean(axis=0)
            gap = batch_mean - mean
            square += ((batch - batch_mean) ** 2).sum(axis=0) + gap**2 * n * m / (n + m)
            mean += gap * m / (n + m)
            n += m
        self.mean, self.variance = first + mean, square / n


class Standardise(Step):
    """Each column to mean 0 and variance 1: (x − μ)/σ; a constant column becomes 0.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_features,)
        μ, and σ (1 for a constant column).
    """

    fitted = ("mean_", "scale_")

    def fit_source(self, source: Source) -> Standardise:
        """Mean and standard deviation of each column."""
        moments = _Moments(source)
        self.mean_ = moments.mean
        deviation = np.sqrt(moments.variance)
        self.scale_ = np.where(deviation == 0, 1.0, deviation)
        self.n_features_in_ = source.shape[1]
        return self

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """(x − μ)/σ."""
        return ((rows - self.mean_) / self.scale_).astype(rows.dtype)

    def inverse_transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """σx + μ."""
        return (X * self.scale_ + self.mean_).astype(X.dtype)


class Rescale(Step):
    """All values together to [0, 1]: (x − min)/(max − min), with one minimum and one maximum for the whole matrix.

    Values of later data beyond the range seen are clipped to it. ``inverse_transform`` gives back what was not
    clipped.

    Attributes
    ----------
    range_ : ndarray of shape (2,)
        Minimum and maximum over all training values.
    """

    fitted = ("range_",)

    def fit_source(self, source: Source) -> Rescale:
        """Minimum and maximum."""
        extremes = [(rows.min(), rows.max()) for rows in source.batches()]
        self.range_ = np.array([min(low for low, _ in extremes), max(high for _, high in extremes)], dtype=np.float64)
        self.n_features_in_ = source.shape[1]
        return self

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """(x − min)/(max − min), clipped to [0, 1]."""
        low, high = self.range_
        return np.clip((rows - low) / ((high - low) or 1.0), 0, 1).astype(rows.dtype)

    def inverse_transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """x(max − min) + min."""
        low, high = self.range_
        return (X * ((high - low) or 1.0) + low).astype(X.dtype)


class ClipRescale(Step):
    """Clip at ±kσ about the mean and map linearly to [low, high].

    σ and the mean are those of all training values together. ``inverse_transform`` gives back what lay within
    ±kσ; what was clipped is lost.

    Parameters
    ----------
    n_sigma : float
        k.
    low, high : float
        The range of the result.

    Attributes
    ----------
    range_ : ndarray of shape (2,)
        The values that are mapped to ``low`` and ``high``.

    Notes
    -----
    Source: the sparse autoencoder exercise of CS294A (document 001), whose patches are prepared so.
    """

    fitted = ("range_",)
    rules: ClassVar[dict[str, Rule]] = {"n_sigma": Number(0, above=True)}

    def __init__(self, n_sigma: float = 3.0, low: float = 0.1, high: float = 0.9) -> None:
        self.n_sigma = n_sigma
        self.low = low
        self.high = high

    def fit_source(self, source: Source) -> ClipRescale:
        """Mean and standard deviation of all values."""
        check(self)
        if self.low >= self.high:
            raise InputError(f"low={self.low!r} of ClipRescale must be below high={self.high!r}")
        moments = _Moments(source)
        mean = moments.mean.mean()
        sigma = np.sqrt(moments.variance.mean() + moments.mean.var())
        self.range_ = np.array([mean - self.n_sigma * sigma, mean + self.n_sigma * sigma])
        self.n_features_in_ = source.shape[1]
        return self

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """Clipped and mapped."""
        bottom, top = self.range_
        unit = (np.clip(rows, bottom, top) - bottom) / ((top - bottom) or 1.0)
        return (self.low + unit * (self.high - self.low)).astype(rows.dtype)

    def inverse_transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Mapped back to the range before."""
        bottom, top = self.range_
        return (bottom + (X - self.low) / (self.high - self.low) * (top - bottom)).astype(X.dtype)


class Binarise(Step):
    """1 where a value lies above a threshold, else 0. There is no inverse.

    Parameters
    ----------
    threshold : float
        Values equal to it become 0.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def fit_source(self, source: Source) -> Binarise:
        """Nothing to learn but the number of columns."""
        self.n_features_in_ = source.shape[1]
        return self

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """X > threshold, as 0 and 1."""
        return (rows > self.threshold).astype(rows.dtype)


class PreparedSource(Source):
    """A source whose rows pass through fitted steps when they are read."""

    def __init__(self, source: Source, steps: list[Step]) -> None:
        self.source = source
        self.steps = steps
        self.description = source.description

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self.source.dtype

    def rows(self, index: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        """Prepared rows, of shape (len(index), n_features)."""
        rows = self.source.rows(index)
        for step in self.steps:
            rows = step.apply(rows)
        return rows

    @cached_property
    def fingerprint(self) -> str:
        """That of the raw rows; the steps are part of the specification."""
        return self.source.fingerprint


def prepared(source: Source, steps: list[Step]) -> Source:
    """The source seen through fitted steps; itself where there are none."""
    return PreparedSource(source, steps) if steps else source


def fit_steps(steps: list[Step], source: Source) -> None:
    """Fit the steps one after the other, each to what the ones before it make of the source."""
    for index, step in enumerate(steps):
        step.fit_source(prepared(source, steps[:index]))
