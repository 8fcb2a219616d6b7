"""Measures of filters and reconstructions: closed forms, SciPy, scikit-learn, invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import r2_score

from rarefire.metrics.filters import (
    kurtosis,
    near_zero_share,
    r_squared,
    roughness,
    small_norm_share,
    smoothness,
    spread,
    uniform_spread,
)

SHAPE = (7, 10)


@pytest.fixture
def bank():
    """Filters whose rows and columns differ, off zero mean, of many sizes."""
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.standard_normal((20, *SHAPE)), axis=2)
    return (smooth + rng.standard_normal((20, 1, 1))).reshape(20, -1) * np.geomspace(1e-3, 1e3, 20)[:, None]


OF_FILTERS = {
    "kurtosis": lambda filters, shape: kurtosis(filters),
    "spread": spread,
    "smoothness": smoothness,
}
OF_BANKS = {
    "near_zero_share": lambda filters, shape: near_zero_share(filters),
    "small_norm_share": lambda filters, shape: small_norm_share(filters),
}
ALL = {**OF_FILTERS, **OF_BANKS}


# What all have in common.


@pytest.mark.parametrize("measure", ALL.values(), ids=ALL)
@pytest.mark.parametrize("factor", [-1.0, 3.7, 1e-200, 1e200])
def test_scale_and_sign_do_not_matter(measure, factor, bank):
    np.testing.assert_allclose(measure(factor * bank, SHAPE), measure(bank, SHAPE), rtol=1e-9)


@pytest.mark.parametrize("measure", OF_FILTERS.values(), ids=OF_FILTERS)
def test_each_filter_stands_for_itself(measure, bank):
    alone = np.concatenate([measure(row[None], SHAPE) for row in bank])
    assert np.ptp(alone) > 0.1
    np.testing.assert_allclose(measure(bank * np.geomspace(1, 1e250, 20)[:, None], SHAPE), alone, rtol=1e-9)


@pytest.mark.parametrize("measure", ALL.values(), ids=ALL)
def test_turning_the_images_does_not_matter(measure, bank):
    images = bank.reshape(-1, *SHAPE)
    expected = measure(bank, SHAPE)
    np.testing.assert_allclose(measure(images.transpose(0, 2, 1).reshape(len(bank), -1), SHAPE[::-1]), expected)
    np.testing.assert_allclose(measure(images[:, ::-1].reshape(len(bank), -1), SHAPE), expected)
    np.testing.assert_allclose(measure(images[:, :, ::-1].reshape(len(bank), -1), SHAPE), expected)


@pytest.mark.parametrize("measure", ALL.values(), ids=ALL)
def test_single_precision_is_measured_in_double(measure, bank):
    single = bank.astype(np.float32)
    np.testing.assert_array_equal(measure(single, SHAPE), measure(single.astype(np.float64), SHAPE))


@pytest.mark.parametrize("measure", OF_FILTERS.values(), ids=OF_FILTERS)
def test_a_filter_of_zeros_has_no_measure_and_leaves_the_others_theirs(measure, bank):
    padded = np.insert(bank, 3, 0.0, axis=0)
    np.testing.assert_allclose(measure(padded, SHAPE), np.insert(measure(bank, SHAPE), 3, np.nan))


@pytest.mark.parametrize("measure", [OF_FILTERS["kurtosis"], smoothness])
@pytest.mark.parametrize("value", [0.1, -7.3, 1e9])
def test_rounding_is_no_structure(measure, value):
    nearly = value * (1 + np.finfo(np.float64).eps * (np.arange(70) % 3))
    assert np.ptp(nearly) > 0
    assert np.isnan(measure([np.full(70, value), nearly], SHAPE)).all()
    assert not np.isnan(measure(np.full((1, 70), value) * (1 + 1e-6 * np.eye(70)[:1]), SHAPE)).any()


@pytest.mark.parametrize("measure", ALL.values(), ids=ALL)
@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (np.zeros((0, 70)), "empty"),
        (np.full((2, 70), np.nan), "finite"),
        (np.where(np.eye(2, 70) > 0, -np.inf, 1.0), "finite"),
    ],
)
def test_filters_that_cannot_be_measured_are_refused(measure, filters, message):
    with pytest.raises(ValueError, match=message):
        measure(filters, SHAPE)


@pytest.mark.parametrize("measure", [kurtosis, small_norm_share, lambda f: spread(f, SHAPE), lambda f: r_squared(f, f)])
@pytest.mark.parametrize("shape", [(70,), (2, 7, 10)])
def test_filters_that_are_not_rows_are_refused(measure, shape):
    with pytest.raises(ValueError, match="two dimensions"):
        measure(np.ones(shape))


@pytest.mark.parametrize("measure", [spread, smoothness])
def test_a_shape_that_the_rows_do_not_fill_is_refused(measure):
    with pytest.raises(ValueError, match="70 pixels do not fill 7 x 11"):
        measure(np.ones((3, 70)), (7, 11))
    with pytest.raises(ValueError, match="at least 1"):
        measure(np.ones((3, 70)), (-7, -10))


@pytest.mark.parametrize("measure", [near_zero_share, small_norm_share])
@pytest.mark.parametrize("fraction", [-0.1, math.nan])
def test_a_fraction_that_is_none_is_refused(measure, fraction):
    with pytest.raises(ValueError, match="at least 0"):
        measure(np.ones((2, 2)), fraction)


# Shares.


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
def test_near_zero_share_of_known_distributions(fraction):
    middles = (np.arange(200_000) + 0.5) / 200_000  # quantiles stand for draws
    for law, expected in (
        (scipy.stats.norm, math.erf(fraction / math.sqrt(2))),
        (scipy.stats.laplace, 1 - math.exp(-fraction * math.sqrt(2))),
        (scipy.stats.uniform(-1, 2), fraction / math.sqrt(3)),
    ):
        assert near_zero_share(law.ppf(middles).reshape(400, 500), fraction) == pytest.approx(expected, abs=1e-4)


def test_near_zero_share_by_default_is_that_of_a_tenth(bank):
    assert 0 < near_zero_share(bank) == near_zero_share(bank, 0.1) < near_zero_share(bank, 0.2)


def test_weights_are_small_on_the_scale_of_all_filters_together():
    filters = np.array([[1.0, -1.0], [0.01, 0.01]])
    assert near_zero_share(filters) == 0.5
    assert near_zero_share(filters[1:]) == 0.0


def test_small_norms():
    norms = np.array([4.0, 0.41, 0.39, 0.0, 40.0 / 11])
    filters = norms[:, None] * np.array([[0.6, -0.8]])
    assert small_norm_share(filters) == 2 / 5
    assert small_norm_share(filters, 0.11) == 3 / 5
    assert small_norm_share(filters, 1.0) == 1.0
    assert small_norm_share(filters[:2]) == 0.0


@pytest.mark.parametrize("share", [near_zero_share, small_norm_share])
def test_a_fraction_of_nothing_counts_zeros(share):
    assert share([[0.0], [1e-30], [1.0], [-2.0]], 0.0) == 0.25
    assert share(np.zeros((3, 4))) == 1.0


# Kurtosis.


def test_kurtosis_is_scipys(bank):
    np.testing.assert_allclose(kurtosis(bank), scipy.stats.kurtosis(bank, axis=1))


def test_kurtosis_is_about_the_mean(bank):
    np.testing.assert_allclose(kurtosis(bank + 5 * np.abs(bank).max(axis=1, keepdims=True)), kurtosis(bank))


@pytest.mark.parametrize("n", [9, 100])
def test_kurtosis_of_one_pixel_and_of_a_grating(n):
    # One of n values differs: m2 = (n - 1) / n², m4 = (n - 1)(n² - 3n + 3) / n⁴.
    grating = np.sin(2 * np.pi * np.arange(n) / n)
    expected = [(n * n - 3 * n + 3) / (n - 1) - 3, -1.5]
    np.testing.assert_allclose(kurtosis([np.eye(n)[4], grating]), expected)


def test_kurtosis_of_normal_weights():
    values = kurtosis(np.random.default_rng(1).standard_normal((20_000, 49)))
    error = values.std() / math.sqrt(len(values))
    assert error < 0.01
    assert values.mean() == pytest.approx(-6 / 50, abs=4 * error)


# Spread.


def test_spread_of_every_single_pixel_is_none():
    np.testing.assert_array_equal(spread(-3.0 * np.eye(70), SHAPE), np.zeros(70))


def test_spread_of_two_pixels_is_half_their_distance():
    filters = np.zeros((2, *SHAPE))
    filters[0, 1, 2], filters[0, 4, 6] = 2.0, -2.0  # 3 down, 4 across
    filters[1, 0, 0], filters[1, -1, -1] = 1.0, 1.0
    np.testing.assert_allclose(spread(filters.reshape(2, -1), SHAPE), [2.5, math.hypot(6, 9) / 2])


def test_spread_weighs_by_energy():
    # Energies 1 and 4 at distance 9: the variance is 1/5 · 4/5 · 9².
    filters = np.zeros((1, *SHAPE))
    filters[0, 3, 0], filters[0, 3, 9] = 1.0, -2.0
    np.testing.assert_allclose(spread(filters.reshape(1, -1), SHAPE), 9 * 0.4)


def test_spread_is_the_deviation_of_pixels_drawn_by_energy(bank):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]].reshape(2, -1)
    for row, value in zip(bank, spread(bank, SHAPE), strict=True):
        variances = np.diag(np.cov(np.stack([rows, columns]), aweights=row**2, ddof=0))
        assert value == pytest.approx(math.sqrt(variances.sum()))


def test_spread_of_a_gaussian_does_not_depend_on_its_place():
    y, x = np.mgrid[:40, :60]
    spots = [np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (4 * 2.5**2)).ravel() for y0, x0 in ((20, 30), (18.3, 24.6))]
    np.testing.assert_allclose(spread(spots, (40, 60)), 2.5 * math.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("shape", [(7, 10), (1, 5), (12, 12), (1, 1)])
def test_uniform_energy(shape):
    h, w = shape
    positions = np.mgrid[:h, :w].reshape(2, -1)
    assert uniform_spread(shape) == pytest.approx(math.sqrt(positions.var(axis=1).sum()))
    signs = np.where(positions.sum(axis=0) % 2, 0.3, -0.3)
    np.testing.assert_allclose(spread([signs], shape), uniform_spread(shape))


def test_white_noise_is_spread_like_uniform_energy():
    rng = np.random.default_rng(2)
    away = [
        np.abs(spread(rng.standard_normal((200, side * side)), (side, side)) / uniform_spread((side, side)) - 1).mean()
        for side in (4, 12, 36)
    ]
    assert away[0] > 2 * away[1] > 4 * away[2]
    assert away[2] < 0.02


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_side_of_nothing_has_no_spread(shape):
    with pytest.raises(ValueError, match="at least 1"):
        uniform_spread(shape)


# Smoothness.


def test_smoothness_is_the_correlation_of_the_list_of_neighbours(bank):
    h, w = SHAPE
    ends = [
        (r * w + c, s * w + d)
        for r in range(h)
        for c in range(w)
        for s, d in ((r, c + 1), (r + 1, c), (r, c - 1), (r - 1, c))
        if 0 <= s < h and 0 <= d < w
    ]
    here, there = np.transpose(ends)
    expected = [np.corrcoef(row[here], row[there])[0, 1] for row in bank]
    np.testing.assert_allclose(smoothness(bank, SHAPE), expected)


@pytest.mark.parametrize("shape", [(1, 12), (9, 12), (40, 64)])
@pytest.mark.parametrize("k", [1, 3, 5, 11])
def test_smoothness_of_a_sinusoid(shape, k):
    # cos(πk(x + ½)/w) is an eigenvector of the path's Laplacian, with eigenvalue 2 - 2 cos(πk/w). Its squares sum to
    # w/2, those of its two ends to 2 cos²(πk/2w), and for odd k it is odd, so that its mean is 0.
    h, w = shape
    c = math.cos(math.pi * k / w)
    expected = 1 - h * w * (1 - c) / (h * (w - 1 - c) + (h - 1) * w)
    image = np.tile(np.cos(np.pi * k * (np.arange(w) + 0.5) / w), (h, 1))
    np.testing.assert_allclose(smoothness(image.reshape(1, -1), shape), expected, rtol=1e-9, atol=1e-12)


def test_the_ends_of_the_scale():
    y, x = np.mgrid[:32, :32]
    chessboard, ramp, spot = (-1.0) ** (x + y), 2.0 * x - y, np.exp(-((x - 16) ** 2 + (y - 16) ** 2) / 50)
    values = smoothness([image.ravel() for image in (chessboard, ramp, spot)], (32, 32))
    assert values[0] == pytest.approx(-1.0)
    assert 0.98 < values[1] < 1
    assert 0.98 < values[2] < 1


def test_smoothness_does_not_depend_on_the_mean(bank):
    np.testing.assert_allclose(
        smoothness(bank + 5 * np.abs(bank).max(axis=1, keepdims=True), SHAPE), smoothness(bank, SHAPE)
    )


def test_white_noise_is_not_smooth():
    values = smoothness(np.random.default_rng(3).standard_normal((20_000, 64)), (8, 8))
    error = values.std() / math.sqrt(len(values))
    assert error < 0.001
    assert values.mean() == pytest.approx(-1 / 63, abs=4 * error + 1e-3)


def test_an_image_of_one_pixel_has_no_neighbours():
    np.testing.assert_array_equal(smoothness([[1.0], [2.0]], (1, 1)), [np.nan, np.nan])


# Reconstructions.


def test_r_squared_is_scikit_learns():
    rng = np.random.default_rng(4)
    x = 3 + rng.standard_normal((50, 8)) * np.geomspace(0.1, 10, 8)
    for noise in (0.1, 1.0, 10.0):
        x_hat = 0.9 * x + noise * rng.standard_normal(x.shape)
        assert r_squared(x, x_hat) == pytest.approx(r2_score(x, x_hat, multioutput="variance_weighted"))


def test_r_squared_of_everything_and_of_the_mean():
    x = np.random.default_rng(5).standard_normal((20, 3)) + 7
    assert r_squared(x, x) == 1.0
    assert r_squared(x, np.tile(x.mean(axis=0), (20, 1))) == pytest.approx(0.0, abs=1e-12)
    assert r_squared(x, np.tile(x.mean(axis=0), (20, 1)) + 1) < 0


def test_r_squared_of_equal_rows_is_unknown():
    x = np.tile([0.1, 0.7, 1e6], (3, 1))
    assert math.isnan(r_squared(x, x))
    assert r_squared(x + np.eye(3), x + np.eye(3)) == 1.0


def test_r_squared_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match="a reconstruction for each row"):
        r_squared(np.ones((3, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="x_hat must be finite"):
        r_squared(np.ones((1, 2)), [[1.0, np.nan]])


def test_roughness_of_flat_checkered_and_noisy_images():
    flat = np.full((1, 64), -3.0)
    checkered = ((np.indices((8, 8)).sum(axis=0) % 2) * 2.0 - 1).reshape(1, 64)
    assert roughness(flat, (8, 8)) == [0.0]
    # Each of the 112 pairs of neighbours differs by 2, and the squares sum to 64.
    assert roughness(checkered, (8, 8)) == pytest.approx([4 * 112 / 64])
    noise = np.random.default_rng(0).normal(size=(20_000, 48))
    assert roughness(noise, (6, 8)).mean() == pytest.approx(4 - 2 / 6 - 2 / 8, abs=0.02)


def test_roughness_of_a_wave_follows_its_length():
    x = np.arange(512)
    wave = np.sin(2 * np.pi * 8 * x / 512)[None]
    # Neighbours of a sine of frequency f differ by 2 sin(πf) in amplitude.
    assert roughness(wave, (1, 512)) == pytest.approx([4 * np.sin(np.pi * 8 / 512) ** 2], rel=0.01)
    assert roughness(-1e200 * wave, (1, 512)) == pytest.approx(roughness(wave, (1, 512)))
    assert np.isnan(roughness(np.zeros((1, 4)), (2, 2))).all()
    with pytest.raises(ValueError, match="do not fill"):
        roughness(wave, (3, 5))
