"""Times of things done side by side, in one process and in turns, so that what else the machine does meets them all."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


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


def waited_for(do: Callable[[], Any], device: torch.device) -> Callable[[], None]:
    """With the time that the device takes to end what it was told to do."""

    def wait() -> None:
        do()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return wait


def ceilings(n: int, device: torch.device) -> dict[str, float]:
    """What square matrix products of n rows reach on a device, in GFLOP a second: the best of several."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(n, n, device=device).to(dtype)
        multiply = waited_for(lambda a=a: a @ a, device)
        best = float("inf")
        for _ in range(10):
            began = time.perf_counter()
            multiply()
            best = min(best, time.perf_counter() - began)
        found[name] = 2 * n**3 / best / 1e9
    return found


def run(measure: Callable[[bool], Any]) -> None:
    """Print as JSON what a benchmark finds, and what products reached beside it: the best before and after."""
    cpu = torch.device("cpu")
    before = ceilings(2048, cpu)
    found = measure("--quick" in sys.argv)
    after = ceilings(2048, cpu)
    reached = {kind: max(before[kind], after[kind]) for kind in before}
    print(json.dumps({"found": found, "gflops": reached}, indent=1))
