"""Solvers: from gradients to the next parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeAlias

from rarefire.component import Component
from rarefire.types import Loss, Tensors

#: An objective at given parameters on the batch at hand: its loss, and the objective's state after it.
Evaluate: TypeAlias = Callable[[Tensors], tuple[Loss, Tensors]]


class Solver(Component, ABC):
    """Rule that moves parameters; what it remembers between steps is a dictionary of tensors."""

    #: Whether it needs all rows in every step, in one order, and a value that is no estimate.
    full_batch: ClassVar[bool] = False
    #: Whether a step with the same settings is the same operations every time, and all on the device.
    recordable: ClassVar[bool] = False
    #: What a pass over the rows is called.
    pass_name: ClassVar[str] = "epoch"

    @abstractmethod
    def initial(self, parameters: Tensors) -> Tensors:
        """The state before the first step."""

    @abstractmethod
    def step(self, evaluate: Evaluate, parameters: Tensors, state: Tensors, progress: float) -> tuple[Loss, Tensors]:
        """One step: changes ``parameters`` and ``state`` in place, gives the loss and the objective's new state.

        ``evaluate`` may be called more than once; the objective's state that is given back is the one that
        belongs to the parameters kept. ``progress`` is the share of all epochs that is done.
        """

    def finished(self, state: Tensors) -> str:
        """Why no further step can help, or an empty text while one may."""
        return ""

    def settings(self, progress: float) -> dict[str, float]:
        """The numbers of an epoch's record that the solver was set to, such as the learning rate."""
        return {}
