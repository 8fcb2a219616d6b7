"""Sampling of a machine, state in and state out: Gibbs; parallel tempering; annealed importance sampling.

Gibbs sampling stands here. :mod:`rarefire.sampling.path` joins a machine to one without weights, along which
:mod:`~rarefire.sampling.tempering` exchanges samples and :mod:`~rarefire.sampling.annealing` estimates ln Z.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.random import Generator
from rarefire.types import Hidden, Visible
from rarefire.units import Units

#: What a half-step hands on: the units' means (probabilities, for Bernoulli units) or a sample.
HalfStep = Literal["mean", "sample"]


def half_step(units: Units, mean: Tensor, how: HalfStep, generator: Generator) -> Tensor:
    """The means themselves, or one draw from them."""
    return units.sample(mean, generator) if how == "sample" else mean


def gibbs(
    machine: BoltzmannMachine,
    h: Hidden,
    n_steps: int,
    generator: Generator,
    *,
    visible: HalfStep = "sample",
    hidden: HalfStep = "sample",
) -> tuple[Visible, Hidden]:
    """Go down to the visibles and up again ``n_steps`` times, from a hidden state.

    With both half-steps sampled, the chain's stationary distribution is the machine's own.

    Parameters
    ----------
    h : Tensor of shape (chains, hidden)
        The hidden state of each chain.
    n_steps : int
        At least 1.
    visible, hidden : {"sample", "mean"}
        What each half-step hands on.

    Returns
    -------
    v : Tensor of shape (chains, visible)
        The last visible state.
    mean : Tensor of shape (chains, hidden)
        E[h | v]; a chain goes on from a :func:`half_step` of it.
    """
    v = half_step(machine.visible, machine.visible_mean(h), visible, generator)
    mean = machine.hidden_mean(v)
    for _ in range(n_steps - 1):
        h = half_step(machine.hidden, mean, hidden, generator)
        v = half_step(machine.visible, machine.visible_mean(h), visible, generator)
        mean = machine.hidden_mean(v)
    return v, mean
