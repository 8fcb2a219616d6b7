"""Preparation steps against NumPy and scikit-learn."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from rarefire.data.source import ArraySource, Description
from rarefire.preprocess import Binarise, ClipRescale, Rescale, Standardise, fit_steps, prepared

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


def test_a_matrix_of_one_value_does_not_divide_by_zero():
    rows = np.full((4, 2), 7.0)
    for step in (Standardise(), Rescale(), ClipRescale()):
        assert np.isfinite(step.fit_transform(rows)).all()


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
    for step in (Standardise(), Rescale(), ClipRescale(), Binarise()):
        step.fit_transform(X)
    np.testing.assert_array_equal(X, before)
