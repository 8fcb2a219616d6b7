"""Steps that take away what neighbouring columns share: by the covariance of the rows, or by the 1/f law of images."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, dctn, idctn
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.extmath import svd_flip

from rarefire.arguments import Free, Number, Rule, Whole, check
from rarefire.data.images import one_over_f_gain
from rarefire.data.source import Description, Source
from rarefire.errors import InputError
from rarefire.preprocess.moments import Moments
from rarefire.preprocess.step import SameColumns, Step

#: The covariance of so many columns takes 2 GiB, and its eigenvectors hours.
MOST_COLUMNS = 2**14


class _CovarianceWhitening(Step):
    """Axes of the covariance of the training rows, and the gain along each."""

    fitted = ("mean_", "components_", "explained_variance_", "gain_")
    epsilon: float
    #: How many axes of largest variance are kept; None for all.
    n_components: int | None = None

    _whitened_js = "product(p.components_, x.map((v, i) => v - p.mean_[i])).map((v, i) => v * p.gain_[i])"
    _coloured_js = (
        "transposed(p.components_, {x}.map((v, i) => (p.gain_[i] > 0 ? v / p.gain_[i] : 0)))"
        ".map((v, i) => v + p.mean_[i])"
    )

    def fit_source(self, source: Source) -> _CovarianceWhitening:
        """Mean and covariance of the rows in double precision, and the eigenvectors.

        Raises
        ------
        InputError
            If an argument cannot be used, or there are more than 16,384 columns.
        """
        check(self)
        n_columns = source.shape[1]
        if n_columns > MOST_COLUMNS:
            raise InputError(
                f"{type(self).__name__} needs the covariance of all pairs of columns, and {n_columns} columns are too "
                f"many (at most {MOST_COLUMNS}); cut images into patches"
            )
        if (self.n_components or 0) > n_columns:
            raise InputError(
                f"{type(self).__name__} cannot make n_components={self.n_components} of {n_columns} columns; lower it"
            )
        moments = Moments(source, joint=True)
        variance, axes = np.linalg.eigh(moments.variance)
        # Largest first; rounding can leave a variance of zero a little below it.
        variance, axes = np.maximum(variance[::-1], 0), axes.T[::-1]
        _, axes = svd_flip(None, np.ascontiguousarray(axes), u_based_decision=False)
        total = variance + self.epsilon * variance.mean()
        # Rounding leaves some of a variance of zero: that of the eigenvalues, and that of the values themselves.
        largest = (np.diag(moments.variance) + moments.mean**2).max()
        rounding = n_columns * np.finfo(np.float64).eps * variance[0] + np.finfo(source.dtype).eps ** 2 / 4 * largest
        some = total > rounding
        self.mean_ = moments.mean
        self.components_ = axes[: self.n_components]
        self.explained_variance_ = variance[: self.n_components]
        self.gain_ = np.divide(1, np.sqrt(total), out=np.zeros(n_columns), where=some)[: self.n_components]
        self.n_features_in_ = n_columns
        return self

    def _whitened(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """diag(g) Uᵀ (x − μ)."""
        return (rows - self.mean_) @ self.components_.T * self.gain_

    def _coloured(self, codes: NDArray[np.floating]) -> NDArray[np.float64]:
        """U diag(1/g) z + μ, with 0 for 1/g where g is 0."""
        spread = np.divide(1, self.gain_, out=np.zeros_like(self.gain_), where=self.gain_ > 0)
        return (codes * spread) @ self.components_ + self.mean_


class PCAWhitening(ClassNamePrefixFeaturesOutMixin, _CovarianceWhitening):
    """Uncorrelated columns of variance 1: diag(1/√(λ + ελ̄)) Uᵀ(x − μ), those of largest λ first.

    C = U diag(λ) Uᵀ is the covariance of the N training rows, Σ (x − μ)(x − μ)ᵀ / N. The columns are no longer
    pixels or names. Without regulariser the result has the identity as covariance; with it an axis has the variance
    λ/(λ + ελ̄), so that axes of little variance, which hold mostly noise, are not blown up to the size of the others.

    Parameters
    ----------
    epsilon : float
        The regulariser ε, a share of λ̄, the mean eigenvalue (which is the mean variance of a column). Being relative
        it means the same for values in [0, 1], for bytes and for standardised columns. With 0, an axis of no
        variance is mapped to 0.
    n_components : int, optional
        How many axes to keep; all by default.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        μ.
    components_ : ndarray of shape (n_components, n_features)
        Uᵀ; the entry of largest absolute value of each row is positive. Axes of one and the same λ are arbitrary.
    explained_variance_ : ndarray of shape (n_components,)
        λ.
    gain_ : ndarray of shape (n_components,)
        1/√(λ + ελ̄), or 0 for an axis of no variance.

    Notes
    -----
    ``inverse_transform`` is U diag(√(λ + ελ̄)) z + μ: exact where all axes are kept; what lies along others, or along
    axes that are mapped to 0, is lost, and the result is the point nearest to the mean with this code. scikit-learn's
    ``PCA(whiten=True)`` divides by N − 1 and has no regulariser.

    Coates and Ng, "Learning feature representations with k-means" (2012), advise ε = 0.01 for patches of 16×16 pixels
    and 0.1 for 8×8, with values of variance about 1 (λ̄ = 1). That holds after :class:`RemoveMean`; otherwise the
    brightness of patches makes up most of λ̄, and a smaller ε serves.
    """

    rules: ClassVar[dict[str, Rule]] = {"epsilon": Number(0), "n_components": Whole(1, none=True)}
    javascript = _CovarianceWhitening._whitened_js
    javascript_inverse = _CovarianceWhitening._coloured_js.format(x="x")

    def __init__(self, epsilon: float = 0.01, n_components: int | None = None) -> None:
        self.epsilon = epsilon
        self.n_components = n_components

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """diag(1/√(λ + ελ̄)) Uᵀ(x − μ)."""
        return self._whitened(rows).astype(rows.dtype)

    def inverse_transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """U diag(√(λ + ελ̄)) z + μ."""
        return self._coloured(X).astype(X.dtype)

    def describe(self, description: Description) -> Description:
        """Plain columns."""
        return replace(description, kind="plain", shape=None, feature_names=None)

    @property
    def n_outputs(self) -> int:
        """As many as axes are kept."""
        return len(self.components_)

    #: scikit-learn's name for it, from which it makes ``get_feature_names_out``.
    _n_features_out = n_outputs


class ZCAWhitening(_CovarianceWhitening, SameColumns):
    """Uncorrelated columns that stay as near to the given ones as can be: U diag(1/√(λ + ελ̄)) Uᵀ(x − μ).

    This is :class:`PCAWhitening` turned back to the columns that there were, by the one symmetric matrix that whitens:
    pixels stay pixels. Each becomes what its neighbours do not tell of it.

    Parameters
    ----------
    epsilon : float
        The regulariser ε, a share of the mean eigenvalue λ̄, as in :class:`PCAWhitening`.

    Attributes
    ----------
    mean_, components_, explained_variance_, gain_ : ndarray
        μ, Uᵀ, λ and 1/√(λ + ελ̄), as in :class:`PCAWhitening`.

    Notes
    -----
    ``inverse_transform`` is U diag(√(λ + ελ̄)) Uᵀz + μ, which is exact; what later rows have along axes of no variance
    is lost where ε = 0.

    Source: Bell and Sejnowski, "The independent components of natural scenes are edge filters" (1997).
    """

    rules: ClassVar[dict[str, Rule]] = {"epsilon": Number(0)}
    javascript = f"transposed(p.components_, {_CovarianceWhitening._whitened_js})"
    javascript_inverse = _CovarianceWhitening._coloured_js.format(x="product(p.components_, x)")

    def __init__(self, epsilon: float = 0.01) -> None:
        self.epsilon = epsilon

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """U diag(1/√(λ + ελ̄)) Uᵀ(x − μ)."""
        return (self._whitened(rows) @ self.components_).astype(rows.dtype)

    def inverse_transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """U diag(√(λ + ελ̄)) Uᵀz + μ."""
        return self._coloured(X @ self.components_.T).astype(X.dtype)


class OneOverFWhitening(SameColumns):
    """Images with the 1/f fall of natural amplitude spectra made even: R(f) = f exp(−(f/f₀)⁴).

    Every row is an image and is filtered by itself, each colour channel apart, as
    :func:`rarefire.data.images.whiten_image` does, which a whole picture should rather go through before patches are
    cut from it: its long waves do not fit into a patch. Nothing is learned from the rows but their shape.

    Parameters
    ----------
    cutoff : float
        f₀ in cycles a pixel; 0.5 is the finest wave that pixels can show.
    shape : tuple of int, optional
        (height, width) or (height, width, channels) of a row. By default that of the source; a row of n values of
        which nothing is known is a square image if n is a square, otherwise a line of n pixels.

    Attributes
    ----------
    shape_ : ndarray of shape (2,) or (3,)
        The shape of a row.

    Notes
    -----
    R(0) = 0: the mean of each row is lost, in colour that of each channel. ``inverse_transform`` divides by R, and
    gives a mean of 0. Where R is below √ε of its largest value, ε being the machine's precision of the values' type,
    it gives 0 too: there the division would blow rounding up to more than what is lost. For the default cut-off that
    concerns the finest diagonals of float32 values only; still R is small there (0.00004 against 0.22 at its peak),
    so the inverse of what a model changed has its finest waves exaggerated.

    Source: Olshausen and Field, "Sparse coding with an overcomplete basis set" (1997), who took f₀ = 200 cycles a
    picture of 512 pixels.
    """

    fitted = ("shape_",)
    rules: ClassVar[dict[str, Rule]] = {"cutoff": Number(0, above=True), "shape": Free()}
    #: The cosine transform along both axes, each wave times its gain, and the transform back.
    _filtered_js = (
        "alongAxes(p.down_back, p.across_back, alongAxes(p.down, p.across, x).map((v, i) => v * p.{gain}[i]))"
    )
    javascript = _filtered_js.format(gain="gain")
    javascript_inverse = _filtered_js.format(gain="inverse_gain")

    def __init__(self, cutoff: float = 0.4, shape: tuple[int, ...] | None = None) -> None:
        self.cutoff = cutoff
        self.shape = shape

    def fit_source(self, source: Source) -> OneOverFWhitening:
        """The shape of a row.

        Raises
        ------
        InputError
            If an argument cannot be used, the shape does not fit the columns or the source's own, or columns have
            names and no shape is given.
        """
        check(self)
        self.shape_ = np.array(self._shape_of(source))
        self.n_features_in_ = source.shape[1]
        return self

    def _shape_of(self, source: Source) -> tuple[int, ...]:
        n_columns, known = source.shape[1], source.description.shape
        if self.shape is None:
            if known is not None:
                return known
            if source.description.feature_names is not None:
                raise InputError(
                    "OneOverFWhitening is for images, but the columns have names; give their shape if they are pixels"
                )
            side = math.isqrt(n_columns)
            return (side, side) if side**2 == n_columns else (1, n_columns)
        sizes = self.shape if isinstance(self.shape, (list, tuple)) else ()
        if len(sizes) not in (2, 3) or not all(map(Whole(1).allows, sizes)) or math.prod(sizes) != n_columns:
            raise InputError(
                f"shape={self.shape!r} of OneOverFWhitening must be (height, width) or (height, width, channels) of "
                f"images of {n_columns} values"
            )
        if known is not None and tuple(sizes) != tuple(known):
            raise InputError(
                f"shape={self.shape!r} of OneOverFWhitening differs from that of the images, {known}; leave it out"
            )
        return tuple(sizes)

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """Each wave times R of its frequency."""
        return self._filtered(rows, self._gain())

    def inverse_transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Each wave divided by R of its frequency, where R is not too small for it."""
        return self._filtered(X, self._inverse_gain(X.dtype))

    def _inverse_gain(self, dtype: np.dtype) -> NDArray[np.float64]:
        """1/R for values of a type, with 0 where R is too small for it."""
        gain = self._gain()
        large = gain > math.sqrt(np.finfo(dtype).eps) * gain.max()
        return np.divide(1, gain, out=np.zeros_like(gain), where=large)

    def _gain(self) -> NDArray[np.float64]:
        """R at each frequency, of shape (height, width, 1)."""
        return one_over_f_gain((int(self.shape_[0]), int(self.shape_[1])), self.cutoff)[:, :, None]

    def javascript_arrays(self, dtype: np.dtype) -> dict[str, NDArray]:
        """The cosine transform along each axis, as matrices, and what it multiplies each wave by."""
        down, across = (dct(np.eye(int(n)), axis=0, norm="ortho") for n in self.shape_[:2])
        channels = math.prod(map(int, self.shape_[2:]))
        gains = {"gain": self._gain(), "inverse_gain": self._inverse_gain(dtype)}
        return {
            "down": down,
            "across": across,
            "down_back": down.T,
            "across_back": across.T,
            **{name: np.repeat(gain.ravel(), channels) for name, gain in gains.items()},
        }

    def _filtered(self, rows: NDArray[np.floating], gain: NDArray[np.float64]) -> NDArray[np.floating]:
        images = rows.reshape(len(rows), *self.shape_[:2], -1).astype(np.float64)
        waves = dctn(images, axes=(1, 2), norm="ortho")
        return idctn(waves * gain, axes=(1, 2), norm="ortho").reshape(rows.shape).astype(rows.dtype)
