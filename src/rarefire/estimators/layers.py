"""What the machines of a stack make of rows, as the rows that the next machine learns."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rarefire.data.origins import Origin
from rarefire.data.source import ArraySource, Description, Source
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.random import Generator
from rarefire.types import tensor_of


class LayerSource(Source):
    """What the machines below make of rows: samples drawn anew for every epoch, or probabilities.

    Which numbers a draw takes follows from the seed, the epoch and the rows that are asked for together, so that a run
    that goes on draws what it would have drawn.

    Parameters
    ----------
    source : Source
        The rows.
    machines : sequence of BoltzmannMachine
        The lowest first.
    hand_over : {"sample", "mean"}
        What each layer hands on.
    seed : int
        Fixes the draws.
    epoch : int
        The epoch that they are for.
    """

    def __init__(
        self, source: Source, machines: Sequence[BoltzmannMachine], hand_over: str, seed: int, epoch: int = 0
    ) -> None:
        self.source = source
        self.machines = machines
        self.hand_over = hand_over
        self.seed = seed
        self.epoch = epoch
        self.description = Description(f"{source.description.name} through {len(machines)} layers")

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, units of the highest machine)."""
        return self.source.shape[0], len(self.machines[-1].hidden_bias)

    @property
    def dtype(self) -> np.dtype:
        """That of the rows."""
        return self.source.dtype

    def rows(self, index: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        """What the rows at ``index`` become, of shape (len(index), units)."""
        state = tensor_of(self.source.rows(index)).to(self.machines[0].weight.dtype)
        asked = np.arange(*index.indices(self.shape[0]), dtype=np.int64) if isinstance(index, slice) else index
        generator = Generator(self.seed, "hand-over", len(self.machines), self.epoch, zlib.crc32(asked.tobytes()))
        for machine in self.machines:
            mean = machine.hidden_mean(state)
            state = machine.hidden.sample(mean, generator) if self.hand_over == "sample" else mean
        return state.numpy()

    @property
    def block_rows(self) -> int | None:
        """As of the raw rows."""
        return self.source.block_rows

    def read_ahead(self, start: int, stop: int) -> None:
        """Of the raw rows."""
        self.source.read_ahead(start, stop)

    def origins(self, index: NDArray[np.int64]) -> Sequence[Origin] | None:
        """Those of the rows: codes of a patch come from where the patch does."""
        return self.source.origins(index)

    def photograph(self, number: int, longest_side: int = 480) -> NDArray[np.uint8]:
        """As of the rows."""
        return self.source.photograph(number, longest_side)

    def at_epoch(self, epoch: int) -> Source:
        """Drawn for this epoch."""
        if self.hand_over == "mean":
            return self
        return LayerSource(self.source.at_epoch(epoch), self.machines, self.hand_over, self.seed, epoch)

    def kept(self) -> ArraySource:
        """All rows as they are now, drawn once and for all."""
        return ArraySource(np.concatenate(list(self.batches())), self.description, provenance=self.source)

    @cached_property
    def fingerprint(self) -> str:
        """Of the rows, the machines and the way they hand on."""
        digest = hashlib.sha256(f"{self.source.fingerprint} {self.hand_over} {self.seed}".encode())
        for machine in self.machines:
            for tensor in machine.parameters.values():
                digest.update(tensor.numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"
