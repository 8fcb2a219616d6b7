"""Source 004: sparse codes of film plots, with rectified or thresholded units.

The source trained an autoencoder with dropout and rectification on binary bags of words: its codes held 10% zeros. With
the squared distance of each unit's batch mean from zero as a penalty it was 56%. Its next step, what the sparse model
has learnt, it left open. Both are here, as two pairs of fits that differ by penalty and number of epochs alone:

- ``rectified`` and ``penalised``: the source's contrast, rectified units and dropped inputs;
- ``dense`` and ``sparse``: units with a threshold, and codes of which more than nine in ten are zero. The penalty of
  Student's t acts on each code; the one on batch means costs more where it is strong enough for so many zeros, because
  small codes with large decoder weights evade it. Encoder weights begin ten times as large, so that a plot's hundred
  words carry units over their threshold at all.

The output's biases begin at the words' frequencies: without that the codes have to carry them. Settings were chosen on
an inner split of the training plots, where each kind is at its lowest held-out cost, or within a nat of it, after the
epochs that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rarefire import plots
from rarefire.activations import Activation, ReLU, Sigmoid, ThresholdedReLU
from rarefire.arguments import Free, Rule, Whole
from rarefire.data.checks import reading
from rarefire.data.datasets import film_plots, newsgroup_posts
from rarefire.data.source import Source, column_sums
from rarefire.data.text import bag_of_words, text_lines, text_source
from rarefire.errors import InputError, NotAtHand
from rarefire.estimators.autoencoder import SparseAutoencoder
from rarefire.losses import BernoulliCrossEntropy
from rarefire.metrics import against, expected, median_of, metric
from rarefire.metrics.coherence import npmi, top_words
from rarefire.metrics.precision import average_precision
from rarefire.penalties import L2, ActivityPenalty, NoPenalty, StudentT, TargetMean
from rarefire.recipes import Arm, Recipe
from rarefire.runs import Picture, Trained

#: A label on fewer documents says little of a unit.
LEAST_LABELLED = 50
#: Words by which a unit is told, and in which share of the training documents a word must be to be one of them: rare
#: words meet in too few held-out documents to be judged, and those of half of all documents stand for no topic.
N_WORDS, FEWEST, MOST = 10, 0.01, 0.25

KINDS = ("sparse", "dense", "penalised", "rectified")


class Texts(NamedTuple):
    """Documents, the labels of each (none where they have none), what they are called, and what each is called."""

    documents: list[str]
    labels: list[set[str]]
    name: str
    titles: list[str] | None = None


class Words(Recipe):
    """Words of film plots: sparse units that stand for topics (source 004).

    The film plots where they are at hand (see the dataset ``movies``), else the 20 newsgroups; the run says which.

    Parameters
    ----------
    preset : str
        "faithful".
    seed : int
        The first seed.
    source : str or None
        A text file, one document a line; None takes the film plots.
    repeats : int
        Fits of each kind, each with held-out plots and words of its own; figures are medians over them.
    n_components : int
        Hidden units.
    max_iter : int or None
        Epochs of every kind; None gives 40 to ``sparse`` and 20 to the others.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "seed": Whole(0),
        "source": Free(),
        "repeats": Whole(1),
        "n_components": Whole(1),
        "max_iter": Whole(1, none=True),
    }
    name = "words"
    title = "Sparse units learn topics of film plots"
    document = "004"

    def __init__(
        self,
        preset: str = "faithful",
        seed: int = 0,
        source: str | None = None,
        repeats: int = 3,
        n_components: int = 64,
        max_iter: int | None = None,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.source = source
        self.repeats = repeats
        self.n_components = n_components
        self.max_iter = max_iter

    def arms(self) -> list[Arm]:
        """For each kind one fit for each seed; the sparse ones first."""
        texts = self.texts
        arms = []
        sources: dict[int, Source] = {}
        for kind in KINDS:
            for seed in range(self.seed, self.seed + self.repeats):
                model = self._model(kind, seed)
                if seed not in sources:
                    sources[seed] = words_of_training(texts, model.split(len(texts.documents), seed).train)
                arms.append(Arm(f"{kind}-{seed}", sources[seed], model))
        return arms

    def _model(self, kind: str, seed: int) -> SparseAutoencoder:
        # Activation, factor on the encoder's weights, share of inputs dropped, weight decay.
        thresholded: tuple[Activation, float, float, float] = (ThresholdedReLU(1.0), 10.0, 0.3, 5e-4)
        rectified: tuple[Activation, float, float, float] = (ReLU(), 1.0, 0.5, 0.0)
        penalties: dict[str, ActivityPenalty] = {
            "sparse": StudentT(0.85),
            "penalised": TargetMean(0.0, strength=0.5),
        }
        activation, scale, dropped, decay = thresholded if kind in ("sparse", "dense") else rectified
        return SparseAutoencoder(
            n_components=self.n_components,
            activation=activation,
            output=Sigmoid(),
            loss=BernoulliCrossEntropy(),
            penalty=penalties.get(kind, NoPenalty()),
            weight_decay=L2(decay),
            input_dropout=dropped,
            init_scale=scale,
            init_output="mean",
            solver="adam",
            max_iter=self.max_iter or (40 if kind == "sparse" else 20),
            batch_size=100,
            validation_fraction=0.1,
            random_state=seed,
        )

    @cached_property
    def texts(self) -> Texts:
        """The documents, with their labels."""
        if self.source is not None:
            path = Path(self.source)
            if not path.name.lower().endswith((".txt", ".txt.gz")):
                raise InputError(f"{path} is no text file; give one that ends in .txt or .txt.gz, one document a line")
            with reading(path, "a text"), text_lines(path) as lines:
                return Texts([line for line in lines if line.strip()], [], path.name)
        try:
            films = film_plots()
            return Texts(films.documents, films.genres, "movies", films.titles)
        except NotAtHand:
            try:
                posts = newsgroup_posts()
            except NotAtHand as error:
                raise NotAtHand(
                    "neither the film plots nor the 20 newsgroups are at hand; pip install 'rarefire[movies]' brings "
                    f"the plots, and --source my.txt takes a text of your own ({error})"
                ) from None
            return Texts(posts.documents, [{label} for label in posts.labels], "newsgroups", posts.labels)

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """For each kind zeros, cost, dead units, coherence and prediction of labels, medians over the seeds."""
        texts = self.texts
        entries: dict[str, dict[str, Any]] = {}
        for place, kind in enumerate(KINDS):
            group = trained[place * self.repeats : (place + 1) * self.repeats]
            for name, entry in median_of([measure_fit(one, texts) for one in group]).items():
                entries[f"{kind}_{name}"] = {**entry, "name": f"{kind}_{name}"}
        if texts.name != "movies":  # the source's figures, and what was hoped for, are for film plots
            return list(entries.values())
        for name, figure in (("rectified_zeros", 0.10), ("penalised_zeros", 0.56)):
            entries[name] = against(entries[name], figure, self.document, tolerance=0.05)
        sparse, dense = (entries[f"{kind}_cv_cost"]["value"] for kind in ("sparse", "dense"))
        for name, words, met in (
            ("sparse_zeros", "0.9 or more", entries["sparse_zeros"]["value"] >= 0.9),
            ("sparse_dead", "below 0.05", entries["sparse_dead"]["value"] < 0.05),
            ("sparse_cv_cost", "at most dense_cv_cost", sparse <= dense),
        ):
            entries[name] = expected(entries[name], words, met)
        return list(entries.values())

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """Every unit's words and label, and how zeros and cost go together over the epochs."""
        texts, first = self.texts, trained[0]
        chosen = [trained[place * self.repeats] for place in range(len(KINDS))]
        return [
            Picture(
                "units",
                "Every unit of the sparse model: its words, and the label it predicts best",
                units(first, texts),
            ),
            Picture("course", "Zeros and held-out cost over the epochs", course(chosen)),
        ]


def words_of_training(texts: Texts, train: NDArray[np.int64]) -> Source:
    """All documents as bags of the words that the training documents have."""
    matrix, words = bag_of_words([texts.documents[row] for row in train], where=texts.name)
    if len(telling(np.diff(matrix.tocsc().indptr) / len(train))) < 2:
        raise InputError(
            f"{texts.name} has fewer than two words that are in {FEWEST:.0%} to {MOST:.0%} of its documents, by which "
            "units could be told; give more documents, or longer ones"
        )
    source = text_source(lambda: texts.documents, texts.name, words, lambda: texts.titles)
    source.description = replace(source.description, notes=f"{source.description.notes} by the training documents")
    return source


def measure_fit(trained: Trained, texts: Texts) -> dict[str, dict[str, Any]]:
    """What one fit is judged by, by name."""
    model, held_out = trained.estimator, trained.held_out
    assert held_out is not None  # the recipe holds documents out
    own = {entry["name"]: entry for entry in model.measure(trained.train, held_out)}
    entries = {name: own[name] for name in ("zeros", "cost", "cv_cost", "active_mean")}
    share = own["dead_units"]["value"] / len(model.components_)
    entries["dead"] = metric("dead", share, "share", "units that are active on no training document")
    coherence = npmi(telling_words(trained), held_out_words(trained, texts))
    text = (
        f"normalised pointwise mutual information of units' {N_WORDS} top words on held-out documents, mean over units"
    )
    entries["coherence"] = metric("coherence", np.nanmean(coherence), "", text)
    if texts.labels:
        _, precision, share = best_labels(trained, texts)
        text = "average precision on held-out documents of the label that a unit predicts best in training, mean"
        entries["label_precision"] = metric("label_precision", np.nanmean(precision), "", text)
        text = "the same of a score that says nothing: those labels' shares of the held-out documents"
        entries["label_share"] = metric("label_share", share.mean(), "", text)
    return entries


def telling(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """The columns of the words that are neither too rare nor too common, by their shares of documents."""
    return np.flatnonzero((share >= FEWEST) & (share <= MOST))


def telling_words(trained: Trained) -> NDArray[np.int64]:
    """The columns of each unit's top words among those that tell something, of shape (n_units, N_WORDS or fewer)."""
    candidates = telling(column_sums(trained.train) / trained.train.shape[0])
    return candidates[top_words(trained.estimator.components_[:, candidates], min(N_WORDS, len(candidates)))]


def held_out_words(trained: Trained, texts: Texts) -> Any:
    """The held-out documents as a CSR matrix of zeros and ones."""
    rows = trained.estimator.validation_indices_
    return bag_of_words([texts.documents[row] for row in rows], trained.train.description.feature_names)[0]


def best_labels(trained: Trained, texts: Texts) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """For each unit the label that it predicts best in training, its average precision held out, and its share there.

    The best is the one whose average precision exceeds its share of documents most: any score predicts a label of half
    of all documents with a half.
    """
    held_out = trained.estimator.validation_indices_
    train = np.setdiff1d(np.arange(len(texts.documents)), held_out)
    counts: dict[str, int] = {}
    for row in train:
        for label in texts.labels[row]:
            counts[label] = counts.get(label, 0) + 1
    names = sorted(label for label, count in counts.items() if count >= LEAST_LABELLED)
    table = np.array([[name in labels for name in names] for labels in texts.labels])
    assert trained.held_out is not None
    codes = [
        np.concatenate([trained.estimator.codes_and_active(rows)[0] for rows in part.batches()])
        for part in (trained.train, trained.held_out)
    ]
    chosen = np.array(
        [(average_precision(unit, table[train]) - table[train].mean(axis=0)).argmax() for unit in codes[0].T]
    )
    by_unit = np.array([average_precision(unit, table[held_out]) for unit in codes[1].T])
    precision = by_unit[np.arange(len(chosen)), chosen]
    return [names[label] for label in chosen], precision, table[held_out].mean(axis=0)[chosen]


class Told(NamedTuple):
    """What a unit stands for: words, their coherence, the label that it predicts best, how well, its share."""

    unit: int
    words: list[str]
    coherence: float
    label: str
    precision: float
    share: float


def told(trained: Trained, texts: Texts, n_words: int = 8) -> list[Told]:
    """Every unit, the one of highest coherence first."""
    top = telling_words(trained)
    names = trained.train.description.feature_names or ()
    coherence = np.nan_to_num(npmi(top, held_out_words(trained, texts)), nan=-1)
    none = np.zeros(len(top))
    labels, precision, share = best_labels(trained, texts) if texts.labels else ([""] * len(top), none, none)
    return [
        Told(unit, [names[j] for j in top[unit, :n_words]], coherence[unit], labels[unit], precision[unit], share[unit])
        for unit in np.argsort(-coherence, kind="stable").tolist()
    ]


def units(trained: Trained, texts: Texts) -> Figure:
    """What every unit stands for, as a table."""
    header = ("unit", "words", "coherence", "label, average precision (its share)")
    lines = [
        (
            str(one.unit),
            " ".join(one.words),
            f"{one.coherence:.2f}",
            f"{one.label}, {one.precision:.2f} ({one.share:.2f})" if one.label else "",
        )
        for one in told(trained, texts)
    ]
    return plots.text_table(header, lines, (0.05, 0.57, 0.09, 0.29))


def course(trained: Sequence[Trained]) -> Figure:
    """Share of zeros against held-out cost, an epoch a point, for one fit of each kind."""
    figure, axes = plots.one_chart(6.4, 3.8)
    for one, kind, colour in zip(trained, KINDS, (plots.VERMILION, plots.BLUE, plots.GREEN, "0.5"), strict=True):
        measured = [record for record in one.history if "validation_cost" in record]
        zeros, costs = ([record[key] for record in measured] for key in ("zeros", "validation_cost"))
        axes.plot(zeros, costs, color=colour, linewidth=1, label=kind)
        axes.plot(zeros[-1], costs[-1], "o", color=colour)
    axes.set_xlabel("share of zeros among held-out codes; the dot is the end")
    axes.set_ylabel("held-out cost (nats a document)")
    axes.legend(frameon=False)
    return figure
