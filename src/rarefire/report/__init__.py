"""One self-contained HTML page: what was trained, how it went, and what each feature stands for.

The page is a Jinja2 template with escaping on. Numbers and pictures travel in it as JSON, which its script
draws; a content security policy allows that script and the page's style, by their hashes, and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from numpy.typing import NDArray

from rarefire.features import FeatureTable
from rarefire.plots import column_names, drawn_shape, example_mode, grey_rows, strongest

if TYPE_CHECKING:  # which packs its arrays as this module does
    from rarefire.report.trying import Trying

N_WEIGHTS = 12  # columns named for a unit
N_VALUES = 8  # and for each of its examples
N_WORDS = 24  # words named for a unit: one alone says less than a column that someone named
N_DOCUMENT_WORDS = 20  # and for each of its examples
N_OPTIMAL = 8  # columns named for an optimal input
N_RETURNED = 12  # columns of a row and of what comes back of it

#: Examples of a unit, by what the page calls them: the names of the table's arrays.
GROUPS = {"strongest": "example", "median": "median", "threshold": "threshold"}

#: In the order in which they run.
SCRIPTS = ("vendor/uPlot.iife.min.js", "base.js", "charts.js", "grid.js", "notes.js", "unit.js", "page.js")

#: Characters of a text that would not show: control characters but for tab and newline, those that turn the direction
#: of what follows them, and halves of pairs, which no file can hold.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: The same, and characters that mean something to HTML or to JavaScript.
_UNSAFE = re.compile(f"[<>&\u2028\u2029]|{_HIDDEN.pattern}")


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Parameters
    ----------
    title, subtitle : str
        The page's name, and in one sentence what was trained on what.
    facts : list of (str, str)
        Names and values: estimator, data, rows, seed, versions.
    history : list of dict
        One record an epoch; any of ``epoch``, ``cost``, ``cost_mean_field``, ``validation_cost``,
        ``validation_cost_mean_field``, ``free_energy_gap``, ``active_mean``, ``active_max``, ``zeros``,
        ``objective``, ``reconstruction``, ``penalty``, ``weight_decay``, ``learning_rate`` and ``momentum``.
    cost_label : str
        The unit of the cost: "nats per pixel".
    metrics : list of dict
        ``name`` and ``value``; optionally ``unit`` and ``explanation``, and where a figure was published
        ``published``, ``source``, ``tolerance``, ``better`` ("lower", "higher" or "equal") and ``within``; or
        ``expected``, in words, and ``within``.
    table : FeatureTable, optional
        The features.
    figures : list of (str, bytes)
        Captions and PNG files.
    key_figures : list of (str, str, str)
        Names, values with their units, and a line of explanation each.
    run : str
        What tells the run from others: notes are kept by it.
    notes : dict of str to str
        What a person wrote of units, by their numbers.
    trying : Trying, optional
        What it takes to try an input; only with a table.
    contexts : dict, optional
        Where the table's examples come from: see :mod:`rarefire.contexts`.
    layers : list of (str, list of dict, str)
        Of a deep network the names of its machines, their histories and units of cost.
    active : str
        When a unit counts as active.
    """

    title: str
    subtitle: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    cost_label: str = ""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    table: FeatureTable | None = None
    figures: list[tuple[str, bytes]] = field(default_factory=list)
    key_figures: list[tuple[str, str, str]] = field(default_factory=list)
    run: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    trying: Trying | None = None
    contexts: dict[str, Any] | None = None
    layers: list[tuple[str, list[dict[str, Any]], str]] = field(default_factory=list)
    active: str = ""


def build_page(page: Page) -> str:
    """The whole HTML file as text."""
    scripts = [asset(name) for name in SCRIPTS]
    styles = asset("vendor/uPlot.min.css") + asset("style.css")
    if page.trying is not None:
        styles += asset("try.css")
        if not page.trying.refusal:
            scripts += [asset("compute.js"), page.trying.formulas, asset("try.js")]
    histories = [history_columns(history) for history in (page.history, *(history for _, history, _ in page.layers))]
    return template("page.html.j2").render(
        page=page,
        policy=content_policy(scripts, styles),
        # Markup: files of our own, without a closing tag of their element in them.
        styles=Markup(styles),
        scripts=[Markup(script) for script in scripts],
        data=embed_json(
            {
                "run": page.run,
                "notes": page.notes,
                "histories": histories,
                "features": table_data(page.table),
                "contexts": _visible_contexts(page.contexts),
                "reconstructions": reconstructions(page.table),
            }
        ),
        trying_data=embed_json(page.trying.data) if page.trying else None,
        metrics=[{**metric, "verdict": verdict(metric)} for metric in page.metrics],
        has_reconstructions=bool(page.table and page.table.inputs.shape[0]),
        drawn=bool(page.table and _drawn_shape(page.table)),
        rows="documents" if page.table and page.table.description.kind == "words" else "rows",
        any_published=any(metric.get("within") is not None for metric in page.metrics),
        curves=_all_curves(page, histories),
        figures=[(caption, base64.b64encode(png).decode()) for caption, png in page.figures],
    )


def template(name: str) -> Template:
    """A template among the assets, with escaping on."""
    environment = Environment(
        loader=PackageLoader("rarefire.report", "assets"),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment.get_template(name)


def content_policy(scripts: Sequence[str], styles: str) -> str:
    """A content security policy that allows these inline scripts, this inline style and embedded images only.

    Nor can a script turn text into markup or code: what would do so takes a trusted type, and there is none.
    """

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src {hashed(styles)}",
            f"script-src {' '.join(map(hashed, scripts))}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def visible(text: str) -> str:
    """A text with characters that would not show, or would turn others around, written out."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def embed_json(value: Any) -> Markup:
    """JSON that can stand inside a script element whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def history_columns(history: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    """The records as columns, None where a value is missing or not finite; epochs count from 1 by default."""
    keys = {key: None for record in history for key in record if key != "epoch"}
    columns: dict[str, list[float | None]] = {
        "epoch": [record.get("epoch", place) for place, record in enumerate(history, start=1)]
    }
    for key in keys:
        values = [record.get(key) for record in history]
        if all(value is None or isinstance(value, int | float | np.number) for value in values):
            columns[key] = [_short(value) for value in values]
    return columns


def _short(value: Any) -> float | None:
    """Seven digits are what float32 holds and more than a curve shows."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.7g}")


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """An array as little-endian bytes in base64; the script's ``unpack`` is the inverse."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": data}


def table_data(table: FeatureTable | None) -> dict[str, Any] | None:
    """What the script draws the features from.

    Images and plain vectors come as the grey values of :mod:`rarefire.plots`, so that its scale rule stands
    once; words, named columns and plain vectors come as the columns that matter most, with their values. Plain
    vectors too wide for a strip are treated as named columns, so that what is sparse stays small here too.
    """
    if table is None:
        return None
    kind, shape = table.description.kind, _drawn_shape(table)
    n_units = len(table.components)
    if kind == "plain" and shape is None:
        kind = "named"
    data: dict[str, Any] = {
        "kind": kind,
        "untied": table.untied,
        "n_units": n_units,
        "share_active": pack(table.share_active.astype(np.float32)),
        "mean_code": pack(table.mean_code.astype(np.float32)),
        "norm": pack(table.norm.astype(np.float32)),
        "dead": table.dead.tolist(),
        "always_on": table.always_on.tolist(),
        "coherence": pack(table.coherence),
        "gabor_fit": pack(table.gabor_fit.astype(np.float32)) if np.isfinite(table.gabor_fit).any() else None,
        "edge_like": table.edge_like.tolist(),
        "npmi": pack(table.npmi.astype(np.float32)) if np.isfinite(table.npmi).any() else None,
        "n_surveyed": table.n_surveyed,
        "histogram": pack(table.histogram.astype(np.int32)),
        "code_range": pack(table.code_range),
        "active_histogram": pack(table.active_histogram.astype(np.int32)),
        "together_index": pack(table.together_index.astype(np.int32)),
        "together_correlation": pack(table.together_correlation),
        "together_share": pack(table.together_share),
        "alike_index": pack(table.alike_index.astype(np.int32)),
        "alike_cosine": pack(table.alike_cosine),
        "example_groups": {name: getattr(table, f"{key}_index").shape[1] for name, key in GROUPS.items()},
        "example_index": pack(_of_groups(table, "index").astype(np.int32)),
        "example_codes": pack(_of_groups(table, "codes").astype(np.float32)),
    }
    if shape is not None:
        examples = table.example_rows.toarray()
        mode = example_mode(examples)
        data |= {
            "image_shape": shape,
            "images": pack(grey_rows(table.components)),
            "limits": pack(np.abs(table.components).max(axis=1)),
            "optimal_images": pack(grey_rows(table.optimal)) if table.untied else None,
            "example_images": pack(grey_rows(examples, mode=mode)),
            "example_mode": mode,
        }
    if kind != "image":
        data |= _top_columns(table)
    return data


def _drawn_shape(table: FeatureTable) -> tuple[int, int, int] | None:
    return drawn_shape(table.description, table.components.shape[1])


def _top_columns(table: FeatureTable) -> dict[str, Any]:
    """The columns that tell most of each unit, of its optimal input and of its examples.

    Of an example these are the ones where value × optimal input is largest, which is what brought the code about;
    for words with its sign, so that those that excite the unit come first. Where there are too few, place −1 and
    value 0 fill up.
    """
    words = table.description.kind == "words"
    n_units, n_features = table.components.shape
    examples = _of_groups(table, "index")
    n_examples = examples.shape[1]
    n_weights = min(N_WORDS if words else N_WEIGHTS, n_features)
    n_values = min(N_DOCUMENT_WORDS if words else N_VALUES, n_features)
    n_optimal = min(N_OPTIMAL, n_features)
    top = np.full((n_units, n_weights), -1)
    optimal = np.full((n_units, n_optimal), -1)
    example_top = np.full((n_units, n_examples, n_values), -1)
    example_values, example_drives = np.zeros((2, n_units, n_examples, n_values), dtype=np.float32)
    rows = table.example_rows
    for unit, weights in enumerate(table.optimal):
        chosen = strongest(table, unit, n_weights)
        top[unit, : len(chosen)] = chosen
        optimal[unit] = np.argsort(-weights if words else -np.abs(weights), kind="stable")[:n_optimal]
        for rank, place in enumerate(examples[unit]):
            if place < 0:
                continue
            there = slice(rows.indptr[place], rows.indptr[place + 1])
            columns, values = rows.indices[there], rows.data[there]
            drive = values * weights[columns]
            order = np.argsort(-drive if words else -np.abs(drive), kind="stable")[:n_values]
            example_top[unit, rank, : len(order)] = columns[order]
            example_values[unit, rank, : len(order)] = values[order]
            example_drives[unit, rank, : len(order)] = drive[order]
    # Only the names that are shown: a vocabulary can be far larger than what the page says of it.
    used = np.unique(np.concatenate([top.ravel(), optimal.ravel(), example_top.ravel()]))
    used = used[used >= 0]
    names = column_names(table.description, n_features)

    def places(columns: NDArray[np.int64]) -> dict[str, Any]:
        return pack(np.where(columns < 0, -1, np.searchsorted(used, columns)).astype(np.int32))

    data = {
        "names": [visible(names[column]) for column in used],
        "top_names": places(top),
        "top_weights": pack(np.take_along_axis(table.components, top, axis=1) * (top >= 0)),
        "example_names": places(example_top),
        "example_values": pack(example_values),
        "example_drives": pack(example_drives),
        "example_sizes": pack(np.diff(rows.indptr).astype(np.int32)),
    }
    if table.untied:
        data["optimal_names"] = places(optimal)
        data["optimal_values"] = pack(np.take_along_axis(table.optimal, optimal, axis=1))
    return data


def _visible_contexts(contexts: dict[str, Any] | None) -> dict[str, Any] | None:
    """Contexts with what would not show of their texts written out."""

    def shown(entry: dict[str, Any] | None) -> dict[str, Any] | None:
        return entry and {key: visible(value) if isinstance(value, str) else value for key, value in entry.items()}

    return contexts and {key: [shown(entry) for entry in entries] for key, entries in contexts.items()}


def _of_groups(table: FeatureTable, what: str) -> NDArray[Any]:
    """The examples' positions or codes, those of one group after those of another."""
    return np.concatenate([getattr(table, f"{name}_{what}") for name in GROUPS.values()], axis=1)


def reconstructions(table: FeatureTable | None) -> dict[str, Any] | None:
    """Some rows and what comes back of them: pictures and their difference, or columns with both values.

    A difference is drawn on the scale of its row. Columns are those that come back largest, of those that the row has
    and of the others.
    """
    if table is None or table.inputs.shape[0] == 0:
        return None
    rows: list[list[tuple[str, float | None, float | None]]] = []
    if _drawn_shape(table) is not None:
        inputs = table.inputs.toarray()
        mode = example_mode(inputs)
        limit = 1.0 if mode == "positive" else np.abs(inputs).max(axis=1, keepdims=True)
        return {
            "rows": [[]] * len(inputs),
            "input": pack(grey_rows(inputs, limit, mode)),
            "output": pack(grey_rows(table.outputs, limit, mode)),
            "difference": pack(grey_rows(table.outputs - inputs, limit)),
        }
    names = column_names(table.description, table.components.shape[1])
    for place, returned in enumerate(table.outputs):
        given = table.inputs[[place]].toarray()[0]
        order = np.argsort(-np.abs(returned), kind="stable")
        # First some that the row has, which tell what it is; then what comes back without having been there.
        there = given[order] != 0
        order = np.concatenate([order[there][: N_RETURNED // 2], order[~there][: N_RETURNED // 2]])
        rows.append([(visible(names[i]), _short(given[i]), _short(returned[i])) for i in order])
    return {"rows": rows}


def verdict(metric: dict[str, Any]) -> str:
    """How a figure compares with the published one, in words; empty where there is none to compare with."""
    published, within = metric.get("published"), metric.get("within")
    if within is not None and "expected" in metric:
        return "✓ as expected" if within else "✗ not as expected"
    if published is None or within is None:
        return ""
    tolerance: float | None = metric.get("tolerance")
    allowed = "" if tolerance is None else f" ±{number(tolerance)}"
    sign = {"lower": -1.0, "higher": 1.0}.get(str(metric.get("better")), 0.0)
    if within and sign * (metric["value"] - published) > (tolerance or 0.0):
        return "✓ better than published"
    return f"✓ within{allowed}" if within else f"✗ not within{allowed}"


def number(value: Any) -> str:
    """A value for reading: four significant digits, thousands apart, a dash for nothing."""
    if value is None:
        return "—"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float | np.floating):
        return format(value, ",.0f" if 1e4 <= abs(float(value)) < 1e9 else ".4g").replace("-", "−")
    return str(value)


def _all_curves(page: Page, histories: Sequence[dict[str, list[float | None]]]) -> list[dict[str, Any]]:
    """The charts of the run, and those of cost of its layers, with the places of their histories."""
    curves: list[dict[str, Any]] = [{**one, "of": 0} for one in curve_summaries(histories[0], page.cost_label)]
    for place, (name, _, cost_label) in enumerate(page.layers, start=1):
        for one in curve_summaries(histories[place], cost_label)[:1]:
            curves.append({**one, "title": f"{one['title']} of {visible(name)}", "of": place})
    return curves


def curve_summaries(history: dict[str, list[float | None]], cost_label: str) -> list[dict[str, str]]:
    """The charts that there are values for, with their last values in words for those who cannot see them."""
    charts = (
        (
            "cost",
            "Cost",
            f"in {cost_label}" if cost_label else "",
            {"cost": "training", "validation_cost": "held out"},
        ),
        (
            "objective",
            "Objective",
            "what training lowers, and its parts",
            {
                "objective": "objective",
                "penalty": "penalty",
                "weight_decay": "weight decay",
            },
        ),
        ("active", "Active units", "units active on a row", {"active_mean": "mean", "active_max": "maximum"}),
        ("zeros", "Zero codes", "share of codes that are exactly zero", {"zeros": "zeros"}),
        ("gap", "Free-energy gap", "held out minus training, in nats", {"free_energy_gap": "gap"}),
    )
    summaries = []
    for key, title, unit, columns in charts:
        last = {
            name: next((value for value in reversed(history[column]) if value is not None), None)
            for column, name in columns.items()
            if column in history
        }
        words = ", ".join(f"{name} {number(value)}" for name, value in last.items() if value is not None)
        # Units that are never exactly zero, such as sigmoids, have no such share to follow.
        if words and (key != "zeros" or any(history["zeros"])):
            summaries.append({"key": key, "title": title, "unit": unit, "last": words})
    return summaries


def asset(name: str) -> str:
    """A file among the assets, as text."""
    return resources.files("rarefire.report").joinpath("assets", name).read_text(encoding="utf-8").strip()
