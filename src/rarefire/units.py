"""The law of a layer: how its units answer their input. A sampler never asks which type it has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rarefire.component import Component
from rarefire.random import Generator


class Units(Component, ABC):
    """Law of a layer whose units are independent given their input z, from the exponential family.

    With z the input (weights times the other layer, plus bias), the layer's energy is Σ e(s) − s·z, where e is
    the type's own term; the mean, the samples and the free-energy term all follow from it.
    """

    #: The smallest and largest value a unit can take; infinite where unbounded.
    support: tuple[float, float]
    #: g of units whose mean is σ(gz); None for others.
    rate_gain: ClassVar[float | None] = None

    @abstractmethod
    def mean(self, z: Tensor) -> Tensor:
        """E[s | z], entry by entry."""

    @abstractmethod
    def slope(self, z: Tensor, mean: Tensor) -> Tensor:
        """∂E[s | z]/∂z, entry by entry, from the input and the mean at it."""

    @abstractmethod
    def sample(self, mean: Tensor, generator: Generator) -> Tensor:
        """One draw per entry, given the means."""

    @abstractmethod
    def energy(self, s: Tensor, bias: Tensor) -> Tensor:
        """The layer's own energy Σ e(s) − s·bias, summed over units: (batch, units) to (batch,)."""

    @abstractmethod
    def log_partition(self, z: Tensor) -> Tensor:
        """Ln Σₛ exp(s z − e(s)), entry by entry: minus the free-energy term of a unit that is summed out."""


class Bernoulli(Units):
    """Binary units: P(s = 1 | z) = σ(z), e(s) = 0, free-energy term −ln(1 + eᶻ).

    Examples
    --------
    >>> import torch
    >>> Bernoulli().mean(torch.zeros(2))
    tensor([0.5000, 0.5000])
    """

    support = (0.0, 1.0)
    rate_gain = 1.0

    def mean(self, z: Tensor) -> Tensor:
        """σ(z)."""
        return torch.sigmoid(z)

    def slope(self, z: Tensor, mean: Tensor) -> Tensor:
        """σ(z)(1 − σ(z))."""
        return mean * (1 - mean)

    def sample(self, mean: Tensor, generator: Generator) -> Tensor:
        """1 with probability ``mean``, else 0."""
        return generator.bernoulli(mean)

    def energy(self, s: Tensor, bias: Tensor) -> Tensor:
        """−s·bias."""
        return -(s @ bias)

    def log_partition(self, z: Tensor) -> Tensor:
        """ln(1 + eᶻ)."""
        return F.softplus(z)
