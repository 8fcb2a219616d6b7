"""What a trainer reports, and those who listen without touching the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class FitStarted:
    """A fit begins, or goes on: epochs done, epochs in all, rows in each, and what is fitted."""

    estimator: str
    epoch: int
    n_epochs: int
    n_rows: int
    pass_name: str = "epoch"


@dataclass(frozen=True)
class Ticked:
    """A sign of life inside a long epoch: epochs done, with the part of the one at hand, and epochs in all."""

    epochs: float
    n_epochs: int


@dataclass(frozen=True)
class EpochEnded:
    """An epoch is over: its record for the history, and its duration, which stays out of the history."""

    record: dict[str, Any]
    n_epochs: int
    seconds: float

    def rate(self, n_rows: int) -> float:
        """Rows a second."""
        return n_rows / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class ArmStarted:
    """One of several fits of a recipe begins: its name, its number from 1, and how many there are."""

    name: str
    number: int
    n_arms: int


@dataclass(frozen=True)
class FitEnded:
    """A fit is over, after this many epochs, for this reason."""

    epoch: int
    reason: str


Event: TypeAlias = ArmStarted | FitStarted | Ticked | EpochEnded | FitEnded
Listener: TypeAlias = Callable[[Event], None]
