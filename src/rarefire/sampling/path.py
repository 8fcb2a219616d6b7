"""The path from a machine without weights to a machine, along the inverse temperature β from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.random import Generator
from rarefire.types import Hidden, PerRow, Visible, VisibleBias

#: β of all rows together, or of each row, of shape (batch, 1).
Beta = float | Float[Tensor, "batch 1"]


@dataclass(frozen=True)
class Path:
    """Machines with weights βW, hidden biases βb and visible biases βa + (1 − β)a₀, for β between 0 and 1.

    At β = 1 this is the machine itself, at β = 0 one whose units are independent: visibles with the biases a₀,
    commonly those of the data's base rates, and hidden units that are on half of the time. Gaussian visibles have the
    machine's variance all along.

    Parameters
    ----------
    machine : BoltzmannMachine
        W, b, a and the units.
    base : Tensor of shape (visible,)
        a₀.

    Notes
    -----
    A method that takes u asks for :meth:`BoltzmannMachine.hidden_input` of the rows, W t(v) + b. It does not depend on
    β, so one product serves free energies at several β and the sampling after them.

    Source: Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks.
    """

    machine: BoltzmannMachine
    base: VisibleBias

    @property
    def log_partition_base(self) -> float:
        """Ln Z at β = 0, in closed form: Σ ln(1 + exp a₀) + n_hidden ln 2 where visibles are binary."""
        visible = self.machine.visible.log_partition(self.base, self.base)
        rest = torch.zeros_like(self.machine.hidden_bias)
        hidden = self.machine.hidden.log_partition(rest, rest)
        return float(visible.sum(dtype=torch.float64) + hidden.sum(dtype=torch.float64))

    def base_samples(self, n: int, generator: Generator) -> Visible:
        """Independent visibles at β = 0, of shape (n, visible)."""
        visible = self.machine.visible
        return visible.sample(visible.mean(self.base).expand(n, -1), generator)

    def free_energy(self, v: Visible, u: Hidden, beta: Beta) -> PerRow:
        """Σ e(v, βa + (1 − β)a₀) − Σ ln(1 + exp βu) of each row, in float64: minus the log of p(v) Z."""
        machine = self.machine
        visible = machine.visible.energy(v, self._visible_bias(beta))
        hidden = machine.hidden.log_partition(beta * u, beta * machine.hidden_bias)
        return visible.sum(dim=1, dtype=torch.float64) - hidden.sum(dim=1, dtype=torch.float64)

    def gibbs(self, u: Hidden, beta: Beta, generator: Generator) -> Visible:
        """Up to the hidden units at β and down again, both sampled: new visibles."""
        machine = self.machine
        h = machine.hidden.sample(machine.hidden.mean(beta * u), generator)
        mean = machine.visible.mean(self._visible_bias(beta) + beta * (h @ machine.weight))
        return machine.visible.sample(mean, generator)

    def _visible_bias(self, beta: Beta) -> Tensor:
        return beta * self.machine.visible_bias + (1 - beta) * self.base
