"""Objectives: model, batch and state in, gradients and new state out; nothing that was given is changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from rarefire.data.batch import Batch
from rarefire.parallel import Ranks
from rarefire.random import Generator
from rarefire.types import Loss, Tensors


class Objective(ABC):
    """What a trainer follows."""

    #: Whether an evaluation on dense rows is the same operations for every batch of one size, and all on the device.
    recordable: ClassVar[bool] = False

    @abstractmethod
    def evaluate(self, model: Any, batch: Batch, state: Tensors, generator: Generator) -> tuple[Loss, Tensors]:
        """Gradients for one batch, and the new state; ``model`` and ``state`` stay as they are.

        Gradients and state are those of the whole batch, where this process has a share of it.
        """

    def whole(self, state: Tensors, ranks: Ranks) -> Tensors:
        """The state with the parts that each process kept of its own, such as chains."""
        return state
