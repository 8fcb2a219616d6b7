"""The only source of random numbers: explicit generators whose whole state is plain JSON."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from rarefire.errors import InputError, RunError

_TWO_POWER_MINUS_24 = 2.0**-24


def integer_seed(random_state: Any) -> int:
    """Turn scikit-learn's ``random_state`` (None, int, RandomState or Generator) into one integer seed.

    An integer is taken as it is; None draws fresh entropy; a generator is advanced by one draw.

    Raises
    ------
    InputError
        If the integer is negative.
    """
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        if random_state < 0:
            raise InputError(f"random_state={random_state} must be a whole number of at least 0")
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    return int(check_random_state(random_state).randint(2**31 - 1))


class Generator:
    """Independent random stream, fixed by a seed and the purpose that it serves.

    Draws are the same for float32 and float64: a uniform number is k / 2**24 with k uniform below 2**24, so
    P(u < p) is p rounded up to a multiple of 2**-24. On the CPU the bits come from NumPy's SFC64, which is several
    times cheaper than torch's CPU generator; on another device from torch's own. Of the 24 bits that an entry of a
    Bernoulli draw is compared by, the last 8 are common to its row there, which halves the time: the law of each
    entry is the same, rows are independent, and the covariance of two entries of a row is at most 2**-34.

    Parameters
    ----------
    seed : int
        Any non-negative integer.
    purpose : str or int, ...
        What the stream is for; streams of different purposes are independent.
    device : torch.device
        Where uniform and normal draws are made; permutations always live on the CPU.
    """

    def __init__(self, seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> None:
        words = [p if isinstance(p, int) else zlib.crc32(p.encode()) for p in purpose]
        sequence = np.random.SeedSequence([seed, *words])
        self.device = torch.device(device)
        self._bits = np.random.SFC64(sequence)
        self._numpy = np.random.Generator(self._bits)
        self._torch: torch.Generator | None = None
        if self.device.type != "cpu":
            self._torch = torch.Generator(self.device)
            self._torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Numbers in [0, 1), multiples of 2**-24, of the given shape."""
        if self._torch is not None:
            bits = torch.randint(0, 2**24, tuple(shape), generator=self._torch, device=self.device)
            return bits.to(dtype).mul_(_TWO_POWER_MINUS_24)
        size = math.prod(shape)
        # Two numbers are cut from each word of the stream, so that an odd number of them leaves no half behind.
        numbers = self._numpy.random(size + size % 2, dtype=np.float32)[:size].reshape(tuple(shape))
        return torch.from_numpy(numbers).to(dtype)

    def bernoulli(self, p: torch.Tensor) -> torch.Tensor:
        """One draw per entry, 1 with probability ``p`` and else 0, in the type and shape (n_rows, ...) of ``p``.

        On the CPU rows may be drawn together or one after the other.
        """
        if self._torch is not None:
            return self.uniform(p.shape, p.dtype).lt_(p)
        width = math.prod(p.shape[1:])
        words = self._words(len(p), width // 4 + 1)
        # u = (k + common / 2**8) / 2**16, where the bits of k are read as those of the signed number k - 2**15.
        u = words.view(np.int16)[:, :width].astype(p.numpy().dtype)
        u *= 2.0**-16
        u += np.float32(0.5) + words.view(np.uint8)[:, 2 * width, None] * np.float32(_TWO_POWER_MINUS_24)
        return torch.from_numpy(u).reshape(p.shape).lt_(p)

    def _words(self, n_rows: int, n: int) -> NDArray[np.uint64]:
        """The next words of the stream, n for each row."""
        return self._bits.random_raw(n_rows * n).reshape(n_rows, n)

    def normal(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Standard normal numbers; drawn in float64 on the CPU, so that they agree between types."""
        if self._torch is not None:
            draws = torch.randn(tuple(shape), generator=self._torch, device=self.device, dtype=torch.float64)
            return draws.to(dtype)
        return torch.from_numpy(self._numpy.standard_normal(tuple(shape))).to(dtype)

    def permutation(self, n: int) -> NDArray[np.int64]:
        """The numbers 0 to n - 1 in random order."""
        return self._numpy.permutation(n)

    def join(self, graph: torch.cuda.CUDAGraph) -> None:
        """Let a graph that is about to be recorded draw from this stream each time it is played."""
        if self._torch is not None and torch.__version__ < "2.14":  # later ones see it by themselves
            graph.register_generator_state(self._torch)

    def rows_of(self, start: int, total: int) -> Generator:
        """The same stream, in which every draw is for rows from ``start`` on of ``total``; others draw the rest.

        Streams that were equal before are equal afterwards, whichever rows each was asked for.
        """
        return _Rows(self, start, total)

    def state(self) -> dict[str, Any]:
        """The whole state, as plain JSON values."""
        inner: Any = self._bits.state
        words = [int(word) for word in inner["state"]["state"]]
        half = [int(inner["has_uint32"]), int(inner["uinteger"]) if inner["has_uint32"] else 0]
        state: dict[str, Any] = {"device": self.device.type, "sfc64": words, "half": half}
        if self._torch is not None:
            state["torch"] = base64.b64encode(self._torch.get_state().numpy().tobytes()).decode()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken.

        Raises
        ------
        RunError
            If it was taken on another kind of device, whose numbers cannot be gone on with, or is damaged.
        """
        if state.get("device") != self.device.type:
            raise RunError(
                f"the random numbers were drawn on {state.get('device')} and cannot go on on {self.device.type}; set "
                f"device={state.get('device')!r}, or begin anew"
            )
        try:
            inner: Any = self._bits.state
            inner["state"]["state"] = np.array(state["sfc64"], dtype=np.uint64)
            inner["has_uint32"], inner["uinteger"] = state["half"]
            self._bits.state = inner
            if self._torch is not None:
                raw = np.frombuffer(base64.b64decode(state["torch"]), dtype=np.uint8).copy()
                self._torch.set_state(torch.from_numpy(raw))
        except (KeyError, ValueError, TypeError, OverflowError, RuntimeError) as error:
            raise RunError(f"the state of the random numbers is damaged ({error}); begin anew") from None


class _Rows(Generator):
    """A stream of which each draw is that of a whole batch, and the rows from ``start`` on are kept."""

    def __init__(self, whole: Generator, start: int, total: int) -> None:
        self.__dict__.update(whole.__dict__)
        self._start, self._total = start, total

    def _words(self, n_rows: int, n: int) -> NDArray[np.uint64]:
        # Words that are not kept are cheap as long as nothing is made of them.
        self._bits.random_raw(self._start * n, output=False)
        words = super()._words(n_rows, n)
        self._bits.random_raw((self._total - self._start - n_rows) * n, output=False)
        return words

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return super().uniform((self._total, *shape[1:]), dtype)[self._start : self._start + shape[0]]

    def normal(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return super().normal((self._total, *shape[1:]), dtype)[self._start : self._start + shape[0]]
