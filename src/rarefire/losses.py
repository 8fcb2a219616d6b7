"""What a reconstruction costs, from the input z of the output layer: value of each row, and derivative."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from rarefire.activations import Activation, Sigmoid
from rarefire.component import Component
from rarefire.types import PerRow, Visible
from rarefire.units import bernoulli_cost


class ReconstructionLoss(Component, ABC):
    """Cost of rows x when the output layer f is given z."""

    #: What the cost of a row is measured in.
    unit: ClassVar[str]
    #: Whether the cost of a value that the output cannot reach falls without end.
    needs_reach: ClassVar[bool] = False

    @abstractmethod
    def evaluate(self, x: Visible, z: Visible, output: Activation) -> tuple[PerRow, Visible]:
        """The cost of each row, summed over features in float64, and its derivative with respect to z."""

    def unsuited(self, output: Activation) -> str:
        """Why it cannot stand behind this output layer, or an empty text where it can."""
        return ""


class SquaredError(ReconstructionLoss):
    """½ Σᵢ (x̂ᵢ − xᵢ)², x̂ = f(z); source: documents 001 and 003."""

    unit = "half squared error a row"

    def evaluate(self, x: Visible, z: Visible, output: Activation) -> tuple[PerRow, Visible]:
        """½‖x̂ − x‖², and (x̂ − x) f′(z), the delta of the source's output layer."""
        x_hat = output(z)
        gap = x_hat - x
        return 0.5 * _sum(gap**2), gap * output.slope(z, x_hat)


class BernoulliCrossEntropy(ReconstructionLoss):
    """−Σᵢ xᵢ ln x̂ᵢ + (1 − xᵢ) ln(1 − x̂ᵢ), x̂ = σ(z): for values in [0, 1], such as whether a word is there."""

    unit = "nats a row"
    needs_reach = True

    def evaluate(self, x: Visible, z: Visible, output: Activation) -> tuple[PerRow, Visible]:
        """The cross-entropy of each row from z itself, and σ(z) − x."""
        return _sum(bernoulli_cost(x, z)), torch.sigmoid(z) - x

    def unsuited(self, output: Activation) -> str:
        """A sigmoid output it must be."""
        return "" if isinstance(output, Sigmoid) else "needs probabilities; set output=Sigmoid()"


def _sum(t: Tensor) -> PerRow:
    # In float64: a line search compares sums over all rows that differ in the last places of float32.
    return t.sum(dim=1, dtype=torch.float64)
