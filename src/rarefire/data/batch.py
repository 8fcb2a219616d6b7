"""Rows that an update is made on, as tensors: all at once, or in parts where all would not fit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarefire.data.source import ArraySource, Description, Source
from rarefire.types import Visible, tensor_of

#: Values that a part has at most: 32 MiB in float32.
PART_VALUES = 2**23


class Batch:
    """Some rows of a source, read when they are asked for.

    Parameters
    ----------
    source : Source
        Where they are.
    index : slice or ndarray of int
        Which.
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
        self.index = np.arange(source.shape[0])[index] if isinstance(index, slice) else index
        self.device = device
        self.dtype = dtype
        self.rows_of_part = max(1, PART_VALUES // source.shape[1])

    @classmethod
    def of(cls, rows: Visible) -> Batch:
        """Rows that are a tensor already."""
        batch = cls(ArraySource(rows.cpu().numpy(), Description("tensor")), slice(None), rows.device, rows.dtype)
        batch.__dict__["whole"] = rows
        return batch

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def whole(self) -> Visible:
        """All rows, of shape (len(self), n_features); kept, so that a batch that is used again is read once."""
        return self._read(self.index)

    @property
    def in_parts(self) -> bool:
        """Whether there are too many values to be worked on at once."""
        return len(self) > self.rows_of_part

    def parts(self) -> Iterator[Visible]:
        """The rows in order, in parts of at most 2**23 values each; one that is all of them is kept."""
        if not self.in_parts:
            yield self.whole
            return
        for start in range(0, len(self), self.rows_of_part):
            yield self._read(self.index[start : start + self.rows_of_part])

    def _read(self, index: NDArray[np.int64]) -> Tensor:
        return tensor_of(self.source.rows(index), self.device).to(self.dtype)
