"""The restricted Boltzmann machine: energy, conditionals, free energy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rarefire.random import Generator
from rarefire.types import Hidden, HiddenBias, Pass, PerRow, Tensors, Visible, VisibleBias, Weight
from rarefire.units import Units


@dataclass(frozen=True)
class BoltzmannMachine:
    """Two layers of units, each unit joined to all of the other layer.

    E(v, h) = e_v(v) − a·v + e_h(h) − b·h − h·W v

    with e_v, e_h the unit types' own terms, zero for Bernoulli units.

    Parameters
    ----------
    weight : Tensor of shape (hidden, visible)
        W; row j is the feature of hidden unit j.
    hidden_bias, visible_bias : Tensor of shape (hidden,) and (visible,)
        b and a.
    hidden, visible : Units
        The law of each layer.
    """

    weight: Weight
    hidden_bias: HiddenBias
    visible_bias: VisibleBias
    hidden: Units
    visible: Units

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
        return {"weight": self.weight, "hidden_bias": self.hidden_bias, "visible_bias": self.visible_bias}

    def with_parameters(self, parameters: Tensors) -> BoltzmannMachine:
        """The same machine with other parameters."""
        return BoltzmannMachine(**parameters, hidden=self.hidden, visible=self.visible)

    @property
    def weights(self) -> Sequence[Tensor]:
        """All weight matrices, no biases."""
        return (self.weight,)

    def hidden_input(self, v: Visible) -> Hidden:
        """W v + b."""
        return torch.addmm(self.hidden_bias, v, self.weight.T)

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

    def energy(self, v: Visible, h: Hidden) -> PerRow:
        """E(v, h) of each pair of rows."""
        interaction = ((h @ self.weight) * v).sum(dim=1)
        return self.visible.energy(v, self.visible_bias) + self.hidden.energy(h, self.hidden_bias) - interaction

    def free_energy(self, v: Visible) -> PerRow:
        """F(v) = −ln Σₕ exp(−E(v, h)) of each row."""
        return self.visible.energy(v, self.visible_bias) - self.hidden.log_partition(self.hidden_input(v)).sum(dim=1)

    def look(self, v: Visible) -> Pass:
        """What a penalty sees of a batch: the positive phase."""
        return Pass(
            x=v,
            pre=self.hidden_input(v),
            activate=self.hidden.mean,
            slope_of=self.hidden.slope,
            rate_range=self.hidden.support if all(map(math.isfinite, self.hidden.support)) else None,
            decode=self.visible_mean,
            weights=self.weights,
            rate_gain=self.hidden.rate_gain,
        )
