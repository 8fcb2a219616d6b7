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
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rarefire.arguments import Choice, Number, Rule
from rarefire.component import Component, members
from rarefire.errors import InputError
from rarefire.types import Hidden, HiddenBias, Pass, Scalar


class Penalty(Component, ABC):
    """Something added to an objective that the data do not ask for."""


class ActivityPenalty(Penalty):
    """Penalty on what the hidden units do on a batch.

    Its value is a function of averages over the batch alone (:meth:`rarefire.types.Pass.mean`), so that a batch may
    be worked on in parts.
    """

    #: Whether it is defined on rates in [0, 1] only; units without a bounded range are then refused.
    needs_rates: ClassVar[bool] = False
    #: Whether it takes zero for inactive; units of a bounded range that begins elsewhere (tanh) are then refused.
    needs_zero: ClassVar[bool] = False
    #: Factor of a running average over batches that stands in for the batch's own; None where there is none.
    averaging: float | None = None
    #: Whether its gradient moves the hidden biases alone, and leaves the weights to the objective.
    biases_only: bool = False

    @property
    def exact(self) -> bool:
        """Whether what it adds to the gradients is the derivative of its value with respect to all parameters."""
        return self.averaging is None and not self.biases_only

    @abstractmethod
    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value, and its gradient with respect to ``p.pre``, of shape (batch, hidden)."""

    @classmethod
    def misfit(cls, bounds: tuple[float, float] | None) -> str:
        """Why it means nothing for units of this range (None is unbounded), or an empty text where it does."""
        if cls.needs_rates and bounds is None:
            return "is for units of bounded range, whose codes are rates"
        if cls.needs_zero and bounds is not None and bounds[0] != 0:
            return f"takes 0 for inactive, but these units rest at {bounds[0]:g}"
        return ""


def check_suits(penalty: ActivityPenalty, bounds: tuple[float, float] | None, units: str) -> None:
    """See that a penalty means something for units of this range.

    Raises
    ------
    InputError
        If it does not; the message names those that do.
    """
    if reason := penalty.misfit(bounds):
        family: list[type[ActivityPenalty]] = list(members(ActivityPenalty))
        fitting = [cls.__name__ for cls in family if cls is not NoPenalty and not cls.misfit(bounds)]
        name = type(penalty).__name__
        raise InputError(f"{name} {reason}, so it does not fit {units}; use one of {', '.join(fitting)}")


class WeightPenalty(Penalty):
    """Penalty on all weight matrices together."""

    @abstractmethod
    def value(self, weights: Iterable[Tensor]) -> Scalar:
        """The penalty, summed over all matrices."""

    @abstractmethod
    def gradient(self, weight: Tensor) -> Tensor:
        """Its derivative with respect to one matrix, in that matrix's shape."""

    @property
    def shrinkage(self) -> float:
        """What a proximal step takes off the size of each weight, times the step; 0 where the gradient is all."""
        return 0.0


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
        n, m = p.n, p.codes.shape[1]
        c = {"units": m, "mean": 1, "entries": n * m}[self.scale]
        gap = p.mean(p.codes).mean() - self.target
        return 0.5 * c * self.strength * gap**2, (c * self.strength / (n * m)) * gap * p.slope


class TargetMean(ActivityPenalty):
    """Squared distance of each unit's mean code from a target, K Σⱼ (s̄ⱼ − t)², s̄ⱼ over the batch.

    Parameters
    ----------
    target : float
        t, the wanted mean of each unit.
    strength : float
        K.

    Notes
    -----
    For any units, unbounded ones too; with t = 0 for ReLU and its kin. Source: document 004, with K = 1.
    :class:`TargetMeanOfBiases` is the same on biases alone.
    """

    rules: ClassVar[dict[str, Rule]] = {"strength": Number(0)}

    def __init__(self, target: float = 0.0, strength: float = 1.0) -> None:
        self.target = target
        self.strength = strength

    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value and its gradient, 2K(s̄ − t)/N · ∂codes/∂pre."""
        gap = p.mean(p.codes) - self.target
        return self.strength * (gap**2).sum(dtype=torch.float64), (2 * self.strength / p.n) * gap * p.slope


class TargetMeanOfBiases(TargetMean):
    """Squared distance of each unit's mean code from a target, K Σⱼ (s̄ⱼ − t)², followed by the biases alone.

    How often a unit fires is a matter of its bias; the weights are left to the data.

    Parameters
    ----------
    target : float
        t, the wanted mean of each unit.
    strength : float
        K.

    Notes
    -----
    For any units. Source: Lee, Ekanadham and Ng (2008), Sparse deep belief net model for visual area V2, whose p is
    ``target`` and whose λ is ``strength``.
    """

    biases_only = True


class RunningCrossEntropy(ActivityPenalty):
    """Cross-entropy of each unit's running mean rate q to a target, λ Σⱼ −p ln qⱼ − (1 − p) ln(1 − qⱼ).

    What joins the gradient is the guide's rule, λ(qⱼ − p)/N for every row of a batch of N: the derivative with
    respect to the unit's input where all rows have the rate q.

    Parameters
    ----------
    target : float
        p, in (0, 1).
    strength : float
        λ.
    averaging : float or None
        Factor d in [0, 1) of the running average over batches, 0.9 to 0.99; None takes the batch's own mean.
    biases_only : bool
        Whether only the biases follow it, and not the weights.

    Notes
    -----
    For units of bounded range: sigmoid units as they are, tanh units by (a + 1)/2. Source: Hinton (2010), A practical
    guide to training restricted Boltzmann machines, section 11.
    """

    needs_rates = True
    rules: ClassVar[dict[str, Rule]] = {
        "target": Number(0, 1, above=True),
        "strength": Number(0),
        "averaging": Number(0, 1, none=True),
    }

    def __init__(
        self, target: float = 0.05, strength: float = 1.0, averaging: float | None = 0.9, biases_only: bool = False
    ) -> None:
        self.target = target
        self.strength = strength
        self.averaging = averaging
        self.biases_only = biases_only

    @property
    def exact(self) -> bool:
        """False: the rule is a derivative only where all rows are alike."""
        return False

    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value, and λ(q − p)/N · g for every row, as rates are σ(g·pre)."""
        q = p.mean(p.rates)
        inside = _inside(q.double())
        value = -(self.target * torch.log(inside) + (1 - self.target) * torch.log(1 - inside)).sum()
        pull = (self.strength * gain_of(p) / p.n) * (q - self.target)
        return self.strength * value, pull.expand_as(p.pre)


class KLDivergence(ActivityPenalty):
    """Divergence of each unit's mean rate from a target, β Σⱼ KL(ρ ‖ ρ̂ⱼ).

    KL(ρ‖ρ̂) = ρ ln(ρ/ρ̂) + (1−ρ) ln((1−ρ)/(1−ρ̂)), with ρ̂ⱼ the unit's mean rate over the batch.

    Parameters
    ----------
    target : float
        ρ, in (0, 1).
    strength : float
        β.
    averaging : float or None
        Factor d in [0, 1) of a running average over batches, in which the batch k steps back has the weight dᵏ over
        the sum of all weights. It takes the place of the batch's own mean: for small batches, whose means are noise.
        The gradient is then that of a batch whose mean is the running average: once many batches have passed,
        1/(1 − d) times the derivative with respect to this batch.

    Notes
    -----
    For units of bounded range, whose codes map to rates in [0, 1]: sigmoid units as they are, tanh units by
    (a + 1)/2. Source: CS294A lecture notes (documents 001 and 003).
    """

    needs_rates = True
    rules: ClassVar[dict[str, Rule]] = {
        "target": Number(0, 1, above=True),
        "strength": Number(0),
        "averaging": Number(0, 1, none=True),
    }

    def __init__(self, target: float = 0.01, strength: float = 1.0, averaging: float | None = None) -> None:
        self.target = target
        self.strength = strength
        self.averaging = averaging

    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value and its gradient, β(−ρ/ρ̂ + (1−ρ)/(1−ρ̂))/N · ∂rates/∂pre."""
        # The value in double precision: near the target its two logarithms all but cancel.
        rho, q = self.target, p.mean(p.rates)
        inside = _inside(q)
        pull = -rho / inside + (1 - rho) / (1 - inside)
        return self.strength * self.divergence(q.double()).sum(), (self.strength / p.n) * pull * p.rate_slope

    def divergence(self, q: HiddenBias) -> HiddenBias:
        """KL(ρ‖ρ̂) of each mean rate ρ̂ = ``q``, of shape (hidden,), without β."""
        rho, q = self.target, _inside(q)
        return rho * torch.log(rho / q) + (1 - rho) * torch.log((1 - rho) / (1 - q))


def _inside(q: HiddenBias) -> HiddenBias:
    # Only a rate of almost exactly 0 or 1 is rounding: the divergence is infinite there, its gradient times the
    # slope is not. Near 0 floats are dense, so that a unit that has fallen silent is pulled back all the same.
    limits = torch.finfo(q.dtype)
    return q.clamp(limits.tiny / limits.eps, 1 - limits.eps)


def gain_of(p: Pass) -> float:
    """The gain g of rates that are σ(g·pre)."""
    if p.rate_gain is None:
        raise ValueError("units whose rates are no sigmoid of their input have no cross-entropy here")
    return p.rate_gain


class CrossEntropy(ActivityPenalty):
    """Cross-entropy of each single rate to a target, λ times the batch's mean of Σⱼ −p ln rⱼ − (1−p) ln(1−rⱼ).

    Document 004 also writes it as p ln(p/r) + (1−p) ln((1−p)/(1−r)), which is less by the target's own entropy: a
    constant, so that the gradient is one and the same. :class:`KLDivergence` is that form on each unit's mean.

    Parameters
    ----------
    target : float
        p, in (0, 1).
    strength : float
        λ.

    Notes
    -----
    For units of bounded range: sigmoid units as they are, tanh units by (a + 1)/2. Source: document 004.
    """

    needs_rates = True
    rules: ClassVar[dict[str, Rule]] = {"target": Number(0, 1, above=True), "strength": Number(0)}

    def __init__(self, target: float = 0.05, strength: float = 1.0) -> None:
        self.target = target
        self.strength = strength

    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value and its gradient, λ(r − p)/N · g, as rates are σ(g·pre)."""
        # ln(1 + eᶻ) − pz for the logit z of r, because r itself may round to 1.
        gain = gain_of(p)
        logits = gain * p.pre
        value = p.mean(F.softplus(logits) - self.target * logits).sum(dtype=torch.float64)
        return self.strength * value, (self.strength * gain / p.n) * (p.rates - self.target)


class L1Activity(ActivityPenalty):
    """Size of the codes, λ times the batch's mean of Σⱼ |hⱼ|.

    Parameters
    ----------
    strength : float
        λ.

    Notes
    -----
    For units whose inactive code is 0: sigmoid, ReLU and its kin; not tanh. Source: document 004.
    """

    needs_zero = True
    rules: ClassVar[dict[str, Rule]] = {"strength": Number(0)}

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value and its gradient, λ sign(h)/N · ∂codes/∂pre."""
        return self.strength * p.mean(p.codes.abs()).sum(dtype=torch.float64), (
            self.strength / p.n
        ) * p.codes.sign() * p.slope


class StudentT(ActivityPenalty):
    """Minus the log-density of Student's t with one degree of freedom, λ times the batch's mean of Σⱼ ln(1 + hⱼ²).

    Parameters
    ----------
    strength : float
        λ.

    Notes
    -----
    For units whose inactive code is 0: sigmoid, ReLU and its kin; not tanh. It asks little more of a large code than
    of a middling one, where :class:`L1Activity` goes on. Source: document 004.
    """

    needs_zero = True
    rules: ClassVar[dict[str, Rule]] = {"strength": Number(0)}

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def evaluate(self, p: Pass) -> tuple[Scalar, Hidden]:
        """The value and its gradient, λ 2h/(1 + h²)/N · ∂codes/∂pre."""
        squares = p.codes**2
        pull = 2 * p.codes / (1 + squares)
        return self.strength * p.mean(torch.log1p(squares)).sum(dtype=torch.float64), (
            self.strength / p.n
        ) * pull * p.slope


class L2(WeightPenalty):
    """λ/2 Σ w² over all weights, no bias; gradient λw, which joins that of the objective.

    A step of gradient descent shrinks a weight by ηλw; Adam rescales it with the rest.

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
        return torch.stack([0.5 * self.strength * (weight**2).sum(dtype=torch.float64) for weight in weights]).sum()

    def gradient(self, weight: Tensor) -> Tensor:
        """λw."""
        return self.strength * weight


class L1(WeightPenalty):
    """λ Σ |w| over all weights, no bias; gradient λ sign(w), which joins that of the objective.

    Parameters
    ----------
    strength : float
        λ.
    proximal : bool
        Instead of the gradient, take λ times the step off the size of each weight after every update, and stop at
        zero: w ← sign(w)·max(|w| − λη, 0). Weights then are exactly zero, where the gradient's steps straddle it.

    Notes
    -----
    The step of gradient descent with momentum μ is η/(1 − μ), the way that a steady gradient moves a weight, so that
    both forms have the same points of rest; that of Adam is its own for each weight. An average over epochs is zero
    only where every epoch was. Source of the proximal step: Parikh and Boyd (2014), Proximal algorithms.
    """

    rules: ClassVar[dict[str, Rule]] = {"strength": Number(0)}

    def __init__(self, strength: float = 1e-4, proximal: bool = False) -> None:
        self.strength = strength
        self.proximal = proximal

    def value(self, weights: Iterable[Tensor]) -> Scalar:
        """λ Σ |w|."""
        return torch.stack([self.strength * weight.abs().sum(dtype=torch.float64) for weight in weights]).sum()

    def gradient(self, weight: Tensor) -> Tensor:
        """λ sign(w), 0 at 0; zeros where the step is proximal."""
        return torch.zeros_like(weight) if self.proximal else self.strength * weight.sign()

    @property
    def shrinkage(self) -> float:
        """λ where the step is proximal."""
        return self.strength if self.proximal else 0.0


def shrink(weight: Tensor, threshold: Tensor | float) -> None:
    """Soft thresholding in place: w ← sign(w)·max(|w| − threshold, 0)."""
    weight.copy_(weight.sign() * (weight.abs() - threshold).clamp_(min=0))
