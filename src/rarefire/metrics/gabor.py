"""Edge-likeness of learned filters: one definition for every recipe, and its chance level.

A filter is edge-like when a single Gabor quadrature pair explains most of it, when it is a wave
rather than a ramp or a blob, and when that wave has one direction. Blobs and smoothed noise, put
through the same three tests, say how much of a share could have come about by accident.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rarefire.random import Generator

__all__ = ["EdgeLikeness", "control_shares", "edge_likeness"]

Array = NDArray[np.float64]
Single = NDArray[np.floating[Any]]  # in fact of np.float32
Shape = tuple[int, int]

MIN_VARIANCE = 0.5  # the Gabor pair explains more than this fraction of the variance
MIN_FREQUENCY = 1.0  # the spectrum peaks at this many cycles a patch or more
MIN_STRENGTH = 0.3  # the orientation strength is at least this
MIN_NORM = 0.1  # the norm is at least this fraction of the median norm
SPECTRUM_SIDE = 64  # patches are zero-padded to this many pixels a side
SPOT_WIDTHS = (0.5, 2.0)  # standard deviations of the control spots, pixels of an 8 x 8 patch,
SMOOTHING_WIDTHS = (0.25, 2.0)  # and of the kernels that smooth the control noise

_STARTS = 24  # candidates of the coarse search that are refined, for every filter
_STEPS = 60  # most steps of a refinement
_GAIN = 1e-4  # a refinement ends when a step gains less explained variance than this
_BLOCK = 1 << 17  # pixels refined at once, so that the work stays in the cache


@dataclass(frozen=True)
class EdgeLikeness:
    r"""Edge-likeness of `n` filters, one entry a filter in every array.

    Attributes
    ----------
    variance_explained : ndarray of shape (n,)
        Fraction :math:`R^2` of the mean-removed filter that the best Gabor pair explains.
    peak_frequency : ndarray of shape (n,)
        Where the power spectrum peaks, in cycles a patch.
    orientation_strength : ndarray of shape (n,)
        :math:`|\sum P e^{2i\theta}| / \sum P`: 1 for one direction, 0 for none.
    orientation : ndarray of shape (n,)
        Angle in :math:`[0, \pi)` of the best Gabor's wave vector, from the direction of rising
        column to that of rising row; 0 for a constant filter.
    counted, edge_like : ndarray of bool, shape (n,)
        Whether the norm is large enough to count as a fit, and whether the filter is edge-like.
    """

    variance_explained: Array
    peak_frequency: Array
    orientation_strength: Array
    orientation: Array
    counted: NDArray[np.bool_]
    edge_like: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Edge-like filters as a fraction of all filters, the uncounted ones included."""
        return float(self.edge_like.mean())


def edge_likeness(filters: ArrayLike, shape: Shape | None = None) -> EdgeLikeness:
    r"""Decide which filters look like edges.

    With :math:`\bar w` the filter less its mean and :math:`P` the power spectrum of :math:`\bar w`
    zero-padded to 64 x 64 pixels, a filter is edge-like when the best Gabor pair explains
    :math:`R^2 > 1/2` of :math:`\|\bar w\|^2`, :math:`P` peaks at one cycle a patch or more, the
    orientation strength :math:`|\sum P e^{2i\theta}| / \sum P` is at least 0.3, and
    :math:`\|\bar w\|` is at least a tenth of its median over the filters.

    Parameters
    ----------
    filters : array_like of shape (n, h * w)
        One filter a row, its pixels row by row.
    shape : (int, int), optional
        Height and width `(h, w)` of a patch; by default the patches are square.

    Returns
    -------
    EdgeLikeness
        The three measurements, the orientation and the verdict for every filter.

    Raises
    ------
    ValueError
        If there are no filters, if an entry is not finite, or if the length of a row is not
        `h * w` (without `shape`: not a square number).

    Notes
    -----
    With :math:`u` and :math:`v` the offsets from the centre along and across the wave vector, the
    pair is :math:`e^{-u^2 / 2\sigma^2 - v^2 / 2(\gamma\sigma)^2}` times :math:`\cos 2\pi f u` and
    :math:`\sin 2\pi f u`, each less its mean and with a least-squares coefficient of its own. The
    centre lies in the patch, :math:`f` between a quarter of a cycle a patch and the Nyquist limit,
    :math:`\sigma` between half a pixel and the longer side, :math:`\gamma` between 1/2 and 4. A
    grid over all six is searched, and its best candidates climb by Levenberg-Marquardt steps.

    The frequency :math:`(f_x, f_y)`, cycles a pixel, is :math:`\sqrt{(w f_x)^2 + (h f_y)^2}` cycles
    a patch: the side times :math:`|f|` if the patch is square. Sides beyond 64 are not padded.
    """
    data, shape = _checked(filters, shape)
    data = data / max(np.abs(data).max(), np.finfo(np.float64).tiny)  # squares cannot overflow
    centred = data - data.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1)
    norm[norm <= 1e-12 * np.linalg.norm(data, axis=1)] = 0.0  # constant, but for rounding
    unit = np.where(norm > 0, centred.T, 0.0).T / np.where(norm > 0, norm, 1.0)[:, None]
    explained, orientation = _best_pair(unit, shape)
    peak, strength = _spectrum(unit, shape)
    counted = (norm > 0) & (norm >= MIN_NORM * np.median(norm))
    fits = (explained > MIN_VARIANCE) & (peak >= MIN_FREQUENCY) & (strength >= MIN_STRENGTH)
    return EdgeLikeness(explained, peak, strength, orientation, counted, counted & fits)


def control_shares(shape: Shape, n_filters: int = 200, seed: int = 0) -> dict[str, float]:
    """Measure the edge-like share of two families that contain no edges.

    Gaussian spots are isotropic, their centres uniform over the patch and their widths uniform in
    0.5 to 2. Smoothed noise is white noise convolved with a Gaussian of a width uniform in 0.25 to
    2, from all but white to a few blobs a patch. Widths are standard deviations in pixels of an
    8 x 8 patch; a patch of `(h, w)` pixels scales them by `sqrt(h * w) / 8`.

    Parameters
    ----------
    shape : (int, int)
        Height and width of a patch.
    n_filters : int, default 200
        Filters drawn from each family.
    seed : int, default 0
        Source of the draws.

    Returns
    -------
    dict of str to float
        Shares under the keys `gaussian_spots` and `smoothed_noise`.

    Raises
    ------
    ValueError
        If `n_filters` or a side of the patch is less than one.
    """
    if n_filters < 1 or min(shape) < 1:
        raise ValueError(f"n_filters and both sides must be at least 1, got {n_filters} and {shape}.")
    rng = Generator(seed, "edge controls")
    families = {"gaussian_spots": _gaussian_spots, "smoothed_noise": _smoothed_noise}
    return {name: edge_likeness(draw(shape, n_filters, rng), shape).share for name, draw in families.items()}


def _uniform(rng: Generator, low: float, high: float, shape: tuple[int, ...]) -> Array:
    draws: Array = low + (high - low) * rng.uniform(shape, torch.float64).numpy()
    return draws


def _gaussian_spots(shape: Shape, n: int, rng: Generator) -> Array:
    x, y = _pixels(shape)
    x0, y0 = (side * _uniform(rng, -0.5, 0.5, (n, 1)) for side in shape[::-1])
    sigma = np.sqrt(shape[0] * shape[1]) / 8 * _uniform(rng, *SPOT_WIDTHS, (n, 1))
    spots: Array = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))
    return spots


def _smoothed_noise(shape: Shape, n: int, rng: Generator) -> Array:
    h, w = shape
    sigma = np.sqrt(h * w) / 8 * _uniform(rng, *SMOOTHING_WIDTHS, (n, 1, 1))
    # The convolution is periodic; a field of twice the side keeps a patch's borders apart.
    fy, fx = np.fft.fftfreq(2 * h)[:, None], np.fft.fftfreq(2 * w)
    kernel = np.exp(-2 * np.pi**2 * sigma**2 * (fx**2 + fy**2))
    white = np.fft.fft2(rng.normal((n, 2 * h, 2 * w), torch.float64).numpy())
    return np.fft.ifft2(kernel * white).real[:, :h, :w].reshape(n, h * w)


def _checked(filters: ArrayLike, shape: Shape | None) -> tuple[Array, Shape]:
    data = np.asarray(filters, dtype=np.float64)
    if data.ndim != 2 or data.size == 0:
        raise ValueError(f"filters must be a non-empty (n, h * w) array, got shape {data.shape}.")
    pixels = data.shape[1]
    h, w = (round(pixels**0.5), round(pixels**0.5)) if shape is None else shape
    if min(h, w) < 1 or h * w != pixels:
        advice = "are not square: pass shape=(h, w)" if shape is None else f"do not fill {h} x {w} patches"
        raise ValueError(f"Filters of {pixels} pixels {advice}.")
    if not np.isfinite(data).all():
        raise ValueError("filters must be finite, but some entries are NaN or infinite.")
    return data, (h, w)


def _pixels(shape: Shape) -> tuple[Array, Array]:
    """Coordinates (x, y) of the pixels, (h * w,) each, from the centre of the patch."""
    h, w = shape
    y, x = np.mgrid[:h, :w].reshape(2, -1)
    return x - (w - 1) / 2, y - (h - 1) / 2


def _spectrum(unit: Array, shape: Shape) -> tuple[Array, Array]:
    """Peak frequency and orientation strength, (n,) each, of mean-removed filters."""
    h, w = shape
    padded = max(SPECTRUM_SIDE, h), max(SPECTRUM_SIDE, w)
    power = np.abs(np.fft.fft2(unit.reshape(-1, h, w), s=padded, axes=(1, 2))) ** 2
    power = power.reshape(len(unit), -1)
    fy, fx = np.meshgrid(*map(np.fft.fftfreq, padded), indexing="ij")
    peak = np.hypot(w * fx, h * fy).ravel()[power.argmax(axis=1)]  # the first bin, 0, where P = 0
    total = power.sum(axis=1)
    resultant = np.abs(power @ np.exp(2j * np.arctan2(fy, fx)).ravel())
    return peak, resultant / np.where(total > 0, total, 1.0)


# A Gabor pair is a row (log f, theta, x0, y0, log sigma, log gamma): frequency in cycles a pixel,
# centre and width in pixels. In logarithms a step is relative, and nothing can turn negative.
# Gabors are drawn in single precision: sines are then far faster, and R^2 is still good to 1e-5.


def _admissible(pairs: Array, shape: Shape) -> Array:
    h, w = shape
    low = [np.log(0.25 / max(h, w)), -np.inf, -w / 2, -h / 2, np.log(0.5), np.log(0.5)]
    high = [0.0, np.inf, w / 2, h / 2, np.log(max(h, w)), np.log(4)]
    pairs = np.clip(pairs, low, high)
    # Nyquist's limit is half a cycle a pixel along each axis, hence more along a diagonal.
    longest = np.maximum(np.abs(np.cos(pairs[:, 1])), np.abs(np.sin(pairs[:, 1])))
    pairs[:, 0] = np.minimum(pairs[:, 0], -np.log(2 * longest))
    return pairs


def _grid(shape: Shape) -> Iterator[Array]:
    """Blocks of candidate pairs, (m, 6) each, of one frequency and one orientation."""
    side = max(shape)
    # Half octaves from half a cycle a patch to the corner of the Nyquist square.
    for f in 0.5 / side * 2 ** np.arange(0, np.log2(2**0.5 * side) + 0.25, 0.5):
        spacing = max(1.0, 0.5 / f, side / 16)  # pixels: free phases allow for a shifted centre
        counts = [int(np.ceil(length / spacing)) for length in shape]
        y0, x0 = (s * ((np.arange(n) + 0.5) / n - 0.5) for s, n in zip(shape, counts, strict=True))
        widths = np.log([0.2 / f, 0.4 / f, 0.8 / f])
        for theta in np.pi / 8 * np.arange(8):
            axes = np.meshgrid(np.log(f), theta, x0, y0, widths, np.log([0.8, 1.6]))
            yield _admissible(np.stack(axes, axis=-1).reshape(-1, 6), shape)


def _gabors(pairs: Array, shape: Shape) -> tuple[Single, Single, Single, Single]:
    """Cosine and sine Gabor and their offsets u and v, (m, h * w) each."""
    x, y = np.array(_pixels(shape), dtype=np.float32)
    log_f, theta, x0, y0, log_sigma, log_gamma = pairs.T[:, :, None].astype(np.float32)
    u = np.cos(theta) * (x - x0) + np.sin(theta) * (y - y0)
    v = np.cos(theta) * (y - y0) - np.sin(theta) * (x - x0)
    envelope = np.exp(-((u * np.exp(-log_sigma)) ** 2 + (v * np.exp(-log_sigma - log_gamma)) ** 2) / 2)
    phase = np.float32(2 * np.pi) * np.exp(log_f) * u
    return envelope * np.cos(phase), envelope * np.sin(phase), u, v


def _dot(a: Single, b: Single) -> Single:
    products: Single = np.einsum("mi,mi->m", a, b)[:, None]
    return products


def _orthonormal(c: Single, s: Single) -> tuple[Single, Single, Single, Single, Single]:
    """Orthonormal p, q and the scalars i, j, k of c = i p and s = j p + k q, means removed."""
    c, s = c - c.mean(axis=1, keepdims=True), s - s.mean(axis=1, keepdims=True)
    i = np.sqrt(_dot(c, c))
    i[i < 1e-3] = np.inf  # a direction that is all rounding is left out of the pair
    p = c / i
    j = _dot(p, s)
    s = s - j * p
    k = np.sqrt(_dot(s, s))
    k[k < 1e-3] = np.inf
    return p, s / k, i, j, k


def _expand(pairs: Array, unit: Single, shape: Shape) -> tuple[Single, Single, Single]:
    """R^2 of the pairs, (m,), and of its half the slope (m, 6) and the curvature (m, 6, 6)."""
    c, s, u, v = _gabors(pairs, shape)
    p, q, i, j, k = _orthonormal(c, s)
    on_p, on_q = _dot(p, unit), _dot(q, unit)
    b = on_q / k
    a = (on_p - j * b) / i
    fit, turned = a * c + b * s, b * c - a * s  # the fit and its derivative in the phase
    log_f, theta, _, _, log_sigma, log_gamma = pairs.T[:, :, None].astype(np.float32)
    omega, cos, sin = np.float32(2 * np.pi) * np.exp(log_f), np.cos(theta), np.sin(theta)
    pull_u = u * np.exp(-2 * log_sigma) * fit
    pull_v = v * np.exp(-2 * (log_sigma + log_gamma)) * fit
    by_u, by_v = omega * turned - pull_u, -pull_v
    by_f, by_sigma, by_gamma = omega * u * turned, u * pull_u + v * pull_v, v * pull_v
    by_theta, by_x, by_y = v * by_u - u * by_v, sin * by_v - cos * by_u, -cos * by_v - sin * by_u
    jacobian = np.stack([by_f, by_theta, by_x, by_y, by_sigma, by_gamma], axis=1)
    # Mean and coefficients follow the parameters: only what they cannot absorb moves the fit.
    absorbed = np.stack([p, q, np.full_like(p, p.shape[1] ** -0.5)], axis=1)
    jacobian -= (jacobian @ absorbed.transpose(0, 2, 1)) @ absorbed
    slope = np.einsum("mki,mi->mk", jacobian, unit)
    return (on_p**2 + on_q**2)[:, 0], slope, jacobian @ jacobian.transpose(0, 2, 1)


def _refine(pairs: Array, unit: Single, shape: Shape) -> tuple[Array, Single]:
    """Levenberg-Marquardt ascent of R^2 from each pair: pairs (m, 6) and their R^2 (m,)."""
    pairs = pairs.copy()
    explained, slope, curvature = _expand(pairs, unit, shape)
    damping = np.full(len(pairs), 1e-2)
    live = np.arange(len(pairs))
    for _ in range(_STEPS):
        scale = damping[live, None] * (np.einsum("mkk->mk", curvature[live]) + 1e-6)
        damped = curvature[live] + scale[:, :, None] * np.eye(6)
        step = np.linalg.solve(damped, slope[live, :, None])[:, :, 0]
        trial = _admissible(pairs[live] + step, shape)
        new = _expand(trial, unit[live], shape)
        gain = new[0] - explained[live]
        up = gain > 0
        for kept, found in zip((pairs, explained, slope, curvature), (trial, *new), strict=True):
            kept[live[up]] = found[up]
        damping[live] = np.clip(damping[live] * np.where(up, 0.25, 4.0), 1e-5, 1e7)
        live = live[(gain > _GAIN) | (~up & (damping[live] < 1e3))]
        if live.size == 0:
            break
    return pairs, explained


def _best_pair(unit: Array, shape: Shape) -> tuple[Array, Array]:
    """R^2 and orientation, (n,) each, of the best pair found for every mean-removed filter."""
    n, single = len(unit), unit.astype(np.float32)
    columns = np.arange(n)
    scores, candidates = [], []
    for pairs in _grid(shape):
        p, q, *_ = _orthonormal(*_gabors(pairs, shape)[:2])
        score = (p @ single.T) ** 2 + (q @ single.T) ** 2
        # One candidate a block, so that the starts differ by more than a pixel's shift.
        best = score.argmax(axis=0)
        scores.append(score[best, columns])
        candidates.append(pairs[best])
    order = np.argsort(-np.array(scores), axis=0, kind="stable")[:_STARTS]
    starts = np.array(candidates)[order, columns].reshape(-1, 6)
    owners = np.tile(columns, len(order))
    size = max(1, _BLOCK // unit.shape[1])
    blocks = [slice(i, i + size) for i in range(0, len(starts), size)]
    climbed = [_refine(starts[block], single[owners[block]], shape) for block in blocks]
    ends, explained = (np.concatenate(part) for part in zip(*climbed, strict=True))
    explained = np.clip(explained.astype(np.float64), 0.0, 1.0).reshape(-1, n)
    best = explained.argmax(axis=0)
    return explained[best, columns], ends.reshape(-1, n, 6)[best, columns, 1] % np.pi
