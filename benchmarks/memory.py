"""What memory a piece of work takes, measured in a process of its own."""

from __future__ import annotations

import ctypes
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def status(key: str, process: int | str = "self") -> float:
    """A size that the system keeps of a process, in MB; NaN where it does not."""
    path = Path(f"/proc/{process}/status")
    found = re.search(rf"{key}:\s+(\d+) kB", path.read_text()) if path.is_file() else None
    return int(found[1]) / 1024 if found else float("nan")


def grown(do: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and by how many MB memory grew at the most meanwhile; NaN where the system does not tell.

    To be called once in a process: what was freed before would be taken again without growth.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the highest size begins anew
    except (OSError, AttributeError):
        return do(), float("nan")
    before = status("VmRSS")
    result = do()
    return result, status("VmHWM") - before


def apart(do: Callable[..., T], *arguments: Any) -> T:
    """What a function gives in a process of its own, forked so that nothing is imported again.

    This process must not have computed with torch, whose threads a fork does not take along.
    """
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(do, arguments)
