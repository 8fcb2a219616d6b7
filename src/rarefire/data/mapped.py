"""Matrices that stay on disk: several as one, and orders that mix their rows well and read them in large pieces."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarefire.random import Generator

#: Bytes of a block, which is read as one piece, and blocks whose rows are mixed: 256 MiB together.
BLOCK_BYTES, MIXED_BLOCKS = 2**20, 256


class Stacked:
    """Arrays of one type and width, one below the other, as one array of which rows can be read.

    Parameters
    ----------
    parts : sequence of ndarray of shape (n_i, n_columns)
        The arrays; nothing is copied.
    """

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        # Indexing a memmap costs several times what indexing a plain array on its memory does.
        self.parts = [np.asarray(part) for part in parts]
        self.ends = np.cumsum([len(part) for part in parts])
        self.starts = self.ends - [len(part) for part in parts]
        self.dtype = parts[0].dtype
        self.shape = (int(self.ends[-1]), parts[0].shape[1])

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        """The rows at ``index``; a copy but for a slice of one part."""
        if isinstance(index, slice):
            start, stop, step = index.indices(self.shape[0])
            if step != 1:
                return self[np.arange(start, stop, step)]
            pieces = [part[first:last] for part, first, last in self.within(start, stop)]
            return pieces[0] if len(pieces) == 1 else np.concatenate([self.parts[0][:0], *pieces])
        rows = np.arange(self.shape[0])[index] if index.dtype == bool or (index < 0).any() else index
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        place = np.searchsorted(self.ends, rows, side="right")
        inside = rows - self.starts[place]
        touched = np.unique(place)
        if len(rows) < 4 * len(touched):  # a shuffled batch, where picking part by part costs more
            for row, number, position in zip(out, place.tolist(), inside.tolist(), strict=True):
                row[:] = self.parts[number][position]
            return out
        for number in touched:
            here = place == number
            out[here] = self.parts[number][inside[here]]
        return out

    def within(self, start: int, stop: int) -> list[tuple[NDArray[Any], int, int]]:
        """The parts that hold the rows from ``start`` on and before ``stop``, each with the rows' positions in it."""
        first, last = np.searchsorted(self.ends, (start, stop - 1), side="right").tolist()
        pieces = ((self.parts[k], int(self.starts[k]), int(self.ends[k])) for k in range(first, last + 1))
        return [(part, max(start - low, 0), min(stop, high) - low) for part, low, high in pieces if low < high]


def block_rows(array: Any) -> int | None:
    """Rows of a block of a dense matrix on disk; None for one in memory, or one that is mixed as a whole anyway.

    It follows from the matrix alone and not from the machine, so that a run gives the same bits on any.
    """
    width = array.dtype.itemsize * array.shape[1]
    parts = array.parts if isinstance(array, Stacked) else [array]
    if width * array.shape[0] <= MIXED_BLOCKS * BLOCK_BYTES or any(mapping_of(part) is None for part in parts):
        return None
    return max(1, BLOCK_BYTES // width)


def will_need(array: Any, start: int, stop: int) -> None:
    """Let the system begin to read the rows from ``start`` on and before ``stop``, without waiting for them."""
    for part, first, last in array.within(start, stop) if isinstance(array, Stacked) else [(array, start, stop)]:
        mapping = mapping_of(part)
        if mapping is None or part.strides[1] != part.itemsize or not hasattr(mmap, "MADV_WILLNEED"):
            continue
        begin = part.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data + first * part.strides[0]
        page = begin - begin % mmap.PAGESIZE
        with contextlib.suppress(OSError):  # it is a hint
            mapping.madvise(mmap.MADV_WILLNEED, page, begin - page + (last - first) * part.strides[0])


def mapping_of(array: Any) -> mmap.mmap | None:
    """The memory map that an array is a view of."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


class BlockOrder:
    """All rows of a matrix on disk in an order that comes near a random one, for reading in large pieces.

    Blocks of neighbouring rows are put in random order and cut into equal groups of at most 256, and the rows of a
    group are put in random order. A batch thus comes from as many places of the matrix as a group has blocks, while
    one group is in use and the next one is being read. Where rows are sorted by kind, which is the worst case, the
    share of a kind in a group of m blocks has a standard deviation of √(p(1 − p)/m) about its share p in the matrix:
    0.02 for p = 0.1 and 256 blocks, against 0.03 from batch to batch of 100 in any order.

    Parameters
    ----------
    n_rows, block : int
        Rows in all, and of a block.
    generator : Generator
        Draws the order.
    read_ahead : callable
        Told the first row and the one after the last of blocks that will be wanted soon.
    """

    def __init__(
        self,
        n_rows: int,
        block: int,
        generator: Generator,
        read_ahead: Callable[[int, int], None],
    ) -> None:
        n_blocks = -(-n_rows // block)
        self.block = block
        self.read_ahead = read_ahead
        self.starts = generator.permutation(n_blocks) * block
        self.stops = np.minimum(self.starts + block, n_rows)
        n_groups = -(-n_blocks // MIXED_BLOCKS)
        self.group = -(-n_blocks // n_groups)
        self.rows = np.empty(n_rows, np.int64)
        self.asked: int | None = None
        begin = 0
        for group in np.array_split(np.arange(n_blocks), n_groups):
            rows = np.concatenate([np.arange(self.starts[i], self.stops[i]) for i in group])
            self.rows[begin : begin + len(rows)] = rows[generator.permutation(len(rows))]
            begin += len(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> NDArray[np.int64]:
        """The rows at these places of the order; those of the group after them are asked for, block by block."""
        start, stop, _ = part.indices(len(self))
        if self.asked is None:
            self.asked = start // (self.block * self.group) * self.group
        wanted = min(len(self.starts), stop // self.block + self.group + 1)
        for number in range(self.asked, wanted):
            self.read_ahead(int(self.starts[number]), int(self.stops[number]))
        self.asked = max(self.asked, wanted)
        return self.rows[part]
