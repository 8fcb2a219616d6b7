"""Preparation steps against NumPy and scikit-learn."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from rarefire.component import from_spec, members, to_spec
from rarefire.data.source import ArraySource, Description
from rarefire.preprocess import (
    Binarise,
    ClipRescale,
    PCAWhitening,
    RemoveMean,
    Rescale,
    Standardise,
    Step,
    fit_steps,
    prepared,
)

X = np.random.default_rng(0).normal(5, [1, 2, 0.1], size=(3000, 3))


def test_standardise_is_scikit_learns():
    np.testing.assert_allclose(Standardise().fit_transform(X), StandardScaler().fit_transform(X), atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e8])
def test_constant_columns_become_zero_at_any_offset(offset):
    rows = np.column_stack([np.full(2500, offset + 0.1), np.arange(2500.0) + offset])
    out = Standardise().fit_transform(rows)
    np.testing.assert_array_equal(out[:, 0], 0)
    np.testing.assert_allclose(out[:, 1].std(), 1)


def test_rescale_has_one_range_for_all_columns_and_clips_later_data():
    step = Rescale().fit(X)
    out = step.transform(X)
    assert out.min() == 0
    assert out.max() == 1
    np.testing.assert_allclose(step.inverse_transform(out), X)
    np.testing.assert_array_equal(step.transform(np.array([[-100.0, 100.0, 5.0]]))[0, :2], [0, 1])


def test_clip_rescale_follows_its_definition():
    out = ClipRescale().fit_transform(X)
    sigma, mean = X.std(), X.mean()
    expected = 0.1 + 0.8 * (np.clip(X, mean - 3 * sigma, mean + 3 * sigma) - mean + 3 * sigma) / (6 * sigma)
    np.testing.assert_allclose(out, expected)


def test_binarise():
    np.testing.assert_array_equal(Binarise(0.5).fit_transform([[0.5, 0.6], [0.0, 1.0]]), [[0, 1], [0, 1]])


def test_remove_mean_takes_the_mean_of_each_row_and_nothing_else():
    out = RemoveMean().fit_transform(X)
    centring = np.eye(3) - 1 / 3  # the orthogonal projection on rows of mean 0
    np.testing.assert_allclose(out, X @ centring, atol=1e-12)
    # float32 values far from 0: the mean is taken in double precision.
    far = (1e4 + np.arange(6.0).reshape(2, 3)).astype(np.float32)
    np.testing.assert_array_equal(RemoveMean().fit_transform(far), [[-1, 0, 1], [-1, 0, 1]])


def test_remove_mean_gives_back_the_shortest_row():
    step = RemoveMean().fit(X)
    codes = step.transform(X)
    back = step.inverse_transform(codes)
    np.testing.assert_array_equal(back, codes)
    assert back is not codes
    for shift in (-0.5, 0.5):
        np.testing.assert_allclose(step.transform(back + shift), codes, atol=1e-12)
        assert (np.linalg.norm(back + shift, axis=1) > np.linalg.norm(back, axis=1)).all()


def test_a_matrix_of_one_value_does_not_divide_by_zero():
    rows = np.full((4, 2), 7.0)
    for cls in members(Step):
        assert np.isfinite(cls().fit_transform(rows)).all()


def test_steps_are_fitted_to_what_the_ones_before_make():
    source = ArraySource(X, Description("array"))
    steps = [Standardise(), Rescale()]
    fit_steps(steps, source)
    out = prepared(source, steps).rows(slice(None))
    one = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(out, (one - one.min()) / (one.max() - one.min()), atol=1e-12)
    assert prepared(source, []) is source


def test_what_is_given_is_not_changed():
    before = X.copy()
    for cls in members(Step):
        step = cls().fit(X)
        codes = step.transform(X)
        again = codes.copy()
        if hasattr(step, "inverse_transform"):
            step.inverse_transform(codes)
        np.testing.assert_array_equal(codes, again)
    np.testing.assert_array_equal(X, before)


def test_a_prepared_source_is_described_as_its_last_step_leaves_it():
    images = ArraySource(np.random.default_rng(0).normal(size=(50, 12)), Description("pictures", "image", (3, 4)))
    steps = [RemoveMean(), PCAWhitening(n_components=5), Standardise()]
    fit_steps(steps, images)
    pixels, axes = prepared(images, steps[:1]), prepared(images, steps)
    assert pixels.description == images.description
    assert pixels.shape == (50, 12)
    assert (axes.description.name, axes.description.kind, axes.description.shape) == ("pictures", "plain", None)
    assert axes.shape == axes.rows(slice(None)).shape == (50, 5)
    assert axes.subset(np.arange(7)).shape == (7, 5)
    assert axes.fingerprint == images.fingerprint

    named = ArraySource(images.array, Description("table", "named", feature_names=tuple("abcdefghijkl")))
    assert prepared(named, steps[:1]).description.feature_names == tuple("abcdefghijkl")
    assert prepared(named, steps).description.feature_names is None


def test_specifications_name_steps_by_where_they_are_imported_from():
    for cls in members(Step):
        spec = to_spec(cls())
        assert spec["class"] == f"rarefire.preprocess.{cls.__name__}"
        assert type(from_spec(spec, Step)) is cls
