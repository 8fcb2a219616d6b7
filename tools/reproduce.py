"""Run every recipe and write ``docs/results.md`` with the figures of the runs.

``python tools/reproduce.py`` runs what is not there yet below ``runs/reproduce`` and goes on with what was
interrupted; remove that directory to begin anew. ``python tools/reproduce.py patches words`` does so for some sections
alone, and leaves the others as they stand in the file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sections import read_sections, stamp, table, write_sections

from rarefire.artifact import RunDirectory
from rarefire.display import beside, number
from rarefire.estimators.load import load_parts
from rarefire.recipes import decay, edges, layers, sparsity
from rarefire.recipes.words import Words, told
from rarefire.runs import Trained

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "reproduce"
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Experiment:
    """A recipe with its options, what to say of it, the pictures to show, and a table of several ways to do it.

    In that table the cell of column ``c`` and of a row (words, ending) is the entry that is called ``c`` + ending.
    """

    name: str
    arguments: tuple[str, ...]
    text: str
    pictures: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def directory(self) -> RunDirectory:
        """Where its run is."""
        return RunDirectory(RUNS / self.name)

    @property
    def at_hand(self) -> bool:
        """Whether the folder is there that it takes its data from."""
        return all(Path(os.path.expandvars(part)).exists() for part in self.arguments if part.startswith("$"))

    def run(self) -> None:
        """Run it, or go on with it; nothing is done twice."""
        command = [sys.executable, "-m", "rarefire"]
        if self.directory.complete:
            return
        if self.directory.exists:
            subprocess.run([*command, "resume", str(self.directory)], check=True)
        else:
            arguments = [os.path.expandvars(part) for part in self.arguments]
            subprocess.run([*command, "run", *arguments, "--out", str(self.directory)], check=True)


DECAY_COLUMNS = (
    "share of weights below a tenth of their root mean square; excess kurtosis, spatial spread in pixels and "
    "correlation of neighbours, of each filter, in the mean; share of filters with less than a tenth of the largest "
    "norm; mean activity; R² and roughness of the reconstructions."
)

EXPERIMENTS = (
    Experiment(
        "patches",
        ("patches",),
        "Sources 001 and 003: 10,000 whitened 8×8 patches of photographs, 25 units, target 0.01, weight decay "
        "1e-4, sparsity weight 3, 400 iterations of L-BFGS. The source shows oriented edges. Figures are medians "
        "over three fits, each with patches and a seed of its own; those that end in `_plain` are without "
        "whitening. What they say of the source's question stands in [whitening.md](whitening.md).",
        ("optimal-whitened", "optimal-plain", "patches", "correlations"),
    ),
    Experiment(
        "patches-photos",
        ("patches", "--source", "$RAREFIRE_DATA/photos"),
        "The same from nine other photographs of landscapes, plants and animals.",
        ("optimal-whitened", "optimal-plain"),
    ),
    Experiment(
        "strokes",
        ("strokes",),
        "Source 001: the first 10,000 digits of MNIST, 784-196-784, target 0.1, weight decay 3e-3, sparsity "
        "weight 3, 400 iterations of L-BFGS. The source shows pen strokes.",
        ("strokes", "reconstructions"),
    ),
    Experiment(
        "kl",
        ("kl",),
        "Source 003: KL(ρ‖ρ̂) for ρ = 0.2 is zero at 0.2 and grows without bound towards both ends.",
        ("curve",),
    ),
    Experiment(
        "structure",
        ("structure",),
        "Source 003: natural patches of 10×10 pixels against independent Gaussian numbers of the same variances. "
        "Where there is structure, 50 units keep most of it; where there is none they keep about a half, the "
        "linear optimum. 200 sparse units find structure in patches, too, and none in noise.",
        ("explained", "sparse-patches", "sparse-noise"),
    ),
    Experiment(
        "words",
        ("words",),
        "Source 004: 5,000 film plots as binary bags of words, 64 units; medians over three fits of each kind, "
        "500 plots held out. Published: 10% zeros without the penalty on batch means, 56% with it. Aimed at "
        "beyond the source: 90% zeros, fewer than 5% dead units, and a held-out cost no higher than that of the "
        "model without penalty. The first two are reached. The third is not: at its lowest cost on an inner split"
        " the sparse model has a higher one, because the six of 64 units that are on at a time can say less than "
        "50 (six chosen as the strongest, without any penalty, did no better in trials).",
        ("units", "course"),
    ),
    Experiment(
        "decay",
        ("decay",),
        "Source 000: 5,000 standardised 8×8 patches, 100 hidden units, 1,000 updates at rate 0.01, momentum 0.9, and "
        "500 updates of refinement at rate 0.01. The source shows random patterns without decay, localised spots with "
        "L1, smooth patterns with L2. Medians over three fits, with their range. What is in the table's columns: "
        + DECAY_COLUMNS,
        ("none", "l1", "l2", "none-refined", "l1-refined", "l2-refined", "reconstructions", "reconstructions-refined"),
        tuple(
            (f"{words}, {when}", f"_{panel}{stage}")
            for stage, when in decay.STAGES.items()
            for panel, words in decay.WORDS.items()
        ),
        ("near_zero", "kurtosis", "spread", "smoothness", "small", "activity", "r2", "roughness"),
    ),
    Experiment(
        "sparsity",
        ("sparsity",),
        "Source 000: the same patches and units, rate 0.05, target 0.01, K = 1. What the author asks of them is "
        "answered in [sparsity.md](sparsity.md). Medians over three fits, with their range.",
        (
            "own",
            "own-refined",
            "none",
            "noise-free",
            "entries",
            "target-0.3",
            "whitened",
            "cure",
            "hidden-decay",
            "useful",
            "targets",
        ),
        (
            ("the source's own, refined", "_refined"),
            *((kind.words, "" if kind.name == "own" else f"_{kind.name}") for kind in sparsity.kinds(100)),
        ),
        ("small", "useful", "dead", "activity", "norm", "roughness"),
    ),
    Experiment(
        "edges-photos",
        ("edges", "--source", "$RAREFIRE_DATA/photos"),
        "Source 000's open question, whether its data were too few for edges: 12×12 patches of nine photographs of "
        "landscapes, plants and animals, whitened, 144 units, 96,000 updates; medians over three fits, with their "
        "range. Every other row differs from the first in one thing.",
        ("filters-own", "filters-patches_5000", "distinct"),
        tuple(
            (setting.name.replace("_", " "), "" if setting.name == "own" else f"_{setting.name}")
            for setting in edges.Edges().settings()
        ),
        ("edges", "dead", "mean_activity"),
    ),
    Experiment(
        "edges",
        ("edges", "--set", "ablation=false"),
        "The same from scikit-learn's two photographs, of which 200,000 patches overlap more.",
        ("filters-own", "patches"),
    ),
    Experiment(
        "layers",
        ("layers",),
        "Source 002: a second layer of 100 units on 100, its cost run all the way back to the pixels, in nats per "
        "pixel. The source found it much higher than that of the first layer, and asked why "
        "([layers.md](layers.md)). Aimed at: both layers, tuned together, at or below the first layer alone. Medians "
        "over three seeds, with their range; `exact_cost` is the expectation over all 2,116 pictures.",
        ("settings", "sizes", "features-samples", "features-tuned"),
        tuple((setting.words, f"_{setting.name}") for setting in layers.Layers().settings()),
        ("exact_cost", "exact_cost_mean_field", "cv_cost", "cv_cost_mean_field", "cost", "cost_mean_field"),
    ),
    Experiment(
        "layers-digits",
        ("layers", "--source", "digits"),
        "The same on more complex inputs, as the source proposes: scikit-learn's digits, grey values as probabilities.",
        ("settings",),
        tuple((setting.words, f"_{setting.name}") for setting in layers.Layers(source="digits").settings()),
        ("cv_cost", "cv_cost_mean_field", "cost", "cost_mean_field"),
    ),
    Experiment(
        "likelihood",
        ("likelihood",),
        "500 hidden units on MNIST, the log-likelihood of the test images by annealed importance sampling from both "
        "ends. Published: −86.34 nats an image with CD-25 (Salakhutdinov and Murray, 2008). Aimed at: −84.0, and "
        "estimates that differ by less than half a nat. More in [likelihood.md](likelihood.md).",
        ("temperatures", "samples"),
    ),
    Experiment(
        "likelihood-bfloat16",
        ("likelihood", "--set", "precision=bfloat16"),
        "The same with factors of 8 bits in the products of training; the likelihood is estimated in full precision. "
        "Aimed at: within half a nat of the machine above.",
    ),
    Experiment(
        "lines",
        ("lines",),
        "Source 002: 9×9 pictures of lines, 67 hidden units, 2000 epochs. Figures are medians over five machines,"
        " each with pictures and a seed of its own.",
        ("examples", "seeds", "codes", "flips"),
    ),
    Experiment(
        "lines-best",
        ("lines", "--preset", "best", "--seed", "100"),
        "The same machine by the protocol that the table of the inner split (below) chose, on seeds that played "
        "no part in the choice. Aimed at: an exact expected cost of 0.002.",
        ("seeds", "codes"),
    ),
    Experiment(
        "lines-units",
        ("lines-units",),
        "Source 002: cost and activity against the number of hidden units; medians over three machines each. "
        "Three laws are fitted to the cost and to its logarithm, slower than, as fast as and faster than the "
        "logarithm of the number of units: the source's 'order less than log N' asks for more variance explained "
        "by the slower one.",
        ("cost-units", "active-units"),
    ),
    Experiment(
        "lines-units-best",
        ("lines-units", "--preset", "best", "--seed", "100", "--set", "units=[67,200]"),
        "67 and 200 units by that protocol. Aimed at: an exact expected cost of 0.0005 with 200.",
    ),
)


@dataclass(frozen=True)
class Comparison:
    """One recipe with a setting changed at a time: a table with a row for each."""

    title: str
    text: str
    command: tuple[str, ...]
    prefix: str
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its section is called."""
        return self.prefix.strip("-")

    @property
    def experiments(self) -> list[Experiment]:
        """The run behind each row."""
        return [
            Experiment(
                f"{self.prefix}{name}", (*self.command, *(part for pair in pairs for part in ("--set", pair))), text
            )
            for text, name, pairs in self.rows
        ]

    def section(self) -> list[str]:
        """Text, command and table."""
        rows = []
        for experiment in self.experiments:
            entries = {entry["name"]: entry for entry in experiment.directory.metrics()}
            rows.append([experiment.text, *(with_range(entries.get(column)) for column in self.columns)])
        header = ("choice", *(f"`{column}`" for column in self.columns))
        command = f"`rarefire run {' '.join(self.command)}` with one setting changed."
        return [f"## {self.title}", "", self.text, "", command, "", *table(header, rows), ""]


READINGS = (
    ("as taken", "as-taken", ()),
    ("positive statistics from samples", "positive-sample", ("positive_hidden=sample",)),
    ("initial weights of 0.01", "init", ("init_scale=0.01",)),
    (
        "positive statistics from samples, initial weights of 0.01",
        "positive-sample-init",
        ("positive_hidden=sample", "init_scale=0.01"),
    ),
    ("negative statistics from samples", "negative-sample", ("negative_hidden=sample",)),
    ("pixels sampled on the way down", "visible-sample", ("chain_visible=sample",)),
    ("hidden probabilities on the way down", "hidden-mean", ("chain_hidden=mean",)),
    ("no averaging", "no-averaging", ("averaging=none",)),
    ("averaging factor 0.99", "averaging-99", ("averaging=0.99",)),
    ("averaging factor 0.999", "averaging-999", ("averaging=0.999",)),
)

COMPARISONS = (
    Comparison(
        "Weight decay, read otherwise",
        "The recipe `decay` with one reading of the source changed at a time; medians over three fits, with their "
        "range, before refinement.",
        ("decay",),
        "decay-reading-",
        (
            ("as taken", "own", ()),
            ("each picture standardised by itself", "image", ("standardise=image",)),
            ("all values standardised by two numbers", "global", ("standardise=global",)),
            ("16×16 pixels", "side", ("side=16",)),
            ("iterations are passes over the pictures", "epochs", ("unit=epochs",)),
            ("reconstructions sampled in training", "sampled", ("chain_visible=sample",)),
            ("initial weights of 0.1", "init", ("init_scale=0.1",)),
        ),
        (
            "activity_none",
            "smoothness_none",
            "r2_none",
            "near_zero_none",
            "near_zero_l1",
            "kurtosis_l1",
            "spread_none",
            "spread_l1",
            "smoothness_l2",
            "r2_l2",
        ),
    ),
    Comparison(
        "Sparse units that copy noise",
        "The weight decay of the 200 sparse units. Where it is small, they copy patches and noise alike: a penalty on "
        "mean rates does not forbid units that never fire and differ from their target by little, if large decoder "
        "weights read them.",
        ("structure", "--set", "n_samples=5000"),
        "structure-decay-",
        tuple((f"decay {decay}", decay, (f"sparse_decay={decay}",)) for decay in ("1e-5", "1e-3", "0.05")),
        ("patches_sparse", "noise_sparse", "patches_active", "noise_active", "patches_mean_rate", "noise_mean_rate"),
    ),
    Comparison(
        "Sparse words, trained on",
        "One fit of each kind, 150 epochs for all. The model without penalty is at its best after 20 epochs and "
        "learns the training plots by heart from then on; the sparse one hardly changes. That their order turns "
        "is a property of the dense model's overfitting, and no sign that sparseness is free.",
        ("words", "--set", "repeats=1"),
        "words-epochs-",
        (
            ("as above", "own", ()),
            ("150 epochs", "150", ("max_iter=150",)),
        ),
        ("dense_zeros", "dense_cost", "dense_cv_cost", "sparse_zeros", "sparse_cost", "sparse_cv_cost", "sparse_dead"),
    ),
    Comparison(
        "What the source leaves open, 67 units",
        "Medians over five machines. Published: cost 0.004, held out 0.005, 38 active, 51 at most, one unit that "
        "codes a single line.",
        ("lines",),
        "lines-reading-",
        READINGS,
        ("cost", "cost_mean_field", "cv_cost", "exact_cost", "active_mean", "active_max", "single_line_units"),
    ),
    Comparison(
        "What the source leaves open, 200 units",
        "Medians over three machines. Published: 0.002 in training and held out, a little over half of the units "
        "active. What rounds to 0.002 in training takes probabilities in the positive statistics, whatever the "
        "initial weights; held out, on 300 pictures, the figure depends on the few that show three or four lines.",
        ("lines", "--set", "n_components=200", "--set", "repeats=3"),
        "lines-200-reading-",
        READINGS[:8],
        ("cost", "cost_mean_field", "cv_cost", "cv_cost_mean_field", "exact_cost", "active_mean", "active_max"),
    ),
    Comparison(
        "The choice behind `--preset best`",
        "An inner split: the 300 held-out pictures are left out altogether, and 270 of the other 2,700 are held "
        "out. `cv_cost`, the median over three machines, decides.",
        ("lines", "--preset", "best", "--seed", "200", "--set", "repeats=3", "--set", "inner=true"),
        "lines-inner-",
        tuple(
            (
                f"decay {decay}, positive {positive}",
                f"{decay}-{positive}",
                (f"weight_decay__strength={decay}", f"positive_hidden={positive}"),
            )
            for decay in ("1e-3", "3e-4", "1e-4", "3e-5", "1e-5", "3e-6", "0")
            for positive in ("sample", "mean")
        ),
        ("cost", "cv_cost", "cv_cost_mean_field"),
    ),
)


def section(experiment: Experiment) -> list[str]:
    """Command, text, table and pictures of one experiment."""
    directory = experiment.directory
    spec = directory.spec()
    rows = []
    entries = {entry["name"]: entry for entry in directory.metrics()}
    in_table = {f"{column}{ending}" for _, ending in experiment.rows for column in experiment.columns}
    for entry in entries.values():
        if entry["name"] in in_table and "within" not in entry:
            continue
        published = beside(entry)
        verdict = {True: "yes", False: "**no**", None: ""}[entry.get("within")]
        rows.append(
            [f"`{entry['name']}`", number(entry["value"]), published, verdict, entry["unit"], entry["explanation"]]
        )
    seconds = sum(timing_seconds(path) for path in directory.path.rglob("timing.jsonl"))
    lines = [
        f"## {spec['recipe']['title']} ({spec['recipe']['name']}, {spec['recipe']['preset']})",
        "",
        experiment.text,
        "",
        f"`rarefire run {' '.join(experiment.arguments)}`, {seconds / 60:.1f} minutes of training.",
        "",
        *table(("figure", "ours", "published or expected", "within", "unit", "what it is"), rows),
        "",
    ]
    if experiment.rows:
        cells = (
            (words, *(with_range(entries.get(f"{column}{ending}")) for column in experiment.columns))
            for words, ending in experiment.rows
        )
        lines += [*table(("way", *(f"`{column}`" for column in experiment.columns)), cells), ""]
    for name in experiment.pictures:
        target = DOCS / "figures" / f"{experiment.name}-{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory.path / "figures" / f"{name}.png", target)
        lines += [f"![{directory.captions()[name]}](figures/{target.name})", "", f"*{directory.captions()[name]}*", ""]
    return lines


def with_range(entry: dict[str, Any] | None) -> str:
    """A median and its range over seeds; nothing where a way has no such figure."""
    if entry is None:
        return ""
    if "low" not in entry or entry["low"] == entry["high"]:
        return number(entry["value"])
    return f"{number(entry['value'])} ({number(entry['low'])} to {number(entry['high'])})"


def timing_seconds(path: Path) -> float:
    """Seconds of all epochs in a timing file."""
    return sum(json.loads(line)["seconds"] for line in path.read_text().splitlines())


def classification() -> list[str]:
    """The section on digits told apart by a linear classifier."""
    target = RUNS / "classify.json"
    if not target.is_file():
        subprocess.run([sys.executable, str(ROOT / "tools" / "classify.py"), str(target)], check=True)
    rows: dict[str, list[str]] = {}
    for entry in json.loads(target.read_text()):
        cell = f"{100 * entry['accuracy']:.1f} ± {100 * entry['error']:.1f}"
        rows.setdefault(entry["representation"], []).append(cell)
    return [
        "## Digits told apart by a linear classifier",
        "",
        "scikit-learn's digits: logistic regression on pixels, and on sparse features in a `Pipeline`. Accuracy "
        "in percent, mean over ten folds and its standard error; the features are learnt on each fold's training "
        "part, without labels, and the regularisation is chosen inside of it. `python tools/classify.py FILE` "
        "measures it.",
        "",
        *table(
            ("representation", "all labels of the training part", "100 labels"),
            [[name, *cells] for name, cells in rows.items()],
        ),
        "",
    ]


def write_words(directory: RunDirectory, n_units: int = 8) -> None:
    """Put the units that predict a label best into the README, with their words."""
    recipe, (estimator, _) = Words(), load_parts(directory)
    source = recipe.arms()[0].source
    trained = Trained.of(estimator, [], source, estimator.split(source.shape[0], estimator.seed_))
    best = sorted(told(trained, recipe.texts), key=lambda one: one.share - one.precision)[:n_units]
    rows = [(str(one.unit), ", ".join(one.words), one.label, f"{one.precision:.2f} ({one.share:.2f})") for one in best]
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split("<!-- words -->\n")
    _, after = rest.split("<!-- end of words -->")
    lines = table(("unit", "its words", "genre", "average precision (its share)"), rows)
    text = "\n".join([f"{before}<!-- words -->", *lines, f"<!-- end of words -->{after}"])
    readme.write_text(text, encoding="utf-8")


def main(wanted: Sequence[str]) -> None:
    """Run what is wanted, or everything, and write the results."""
    results = DOCS / "results.md"
    sections = read_sections(results)
    named: dict[str, Experiment | Comparison | None] = {each.name: each for each in (*EXPERIMENTS, *COMPARISONS)}
    named["classify"] = None
    if unknown := [name for name in wanted if name not in named]:
        raise SystemExit(f"there is no section {unknown[0]} (there are: {', '.join(named)})")
    for name in wanted or named:
        each = named[name]
        if each is None:
            sections[name] = classification()
            continue
        runs = each.experiments if isinstance(each, Comparison) else [each]
        if not all(run.at_hand for run in runs):
            print(f"{name} is left as it was: its data are not at hand", file=sys.stderr)
            continue
        for run in runs:
            run.run()
        lines = each.section() if isinstance(each, Comparison) else section(each)
        sections[name] = [*lines, *stamp(runs[0].directory.spec()["versions"])]
    head = [
        "# Results",
        "",
        "Written by `make reproduce`; do not edit. Published figures are those of the documents that the recipes "
        "repeat; `within` says whether ours lies within the stated tolerance of it, or beats it.",
        "",
    ]
    if not wanted or "words" in wanted:
        write_words(next(each for each in EXPERIMENTS if each.name == "words").directory)
    write_sections(results, head, sections, named)
    print(f"wrote {results.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
