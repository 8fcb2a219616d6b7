"""Average precision against scikit-learn's."""

import numpy as np
from sklearn.metrics import average_precision_score

from rarefire.metrics.precision import average_precision


def test_average_precision_is_scikit_learns_with_ties_too():
    rng = np.random.default_rng(0)
    labels = rng.uniform(size=(200, 5)) < [0.1, 0.3, 0.5, 0.9, 0.02]
    for scores in (rng.normal(size=200), np.maximum(rng.normal(size=200) - 1, 0), np.round(rng.normal(size=200))):
        expected = [average_precision_score(labels[:, j], scores) for j in range(5)]
        np.testing.assert_allclose(average_precision(scores, labels), expected)


def test_a_score_that_says_nothing_has_the_share_of_the_label():
    labels = np.array([[True, False], [False, False], [False, False], [False, False]])
    np.testing.assert_array_equal(average_precision(np.ones(4), labels), [0.25, np.nan])
