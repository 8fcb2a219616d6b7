"""What each feature stands for: statistics per unit, its examples and its relatives, as one table.

Plots and the page read this table and nothing else, so both can be made again from what is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from rarefire.artifact import is_description
from rarefire.checkpoint import read_sealed, sealed_bytes
from rarefire.data.source import Description, Source, batch_rows
from rarefire.metrics import gabor
from rarefire.metrics.activity import unit_activity
from rarefire.metrics.coherence import npmi, top_words
from rarefire.metrics.likeness import most_alike, mutual_coherence, share_together
from rarefire.random import Generator

#: The arrays that a CSR matrix is made of, by the names of its attributes.
CSR_PARTS = ("data", "indices", "indptr")
#: Unit vectors that are equal but for rounding to float32 differ by less in every value.
ROUNDING = 1e-5
#: Codes that are kept for what needs more than sums: histograms, medians, what fires together.
SURVEYED_VALUES = 2**24
#: Bins of a histogram of codes.
N_BINS = 30
#: Examples from the middle of a unit's active codes, and as many from just above its threshold.
N_BETWEEN = 3
#: Units told that fire together with a unit, and that have weights like it.
N_RELATIVES = 6
#: Words that a unit's coherence is judged by.
N_COHERENT = 10
#: Sides of the smallest and the largest pictures whose features are told to be edges or not: below there is no room
#: for a wave, above the search takes minutes.
SMALLEST_EDGE, LARGEST_EDGE = 6, 32


@dataclass(frozen=True)
class FeatureTable:
    """Statistics, examples and relatives of every unit, and some rows with what comes back of them.

    Statistics and strongest examples are over all training rows. What needs codes and not only sums of them is over
    the surveyed rows: all of them where their codes are at most 2²⁴, else one drawn from each of equal stretches.

    Parameters
    ----------
    description : Description
        What the rows are; for images it holds their shape.
    components : ndarray of shape (n_units, n_features)
        The decoder's weights: what each unit adds to a reconstruction.
    optimal : ndarray of shape (n_units, n_features)
        The optimal inputs: of all inputs of norm 1 the one that excites each unit most. Zero for a unit that no input
        excites.
    mean_code : ndarray of shape (n_units,)
        Mean code over the training rows; for a machine the mean of E[h|v], the share of rows on which the unit is
        sampled on in expectation.
    share_active : ndarray of shape (n_units,)
        Share of training rows on which the unit is active, by the definitions of :mod:`rarefire.metrics.activity`.
    dead, always_on : ndarray of bool of shape (n_units,)
        Units active on no training row, and on every one.
    norm : ndarray of shape (n_units,)
        Euclidean norm of each row of ``components``.
    coherence : ndarray of shape (n_units,)
        Largest |cosine| of the unit's component with that of another:
        :func:`rarefire.metrics.likeness.mutual_coherence`.
    gabor_fit : ndarray of shape (n_units,)
        Share of the component's variance that a Gabor pair explains (:mod:`rarefire.metrics.gabor`); NaN where rows
        are no grey pictures of 6 to 32 pixels a side.
    edge_like : ndarray of bool of shape (n_units,)
        Whether that makes an edge of it.
    npmi : ndarray of shape (n_units,)
        For words, how much the ten of largest weight belong together (:func:`rarefire.metrics.coherence.npmi`), over
        the surveyed documents; NaN for other rows.
    histogram : ndarray of int of shape (n_units, 2, n_bins)
        Surveyed rows by the unit's code, on which it is not active and on which it is.
    code_range : ndarray of shape (n_units, 2)
        The smallest and the largest code there, from where to where the bins reach.
    active_histogram : ndarray of int of shape (n_units + 1,)
        Surveyed rows by the number of units that are active on them.
    example_rows : csr_array of shape (n_distinct, n_features)
        The distinct training rows that are some unit's example. Sparse, because documents are: some of them for each
        unit would be far larger than the weights if the words that they do not have took space.
    example_sources : ndarray of int of shape (n_distinct,)
        Their places among the training rows.
    example_index : ndarray of int of shape (n_units, n_examples)
        For each unit, its strongest examples as positions in ``example_rows``, strongest first.
    example_codes : ndarray of shape (n_units, n_examples)
        The unit's code on each of them.
    median_index, median_codes : ndarray of shape (n_units, n_between)
        The same for surveyed rows in the middle of those on which it is active; −1 where there are none.
    threshold_index, threshold_codes : ndarray of shape (n_units, n_between)
        And for those on which it is only just active, the last of them last.
    together_index, together_correlation, together_share : ndarray of shape (n_units, n_relatives)
        Units whose codes correlate most with those of the unit, Pearson's correlation, and the share of the rows on
        which the unit is active that the other is active on.
    alike_index, alike_cosine : ndarray of shape (n_units, n_relatives)
        Units of the most similar components, and the cosine.
    inputs : csr_array of shape (n_shown, n_features)
        Some rows, held out where any are.
    outputs : ndarray of shape (n_shown, n_features)
        What comes back of them.
    """

    description: Description
    components: NDArray[np.float32]
    optimal: NDArray[np.float32]
    mean_code: NDArray[np.float64]
    share_active: NDArray[np.float64]
    dead: NDArray[np.bool_]
    always_on: NDArray[np.bool_]
    norm: NDArray[np.float64]
    coherence: NDArray[np.float32]
    gabor_fit: NDArray[np.float64]
    edge_like: NDArray[np.bool_]
    npmi: NDArray[np.float64]
    histogram: NDArray[np.int64]
    code_range: NDArray[np.float32]
    active_histogram: NDArray[np.int64]
    example_rows: sp.csr_array
    example_sources: NDArray[np.int64]
    example_index: NDArray[np.int64]
    example_codes: NDArray[np.float32]
    median_index: NDArray[np.int64]
    median_codes: NDArray[np.float32]
    threshold_index: NDArray[np.int64]
    threshold_codes: NDArray[np.float32]
    together_index: NDArray[np.int64]
    together_correlation: NDArray[np.float32]
    together_share: NDArray[np.float32]
    alike_index: NDArray[np.int64]
    alike_cosine: NDArray[np.float32]
    inputs: sp.csr_array
    outputs: NDArray[np.float32]

    @cached_property
    def untied(self) -> bool:
        """Whether some unit's optimal input has another direction than its component."""
        norm = self.norm[:, None]
        tied = np.divide(self.components, norm, out=np.zeros(self.components.shape), where=norm > 0)
        return bool((np.abs(self.optimal - tied) > ROUNDING).any())

    @property
    def n_surveyed(self) -> int:
        """Rows that were surveyed."""
        return int(self.active_histogram.sum())

    def to_bytes(self) -> bytes:
        """As one safetensors file."""
        arrays: dict[str, NDArray] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, sp.csr_array):
                arrays |= {f"{field.name}.{part}": getattr(value, part) for part in CSR_PARTS}
            elif field.name != "description":
                arrays[field.name] = np.ascontiguousarray(value)
        return sealed_bytes(arrays, "description", self.description.to_json())

    @classmethod
    def read(cls, path: Path) -> FeatureTable:
        """The inverse of :meth:`to_bytes`, from a file."""
        arrays, about = read_sealed(path, "description")
        description = Description.from_json(about)
        n_features = arrays["components"].shape[1]
        matrices = {}
        for name in ("example_rows", "inputs"):
            data, indices, indptr = (arrays.pop(f"{name}.{part}") for part in CSR_PARTS)
            matrices[name] = sp.csr_array((data, indices, indptr), (len(indptr) - 1, n_features))
        if missing := {field.name for field in fields(cls)} - {"description", *matrices, *arrays}:
            raise ValueError(f"it has no {min(missing)}")
        return cls(description, **matrices, **arrays)

    def check(self) -> None:
        """See that the arrays agree with one another.

        Raises
        ------
        ValueError
            If they do not.
        """
        n, n_features = self.components.shape
        n_rows, n_shown = self.example_rows.shape[0], self.inputs.shape[0]
        units, whole = (n,), (n, n_features)
        forms: dict[str, tuple[str, tuple[int, ...]]] = {
            **dict.fromkeys(("components", "optimal"), ("f", whole)),
            **dict.fromkeys(("mean_code", "share_active", "norm", "coherence", "gabor_fit", "npmi"), ("f", units)),
            **dict.fromkeys(("dead", "always_on", "edge_like"), ("b", units)),
            "histogram": ("i", (n, 2, self.histogram.shape[2])),
            "code_range": ("f", (n, 2)),
            "active_histogram": ("i", (n + 1,)),
            "example_sources": ("i", (n_rows,)),
            "outputs": ("f", (n_shown, n_features)),
        }
        # Positions, what is said of them, and from where to where they may be.
        for name, of, least, most in (
            ("example", ("codes",), 0, n_rows),
            ("median", ("codes",), -1, n_rows),
            ("threshold", ("codes",), -1, n_rows),
            ("together", ("correlation", "share"), 0, n),
            ("alike", ("cosine",), 0, n),
        ):
            index = getattr(self, f"{name}_index")
            forms |= {f"{name}_{one}": ("f", (n, index.shape[1])) for one in of}
            forms[f"{name}_index"] = ("i", (n, index.shape[1]))
            if index.size and not least <= index.min() <= index.max() < most:
                raise ValueError(f"{name}_index reaches from {index.min()} to {index.max()}")
        for name, (kind, shape) in forms.items():
            array = getattr(self, name)
            finite = np.isfinite(array).all() or name in ("gabor_fit", "npmi")
            if array.dtype.kind != kind or array.shape != shape or not finite:
                raise ValueError(f"{name} is of type {array.dtype} and shape {array.shape}, or not finite")
        for name in ("histogram", "active_histogram", "example_sources"):
            if (getattr(self, name) < 0).any():
                raise ValueError(f"{name} is negative")
        for name in ("example_rows", "inputs"):
            rows = getattr(self, name)
            rows.check_format()
            if rows.data.dtype.kind != "f" or not np.isfinite(rows.data).all():
                raise ValueError(f"{name} are no finite numbers")
        if not is_description(self.description.to_json(), n_features):
            raise ValueError("the description does not fit the columns")


#: Codes of rows (n, n_features), dense or CSR, of shape (n, n_units), and which of them count as active.
Encode = Callable[[Any], tuple[NDArray[np.floating], NDArray[np.bool_]]]


def feature_table(
    components: NDArray[np.floating],
    optimal: NDArray[np.floating],
    encode: Encode,
    source: Source,
    n_examples: int = 9,
    shown: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> FeatureTable:
    """Run over the training rows once and collect what the table holds of each unit.

    Parameters
    ----------
    components : ndarray of shape (n_units, n_features)
        The decoder's weights.
    optimal : ndarray of shape (n_units, n_features)
        The optimal inputs.
    encode : callable
        Rows to codes and which of them count as active.
    source : Source
        The training rows.
    n_examples : int
        How many of the strongest examples to keep for each unit; fewer where there are fewer rows.
    shown : pair of ndarray of shape (n_shown, n_features), optional
        Rows, and what comes back of them.
    """
    components = np.asarray(components, dtype=np.float32)
    n_units, n_features = components.shape
    strongest = _Strongest(n_units, min(n_examples, source.shape[0]))
    survey = _Survey(n_units, source.shape[0])

    def encoded() -> Iterator[tuple[NDArray[np.floating], NDArray[np.bool_]]]:
        for rows in source.any_batches():
            codes, active = encode(rows)
            narrow = codes.astype(np.float32, copy=False)
            strongest.take(narrow)
            survey.take(narrow, active)
            yield codes, active

    activity = unit_activity(encoded())
    median, threshold = survey.between()
    places = [strongest.where, median[0], threshold[0]]
    distinct, index = np.unique(np.concatenate(places, axis=1), return_inverse=True)
    n_missing = int(distinct[:1].sum() < 0)  # −1 stands first, if at all
    of_strongest, of_median, of_threshold = np.split(
        index.reshape(n_units, -1) - n_missing, np.cumsum([part.shape[1] for part in places])[:-1], axis=1
    )
    together, correlation = most_alike(survey.centred, N_RELATIVES)
    alike, cosine = most_alike(components, N_RELATIVES)
    fit, edge_like = _edges(components, source.description)
    inputs, outputs = shown or (np.zeros((0, n_features)),) * 2
    return FeatureTable(
        description=source.description,
        components=components,
        optimal=np.asarray(optimal, dtype=np.float32),
        mean_code=activity.mean_code,
        share_active=activity.share_active,
        dead=activity.dead,
        always_on=activity.always_on,
        norm=np.linalg.norm(components, axis=1).astype(np.float64),
        coherence=mutual_coherence(components),
        gabor_fit=fit,
        edge_like=edge_like,
        npmi=_word_coherence(components, source, survey.rows),
        histogram=survey.histogram(),
        code_range=survey.code_range,
        active_histogram=np.bincount(survey.active.sum(axis=0), minlength=n_units + 1),
        example_rows=_sparse_rows(source, distinct[n_missing:]),
        example_sources=distinct[n_missing:],
        example_index=of_strongest,
        example_codes=strongest.codes,
        median_index=of_median,
        median_codes=median[1],
        threshold_index=of_threshold,
        threshold_codes=threshold[1],
        together_index=together,
        together_correlation=correlation,
        together_share=share_together(survey.active, together),
        alike_index=alike,
        alike_cosine=cosine,
        inputs=sp.csr_array(inputs, dtype=np.float32),
        outputs=np.asarray(outputs, dtype=np.float32),
    )


class _Strongest:
    """The rows of each unit's largest codes so far; of equal codes the earlier row."""

    def __init__(self, n_units: int, n_examples: int) -> None:
        self.n_examples, self.offset = n_examples, 0
        self.codes = np.full((n_units, 0), -np.inf, dtype=np.float32)
        self.where = np.zeros((n_units, 0), dtype=np.int64)

    def take(self, codes: NDArray[np.float32]) -> None:
        # After some batches few rows are among the strongest of any unit, and sorting the others costs more than
        # encoding them.
        full = self.codes.shape[1] == self.n_examples
        entering = np.flatnonzero((codes > self.codes[:, -1]).any(axis=1)) if full else np.arange(len(codes))
        candidates = np.concatenate([self.codes, codes[entering].T], axis=1)
        positions = np.broadcast_to(self.offset + entering, (len(candidates), len(entering)))
        places = np.concatenate([self.where, positions], axis=1)
        # A stable sort of the negated codes: of equal codes the earlier row comes first.
        order = np.argsort(-candidates, axis=1, kind="stable")[:, : self.n_examples]
        self.codes = np.take_along_axis(candidates, order, axis=1)
        self.where = np.take_along_axis(places, order, axis=1)
        self.offset += len(codes)


class _Survey:
    """Codes of some rows, and which are active, units first."""

    def __init__(self, n_units: int, n_rows: int) -> None:
        n = min(n_rows, max(1, SURVEYED_VALUES // n_units))
        # One from each of n stretches, as equal as whole numbers can be.
        edges = np.arange(n + 1) * n_rows // n
        drawn = Generator(0, "surveyed rows").uniform((n,), torch.float64).numpy()
        self.rows = edges[:-1] + (drawn * np.diff(edges)).astype(np.int64)
        self.codes = np.zeros((n_units, n), np.float32)
        self.active = np.zeros((n_units, n), bool)
        self.offset = 0

    def take(self, codes: NDArray[np.float32], active: NDArray[np.bool_]) -> None:
        here = slice(*np.searchsorted(self.rows, [self.offset, self.offset + len(codes)]))
        chosen = self.rows[here] - self.offset
        self.codes[:, here], self.active[:, here] = codes[chosen].T, active[chosen].T
        self.offset += len(codes)

    @property
    def code_range(self) -> NDArray[np.float32]:
        return np.stack([self.codes.min(axis=1), self.codes.max(axis=1)], axis=1)

    @property
    def centred(self) -> NDArray[np.float32]:
        """Codes less each unit's mean; zero for one whose code is always the same, which goes with nothing."""
        low, high = self.code_range.T[:, :, None]
        return np.where(high > low, self.codes - self.codes.mean(axis=1, keepdims=True, dtype=np.float64), 0).astype(
            np.float32
        )

    def histogram(self) -> NDArray[np.int64]:
        counts = np.zeros((len(self.codes), 2, N_BINS), np.int64)
        for unit, (codes, active, (low, high)) in enumerate(zip(self.codes, self.active, self.code_range, strict=True)):
            # In double precision: the range of codes may be too small for a quotient in single.
            share = (codes - low).astype(np.float64) / ((float(high) - float(low)) or 1.0)
            bins = np.minimum((share * N_BINS).astype(np.int64), N_BINS - 1)
            for kind in (0, 1):
                counts[unit, kind] = np.bincount(bins[active == kind], minlength=N_BINS)
        return counts

    def between(self) -> tuple[tuple[NDArray[np.int64], NDArray[np.float32]], ...]:
        """Rows and codes in the middle of those on which a unit is active, and at their lower end."""
        n_units = len(self.codes)
        rows = np.full((2, n_units, N_BETWEEN), -1)
        codes = np.zeros((2, n_units, N_BETWEEN), np.float32)
        for unit, (values, active) in enumerate(zip(self.codes, self.active, strict=True)):
            there = np.flatnonzero(active)
            # By size: some units are active with codes of either sign, and then the threshold is near zero.
            order = there[np.argsort(-np.abs(values[there]), kind="stable")]
            first = max(0, (len(order) - N_BETWEEN) // 2)
            for kind, some in enumerate((order[first : first + N_BETWEEN], order[-N_BETWEEN:])):
                rows[kind, unit, : len(some)] = self.rows[some]
                codes[kind, unit, : len(some)] = values[some]
        return (rows[0], codes[0]), (rows[1], codes[1])


def _edges(components: NDArray[np.float32], what: Description) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The share that a Gabor pair explains, and what is an edge; NaN and False where that is not looked for."""
    if (shape := edge_shape(what)) is None:
        return np.full(len(components), np.nan), np.zeros(len(components), bool)
    found = gabor.edge_likeness(components, shape)
    return found.variance_explained, found.edge_like


def edge_shape(what: Description) -> tuple[int, int] | None:
    """Height and width of rows that are grey pictures of a size that edges are looked for in; else None."""
    if what.kind != "image" or what.shape is None or len(what.shape) != 2:
        return None
    height, width = what.shape
    return (height, width) if min(what.shape) >= SMALLEST_EDGE and max(what.shape) <= LARGEST_EDGE else None


def _word_coherence(components: NDArray[np.float32], source: Source, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    n_units, n_features = components.shape
    if source.description.kind != "words" or n_features < 2:
        return np.full(n_units, np.nan)
    return npmi(top_words(components, min(N_COHERENT, n_features)), _sparse_rows(source, rows))


def _sparse_rows(source: Source, index: NDArray[np.int64]) -> sp.csr_array:
    """The rows at ``index``, of which no more than a batch is ever dense."""
    if source.sparse:
        return source.sparse_rows(index).astype(np.float32)
    size = batch_rows(source.shape[1])
    parts = (source.rows(index[start : start + size]) for start in range(0, len(index), size))
    return sp.vstack([sp.csr_array(part, dtype=np.float32) for part in parts], format="csr")
