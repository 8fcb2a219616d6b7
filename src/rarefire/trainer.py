"""The only training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rarefire.capture import Captured, Update, wanted
from rarefire.checkpoint import TrainState
from rarefire.data.batch import Batch, Resident, resident
from rarefire.data.source import Source
from rarefire.errors import Interrupted, RunError
from rarefire.events import EpochEnded, FitEnded, FitStarted, Listener, Ticked
from rarefire.objectives import Objective
from rarefire.parallel import ranks
from rarefire.precision import Precision, products
from rarefire.random import Generator
from rarefire.schedules import update_average
from rarefire.solvers import Solver
from rarefire.types import Loss, Tensors, finite

#: Seconds between two signs of life inside an epoch.
TICK = 0.5
#: Rows of an epoch whose cost an objective is asked for that does not compute it anyway, in batches spread over it.
WATCHED_ROWS = 500


def keep_freed_memory() -> None:
    """Let the C library keep what an update frees for the next one, where that is up to 64 MiB.

    glibc gives memory back to the system, and an update on tensors of some MB would spend half of its time on pages
    that it had a moment before. How much is kept follows from the largest block that was ever freed, up to 32 MiB; this
    one is never touched.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when ``monitor`` has not fallen by more than ``tol`` in ``patience`` measurements."""

    monitor: str
    tol: float
    patience: int


@dataclass(frozen=True)
class Trainer:
    """Epochs of shuffled mini-batches, from a state to a later state.

    Several processes go through the same batches, of which each takes its share; all that they decide upon is the same
    on each.

    Parameters
    ----------
    name : str
        What is trained, for messages.
    model_of : callable
        Parameters to model.
    objective, solver : Objective, Solver
        What is followed, and how.
    evaluate : callable
        (model, epoch) to the numbers of the epoch's record; called with the averaged parameters if there are any.
    n_epochs : int
        Epochs in all.
    batch_size : int or None
        Rows in each batch, the last one may be short; None takes all rows at once.
    averaging : float or None
        Factor of the exponential average over epochs.
    early_stopping : EarlyStopping or None
        When to stop before the last epoch.
    seed : int
        Fixes the order of the rows in each epoch.
    device : torch.device
        Where batches go.
    eval_every : int
        Epochs from one call of ``evaluate`` to the next; the last epoch has one in any case.
    precision : {"full", "bfloat16"}
        Of the matrix products of updates.
    advice : callable
        Gives what usually helps when training diverges, as the end of a sentence.
    """

    name: str
    model_of: Callable[[Tensors], Any]
    objective: Objective
    solver: Solver
    evaluate: Callable[[Any, int], dict[str, float]]
    n_epochs: int
    batch_size: int | None
    averaging: float | None
    early_stopping: EarlyStopping | None
    seed: int
    device: torch.device
    eval_every: int = 1
    precision: Precision = "full"
    advice: Callable[[], str] = lambda: ""

    def run(
        self,
        state: TrainState,
        source: Source,
        generator: Generator,
        *,
        listeners: Sequence[Listener] = (),
        save: Callable[[TrainState], None] | None = None,
        save_every: float = 30.0,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> TrainState:
        """Train until the last epoch, or until early stopping; ``state`` is changed in place and given back.

        Parameters
        ----------
        state : TrainState
            Where to start; in the middle of an epoch if it was saved there.
        source : Source
            The training rows.
        generator : Generator
            Draws every sample; its state is set from ``state`` if that holds one.
        save, save_every : callable, float
            Receives the state at most every ``save_every`` seconds, and at the end.
        should_stop : callable
            Asked after every batch; of several processes one is enough.

        Raises
        ------
        Interrupted
            If ``should_stop`` said so; the state was saved before.
        RunError
            If a parameter, or a number of the epoch's record, is no longer finite; the last state that was saved is a
            good one.
        """
        keep_freed_memory()
        n_rows = source.shape[0]
        all_ranks = ranks()
        training = resident(source, self.device)
        everything = Batch.share(training, slice(None), self.device, all_ranks) if self.solver.full_batch else None
        batch_size = min(self.batch_size or n_rows, n_rows)
        n_batches = math.ceil(n_rows / batch_size)
        watch_every = min(n_batches, max(1, n_rows // WATCHED_ROWS))
        if state.epoch > self.n_epochs or state.batch > n_batches:  # the checkpoint of another run
            raise RunError(
                f"{self.name} cannot go on at batch {state.batch} of {self.solver.pass_name} {state.epoch + 1}, as "
                f"there are {self.n_epochs} of {n_batches} batches; start the run again with --overwrite"
            )
        if state.generator:
            generator.set_state(state.generator)
        self._tell(listeners, FitStarted(self.name, state.epoch, self.n_epochs, n_rows, self.solver.pass_name))
        update = self._updates(state, training, batch_size, generator)
        saved = began = told = time.monotonic()

        def keep() -> None:
            nonlocal saved
            state.objective = self.objective.whole(state.objective, all_ranks)
            if save is not None:
                self.check(state)
                state.generator = generator.state()
                save(state)
            saved = time.monotonic()

        while state.epoch < self.n_epochs and not state.reason:
            # A solver that needs all rows takes them in their own order.
            shuffled = everything is None
            order = training.order(Generator(self.seed, "order", state.epoch)) if shuffled else np.arange(n_rows)
            progress = state.epoch / self.n_epochs
            presented = training.at_epoch(state.epoch)
            for start in range(state.batch * batch_size, n_rows, batch_size):
                rows = order[start : start + batch_size]
                batch = Batch.share(presented, rows, self.device, all_ranks) if everything is None else everything
                batch.watched = state.batch % watch_every == watch_every // 2
                loss = update(batch, progress)
                self._add(state, loss, batch.n)
                state.batch += 1
                now = time.monotonic()
                stop, due = all_ranks.any(should_stop(), now - saved >= save_every)
                if stop:
                    keep()
                    all_ranks.wait()
                    raise Interrupted(f"stopped in {self.solver.pass_name} {state.epoch + 1} of {self.n_epochs}")
                if due:
                    keep()
                if now - told >= TICK:
                    told = now
                    self._tell(listeners, Ticked(state.epoch + (start + batch.n) / n_rows, self.n_epochs))
            self.check(state)
            state.batch = 0
            state.epoch += 1
            if self.averaging is not None:
                update_average(state.average, state.parameters, self.averaging)
            model = self.model_of(state.average or state.parameters)
            settings = self.solver.settings(progress)
            n_seen = int(state.sums.pop("rows", 0))
            running = {name: float(total) / n_seen for name, total in state.sums.items()}
            state.sums = {}
            state.reason = self.solver.finished(state.solver)
            last = state.epoch == self.n_epochs or bool(state.reason)
            evaluated = self.evaluate(model, state.epoch) if last or state.epoch % self.eval_every == 0 else {}
            record: dict[str, float] = {"epoch": state.epoch, **running, **evaluated, **settings}
            self.check(state, record)
            if evaluated:
                self._watch(state, record)
            now = time.monotonic()
            self._tell(listeners, EpochEnded(record, self.n_epochs, now - began))
            began = now
        state.reason = state.reason or f"all {self.n_epochs} {self.solver.pass_name}s done"
        keep()
        self._tell(listeners, FitEnded(state.epoch, state.reason))
        return state

    def _updates(self, state: TrainState, source: Source | Resident, batch_size: int, generator: Generator) -> Update:
        """:meth:`update` of this state, recorded where that can be."""

        def update(batch: Batch, progress: float) -> Loss:
            return self.update(state, batch, generator, progress)

        same = self.objective.recordable and self.solver.recordable and ranks().size == 1
        if isinstance(source, Resident) and same and wanted():
            return Captured(update, self.solver.settings, state, source, batch_size, generator)
        return update

    def update(self, state: TrainState, batch: Batch, generator: Generator, progress: float) -> Loss:
        """One step of the solver on one batch."""

        def evaluate(parameters: Tensors):
            return self.objective.evaluate(self.model_of(parameters), batch, state.objective, generator)

        with products(self.precision):
            loss, state.objective = self.solver.step(evaluate, state.parameters, state.solver, progress)
        return loss

    @staticmethod
    def _add(state: TrainState, loss: Loss, n_rows: int) -> None:
        """Take a batch into the running means of the objective and its terms."""
        values: dict[str, Any] = {**loss.terms} if loss.value is None else {"objective": loss.value, **loss.terms}
        if not values:
            return
        for name, value in {**values, "rows": 1}.items():
            if isinstance(value, torch.Tensor) and value.device.type == "cpu":
                value = value.item()  # nobody waits for it, and numbers are added faster
            state.sums[name] = state.sums.get(name, 0) + n_rows * value

    def result(self, state: TrainState) -> Tensors:
        """The parameters that a fit ends with: the best, the averaged or the last ones."""
        return state.best_parameters or state.average or state.parameters

    def _watch(self, state: TrainState, record: dict[str, float]) -> None:
        if self.early_stopping is None:
            return
        value = record[self.early_stopping.monitor]
        if value < state.best - self.early_stopping.tol:
            state.best, state.waited = value, 0
            kept = state.average or state.parameters
            state.best_parameters = {name: tensor.clone() for name, tensor in kept.items()}
        else:
            state.waited += 1
        if state.waited >= self.early_stopping.patience:
            passes = f"{state.waited * self.eval_every} {self.solver.pass_name}s"
            state.reason = f"{self.early_stopping.monitor} has not improved for {passes}"

    def check(self, state: TrainState, record: dict[str, float] | None = None) -> None:
        """Raise RunError if a parameter, the solver's memory, or a number of the record is no longer finite."""
        bad = [] if finite(state.parameters) else ["a weight"]
        # A squared gradient that overflows leaves weights finite, which then never move again.
        bad += [] if self.solver.full_batch or finite(state.solver) else ["the solver's memory of gradients"]
        bad += [name for name, value in (record or {}).items() if not math.isfinite(value)]
        if bad:
            epoch = state.epoch + (record is None)
            raise RunError(
                f"{self.name} diverged in {self.solver.pass_name} {epoch}: {bad[0]} is no longer finite{self.advice()}"
            )

    @staticmethod
    def _tell(listeners: Sequence[Listener], event: Any) -> None:
        for listener in listeners:
            listener(event)
