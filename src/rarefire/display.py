"""Progress and summaries in the terminal; progress goes to standard error, so that results can be piped."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rarefire.events import ArmStarted, EpochEnded, Event, FitEnded, FitStarted, Ticked

_BARS = "▁▂▃▄▅▆▇█"

#: What is told of an epoch: its name, its key in the history, and how it is written.
_CURVES = (("cost", "cost", ".4g"), ("held out", "validation_cost", ".4g"), ("active", "active_mean", ".1f"))

#: Columns that the live cost curve takes.
_CURVE = 16

#: Seconds between two plain lines, where the output is no terminal.
_LINE_EVERY = 5.0


class _Bar(Progress):
    """A bar, and below it a line with what the last epoch brought."""

    numbers = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar's row and the line."""
        yield self.make_tasks_table(self.tasks)
        yield Text(self.numbers, no_wrap=True, overflow="ellipsis")


class LiveProgress:
    """A bar with time left above cost curve, active units and rate; plain lines where standard error is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: _Bar | None = None
        self.said = -_LINE_EVERY

    def __call__(self, event: Event) -> None:
        if isinstance(event, ArmStarted):
            self.console.print(f"{event.number} of {event.n_arms}: {event.name}", highlight=False)
        elif isinstance(event, FitStarted):
            self._start(event)
        elif isinstance(event, Ticked) and self.bar is not None:
            self.bar.update(self.task, completed=event.epochs)
        elif isinstance(event, EpochEnded):
            self._epoch(event)
        elif isinstance(event, FitEnded):
            self.close()
            self.console.print(f"{self.what}: {event.reason}", highlight=False, markup=False, soft_wrap=True)

    def _start(self, event: FitStarted) -> None:
        self.what, self.pass_name, self.n_rows = event.estimator, event.pass_name, event.n_rows
        self.costs: list[float] = []
        at = f", going on after {event.pass_name} {event.epoch}" if event.epoch else ""
        self.console.print(
            f"{event.estimator}: {event.n_rows} rows, {event.n_epochs} {event.pass_name}s{at}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        if self.console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn(event.pass_name + "s"), TimeRemainingColumn())
            self.bar = _Bar(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task("", total=event.n_epochs, completed=event.epoch)
            self.bar.start()

    def _epoch(self, event: EpochEnded) -> None:
        numbers = f"{summary(event.record)}  {event.rate(self.n_rows):,.0f} rows/s"
        epoch = event.record["epoch"]
        if math.isfinite(cost := event.record.get("cost", math.nan)):
            self.costs.append(cost)
        if self.bar is not None:
            self.bar.numbers = f"{sparkline(self.costs, _CURVE)}  {numbers}"
            self.bar.update(self.task, completed=epoch)
        elif time.monotonic() - self.said >= _LINE_EVERY or epoch == event.n_epochs:
            self.said = time.monotonic()
            self.console.print(
                f"{self.pass_name} {epoch}/{event.n_epochs}  {numbers}", highlight=False, markup=False, soft_wrap=True
            )

    def close(self) -> None:
        """Take the bar away; the terminal is left as it was."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class JsonLines:
    """One JSON object a line for each event, for machines."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout

    def __call__(self, event: Event) -> None:
        self.write({"event": type(event).__name__, **asdict(event)})

    def write(self, value: dict[str, Any]) -> None:
        """Write one line."""
        self.stream.write(json.dumps(value) + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Nothing is held open."""


def summary(record: dict[str, Any]) -> str:
    """An epoch's record in one line: cost, held-out cost, active units."""
    parts = [f"{name} {record[key]:{form}}" for name, key, form in _CURVES if key in record]
    return "  ".join(parts)


def curve_lines(history: list[dict[str, Any]]) -> Iterator[str]:
    """Cost, held-out cost and active units over the epochs, each as a line with its first and last value."""
    for name, key, form in _CURVES:
        values = [record[key] for record in history if math.isfinite(record.get(key, math.nan))]
        if values:
            ends = f"{values[0]:{form}} → {values[-1]:{form}}"
            what = f"{name} over {len(values)} epoch{'s' if len(values) > 1 else ''}"
            yield f"{what:<24}  {sparkline(values)}  {ends}"


def sparkline(values: list[float], width: int = 60) -> str:
    """Values as a line of small bars, at most ``width`` of them."""
    if not values:
        return ""
    chosen = [
        values[round(i * (len(values) - 1) / max(1, min(width, len(values)) - 1))]
        for i in range(min(width, len(values)))
    ]
    low = min(chosen)
    return bars([value - low for value in chosen])


def bars(values: list[float]) -> str:
    """Values of at least 0 as bars from their common foot; the largest is as high as a line."""
    top = max(values, default=0) or 1.0
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in values)


def metrics_table(entries: list[dict[str, Any]]) -> Table:
    """The entries of ``metrics.json`` with the published figures beside them."""
    table = Table(box=None, pad_edge=False)
    published = any("within" in entry for entry in entries)
    other = "published,\nexpected" if any("expected" in entry for entry in entries) else "published"
    for header in ("metric", "value", *((other, "") if published else ()), "unit"):
        # A name that is cut off cannot be looked up, so that where room is short the units are folded.
        justify = "right" if header in ("value", other) else "left"
        table.add_column(header, justify=justify, no_wrap=header != "unit", overflow="fold")  # type: ignore[arg-type]
    for entry in entries:
        cells = [escape(entry["name"]), number(entry["value"])]
        if published:
            verdict = {True: "within", False: "NOT within", None: ""}[entry.get("within")]
            cells += [beside(entry), verdict]
        table.add_row(*cells, escape(entry.get("unit", "")))
    return table


def beside(entry: dict[str, Any]) -> str:
    """What stands beside a figure: the published one, what was expected, or nothing."""
    return number(entry["published"]) if "published" in entry else str(entry.get("expected", ""))


def number(value: float) -> str:
    """A number with four significant digits, whole ones as they are."""
    return str(int(value)) if float(value).is_integer() else f"{value:.4g}"
