"""Updates that are recorded and played: on the CPU, with a recorder that does what a GPU's graph does.

What is recorded is each operation with the very tensors that it was given, as a graph has addresses. Playing does the
operations again on these, and runs no Python of the update: numbers that it was given are what they were. Recording
leaves no trace, and whatever a graph may not hold is refused.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import rarefire as rf
from rarefire import penalties, trainer
from rarefire.artifact import RunDirectory
from rarefire.checkpoint import TrainState
from rarefire.data import batch as batches
from rarefire.data.batch import Resident, on_device, resident
from rarefire.data.source import ArraySource, Description
from rarefire.errors import Interrupted, RunError
from rarefire.estimators.layers import LayerSource
from rarefire.estimators.splitting import Split
from rarefire.random import Generator
from rarefire.schedules import Linear, Switch

ROWS = (np.random.default_rng(0).random((107, 12)) < 0.4).astype(np.float32)
SOURCE = ArraySource(ROWS, Description("rows"))
SPLIT = Split(np.arange(len(ROWS)), np.arange(0))


class Graph:
    """What torch.cuda.CUDAGraph does, of operations on the CPU."""

    made: list[Graph]

    def __init__(self) -> None:
        self.operations: list[tuple[Any, tuple, dict, list[torch.Tensor]]] = []
        self.generators: list[torch.Generator] = []
        self.played = 0
        self.made.append(self)

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generators.append(generator)

    def replay(self) -> None:
        self.played += 1
        for func, args, kwargs, made in self.operations:
            again = func(*args, **kwargs)
            for old, new in zip(made, tensors_in(again), strict=True):
                if old is not new:
                    old.view(new.shape).copy_(new)  # its shape may have been changed since


class Recording(TorchDispatchMode):
    """Keeps the operations of a graph, and undoes what they did."""

    def __init__(self, graph: Graph, stream: Any = None) -> None:
        super().__init__()
        self.graph = graph
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.inside: list[torch.Tensor] = []

    def __enter__(self) -> Any:
        self.states = [(generator, generator.get_state()) for generator in self.graph.generators]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for tensor, old in self.before.values():
            tensor.copy_(old)
        for generator, state in self.states:
            generator.set_state(state)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        if "_local_scalar_dense" in name or "nonzero" in name:
            raise RuntimeError("operation not permitted when stream is capturing\nand more of it")
        if "rand" in name:
            own = [generator._cdata for generator in self.graph.generators]
            assert kwargs["generator"]._cdata in own, "a graph draws from generators that belong to it only"
        arguments = func._schema.arguments
        given = {**dict(zip((a.name for a in arguments), args, strict=False)), **kwargs}
        changed = [given[a.name] for a in arguments if a.is_write and a.name in given]
        for tensor in changed:
            key = tensor.untyped_storage().data_ptr()
            if key not in self.before and all(key != t.untyped_storage().data_ptr() for t in self.inside):
                self.before[key] = tensor, tensor.clone()
        out = func(*args, **kwargs)
        made = tensors_in(out)
        shares = any(r.alias_info is not None for r in func._schema.returns)
        view = (shares and not changed) or torch.Tag.inplace_view in func.tags
        if not view:  # which is an address, and no operation
            self.inside += [] if changed else made
            self.graph.operations.append((func, args, kwargs, made))
        return out


def tensors_in(out: Any) -> list[torch.Tensor]:
    return [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]


class Stream:
    def __init__(self, device: Any = None) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        pass


class OneStream(Generator):
    """A generator whose numbers are drawn by torch operations, as they are on a GPU."""

    def __init__(self, seed: int, *purpose: Any, device: Any = "cpu") -> None:
        super().__init__(seed, *purpose)
        self._torch = torch.Generator()
        self._torch.manual_seed(seed)


@pytest.fixture
def graphs(monkeypatch):
    """Graphs that were made; rows are resident, and graphs are what stands above."""
    Graph.made = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Recording)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(trainer, "resident", on_device)
    monkeypatch.setattr(trainer, "WATCHED_ROWS", 30)  # of some batches, so that there are two graphs
    monkeypatch.setattr("rarefire.estimators.base.Generator", OneStream)
    return Graph.made


def fitted(estimator: Any, **options: Any) -> dict[str, Any]:
    """Everything that a fit leaves."""
    estimator.fit_source(SOURCE, SPLIT, seed=3, **options)
    names = [*estimator.parameter_names, *(n for n in estimator.state_names if hasattr(estimator, n))]
    arrays = {name: np.asarray(getattr(estimator, name)) for name in names}
    solver = {name: tensor.numpy() for name, tensor in estimator._solver_state.items()}
    return {**arrays, **solver, "history": estimator.history_, "generator": estimator._sampler_state}


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other[name], err_msg=name)
        else:
            assert value == other[name], name


OPTIONS = [
    {},
    {"persistent": False, "gibbs_steps": 2, "positive_hidden": "sample"},
    {"n_chains": 7, "momentum": 0.5, "weight_decay": penalties.L1(0.01, proximal=True)},
    {"centring": 0.01, "penalty": penalties.KLDivergence(0.1, averaging=0.9), "weight_decay": penalties.L2(0.01)},
    {"penalty": penalties.TargetMeanOfBiases(0.1), "negative_hidden": "mean", "precision": "bfloat16"},
    {"averaging": 0.5, "batch_size": 107},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cls", [rf.BernoulliRBM, rf.GaussianRBM])
def test_played_updates_give_the_bits_of_updates_step_by_step(cls, options, graphs, monkeypatch):
    options = {"n_components": 5, "batch_size": 10, "n_iter": 4, "learning_rate": 0.05, **options}
    played = fitted(cls(**options))
    # Of ten whole batches in each of four epochs every third is watched; the first of either kind is no graph yet.
    expected = [4 * 7 - 1, 4 * 3 - 1] if options["batch_size"] == 10 else [4 - 1]
    assert [graph.played for graph in graphs] == expected
    monkeypatch.setenv("RAREFIRE_GRAPH", "0")
    same(played, fitted(cls(**options)))
    assert len(graphs) == len(expected)


def test_a_graph_is_recorded_anew_when_the_settings_change(graphs, monkeypatch):
    options = {"n_components": 5, "batch_size": 10, "n_iter": 4}
    schedules = {"learning_rate": Linear(0.1, 0.0, when=0.5), "momentum": Switch(0.0, 0.5, when=0.5)}
    played = fitted(rf.BernoulliRBM(**options, **schedules))
    assert [graph.played for graph in graphs] == [2 * 7 - 1, 2 * 3 - 1, 7 - 1, 3 - 1, 7 - 1, 3 - 1]
    monkeypatch.setenv("RAREFIRE_GRAPH", "0")
    same(played, fitted(rf.BernoulliRBM(**options, **schedules)))


@pytest.mark.parametrize("after", [1, 2, 15, 25])
def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(after, graphs, tmp_path):
    def machine() -> rf.BernoulliRBM:
        return rf.BernoulliRBM(
            5, batch_size=10, n_iter=4, momentum=0.5, penalty=penalties.KLDivergence(0.1, averaging=0.9)
        )

    asked = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) == after

    directory = RunDirectory(tmp_path / "run")
    directory.create({})
    with pytest.raises(Interrupted):
        fitted(machine(), directory=directory, should_stop=stop)
    state = TrainState.read(directory.checkpoint, torch.device("cpu"))
    assert 11 * state.epoch + state.batch == after
    same(fitted(machine()), fitted(machine(), directory=directory))


def test_recording_leaves_the_state_and_the_stream_as_they_were(graphs):
    """The recorder of these tests undoes what recording does; that it does must not be what the tests above rest on."""
    machine = rf.BernoulliRBM(5, batch_size=10, n_iter=1)
    trained = machine._trainer(SOURCE, None, 0, torch.device("cpu"), 1, [])
    generator = OneStream(0)
    state = machine._start(SOURCE, 0, torch.float32, torch.device("cpu"), trained.solver, carry=False)
    rows = on_device(SOURCE, torch.device("cpu"))
    played = trained._updates(state, rows, 10, generator)
    before = {name: tensor.clone() for name, tensor in state.parameters.items()}
    drawn = generator.state()
    played.record(0.0, watched=False)
    for name, tensor in before.items():
        assert torch.equal(state.parameters[name], tensor)
    assert generator.state() == drawn
    assert len(graphs[0].operations) > 10


def test_a_part_that_cannot_be_recorded_is_refused_with_what_to_do(graphs, monkeypatch):
    evaluate = penalties.L1Activity.evaluate

    def peek(self: Any, p: Any) -> Any:
        value, pull = evaluate(self, p)
        return value, pull * float(p.codes.mean() > -1)

    monkeypatch.setattr(penalties.L1Activity, "evaluate", peek)
    machine = rf.BernoulliRBM(5, batch_size=10, n_iter=2, penalty=penalties.L1Activity(0.1))
    with pytest.raises(RunError, match=r"cannot be recorded as a graph \(operation not permitted when stream is capt"):
        fitted(machine)
    monkeypatch.setenv("RAREFIRE_GRAPH", "0")
    fitted(machine)


def test_adam_and_autoencoders_go_step_by_step(graphs):
    estimator = rf.SparseAutoencoder(5, batch_size=10, solver="adam", max_iter=2)
    estimator.fit_source(SOURCE, SPLIT, seed=3)
    assert not graphs
    assert estimator.n_iter_ == 2


def test_rows_that_stay_on_the_device_give_the_same_bits(monkeypatch):
    estimators = [
        rf.BernoulliRBM(5, batch_size=10, n_iter=3),
        rf.SparseAutoencoder(5, batch_size=10, solver="adam", max_iter=3, reconstruction_sampling=0.5),
        rf.SparseAutoencoder(5, solver="lbfgs", max_iter=5),
    ]
    monkeypatch.setenv("RAREFIRE_GRAPH", "0")
    plain = [fitted(estimator) for estimator in estimators]
    monkeypatch.setattr(trainer, "resident", on_device)
    for before, estimator in zip(plain, estimators, strict=True):
        same(before, fitted(estimator))


def test_rows_are_kept_on_a_device_that_has_room_for_them_and_where_they_stay_what_they_are(monkeypatch):
    free = ROWS.nbytes * 2
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    monkeypatch.setattr(batches, "on_device", lambda source, device: Resident(torch.zeros(0), source))
    gpu = torch.device("cuda")
    assert isinstance(resident(SOURCE, gpu), Resident)
    assert resident(SOURCE, torch.device("cpu")) is SOURCE
    free -= 1
    assert resident(SOURCE, gpu) is SOURCE
    free *= 100
    few = ArraySource(sp.csr_array(np.eye(30, dtype=np.float32)), Description("few"))
    assert resident(few, gpu) is few
    machine = rf.BernoulliRBM(5, batch_size=10, n_iter=1, random_state=0).fit(ROWS).fitted_model()
    for hand_over, stays in (("mean", True), ("sample", False)):
        layer = LayerSource(SOURCE, [machine], hand_over, 0)
        assert isinstance(resident(layer, gpu), Resident) is stays


def test_rows_come_in_the_order_of_their_source(monkeypatch):
    blocks = ArraySource(ROWS, Description("rows"))
    monkeypatch.setattr(ArraySource, "block_rows", 4)
    kept = on_device(blocks, torch.device("cpu"))
    assert torch.equal(kept.tensor, torch.from_numpy(ROWS))
    asked = blocks.order(Generator(1, "order"))
    np.testing.assert_array_equal(kept.order(Generator(1, "order")), asked[: len(ROWS)])
    np.testing.assert_array_equal(kept.rows(kept.order(Generator(1, "order"))[3:7]), blocks.rows(asked[3:7]))
    np.testing.assert_array_equal(kept.rows(slice(2, 5)), ROWS[2:5])
