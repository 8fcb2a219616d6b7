"""Two runs side by side: which features of the one are those of the other, and the page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rarefire.features import FeatureTable
from rarefire.metrics.likeness import directions
from rarefire.plots import column_names, drawn_shape, grey_rows, signed_names, strongest
from rarefire.report import (
    asset,
    content_policy,
    embed_json,
    history_columns,
    number,
    pack,
    template,
    verdict,
    visible,
)

#: Cosines between units at the most: with as many the search takes half a minute to three minutes and 3 GiB.
MOST_COSINES = 10_000**2
N_NAMES = 6  # columns named for a unit


@dataclass(frozen=True)
class Matching:
    """One-to-one pairs of units of two runs, A and B.

    Parameters
    ----------
    pairs : ndarray of int of shape (n_pairs, 2)
        A unit of A and one of B, the most alike first.
    cosine : ndarray of shape (n_pairs,)
        Of their components; negative where they are of opposite sign.
    nearest : pair of ndarray of int, of shape (n_units of A,) and (n_units of B,)
        For each unit the most alike of the other run, whether or not it is paired with that; −1 where none is alike.
    nearest_cosine : pair of ndarray of the same shapes
        Its cosine, 0 where none is alike.
    """

    pairs: NDArray[np.int64]
    cosine: NDArray[np.floating]
    nearest: tuple[NDArray[np.int64], NDArray[np.int64]]
    nearest_cosine: tuple[NDArray[np.floating], NDArray[np.floating]]


def match(a: NDArray[np.floating], b: NDArray[np.floating], either_sign: bool = False) -> Matching:
    """Pair units so that the sum of their cosines is largest, each unit in one pair at the most.

    Of all assignments the one that maximises Σ s(aᵢ, bⱼ) over its pairs, where s is max(0, cos) of two components, or
    |cos| with ``either_sign`` (the Hungarian method). What s leaves at 0 is no pair: units without weights never are
    in one.

    Parameters
    ----------
    a, b : ndarray of shape (n_units, n_features)
        Components; the two may have different numbers of units.
    either_sign : bool
        Whether a component and its negative stand for the same feature.
    """
    cosines = directions(a) @ directions(b).T
    alike = np.abs(cosines) if either_sign else np.maximum(cosines, 0)
    rows, columns = linear_sum_assignment(alike, maximize=True)
    there = alike[rows, columns] > 0
    rows, columns = rows[there], columns[there]
    order = np.argsort(-alike[rows, columns], kind="stable")
    pairs = np.stack([rows[order], columns[order]], axis=1)
    to_b, to_a = alike.argmax(axis=1), alike.argmax(axis=0)
    of_a, of_b = cosines[np.arange(len(a)), to_b], cosines[to_a, np.arange(len(b))]
    near_a, near_b = alike.max(axis=1) > 0, alike.max(axis=0) > 0
    return Matching(
        pairs,
        cosines[pairs[:, 0], pairs[:, 1]],
        (np.where(near_a, to_b, -1), np.where(near_b, to_a, -1)),
        (np.where(near_a, of_a, 0), np.where(near_b, of_b, 0)),
    )


def why_unmatched(a: FeatureTable, b: FeatureTable) -> str:
    """Why the features of two runs cannot be matched, in one sentence; empty where they can.

    Shapes and names count where both runs know them: a plain array may hold the pixels that another run has as images.
    """
    n_a, n_b = a.components.shape[1], b.components.shape[1]
    if n_a != n_b:
        return f"The features cannot be matched: A was trained on {n_a:,} columns, B on {n_b:,}."
    of_a, of_b = a.description, b.description
    if of_a.shape and of_b.shape and of_a.shape != of_b.shape:
        shapes = [" × ".join(map(str, shape)) for shape in (of_a.shape, of_b.shape)]
        return f"The features cannot be matched: A was trained on images of {shapes[0]}, B of {shapes[1]} values."
    if of_a.feature_names and of_b.feature_names and of_a.feature_names != of_b.feature_names:
        return "The features cannot be matched: the runs' columns have different names, or stand in another order."
    if len(a.components) * len(b.components) > MOST_COSINES:
        return (
            f"The features were not matched: {len(a.components):,} × {len(b.components):,} units are too many for the "
            f"Hungarian method, which is used up to {MOST_COSINES:,} pairs."
        )
    return ""


@dataclass(frozen=True)
class Side:
    """What the page says of one of the two runs.

    Parameters
    ----------
    name : str
        That of its directory.
    title : str
        What its own page is called.
    facts : list of (str, str)
        Estimator, data, seed.
    settings : dict
        All that the run was made from, name to value, for the table of differences.
    history, cost_label, metrics, table
        As :class:`rarefire.report.Page` has them.
    link : str, optional
        The address of the run's own page, relative to this one.
    """

    name: str
    title: str
    facts: list[tuple[str, str]]
    settings: dict[str, str]
    history: list[dict[str, Any]]
    cost_label: str
    metrics: list[dict[str, Any]]
    table: FeatureTable
    link: str | None = None


def build_comparison(a: Side, b: Side, either_sign: bool = False, cautions: Sequence[str] = ()) -> str:
    """The whole HTML file as text.

    Parameters
    ----------
    a, b : Side
        The runs.
    either_sign : bool
        As for :func:`match`.
    cautions : sequence of str
        What is to be kept in mind when cosines are read, in sentences.
    """
    sides = (a, b)
    scripts = [asset("vendor/uPlot.iife.min.js"), asset("base.js"), asset("charts.js"), asset("compare.js")]
    styles = asset("vendor/uPlot.min.css") + asset("style.css") + asset("compare.css")
    reason = why_unmatched(a.table, b.table)
    matching = None if reason else match(a.table.components, b.table.components, either_sign)
    histories = [history_columns(side.history) for side in sides]
    settings = [(name, *(side.settings.get(name, "—") for side in sides)) for name in {**a.settings, **b.settings}]
    metrics = metric_rows(a.metrics, b.metrics)
    return template("compare.html.j2").render(
        sides=list(zip("AB", sides, strict=True)),
        policy=content_policy(scripts, styles),
        styles=Markup(styles),
        scripts=[Markup(script) for script in scripts],
        data=embed_json(
            {
                "runs": [
                    {"cost_label": visible(side.cost_label), "link": side.link, "history": history}
                    | ({} if matching is None else unit_data(side.table))
                    for side, history in zip(sides, histories, strict=True)
                ],
                "matching": None if matching is None else matching_data(matching),
            }
        ),
        differing=[row for row in settings if row[1] != row[2]],
        equal=[row for row in settings if row[1] == row[2]],
        metrics=metrics,
        any_published=any(row["published"] for row in metrics),
        charts=cost_charts(sides),
        reason=reason,
        either_sign=either_sign,
        cautions=cautions,
        counts=[
            (name, [counted(side.table) for side in sides])
            for name, counted in (
                ("units", lambda table: len(table.norm)),
                ("dead, active on no training row", lambda table: int(table.dead.sum())),
                ("always on, active on every one", lambda table: int(table.always_on.sum())),
                ("without weights", lambda table: int((table.norm == 0).sum())),
            )
        ],
    )


def matching_data(matching: Matching) -> dict[str, Any]:
    """The pairs and nearest units as the script unpacks them."""
    return {
        "pairs": pack(matching.pairs.astype(np.int32)),
        "cosine": pack(matching.cosine.astype(np.float32)),
        "nearest": [pack(unit.astype(np.int32)) for unit in matching.nearest],
        "nearest_cosine": [pack(cosine.astype(np.float32)) for cosine in matching.nearest_cosine],
    }


def unit_data(table: FeatureTable) -> dict[str, Any]:
    """What the script draws and says of each unit: a picture or a strip, or the columns of largest weight."""
    what, n_features = table.description, table.components.shape[1]
    data: dict[str, Any] = {
        "n_units": len(table.norm),
        "share_active": pack(table.share_active.astype(np.float32)),
        "mean_code": pack(table.mean_code.astype(np.float32)),
        "dead": table.dead.tolist(),
        "always_on": table.always_on.tolist(),
    }
    if (shape := drawn_shape(what, n_features)) is not None:
        return data | {"image_shape": shape, "images": pack(grey_rows(table.components))}
    names = column_names(what, n_features)
    told = (
        signed_names(weights, strongest(table, unit, N_NAMES), names) for unit, weights in enumerate(table.components)
    )
    return data | {"words": [visible(", ".join(one)) for one in told]}


def metric_rows(a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of both runs by name, in the order of A and then of B, ready to be shown.

    A difference stands only where both are the same figure, in the same unit.
    """
    by_name = [{metric["name"]: metric for metric in metrics} for metrics in (a, b)]
    rows = []
    for name in {**by_name[0], **by_name[1]}:
        both = [metrics.get(name) for metrics in by_name]
        there = [metric for metric in both if metric is not None]
        units = [metric.get("unit") or "" for metric in there]
        same_unit = len(set(units)) == 1
        told = [metric.get("explanation") or "" for metric in there]
        same = same_unit and len(set(told)) == 1
        published = [
            number(metric["published"]) + (f" (source {metric['source']})" if metric.get("source") else "")
            if metric.get("published") is not None
            else metric.get("expected") or ""
            for metric in there
        ]
        rows.append(
            {
                "name": name,
                "unit": units[0] if same_unit else "",
                "explanation": told[0]
                if same
                else "; ".join(f"{side}: {text}" for side, text in zip("AB", told, strict=False))
                if len(there) == 2
                else told[0],
                "cells": [
                    None
                    if metric is None
                    else {
                        "value": number(metric["value"]),
                        "unit": "" if same_unit else metric.get("unit") or "",
                        "verdict": verdict(metric),
                        "within": metric.get("within"),
                    }
                    for metric in both
                ],
                "difference": signed(there[1]["value"] - there[0]["value"]) if len(there) == 2 and same else "",
                "published": "; ".join(dict.fromkeys(filter(None, published))),
            }
        )
    return rows


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def cost_charts(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """The curves of both runs in one chart, or in one each where their costs have different units.

    Each has the places of its runs, their unit, and their last values in words for those who cannot see them.
    """
    charts: dict[str, list[int]] = {}
    last = []
    for place, side in enumerate(sides):
        parts = []
        for key, name in (("cost", "training"), ("validation_cost", "held out")):
            known = [record[key] for record in side.history if record.get(key) is not None]
            parts += [f"{name} {number(known[-1])}"] if known else []
        if parts:
            charts.setdefault(side.cost_label, []).append(place)
        last.append(f"{'AB'[place]} {', '.join(parts)}")
    return [
        {"runs": " ".join(map(str, places)), "unit": unit, "last": "; ".join(last[place] for place in places)}
        for unit, places in charts.items()
    ]
