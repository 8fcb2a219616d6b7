"""The law of a layer: how its units answer their input. A sampler never asks which type it has."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from rarefire.component import Component
from rarefire.random import Generator


class Units(Component, ABC):
    """Law of a layer whose units are independent given their input z, from the exponential family.

    P(s | z) ∝ exp(t(s)·(z − b) − e(s, b)), with z the input (weights times the other layer, plus the bias b), e the
    unit's own energy and t its statistic, by which it meets the other layer: E = Σ e(v, a) + Σ e(h, b) − t(h)·W t(v).
    """

    #: The smallest and largest value a unit can take; infinite where unbounded.
    support: tuple[float, float]
    #: g of units whose mean is σ(gz); None for others.
    rate_gain: ClassVar[float | None] = None
    #: What :meth:`cost` is measured in.
    cost_unit: ClassVar[str]
    #: The mean as a JavaScript expression in ``x``, the input, by which a page computes codes and reconstructions.
    javascript: ClassVar[str | None] = None

    @property
    def binary(self) -> bool:
        """Whether a unit is 0 or 1."""
        return self.support == (0.0, 1.0)

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
    def statistic(self, s: Tensor) -> Tensor:
        """t(s), entry by entry: what weights of the other layer are multiplied by."""

    @abstractmethod
    def energy(self, s: Tensor, bias: Tensor) -> Tensor:
        """e(s, bias), entry by entry: (batch, units) to the same."""

    @abstractmethod
    def log_partition(self, z: Tensor, bias: Tensor) -> Tensor:
        """Ln Σₛ exp(t(s)·(z − bias) − e(s, bias)), entry by entry: minus the free energy of a unit summed out."""

    @abstractmethod
    def cost(self, s: Tensor, z: Tensor) -> Tensor:
        """What it costs that a unit with input ``z`` stands for the value ``s``, entry by entry."""

    @abstractmethod
    def input_of_mean(self, total: Tensor, n: int) -> Tensor:
        """The input at which the mean is that of n values whose sum is ``total``."""


class Bernoulli(Units):
    """Binary units: P(s = 1 | z) = σ(z), e(s, b) = −sb, t(s) = s.

    Examples
    --------
    >>> import torch
    >>> Bernoulli().mean(torch.zeros(2))
    tensor([0.5000, 0.5000])
    """

    support = (0.0, 1.0)
    rate_gain = 1.0
    cost_unit = "nats per pixel"
    javascript = "1 / (1 + Math.exp(-x))"

    def mean(self, z: Tensor) -> Tensor:
        """σ(z)."""
        return torch.sigmoid(z)

    def slope(self, z: Tensor, mean: Tensor) -> Tensor:
        """σ(z)(1 − σ(z))."""
        return mean * (1 - mean)

    def sample(self, mean: Tensor, generator: Generator) -> Tensor:
        """1 with probability ``mean``, else 0."""
        return generator.bernoulli(mean)

    def statistic(self, s: Tensor) -> Tensor:
        """The value itself."""
        return s

    def energy(self, s: Tensor, bias: Tensor) -> Tensor:
        """−s·bias."""
        return -s * bias

    def log_partition(self, z: Tensor, bias: Tensor) -> Tensor:
        """ln(1 + eᶻ)."""
        return F.softplus(z)

    def cost(self, s: Tensor, z: Tensor) -> Tensor:
        """:func:`bernoulli_cost`, in nats."""
        return bernoulli_cost(s, z)

    def input_of_mean(self, total: Tensor, n: int) -> Tensor:
        """The log-odds of (total + ½)/(n + 1)."""
        return smoothed_log_odds(total, n)


class Gaussian(Units):
    """Real-valued units: s given z is normal with mean z and variance σ², e(s, b) = (s − b)²/2σ², t(s) = s/σ².

    Parameters
    ----------
    variance : Tensor of shape (units,) or None
        σ²; None is 1 for every unit.

    Examples
    --------
    >>> import torch
    >>> Gaussian().energy(torch.tensor([[3.0]]), torch.tensor([1.0]))
    tensor([[2.]])
    """

    support = (-math.inf, math.inf)
    cost_unit = "half squared error per pixel"
    javascript = "x"

    def __init__(self, variance: Tensor | None = None) -> None:
        self.variance = variance

    def mean(self, z: Tensor) -> Tensor:
        """The input itself."""
        return z

    def slope(self, z: Tensor, mean: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(z)

    def sample(self, mean: Tensor, generator: Generator) -> Tensor:
        """Mean plus σ times a standard normal number."""
        noise = generator.normal(mean.shape, mean.dtype)
        return mean + (noise if self.variance is None else noise * self.variance.sqrt())

    def statistic(self, s: Tensor) -> Tensor:
        """s/σ²."""
        return s if self.variance is None else s / self.variance

    def energy(self, s: Tensor, bias: Tensor) -> Tensor:
        """(s − bias)²/2σ²."""
        return self.statistic(0.5 * (s - bias) ** 2)

    def log_partition(self, z: Tensor, bias: Tensor) -> Tensor:
        """(z² − bias²)/2σ² + ½ ln 2πσ²."""
        spread = math.log(2 * math.pi) + (0 if self.variance is None else self.variance.log())
        return 0.5 * (self.statistic(z**2 - bias**2) + spread)

    def cost(self, s: Tensor, z: Tensor) -> Tensor:
        """½(s − z)², whatever the variance, so that machines can be compared."""
        return 0.5 * (s - z) ** 2

    def input_of_mean(self, total: Tensor, n: int) -> Tensor:
        """The mean."""
        return total / n


def smoothed_log_odds(total: Tensor, n: int) -> Tensor:
    """The log-odds of (total + ½)/(n + 1), for ``total`` ones among n values: finite where all are alike."""
    return torch.logit((total.clamp(0, n) + 0.5) / (n + 1))


def bernoulli_cost(v: Float[Tensor, "*shape"], z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """−[v ln p + (1 − v) ln(1 − p)] of each entry, p = σ(z), in nats: ln(1 + eᶻ) − v z.

    Computed from the input z and not from p, so that no probability is clipped. Source: document 002, whose cost
    is the mean of this over pixels and samples, p being the pixel's probability on the way down.
    """
    return F.softplus(z) - v * z
