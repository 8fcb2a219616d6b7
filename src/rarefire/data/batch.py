"""Rows that an update is made on, as tensors: all at once, or in parts where all would not fit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarefire.data.source import ArraySource, Description, Source
from rarefire.types import Visible, tensor_of, torch_csr

#: Values that a part has at most: 32 MiB in float32.
PART_VALUES = 2**23


class Batch:
    """Some rows of a source, read when they are asked for.

    Parameters
    ----------
    source : Source
        Where they are.
    index : ndarray of int or slice(None)
        Which; all of them.
    device, dtype : torch.device, torch.dtype
        Where tensors go, and of which type they are; by default that of the rows.
    """

    def __init__(
        self,
        source: Source,
        index: slice | NDArray[np.int64],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.source = source
        self.index = index
        self.device = device
        self.dtype = dtype

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
        """Whether most values are zero, so that :meth:`parts` gives CSR tensors."""
        return self.source.sparse

    @cached_property
    def whole(self) -> Visible:
        """All rows, dense, of shape (len(self), n_features); kept, so that a batch used again is read once."""
        return tensor_of(self.source.rows(self.index), self.device).to(self.dtype)

    def rows_of_part(self, n_hidden: int) -> int:
        """Rows of a part: at most 2**23 values of the visible, and of the hidden layer of this width."""
        return max(1, PART_VALUES // max(self.source.shape[1], n_hidden))

    def parts(self, size: int, *, sparse: bool = False) -> Iterator[Visible]:
        """The rows in order, in parts of ``size``: in torch's CSR form where they are sparse, or are asked for so.

        A dense part that is all rows is kept.
        """
        sparse = sparse or self.sparse
        if len(self) <= size and not sparse:
            yield self.whole
            return
        for start in range(0, len(self), size):
            part = slice(start, min(start + size, len(self)))
            yield self._read(part if isinstance(self.index, slice) else self.index[part], sparse)

    def _read(self, index: slice | NDArray[np.int64], sparse: bool) -> Tensor:
        if sparse:
            return torch_csr(self.source.sparse_rows(index), self.device).to(self.dtype)
        return tensor_of(self.source.rows(index), self.device).to(self.dtype)
