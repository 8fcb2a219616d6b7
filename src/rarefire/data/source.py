"""The contract of a data source: rows of a matrix in batches, what they are, and a fingerprint of them."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rarefire.data.mapped import BlockOrder, block_rows, will_need
from rarefire.data.origins import Origin, Provenance
from rarefire.errors import printable
from rarefire.random import Generator


@dataclass(frozen=True)
class Description:
    """What the rows and columns of a source are.

    Parameters
    ----------
    name : str
        A dataset's name, or that of a file; what a page or a message cannot show of it is escaped.
    kind : {"image", "words", "named", "plain"}
        What one row is: an image of ``shape``, a document with a column for each word, a row of named columns, or
        a plain vector.
    shape : tuple of int, optional
        For images (height, width) or (height, width, channels), row-major, channels last.
    feature_names : tuple of str, optional
        A name for each column.
    notes : str
        What was done to the raw values, in one sentence.
    """

    name: str
    kind: str = "plain"
    shape: tuple[int, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable(self.name))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Description:
        """The inverse of :meth:`to_json`."""
        tuples = {key: tuple(values[key]) for key in ("shape", "feature_names") if values.get(key) is not None}
        return cls(**{**values, **tuples})


def batch_rows(width: int, n_values: int = 2**22) -> int:
    """Rows that are read at a time, so that a batch has at most four million values: between 1 and 4096."""
    return max(1, min(4096, n_values // width))


#: The share of values that are not zero up to which rows are worked on as sparse ones. Products with sparse rows take
#: four to ten times as long for each value as products with dense ones.
SPARSE = 0.1


class Source(Provenance, ABC):
    """Rows that can be read in any order, a batch at a time; never the whole matrix unless it is asked for.

    Where they come from (``origins``, ``photograph``) is known to some.
    """

    description: Description

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype:
        """float32 or float64: the type of the rows that are read."""

    @abstractmethod
    def rows(self, index: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        """The rows at ``index``, dense, of shape (len(index), n_features)."""

    @property
    def sparse(self) -> bool:
        """Whether most values are zero, and :meth:`sparse_rows` gives those that are not."""
        return False

    def sparse_rows(self, index: slice | NDArray[np.int64]) -> sp.csr_array:
        """The rows at ``index`` as a CSR matrix, no entry twice."""
        return sp.csr_array(self.rows(index))

    @cached_property
    @abstractmethod
    def fingerprint(self) -> str:
        """``"sha256:..."`` of shape, type and content: equal fingerprints mean equal rows."""

    def at_epoch(self, epoch: int) -> Source:
        """The rows as they are in an epoch of training, for a source that draws them anew; else itself."""
        return self

    @property
    def block_rows(self) -> int | None:
        """How many neighbouring rows are best read together; None where rows cost the same in any order."""
        return None

    def read_ahead(self, start: int, stop: int) -> None:
        """Begin to read the rows from ``start`` on and before ``stop``, where that takes time; they are not kept."""

    def order(self, generator: Generator) -> NDArray[np.int64] | BlockOrder:
        """The rows in an order for one epoch; ``order[start:stop]`` are those at these places.

        Every order is equally likely, but for large matrices on disk: see :class:`~rarefire.data.mapped.BlockOrder`.
        """
        if (block := self.block_rows) is None:
            return generator.permutation(self.shape[0])
        return BlockOrder(self.shape[0], block, generator, self.read_ahead)

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest value; NaN where a value is NaN."""
        with np.errstate(invalid="ignore"):
            if self.sparse:  # and so zero among the values
                values = (rows.data for rows in self.sparse_batches())
                pairs = np.array([(some.min(initial=0), some.max(initial=0)) for some in values], np.float64)
            else:
                pairs = np.array([(rows.min(), rows.max()) for rows in self.batches()], np.float64)
            return float(pairs[:, 0].min()), float(pairs[:, 1].max())

    def batches(self, size: int | None = None) -> Iterator[NDArray[np.floating]]:
        """All rows in order, so many at a time; by default :func:`batch_rows`."""
        size = size or batch_rows(self.shape[1])
        for start in range(0, self.shape[0], size):
            yield self.rows(slice(start, min(start + size, self.shape[0])))

    def sparse_batches(self) -> Iterator[sp.csr_array]:
        """All rows in order, in CSR form."""
        for start in range(0, self.shape[0], 2**12):
            yield self.sparse_rows(slice(start, min(start + 2**12, self.shape[0])))

    def any_batches(self) -> Iterator[Any]:
        """All rows in order, in CSR form where they are sparse, else dense."""
        return self.sparse_batches() if self.sparse else self.batches()

    def spec(self) -> dict[str, Any]:
        """What a run records of its data."""
        n_rows, n_features = self.shape
        return {
            "fingerprint": self.fingerprint,
            "n_rows": n_rows,
            "n_features": n_features,
            **self.description.to_json(),
        }

    def subset(self, index: NDArray[np.int64]) -> Source:
        """The rows at ``index`` as a source of their own; nothing is copied."""
        return _Subset(self, index)


def column_sums(source: Source) -> NDArray[np.float64]:
    """The sum of each column, of shape (n_features,)."""
    return sum((rows.sum(axis=0, dtype=np.float64) for rows in source.any_batches()), np.zeros(source.shape[1]))


class ArraySource(Source):
    """An array in memory, a memory map or a SciPy CSR matrix.

    Parameters
    ----------
    array : ndarray, memmap or CSR array of shape (n_rows, n_features)
        The raw values, of any real type; read in batches and never copied as a whole.
    description : Description
        What they are.
    scale : float
        What each raw value is multiplied by when it is read (1/255 for bytes).
    provenance : Provenance, optional
        Where the rows come from, where that is known; a source of rows that these were made from will do.
    """

    def __init__(
        self, array: Any, description: Description, scale: float = 1.0, provenance: Provenance | None = None
    ) -> None:
        self.array = array
        self.description = description
        self.scale = scale
        self.provenance = provenance or Provenance()

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """float64 for double-precision and wide integer values, float32 for everything that fits in it."""
        # promote_types knows which integers float32 holds exactly: 8 and 16 bits do, 32 and 64 do not.
        return np.promote_types(self.array.dtype, np.float32)

    def rows(self, index: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        """The rows at ``index``, dense, of shape (len(index), n_features)."""
        block = self.array[index]
        if sp.issparse(block):
            block = block.toarray()
        return self._scaled(np.asarray(block))

    @property
    def sparse(self) -> bool:
        """Whether it is a CSR matrix with few values."""
        return sp.issparse(self.array) and self.array.nnz <= SPARSE * math.prod(self.shape)

    def sparse_rows(self, index: slice | NDArray[np.int64]) -> sp.csr_array:
        """The rows at ``index`` as a CSR matrix, no entry twice."""
        block = sp.csr_array(self.array[index])
        if not block.has_canonical_format:
            block = block.copy()  # a slice shares its memory with the whole
            block.sum_duplicates()
        return sp.csr_array((self._scaled(block.data), block.indices, block.indptr), shape=block.shape)

    def origins(self, index: NDArray[np.int64]) -> Sequence[Origin] | None:
        """As the provenance has it."""
        return self.provenance.origins(index)

    def photograph(self, number: int, longest_side: int = 480) -> NDArray[np.uint8]:
        """As the provenance has it."""
        return self.provenance.photograph(number, longest_side)

    def _scaled(self, values: NDArray[Any]) -> NDArray[np.floating]:
        native = self.dtype.newbyteorder("=")
        if self.scale == 1.0:
            return values.astype(native, copy=False)
        return np.multiply(values, native.type(self.scale), dtype=native)

    @property
    def block_rows(self) -> int | None:
        """As many as make 1 MiB of a memory-mapped matrix of more than 256 MiB."""
        return block_rows(self.array)

    def read_ahead(self, start: int, stop: int) -> None:
        """Tell the system, where the rows are mapped."""
        will_need(self.array, start, stop)

    @cached_property
    def fingerprint(self) -> str:
        """``"sha256:..."`` of shape, type and content."""
        digest = hashlib.sha256(f"{self.shape} {self.dtype.name}".encode())
        if sp.issparse(self.array):
            # Not of dense rows, for then a few values among many zeros would take as long as all of them.
            for start in range(0, self.shape[0], 2**16):
                block = self.array[start : start + 2**16].astype(self.dtype)
                block.sum_duplicates()
                block.eliminate_zeros()
                for part in (block.indptr.astype(np.int64), block.indices.astype(np.int64), block.data):
                    digest.update(part.tobytes())
        else:
            for block in self.batches():
                digest.update(np.ascontiguousarray(block).tobytes())
        return f"sha256:{digest.hexdigest()}"


class _Subset(Source):
    def __init__(self, whole: Source, index: NDArray[np.int64]) -> None:
        self.whole = whole
        self.index = np.asarray(index)
        self.description = whole.description

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.index), self.whole.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.whole.dtype

    def rows(self, index: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        return self.whole.rows(self.index[index])

    @property
    def sparse(self) -> bool:
        return self.whole.sparse

    def sparse_rows(self, index: slice | NDArray[np.int64]) -> sp.csr_array:
        return self.whole.sparse_rows(self.index[index])

    def origins(self, index: NDArray[np.int64]) -> Sequence[Origin] | None:
        return self.whole.origins(self.index[index])

    def photograph(self, number: int, longest_side: int = 480) -> NDArray[np.uint8]:
        return self.whole.photograph(number, longest_side)

    @property
    def block_rows(self) -> int | None:
        whole, share = self.whole.block_rows, len(self.index) / self.whole.shape[0]
        # A block of the subset is one of the whole as long as the subset keeps to its order.
        neighbours = whole is not None and bool((self.index[1:] > self.index[:-1]).all())
        return max(1, round(whole * share)) if whole is not None and neighbours else None

    def read_ahead(self, start: int, stop: int) -> None:
        self.whole.read_ahead(int(self.index[start]), int(self.index[stop - 1]) + 1)

    def at_epoch(self, epoch: int) -> Source:
        whole = self.whole.at_epoch(epoch)
        return self if whole is self.whole else whole.subset(self.index)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.whole.fingerprint.encode() + self.index.tobytes())
        return f"sha256:{digest.hexdigest()}"
