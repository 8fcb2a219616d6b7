"""Parallel tempering: samples of a machine, by way of easier ones that exchange their states with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rarefire.random import Generator
from rarefire.sampling.path import Path
from rarefire.types import Visible


@dataclass(frozen=True)
class Replicas:
    """State of parallel tempering: chains at every β, those of the smallest first.

    Parameters
    ----------
    betas : Tensor of shape (temperatures,)
        Rising from 0 to 1.
    v : Tensor of shape (temperatures * chains, visible)
        The chains' visibles.
    step : int
        Sweeps done.
    tried, accepted : Tensor of shape (temperatures - 1,)
        Exchanges of neighbours.
    """

    betas: Float[Tensor, " temperatures"]
    v: Visible
    step: int
    tried: Float[Tensor, " pairs"]
    accepted: Float[Tensor, " pairs"]

    @classmethod
    def initial(cls, path: Path, n_chains: int, n_temperatures: int, generator: Generator) -> Replicas:
        """All chains at independent samples of the path's beginning, with evenly spaced β."""
        if n_temperatures < 2:
            raise ValueError(f"n_temperatures={n_temperatures} must be at least 2: both ends of the path")
        betas = torch.linspace(0, 1, n_temperatures, dtype=torch.float64)
        v = path.base_samples(n_temperatures * n_chains, generator)
        return cls(betas, v, 0, *(torch.zeros(n_temperatures - 1, dtype=torch.float64) for _ in range(2)))

    @property
    def samples(self) -> Visible:
        """The chains at β = 1, of shape (chains, visible)."""
        return self.v[-(len(self.v) // len(self.betas)) :]

    @property
    def rates(self) -> Float[Tensor, " pairs"]:
        """Share of exchanges that were accepted, of each pair of neighbours; NaN where none was tried."""
        return self.accepted / self.tried

    def respaced(self) -> Replicas:
        """The same chains at β at which all pairs of neighbours are rejected about equally often.

        The sum of rejections up to β grows in proportion to the length of the path there, and is divided evenly.
        Chains are then those of slightly other machines, and have to forget it; counts begin anew. Nothing changes
        before every pair was tried.

        Source: Syed, Bouchard-Côté, Deligiannidis and Doucet (2022), Non-reversible parallel tempering.
        """
        if not self.tried.all():
            return self
        # A pair that was never rejected has some length all the same.
        length = np.concatenate([[0.0], np.cumsum(1 - self.rates.numpy() + 1e-3)])
        betas = np.interp(np.linspace(0, length[-1], len(length)), length, self.betas.numpy())
        none = torch.zeros_like(self.tried)
        return replace(self, betas=torch.from_numpy(betas), tried=none, accepted=none)


def temper(path: Path, replicas: Replicas, n_sweeps: int, generator: Generator) -> Replicas:
    """Gibbs steps at every β, each followed by exchanges of neighbours: even pairs, and odd ones the next time.

    A pair at β < β′ with visibles v and v′ exchanges them with probability

        min(1, exp[F_β(v) + F_β′(v′) − F_β(v′) − F_β′(v)]),

    F being the free energy, so that the joint distribution of all chains stays the product of their own. At β = 0 a
    Gibbs step draws visibles that depend on nothing before; what travels up from there has forgotten where it was.

    Parameters
    ----------
    replicas : Replicas
        Where to begin; it is not changed.
    n_sweeps : int
        Two matrix products of temperatures × chains rows each.

    Sources: Swendsen and Wang (1986), Replica Monte Carlo simulation of spin-glasses; Desjardins et al. (2010),
    Tempered Markov chain Monte Carlo for training of restricted Boltzmann machines.
    """
    n_temperatures = len(replicas.betas)
    n_chains = len(replicas.v) // n_temperatures
    beta = replicas.betas.to(replicas.v).repeat_interleave(n_chains)[:, None]
    v, tried, accepted = replicas.v, replicas.tried.clone(), replicas.accepted.clone()
    u = path.machine.hidden_input(v)
    places = torch.arange(len(v), device=v.device).reshape(n_temperatures, n_chains)
    for step in range(replicas.step, replicas.step + n_sweeps):
        v = path.gibbs(u, beta, generator)
        u = path.machine.hidden_input(v)
        pairs = slice(step % 2, None, 2)
        low, high = places[:-1][pairs].flatten(), places[1:][pairs].flatten()
        here = path.free_energy(v, u, beta)
        crossed = path.free_energy(v[high], u[high], beta[low]) + path.free_energy(v[low], u[low], beta[high])
        log_ratio = here[low] + here[high] - crossed
        swap = generator.uniform(log_ratio.shape, log_ratio.dtype) < log_ratio.exp()
        tried[pairs] += n_chains
        accepted[pairs] += swap.reshape(-1, n_chains).sum(dim=1).cpu()
        order = torch.arange(len(v), device=v.device)
        order[low], order[high] = torch.where(swap, high, low), torch.where(swap, low, high)
        v, u = v[order], u[order]
    return Replicas(replicas.betas, v, replicas.step + n_sweeps, tried, accepted)


def tempered(path: Path, n_chains: int, n_sweeps: int, generator: Generator, *, n_temperatures: int = 20) -> Replicas:
    """Chains that had ``n_sweeps`` sweeps, with β respaced after the first and the second quarter of them.

    Parameters
    ----------
    n_chains : int
        Chains at every β, independent of one another.
    n_temperatures : int
        Number of β.
    """
    replicas = Replicas.initial(path, n_chains, n_temperatures, generator)
    quarter = n_sweeps // 4
    for _ in range(2):
        replicas = temper(path, replicas, quarter, generator).respaced()
    return temper(path, replicas, n_sweeps - 2 * quarter, generator)
