"""Fits that have begun, for timing single updates of them."""

from __future__ import annotations

from typing import Any

import torch

from rarefire.checkpoint import TrainState
from rarefire.data.source import Source
from rarefire.random import Generator
from rarefire.trainer import Trainer

CPU = torch.device("cpu")


def begun(learner: Any, source: Source, history: list[Any]) -> tuple[Trainer, TrainState, Generator]:
    """The trainer of one epoch on these float32 rows, the state before its first update, and what it draws from."""
    trainer = learner._trainer(source, None, 0, CPU, 1, history)
    state = learner._start(source, 0, torch.float32, CPU, trainer.solver, carry=False)
    if learner._by_columns(source):
        state.lay_out()
    return trainer, state, Generator(0, "sample")
