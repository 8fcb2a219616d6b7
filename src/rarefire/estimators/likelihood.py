"""The partition function and the log-likelihood of a fitted machine: exact where it is small, else annealed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from rarefire.arguments import Choice, Kind, Rule, Whole
from rarefire.data.source import column_sums
from rarefire.errors import InputError
from rarefire.metrics.likelihood import log_partition as exact_log_partition
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.parallel import resolve_device
from rarefire.random import integer_seed
from rarefire.sampling.annealing import Estimate, annealed
from rarefire.sampling.path import Path
from rarefire.types import tensor_of

if TYPE_CHECKING:
    from rarefire.estimators.machine import RestrictedBoltzmannMachine

#: The smaller layer that method="auto" sums over: 2²⁰ states take seconds.
FEW_UNITS = 20

RULES: dict[str, Rule] = {
    "method": Choice(("auto", "exact", "ais")),
    "n_temperatures": Whole(2),
    "n_runs": Whole(2),
    "reverse": Kind(bool),
    "n_sweeps": Whole(1),
}


def log_partition(
    estimator: RestrictedBoltzmannMachine,
    X: Any,
    *,
    method: str = "auto",
    n_temperatures: int = 10_000,
    n_runs: int = 100,
    reverse: bool = True,
    n_sweeps: int = 2000,
    random_state: Any = None,
) -> Estimate:
    """What :meth:`RestrictedBoltzmannMachine.log_partition` gives."""
    given = {
        "method": method,
        "n_temperatures": n_temperatures,
        "n_runs": n_runs,
        "reverse": reverse,
        "n_sweeps": n_sweeps,
    }
    for name, value in given.items():
        if not RULES[name].allows(value):
            raise InputError(f"{name}={value!r} must be {RULES[name]}")
    machine = estimator.fitted_model(device=resolve_device(estimator.device))
    if method == "auto":
        binary = machine.visible.binary
        smaller = min(machine.weight.shape) if binary else len(machine.weight)
        method = "exact" if smaller <= FEW_UNITS else "ais"
    if method == "exact":
        return Estimate(exact_log_partition(machine), 0.0)
    seed = estimator.seed_ if random_state is None else integer_seed(random_state)
    path = Path(machine, base_of(estimator, machine, X))
    return annealed(path, [n_temperatures], n_runs, seed, n_sweeps=n_sweeps if reverse else 0)[0]


def log_likelihood(
    estimator: RestrictedBoltzmannMachine, X: Any, partition: Estimate | None, **options: Any
) -> Estimate:
    """What :meth:`RestrictedBoltzmannMachine.log_likelihood` gives."""
    energies = torch.as_tensor(estimator.free_energy(X)).double()
    if estimator.visible_units.binary:
        source = estimator.source_of(X, reset=False)
        if not all(bool(((rows == 0) | (rows == 1)).all()) for rows in source.batches()):
            raise InputError(
                "X holds values other than 0 and 1, which binary units give no probability to; draw 0 or 1 with each "
                "value as its probability, or cut at a threshold"
            )
    if partition is not None and not isinstance(partition, Estimate):
        raise InputError(f"partition={partition!r} must be what log_partition gives, or None")
    if partition is None:
        partition = log_partition(estimator, X, **options)
    elif options:
        raise InputError(f"{', '.join(options)} would change nothing, because partition is given; leave one out")
    return partition.log_likelihood(float(energies.mean()))


def base_of(estimator: RestrictedBoltzmannMachine, machine: BoltzmannMachine, X: Any = None) -> torch.Tensor:
    """Visible biases at which units without weights have the means of the rows.

    Without rows the means are those of the persistent chains; without these the biases are the machine's own, which
    are those of all hidden units off, and may be far from the data.
    """
    if X is not None:
        source = estimator.source_of(X, reset=False)
        total, n = tensor_of(column_sums(source), machine.device), source.shape[0]
    elif hasattr(estimator, "h_samples_"):
        h = tensor_of(estimator.h_samples_, machine.device).to(machine.weight)
        total, n = machine.visible_mean(h).sum(dim=0), len(h)
    else:
        return machine.visible_bias
    return machine.visible.input_of_mean(total, n).to(machine.visible_bias)
