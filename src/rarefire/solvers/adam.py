"""Gradient descent with a step size for each parameter."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from rarefire.arguments import Number, Rule
from rarefire.penalties import shrink
from rarefire.schedules import Schedule, value_at
from rarefire.solvers import Evaluate, Solver
from rarefire.types import Loss, Tensors

#: β₁ and β₂, the decay of the two averages, and ε, all as published.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam(Solver):
    """Steps θ ← θ − η m̂/(√v̂ + ε), entry by entry.

    m and v are exponential averages of the gradient and of its square, with decay β₁ = 0.9 and β₂ = 0.999; after t
    steps m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 − β₂ᵗ) take out that both began at zero. ε = 1e-8.

    Parameters
    ----------
    learning_rate : float or Schedule
        η, about the most that an entry moves in a step.

    Notes
    -----
    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015), Algorithm 1.
    """

    rules: ClassVar[dict[str, Rule]] = {"learning_rate": Number(0, schedule=Schedule)}

    def __init__(self, learning_rate: float | Schedule = 0.001) -> None:
        self.learning_rate = learning_rate

    def initial(self, parameters: Tensors) -> Tensors:
        """Averages of zero for every parameter, and no steps."""
        first = {f"first/{name}": torch.zeros_like(value) for name, value in parameters.items()}
        second = {f"second/{name}": torch.zeros_like(value) for name, value in parameters.items()}
        return {**first, **second, "steps": torch.zeros((), dtype=torch.int64)}

    def step(self, evaluate: Evaluate, parameters: Tensors, state: Tensors, progress: float) -> tuple[Loss, Tensors]:
        """One evaluation, one step."""
        loss, objective_state = evaluate(parameters)
        t = int(state["steps"].add_(1))
        rate = self.settings(progress)["learning_rate"]
        for name, gradient in loss.grads.items():
            m = state[f"first/{name}"].lerp_(gradient, 1 - BETA1)
            v = state[f"second/{name}"].mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            root = v.sqrt().div_(math.sqrt(1 - BETA2**t)).add_(EPSILON)
            parameters[name].addcdiv_(m, root, value=-rate / (1 - BETA1**t))
            if name in loss.shrinkage:
                shrink(parameters[name], loss.shrinkage[name] * rate / root)
        return loss, objective_state

    def settings(self, progress: float) -> dict[str, float]:
        """The learning rate at this point of the fit."""
        return {"learning_rate": value_at(self.learning_rate, progress)}
