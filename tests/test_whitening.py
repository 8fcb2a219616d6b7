"""Whitening against scikit-learn, closed forms and the Fourier transform."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import rarefire as rf
from rarefire.data.images import grey_images, whiten_image
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError
from rarefire.preprocess import OneOverFWhitening, PCAWhitening, RemoveMean, ZCAWhitening, fit_steps, prepared

RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(6, 6))
X = RNG.normal(size=(5000, 6)) @ MIXING + 100 * RNG.normal(size=6)
N = len(X)


def matrix(step, n_columns=6):
    """W of the affine map x ↦ W(x − μ), one column for each direction of the input."""
    return step.transform(np.eye(n_columns) + step.mean_).T


@pytest.mark.parametrize("n_components", [None, 4])
def test_pca_is_scikit_learns_but_for_the_number_it_divides_by(n_components):
    ours = PCAWhitening(epsilon=0, n_components=n_components).fit(X)
    theirs = PCA(n_components, whiten=True, svd_solver="full").fit(X)
    np.testing.assert_allclose(ours.components_, theirs.components_, atol=1e-10)
    np.testing.assert_allclose(ours.explained_variance_ * N / (N - 1), theirs.explained_variance_)
    np.testing.assert_allclose(ours.transform(X) * math.sqrt((N - 1) / N), theirs.transform(X), atol=1e-10)
    names = ours.get_feature_names_out()
    assert list(names) == [f"pcawhitening{i}" for i in range(n_components or 6)]


@pytest.mark.parametrize("cls", [PCAWhitening, ZCAWhitening])
def test_the_result_is_white(cls):
    out = cls(epsilon=0).fit_transform(X)
    np.testing.assert_allclose(np.cov(out.T, ddof=0), np.eye(6), atol=1e-10)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 255.0])
def test_the_regulariser_is_a_share_of_the_mean_variance(scale):
    covariance = np.cov(X.T, ddof=0)
    spectrum = np.linalg.eigvalsh(covariance)[::-1]
    left = spectrum / (spectrum + 0.3 * np.trace(covariance) / 6)
    out = PCAWhitening(epsilon=0.3).fit_transform(scale * X)
    np.testing.assert_allclose(np.cov(out.T, ddof=0), np.diag(left), atol=1e-10)
    np.testing.assert_allclose(ZCAWhitening(0.3).fit_transform(scale * X), ZCAWhitening(0.3).fit_transform(X))


def test_two_columns_in_closed_form():
    # Rows ±a(1, 1) and ±b(1, −1): covariance [[s, d], [d, s]] with λ = s ± d along the diagonals.
    a, b, mean = 3.0, 0.5, np.array([7.0, -2.0])
    rows = np.array([[a, a], [-a, -a], [b, -b], [-b, b]]) + mean
    variances = np.array([a**2, b**2])
    # What is along a diagonal is divided by its own deviation: √(λ + ε(a² + b²)/2), where λ = a², b².
    deviations = np.sqrt(variances + 0.1 * variances.mean())
    expected = np.array([[a, a], [-a, -a], [0, 0], [0, 0]]) / deviations[0]
    expected += np.array([[0, 0], [0, 0], [b, -b], [-b, b]]) / deviations[1]
    zca = ZCAWhitening(epsilon=0.1).fit(rows)
    np.testing.assert_allclose(zca.explained_variance_, variances)
    np.testing.assert_allclose(zca.transform(rows), expected)
    root = math.sqrt(2)
    codes = np.abs(PCAWhitening(epsilon=0.1).fit_transform(rows))
    np.testing.assert_allclose(codes[[0, 2]], [[root * a / deviations[0], 0], [0, root * b / deviations[1]]])


def test_zca_is_symmetric_and_the_nearest_of_all_whitenings():
    zca, pca = ZCAWhitening(epsilon=0).fit(X), PCAWhitening(epsilon=0).fit(X)
    symmetric, turned = matrix(zca), matrix(pca)
    np.testing.assert_allclose(symmetric, symmetric.T, atol=1e-12)
    assert np.linalg.eigvalsh(symmetric).min() > 0
    # Every other whitening is a rotation of this one, and changes the rows by more.
    centred = X - X.mean(axis=0)
    change = ((zca.transform(X) - centred) ** 2).sum()
    assert ((pca.transform(X) - centred) ** 2).sum() > change
    for _ in range(20):
        rotation, _ = np.linalg.qr(np.eye(6) + 0.1 * RNG.normal(size=(6, 6)))
        assert ((zca.transform(X) @ rotation - centred) ** 2).sum() > change
    np.testing.assert_allclose(turned.T @ turned, symmetric @ symmetric, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("step", [PCAWhitening(0), PCAWhitening(0.1), ZCAWhitening(0), ZCAWhitening(0.1)], ids=str)
def test_round_trips(step, dtype):
    rows = X.astype(dtype)
    codes = step.fit_transform(rows)
    back = step.inverse_transform(codes)
    assert codes.dtype == back.dtype == dtype
    precision = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(back, rows, rtol=precision, atol=precision * X.std())


def test_fewer_components_give_back_the_nearest_point_of_their_plane():
    step = PCAWhitening(epsilon=0.2, n_components=2).fit(X)
    back = step.inverse_transform(step.transform(X))
    theirs = PCA(2, svd_solver="full").fit(X)
    np.testing.assert_allclose(back, theirs.inverse_transform(theirs.transform(X)))


@pytest.mark.parametrize("cls", [PCAWhitening, ZCAWhitening])
def test_axes_of_no_variance_become_zero(cls):
    # The third column is the sum of two others, the fifth is constant: λ = 0 twice, but for rounding.
    rows = np.column_stack([X[:, 0], X[:, 1], X[:, 0] + X[:, 1], X[:, 2], np.full(N, 0.1)])
    step = cls(epsilon=0).fit(rows)
    assert (step.gain_ == 0).sum() == 2
    out = step.transform(rows)
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(out.T, ddof=0)), [0, 0, 1, 1, 1], atol=1e-10)
    # Later rows that leave the plane: what is outside is lost.
    np.testing.assert_allclose(step.transform(rows + 5.0 * np.eye(5)[4]), out, atol=1e-8)
    np.testing.assert_allclose(step.inverse_transform(out), rows)


@pytest.mark.parametrize("n_columns", [2, 3, 16, 64])
def test_what_float32_leaves_of_a_removed_mean_is_no_variance(n_columns):
    rows = RNG.normal(3, 1, size=(500, n_columns)).astype(np.float32)
    steps = [RemoveMean(), ZCAWhitening(epsilon=0)]
    source = ArraySource(rows, Description("array"))
    fit_steps(steps, source)
    assert (steps[1].gain_ == 0).sum() == 1
    np.testing.assert_allclose(prepared(source, steps).rows(slice(None)).sum(axis=1), 0, atol=1e-4)


def test_more_columns_than_rows():
    rows = RNG.normal(size=(10, 40))
    out = PCAWhitening(epsilon=0).fit_transform(rows)
    np.testing.assert_allclose(np.cov(out.T, ddof=0), np.diag([1.0] * 9 + [0.0] * 31), atol=1e-10)
    assert np.isfinite(ZCAWhitening().fit_transform(rows[:1])).all()


class Watched(ArraySource):
    """An array that remembers how many rows were read at once."""

    most = 0

    def rows(self, index):
        block = super().rows(index)
        self.most = max(self.most, len(block))
        return block


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_the_covariance_is_made_a_batch_at_a_time_at_any_offset(offset):
    rows = RNG.normal(size=(10000, 3)) @ [[1, 0.5, 0], [0, 1, 0.2], [0, 0, 0.1]]
    source = Watched(rows + offset, Description("array"))
    step = PCAWhitening(epsilon=0).fit_source(source)
    assert source.most == 4096
    covariance = step.components_.T * step.explained_variance_ @ step.components_
    np.testing.assert_allclose(covariance, np.cov((source.array - offset).T, ddof=0), atol=1e-12)
    np.testing.assert_allclose(np.cov(step.transform(source.array).T, ddof=0), np.eye(3), atol=1e-6)


def test_signs_do_not_depend_on_the_order_of_rows():
    one, other = PCAWhitening().fit(X), PCAWhitening().fit(X[::-1])
    np.testing.assert_allclose(one.components_, other.components_, atol=1e-10)
    largest = np.abs(one.components_).argmax(axis=1)
    assert (one.components_[np.arange(6), largest] > 0).all()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (PCAWhitening(epsilon=-1), "at least 0"),
        (ZCAWhitening(epsilon=float("inf")), "at least 0"),
        (PCAWhitening(n_components=0), "at least 1"),
        (PCAWhitening(n_components=7), "n_components=7 of 6 columns"),
        (OneOverFWhitening(cutoff=0), "above 0"),
        (OneOverFWhitening(shape=(2, 2)), "images of 6 values"),
        (OneOverFWhitening(shape=6), "images of 6 values"),
        (OneOverFWhitening(shape=(2, 3, 1, 1)), "images of 6 values"),
        (OneOverFWhitening(shape=(-2, -3)), "images of 6 values"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be(step, words):
    with pytest.raises(InputError, match=words):
        step.fit(X)


@pytest.mark.parametrize("cls", [PCAWhitening, ZCAWhitening])
def test_too_many_columns_for_a_covariance(cls):
    with pytest.raises(InputError, match="cut images into patches"):
        cls().fit(np.zeros((2, 2**14 + 1), np.float32))


# 1/f ---------------------------------------------------------------------------------------------------------------


def images(shape, n_rows=20):
    rows = np.random.default_rng(1).random((n_rows, math.prod(shape)))
    return ArraySource(rows, Description("pictures", "image", shape))


def test_rows_are_filtered_as_images_are():
    source = images((5, 8))
    step = OneOverFWhitening(cutoff=0.3).fit_source(source)
    expected = [whiten_image(row.reshape(5, 8), 0.3).ravel() for row in source.array]
    np.testing.assert_allclose(step.apply(source.array), expected, atol=1e-14)
    given = OneOverFWhitening(cutoff=0.3, shape=(5, 8)).fit(source.array)
    np.testing.assert_array_equal(given.transform(source.array), step.apply(source.array))


def test_colours_are_filtered_apart():
    source = images((4, 6, 3))
    out = OneOverFWhitening().fit_source(source).apply(source.array).reshape(-1, 4, 6, 3)
    assert not OneOverFWhitening(cutoff=1e-300).fit_transform(source.array).any()
    for channel in range(3):
        grey = source.array.reshape(-1, 4, 6, 3)[:, :, :, channel]
        np.testing.assert_allclose(out[:, :, :, channel], [whiten_image(image) for image in grey], atol=1e-14)


@pytest.mark.parametrize(("n_columns", "shape"), [(1, (1, 1)), (3, (1, 3)), (64, (8, 8)), (192, (1, 192))])
def test_the_shape_of_rows_of_which_nothing_is_known(n_columns, shape):
    step = OneOverFWhitening().fit(RNG.random((5, n_columns)))
    assert tuple(step.shape_) == shape


def test_the_shape_that_is_given_must_be_that_of_the_source():
    with pytest.raises(InputError, match="differs from that of the images"):
        OneOverFWhitening(shape=(8, 5)).fit_source(images((5, 8)))
    named = ArraySource(X, Description("table", "named", feature_names=tuple("abcdef")))
    with pytest.raises(InputError, match="have names"):
        OneOverFWhitening().fit_source(named)
    assert tuple(OneOverFWhitening(shape=[2, 3]).fit_source(named).shape_) == (2, 3)


def test_the_inverse_gives_back_all_but_the_mean():
    source = images((8, 8, 3))
    step = OneOverFWhitening().fit_source(source)
    pixels = source.array.reshape(-1, 64, 3)
    expected = (pixels - pixels.mean(axis=1, keepdims=True)).reshape(source.array.shape)
    np.testing.assert_allclose(step.inverse_transform(step.apply(source.array)), expected, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cutoff", [0.05, 0.2, 0.4, 5.0])
def test_the_inverse_does_not_blow_rounding_up(cutoff, dtype):
    source = images((16, 16))
    rows = source.array.astype(dtype)
    step = OneOverFWhitening(cutoff=cutoff).fit_source(source)
    codes = step.apply(rows)
    back = step.inverse_transform(codes)
    assert codes.dtype == back.dtype == dtype
    precision = math.sqrt(np.finfo(dtype).eps)
    assert np.abs(back).max() < 2
    assert np.abs(step.apply(back) - codes).max() < 4 * precision * np.abs(codes).max()


def test_whitening_flattens_the_spectrum_of_patches():
    image = grey_images()[0]
    patches = np.lib.stride_tricks.sliding_window_view(image, (16, 16))[::16, ::16].reshape(-1, 256)
    out = OneOverFWhitening().fit_transform(patches)

    def fall(rows):
        """Amplitude of waves of 1/16 cycle a pixel, down or across, over that of 4/16."""
        window = np.outer(np.hanning(16), np.hanning(16))
        squares = (rows - rows.mean(axis=1, keepdims=True)).reshape(-1, 16, 16)
        power = (np.abs(np.fft.fft2(squares * window)) ** 2).mean(axis=0)
        return math.sqrt((power[0, 1] + power[1, 0]) / (power[0, 4] + power[4, 0]))

    assert fall(patches) > 2.4
    assert 0.7 < fall(out) < 1.4


# Runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chain",
    [
        ["RemoveMean"],
        ["PCAWhitening:epsilon=0.1"],
        ["ZCAWhitening:epsilon=0.1"],
        ["OneOverFWhitening:cutoff=0.35"],
        ["RemoveMean", "ZCAWhitening"],
    ],
    ids=",".join,
)
def test_a_run_is_prepared_the_same_way_when_it_is_loaded(cli, undrawn, tmp_path, chain):
    options = [word for text in [*chain, "Rescale"] for word in ("--prepare", text)]
    run = tmp_path / "run"
    fit = ["fit", "digits", "--estimator", "BernoulliRBM", "--set", "n_components=5", "--set", "n_iter=1"]
    assert cli(*fit, *options, "--validation", 0, "--out", run, "--quiet").code == 0
    pixels = (load_digits().data / 16).astype(np.float32)
    model = rf.load(run)
    codes = model.transform(pixels)
    assert cli("encode", run, "digits", "-o", tmp_path / "codes.npy").code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), codes)

    # The same steps fitted here, to the same rows.
    source = ArraySource(pixels, Description("digits", "image", (8, 8)))
    steps = [type(step)(**step.get_params()) for _, step in model.steps[:-1]]
    fit_steps(steps, source)
    rows = prepared(source, steps).rows(slice(None))
    np.testing.assert_allclose(model.steps[-1][1].transform(rows), codes, atol=1e-6)
    assert rows.std() > 0.01
