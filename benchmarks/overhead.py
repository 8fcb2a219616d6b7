"""What the training loop costs beside the steps that it takes, and where the time of a step goes."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from begun import begun
from timing import run, side_by_side, told
from torch.profiler import ProfilerActivity, profile, record_function

import rarefire as rf
from rarefire.artifact import RunDirectory
from rarefire.data.batch import Batch
from rarefire.data.source import ArraySource, Description
from rarefire.objectives.contrastive import ContrastiveDivergence
from rarefire.objectives.reconstruction import Reconstruction
from rarefire.random import Generator
from rarefire.solvers.adam import Adam
from rarefire.solvers.sgd import SGD

#: What the figures are to be held against.
AIM = (
    "Aimed at: less than 10% for batches of 10 and 3% for batches of 100. An overhead below zero, and differences"
    " of a few hundredths, are the noise of these timings."
)

VISIBLE, HIDDEN = 784, 500
BATCHES = (10, 100)
#: Seconds between two checkpoints of a run.
EVERY = 30.0
#: Groups of operations, by their names in the profile; what is in none is told by where it was called.
PRODUCTS = {"aten::mm", "aten::addmm", "aten::matmul", "aten::mv", "aten::addmv_", "aten::linear", "aten::addmm_"}


class Bench:
    """A learner at work on rows in memory: its trainer, without anything that an epoch is measured on."""

    def __init__(self, family: str, size: int, n_rows: int) -> None:
        self.learner: Any = (
            rf.BernoulliRBM(HIDDEN, learning_rate=0.05, batch_size=size, n_iter=1, random_state=0)
            if family == "BernoulliRBM"
            else rf.SparseAutoencoder(HIDDEN, solver="adam", batch_size=size, max_iter=1, random_state=0)
        )
        X = (np.random.default_rng(0).random((n_rows, VISIBLE)) < 0.2).astype(np.float32)
        self.source = ArraySource(X, Description("overhead"))
        self.history: list[Any] = []
        trainer, self.state, self.generator = begun(self.learner, self.source, self.history)
        self.trainer = replace(trainer, evaluate=lambda model, epoch: {})
        self.batches = [Batch.of(rows) for rows in torch.from_numpy(X).split(size)]

    def bare(self) -> None:
        """The steps of an epoch on batches that were cut before, and nothing else."""
        trainer, state = self.trainer, self.state
        for batch in self.batches:
            _, state.objective = trainer.solver.step(
                lambda parameters, batch=batch: trainer.objective.evaluate(
                    trainer.model_of(parameters), batch, state.objective, self.generator
                ),
                state.parameters,
                state.solver,
                0.0,
            )

    def trained(self) -> None:
        """The same epoch by the trainer, with its shuffling, reading, checks, history and progress."""
        self.state.epoch, self.state.batch, self.state.reason = 0, 0, ""
        self.trainer.run(self.state, self.source, self.generator, listeners=[self.history.append])


def overhead(family: str, size: int, n_rows: int, repeats: int) -> dict[str, Any]:
    """Seconds of an epoch, bare and by the trainer, and of a checkpoint."""
    bench = Bench(family, size, n_rows)
    epochs = side_by_side({"bare": bench.bare, "trainer": bench.trained}, repeats)
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(folder)
        directory.create({}, overwrite=True)
        kept = side_by_side({"checkpoint": lambda: directory.write_checkpoint(bench.state.to_bytes())}, 3)
    return {"steps": len(bench.batches), "seconds": epochs, **kept}


def named(stack: ExitStack, owner: Any, method: str, name: str) -> None:
    """Let a method stand in the profile under a name."""
    plain = getattr(owner, method)

    def recorded(*arguments: Any, **more: Any) -> Any:
        with record_function(name):
            return plain(*arguments, **more)

    stack.enter_context(patch.object(owner, method, recorded))


def shares(family: str, size: int, n_rows: int) -> dict[str, float]:
    """The share of an epoch's time that each group of operations takes, by the profile."""
    bench = Bench(family, size, n_rows)
    bench.trained()
    with ExitStack() as stack:
        named(stack, Generator, "bernoulli", "random numbers")
        named(stack, Batch, "_read", "reading rows")
        for solver in (SGD, Adam):
            named(stack, solver, "step", "step")
        for objective in (ContrastiveDivergence, Reconstruction):
            named(stack, objective, "evaluate", "objective")
        with profile(activities=[ProfilerActivity.CPU]) as seen, record_function("loop"):
            bench.trained()
    found: dict[str, float] = defaultdict(float)
    for event in seen.events():
        found[group(event)] += event.self_cpu_time_total
    found.pop("", None)
    total = sum(found.values())
    return {name: value / total for name, value in sorted(found.items(), key=lambda item: -item[1])}


def group(event: Any) -> str:
    """Where an event of the profile belongs, by its name and by what called it."""
    callers, caller = [event.name], event.cpu_parent
    while caller is not None:
        callers.append(caller.name)
        caller = caller.cpu_parent
    if "loop" not in callers:
        return ""
    for name in ("random numbers", "reading rows"):
        if name in callers:
            return name
    if event.name in PRODUCTS:
        return "products"
    if not event.name.startswith("aten::"):
        return {
            "objective": "Python of the objective",
            "step": "Python of the parameter step",
        }.get(event.name, "the loop")
    if "objective" in callers:
        return "activations, samples and sums"
    return "parameter step" if "step" in callers else "the loop"


def measure(quick: bool = False) -> dict[str, Any]:
    """Both families at each size of batch."""
    found = []
    for family in ("BernoulliRBM", "SparseAutoencoder"):
        for size in BATCHES:
            n_rows = 20 * size if quick else 10_000
            entry = overhead(family, size, n_rows, 1 if quick else 9)
            found.append({"family": family, "batch": size, **entry, "shares": shares(family, size, n_rows)})
    return {"entries": found}


def tell(found: dict[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """A heading, the rows of a table (the first is its head), and what is to be said of it."""
    rows: list[tuple[str, ...]] = [
        (
            "family",
            "batch",
            "bare steps, each",
            "by the trainer, each",
            "overhead",
            "with checkpoints",
            "time, by groups",
        )
    ]
    for entry in found["entries"]:
        bare, trainer = (
            {key: value / entry["steps"] for key, value in entry["seconds"][arm].items()} for arm in ("bare", "trainer")
        )
        more = trainer["median"] / bare["median"] - 1
        kept = more + entry["checkpoint"]["median"] / EVERY
        groups = ", ".join(f"{name} {100 * share:.1f}%" for name, share in entry["shares"].items())
        rows.append(
            (
                entry["family"],
                str(entry["batch"]),
                told(bare),
                told(trainer),
                f"{100 * more:.1f}%",
                f"{100 * kept:.1f}%",
                groups,
            )
        )
    said = [
        f"An epoch of {VISIBLE} visible and {HIDDEN} hidden units in float32, PCD-1 and Adam. Bare steps are those "
        "of the solver on the same objects, on batches that were cut before; the trainer shuffles, reads the rows of "
        "each batch, keeps the running cost, the history and the signs of life, asks whether to stop, and checks that "
        f"all numbers are finite. A checkpoint, with digest and write, is counted once in {EVERY:.0f} s.",
        "Groups are shares of an epoch by the profile, which itself slows small operations down. Python is the time "
        "between the operations.",
    ]
    return "What the loop costs", rows, said


if __name__ == "__main__":
    run(measure)
