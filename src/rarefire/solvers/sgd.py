"""Gradient descent with momentum."""

from __future__ import annotations

from typing import ClassVar

import torch

from rarefire.penalties import shrink
from rarefire.schedules import Schedule, value_at
from rarefire.solvers import Evaluate, Solver
from rarefire.types import Loss, Tensors, columns_of


class SGD(Solver):
    """Steps u ← μu + g, θ ← θ − ηu.

    The learning rate is not scaled by 1 − μ: a steady gradient moves a parameter by η/(1 − μ) a step.

    Parameters
    ----------
    learning_rate, momentum : float or Schedule
        η and μ.

    Notes
    -----
    A gradient that comes by columns is for μ = 0, where u is not needed: the other columns do not move, and no velocity
    is kept.
    """

    recordable: ClassVar[bool] = True

    def __init__(self, learning_rate: float | Schedule = 0.1, momentum: float | Schedule = 0.0) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum

    def initial(self, parameters: Tensors) -> Tensors:
        """A velocity u of zero for every parameter."""
        return {name: torch.zeros_like(value) for name, value in parameters.items()}

    def step(self, evaluate: Evaluate, parameters: Tensors, state: Tensors, progress: float) -> tuple[Loss, Tensors]:
        """One evaluation, one step."""
        loss, objective_state = evaluate(parameters)
        now = self.settings(progress)
        for name, gradient in loss.grads.items():
            # Without momentum the velocity is the gradient; it is still kept, so that momentum may set in later.
            u = state[name].mul_(now["momentum"]).add_(gradient) if now["momentum"] else gradient
            state[name] = u
            parameters[name].sub_(u, alpha=now["learning_rate"])
            if name in loss.shrinkage:
                shrink(parameters[name], loss.shrinkage[name] * now["learning_rate"] / (1 - now["momentum"]))
        for name, part in loss.columns.items():
            columns_of(parameters[name]).index_add_(0, part.index, part.values, alpha=-now["learning_rate"])
        return loss, objective_state

    def settings(self, progress: float) -> dict[str, float]:
        """Learning rate and momentum at this point of the fit."""
        return {
            "learning_rate": value_at(self.learning_rate, progress),
            "momentum": value_at(self.momentum, progress),
        }
