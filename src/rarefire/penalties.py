"""Penalties: on activity, through the hidden layer's input; on weights, directly.

An activity penalty gives its value and its exact gradient with respect to the hidden input ``pre``, which joins
the positive phase (or the backward pass) before the one product that forms the weight gradient. A weight penalty
gives its value and gradient for each weight matrix; biases are never decayed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from rarefire.arguments import Choice, Number, Rule
from rarefire.component import Component
from rarefire.types import Hidden, Pass, Scalar


class Penalty(Component, ABC):
    """Something added to an objective that the data do not ask for."""


class ActivityPenalty(Penalty):
    """Penalty on what the hidden units do on a batch."""

    #: Whether it is defined on rates in [0, 1] only; units without a bounded range are then refused.
    needs_rates: ClassVar[bool] = False

    @abstractmethod
    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value, and its gradient with respect to ``p.pre``, of shape (batch, hidden)."""


class WeightPenalty(Penalty):
    """Penalty on all weight matrices together."""

    @abstractmethod
    def value(self, weights: Iterable[Tensor]) -> Scalar:
        """The penalty, summed over all matrices."""

    @abstractmethod
    def gradient(self, weight: Tensor) -> Tensor:
        """Its derivative with respect to one matrix, in that matrix's shape."""


class NoPenalty(ActivityPenalty, WeightPenalty):
    """Penalty of zero."""

    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """Zero, and a gradient of zeros."""
        return torch.zeros((), dtype=p.pre.dtype, device=p.pre.device), torch.zeros_like(p.pre)

    def value(self, weights: Iterable[Tensor]) -> Scalar:
        """Zero."""
        return torch.zeros_like(next(iter(weights))).sum()

    def gradient(self, weight: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(weight)


class MeanActivity(ActivityPenalty):
    """Squared distance of the layer's mean activity from a target, c·K/2·(s − t)².

    s is the mean of all N×M codes of a batch of N rows and M units. ``scale`` sets c, and with it how strongly
    one entry is pulled: the gradient with respect to each code is K(s − t) times 1/(NM), 1/N or 1.

    Parameters
    ----------
    target : float
        t, the wanted mean activity.
    strength : float
        K.
    scale : {"units", "mean", "entries"}
        c = M (the factor 1/M of the gradient is dropped, the average over the batch is kept), 1, or NM.

    Notes
    -----
    For units of any range. Source: RBM and sparsity penalty (document 000), which drops the factor 1/(NM).
    """

    scales: ClassVar[tuple[str, ...]] = ("units", "mean", "entries")
    rules: ClassVar[dict[str, Rule]] = {"strength": Number(0), "scale": Choice(scales)}

    def __init__(self, target: float = 0.01, strength: float = 1.0, scale: str = "units") -> None:
        self.target = target
        self.strength = strength
        self.scale = scale

    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value and its gradient, cK(s − t)/(NM) · ∂codes/∂pre."""
        n, m = p.codes.shape
        c = {"units": m, "mean": 1, "entries": n * m}[self.scale]
        gap = p.mean(p.codes).mean() - self.target
        return 0.5 * c * self.strength * gap**2, (c * self.strength / (n * m)) * gap * p.slope


class KLDivergence(ActivityPenalty):
    """Divergence of each unit's mean rate from a target, β Σⱼ KL(ρ ‖ ρ̂ⱼ).

    KL(ρ‖ρ̂) = ρ ln(ρ/ρ̂) + (1−ρ) ln((1−ρ)/(1−ρ̂)), with ρ̂ⱼ the unit's mean rate over the batch.

    Parameters
    ----------
    target : float
        ρ, in (0, 1).
    strength : float
        β.

    Notes
    -----
    For units of bounded range, whose codes map to rates in [0, 1]. Source: CS294A lecture notes (documents 001
    and 003).
    """

    needs_rates = True
    rules: ClassVar[dict[str, Rule]] = {"target": Number(0, 1, above=True), "strength": Number(0)}

    def __init__(self, target: float = 0.01, strength: float = 1.0) -> None:
        self.target = target
        self.strength = strength

    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value and its gradient, β(−ρ/ρ̂ + (1−ρ)/(1−ρ̂))/N · ∂rates/∂pre."""
        rho = self.target
        q = p.mean(p.rates)
        # A rate of exactly 0 or 1 is rounding: the divergence is infinite there, its gradient times the slope is not.
        tiny = torch.finfo(q.dtype).eps
        q = q.clamp(tiny, 1 - tiny)
        log = torch.log
        value = rho * (log(rho / q)) + (1 - rho) * log((1 - rho) / (1 - q))
        pull = -rho / q + (1 - rho) / (1 - q)
        return self.strength * value.sum(), (self.strength / len(p.pre)) * pull * p.rate_slope


class L2(WeightPenalty):
    """λ/2 Σ w² over all weights, no bias; gradient λw. The solver multiplies it by the learning rate.

    Parameters
    ----------
    strength : float
        λ.
    """

    rules: ClassVar[dict[str, Rule]] = {"strength": Number(0)}

    def __init__(self, strength: float = 1e-4) -> None:
        self.strength = strength

    def value(self, weights: Iterable[Tensor]) -> Scalar:
        """λ/2 Σ w²."""
        return torch.stack([0.5 * self.strength * (weight**2).sum() for weight in weights]).sum()

    def gradient(self, weight: Tensor) -> Tensor:
        """λw."""
        return self.strength * weight


class L1(WeightPenalty):
    """λ Σ |w| over all weights, no bias; gradient λ sign(w). The solver multiplies it by the learning rate.

    Parameters
    ----------
    strength : float
        λ.
    """

    rules: ClassVar[dict[str, Rule]] = {"strength": Number(0)}

    def __init__(self, strength: float = 1e-4) -> None:
        self.strength = strength

    def value(self, weights: Iterable[Tensor]) -> Scalar:
        """λ Σ |w|."""
        return torch.stack([self.strength * weight.abs().sum() for weight in weights]).sum()

    def gradient(self, weight: Tensor) -> Tensor:
        """λ sign(w), 0 at 0."""
        return self.strength * weight.sign()
