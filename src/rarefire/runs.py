"""A run from its specification to its page: what the command line begins, resumes and shows."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from sklearn import config_context
from sklearn.base import BaseEstimator

from rarefire import plots
from rarefire.artifact import RunDirectory, writing
from rarefire.checkpoint import TrainState
from rarefire.component import to_spec
from rarefire.contexts import check_contexts, contexts_of
from rarefire.data.open import open_source
from rarefire.data.saving import save_csr, save_npy
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError, Interrupted, RunError
from rarefire.estimators.base import SparseLearner
from rarefire.estimators.beginning import check_processes, check_rows
from rarefire.estimators.deep import DeepBeliefNetwork
from rarefire.estimators.load import built, load_parts, machines_of
from rarefire.estimators.splitting import Split
from rarefire.estimators.stochastic import StochasticLearner
from rarefire.events import Listener
from rarefire.features import FeatureTable, edge_shape, feature_table
from rarefire.metrics import gabor, metric
from rarefire.parallel import alone, is_first, ranks
from rarefire.preprocess import PreparedSource, Step, fit_steps, prepared
from rarefire.report import Page, build_page, number
from rarefire.report.trying import trying

#: Rows whose reconstructions are shown.
N_SHOWN = 8

#: The table of features is of float32.
LARGEST_VALUE = float(np.finfo(np.float32).max)

#: Values of prepared rows that are kept in memory while a model is trained on them; more are prepared batch by batch.
KEPT_VALUES = 2**26


@dataclass(frozen=True)
class Watch:
    """Who follows a run, and how it is asked to stop.

    Parameters
    ----------
    listeners : sequence of callables
        Receive the trainer's events.
    should_stop : callable
        Asked after every batch; True leaves a checkpoint and ends the run.
    checkpoint_every : float
        Seconds between two checkpoints, at the least.
    """

    listeners: Sequence[Listener] = ()
    should_stop: Callable[[], bool] = lambda: False
    checkpoint_every: float = 30.0

    def pause(self) -> None:
        """A place to stop after training: its end is in the checkpoint, and what follows is made again.

        Raises
        ------
        Interrupted
            If it was asked for.
        """
        if self.should_stop():
            raise Interrupted("stopped after training")


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file, and the sentence under it."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Trained:
    """A fitted estimator with the rows that it was fitted on and those that were held out; ``name`` is the arm's."""

    estimator: Any
    steps: list[Step]
    train: Source
    held_out: Source | None
    name: str = ""

    @classmethod
    def of(cls, estimator: Any, steps: list[Step], rows: Source, split: Split) -> Trained:
        """A fitted estimator with its parts of the prepared rows."""
        held_out = rows.subset(split.held_out) if len(split.held_out) else None
        return cls(estimator, steps, rows.subset(split.train), held_out)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record an epoch."""
        return self.estimator.history_


def fit_spec(
    where: dict[str, Any], source: Source, steps: Sequence[Step], estimator: SparseLearner, seed: int
) -> dict[str, Any]:
    """All that it takes to make a run again: data, preparation, estimator, seed, versions."""
    return {
        **estimator.spec(seed),
        "kind": "fit",
        "source": where,
        "data": source.spec(),
        "prepare": [to_spec(step) for step in steps],
    }


def check_run(source: Source, steps: list[Step], estimator: SparseLearner, seed: int) -> None:
    """See that a run can begin, before anything is written.

    Raises
    ------
    InputError
        If an argument cannot be used, or values do not suit the estimator.
    """
    estimator.check_arguments()
    rows = _prepare(source, steps, estimator.split(source.shape[0], seed))
    if (sentence := estimator.check_values(rows)) is not None:
        raise InputError(f"{source.description.name}: {sentence}")
    check_rows(estimator, rows)
    check_processes(estimator)
    if rows.dtype == np.float64 and (largest := max(map(abs, rows.extremes))) > LARGEST_VALUE:
        raise InputError(
            f"{source.description.name}: values up to {largest:g} are beyond {LARGEST_VALUE:.3g}, the largest that the "
            "features of a run can hold; rescale them"
        )


def _prepare(source: Source, steps: list[Step], split: Split) -> Source:
    # Steps learn from the training rows alone; what is held out must not shape what it is judged by.
    fit_steps(steps, source.subset(split.train))
    return prepared(source, steps)


def _kept(rows: Source) -> Source:
    """Prepared rows as an array, where they are not too many: every epoch would prepare them again."""
    if not isinstance(rows, PreparedSource) or rows.shape[0] * rows.shape[1] > KEPT_VALUES:
        return rows
    return ArraySource(np.concatenate(list(rows.batches())), rows.description)


def train(
    directory: RunDirectory,
    source: Source,
    estimator: Any,
    steps: list[Step],
    seed: int,
    watch: Watch,
) -> Trained:
    """Prepare the rows, fit the estimator, and leave a checkpoint of the end; goes on from a checkpoint there."""
    split = estimator.split(source.shape[0], seed)
    rows = _prepare(source, steps, split)
    check_begun(estimator, directory, rows.shape[1])
    with memory_said(directory):
        estimator.fit_source(
            _kept(rows),
            split,
            seed=seed,
            directory=directory,
            listeners=watch.listeners,
            should_stop=watch.should_stop,
            checkpoint_every=watch.checkpoint_every,
        )
    return Trained.of(estimator, steps, rows, split)


def check_begun(estimator: Any, directory: RunDirectory, n_features: int) -> None:
    """See that what a run left behind is what its specification asks for, before room is made for that.

    Raises
    ------
    InputError
        If a layer that is trained already is another's.
    RunError
        If a checkpoint is damaged, or too small for the weights.
    """
    if isinstance(estimator, DeepBeliefNetwork):
        machines_of(estimator, directory, n_features)
        widths = [n_features, *(machine.n_components for _, machine in estimator.named)]
        for (name, machine), width in zip(estimator.named, widths, strict=False):
            check_begun(machine, directory.layer(name), width)
    n_values = sum(map(math.prod, estimator.parameter_shapes(n_features).values()))
    if directory.checkpoint.is_file() and directory.checkpoint.stat().st_size < n_values:
        TrainState.read(directory.checkpoint, torch.device("cpu"))  # which has more to say of a file that is damaged
        raise RunError(
            f"the checkpoint {directory.checkpoint} does not belong to the run's spec.json, which asks for more "
            "parameters; start the run again with --overwrite"
        )


@contextlib.contextmanager
def memory_said(directory: RunDirectory) -> Iterator[None]:
    """One sentence where a run asks for more memory than there is.

    Raises
    ------
    RunError
        In place of what NumPy and torch say.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # To torch it is an error as any other.
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        raise RunError(
            f"the run {directory} asks for more memory than there is; use fewer units, chains or rows a batch"
        ) from None


def go_on(directory: RunDirectory, spec: dict[str, Any], watch: Watch, source: Source | None = None) -> None:
    """Bring a run that was begun on a source to its end from wherever it stands, by its specification.

    Parameters
    ----------
    source : Source, optional
        The rows, where they are open already and known to be those of the specification.
    """
    if source is None:
        try:
            source = ranks().first_alone(lambda: open_source(**spec["source"]))
        except TypeError as error:
            raise InputError(f"the source in {directory}/spec.json cannot be opened ({error}); begin anew") from None
        if source.fingerprint != spec["data"]["fingerprint"]:
            raise InputError(
                f"{spec['data']['name']} has changed since the run {directory} began (its fingerprint differs); "
                "begin a new run"
            )
    estimator = built(spec["estimator"], SparseLearner, directory)
    steps = [built(step, Step, directory) for step in spec["prepare"]]
    trained = train(directory, source, estimator, steps, spec["seed"], watch)
    if is_first():
        with alone():
            finish(directory, trained, trained.estimator.measure(trained.train, trained.held_out), watch=watch)


def finish(
    directory: RunDirectory,
    trained: Trained,
    metrics: list[dict[str, Any]],
    figures: Sequence[Picture] = (),
    watch: Watch = Watch(),
) -> None:
    """Write all that a finished run holds; its weights come last, and with them it is complete.

    Parameters
    ----------
    metrics : list of dict
        The entries of ``metrics.json``; images get their edge-likeness added.
    figures : sequence of Picture
        Those of a recipe, shown on the page; the standard figures are added as files.
    """
    watch.pause()
    estimator = trained.estimator
    table = feature_table(
        estimator.components_,
        estimator.optimal_inputs(),
        estimator.codes_and_active,
        trained.train,
        shown=reconstructed(trained),
    )
    directory.write("features.safetensors", table.to_bytes())
    directory.write_contexts(contexts_of(trained.train, table.example_sources))
    watch.pause()
    directory.write_metrics([*metrics, *edge_metrics(table)])
    watch.pause()
    for picture in [*standard_figures(table, trained), *figures]:
        for kind in ("png", "svg"):
            directory.write(f"figures/{picture.name}.{kind}", plots.write(picture.figure, kind))
    directory.write_json("figures/captions.json", {picture.name: picture.caption for picture in figures})
    write_page(directory, estimator, trained.steps)
    directory.finish(estimator.weights_bytes(trained.steps))


def reconstructed(trained: Trained) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Some rows, evenly spaced among those held out or else among all, and what comes back of them."""
    rows = trained.train if trained.held_out is None else trained.held_out
    some = np.unique(np.linspace(0, rows.shape[0] - 1, N_SHOWN).round().astype(np.int64))
    shown = rows.rows(some)
    estimator = trained.estimator
    return shown, estimator.inverse_transform(estimator.transform(shown))


def standard_figures(table: FeatureTable, trained: Trained) -> list[Picture]:
    """Features, cost curves and activity, as every run has them; optimal inputs where they differ from features."""
    pictures = [Picture("activity", "Activity of each unit", plots.activity(table))]
    if trained.history:
        curves = plots.cost_curves(trained.history, trained.estimator.cost_unit)
        pictures.append(Picture("cost", "Cost by epoch", curves))
    pictures.append(Picture("spread", "How often units are active, how many at once, norms", plots.spread(table)))
    pictures.append(Picture("features", "All features", plots.features(table)))
    if (reconstructions := plots.reconstructions(table)) is not None:
        pictures.append(Picture("reconstructions", "Rows, what comes back, and the difference", reconstructions))
    if (optimal := plots.optimal_inputs(table)) is not None:
        pictures.append(Picture("optimal_inputs", "The input that excites each unit most", optimal))
    return pictures


def edge_metrics(table: FeatureTable) -> list[dict[str, Any]]:
    """Share of edge-like features of grey images, and the same for two kinds of pictures that are no edges."""
    if (shape := edge_shape(table.description)) is None:
        return []
    explanation = "share of features that a Gabor pair explains, that oscillate, and that have an orientation"
    entries = [metric("edge_share", float(table.edge_like.mean()), "", explanation)]
    for control, value in gabor.control_shares(shape).items():
        text = f"the same share among {control.replace('_', ' ')} of that size, which are no edges"
        entries.append(metric(f"edge_share_{control}", value, "", text))
    return entries


def write_page(directory: RunDirectory, estimator: SparseLearner | None = None, steps: Sequence[Step] = ()) -> None:
    """Build ``report.html`` from what is on disk, fitted estimator and steps included where they are not given."""
    spec = directory.spec()
    if "data" not in spec:
        raise InputError(f"{directory}/spec.json says nothing of the data, so there is nothing to show; fit again")
    data, told = spec["data"], spec["estimator"]
    learner = built(told, SparseLearner, directory)
    name = type(learner).__name__
    arguments = {key: value for key, value in told["arguments"].items() if key not in ("random_state", "verbose")}
    default = {key: to_spec(p.default) for key, p in inspect.signature(type(learner)).parameters.items()}
    changed = {key: _brief(value, directory) for key, value in arguments.items() if value != default.get(key)}
    rows, values = ("documents", "words") if data["kind"] == "words" else ("rows", "values")
    facts = [
        ("Estimator", f"{name}({', '.join(f'{key}={value}' for key, value in changed.items())})"),
        (
            "Data",
            f"{data['name']}: {data['n_rows']} {rows} of {data['n_features']} {values}; {data['notes']}".rstrip("; "),
        ),
        ("Parts", ", ".join(f"{key} {part}" for key, part in parts_of(learner).items())),
        ("Preparation", ", then ".join(_brief(step, directory) for step in spec.get("prepare", [])) or "none"),
        ("Seed", str(spec["seed"])),
        ("Versions", ", ".join(f"{key} {value}" for key, value in spec["versions"].items())),
        ("Data fingerprint", data["fingerprint"]),
    ]
    captions, pictures = directory.captions(), dict(directory.figures())
    table, history, metrics = table_of(directory, n_features_of(learner)), directory.history(), directory.metrics()
    if estimator is None and directory.weights.is_file():
        estimator, steps = load_parts(directory)
    raw = Description.from_json({key: data[key] for key in ("name", "kind", "shape", "feature_names", "notes")})
    page = Page(
        title=title_of(spec),
        subtitle=f"{name} trained on {data['name']}",
        facts=facts,
        history=history,
        cost_label=learner.cost_unit,
        layers=_layers(directory, learner),
        metrics=metrics,
        table=table,
        active=active_means(learner),
        figures=[
            (caption, _picture(directory, name, pictures[name]))
            for name, caption in captions.items()
            if name in pictures
        ],
        key_figures=key_figures(data["n_rows"], table, history, learner.cost_unit, metrics, active_means(learner)),
        run=identity(spec),
        notes=directory.notes(identity(spec), len(table.components)),
        trying=None if estimator is None else trying(estimator.fitted_model(), steps, raw, table),
        contexts=_contexts(directory, table),
    )
    directory.write("report.html", build_page(page).encode())


def _layers(directory: RunDirectory, learner: SparseLearner) -> list[tuple[str, list[dict[str, Any]], str]]:
    """Names, histories and units of cost of a deep network's machines, each of which was trained by itself."""
    if not isinstance(learner, DeepBeliefNetwork):
        return []
    machines = ((name, directory.layer(name), machine) for name, machine in learner.named)
    return [(name, run.history(), machine.cost_unit) for name, run, machine in machines if run.exists]


def active_means(learner: SparseLearner) -> str:
    """When a unit counts as active, in a sentence."""
    if isinstance(learner, StochasticLearner):
        return (
            "A unit counts as active where its probability exceeds ½; the curve of training, and active_mean, count "
            "units as they are sampled."
        )
    if learner.parts()["activation_"].range is not None:
        return "A unit counts as active where its code is in the upper half of its range."
    return "A unit counts as active where its code is not zero, or above it for units that leak."


def parts_of(learner: SparseLearner) -> dict[str, str]:
    """The components in use, what None stands for among them, each with all its arguments."""
    with config_context(print_changed_only=False):
        return {name.rstrip("_"): " ".join(repr(part).split()) for name, part in learner.parts().items()}


def title_of(spec: dict[str, Any]) -> str:
    """What a run is called: by its recipe, or by its data and its estimator."""
    estimator = str(spec["estimator"].get("class")).rpartition(".")[2]
    if "recipe" in spec:
        return str(spec["recipe"]["title"])
    return f"{spec['data']['name']}: {estimator}" if "data" in spec else estimator


def n_features_of(learner: SparseLearner) -> int:
    """How many features an estimator learns; of a deep network those of its last machine."""
    return (learner.named[-1][1] if isinstance(learner, DeepBeliefNetwork) else learner).n_components


def identity(spec: dict[str, Any]) -> str:
    """What tells a run from others: a digest of what fixes its features."""
    fixed = [spec["estimator"], spec.get("prepare"), spec["data"]["fingerprint"], spec["seed"]]
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]


def key_figures(
    n_rows: int,
    table: FeatureTable,
    history: Sequence[dict[str, Any]],
    cost_unit: str,
    metrics: Sequence[dict[str, Any]],
    active: str,
) -> list[tuple[str, str, str]]:
    """What a run comes to at a glance: names, values, and a line on each."""
    n_units, rows = len(table.norm), "documents" if table.description.kind == "words" else "rows"
    figures = [
        (rows, number(n_rows), f"All {rows} of the source, those that were held out included."),
        ("units", number(n_units), "Hidden units, each of them a feature."),
        (
            "active at once",
            f"{number(float(table.share_active.sum()))} of {number(n_units)}",
            f"Mean number of units active on one of the training {rows}. {active}",
        ),
        ("dead units", number(int(table.dead.sum())), f"Active on none of the training {rows}. {active}"),
        ("always on", number(int(table.always_on.sum())), f"Active on every one of the training {rows}."),
    ]
    for key, name, text in (
        ("cost", "training cost", f"Of the last epoch, in {cost_unit}, as its batches passed."),
        ("validation_cost", "held-out cost", f"At the end, in {cost_unit}, of rows that were not trained on."),
        ("zeros", "zeros", "Share of codes that are exactly zero."),
    ):
        last = next((record[key] for record in reversed(history) if record.get(key) is not None), None)
        if last is not None and (key != "zeros" or last > 0):
            figures.append((name, f"{number(100 * last)} %" if key == "zeros" else number(last), text))
    judged = [entry["within"] for entry in metrics if entry.get("within") is not None]
    if judged:
        text = "Published or expected figures that this run reaches, of all that it is compared with; see below."
        figures.append(("as published", f"{sum(judged)} of {len(judged)}", text))
    return figures


def table_of(directory: RunDirectory, n_units: int | None = None) -> FeatureTable:
    """The table of a run, seen to agree with itself, and to have as many units as are given.

    Raises
    ------
    InputError
        If it does not.
    """
    try:
        table = FeatureTable.read(directory.table)
        table.check()
        if n_units not in (None, len(table.components)):
            raise ValueError(f"it is of {len(table.components)} units")
        return table
    except (AttributeError, LookupError, ValueError, TypeError) as error:
        raise InputError(
            f"{directory.table} is damaged, or of an earlier version ({error}); the run must be made again"
        ) from None


def _contexts(directory: RunDirectory, table: FeatureTable) -> dict[str, Any] | None:
    """Where the table's examples come from, seen to be on these; None where that is not known."""
    if (contexts := directory.contexts()) is None:
        return None
    try:
        check_contexts(contexts, table.example_rows.shape[0])
    except ValueError as error:
        raise InputError(f"{directory}/contexts.json is damaged ({error}); the run must be made again") from None
    return contexts if contexts["rows"] else None


def _picture(directory: RunDirectory, name: str, content: bytes) -> bytes:
    """A figure, seen to be a PNG file that is whole."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        file = directory.path / "figures" / f"{name}.png"
        raise InputError(f"{file} is damaged ({error}); the run must be made again") from None
    return content


def _brief(value: Any, directory: RunDirectory) -> str:
    """A specification as the constructor call that it stands for."""
    if isinstance(value, dict) and "class" in value:
        return " ".join(repr(built(value, BaseEstimator, directory)).split())
    if isinstance(value, list):
        return f"[{', '.join(_brief(entry, directory) for entry in value)}]"
    return repr(value)


def _few(values: Sequence[Any]) -> str:
    """The first of a list, in words."""
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")


def encode_to(directory: RunDirectory, source: Source, output: Path) -> tuple[int, int]:
    """Write the codes of a source to a file, a batch at a time.

    Parameters
    ----------
    directory : RunDirectory
        A finished run.
    source : Source
        Rows as the run's own were before preparation.
    output : Path
        ``.npy``, or ``.npz`` for a SciPy CSR matrix of the codes that are not zero. Either is written in constant
        memory; ``.npz`` takes room on the disk for the matrix unpacked, beside the file, while it is written.

    Returns
    -------
    shape : (n_rows, n_components)

    Raises
    ------
    InputError
        If the file's name has another ending, or the rows do not fit the run.
    """
    if output.suffix not in (".npy", ".npz"):
        raise InputError(f"{output} ends neither in .npy nor in .npz; choose one of the two")
    estimator, steps = load_parts(directory)
    trained_on, given = directory.spec().get("data", {}), source.description.to_json()
    if given["kind"] == "words" and trained_on.get("kind") != "words" and not trained_on.get("feature_names"):
        raise InputError(
            f"{source.description.name} is a text, but the columns that the run {directory} was trained on are no "
            "words; give rows of the same columns"
        )
    n_columns = steps[0].n_features_in_ if steps else estimator.n_features_in_
    if source.shape[1] != n_columns:
        raise InputError(
            f"{source.description.name} has {source.shape[1]} columns, but the run {directory} was trained on "
            f"{n_columns}; give rows of the same columns"
        )
    for key in ("shape", "feature_names"):
        wanted, there = trained_on.get(key), given[key]
        if wanted is not None and there is not None and list(wanted) != list(there):
            raise InputError(
                f"{source.description.name} has the {key.replace('_', ' ')} {_few(there)}, but the run {directory} was "
                f"trained on {_few(wanted)}; give the same columns in the same order"
            )
    rows = prepared(source, steps)
    if (sentence := estimator.check_values(rows)) is not None:
        raise InputError(f"{source.description.name}: {sentence}")
    shape = (source.shape[0], len(estimator.components_))
    if not output.parent.is_dir():
        raise InputError(f"the folder {output.parent} of {output} is not there; make it first")
    if output.is_dir():
        raise InputError(f"{output} is a folder; give the name of a file")
    with writing(output) as beside, open(beside, "wb") as file:
        codes, dtype = estimator.encoded(rows), rows.dtype.newbyteorder("=")
        if output.suffix == ".npy":
            save_npy(file, codes, shape, dtype)
        else:
            save_csr(file, codes, shape, dtype, output.parent)
    return shape
