"""The base of every preparation step, and a source seen through fitted steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from rarefire.data.memory import validated
from rarefire.data.origins import Origin
from rarefire.data.source import ArraySource, Description, Source


class Step(TransformerMixin, BaseEstimator, ABC):
    """Map of rows to rows."""

    #: Names of the fitted arrays, which are all that a run has to save.
    fitted: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit_source(self, source: Source) -> Step:
        """Fit to the rows of a source, a batch at a time."""

    @abstractmethod
    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """Transform one batch of shape (n_rows, n_features); what was given is not changed."""

    @abstractmethod
    def describe(self, description: Description) -> Description:
        """What the rows and columns are after this step, from what they were before it."""

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """How many columns the fitted step makes."""

    @property
    def keeps_zeros(self) -> bool:
        """Whether the fitted step maps each value by itself and 0 to 0, so that sparse rows stay sparse."""
        return False

    def fit(self, X: Any, y: Any = None) -> Step:
        """Fit to a matrix of shape (n_samples, n_features)."""
        return self.fit_source(ArraySource(validated(X, self, reset=True, sparse=False), Description("array")))

    def transform(self, X: Any) -> NDArray[np.floating]:
        """Transform a matrix of shape (n_samples, n_features)."""
        check_is_fitted(self)
        rows = ArraySource(validated(X, self, sparse=False), Description("array"))
        return self.apply(rows.rows(slice(None)))

    def __sklearn_tags__(self) -> Any:
        """Float types are kept."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class SameColumns(OneToOneFeatureMixin, Step):
    """A step whose columns stand for what they stood for before: pixels stay pixels, names stay names."""

    def describe(self, description: Description) -> Description:
        """Unchanged."""
        return description

    @property
    def n_outputs(self) -> int:
        """As many columns as there were."""
        return self.n_features_in_


class PreparedSource(Source):
    """A source whose rows pass through fitted steps when they are read."""

    def __init__(self, source: Source, steps: list[Step]) -> None:
        self.source = source
        self.steps = steps
        self.description = source.description
        for step in steps:
            self.description = step.describe(self.description)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features), as the last step makes them."""
        n_rows, n_features = self.source.shape
        return n_rows, self.steps[-1].n_outputs if self.steps else n_features

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self.source.dtype

    def rows(self, index: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        """Prepared rows, of shape (len(index), n_features)."""
        rows = self.source.rows(index)
        for step in self.steps:
            rows = step.apply(rows)
        return rows

    @property
    def block_rows(self) -> int | None:
        """As of the raw rows."""
        return self.source.block_rows

    def read_ahead(self, start: int, stop: int) -> None:
        """Of the raw rows."""
        self.source.read_ahead(start, stop)

    @property
    def sparse(self) -> bool:
        """Whether the raw rows are, and every step keeps their zeros."""
        return self.source.sparse and all(step.keeps_zeros for step in self.steps)

    def sparse_rows(self, index: slice | NDArray[np.int64]) -> sp.csr_array:
        """Prepared rows as a CSR matrix, no entry twice."""
        if not self.sparse:
            return super().sparse_rows(index)
        rows = self.source.sparse_rows(index)
        values = rows.data[None]
        for step in self.steps:
            values = step.apply(values)
        return sp.csr_array((values[0], rows.indices, rows.indptr), shape=rows.shape)

    def origins(self, index: NDArray[np.int64]) -> Sequence[Origin] | None:
        """Those of the raw rows."""
        return self.source.origins(index)

    def photograph(self, number: int, longest_side: int = 480) -> NDArray[np.uint8]:
        """As of the raw rows."""
        return self.source.photograph(number, longest_side)

    def at_epoch(self, epoch: int) -> Source:
        """Prepared, the raw rows as they are in an epoch."""
        source = self.source.at_epoch(epoch)
        return self if source is self.source else PreparedSource(source, self.steps)

    @cached_property
    def fingerprint(self) -> str:
        """That of the raw rows; the steps are part of the specification."""
        return self.source.fingerprint


def prepared(source: Source, steps: list[Step]) -> Source:
    """The source seen through fitted steps; itself where there are none."""
    return PreparedSource(source, steps) if steps else source


def fit_steps(steps: list[Step], source: Source) -> None:
    """Fit the steps one after the other, each to what the ones before it make of the source."""
    for index, step in enumerate(steps):
        step.fit_source(prepared(source, steps[:index]))
