"""Where a computation runs, and what several processes that torchrun started tell one another.

Without torchrun there is one process, and nothing here does or costs anything. torch is imported where it is used, for
the command line asks :func:`is_first` of everything that it writes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from rarefire.errors import InputError, ProcessLost, RunError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")

#: How long a process waits for the others: rank 0 may fetch data or write a large checkpoint meanwhile.
TIMEOUT = timedelta(minutes=30)

#: Seconds for rank 0 to say what is wrong before another process does; where one has ended, there is less time.
GRACE, GRACE_LOST = 10.0, 1.0

_SAID = "rarefire/said"

#: What an exchange says when another process has ended or does not answer.
_LOST = re.compile("clos|connect|reset|peer|pipe|time[d ]*out|abort|exited|terminated", re.IGNORECASE)


def resolve_device(device: str) -> torch.device:
    """The device that a ``device`` argument means: ``"auto"`` is the GPU where there is one, else the CPU.

    Of several processes each has a GPU of its own, by its number on the machine.

    Raises
    ------
    InputError
        If the name is no device, or its hardware is not there.
    """
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", _own_gpu()) if n_processes() > 1 else torch.device("cuda")
    if device == "auto":
        return torch.device("cpu")
    if device.startswith("mps"):
        raise InputError(f"device {device!r} has no double precision, which sums are kept in; use 'cpu'")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError):
        others = "'auto', 'cpu' or 'cuda'" if torch.cuda.is_available() else "'auto' or 'cpu'"
        raise InputError(f"device {device!r} is not available here; use {others}") from None
    if found.type == "cuda" and n_processes() > 1 and found.index != _own_gpu():
        raise InputError(
            f"device {device!r} is one GPU, and there are several processes; device='cuda' gives each its own"
        )
    return found


def _own_gpu() -> int:
    import torch

    own, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if own >= there:
        raise InputError(
            f"each process needs a GPU of its own, and there are {there}; start as many, or set device='cpu'"
        )
    return own


def n_processes() -> int:
    """How many processes torchrun started for this job; 1 without it."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= set(os.environ):
        return 1
    from multiprocessing import current_process

    # A process that one of them started, as a search over a grid does, is none of them.
    return int(os.environ["WORLD_SIZE"]) if current_process().name == "MainProcess" else 1


def is_first() -> bool:
    """Whether this process is the only one, or rank 0 of several: the one that writes and speaks."""
    return n_processes() == 1 or os.environ["RANK"] == "0"


@dataclass(frozen=True)
class Ranks:
    """Processes that work on one fit: each on its share of every batch, all on the same parameters.

    What a method gives is the same on every process. Each must be called by all of them, in the same order.

    Parameters
    ----------
    rank, size : int
        The number of this process, from 0, and how many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> slice:
        """The part of ``n`` rows that is this process's, one after another; parts differ by one row at most."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sum of each tensor over all processes, in one exchange for each type of number.

        Raises
        ------
        ProcessLost
            If another process has ended, or does not answer; so do all that follow.
        """
        if self.size == 1:
            return tensors
        import torch
        import torch.distributed as dist

        summed: dict[str, Tensor] = {}
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
            names = [name for name, tensor in tensors.items() if tensor.dtype == dtype]
            flat = torch.cat([tensors[name].reshape(-1) for name in names])
            with _together():
                dist.all_reduce(flat)
            pieces = flat.split([tensors[name].numel() for name in names])
            summed |= {name: piece.view(tensors[name].shape) for name, piece in zip(names, pieces, strict=True)}
        return {name: summed[name] for name in tensors}

    def rows(self, own: Tensor) -> Tensor:
        """The rows of a tensor of which each process knows those of its :meth:`share`."""
        if self.size == 1:
            return own
        import torch

        whole = torch.zeros_like(own)
        whole[self.share(len(own))] = own[self.share(len(own))]
        return self.sum({"rows": whole})["rows"]

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is set on any process."""
        if self.size == 1:
            return list(flags)
        import torch
        import torch.distributed as dist

        asked = torch.tensor(flags, dtype=torch.int32)
        with _together():
            dist.all_reduce(asked, op=dist.ReduceOp.MAX)
        return asked.bool().tolist()

    def wait(self) -> None:
        """Go on when all have come here."""
        self.any(False)

    def same(self, value: Any) -> bool:
        """Whether all processes have the same value."""
        if self.size == 1:
            return True
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(values, value)
        return all(other == values[0] for other in values)

    def of_first(self, function: Callable[[], T]) -> T:
        """What a function gives on rank 0, which alone calls it; an error of rank 0 is raised by all."""
        if self.size == 1:
            return function()
        import torch
        import torch.distributed as dist

        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = function()
            except Exception as error:
                outcome[1] = error
        with _together():
            dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def first_alone(self, function: Callable[[], T]) -> T:
        """What a function gives on each process, called by rank 0 before the others: it may fetch what they find."""
        given: list[T] = []
        self.of_first(lambda: given.append(function()))
        return given[0] if given else function()

    @contextlib.contextmanager
    def first_holds(self, context: AbstractContextManager[Any]) -> Iterator[None]:
        """A context that rank 0 alone enters, such as a lock."""
        with contextlib.ExitStack() as stack:

            def enter() -> None:
                stack.enter_context(context)

            self.of_first(enter)
            yield


#: One process, which has no others.
ALONE = Ranks()


_BY_ITSELF: ContextVar[bool] = ContextVar("by itself", default=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A context in which this process works without the others, who may have gone."""
    token = _BY_ITSELF.set(True)
    try:
        yield
    finally:
        _BY_ITSELF.reset(token)


def ranks() -> Ranks:
    """The processes of this job, who meet when this is first asked for; one where this works :func:`alone`.

    Raises
    ------
    RunError
        If they do not find one another.
    InputError
        If they met in a way that leaves the CPU out.
    """
    return ALONE if n_processes() == 1 or _BY_ITSELF.get() else _met()


@functools.cache
def _met() -> Ranks:
    import torch
    import torch.distributed as dist

    try:
        if not dist.is_initialized():  # by a program of the user's
            cuda = torch.cuda.is_available()
            if cuda and (own := int(os.environ.get("LOCAL_RANK", "0"))) < torch.cuda.device_count():
                torch.cuda.set_device(own)
            store, rank, size = _meeting()
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
            atexit.register(_leave)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes of this job do not find one another ({error}); start them with torchrun"
        ) from None
    if "cpu:" not in dist.get_backend_config():
        raise InputError(
            f"the process group is {dist.get_backend_config()}, and what processes tell one another is on the CPU; "
            "init_process_group('cpu:gloo,cuda:nccl')"
        )
    return Ranks(dist.get_rank(), dist.get_world_size())


@functools.cache
def _meeting() -> tuple[Any, int, int]:
    """The store that torchrun's processes share, and this one's rank among how many."""
    import torch.distributed as dist

    store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))
    # With --max-restarts the store outlives the processes, and would hold what those before them said, and where they
    # were to be found.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"attempt {attempt}", store), rank, size


def _leave() -> None:
    import torch.distributed as dist

    with contextlib.suppress(RuntimeError):
        dist.destroy_process_group()


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """One sentence where an exchange fails, which it does when another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        # What gloo says begins with a place in its source and ends with advice.
        reason = re.sub(r"^\[\S+\] ?", "", str(error).strip().partition("\n")[0]).partition(". ")[0]
        raise ProcessLost(
            f"another process of this job has ended, or has not answered for {TIMEOUT.seconds // 60} minutes ({reason})"
        ) from None


def speaks(error: object) -> bool:
    """Whether this process is the one to say why the job ends: rank 0, or another where rank 0 says nothing.

    Most errors are those of all processes, and torchrun ends the others when rank 0 has said its own and ended. Where
    one has spoken, no other does.
    """
    if n_processes() == 1:
        return True
    lost = isinstance(error, ProcessLost)
    if lost:  # torchrun, which has seen it too, is about to end this process
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    until = time.monotonic() + (0 if is_first() else GRACE_LOST if lost else GRACE)
    while True:
        with contextlib.suppress(RuntimeError):
            if _meeting.cache_info().currsize and _meeting()[0].check([_SAID]):
                return False
        if time.monotonic() >= until:
            return True
        time.sleep(0.05)


def said() -> None:
    """Leave word for the others that this process has said why the job ends."""
    if _meeting.cache_info().currsize:
        with contextlib.suppress(RuntimeError):
            _meeting()[0].set(_SAID, "yes")
