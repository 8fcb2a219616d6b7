"""An update as one graph, which a GPU plays without being told each of its steps."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from rarefire.checkpoint import TrainState
from rarefire.data.batch import Batch, Resident
from rarefire.errors import RunError
from rarefire.random import Generator
from rarefire.types import Loss, Tensors

#: What is called for each update: (batch, progress) to its loss; it changes the state that it belongs to.
Update = Callable[[Batch, float], Loss]

_GROUPS = ("parameters", "solver", "objective")


def wanted() -> bool:
    """Whether updates may be recorded; the environment variable RAREFIRE_GRAPH=0 says no."""
    return os.environ.get("RAREFIRE_GRAPH") != "0"


class Captured:
    """Updates on resident rows, of which those on a batch of one size are recorded once and then played.

    A graph repeats the same operations on the same memory. So the state stays in the tensors that it began in: what an
    update leaves elsewhere is copied back, as a part of the graph. The rows' numbers are copied to where the graph
    reads them. Numbers that the operations were given, such as the learning rate, are part of a graph, and it is
    recorded anew when the solver's settings change; batches whose cost is asked for have a graph of their own. The
    first batch at new settings, and one of another size such as the last of an epoch, go through the same update step
    by step; the first makes everything ready that may not be made while a graph is recorded.

    Recording computes nothing and draws nothing. The generator belongs to the graph: a played graph draws the
    numbers that its operations would have drawn one by one, and leaves the generator behind them, so that a
    checkpoint holds nothing of all this.

    Parameters
    ----------
    update : callable
        The update.
    settings : callable
        Progress to the solver's settings, which say when an update is no longer the recorded one.
    state : TrainState
        What the update changes.
    rows : Resident
        The rows that batches are of.
    n_rows : int
        Rows of a batch that is recorded.
    generator : Generator
        What the update draws from.

    Notes
    -----
    Source: the section "CUDA Graphs" of torch's "CUDA semantics", whose rules an update keeps: no number goes to the
    host, no memory is needed but the graph's own, every tensor has one shape.
    """

    def __init__(
        self,
        update: Update,
        settings: Callable[[float], dict[str, float]],
        state: TrainState,
        rows: Resident,
        n_rows: int,
        generator: Generator,
    ) -> None:
        self.update = update
        self.settings = settings
        self.state = state
        self.rows = rows
        self.generator = generator
        self.device = rows.tensor.device
        self.home: dict[str, Tensors] = {group: dict(getattr(state, group)) for group in _GROUPS}
        self.places = torch.zeros(n_rows, dtype=torch.int64, device=self.device)
        self.stream: Any = torch.cuda.Stream(self.device)
        self.ready: dict[str, float] = {}
        #: Of batches whose cost is asked for, and of others: what is recorded, None after the first.
        self.graphs: dict[bool, tuple[torch.cuda.CUDAGraph, Loss] | None] = {}

    def __call__(self, batch: Batch, progress: float) -> Loss:
        """The update; the loss that it gives is good until the next."""
        settings = self.settings(progress)
        if batch.n != len(self.places):
            return self.step_by_step(batch, progress)
        if settings != self.ready:
            self.ready, self.graphs = settings, {}
        if batch.watched not in self.graphs:
            self.graphs[batch.watched] = None
            return self.step_by_step(batch, progress)
        self.places.copy_(torch.as_tensor(batch.index))
        graph, loss = self.graphs[batch.watched] or self.record(progress, batch.watched)
        self.graphs[batch.watched] = graph, loss
        graph.replay()
        return loss

    def step_by_step(self, batch: Batch, progress: float) -> Loss:
        """The update as it is, on the stream that graphs are recorded on."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            loss = self.in_place(batch, progress)
        current.wait_stream(self.stream)
        return loss

    def record(self, progress: float, watched: bool) -> tuple[torch.cuda.CUDAGraph, Loss]:
        """The update as a graph, and the loss that is there after it was played.

        Raises
        ------
        RunError
            If it cannot be one, as where a part of the user's own takes numbers to the host.
        """
        graph = torch.cuda.CUDAGraph()
        self.generator.join(graph)
        try:
            # The outer context sets the device first, and is left even where recording fails.
            with torch.cuda.stream(self.stream), torch.cuda.graph(graph, stream=self.stream):
                batch = Batch(self.rows, self.places, self.device)
                batch.watched = watched
                loss = self.in_place(batch, progress)
        except RuntimeError as error:
            reason = str(error.__context__ or error).strip().partition("\n")[0]  # what came first
            raise RunError(
                f"the update cannot be recorded as a graph ({reason}); set the environment variable RAREFIRE_GRAPH=0, "
                "with which it is made step by step"
            ) from error
        return graph, loss

    def in_place(self, batch: Batch, progress: float) -> Loss:
        """The update, after which the state stands where it stood."""
        loss = self.update(batch, progress)
        for group, home in self.home.items():
            now = getattr(self.state, group)
            for name, tensor in home.items():
                if now[name] is not tensor:
                    tensor.copy_(now[name])
            setattr(self.state, group, dict(home))
        return loss
