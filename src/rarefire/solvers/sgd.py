"""Gradient descent with momentum."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from rarefire.penalties import shrink
from rarefire.schedules import Schedule, value_at
from rarefire.solvers import Evaluate, Solver
from rarefire.types import Loss, Outer, Tensors, columns_of


class SGD(Solver):
    """Steps u ← μu + g, θ ← θ − ηu.

    The learning rate is not scaled by 1 − μ: a steady gradient moves a parameter by η/(1 − μ) a step.

    Parameters
    ----------
    learning_rate, momentum : float or Schedule
        η and μ.

    Notes
    -----
    With μ = 0 throughout, u is the gradient and is not kept. A gradient that comes by columns is for this case: the
    other columns do not move.
    """

    recordable: ClassVar[bool] = True

    def __init__(self, learning_rate: float | Schedule = 0.1, momentum: float | Schedule = 0.0) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum

    def initial(self, parameters: Tensors) -> Tensors:
        """A velocity u of zero for every parameter; none where momentum is 0 throughout."""
        return {} if self.momentum == 0 else {name: torch.zeros_like(value) for name, value in parameters.items()}

    def step(self, evaluate: Evaluate, parameters: Tensors, state: Tensors, progress: float) -> tuple[Loss, Tensors]:
        """One evaluation, one step."""
        loss, objective_state = evaluate(parameters)
        now = self.settings(progress)
        rate, momentum = now["learning_rate"], now["momentum"]
        gradients: dict[str, Tensor | Outer] = {**loss.grads, **loss.outer}
        for name, gradient in gradients.items():
            if name in state:
                _add(state[name].mul_(momentum), gradient)
                gradient = state[name]
            _add(parameters[name], gradient, -rate)
        for name, strength in loss.shrinkage.items():
            shrink(parameters[name], strength * rate / (1 - momentum))
        for name, part in loss.columns.items():
            columns_of(parameters[name]).index_add_(0, part.index, part.values, alpha=-rate)
        return loss, objective_state

    def settings(self, progress: float) -> dict[str, float]:
        """Learning rate and momentum at this point of the fit."""
        return {
            "learning_rate": value_at(self.learning_rate, progress),
            "momentum": value_at(self.momentum, progress),
        }


def _add(target: Tensor, gradient: Tensor | Outer, scale: float = 1.0) -> None:
    if isinstance(gradient, Outer):
        gradient.add_to(target, scale)
    else:
        target.add_(gradient, alpha=scale)
