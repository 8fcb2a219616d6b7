"""Pure functions that measure: cost, activity, likelihood, edge-likeness, coherence, average precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def metric(name: str, value: Any, unit: str = "", explanation: str = "") -> dict[str, Any]:
    """An entry of ``metrics.json``: a number, its unit and what it means in one line."""
    number = value.item() if hasattr(value, "item") else value
    return {"name": name, "value": number, "unit": unit, "explanation": explanation}


def against(
    entry: dict[str, Any], published: float, source: str, *, tolerance: float, better: str = "equal"
) -> dict[str, Any]:
    """An entry with the published figure beside it.

    Parameters
    ----------
    published : float
        The figure, as the source gives it.
    source : str
        Which document gives it.
    tolerance : float
        How far a value may be from it and still be ``within``.
    better : {"lower", "higher", "equal"}
        Which way a value beats the figure; one that does is within.
    """
    gap = entry["value"] - published
    excess = {"lower": gap, "higher": -gap, "equal": abs(gap)}[better]
    return {
        **entry,
        "published": published,
        "source": source,
        "tolerance": tolerance,
        "better": better,
        # Rounding in the last place must not decide.
        "within": bool(excess <= tolerance * (1 + 1e-12)),
    }


def expected(entry: dict[str, Any], words: str, met: bool) -> dict[str, Any]:
    """An entry with what should come out beside it, in words, where no figure was published; and whether it did."""
    return {**entry, "expected": words, "within": bool(met)}


def median_of(fits: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Each entry's median over fits that have the same entries, by name."""
    return {name: median([fit[name] for fit in fits]) for name in fits[0]}


def median(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same entry of several fits as one: their median, with the range in ``low`` and ``high`` and in words."""
    values = np.array([entry["value"] for entry in entries], dtype=float)
    if len(values) == 1:
        return entries[0]
    spread = f"median of {len(values)} fits, {values.min():.4g} to {values.max():.4g}"
    first = entries[0]
    entry = metric(first["name"], float(np.median(values)), first["unit"], f"{first['explanation']}; {spread}")
    return {**entry, "low": float(values.min()), "high": float(values.max())}
