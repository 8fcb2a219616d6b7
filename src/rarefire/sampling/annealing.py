"""Annealed importance sampling: ln Z of a machine, from both ends of the path to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from rarefire.random import Generator
from rarefire.sampling.path import Path
from rarefire.sampling.tempering import tempered
from rarefire.types import PerRow, Visible


@dataclass(frozen=True)
class Estimate:
    """ln Z, or a mean log-likelihood that was had from it, in nats.

    Parameters
    ----------
    value : float
        The estimate.
    standard_error : float
        Of ``value``, from the spread among runs; 0 where it is exact. It knows nothing of what no run has met.
    spread : float or None
        Standard deviation of the log weights; much above 1, few runs carry the estimate.
    effective_runs : float or None
        (Σw)²/Σw²: runs of equal weight that would say as much.
    n_temperatures, n_runs : int or None
        Of the annealing; None where nothing was annealed.
    swap_rate : float or None
        Of a reverse estimate: the smallest share of exchanges between neighbours that the tempering accepted. Near 0,
        its chains did not travel, and are not to be taken for samples.
    reverse : Estimate or None
        The estimate from the machine's end of the path. It errs to the other side, but only as far as the samples it
        starts from are the machine's own, which tempering gives approximately.
    """

    value: float
    standard_error: float
    spread: float | None = None
    effective_runs: float | None = None
    n_temperatures: int | None = None
    n_runs: int | None = None
    swap_rate: float | None = None
    reverse: Estimate | None = None

    @property
    def gap(self) -> float | None:
        """Forward minus reverse; None without a reverse estimate.

        Forward annealing finds Z too small on average, and so a likelihood too high: a mean log-likelihood is
        optimistic by up to the gap. Where the forward likelihood is the lower one by more than the standard errors,
        the tempering behind the reverse estimate has not come to rest, and takes more sweeps.
        """
        return None if self.reverse is None else self.value - self.reverse.value

    def log_likelihood(self, mean_free_energy: float) -> Estimate:
        """Of ln Z, the mean log-likelihood −⟨F(v)⟩ − ln Z of rows with this mean free energy."""
        other = None if self.reverse is None else self.reverse.log_likelihood(mean_free_energy)
        return replace(self, value=-mean_free_energy - self.value, reverse=other)


def inverse_temperatures(n: int) -> list[float]:
    """β from 0 to 1 in n steps."""
    return np.linspace(0, 1, n).tolist()


def anneal(path: Path, v: Visible, betas: Sequence[float], generator: Generator) -> PerRow:
    """Log weights of runs along the path, one of each row: Σₖ F_βₖ(vₖ) − F_βₖ₊₁(vₖ), in float64.

    vₖ₊₁ comes from vₖ by a Gibbs step at βₖ₊₁. Where the rows are samples at the first β, the mean of the weights is
    Z at the last β over Z at the first.

    Parameters
    ----------
    v : Tensor of shape (runs, visible)
        Where the runs start.
    betas : sequence of float
        Rising or falling; two matrix products each.

    Source: Neal (2001), Annealed importance sampling.
    """
    log_weights = torch.zeros(len(v), dtype=torch.float64, device=v.device)
    u = path.machine.hidden_input(v)
    for before, after in pairwise(betas):
        log_weights += path.free_energy(v, u, before) - path.free_energy(v, u, after)
        if after != betas[-1]:
            v = path.gibbs(u, after, generator)
            u = path.machine.hidden_input(v)
    return log_weights


def forward(path: Path, n_temperatures: int, n_runs: int, generator: Generator) -> Estimate:
    """Ln Z from runs that begin at β = 0, with exact samples: the mean weight is Z over Z at β = 0.

    Ẑ is unbiased, so ln Ẑ is too small on average, by about half its variance where the weights vary little.
    """
    betas = inverse_temperatures(n_temperatures)
    log_weights = anneal(path, path.base_samples(n_runs, generator), betas, generator)
    return _estimate(log_weights, path.log_partition_base, 1, n_temperatures)


def reverse(path: Path, n_temperatures: int, start: Visible, generator: Generator) -> Estimate:
    """Ln Z from runs that begin at β = 1: minus the log mean weight, which is Z at β = 0 over Z.

    Were the rows of ``start`` independent samples of the machine, ln Ẑ would be too large on average. Rows that
    tempering gave are such samples approximately: where they miss a mode, or are too many in a small one, the estimate
    is too small, and the spread of its weights large.

    Source: Burda, Grosse and Salakhutdinov (2015), Accurate and conservative estimates of MRF log-likelihood using
    reverse annealing, which starts from samples that are exact and of a nearby model instead.
    """
    betas = inverse_temperatures(n_temperatures)[::-1]
    return _estimate(anneal(path, start, betas, generator), path.log_partition_base, -1, n_temperatures)


def annealed(
    path: Path, counts: Sequence[int], n_runs: int, seed: int, *, n_sweeps: int = 2000, n_replicas: int = 20
) -> list[Estimate]:
    """Forward estimates with the reverse ones beside them, for several numbers of temperatures.

    Where the two agree, both can be believed; where they part, the truth mostly lies between, and more temperatures
    bring them together.

    Parameters
    ----------
    counts : sequence of int
        Numbers of temperatures; all reverse runs start from the same tempered samples.
    n_runs : int
        Runs in each direction.
    seed : int
        Fixes three independent streams, so that tempering and reverse runs share nothing with the forward ones.
    n_sweeps, n_replicas : int
        Sweeps of the tempering and its number of β; without sweeps there is no reverse estimate.
    """
    device = path.base.device
    up, mix, down = (Generator(seed, "annealing", name, device=device) for name in ("forward", "tempering", "reverse"))
    estimates = [forward(path, n, n_runs, up) for n in counts]
    if not n_sweeps:
        return estimates
    replicas = tempered(path, n_runs, n_sweeps, mix, n_temperatures=n_replicas)
    swap_rate = float(replicas.rates.nan_to_num(0.0).min())
    others = [replace(reverse(path, n, replicas.samples, down), swap_rate=swap_rate) for n in counts]
    return [replace(one, reverse=other) for one, other in zip(estimates, others, strict=True)]


def _estimate(log_weights: PerRow, base: float, sign: int, n_temperatures: int) -> Estimate:
    """From the weights, each over the largest; the standard error is that of the mean weight over the mean."""
    largest = log_weights.max()
    weights = (log_weights - largest).exp()
    mean, n = weights.mean(), len(weights)
    return Estimate(
        value=base + sign * float(largest + mean.log()),
        standard_error=float(weights.std() / mean) / math.sqrt(n),
        spread=float(log_weights.std()),
        effective_runs=float(weights.sum() ** 2 / (weights**2).sum()),
        n_temperatures=n_temperatures,
        n_runs=n,
    )
