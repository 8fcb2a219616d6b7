"""Gradient descent with a step size for each parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch

from rarefire.arguments import Free, Number, Rule
from rarefire.penalties import shrink
from rarefire.schedules import Schedule, value_at
from rarefire.solvers import Evaluate, Solver
from rarefire.types import Loss, Tensors, columns_of

#: β₁ and β₂, the decay of the two averages, and ε, all as published.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
#: Values that a step by columns works on at a time, so that they stay in a processor's cache.
CACHED = 2**16


class Adam(Solver):
    """Steps θ ← θ − η m̂/(√v̂ + ε), entry by entry.

    m and v are exponential averages of the gradient and of its square, with decay β₁ = 0.9 and β₂ = 0.999; after t
    steps m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 − β₂ᵗ) take out that both began at zero. ε = 1e-8.

    Parameters
    ----------
    learning_rate : float or Schedule
        η, about the most that an entry moves in a step.
    columns : sequence of str
        Parameters whose gradients come by columns. A column that a gradient lacks stays as it is, with its averages;
        t counts for each column the steps that moved it, so that it moves as it would with those steps alone.

    Notes
    -----
    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015), Algorithm 1.
    """

    rules: ClassVar[dict[str, Rule]] = {"learning_rate": Number(0, schedule=Schedule), "columns": Free()}

    def __init__(self, learning_rate: float | Schedule = 0.001, columns: Sequence[str] = ()) -> None:
        self.learning_rate = learning_rate
        self.columns = columns

    def initial(self, parameters: Tensors) -> Tensors:
        """Averages of zero for every parameter, and no steps."""
        first = {f"first/{name}": torch.zeros_like(value) for name, value in parameters.items()}
        second = {f"second/{name}": torch.zeros_like(value) for name, value in parameters.items()}
        taken = {
            f"steps/{name}": torch.zeros(parameters[name].shape[-1], dtype=torch.int64, device=parameters[name].device)
            for name in self.columns
        }
        return {**first, **second, **taken, "steps": torch.zeros((), dtype=torch.int64)}

    def step(self, evaluate: Evaluate, parameters: Tensors, state: Tensors, progress: float) -> tuple[Loss, Tensors]:
        """One evaluation, one step."""
        loss, objective_state = evaluate(parameters)
        # On the CPU, wherever a checkpoint was read to: nobody waits for a device to count.
        state["steps"] = state["steps"].cpu().add_(1)
        t = int(state["steps"])
        rate = self.settings(progress)["learning_rate"]
        for name, gradient in loss.multiplied_out().items():
            m = state[f"first/{name}"].lerp_(gradient, 1 - BETA1)
            v = state[f"second/{name}"].mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            root = v.sqrt().div_(math.sqrt(1 - BETA2**t)).add_(EPSILON)
            parameters[name].addcdiv_(m, root, value=-rate / (1 - BETA1**t))
            if name in loss.shrinkage:
                shrink(parameters[name], loss.shrinkage[name] * rate / root)
        for name, part in loss.columns.items():
            taken = state[f"steps/{name}"].index_add_(0, part.index, torch.ones_like(part.index))[part.index]
            # 1 − βᵗ, for each column.
            since1, since2 = (
                -torch.expm1(taken.to(torch.float64) * math.log(beta)).view(-1, *[1] * (part.values.ndim - 1))
                for beta in (BETA1, BETA2)
            )
            rates, scales = (-rate / since1).to(part.values.dtype), since2.sqrt_().to(part.values.dtype)
            weights, first, second = map(
                columns_of, (parameters[name], state[f"first/{name}"], state[f"second/{name}"])
            )
            size = max(1, CACHED // max(1, part.values[:1].numel()))
            for at, gradient, pace, scale in zip(
                *(t.split(size) for t in (part.index, part.values, rates, scales)), strict=True
            ):
                m = first.index_select(0, at).lerp_(gradient, 1 - BETA1)
                v = second.index_select(0, at).mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
                first.index_copy_(0, at, m)
                second.index_copy_(0, at, v)
                root = v.sqrt_().div_(scale).add_(EPSILON)
                weights.index_add_(0, at, m.div_(root).mul_(pace))
        return loss, objective_state

    def settings(self, progress: float) -> dict[str, float]:
        """The learning rate at this point of the fit."""
        return {"learning_rate": value_at(self.learning_rate, progress)}
