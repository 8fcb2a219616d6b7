"""How likely a machine finds data."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from rarefire.errors import InputError
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.types import PerRow, Visible

#: Entries of the largest temporary array, rows × pixels × hidden units.
_BLOCK = 2**22
#: Units of a layer that can be summed over: 2²⁵ states take minutes.
MOST_UNITS = 25


def log_pseudo_likelihood(machine: BoltzmannMachine, v: Visible) -> PerRow:
    """Σᵢ ln P(vᵢ | all other visibles) of each row, in nats, for Bernoulli units.

    Every pixel is flipped in turn: ln σ(F(v with vᵢ → 1 − vᵢ) − F(v)), summed over i. Nothing is drawn at random,
    so a row's value does not depend on the rows beside it. For rows with values between 0 and 1 the same formula
    is taken, as scikit-learn does.

    Source: Besag (1975), Statistical analysis of non-lattice data.
    """
    z = machine.hidden_input(v)
    flip = 1 - 2 * v
    rest = machine.hidden.log_partition(z, machine.hidden_bias).sum(dim=1)
    # Flipping pixel i changes the free energy by −aᵢdᵢ − Σⱼ [ln(1 + e^(zⱼ + Wⱼᵢdᵢ)) − ln(1 + e^zⱼ)].
    total = torch.zeros_like(rest)
    size = max(1, _BLOCK // (len(v) * z.shape[1]))
    for start in range(0, v.shape[1], size):
        pixels = slice(start, start + size)
        moved = z[:, None, :] + flip[:, pixels, None] * machine.weight.T[None, pixels]
        partition = machine.hidden.log_partition(moved, machine.hidden_bias).sum(dim=2)
        rise = rest[:, None] - partition - machine.visible_bias[pixels] * flip[:, pixels]
        total += F.logsigmoid(rise).sum(dim=1)
    return total


def log_partition(machine: BoltzmannMachine) -> float:
    """Ln Z = ln Σ exp(−E(v, h)), by summing over every state of the smaller layer, in float64.

    The other layer is summed out in closed form. Gaussian visibles have no states to go through, so hidden units are
    summed over there, and integrals taken over the visibles.

    Raises
    ------
    InputError
        If that layer has more than 25 units.
    """
    n_hidden, n_visible = machine.weight.shape
    over_visible = machine.visible.binary and n_visible < n_hidden
    n, other = (n_visible, n_hidden) if over_visible else (n_hidden, n_visible)
    if n > MOST_UNITS:
        layer = "smaller layer" if machine.visible.binary else "hidden layer"
        raise InputError(
            f"the exact sum runs over 2^{n} states of the {layer}, and 2^{MOST_UNITS} is the limit; take annealed "
            'importance sampling (method="ais")'
        )
    exact = machine.with_parameters({name: value.double() for name, value in machine.parameters.items()})
    energy = exact.free_energy if over_visible else exact.hidden_free_energy
    bits = torch.arange(n, device=machine.device)
    total = torch.tensor(-torch.inf, dtype=torch.float64, device=machine.device)
    size = max(1, _BLOCK // max(n, other))
    for start in range(0, 2**n, size):
        numbers = torch.arange(start, min(start + size, 2**n), device=machine.device)
        states = (numbers[:, None] >> bits & 1).double()
        total = torch.logaddexp(total, torch.logsumexp(-energy(states), dim=0))
    return float(total)
