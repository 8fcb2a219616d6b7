"""Activations: from a layer's input to its codes, with the slope that backpropagation needs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rarefire.arguments import Number, Rule
from rarefire.component import Component
from rarefire.units import smoothed_log_odds


class Activation(Component, ABC):
    """Function f of a layer's input z, entry by entry.

    A bounded one declares its range (a, b), and its codes then have rates (f − a)/(b − a) in [0, 1].
    """

    #: The smallest and largest code; None where codes are unbounded.
    range: ClassVar[tuple[float, float] | None] = None
    #: g of a bounded activation whose rates are σ(gz).
    rate_gain: ClassVar[float | None] = None
    #: f as a JavaScript expression in ``x`` and the arguments ``p.<name>``, by which a page computes codes.
    javascript: ClassVar[str | None] = None
    #: Whether f is odd and units are active with codes of either sign: weights and their negative are one feature then.
    either_sign: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, z: Tensor) -> Tensor:
        """f(z)."""

    @abstractmethod
    def slope(self, z: Tensor, f: Tensor) -> Tensor:
        """f′(z), from the input and the codes at it."""

    def active(self, f: Tensor) -> Tensor:
        """Where a unit counts as active: rate above 0.5 if bounded, else a code that is not zero."""
        return f != 0 if self.range is None else f > sum(self.range) / 2

    @property
    def reach(self) -> tuple[float, float]:
        """The smallest and largest value that f can take, infinite where there is none."""
        return (-math.inf, math.inf) if self.range is None else self.range

    def input_of_mean(self, total: Tensor, n: int) -> Tensor | None:
        """The input at which f is the mean of n values whose sum is ``total``; None where f has no inverse."""
        if self.range is None or self.rate_gain is None:
            return None
        low, high = self.range
        return smoothed_log_odds((total - n * low) / (high - low), n) / self.rate_gain

    @property
    def kinks(self) -> tuple[float, ...]:
        """Inputs at which f has no slope."""
        return ()

    def points(self) -> Tensor:
        """Inputs on both sides of every kink and none within 0.05 of one, where derivatives can be checked."""
        z = torch.linspace(-4, 4, 81, dtype=torch.float64) + 0.013
        away = torch.ones_like(z, dtype=torch.bool)
        for kink in self.kinks:
            away &= (z - kink).abs() > 0.05
        return z[away]


class Identity(Activation):
    """f(z) = z: a linear layer."""

    javascript = "x"
    either_sign = True

    def __call__(self, z: Tensor) -> Tensor:
        """The input itself."""
        return z

    def slope(self, z: Tensor, f: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(z)

    def input_of_mean(self, total: Tensor, n: int) -> Tensor:
        """The mean."""
        return total / n


class Sigmoid(Activation):
    """f(z) = σ(z) = 1/(1 + e⁻ᶻ), in (0, 1); active above 0.5."""

    range = (0.0, 1.0)
    rate_gain = 1.0
    javascript = "1 / (1 + Math.exp(-x))"

    def __call__(self, z: Tensor) -> Tensor:
        """σ(z)."""
        return torch.sigmoid(z)

    def slope(self, z: Tensor, f: Tensor) -> Tensor:
        """f(1 − f)."""
        return f * (1 - f)


class Tanh(Activation):
    """f(z) = tanh z, in (−1, 1); inactive is −1, so the rate is (f + 1)/2 (source: document 003); active above 0."""

    range = (-1.0, 1.0)
    rate_gain = 2.0
    javascript = "Math.tanh(x)"

    def __call__(self, z: Tensor) -> Tensor:
        """Tanh z."""
        return torch.tanh(z)

    def slope(self, z: Tensor, f: Tensor) -> Tensor:
        """1 − f²."""
        return 1 - f**2


class ReLU(Activation):
    """f(z) = max(z, 0); active where not zero."""

    reach = (0.0, math.inf)
    kinks = (0.0,)
    javascript = "Math.max(x, 0)"

    def __call__(self, z: Tensor) -> Tensor:
        """max(z, 0)."""
        return torch.relu(z)

    def slope(self, z: Tensor, f: Tensor) -> Tensor:
        """1 where z > 0, else 0."""
        return (f > 0).to(f.dtype)


class LeakyReLU(Activation):
    """f(z) = z for z > 0, else αz; active where positive.

    Parameters
    ----------
    negative_slope : float
        α, in [0, 1).
    """

    rules: ClassVar[dict[str, Rule]] = {"negative_slope": Number(0, 1)}
    kinks = (0.0,)
    javascript = "x > 0 ? x : p.negative_slope * x"

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def __call__(self, z: Tensor) -> Tensor:
        """The input, or α times it."""
        return F.leaky_relu(z, self.negative_slope)

    def slope(self, z: Tensor, f: Tensor) -> Tensor:
        """1 or α."""
        return torch.where(z > 0, torch.ones_like(z), self.negative_slope)

    def active(self, f: Tensor) -> Tensor:
        """Where positive: below zero a unit only leaks."""
        return f > 0


class ELU(Activation):
    """f(z) = z for z > 0, else α(eᶻ − 1); active where positive (Clevert, Unterthiner and Hochreiter 2016).

    Parameters
    ----------
    alpha : float
        α, above 0; codes go down to −α.
    """

    rules: ClassVar[dict[str, Rule]] = {"alpha": Number(0, above=True)}
    kinks = (0.0,)  # the slope jumps there, and where α is 1 its own slope does
    javascript = "x > 0 ? x : p.alpha * Math.expm1(x)"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    @property
    def reach(self) -> tuple[float, float]:
        """From −α upwards."""
        return (-self.alpha, math.inf)

    def __call__(self, z: Tensor) -> Tensor:
        """The input, or α(eᶻ − 1)."""
        return F.elu(z, self.alpha)

    def slope(self, z: Tensor, f: Tensor) -> Tensor:
        """1, or αeᶻ = f + α."""
        return torch.where(z > 0, torch.ones_like(f), f + self.alpha)

    def active(self, f: Tensor) -> Tensor:
        """Where positive: below zero a unit saturates."""
        return f > 0


class ThresholdedReLU(Activation):
    """f(z) = z for z > θ, else 0; active where not zero (Konda, Memisevic and Krueger 2015).

    Unlike with a rectifier and a bias of −θ, a code above the threshold comes through whole. The slope is taken
    as 1 above θ and 0 below; the jump at θ itself has none.

    Parameters
    ----------
    threshold : float
        θ, of at least 0.
    """

    rules: ClassVar[dict[str, Rule]] = {"threshold": Number(0)}
    reach = (0.0, math.inf)
    javascript = "x > p.threshold ? x : 0"

    def __init__(self, threshold: float = 1.0) -> None:
        self.threshold = threshold

    def __call__(self, z: Tensor) -> Tensor:
        """The input, or 0."""
        return F.threshold(z, self.threshold, 0.0)

    def slope(self, z: Tensor, f: Tensor) -> Tensor:
        """1 where z > θ, else 0."""
        return (z > self.threshold).to(z.dtype)

    @property
    def kinks(self) -> tuple[float, ...]:
        """θ."""
        return (self.threshold,)


class ThresholdedLinear(Activation):
    """f(z) = z for |z| > θ, else 0, of either sign; active where not zero (Konda, Memisevic and Krueger 2015).

    Parameters
    ----------
    threshold : float
        θ, of at least 0.
    """

    rules: ClassVar[dict[str, Rule]] = {"threshold": Number(0)}
    javascript = "Math.abs(x) > p.threshold ? x : 0"
    either_sign = True

    def __init__(self, threshold: float = 1.0) -> None:
        self.threshold = threshold

    def __call__(self, z: Tensor) -> Tensor:
        """The input, or 0."""
        return z * (z.abs() > self.threshold)

    def slope(self, z: Tensor, f: Tensor) -> Tensor:
        """1 where |z| > θ, else 0."""
        return (z.abs() > self.threshold).to(z.dtype)

    @property
    def kinks(self) -> tuple[float, ...]:
        """−θ and θ."""
        return (-self.threshold, self.threshold)
