"""What a bank of image filters looks like, in numbers, and how much of the data reconstructions keep.

No measure of filters depends on the scale or the sign of the weights. :func:`kurtosis`, :func:`spread` and
:func:`smoothness` take each filter by itself and are NaN where there is nothing to measure; what they give white
noise is said with each, since a number says little without what chance would give.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "kurtosis",
    "near_zero_share",
    "r_squared",
    "roughness",
    "small_norm_share",
    "small_norms",
    "smoothness",
    "spread",
    "uniform_spread",
]

Array = NDArray[np.float64]
Shape = tuple[int, int]

_ROUNDING = 1e-12  # what differs by less than this fraction of its size does not differ


def near_zero_share(weights: ArrayLike, fraction: float = 0.1) -> float:
    r"""Share of single weights whose magnitude is at most ``fraction`` times the root mean square of all.

    .. math:: \frac{1}{n} \#\Bigl\{i : |w_i| \le \text{fraction} \cdot \sqrt{\textstyle\frac{1}{n} \sum_j w_j^2}\Bigr\}

    A tenth finds 0.080 of Gaussian weights and 0.132 of Laplacian ones.

    Parameters
    ----------
    weights : array-like of any shape
        The weights of all filters together, on whose common scale a weight is small.
    fraction : float, default 0.1
        Of the root mean square; 0 counts exact zeros.

    Returns
    -------
    float
        From 0 to 1, which is the share where all weights are zero.

    Raises
    ------
    ValueError
        If there are no weights, if one is not finite, or if ``fraction`` is below 0.

    Notes
    -----
    Alternatives: a fixed cut depends on the scale of the data; a fraction of the median says less of heavy tails.

    Examples
    --------
    The root mean square is 2:

    >>> near_zero_share([[4.0, 0.1], [0.0, 0.3]])
    0.5
    """
    magnitude = np.abs(_scaled(_finite(weights, "weights"), None))
    return float(np.mean(magnitude <= _checked_fraction(fraction) * np.sqrt(np.mean(magnitude**2))))


def small_norm_share(filters: ArrayLike, fraction: float = 0.1) -> float:
    r"""Share of filters whose norm is at most ``fraction`` times the largest: those that were hardly learned.

    .. math:: \frac{1}{n} \#\{i : \|w_i\| \le \text{fraction} \cdot \max_j \|w_j\|\}

    Parameters
    ----------
    filters : array-like of shape (n_units, height * width)
        One filter a row.
    fraction : float, default 0.1
        Of the largest norm; 0 counts filters that are zero.

    Returns
    -------
    float
        From 0 to 1, which is the share where all filters are zero.

    Raises
    ------
    ValueError
        If there are no filters, if an entry is not finite, or if ``fraction`` is below 0.

    Notes
    -----
    Not the rule by which :func:`~rarefire.metrics.gabor.edge_likeness` leaves filters out, which compares norms about
    the mean with their median.
    """
    return float(np.mean(small_norms(filters, fraction)))


def small_norms(filters: ArrayLike, fraction: float = 0.1) -> NDArray[np.bool_]:
    """Which filters have a norm of at most ``fraction`` times the largest, of shape (n_units,).

    Takes and refuses what :func:`small_norm_share` does, which is the mean of these.
    """
    norms = np.linalg.norm(_scaled(_rows(filters, "filters"), None), axis=1)
    small: NDArray[np.bool_] = norms <= _checked_fraction(fraction) * norms.max()
    return small


def kurtosis(filters: ArrayLike) -> Array:
    r"""Excess kurtosis of each filter's weights about their mean, as Fisher defines it.

    .. math:: \frac{m_4}{m_2^2} - 3, \qquad m_k = \frac{1}{n} \sum_i (w_i - \bar w)^k

    is large for a filter of few large weights, 0 for the normal distribution and -3/2 for a grating. A filter of
    :math:`n` independent normal weights has :math:`-6 / (n + 1)` on average: the moments are not corrected for bias.

    Parameters
    ----------
    filters : array-like of shape (n_units, height * width)
        One filter a row.

    Returns
    -------
    ndarray of shape (n_units,), float64
        At least -2; NaN for a filter whose weights are all equal, zero or not.

    Raises
    ------
    ValueError
        If there are no filters, or if an entry is not finite.

    Examples
    --------
    >>> kurtosis([[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0]]).tolist()
    [-2.0, nan]
    """
    fourth: Array = np.mean(_standardised(_rows(filters, "filters")) ** 4, axis=1)
    return fourth - 3


def spread(filters: ArrayLike, shape: Shape) -> Array:
    r"""Spatial spread of each filter in pixels: how far its energy lies from the energy's centroid.

    .. math:: \sqrt{\frac{\sum_i w_i^2 \|r_i - c\|^2}{\sum_i w_i^2}}, \qquad
        c = \frac{\sum_i w_i^2 r_i}{\sum_i w_i^2}

    with :math:`r_i` the row and column of pixel i. It is 0 for a filter of one pixel, and :math:`\sqrt 2\, \sigma` for
    weights :math:`e^{-r^2 / 4 \sigma^2}`, whose energy has the standard deviation :math:`\sigma` along both axes, as
    far as they fit in the image. White noise comes close to :func:`uniform_spread` the more pixels there are.

    Parameters
    ----------
    filters : array-like of shape (n_units, height * width)
        One filter a row, its pixels row by row.
    shape : (int, int)
        Height and width.

    Returns
    -------
    ndarray of shape (n_units,), float64
        In pixels, at most half the diagonal between the outermost pixels' centres; NaN for a filter that is zero.

    Raises
    ------
    ValueError
        If there are no filters, if an entry is not finite, or if a row does not have height · width entries.

    Examples
    --------
    >>> spread([[3.0, 0.0, 0.0, -3.0]], (1, 4)).tolist()
    [1.5]
    """
    energy = _scaled(_images(filters, shape, "filters"), 1).reshape(-1, *shape) ** 2
    down, across = energy.sum(axis=2), energy.sum(axis=1)
    with np.errstate(invalid="ignore"):  # no energy
        return np.sqrt(_variance(down) + _variance(across))


def uniform_spread(shape: Shape) -> float:
    r"""Spread in pixels of energy that is the same everywhere, :math:`\sqrt{(h^2 - 1) / 12 + (w^2 - 1) / 12}`.

    What :func:`spread` gives filters that are not localised at all.

    Parameters
    ----------
    shape : (int, int)
        Height and width.

    Raises
    ------
    ValueError
        If a side is below 1.
    """
    h, w = _checked_shape(shape)
    return float(np.sqrt((h * h + w * w - 2) / 12))


def smoothness(images: ArrayLike, shape: Shape) -> Array:
    r"""Lag-one correlation of each image: that of pixels side by side, horizontally or vertically.

    It is Pearson's correlation coefficient over all pairs of neighbours, each pair taken both ways round:

    .. math:: \frac{2 \sum_{i \sim j} (x_i - m)(x_j - m)}{\sum_{i \sim j} (x_i - m)^2 + (x_j - m)^2}

    with the sums over unordered pairs, and :math:`m` the mean over pairs of both members. It is near 1 for a smooth
    image, -1 for a chessboard, and for white noise 0 but for its mean being taken away, about
    :math:`-1 / (h w - 1)`.

    Parameters
    ----------
    images : array-like of shape (n, height * width)
        Filters or reconstructions, one a row, pixels row by row.
    shape : (int, int)
        Height and width.

    Returns
    -------
    ndarray of shape (n,), float64
        From -1 to 1; NaN for an image that is the same everywhere.

    Raises
    ------
    ValueError
        If there are no images, if an entry is not finite, or if a row does not have height · width entries.

    Notes
    -----
    Source: Haralick, Shanmugam and Dinstein (1973), Textural features for image classification: their feature
    "correlation" at distance 1, of exact values instead of grey levels, and of both directions together. Moran's I
    differs in its mean and its denominator, which count each pixel once and let it exceed 1.

    Examples
    --------
    >>> smoothness([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]], (2, 2)).tolist()
    [-1.0, 0.0]
    """
    pixels = _standardised(_images(images, shape, "images")).reshape(-1, *shape)
    n = len(pixels)
    first = np.concatenate([pixels[:, :, :-1].reshape(n, -1), pixels[:, :-1].reshape(n, -1)], axis=1)
    second = np.concatenate([pixels[:, :, 1:].reshape(n, -1), pixels[:, 1:].reshape(n, -1)], axis=1)
    with np.errstate(invalid="ignore"):  # no neighbours
        mean = (first + second).sum(axis=1, keepdims=True) / (2 * first.shape[1])
        first, second = first - mean, second - mean
        correlation: Array = 2 * (first * second).sum(axis=1) / (first**2 + second**2).sum(axis=1)
    return correlation


def roughness(images: ArrayLike, shape: Shape) -> Array:
    """Σ(x − its neighbour)² over Σx² of each image: 0 is flat, 4 − 2/height − 2/width the mean of white noise.

    Neighbours are horizontal and vertical, each pair once. Unlike :func:`smoothness` it knows of an image's own mean:
    a bright, flat one is smooth.

    Parameters
    ----------
    images : array-like of shape (n, height * width)
        Filters or reconstructions, one a row, pixels row by row.
    shape : (int, int)
        Height and width.

    Returns
    -------
    ndarray of shape (n,), float64
        NaN for an image of zeros.

    Raises
    ------
    ValueError
        As :func:`smoothness` does.

    Examples
    --------
    >>> roughness([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, -1.0, 1.0]], (2, 2)).tolist()
    [0.0, 4.0]
    """
    grid = _scaled(_images(images, shape, "images"), 1).reshape(-1, *shape)
    steps = (np.diff(grid, axis=1) ** 2).sum(axis=(1, 2)) + (np.diff(grid, axis=2) ** 2).sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):  # no energy
        share: Array = steps / (grid**2).sum(axis=(1, 2))
    return share


def r_squared(x: ArrayLike, x_hat: ArrayLike) -> float:
    r"""Coefficient of determination of reconstructions, over all columns together.

    .. math:: R^2 = 1 - \frac{\sum_{ij} (x_{ij} - \hat x_{ij})^2}{\sum_{ij} (x_{ij} - \bar x_j)^2}

    is 1 for a perfect reconstruction, and 0 for one that gives every row the mean :math:`\bar x` of these rows.

    Parameters
    ----------
    x : array-like of shape (n_rows, n_features)
        The rows.
    x_hat : array-like of shape (n_rows, n_features)
        Their reconstructions.

    Returns
    -------
    float
        At most 1; NaN where all rows of ``x`` are equal.

    Raises
    ------
    ValueError
        If there are no rows, if the shapes differ, or if an entry is not finite.

    Notes
    -----
    An autoencoder's ``explained_variance`` takes its distances from the mean of the training rows instead, also for
    held-out ones.
    """
    x, x_hat = _rows(x, "x"), _rows(x_hat, "x_hat")
    if x.shape != x_hat.shape:
        raise ValueError(f"x has the shape {x.shape} and x_hat {x_hat.shape}; give a reconstruction for each row.")
    total = np.linalg.norm(x - x.mean(axis=0))
    if total <= _ROUNDING * np.linalg.norm(x):
        return float("nan")
    return float(1 - (np.linalg.norm(x - x_hat) / total) ** 2)


def _finite(values: ArrayLike, name: str) -> Array:
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {data.shape}.")
    if not np.isfinite(data).all():
        raise ValueError(f"{name} must be finite, but some entries are NaN or infinite.")
    return data


def _rows(values: ArrayLike, name: str) -> Array:
    data = _finite(values, name)
    if data.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, one of a kind a row, got shape {data.shape}.")
    return data


def _images(values: ArrayLike, shape: Shape, name: str) -> Array:
    data, (h, w) = _rows(values, name), _checked_shape(shape)
    if h * w != data.shape[1]:
        raise ValueError(f"{name} of {data.shape[1]} pixels do not fill {h} x {w}.")
    return data


def _checked_shape(shape: Shape) -> Shape:
    h, w = shape
    if min(h, w) < 1:
        raise ValueError(f"both sides must be at least 1, got {shape}.")
    return h, w


def _checked_fraction(fraction: float) -> float:
    if not fraction >= 0:
        raise ValueError(f"fraction={fraction} must be at least 0.")
    return fraction


def _scaled(data: Array, axis: int | None) -> Array:
    """``data`` with 1 as the largest magnitude, so that squares neither overflow nor vanish."""
    largest = np.abs(data).max(axis=axis, keepdims=True)
    return data / np.where(largest > 0, largest, 1.0)


def _standardised(data: Array) -> Array:
    """Rows of mean 0 and mean square 1; NaN where all entries are equal, but for rounding."""
    data = _scaled(data, 1)
    centred = data - data.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.mean(centred**2, axis=1, keepdims=True))
    size = np.sqrt(np.mean(data**2, axis=1, keepdims=True))
    return centred / np.where(deviation > _ROUNDING * size, deviation, np.nan)


def _variance(energy: Array) -> Array:
    """Variance of the position along one axis, (n,), from the energy at each, (n, length)."""
    at = np.arange(energy.shape[1])
    density = energy / energy.sum(axis=1, keepdims=True)
    variance: Array = np.sum(density * (at - density @ at[:, None]) ** 2, axis=1)
    return variance
