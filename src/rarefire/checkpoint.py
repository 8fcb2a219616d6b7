"""What a run needs to go on bit for bit, and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from rarefire.errors import RunError
from rarefire.types import Tensors

_GROUPS = ("parameters", "solver", "average", "objective", "best_parameters")


@dataclass
class TrainState:
    """Everything that changes while a model is trained.

    Parameters
    ----------
    parameters, solver, average, objective : dict of Tensor
        The model's parameters, the solver's memory (velocities, moments, pairs of steps), the average of parameters
        over epochs (empty without averaging), and the objective's state (persistent chains, running averages).
    generator : dict
        The state of the sampling generator, taken when the state is written.
    epoch, batch : int
        Epochs done, and batches done in the epoch at hand. The order of rows needs no place here: it follows
        from the seed and the epoch.
    sums : dict
        Sums over the rows of the epoch at hand: of the objective, of its terms, and their number.
    best, best_parameters, waited : float, dict of Tensor, int
        For early stopping: the best held-out cost, the parameters that gave it, the epochs since then.
    reason : str
        Why training ended; empty while it goes on.
    """

    parameters: Tensors
    solver: Tensors
    average: Tensors = field(default_factory=dict)
    objective: Tensors = field(default_factory=dict)
    generator: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: float = float("inf")
    best_parameters: Tensors = field(default_factory=dict)
    waited: int = 0
    reason: str = ""

    def check_like(self, expected: TrainState, name: str) -> None:
        """See that every tensor has the name, shape and type that a run of this specification begins with.

        Raises
        ------
        RunError
            If the state is of another run.
        """
        for group in ("parameters", "solver", "objective"):
            ours, theirs = (
                {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in getattr(state, group).items()}
                for state in (self, expected)
            )
            if ours != theirs:
                raise RunError(
                    f"the checkpoint {name} does not belong to the run's spec.json, which asks for other {group}; "
                    "start the run again with --overwrite"
                )

    def to_bytes(self) -> bytes:
        """As one safetensors file; the numbers that are no tensors stand in its metadata, as JSON."""
        tensors = {
            f"{group}/{name}": tensor.detach().cpu().contiguous()
            for group in _GROUPS
            for name, tensor in getattr(self, group).items()
        }
        rest = {name: value for name, value in vars(self).items() if name not in _GROUPS}
        return safetensors_bytes(tensors, {"state": json.dumps(rest)})

    @classmethod
    def read(cls, path: Path, device: torch.device) -> TrainState:
        """The inverse of :meth:`to_bytes`, from a file.

        Raises
        ------
        RunError
            If the file is damaged.
        """
        groups: dict[str, Any] = {group: {} for group in _GROUPS}
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                rest: dict[str, Any] = json.loads(file.metadata()["state"])
                for key in file.keys():  # noqa: SIM118 (a file, not a dictionary)
                    group, name = key.split("/", 1)
                    groups[group][name] = file.get_tensor(key)
            state = cls(**{**groups, **rest})
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise RunError(
                f"the checkpoint {path} is damaged ({error}); start the run again with --overwrite"
            ) from None
        return state
