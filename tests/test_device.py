"""That training leaves nothing to wait for on a device: no number goes to the host, and no tensor is anywhere else.

Tensors on torch's "meta" device have a shape, a type and a place, and no numbers: an update that runs on them looks at
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import rarefire as rf
from rarefire import penalties
from rarefire.activations import ELU, Identity, LeakyReLU, ReLU, Sigmoid, Tanh, ThresholdedLinear, ThresholdedReLU
from rarefire.checkpoint import TrainState
from rarefire.data import batch as batches
from rarefire.data.batch import Batch, Resident
from rarefire.data.source import ArraySource, Description
from rarefire.losses import BernoulliCrossEntropy
from rarefire.objectives.finetune import Unrolled, UpDown
from rarefire.random import Generator
from rarefire.solvers.adam import Adam
from rarefire.solvers.sgd import SGD
from rarefire.trainer import Trainer

ROWS = (np.random.default_rng(0).random((60, 12)) < 0.4).astype(np.float32)
SOURCE = ArraySource(ROWS, Description("rows"))
ELSEWHERE = torch.device("meta")

#: What makes the host wait for a device: a number, or a shape that follows from numbers.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "unique_consecutive", "equal")


class OnOneDevice(TorchDispatchMode):
    """Raises where an operation makes the host wait, or has to do with tensors on several devices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        waits = name in WAITS or (name == "index" and any(t.dtype == torch.bool for t in given[1:]))
        if waits and any(t.device == ELSEWHERE for t in given):
            raise AssertionError(f"{name} waits for the device")
        out = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if len({t.device for t in (*given, *made)}) > 1:
            raise AssertionError(f"{name} has to do with several devices")
        return out


class Anything(Generator):
    """Draws without numbers, on a device that is not there."""

    def __init__(self) -> None:
        super().__init__(0)
        self.device = ELSEWHERE

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.randint(0, 2**24, tuple(shape), device=self.device).to(dtype)

    def bernoulli(self, p: torch.Tensor) -> torch.Tensor:
        return self.uniform(p.shape, p.dtype).lt_(p)

    def normal(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(tuple(shape), device=self.device, dtype=torch.float64).to(dtype)


def steps_elsewhere(trainer: Trainer, parameters: dict, objective: dict) -> TrainState:
    """A few updates, of which only types, shapes and devices are worked out."""
    there = {name: t.to(ELSEWHERE) for name, t in parameters.items()}
    state = TrainState(
        there, trainer.solver.initial(there), objective={name: t.to(ELSEWHERE) for name, t in objective.items()}
    )
    rows = Resident(torch.from_numpy(ROWS).to(ELSEWHERE), SOURCE)
    order = rows.order(Generator(0))
    with OnOneDevice():
        for start in range(0, len(ROWS), 25):
            batch = Batch(rows, order[start : start + 25], ELSEWHERE)
            loss = trainer.update(state, batch, Anything(), 0.0)
            trainer._add(state, loss, batch.n)
    return state


def trainer_of(estimator: Any, **changes: Any) -> Trainer:
    trainer = estimator._trainer(SOURCE, None, 0, torch.device("cpu"), 1, [])
    return Trainer(**{**vars(trainer), **changes})


def check_elsewhere(state: TrainState) -> None:
    """That all that changes stands on the device still, but for the number of Adam's steps."""
    groups = (state.parameters, state.solver, state.objective, state.sums)
    tensors = {name: t for group in groups for name, t in group.items() if isinstance(t, torch.Tensor)}
    assert {name for name, t in tensors.items() if t.device != ELSEWHERE} <= {"steps"}


MACHINES = [
    {},
    {"persistent": False, "gibbs_steps": 2, "positive_hidden": "sample"},
    {"n_chains": 7, "momentum": 0.5, "weight_decay": penalties.L1(0.1, proximal=True)},
    {"centring": 0.01, "penalty": penalties.KLDivergence(0.1, averaging=0.9), "weight_decay": penalties.L2(0.1)},
    {"penalty": penalties.TargetMeanOfBiases(0.1), "negative_hidden": "mean", "chain_visible": "mean"},
    {"penalty": penalties.RunningCrossEntropy(0.1), "precision": "bfloat16"},
    {"penalty": penalties.MeanActivity(0.1)},
    {"penalty": penalties.L1Activity(0.1), "persistent": False},
    {"penalty": penalties.StudentT(0.1)},
    {"penalty": penalties.CrossEntropy(0.1)},
    {"penalty": penalties.TargetMean(0.1)},
]


@pytest.mark.parametrize("options", MACHINES, ids=str)
@pytest.mark.parametrize("cls", [rf.BernoulliRBM, rf.GaussianRBM])
def test_updates_of_machines_stay_on_the_device(cls, options):
    estimator = cls(5, batch_size=25, **options)
    parameters = estimator._initial(SOURCE, torch.float32, Generator(0))
    objective = estimator._objective_state(SOURCE, torch.float32, torch.device("cpu"))
    check_elsewhere(steps_elsewhere(trainer_of(estimator), parameters, objective))


def test_updates_of_learnt_variances_stay_on_the_device():
    estimator = rf.GaussianRBM(5, batch_size=25, learn_variance=True)
    parameters = estimator._initial(SOURCE, torch.float32, Generator(0))
    objective = estimator._objective_state(SOURCE, torch.float32, torch.device("cpu"))
    state = steps_elsewhere(trainer_of(estimator), parameters, objective)
    assert "log_variance" in state.parameters
    check_elsewhere(state)


AUTOENCODERS = [
    {"activation": Sigmoid(), "penalty": penalties.KLDivergence(0.1, averaging=0.5)},
    {"activation": Sigmoid(), "penalty": penalties.CrossEntropy(0.1), "weight_decay": penalties.L1(0.1, proximal=True)},
    {"activation": Sigmoid(), "penalty": penalties.RunningCrossEntropy(0.1, biases_only=True)},
    {"activation": Tanh(), "penalty": penalties.KLDivergence(0.1), "weight_decay": penalties.L2(0.1)},
    {"activation": ReLU(), "penalty": penalties.L1Activity(0.1), "weight_decay": penalties.L1(0.1)},
    {"activation": LeakyReLU(), "penalty": penalties.TargetMean(0.1)},
    {"activation": ELU(), "penalty": penalties.MeanActivity(0.1), "tied": True},
    {"activation": ThresholdedReLU(), "penalty": penalties.StudentT(0.1), "dropout": 0.2, "input_dropout": 0.1},
    {"activation": ThresholdedLinear(), "penalty": None},
    {"activation": Identity(), "penalty": None, "output": Sigmoid(), "loss": BernoulliCrossEntropy()},
]


@pytest.mark.parametrize("options", AUTOENCODERS, ids=str)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_updates_of_autoencoders_stay_on_the_device(solver, options):
    estimator = rf.SparseAutoencoder(5, batch_size=25, solver=solver, **options)
    parameters = estimator._initial(SOURCE, torch.float32, Generator(0))
    objective = estimator._objective_state(SOURCE, torch.float32, torch.device("cpu"))
    state = steps_elsewhere(trainer_of(estimator), parameters, objective)
    check_elsewhere(state)
    assert state.sums["rows"] == len(ROWS)
    assert state.sums["objective"].dtype == torch.float64


def test_updates_of_batches_in_parts_stay_on_the_device(monkeypatch):
    monkeypatch.setattr(batches, "PART_VALUES", 12 * 10)
    estimator = rf.SparseAutoencoder(5, batch_size=25, solver="adam", penalty=penalties.KLDivergence(0.1))
    parameters = estimator._initial(SOURCE, torch.float32, Generator(0))
    check_elsewhere(steps_elsewhere(trainer_of(estimator), parameters, {}))


@pytest.mark.parametrize(
    "objective", [Unrolled(False, penalties.L2(0.1)), Unrolled(True, penalties.L1(0.1)), UpDown(2)]
)
@pytest.mark.parametrize("solver", [Adam(), SGD(0.1, 0.5)])
def test_updates_of_deep_networks_stay_on_the_device(objective, solver):
    from rarefire.models.boltzmann import BoltzmannMachine
    from rarefire.models.deep import UnrolledNetwork
    from rarefire.units import Bernoulli

    machines = [
        BoltzmannMachine.initial(
            below, above, hidden=Bernoulli(), visible=Bernoulli(), generator=Generator(0), dtype=torch.float32
        )
        for below, above in ((12, 6), (6, 4))
    ]
    network = UnrolledNetwork.of(machines)
    trainer = trainer_of(
        rf.BernoulliRBM(5, batch_size=25), objective=objective, solver=solver, model_of=network.with_parameters
    )
    check_elsewhere(steps_elsewhere(trainer, network.parameters, {}))


def test_the_variances_below_a_deep_network_are_sent_once():
    machines = [rf.GaussianRBM(6, learn_variance=True, n_iter=1), rf.BernoulliRBM(4, n_iter=1)]
    network = rf.DeepBeliefNetwork(machines, fine_tune="sample", max_iter=1, batch_size=25, random_state=0).fit(ROWS)
    trainer = network._trainer(SOURCE, None, 0, torch.device("cpu"), 1, [])
    parameters = network._initial(SOURCE, torch.float32, Generator(0))
    there = {name: t.to(ELSEWHERE) for name, t in parameters.items()}
    trainer.model_of(there)
    with OnOneDevice():
        law = trainer.model_of(there).visible
    assert law.variance.device == ELSEWHERE
    assert law.variance.dtype == torch.float32
    check_elsewhere(steps_elsewhere(trainer, parameters, {}))


def test_sums_on_a_device_are_numbers_in_a_checkpoint(tmp_path):
    state = TrainState({}, {}, sums={"objective": torch.tensor(0.1, dtype=torch.float64), "rows": 3})
    (tmp_path / "state").write_bytes(state.to_bytes())
    again = TrainState.read(tmp_path / "state", torch.device("cpu"))
    assert again.sums == {"objective": 0.1, "rows": 3}
    assert type(again.sums["rows"]) is int


# A class of a penalty that strays would be found among those of the library; so its method is replaced.
STRAYING = {
    "looks at a number": (lambda p, value, pull: (value, pull * float(p.codes.mean() > -1)), "waits"),
    "a shape that follows from numbers": (lambda p, value, pull: (value + p.codes[p.codes > 0].sum(), pull), "waits"),
    "sends something to the host": (lambda p, value, pull: (value.cpu(), pull), "meta tensor"),
    "brings something from the host": (lambda p, value, pull: (value, pull * torch.ones(p.codes.shape[1])), "device"),
}


@pytest.mark.parametrize("how", STRAYING)
@pytest.mark.parametrize("cls", [rf.BernoulliRBM, rf.SparseAutoencoder])
def test_an_update_that_does_not_stay_on_the_device_is_seen(cls, how, monkeypatch):
    stray, message = STRAYING[how]
    evaluate = penalties.L1Activity.evaluate
    monkeypatch.setattr(penalties.L1Activity, "evaluate", lambda self, p: stray(p, *evaluate(self, p)))
    options = {"solver": "sgd", "activation": ReLU()} if cls is rf.SparseAutoencoder else {}
    estimator = cls(5, batch_size=25, penalty=penalties.L1Activity(), **options)
    parameters = estimator._initial(SOURCE, torch.float32, Generator(0))
    objective = estimator._objective_state(SOURCE, torch.float32, torch.device("cpu"))
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError), match=message):
        steps_elsewhere(trainer_of(estimator), parameters, objective)
