"""The commands."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import rarefire
from rarefire.errors import printable
from rarefire.parallel import is_first

#: What several processes do together; rank 0 does the rest alone.
_TOGETHER = ("fit", "run", "resume")

app = typer.Typer(
    name="rarefire",
    help="Learns features that rarely fire, and shows what each one stands for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Family(StrEnum):
    """What ``rarefire list`` can list."""

    recipes = "recipes"
    datasets = "datasets"
    estimators = "estimators"
    activations = "activations"
    losses = "losses"
    penalties = "penalties"
    schedules = "schedules"
    steps = "steps"


class Log(StrEnum):
    """Who else may follow a training."""

    tensorboard = "tensorboard"


SourceArgument = Annotated[str, typer.Argument(help="A dataset's name (rarefire list datasets) or a path.")]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(help="A column of a .csv, several with commas between, or the one of texts; the array of a .npz."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value: an argument, a component by name, or its argument key__argument."),
]
SeedOption = Annotated[int, typer.Option(help="Fixes every random number of the run.", min=0)]
OutOption = Annotated[Path | None, typer.Option(help="Run directory; by default a new one below runs/.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the run that the directory holds.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
LogOption = Annotated[
    Log | None, typer.Option("--log", help="Write the curves for it too, below DIR/tensorboard.", show_default=False)
]
CheckpointOption = Annotated[
    float, typer.Option("--checkpoint-every", help="Seconds between checkpoints.", min=0, show_default=True)
]
RunArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")]
TrustOption = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="MODULE", help="A module of yours that the run names; it is imported, and so run."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rarefire {rarefire.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand not in _TOGETHER and not is_first():
        raise typer.Exit


@app.command()
def fit(
    source: SourceArgument,
    estimator: Annotated[str, typer.Option(help="rarefire list estimators names them.")] = "SparseAutoencoder",
    column: ColumnOption = None,
    patch: Annotated[int | None, typer.Option(help="Side of square patches to cut from images.", min=1)] = None,
    prepare: Annotated[
        list[str] | None, typer.Option(help="A step before fitting, e.g. Standardise or ClipRescale:low=0.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of rows held out.", min=0, max=1)] = 0.1,
    set_: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    log: LogOption = None,
    checkpoint_every: CheckpointOption = 30.0,
    trust: TrustOption = None,
) -> None:
    """Train on a source and write a run directory with one HTML page that shows every feature."""
    from rarefire import runs
    from rarefire.component import find, import_trusted
    from rarefire.data.open import open_source
    from rarefire.estimators.base import SparseLearner
    from rarefire.parallel import ranks
    from rarefire.preprocess import Step
    from rarefire.settings import apply, parse_pairs, parse_step

    for module in trust or ():
        import_trusted(module)
    cls = find(SparseLearner, estimator)
    model = apply(cls(), parse_pairs(set_ or []))
    model.set_params(device=device, validation_fraction=validation)
    steps = [parse_step(text, Step) for text in prepare or []]
    where: dict[str, Any] = {"where": _absolute(source), "patch": patch, "column": _joined(column), "seed": seed}
    rows = ranks().first_alone(lambda: open_source(**where))
    runs.check_run(rows, steps, model, seed)
    directory = _directory(out, f"{Path(where['where']).stem}-{cls.__name__}", overwrite, trust or ())
    with _watched(directory, quiet, as_json, log, checkpoint_every) as watch:
        spec = runs.fit_spec(where, rows, steps, model, seed)
        ranks().of_first(lambda: directory.create(spec, overwrite=overwrite))
        runs.go_on(directory, directory.spec(), watch, rows)
    _finished(directory, as_json)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="rarefire list recipes names them.")],
    preset: Annotated[str, typer.Option(help="faithful to the source, or best.")] = "faithful",
    source: Annotated[str | None, typer.Option(help="Other data than the recipe's own.")] = None,
    set_: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    log: LogOption = None,
    checkpoint_every: CheckpointOption = 30.0,
) -> None:
    """Repeat a published experiment, with the published figures beside those obtained."""
    from rarefire import recipes
    from rarefire.parallel import ranks
    from rarefire.settings import parse_pairs

    if source is not None:
        _check_one(source)
    pairs = parse_pairs(set_ or [])
    spec = ranks().first_alone(lambda: recipes.recipe_spec(recipe, preset, source, pairs, seed, device))
    if not quiet and not as_json:
        # Some recipes take other data where theirs are not at hand.
        typer.echo(f"data: {spec['data']['name']} ({spec['data']['notes']})", err=True)
    suffix = "" if preset == "faithful" else f"-{preset}"
    directory = _directory(out, f"{spec['recipe']['name']}{suffix}", overwrite)
    with _watched(directory, quiet, as_json, log, checkpoint_every) as watch:
        ranks().of_first(lambda: directory.create(spec, overwrite=overwrite))
        recipes.go_on(directory, spec, watch)
    _finished(directory, as_json)


@app.command()
def resume(
    directory: RunArgument,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    log: LogOption = None,
    checkpoint_every: CheckpointOption = 30.0,
    trust: TrustOption = None,
) -> None:
    """Go on where an interrupted run stopped."""
    from rarefire.artifact import RunDirectory
    from rarefire.resuming import go_on

    target = RunDirectory(directory, trust or ())
    target.spec()  # seen to be a run before anything is locked
    target.check_links()
    if not target.complete:
        with _watched(target, quiet, as_json, log, checkpoint_every) as watch:
            go_on(target, watch)
    _finished(target, as_json)


@app.command()
def encode(
    directory: RunArgument,
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.npy, or FILE.npz for a SciPy CSR matrix.")],
    column: ColumnOption = None,
    patch: Annotated[int | None, typer.Option(help="Side of square patches to cut from images.", min=1)] = None,
    seed: SeedOption = 0,
    trust: TrustOption = None,
) -> None:
    """Write the features of new data to a file."""
    from rarefire.artifact import RunDirectory
    from rarefire.data.open import open_source
    from rarefire.runs import encode_to

    _check_one(source)
    # What the run itself cut or picked is meant again, where the new source is of the same kind.
    run = RunDirectory(directory, trust or ())
    spec = run.spec()
    began, data = spec.get("source", {}), spec.get("data", {})
    if Path(source).is_dir() and patch is None:
        patch = began.get("patch")
    chosen = _joined(column)
    if _suffix(source) == _suffix(str(began.get("where"))) and chosen is None:
        chosen = began.get("column")
    vocabulary = data.get("feature_names") if data.get("kind") == "words" else None
    rows = open_source(source, patch=patch, column=chosen, seed=seed, vocabulary=vocabulary)
    shape = encode_to(run, rows, output)
    typer.echo(f"{output}: {shape[0]} rows of {shape[1]} features")


@app.command()
def show(directory: RunArgument) -> None:
    """Print the essentials of a run: what it is, how training went, its figures, and what its features look like."""
    from rich.console import Console

    from rarefire import terminal
    from rarefire.artifact import RunDirectory
    from rarefire.display import curve_lines, metrics_table
    from rarefire.runs import table_of

    target = RunDirectory(directory)
    spec, history, entries = target.spec(), target.history(), target.metrics()
    table = table_of(target) if target.table.is_file() else None
    console = Console()

    def say(line: str) -> None:
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    say(f"{directory}: {'complete' if target.complete else f'unfinished ({target.way_on} goes on with it)'}")
    if "recipe" in spec:
        say(f"recipe {spec['recipe'].get('name')}, preset {spec['recipe'].get('preset')}")
    say(f"{str(spec['estimator'].get('class')).rpartition('.')[2]}, seed {spec['seed']}")
    if "name" in spec.get("data", {}):
        data = spec["data"]
        say(f"data: {data['name']}, {data['n_rows']} rows of {data['n_features']}")
    for line in curve_lines(history):
        say(line)
    for name, layer in target.layers():
        for line in curve_lines(layer.history()):
            say(f"{name}: {line}")
    if entries:
        named = [{**e, **{key: printable(text) for key, text in e.items() if isinstance(text, str)}} for e in entries]
        console.print(metrics_table(named))
    if table is not None:
        for line in terminal.activity(table):
            say(line)
        for features in terminal.features(table, console.width, colour=console.color_system is not None):
            console.print(features, highlight=False, no_wrap=True, crop=False)
    if target.page.is_file():
        say(f"page: {target.page}")


@app.command()
def report(
    directory: RunArgument,
    other: Annotated[Path | None, typer.Argument(metavar="DIR2", help="A second run, to compare with it.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The page of two runs; by default compare-DIR-DIR2.html beside the first.",
            metavar="FILE",
        ),
    ] = None,
    trust: TrustOption = None,
) -> None:
    """Build the HTML page of a run again from what is on disk, or one page that shows two runs side by side."""
    from rarefire.artifact import RunDirectory
    from rarefire.errors import InputError
    from rarefire.runs import write_page

    target = RunDirectory(directory, trust or ())
    target.spec()
    if other is not None:
        from rarefire.comparison import default_output, write_comparison

        second = RunDirectory(other, trust or ())
        second.spec()
        page = output or default_output(target, second)
        write_comparison(target, second, page)
        typer.echo(page)
        return
    if output is not None:
        raise InputError(f"--output {output} is for the page of two runs; give a second run, or leave it out")
    target.check_links()
    if not target.table.is_file():
        raise InputError(f"{directory} holds no finished run of the command line, so there is nothing to show")
    write_page(target)
    typer.echo(target.page)


@app.command(name="list")
def list_(family: Annotated[Family | None, typer.Argument(help="Leave it out for all.")] = None) -> None:
    """Name what there is to choose from."""
    from rich.console import Console

    from rarefire.activations import Activation
    from rarefire.component import label, members
    from rarefire.data.datasets import Dataset
    from rarefire.estimators import autoencoder, boltzmann  # noqa: F401 (define members of the family)
    from rarefire.estimators.base import SparseLearner
    from rarefire.losses import ReconstructionLoss
    from rarefire.penalties import Penalty
    from rarefire.preprocess import Step
    from rarefire.recipes import Recipe, load_all
    from rarefire.schedules import Schedule

    load_all()
    bases = {
        Family.recipes: Recipe,
        Family.datasets: Dataset,
        Family.estimators: SparseLearner,
        Family.activations: Activation,
        Family.losses: ReconstructionLoss,
        Family.penalties: Penalty,
        Family.schedules: Schedule,
        Family.steps: Step,
    }
    console = Console()
    for chosen in [family] if family else list(Family):
        if family is None:
            console.print(f"\n{chosen.value}", highlight=False)
        listed = {label(cls): (cls.__doc__ or "").strip().split("\n")[0] for cls in members(bases[chosen])}
        for name, line in listed.items():
            console.print(f"  {name:<16} {line}", highlight=False, soft_wrap=True, markup=False)


def _absolute(source: str) -> str:
    """A path that stays right when the run is resumed from elsewhere; a dataset's name as it is."""
    _check_one(source)
    return os.path.realpath(source) if os.path.exists(source) else source


def _check_one(source: str) -> None:
    """See that a source is not both a dataset's name and that of a file or folder here."""
    from rarefire.component import label, members
    from rarefire.data.datasets import Dataset
    from rarefire.errors import InputError

    if os.path.exists(source) and source.lower() in map(label, members(Dataset)):
        raise InputError(
            f"'{source}' is a dataset, and a file or folder here; write ./{source} for what is here, or begin in "
            "another folder for the dataset"
        )


def _joined(columns: Sequence[str] | None) -> str | None:
    """Columns that were named one by one, as they are written together."""
    return ",".join(columns) if columns else None


def _suffix(source: str) -> str:
    return Path(source.lower().removesuffix(".gz")).suffix


def _directory(out: Path | None, name: str, overwrite: bool, trusted: Sequence[str] = ()) -> Any:
    """The directory asked for, seen to be free, or a new one below ``runs/``."""
    from rarefire.artifact import RunDirectory
    from rarefire.parallel import ranks

    return RunDirectory(ranks().of_first(lambda: _free(out, name, overwrite)), trusted)


def _free(out: Path | None, name: str, overwrite: bool) -> Path:
    from rarefire.artifact import RunDirectory

    if out is None:
        base = Path("runs") / re.sub(r"[^A-Za-z0-9._-]+", "-", name)
        out, number = base, 2
        while out.exists() and not overwrite:
            out, number = base.with_name(f"{base.name}-{number}"), number + 1
    RunDirectory(out).check_free(overwrite=overwrite)
    return out


@contextlib.contextmanager
def _watched(directory: Any, quiet: bool, as_json: bool, log: Log | None, checkpoint_every: float) -> Iterator[Any]:
    """Lock the directory, show progress, and turn Ctrl-C into a checkpoint; a second one ends at once."""
    from rarefire.display import JsonLines, LiveProgress
    from rarefire.errors import Interrupted, ProcessLost
    from rarefire.interrupts import interruptible
    from rarefire.parallel import ranks
    from rarefire.runs import Watch
    from rarefire.tensorboard import TensorBoard

    trust = [word for module in directory.trusted for word in ("--trust", module)]
    logged = ["--log", log.value] if log else []
    listeners: list[Any] = []
    if is_first():
        listeners += [JsonLines()] if as_json else [] if quiet else [LiveProgress()]
        listeners += [TensorBoard(directory.boards)] if log else []
    with ranks().first_holds(directory.locked()), interruptible() as stopped:
        watch = Watch(listeners, stopped, checkpoint_every)
        go_on = f"go on with: {shlex.join(['rarefire', 'resume', str(directory), *trust, *logged])}"
        try:
            yield watch
        except Interrupted as error:
            raise Interrupted(f"{error}; {go_on}") from None
        except ProcessLost as error:
            raise ProcessLost(f"{error}; {go_on}" if directory.exists else str(error)) from None
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; {go_on}" if directory.exists else "stopped") from None
        finally:
            for listener in listeners:
                listener.close()


def _finished(directory: Any, as_json: bool) -> None:
    """Results on standard output: the metrics, and last the path of the page."""
    if not is_first():
        return
    from rich.console import Console

    from rarefire.display import metrics_table

    if as_json:
        result = {
            "event": "RunFinished",
            "directory": str(directory),
            "metrics": directory.metrics(),
            "page": str(directory.page) if directory.page.is_file() else None,
        }
        sys.stdout.write(json.dumps(result) + "\n")
        return
    if directory.metrics():
        Console().print(metrics_table(directory.metrics()))
    typer.echo(directory.page if directory.page.is_file() else directory)
