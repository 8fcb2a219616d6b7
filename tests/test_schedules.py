"""Schedules, averaging, and the solver against closed forms."""

import pytest
import torch

from rarefire.schedules import Linear, Switch, update_average, value_at
from rarefire.solvers.sgd import SGD
from rarefire.types import Loss


def test_switch_changes_at_its_place():
    schedule = Switch(1.0, 3.0, when=0.5)
    assert [schedule.at(epoch / 2000) for epoch in (0, 999, 1000, 1999)] == [1.0, 1.0, 3.0, 3.0]


def test_linear_is_flat_and_then_a_line():
    schedule = Linear(2.0, 0.0, when=0.5)
    assert [schedule.at(t) for t in (0, 0.5, 0.75, 1.0)] == [2.0, 2.0, 1.0, 0.0]
    assert Linear(2.0, 1.0).at(0.5) == 1.5


def test_a_number_is_itself():
    assert value_at(0.3, 0.9) == 0.3


def test_average_is_the_weighted_sum_of_all_epochs():
    average: dict = {}
    for x in (1.0, 2.0, 4.0):
        update_average(average, {"w": torch.tensor([x])}, 0.9)
    assert average["w"].item() == pytest.approx(0.81 * 1 + 0.09 * 2 + 0.1 * 4)


def test_average_does_not_share_memory_with_the_parameters():
    w = torch.tensor([1.0])
    average: dict = {}
    update_average(average, {"w": w}, 0.9)
    w += 1
    assert average["w"].item() == 1.0


def test_momentum_follows_the_closed_form_of_a_constant_gradient():
    parameters = {"w": torch.zeros(1, dtype=torch.float64)}
    solver = SGD(learning_rate=0.1, momentum=0.5)
    state = solver.initial(parameters)
    for step in range(1, 6):
        solver.step(lambda _: (Loss({"w": torch.ones(1, dtype=torch.float64)}), {}), parameters, state, 0.0)
        # u after n steps is (1 - μ^n)/(1 - μ), so θ = -η Σ u.
        expected = -0.1 * sum((1 - 0.5**k) / 0.5 for k in range(1, step + 1))
        assert parameters["w"].item() == pytest.approx(expected)


def test_schedules_reach_the_solver():
    solver = SGD(learning_rate=Switch(1.0, 3.0), momentum=Switch(0.5, 0.9))
    assert solver.settings(0.2) == {"learning_rate": 1.0, "momentum": 0.5}
    assert solver.settings(0.7) == {"learning_rate": 3.0, "momentum": 0.9}
