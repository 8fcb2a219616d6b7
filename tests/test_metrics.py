"""Costs, activity, capacity, and the verdict beside a published figure."""

import numpy as np
import pytest
import torch

from rarefire.metrics import against, metric
from rarefire.metrics.activity import active_count, share_of_zeros, unit_activity
from rarefire.metrics.capacity import suggested_components
from rarefire.units import bernoulli_cost


def test_cost_is_the_cross_entropy_of_its_probability():
    v, p = torch.tensor([0.0, 1.0, 1.0, 0.3]), torch.tensor([0.2, 0.2, 0.9, 0.6])
    expected = -(v * p.log() + (1 - v) * (1 - p).log())
    torch.testing.assert_close(bernoulli_cost(v, torch.logit(p)), expected)


def test_a_pixel_turned_on_nine_times_of_ten_costs_what_the_source_says():
    z = torch.logit(torch.tensor([0.9], dtype=torch.float64))
    assert bernoulli_cost(torch.ones(1, dtype=torch.float64), z).item() == pytest.approx(0.105, abs=5e-4)


def test_cost_is_finite_for_hopeless_pixels():
    assert bernoulli_cost(torch.tensor([1.0]), torch.tensor([-1000.0])).item() == 1000.0


def test_active_count():
    active = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=bool)
    assert active_count(active).mean == pytest.approx(5 / 3)
    assert active_count(active).maximum == 3


def test_dead_and_always_on_units_over_batches():
    codes = np.array([[0.1, 0.9, 0.6], [0.2, 0.8, 0.4], [0.3, 0.7, 0.9]])
    activity = unit_activity((c[None], c[None] > 0.5) for c in codes)
    np.testing.assert_allclose(activity.mean_code, codes.mean(axis=0))
    np.testing.assert_allclose(activity.share_active, [0, 1, 2 / 3])
    np.testing.assert_array_equal(activity.dead, [True, False, False])
    np.testing.assert_array_equal(activity.always_on, [False, True, False])


def test_zeros_count_exact_ones_only():
    assert share_of_zeros(np.array([[0.0, 1e-12], [0.0, 2.0]])) == 0.5


def test_the_sources_rule_for_the_number_of_units():
    assert suggested_components(bits=18, n_samples=3000, n_features=81) == 67
    with pytest.raises(ValueError, match="positive"):
        suggested_components(bits=0, n_samples=10, n_features=10)


@pytest.mark.parametrize(
    ("value", "better", "within"),
    [
        (0.9, "lower", True),
        (1.1, "lower", True),
        (1.2, "lower", False),
        (0.5, "equal", False),
        (1.1, "equal", True),
        (0.95, "higher", True),
        (0.8, "higher", False),
        (5.0, "higher", True),
    ],
)
def test_beating_a_figure_is_no_failure(value, better, within):
    entry = against(metric("x", value), 1.0, "000", tolerance=0.1, better=better)
    assert entry["within"] is within
    assert {"published", "source", "tolerance", "better"} < set(entry)
