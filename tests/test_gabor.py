"""Tests of the edge-likeness measurements against constructions whose answer is known."""

import warnings

import numpy as np
import pytest
from scipy.optimize import least_squares

from rarefire.metrics import gabor
from rarefire.metrics.gabor import control_shares, edge_likeness
from rarefire.random import Generator


def _grid(shape):
    h, w = shape
    return np.meshgrid(np.arange(w) - (w - 1) / 2, np.arange(h) - (h - 1) / 2)


def _pair(shape, f, theta, x0, y0, sigma, gamma):
    """Write the pair down a second time, in complex numbers, as a check on the module's."""
    x, y = _grid(shape)
    z = (x - x0 + 1j * (y - y0)) * np.exp(-1j * theta)
    g = np.exp(-0.5 * (z.real / sigma) ** 2 - 0.5 * (z.imag / (gamma * sigma)) ** 2 + 2j * np.pi * f * z.real)
    return np.stack([g.real.ravel(), g.imag.ravel()], axis=1)


def _grating(side, f, theta, phase=0.0):
    x, y = _grid((side, side))
    return np.cos(2 * np.pi * f * (x * np.cos(theta) + y * np.sin(theta)) + phase).ravel()


def _derivative_of_gaussian(order, side, sigma, theta):
    x, y = _grid((side, side))
    u = (x * np.cos(theta) + y * np.sin(theta)) / sigma
    hermite = np.polynomial.hermite_e.hermeval(u, np.eye(order + 1)[order])
    return (hermite * np.exp(-(x**2 + y**2) / (2 * sigma**2))).ravel()


def _smooth(side, n, rng):
    """White noise filtered by a Gaussian of one pixel, as explicit matrix products."""
    k = np.arange(side + 8)
    blur = np.exp(-0.5 * (k[:, None] - k) ** 2)
    return (blur @ rng.standard_normal((n, side + 8, side + 8)) @ blur)[:, 4:-4, 4:-4].reshape(n, -1)


def _unit(filters):
    centred = filters - filters.mean(axis=1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def _angle_between(a, b):
    return np.abs((a - b + np.pi / 2) % np.pi - np.pi / 2)


# The fit.


@pytest.mark.parametrize("shape", [(8, 8), (12, 12), (9, 14)])
def test_gabors_of_random_parameters_are_found(shape):
    rng = np.random.default_rng(1)
    h, w = shape
    n = 60
    f = rng.uniform(1.2 / min(shape), 0.4, n)
    theta = rng.uniform(0, np.pi, n)
    x0, y0 = 0.35 * w * rng.uniform(-1, 1, n), 0.35 * h * rng.uniform(-1, 1, n)
    sigma = np.maximum(rng.uniform(0.3, 0.9, n) / f, 0.7)
    gamma = rng.uniform(0.7, 2.5, n)
    phase = rng.uniform(0, 2 * np.pi, n)
    filters = [
        _pair(shape, *row[:-1]) @ [np.cos(row[-1]), np.sin(row[-1])]
        for row in zip(f, theta, x0, y0, sigma, gamma, phase, strict=True)
    ]
    found = edge_likeness(filters, shape)
    assert found.variance_explained.min() > 0.995
    assert found.variance_explained.max() <= 1
    assert np.median(_angle_between(found.orientation, theta)) < 0.01
    assert np.all((found.orientation >= 0) & (found.orientation < np.pi))


def test_narrow_gabors_between_the_grid_points_of_a_large_patch_are_found():
    rng = np.random.default_rng(2)
    frequency, theta = rng.uniform(0.1, 0.45, 30), rng.uniform(0, np.pi, 30)
    rows = zip(frequency, theta, rng.uniform(-12, 12, (30, 2)), strict=True)
    filters = np.array([_pair((28, 28), f, t, *centre, 0.9, 1.3)[:, 1] for f, t, centre in rows])
    assert edge_likeness(filters).variance_explained.min() > 0.99


def test_diagonal_gabors_beyond_half_a_cycle_a_pixel_are_found():
    filters = np.array([_pair((12, 12), f, np.pi / 4, 0.4, -0.7, 3.0, 1.0)[:, 0] for f in (0.55, 0.6)])
    found = edge_likeness(filters)
    assert found.variance_explained.min() > 0.99
    np.testing.assert_allclose(found.peak_frequency, [6.6, 7.2], atol=0.2)


def test_known_noise_leaves_the_known_fraction():
    rng = np.random.default_rng(3)
    shape = (16, 16)
    fraction = np.repeat([0.35, 0.65, 0.9], 20)
    filters = []
    for kept in fraction:
        pair = _pair(shape, rng.uniform(0.1, 0.25), rng.uniform(0, np.pi), *rng.uniform(-3, 3, 2), 3.0, 1.2)
        basis = np.linalg.qr(np.column_stack([np.ones(256), pair]))[0]
        noise = rng.standard_normal(256)
        noise -= basis @ (basis.T @ noise)  # so that the true pair explains the rest exactly
        signal = basis[:, 1:] @ rng.standard_normal(2)
        signal *= np.sqrt(kept) / np.linalg.norm(signal)
        filters.append(signal + np.sqrt(1 - kept) * noise / np.linalg.norm(noise))
    found = edge_likeness(filters)
    assert np.all(found.variance_explained > fraction - 1e-3)
    # The six parameters also fit some of the noise, a few of its 253 directions.
    assert np.all(found.variance_explained < fraction + 0.12 * (1 - fraction))
    np.testing.assert_array_equal(found.edge_like, fraction > 0.5)


def test_search_agrees_with_many_scipy_starts():
    rng = np.random.default_rng(4)
    filters = _unit(_smooth(8, 5, rng))
    low = [0.25 / 8, -np.inf, -4, -4, 0.5, 0.5]
    high = [0.5, np.inf, 4, 4, 8, 4]
    starts = rng.uniform([0.04, 0, -4, -4, 0.6, 0.6], [0.5, np.pi, 4, 4, 5, 3.5], (1000, 6))

    def residual(parameters, target):
        pair = _pair((8, 8), *parameters)
        pair = pair - pair.mean(axis=0)
        return target - pair @ np.linalg.lstsq(pair, target, rcond=None)[0]

    found = edge_likeness(filters).variance_explained
    for target, explained in zip(filters, found, strict=True):
        unexplained = [np.sum(residual(start, target) ** 2) for start in starts]
        best = min(
            2 * least_squares(residual, start, bounds=(low, high), args=(target,), max_nfev=40).cost
            for start in starts[np.argsort(unexplained)[:10]]
        )
        assert explained == pytest.approx(1 - best, abs=0.02)


def test_expansion_has_the_slope_of_the_explained_variance():
    rng = np.random.default_rng(5)
    unit = _unit(_smooth(10, 5, rng)).astype(np.float32)
    pairs = rng.uniform([-2.3, 0, -2, -2, 0.3, 0], [-1.2, 3, 2, 2, 0.8, 0.6], (5, 6))
    _, slope, _ = gabor._expand(pairs, unit, (10, 10))
    for k in range(6):
        step = 1e-2 * np.eye(6)[k]
        above, below = (gabor._expand(pairs + sign * step, unit, (10, 10))[0] for sign in (1, -1))
        np.testing.assert_allclose(slope[:, k], (above - below) / 4e-2, atol=3e-3)


# The spectrum.


@pytest.mark.parametrize("side", [8, 12, 16])
def test_rotated_gratings_have_their_frequency_and_orientation(side):
    rng = np.random.default_rng(6)
    theta = rng.uniform(0, np.pi, 40)
    cycles = rng.uniform(2.5, 0.4 * side, 40)
    phases = rng.uniform(0, 2 * np.pi, 40)
    rows = zip(cycles / side, theta, phases, strict=True)
    found = edge_likeness([_grating(side, *row) for row in rows])
    # One bin of the padded spectrum, side / 64 cycles a patch, and the leakage of the patch's border.
    np.testing.assert_allclose(found.peak_frequency, cycles, atol=side / 64 + 0.1)
    assert _angle_between(found.orientation, theta).max() < 0.03
    assert found.orientation_strength.min() > 0.6
    assert found.variance_explained.min() > 0.98
    assert found.edge_like.all()


def test_frequency_counts_cycles_of_a_patch_that_is_not_square():
    x, y = _grid((6, 24))
    waves = np.cos(2 * np.pi * 5 * x / 24), np.cos(2 * np.pi * 2 * y / 6)
    found = edge_likeness([wave.ravel() for wave in waves], (6, 24))
    np.testing.assert_allclose(found.peak_frequency, [5, 2], atol=0.4)
    np.testing.assert_allclose(_angle_between(found.orientation, np.array([0, np.pi / 2])), 0, atol=0.02)


def test_strength_of_a_filter_that_fills_the_padding_is_one():
    # A whole number of cycles in 64 pixels has its power in two opposite bins, to the last digit.
    found = gabor._spectrum(_unit(_grating(64, 12 / 64, np.pi / 2, 0.4)[None]), (64, 64))
    np.testing.assert_allclose(found, [[12.0], [1.0]], rtol=1e-12)


def test_derivatives_of_a_gaussian_have_the_closed_forms():
    # P is proportional to rho^2n cos^2n(phi) exp(-(2 pi sigma rho)^2): it peaks at
    # rho = sqrt(n) / (2 pi sigma), and the mean of cos(2 phi) weighted by cos^2n(phi) is n / (n + 1).
    side, sigma = 24, 2.5
    orders, angles = np.repeat([1, 2, 3], 3), np.tile([0.0, 0.7, 2.0], 3)
    rows = zip(orders, angles, strict=True)
    found = edge_likeness([_derivative_of_gaussian(n, side, sigma, theta) for n, theta in rows])
    np.testing.assert_allclose(found.orientation_strength, orders / (orders + 1), atol=0.01)
    peak = side * np.sqrt(orders) / (2 * np.pi * sigma)
    np.testing.assert_allclose(found.peak_frequency, peak, atol=0.75 * side / 64)


def test_isotropic_filters_have_no_orientation_strength():
    x, y = _grid((15, 15))
    r = (x**2 + y**2) / 8
    found = edge_likeness([np.exp(-r).ravel(), ((1 - r) * np.exp(-r)).ravel()])
    np.testing.assert_allclose(found.orientation_strength, 0, atol=1e-3)
    assert not found.edge_like.any()


# The verdict.


def test_each_rule_excludes_on_its_own():
    side = 12
    x, y = _grid((side, side))
    spot = np.exp(-((x - 0.3) ** 2 + (y + 0.2) ** 2) / 2).ravel()
    centres_and_angles = [(-3, -3, 0.3), (3, 3, 0.5), (3.5, -3.5, 0.1)]
    three_waves = sum(_pair((side, side), 0.25, t, x0, y0, 1.5, 1)[:, 0] for x0, y0, t in centres_and_angles)
    found = edge_likeness([three_waves, x.ravel(), spot, _grating(side, 0.2, 0.4)])
    explained, wave, oriented = (
        found.variance_explained > 0.5,
        found.peak_frequency >= 1,
        found.orientation_strength >= 0.3,
    )
    np.testing.assert_array_equal(explained, [False, True, True, True])
    np.testing.assert_array_equal(wave, [True, False, True, True])
    np.testing.assert_array_equal(oriented, [True, True, False, True])
    np.testing.assert_array_equal(found.edge_like, [False, False, False, True])
    assert found.share == 0.25


def test_low_order_cosines_fail_by_their_frequency_alone():
    # The principal components of smooth patches: cosines of k half cycles along one axis.
    t = (np.arange(10) + 0.5) / 10
    filters = [np.outer(np.ones(10), np.cos(np.pi * k * t)).ravel() for k in (1, 2, 3, 4, 5)]
    found = edge_likeness(filters)
    assert found.variance_explained.min() > 0.9
    assert found.orientation_strength.min() > 0.3
    np.testing.assert_array_equal(found.edge_like, found.peak_frequency >= 1)
    assert not found.edge_like[0]
    assert found.edge_like[2:].all()


def test_scale_sign_and_constant_do_not_matter():
    filters = _smooth(8, 20, np.random.default_rng(7))
    plain = edge_likeness(filters)
    for other in (-filters, 1e-170 * filters, 1e170 * filters, filters + 40.0, np.float32(filters)):
        changed = edge_likeness(other)
        np.testing.assert_allclose(changed.variance_explained, plain.variance_explained, atol=2e-3)
        np.testing.assert_allclose(changed.orientation_strength, plain.orientation_strength, atol=1e-5)
        np.testing.assert_allclose(changed.peak_frequency, plain.peak_frequency)
        np.testing.assert_array_equal(changed.edge_like, plain.edge_like)
        np.testing.assert_array_equal(changed.counted, plain.counted)


def test_a_filter_is_judged_the_same_alone_and_in_company(monkeypatch):
    filters = _smooth(8, 12, np.random.default_rng(8))
    together = edge_likeness(filters).variance_explained
    alone = [edge_likeness(row[None]).variance_explained[0] for row in filters]
    np.testing.assert_allclose(together, alone, atol=2e-3)
    monkeypatch.setattr(gabor, "_BLOCK", 1)  # one pair refined at a time
    np.testing.assert_allclose(edge_likeness(filters[:2]).variance_explained, together[:2], atol=2e-3)


def test_small_filters_never_fit_but_stay_in_the_denominator():
    grating = _unit(_grating(8, 0.25, 0.3)[None])
    found = edge_likeness(np.array([1, 1, 1, 1, 1, 1, 0.11, 0.09, 0.0, 20])[:, None] * grating)
    np.testing.assert_array_equal(found.counted, [True] * 7 + [False, False, True])
    np.testing.assert_array_equal(found.edge_like, found.counted)
    assert found.variance_explained[7] > 0.98
    assert found.share == 0.8


@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (1, 1), (1, 16), (5, 1)])
def test_constant_filters_are_zero_without_warnings(shape):
    filters = np.outer([0.1, 0.7, 0.0, -1e-300, 1e300], np.ones(shape[0] * shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (filters, filters[:3], filters[:1], filters[2:3]):
            found = edge_likeness(rows, shape)
            for values in (
                found.variance_explained,
                found.peak_frequency,
                found.orientation_strength,
                found.orientation,
            ):
                np.testing.assert_array_equal(values, 0.0)
            assert not found.counted.any()
            assert found.share == 0.0
        edge_likeness(np.random.default_rng(0).standard_normal((3, shape[0] * shape[1])), shape)


# The controls.


@pytest.mark.parametrize("side", [8, 12])
def test_controls_are_rarely_edge_like(side):
    shares = control_shares((side, side), 120, seed=11)
    assert set(shares) == {"gaussian_spots", "smoothed_noise"}
    assert shares["gaussian_spots"] <= 0.01
    assert 0.02 <= shares["smoothed_noise"] <= 0.17


def test_controls_have_the_widths_they_state(monkeypatch):
    monkeypatch.setattr(gabor, "SMOOTHING_WIDTHS", (1.0, 1.0))
    noise = gabor._smoothed_noise((16, 16), 400, Generator(12, "test")).reshape(-1, 16, 16)
    # Smoothing by sigma = 2 pixels, at this side, correlates pixels d apart by exp(-d^2 / 4 sigma^2).
    products = (noise[:, :, :-2] * noise[:, :, 2:]).mean(), (noise[:, :-5] * noise[:, 5:]).mean()
    np.testing.assert_allclose(products / (noise**2).mean(), np.exp(-np.array([4, 25]) / 16), atol=0.05)
    monkeypatch.setattr(gabor, "SPOT_WIDTHS", (1.0, 1.0))
    spots = gabor._gaussian_spots((8, 8), 400, Generator(13, "test")).reshape(-1, 8, 8)
    inside = spots[(spots.sum(axis=2).argmax(axis=1) == 4) & (spots.sum(axis=1).argmax(axis=1) == 3)]
    assert len(inside) > 2
    np.testing.assert_allclose(inside.sum(axis=(1, 2)), 2 * np.pi, rtol=0.01)


def test_controls_follow_their_seed():
    first = control_shares((5, 7), 40, seed=1)
    assert first == control_shares((5, 7), 40, seed=1)
    rng = Generator(2, "test")
    draws = [gabor._smoothed_noise((4, 4), 2, rng) for _ in range(2)]
    assert not np.allclose(*draws)


# The errors.


@pytest.mark.parametrize(
    ("filters", "shape", "message"),
    [
        (np.ones((3, 10)), None, "not square"),
        (np.ones((3, 10)), (3, 3), "do not fill"),
        (np.ones((3, 10)), (-2, -5), "do not fill"),
        (np.ones((0, 16)), None, "non-empty"),
        (np.ones((3, 0)), None, "non-empty"),
        (np.ones(16), None, "non-empty"),
        (np.array([[0, 1, np.nan, 2.0]]), None, "finite"),
        (np.array([[0, 1, np.inf, 2.0]]), (2, 2), "finite"),
    ],
)
def test_unusable_filters_raise(filters, shape, message):
    with pytest.raises(ValueError, match=message):
        edge_likeness(filters, shape)


@pytest.mark.parametrize(("shape", "n"), [((8, 8), 0), ((0, 8), 5)])
def test_unusable_controls_raise(shape, n):
    with pytest.raises(ValueError, match="at least 1"):
        control_shares(shape, n)
