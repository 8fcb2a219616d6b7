"""What a run needs to go on bit for bit, and nothing else; and the files that arrays are kept in, of every kind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes
from torch import Tensor

from rarefire.errors import RunError
from rarefire.random import Generator
from rarefire.types import Scalar, Tensors, columns_together, finite, tensor_of

_SEAL = "sha256"


def sealed_bytes(arrays: Mapping[str, NDArray], entry: str, rest: dict[str, Any]) -> bytes:
    """Arrays and what is no array as one safetensors file, with a digest of both.

    Parameters
    ----------
    arrays : dict of ndarray
        By name.
    entry : str
        The one key of the file's metadata, because safetensors writes several in no fixed order.
    rest : dict
        JSON values, which stand there with the digest.
    """
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return safetensors_bytes(ordered, {entry: json.dumps({**rest, _SEAL: _digest(ordered, rest)})})


def read_sealed(path: Path, entry: str) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """The inverse of :func:`sealed_bytes`, from a file; one without a digest is taken as it is.

    Raises
    ------
    ValueError
        If the file is damaged or was changed: how, to be told with its name and what to do.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            rest = json.loads(file.metadata()[entry])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, no dictionary)
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    # What stands there instead of an object is for the caller to refuse.
    seal = rest.pop(_SEAL, None) if isinstance(rest, dict) else None
    if seal is not None and seal != _digest(arrays, rest):
        raise ValueError("it was changed since it was written")
    return arrays, rest


def _digest(arrays: Mapping[str, NDArray], rest: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(rest).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


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
        Sums over the rows of the epoch at hand: of the objective, of its terms, and their number; tensors where they
        are summed on a device, numbers in a checkpoint.
    best, best_parameters, waited : float, dict of Tensor, int
        For early stopping: the best held-out cost, the parameters that gave it, the measurements since then.
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
    sums: dict[str, Scalar | float] = field(default_factory=dict)
    best: float = float("inf")
    best_parameters: Tensors = field(default_factory=dict)
    waited: int = 0
    reason: str = ""

    def lay_out(self) -> None:
        """Put every matrix in memory as steps that move single columns want it."""
        for group in (self.parameters, self.solver, self.average, self.best_parameters):
            group.update({name: columns_together(value) for name, value in group.items() if value.ndim == 2})

    def check_like(self, expected: TrainState, name: str) -> None:
        """See that this is a state that a run of this specification can be in.

        Every tensor has the name, shape and type that such a run begins with, and all else is what it should be.

        Raises
        ------
        RunError
            If the state is of another run, or holds what no run of ours wrote.
        """
        like = {group: _forms(getattr(expected, group)) for group in ("parameters", "solver", "objective")}
        for group, forms in like.items():
            if _forms(getattr(self, group)) != forms:
                raise RunError(
                    f"the checkpoint {name} does not belong to the run's spec.json, which asks for other {group}; "
                    "start the run again with --overwrite"
                )
        averages = (self.average, self.best_parameters)
        counts = [tensor for tensor in self.solver.values() if not tensor.is_floating_point()]
        for what, fits in (
            ("average", all(_forms(average) in ({}, like["parameters"]) for average in averages)),
            ("weights", all(map(finite, (self.parameters, self.objective, *averages)))),
            ("counts", all(bool((count >= 0).all()) for count in counts)),
            ("place", all(type(place) is int and place >= 0 for place in (self.epoch, self.batch, self.waited))),
            ("sums", _are_sums(self.sums)),
            ("best", isinstance(self.best, float) and self.best == self.best),
            ("reason", isinstance(self.reason, str)),
            ("generator", _is_generator(self.generator)),
        ):
            if not fits:
                raise RunError(f"the checkpoint {name} has no valid {what}; start the run again with --overwrite")

    def to_bytes(self) -> bytes:
        """As one safetensors file; the numbers that are no tensors stand in its metadata, as JSON."""
        arrays = {
            f"{group}/{name}": tensor.detach().cpu().numpy()
            for group in _GROUPS
            for name, tensor in getattr(self, group).items()
        }
        rest = {name: value for name, value in vars(self).items() if name not in _GROUPS}
        rest["sums"] = {name: total.item() if isinstance(total, Tensor) else total for name, total in self.sums.items()}
        return sealed_bytes(arrays, "state", rest)

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
            arrays, rest = read_sealed(path, "state")
            for key, array in arrays.items():
                group, name = key.split("/", 1)
                groups[group][name] = tensor_of(array, device)
            if {*rest, *groups} != {entry.name for entry in fields(cls)}:
                raise ValueError("its entries are not those of a state")
            return cls(**groups, **rest)
        except (KeyError, ValueError, TypeError) as error:
            raise RunError(
                f"the checkpoint {path} is damaged ({error}); start the run again with --overwrite"
            ) from None


def _forms(tensors: Tensors) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _are_sums(sums: Any) -> bool:
    """Whether sums over rows can go on, and be divided by the number of rows."""
    if not isinstance(sums, dict):
        return False
    numbers = all(isinstance(total, float) or (type(total) is int and total < 2**63) for total in sums.values())
    return numbers and (not sums or sums.get("rows", 0) > 0)


def _is_generator(state: Any) -> bool:
    """Whether random numbers can go on from here; what another device drew is for that to say."""
    if not isinstance(state, dict) or state.get("device") != "cpu":
        return isinstance(state, dict) and isinstance(state.get("device"), str)
    try:
        Generator(0).set_state(state)
    except RunError:
        return False
    return True
