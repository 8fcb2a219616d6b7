"""What each feature stands for: statistics per unit and its strongest examples, as one table.

Plots and the page read this table and nothing else, so both can be made again from what is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rarefire.checkpoint import read_sealed, sealed_bytes
from rarefire.data.source import Description, Source, batch_rows
from rarefire.metrics.activity import unit_activity

#: The arrays that a CSR matrix is made of, by the names of its attributes.
CSR_PARTS = ("data", "indices", "indptr")
#: Unit vectors that are equal but for rounding to float32 differ by less in every value.
ROUNDING = 1e-5


@dataclass(frozen=True)
class FeatureTable:
    """Statistics and strongest examples of every unit.

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
    example_rows : csr_array of shape (n_distinct, n_features)
        The distinct training rows that are some unit's strongest example. Sparse, because documents are: nine of
        them for each unit would be far larger than the weights if the words that they do not have took space.
    example_index : ndarray of int of shape (n_units, n_examples)
        For each unit, its strongest examples as positions in ``example_rows``, strongest first.
    example_codes : ndarray of shape (n_units, n_examples)
        The unit's code on each of them.
    """

    description: Description
    components: NDArray[np.float32]
    optimal: NDArray[np.float32]
    mean_code: NDArray[np.float64]
    share_active: NDArray[np.float64]
    dead: NDArray[np.bool_]
    always_on: NDArray[np.bool_]
    norm: NDArray[np.float64]
    example_rows: sp.csr_array
    example_index: NDArray[np.int64]
    example_codes: NDArray[np.float32]

    @property
    def untied(self) -> bool:
        """Whether some unit's optimal input has another direction than its component."""
        norm = self.norm[:, None]
        tied = np.divide(self.components, norm, out=np.zeros(self.components.shape), where=norm > 0)
        return bool((np.abs(self.optimal - tied) > ROUNDING).any())

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
        data, indices, indptr = (arrays.pop(f"example_rows.{part}") for part in CSR_PARTS)
        shape = (len(indptr) - 1, arrays["components"].shape[1])
        return cls(description, example_rows=sp.csr_array((data, indices, indptr), shape), **arrays)


def feature_table(
    components: NDArray[np.floating],
    optimal: NDArray[np.floating],
    encode: Callable[[Any], tuple[NDArray[np.floating], NDArray[np.bool_]]],
    source: Source,
    n_examples: int = 9,
) -> FeatureTable:
    """Run over the training rows once and collect each unit's statistics and strongest examples.

    Parameters
    ----------
    components : ndarray of shape (n_units, n_features)
        The decoder's weights.
    optimal : ndarray of shape (n_units, n_features)
        The optimal inputs.
    encode : callable
        Rows (n, n_features), dense or CSR, to codes (n, n_units) and which of them count as active.
    source : Source
        The training rows.
    n_examples : int
        How many examples to keep for each unit; fewer where there are fewer rows.
    """
    n_units = len(components)
    n_examples = min(n_examples, source.shape[0])
    best = np.full((n_units, 0), -np.inf, dtype=np.float32)
    where = np.zeros((n_units, 0), dtype=np.int64)
    offset = 0

    def encoded_batches():
        nonlocal best, where, offset
        for rows in source.any_batches():
            codes, active = encode(rows)
            narrow = codes.astype(np.float32, copy=False)
            # After some batches few rows are among the strongest of any unit, and sorting the others costs more than
            # encoding them.
            full = best.shape[1] == n_examples
            entering = np.flatnonzero((narrow > best[:, -1]).any(axis=1)) if full else np.arange(len(codes))
            candidates = np.concatenate([best, narrow[entering].T], axis=1)
            positions = np.broadcast_to(offset + entering, (n_units, len(entering)))
            places = np.concatenate([where, positions], axis=1)
            # A stable sort of the negated codes: of equal codes the earlier row comes first.
            order = np.argsort(-candidates, axis=1, kind="stable")[:, :n_examples]
            best = np.take_along_axis(candidates, order, axis=1)
            where = np.take_along_axis(places, order, axis=1)
            offset += len(codes)
            yield codes, active

    activity = unit_activity(encoded_batches())
    distinct, index = np.unique(where, return_inverse=True)
    return FeatureTable(
        description=source.description,
        components=np.asarray(components, dtype=np.float32),
        optimal=np.asarray(optimal, dtype=np.float32),
        mean_code=activity.mean_code,
        share_active=activity.share_active,
        dead=activity.dead,
        always_on=activity.always_on,
        norm=np.linalg.norm(components, axis=1).astype(np.float64),
        example_rows=_sparse_rows(source, distinct),
        example_index=index.reshape(where.shape),
        example_codes=best,
    )


def _sparse_rows(source: Source, index: NDArray[np.int64]) -> sp.csr_array:
    """The rows at ``index``, of which no more than a batch is ever dense."""
    size = batch_rows(source.shape[1])
    parts = (source.rows(index[start : start + size]) for start in range(0, len(index), size))
    return sp.vstack([sp.csr_array(part, dtype=np.float32) for part in parts], format="csr")
