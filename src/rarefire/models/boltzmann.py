"""The restricted Boltzmann machine: energy, conditionals, free energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rarefire.random import Generator
from rarefire.types import (
    Affine,
    Hidden,
    HiddenBias,
    Pass,
    PerRow,
    Tensors,
    Visible,
    VisibleBias,
    Weight,
    columns_together,
)
from rarefire.units import Gaussian, Units


@dataclass(frozen=True)
class BoltzmannMachine:
    """Two layers of units, each unit joined to all of the other layer.

    E(v, h) = Σ e(v, a) + Σ e(h, b) − t(h)·W t(v)

    with e the energy and t the statistic of each unit type: −a·v − b·h − h·W v for Bernoulli units, and
    Σ(v − a)²/2σ² − b·h − h·W(v/σ²) where the visibles are Gaussian.

    Parameters
    ----------
    weight : Tensor of shape (hidden, visible)
        W; row j is the feature of hidden unit j.
    hidden_bias, visible_bias : Tensor of shape (hidden,) and (visible,)
        b and a.
    hidden, visible : Units
        The law of each layer; hidden units are binary.
    log_variance : Tensor of shape (visible,), optional
        ln σ² of Gaussian visible units, which then take their variance from here; None leaves ``visible`` as it is.
    """

    weight: Weight
    hidden_bias: HiddenBias
    visible_bias: VisibleBias
    hidden: Units
    visible: Units
    log_variance: VisibleBias | None = None

    def __post_init__(self) -> None:
        if self.log_variance is not None:
            object.__setattr__(self, "visible", Gaussian(self.log_variance.exp()))

    @classmethod
    def initial(
        cls,
        n_visible: int,
        n_hidden: int,
        *,
        hidden: Units,
        visible: Units,
        generator: Generator,
        dtype: torch.dtype,
        scale: float = 0.01,
    ) -> BoltzmannMachine:
        """Weights from a normal law with standard deviation ``scale``, biases of zero."""
        weight = scale * generator.normal((n_hidden, n_visible), torch.float64)
        hidden_bias, visible_bias = (
            torch.zeros(n, dtype=dtype, device=generator.device) for n in (n_hidden, n_visible)
        )
        return cls(weight.to(dtype), hidden_bias, visible_bias, hidden, visible)

    @property
    def parameters(self) -> Tensors:
        """All parameters by name; changing a tensor in place changes the machine."""
        named = {"weight": self.weight, "hidden_bias": self.hidden_bias, "visible_bias": self.visible_bias}
        return named if self.log_variance is None else {**named, "log_variance": self.log_variance}

    def with_parameters(self, parameters: Tensors) -> BoltzmannMachine:
        """The same machine with other parameters."""
        return BoltzmannMachine(**parameters, hidden=self.hidden, visible=self.visible)

    @property
    def weights(self) -> Sequence[Tensor]:
        """All weight matrices, no biases."""
        return (self.weight,)

    @property
    def encoder(self) -> Weight:
        """What a row is multiplied by on the way up: W, or W/σ²."""
        return self.visible.statistic(self.weight)

    @property
    def ways(self) -> tuple[list[Affine], list[Affine]]:
        """What is met on the way up, and on the way down."""
        up = Affine(self.encoder, self.hidden_bias, self.hidden)
        return [up], [Affine(self.weight, self.visible_bias, self.visible)]

    def hidden_input(self, v: Visible) -> Hidden:
        """W t(v) + b, of rows that are dense or in torch's CSR form."""
        if v.layout is torch.sparse_csr:
            return torch.addmm(self.hidden_bias, v, columns_together(self.encoder).T)
        return torch.addmm(self.hidden_bias, self.visible.statistic(v), self.weight.T)

    def visible_input(self, h: Hidden) -> Visible:
        """Wᵀ h + a."""
        return torch.addmm(self.visible_bias, h, self.weight)

    def hidden_mean(self, v: Visible) -> Hidden:
        """E[h | v]."""
        return self.hidden.mean(self.hidden_input(v))

    def visible_mean(self, h: Hidden) -> Visible:
        """E[v | h]."""
        return self.visible.mean(self.visible_input(h))

    def encode(self, v: Visible) -> Hidden:
        """Rows to codes, E[h | v]."""
        return self.hidden_mean(v)

    def decode(self, h: Hidden) -> Visible:
        """Codes to rows, E[v | h]."""
        return self.visible_mean(h)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.weight.device

    def for_sparse_rows(self) -> BoltzmannMachine:
        """The same machine, its weights in memory as products with sparse rows want them."""
        return replace(self, weight=columns_together(self.weight))

    def energy(self, v: Visible, h: Hidden) -> PerRow:
        """E(v, h) of each pair of rows."""
        interaction = (h @ self.weight) * self.visible.statistic(v)
        own = self.visible.energy(v, self.visible_bias) - interaction
        return own.sum(dim=1) + self.hidden.energy(h, self.hidden_bias).sum(dim=1)

    def free_energy(self, v: Visible) -> PerRow:
        """F(v) = −ln Σₕ exp(−E(v, h)) of each row."""
        rest = self.hidden.log_partition(self.hidden_input(v), self.hidden_bias)
        return self.visible.energy(v, self.visible_bias).sum(dim=1) - rest.sum(dim=1)

    def hidden_free_energy(self, h: Hidden) -> PerRow:
        """−ln ∫ exp(−E(v, h)) dv of each row (a sum for binary visibles)."""
        rest = self.visible.log_partition(self.visible_input(h), self.visible_bias)
        return self.hidden.energy(h, self.hidden_bias).sum(dim=1) - rest.sum(dim=1)

    def look(
        self, v: Visible, *, average: Callable[[Tensor], Tensor] | None = None, n_batch: int | None = None
    ) -> Pass:
        """What a penalty sees of a batch, or of a share of one with ``n_batch`` rows: the positive phase."""
        return Pass(
            rows=v,
            pre=self.hidden_input(v),
            activate=self.hidden.mean,
            slope_of=self.hidden.slope,
            rate_range=self.hidden.support if all(map(math.isfinite, self.hidden.support)) else None,
            decode=self.visible_mean,
            weights=self.weights,
            rate_gain=self.hidden.rate_gain,
            average=average,
            n_batch=n_batch,
        )
