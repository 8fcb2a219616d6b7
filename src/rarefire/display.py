"""Progress and summaries in the terminal; progress goes to standard error, so that results can be piped."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rarefire.events import ArmStarted, EpochEnded, Event, FitEnded, FitStarted, Ticked

_BARS = "▁▂▃▄▅▆▇█"

#: Seconds between two plain lines, where the output is no terminal.
_LINE_EVERY = 5.0


class LiveProgress:
    """A bar with epochs, cost, active units and time left; plain lines where standard error is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
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
        self.what, self.pass_name = event.estimator, event.pass_name
        at = f", going on after {event.pass_name} {event.epoch}" if event.epoch else ""
        self.console.print(
            f"{event.estimator}: {event.n_rows} rows, {event.n_epochs} {event.pass_name}s{at}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        if self.console.is_terminal:
            columns = (
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn(event.pass_name + "s  {task.fields[numbers]}"),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task("", total=event.n_epochs, completed=event.epoch, numbers="")
            self.bar.start()

    def _epoch(self, event: EpochEnded) -> None:
        numbers = summary(event.record)
        epoch = event.record["epoch"]
        if self.bar is not None:
            self.bar.update(self.task, completed=epoch, numbers=numbers)
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
    named = (("cost", "cost", ".4g"), ("held out", "validation_cost", ".4g"), ("active", "active_mean", ".1f"))
    parts = [f"{name} {record[key]:{form}}" for name, key, form in named if key in record]
    return "  ".join(parts)


def sparkline(values: list[float], width: int = 60) -> str:
    """Values as a line of small bars, at most ``width`` of them."""
    if not values:
        return ""
    chosen = [
        values[round(i * (len(values) - 1) / max(1, min(width, len(values)) - 1))]
        for i in range(min(width, len(values)))
    ]
    low, high = min(chosen), max(chosen)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in chosen)


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
