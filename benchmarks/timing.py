"""Times of things done side by side, in one process and in turns, so that what else the machine does meets them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def side_by_side(what: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds that each takes: median, lowest and highest of several turns, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(repeats + 1):
        for name, do in what.items():
            began = time.perf_counter()
            do()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {
        name: {"median": statistics.median(times), "low": min(times), "high": max(times)}
        for name, times in seconds.items()
    }


def told(seconds: Mapping[str, float]) -> str:
    """A median with its spread, in a unit that suits it."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds["median"] * factor >= 1 or unit == "µs":
            low, middle, high = (f"{seconds[key] * factor:.3g}" for key in ("low", "median", "high"))
            return f"{middle} {unit} ({low} to {high})"
    raise AssertionError


def times(slow: Mapping[str, float], fast: Mapping[str, float]) -> str:
    """How many times faster the second is, by the medians."""
    return f"{slow['median'] / fast['median']:.2f}×"
