"""How likely a machine finds data."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.types import PerRow, Visible

#: Entries of the largest temporary array, rows × pixels × hidden units.
_BLOCK = 2**22


def log_pseudo_likelihood(machine: BoltzmannMachine, v: Visible) -> PerRow:
    """Σᵢ ln P(vᵢ | all other visibles) of each row, in nats, for Bernoulli units.

    Every pixel is flipped in turn: ln σ(F(v with vᵢ → 1 − vᵢ) − F(v)), summed over i. Nothing is drawn at random,
    so a row's value does not depend on the rows beside it. For rows with values between 0 and 1 the same formula
    is taken, as scikit-learn does.

    Source: Besag (1975), Statistical analysis of non-lattice data.
    """
    z = machine.hidden_input(v)
    flip = 1 - 2 * v
    rest = machine.hidden.log_partition(z).sum(dim=1)
    # Flipping pixel i changes the free energy by −aᵢdᵢ − Σⱼ [ln(1 + e^(zⱼ + Wⱼᵢdᵢ)) − ln(1 + e^zⱼ)].
    total = torch.zeros_like(rest)
    size = max(1, _BLOCK // (len(v) * z.shape[1]))
    for start in range(0, v.shape[1], size):
        pixels = slice(start, start + size)
        moved = z[:, None, :] + flip[:, pixels, None] * machine.weight.T[None, pixels]
        partition = machine.hidden.log_partition(moved).sum(dim=2)
        rise = rest[:, None] - partition - machine.visible_bias[pixels] * flip[:, pixels]
        total += F.logsigmoid(rise).sum(dim=1)
    return total
