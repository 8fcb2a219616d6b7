"""Steps that shift, scale or cut values: each column, each row, or all values together."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rarefire.arguments import Number, Rule, check
from rarefire.data.source import Source
from rarefire.errors import InputError
from rarefire.preprocess.moments import Moments
from rarefire.preprocess.step import SameColumns


class Standardise(SameColumns):
    """Each column to mean 0 and variance 1: (x − μ)/σ; a constant column becomes 0.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_features,)
        μ, and σ (1 for a constant column).
    """

    fitted = ("mean_", "scale_")
    javascript = "x.map((v, i) => (v - p.mean_[i]) / p.scale_[i])"
    javascript_inverse = "x.map((v, i) => v * p.scale_[i] + p.mean_[i])"

    def fit_source(self, source: Source) -> Standardise:
        """Mean and standard deviation of each column."""
        moments = Moments(source)
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


class Rescale(SameColumns):
    """All values together to [0, 1]: (x − min)/(max − min), with one minimum and one maximum for the whole matrix.

    Values of later data beyond the range seen are clipped to it. ``inverse_transform`` gives back what was not
    clipped.

    Attributes
    ----------
    range_ : ndarray of shape (2,)
        Minimum and maximum over all training values.
    """

    fitted = ("range_",)
    javascript = "x.map((v) => Math.min(1, Math.max(0, (v - p.range_[0]) / (p.range_[1] - p.range_[0] || 1))))"
    javascript_inverse = "x.map((v) => v * (p.range_[1] - p.range_[0] || 1) + p.range_[0])"

    def fit_source(self, source: Source) -> Rescale:
        """Minimum and maximum."""
        self.range_ = np.array(source.extremes, dtype=np.float64)
        self.n_features_in_ = source.shape[1]
        return self

    @property
    def keeps_zeros(self) -> bool:
        """Where the smallest value is 0."""
        return bool(self.range_[0] == 0)

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """(x − min)/(max − min), clipped to [0, 1]."""
        low, high = self.range_
        return np.clip((rows - low) / ((high - low) or 1.0), 0, 1).astype(rows.dtype)

    def inverse_transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """x(max − min) + min."""
        low, high = self.range_
        return (X * ((high - low) or 1.0) + low).astype(X.dtype)


class ClipRescale(SameColumns):
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
    javascript = (
        "x.map((v) => p.low + (p.high - p.low) * (Math.min(p.range_[1], Math.max(p.range_[0], v)) - p.range_[0])"
        " / (p.range_[1] - p.range_[0] || 1))"
    )
    javascript_inverse = "x.map((v) => p.range_[0] + (v - p.low) / (p.high - p.low) * (p.range_[1] - p.range_[0]))"

    def __init__(self, n_sigma: float = 3.0, low: float = 0.1, high: float = 0.9) -> None:
        self.n_sigma = n_sigma
        self.low = low
        self.high = high

    def fit_source(self, source: Source) -> ClipRescale:
        """Mean and standard deviation of all values."""
        check(self)
        if self.low >= self.high:
            raise InputError(f"low={self.low!r} of ClipRescale must be below high={self.high!r}")
        moments = Moments(source)
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


class Binarise(SameColumns):
    """1 where a value lies above a threshold, else 0. There is no inverse.

    Parameters
    ----------
    threshold : float
        Values equal to it become 0.
    """

    javascript = "x.map((v) => (v > p.threshold ? 1 : 0))"

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def fit_source(self, source: Source) -> Binarise:
        """Nothing to learn but the number of columns."""
        self.n_features_in_ = source.shape[1]
        return self

    @property
    def keeps_zeros(self) -> bool:
        """Unless the threshold is below 0."""
        return self.threshold >= 0

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """X > threshold, as 0 and 1."""
        return (rows > self.threshold).astype(rows.dtype)


class RemoveMean(SameColumns):
    """Each row without its own mean: x − (1/n) Σᵢ xᵢ.

    For patches of images this takes the brightness away and leaves the contrast; a row of colour values loses the
    mean over all of them, so that its hue stays. The mean of each row is lost. ``inverse_transform`` gives rows back
    as they are: of all rows with this result they are the shortest, those of mean 0.
    """

    javascript = "((mean) => x.map((v) => v - mean))(x.reduce((a, b) => a + b) / x.length)"
    javascript_inverse = "x"

    def fit_source(self, source: Source) -> RemoveMean:
        """Nothing to learn but the number of columns."""
        self.n_features_in_ = source.shape[1]
        return self

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """Each row less its mean."""
        return (rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)).astype(rows.dtype)

    def inverse_transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """The rows of mean 0 themselves."""
        return np.array(X)
