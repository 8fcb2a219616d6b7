"""Rows that an update is made on, as tensors: all at once, or in parts where all would not fit; rows on a GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from rarefire.data.mapped import BlockOrder
from rarefire.data.source import ArraySource, Description, Source
from rarefire.parallel import ALONE, Ranks
from rarefire.random import Generator
from rarefire.types import Visible, tensor_of, torch_csr

#: Values that a part has at most: 32 MiB in float32.
PART_VALUES = 2**23

#: The share of a GPU's free memory that training rows may take.
RESIDENT = 0.5

#: Which rows: their numbers, on the device where the rows are resident.
Index: TypeAlias = slice | NDArray[np.int64] | Tensor


@dataclass(frozen=True)
class Resident:
    """The rows of a source on another device than the CPU, where batches are gathered without a transfer.

    It stands where a :class:`~rarefire.data.source.Source` does in a :class:`Batch`, and gives tensors.

    Parameters
    ----------
    tensor : Tensor of shape (n_rows, n_features)
        All rows, on the device.
    source : Source
        Where they come from.
    """

    tensor: Visible
    source: Source
    sparse = False

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """Float32 or float64, that of the source."""
        return self.source.dtype

    def rows(self, index: Index) -> Visible:
        """The rows at ``index``, of shape (len(index), n_features)."""
        if isinstance(index, slice):
            return self.tensor[index]
        return self.tensor.index_select(0, torch.as_tensor(index, device=self.tensor.device))

    def sparse_rows(self, index: slice | NDArray[np.int64]) -> sp.csr_array:
        """The rows at ``index`` as a CSR matrix, from the source."""
        return self.source.sparse_rows(index)

    def at_epoch(self, epoch: int) -> Resident:
        """The same rows in every epoch."""
        return self

    def order(self, generator: Generator) -> Int[Tensor, " n"]:
        """The source's own order for one epoch, on the device."""
        order = self.source.order(generator)
        return torch.from_numpy(order.rows if isinstance(order, BlockOrder) else order).to(self.tensor.device)


def resident(source: Source, device: torch.device) -> Source | Resident:
    """The rows on the device, if that is a GPU, they are dense, the same in every epoch, and fit; else the source."""
    if device.type != "cuda" or source.sparse or source.at_epoch(0) is not source:
        return source
    free, _ = torch.cuda.mem_get_info(device)
    if math.prod(source.shape) * source.dtype.itemsize > RESIDENT * free:
        return source
    return on_device(source, device)


def on_device(source: Source, device: torch.device) -> Resident:
    """The rows on a device, read and sent some at a time."""
    dtype = torch.float64 if source.dtype == np.float64 else torch.float32
    tensor = torch.empty(source.shape, dtype=dtype, device=device)
    start = 0
    for rows in source.batches():
        tensor[start : start + len(rows)] = tensor_of(rows)
        start += len(rows)
    return Resident(tensor, source)


class Batch:
    """Some rows of a source, read when they are asked for; all of an update, or this process's share of them.

    Parameters
    ----------
    source : Source or Resident
        Where they are.
    index : ndarray of int, slice(None), or Tensor of int where rows are resident
        Which; all of them.
    device, dtype : torch.device, torch.dtype
        Where tensors go, and of which type they are; by default that of the rows.
    ranks, n : Ranks, int
        The processes that have shares of the batch, and its rows on all of them; by default these are all.
    """

    def __init__(
        self,
        source: Source | Resident,
        index: Index,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        ranks: Ranks = ALONE,
        n: int | None = None,
    ) -> None:
        self.source = source
        self.index = index
        self.device = torch.device(device)
        self.dtype = dtype
        self.ranks = ranks
        self.n = len(self) if n is None else n
        #: Whether an objective that does not compute its cost anyway is to compute it of these rows.
        self.watched = False

    @classmethod
    def share(cls, source: Source | Resident, index: Index, device: torch.device | str, ranks: Ranks) -> Batch:
        """The share that this process has of a batch; ``index`` is of the whole batch."""
        if ranks.size == 1:
            return cls(source, index, device)
        rows = range(source.shape[0])[index] if isinstance(index, slice) else index
        own = rows[ranks.share(len(rows))]
        return cls(
            source, slice(own.start, own.stop) if isinstance(own, range) else own, device, ranks=ranks, n=len(rows)
        )

    @classmethod
    def of(cls, rows: Visible) -> Batch:
        """Rows that are a tensor already."""
        batch = cls(ArraySource(rows.cpu().numpy(), Description("tensor")), slice(None), rows.device, rows.dtype)
        batch.__dict__["whole"] = rows
        return batch

    def __len__(self) -> int:
        index = self.index
        return len(range(self.source.shape[0])[index]) if isinstance(index, slice) else len(index)

    @property
    def sparse(self) -> bool:
        """Whether most values are zero, so that :meth:`parts` gives CSR tensors; several processes take them dense."""
        return self.source.sparse and self.ranks.size == 1

    @cached_property
    def whole(self) -> Visible:
        """All rows, dense, of shape (len(self), n_features); kept, so that a batch used again is read once."""
        return self._read(self.index)

    def rows_of_part(self, n_hidden: int) -> int:
        """Rows of a part: at most 2**23 values of the visible, and of the hidden layer of this width."""
        return max(1, PART_VALUES // max(self.source.shape[1], n_hidden))

    def parts(self, size: int, *, sparse: bool = False) -> Iterator[Visible]:
        """The rows in order, in parts of ``size``: in torch's CSR form where they are sparse, or are asked for so.

        A dense part that is all rows is kept.
        """
        sparse = sparse or self.sparse
        if not self.in_parts(size) and not sparse:
            yield self.whole
            return
        own = range(self.source.shape[0])[self.index] if isinstance(self.index, slice) else self.index
        # As many on every process, for whom shares differ by a row.
        for start in range(0, -(-self.n // self.ranks.size), size):
            part = own[start : start + size]
            yield self._read(slice(part.start, part.stop) if isinstance(part, range) else part, sparse)

    def in_parts(self, size: int) -> bool:
        """Whether a process takes its rows in several parts of this size."""
        return -(-self.n // self.ranks.size) > size

    def stream(self, generator: Generator, n: int | None = None) -> Generator:
        """Random numbers of the whole batch, or of as many rows, of which draws are this process's share."""
        n = self.n if n is None else n
        return generator if self.ranks.size == 1 else generator.rows_of(self.ranks.share(n).start, n)

    def stream_of_parts(self, generator: Generator, size: int) -> Generator:
        """The same for :meth:`parts`, of which every process draws one at a time."""
        if self.ranks.size == 1 or not self.in_parts(size):
            return self.stream(generator)
        return generator.rows_of(self.ranks.rank * size, self.ranks.size * size)

    def _read(self, index: Index, sparse: bool = False) -> Tensor:
        if isinstance(self.source, Resident) and not sparse:
            return self.source.rows(index).to(self.dtype)
        if isinstance(index, Tensor):  # the source reads on the CPU
            index = index.cpu().numpy()
        if sparse:
            return torch_csr(self.source.sparse_rows(index), self.device).to(self.dtype)
        if self.ranks.size > 1 and not len(range(self.source.shape[0])[index] if isinstance(index, slice) else index):
            rows = np.zeros((0, self.source.shape[1]), self.source.dtype)
            return tensor_of(rows, self.device).to(self.dtype)
        read = tensor_of(self.source.rows(index))  # type: ignore[arg-type]
        if self.device.type == "cuda":  # from page-locked memory, so that the next batch is read meanwhile
            read = read.pin_memory().to(self.device, non_blocking=True)
        return read.to(self.device, self.dtype)
