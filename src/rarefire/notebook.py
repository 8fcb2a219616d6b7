"""A run as a notebook shows it."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from rarefire.artifact import RunDirectory
from rarefire.report import number, verdict
from rarefire.report.compact import boxed, cost_curve, features, note, text
from rarefire.runs import table_of, title_of


class Run:
    """A run directory that shows itself in a notebook: what it is, its figures, some features, its cost by epoch.

    It loads no estimator and runs no code that the run names; :func:`rarefire.load` gives the estimator.

    Parameters
    ----------
    path : str or Path
        A directory that the command line, ``save`` or ``fit`` with ``checkpoint_dir`` wrote.

    Raises
    ------
    InputError
        If it is no run, or damaged.

    Examples
    --------
    In a notebook, the last line of a cell::

        rf.Run("runs/digits")
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._directory = RunDirectory(path)
        self._directory.spec()

    def __repr__(self) -> str:
        return f"Run({str(self._directory)!r})"

    def _repr_html_(self) -> str:
        run = self._directory
        spec = run.spec()
        data = spec.get("data", {})
        estimator = str(spec["estimator"].get("class")).rpartition(".")[2]
        facts = [estimator, *([f"{data['name']}, {data['n_rows']:,} rows of {data['n_features']:,}"] if data else [])]
        facts += [f"seed {spec['seed']}"] + ([] if run.complete else [f"unfinished; {run.way_on} goes on with it"])
        parts = [
            f'<p style="margin:.25em 0"><strong>{text(title_of(spec))}</strong></p>',
            note(text(" · ".join(facts))),
        ]
        if run.table.is_file():
            table = table_of(run)
            parts.append(features(table.components, table.description))
            dead, on = int(table.dead.sum()), int(table.always_on.sum())
            parts.append(note(f"{len(table.norm):,} units, {dead:,} of them dead, {on:,} always on"))
        parts.append(cost_curve(run.history()))
        for name, layer in run.layers():
            if curve := cost_curve(layer.history()):
                parts.append(note(text(name)) + curve)
        parts.append(_figures(run.metrics()))
        if run.page.is_file():
            address = quote(os.fsencode(os.path.relpath(run.page)))
            parts.append(
                note(f'<a href="{address}" style="color:inherit">every feature on its page</a> ({text(run.page)})')
            )
        return boxed(*parts)


def _figures(metrics: list[dict[str, Any]]) -> str:
    """The entries of ``metrics.json`` as a table, published figures beside them."""
    if not metrics:
        return ""
    lines = []
    for metric in metrics:
        published = metric.get("published")
        beside = metric.get("expected") or "" if published is None else f"published {number(published)}"
        cells = (f"{number(metric['value'])} {metric.get('unit') or ''}", f"{beside} {verdict(metric)}")
        row = "".join(f'<td style="text-align:left">{text(cell.strip())}</td>' for cell in cells)
        lines.append(f'<tr><th scope="row" style="text-align:left">{text(metric["name"])}</th>{row}</tr>')
    # Published figures are what one looks for; without any the table can wait.
    shown = " open" if any(metric.get("within") is not None for metric in metrics) else ""
    return f"<details{shown}><summary>{len(metrics)} figures</summary><table>{''.join(lines)}</table></details>"
