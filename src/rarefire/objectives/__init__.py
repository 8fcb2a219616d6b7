"""Objectives: model, batch and state in, gradients and new state out; nothing that was given is changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from rarefire.data.batch import Batch
from rarefire.random import Generator
from rarefire.types import Loss, Tensors


class Objective(ABC):
    """What a trainer follows."""

    @abstractmethod
    def evaluate(self, model: Any, batch: Batch, state: Tensors, generator: Generator) -> tuple[Loss, Tensors]:
        """Gradients for one batch, and the new state; ``model`` and ``state`` stay as they are."""
