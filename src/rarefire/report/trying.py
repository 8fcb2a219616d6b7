"""What a page needs to compute codes and reconstructions of an input that its reader gives.

Every preparation step, activation and unit type says in its own class how it is computed in JavaScript. Those of a
fitted model become one script of formulas; weights and fitted arrays travel beside it as JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rarefire.activations import Activation
from rarefire.data.source import Description
from rarefire.errors import InputError
from rarefire.features import FeatureTable
from rarefire.plots import image_shape
from rarefire.preprocess import Step
from rarefire.report import pack, visible
from rarefire.types import Affine

#: Values of weights and steps that a page carries at the most: 16 MiB where they are of float32.
MOST_VALUES = 2**22
#: Rows to begin from, and examples of units among which the range of values is looked for.
N_EXAMPLES, N_CANDIDATES = 8, 256


@dataclass(frozen=True)
class Trying:
    """The section of a page in which an input can be tried.

    Parameters
    ----------
    data : dict
        What ``compute.js`` and ``try.js`` read.
    formulas : str
        The script of formulas.
    refusal : str
        In place of both: a sentence on why there is nothing to try, and what to do.
    """

    data: dict[str, Any] = field(default_factory=dict)
    formulas: str = ""
    refusal: str = ""


def trying(model: Any, steps: Sequence[Step], raw: Description, table: FeatureTable) -> Trying:
    """The section for a fitted model, the fitted steps before it, what raw rows are, and the table of its features."""
    try:
        parts = Parts(single=model.weights[0].dtype == torch.float32)
        up, down = model.ways
        data = {
            "single": parts.single,
            "prepare": [parts.step(step, "javascript", "apply") for step in steps],
            "encode": [parts.layer(layer) for layer in up],
            "decode": [parts.layer(layer) for layer in down],
            **_restoring(parts, steps),
            "codes": _code_range(up[-1].law),
            "either_sign": getattr(up[-1].law, "either_sign", False),
        }
    except InputError as error:
        return Trying(refusal=str(error))
    # Before the values become text, which takes time.
    if (n_values := sum(array.size for array in parts.arrays)) > MOST_VALUES:
        return Trying(
            refusal=f"To try an input here takes {n_values:,} values of weights and preparation, and a page carries at "
            f"most {MOST_VALUES:,}; rarefire encode computes the codes of new rows."
        )
    shared = raw
    for step in steps[: data["level"]]:
        shared = step.describe(shared)
    low, high, examples = _beginnings(table, steps)
    n_columns = steps[0].n_features_in_ if steps else up[0].weight.shape[1]
    # Inverses of steps leave next to nothing where a word is not there.
    words = [np.flatnonzero(row > 0.5).tolist() for row in examples] if raw.kind == "words" else None
    data |= {
        "arrays": [pack(array) for array in parts.arrays],
        "input": {**_told(raw), "n": n_columns, "low": low, "high": high},
        "output": _told(shared),
        "examples": _listed(examples) if words is None else words,
    }
    return Trying(data, parts.script())


class Parts:
    """Arrays and formulas as they are met, each array once; what refers to them are places."""

    def __init__(self, single: bool) -> None:
        self.single = single
        self.arrays: list[NDArray] = []
        self.formulas: list[str] = []
        self._places: dict[int, tuple[int, Any]] = {}

    def array(self, values: Any) -> int:
        """The place of a tensor or an array; tied weights are one and the same."""
        if id(values) not in self._places:
            array = np.asarray(values)
            # Gains of whitening can be so large that what they multiply must be as exact as Python has it.
            self.arrays.append(array.astype(np.float32 if array.dtype == np.float32 else np.float64))
            self._places[id(values)] = len(self.arrays) - 1, values  # kept, so that no other takes its id
        return self._places[id(values)][0]

    def formula(self, text: str, part: Any) -> int:
        """The place of an expression with the arguments of its part that it names."""
        given = {name: value for name, value in part.get_params(deep=False).items() if _names(text, name)}
        numbers = {name: float(value) for name, value in given.items()}
        if self.single:  # to such rows NumPy and torch compare numbers of that precision
            with np.errstate(over="ignore"):
                numbers = {name: float(np.float32(value)) for name, value in numbers.items()}
        # json.dumps writes infinity as JavaScript does.
        self.formulas.append(f"  {{ arguments: {json.dumps(numbers)}, of: (x, p) => {text} }},")
        return len(self.formulas) - 1

    def layer(self, layer: Affine) -> dict[str, int]:
        """Places of a layer's weight, bias and function."""
        family, method = ("activation", "__call__") if isinstance(layer.law, Activation) else ("unit type", "mean")
        text = stated(layer.law, "javascript", method)
        if text is None:
            raise InputError(_missing(layer.law, family, "an expression in x, the layer's input"))
        return {
            "weight": self.array(layer.weight),
            "bias": self.array(layer.bias),
            "formula": self.formula(text, layer.law),
        }

    def step(self, step: Step, attribute: str, method: str) -> dict[str, Any]:
        """Places of a step's expression and of the arrays that it names."""
        text = stated(step, attribute, method)
        if text is None:
            raise InputError(_missing(step, "preparation step", "an expression in x, the row"))
        arrays = step.javascript_arrays(np.dtype(np.float32 if self.single else np.float64))
        return {
            "formula": self.formula(text, step),
            "arrays": {name: self.array(array) for name, array in arrays.items() if _names(text, name)},
        }

    def script(self) -> str:
        """The formulas, in the order of their places."""
        return "\n".join(['"use strict";', "const formulas = [", *self.formulas, "];"])


def stated(part: Any, attribute: str, method: str) -> str | None:
    """The JavaScript that a part's class states for a method; None where a class below has another method."""

    def depth(name: str) -> int:
        mro = type(part).__mro__
        return next((place for place, cls in enumerate(mro) if name in vars(cls)), len(mro))

    return getattr(part, attribute) if depth(attribute) <= depth(method) else None


def _names(text: str, name: str) -> bool:
    return re.search(rf"\bp\.{name}\b", text) is not None


def _missing(part: Any, family: str, what: str) -> str:
    return (
        f"An input cannot be tried here, because the {family} {type(part).__name__} does not say how it is computed in "
        f"JavaScript; give its class the attribute javascript, {what}, and build the page again (rarefire report)."
    )


def _restoring(parts: Parts, steps: Sequence[Step]) -> dict[str, Any]:
    """The inverses of the last steps, up to the first that has none, and how many steps stand before those."""
    inverses = []
    level = len(steps)
    while level and stated(steps[level - 1], "javascript_inverse", "inverse_transform") is not None:
        inverses.append(parts.step(steps[level - 1], "javascript_inverse", "inverse_transform"))
        level -= 1
    return {"restore": inverses, "level": level}


def _code_range(law: Any) -> list[float] | None:
    """The smallest and the largest code; None where there is no such."""
    span = law.range if isinstance(law, Activation) else law.support
    return list(span) if span is not None and all(map(math.isfinite, span)) else None


def _told(description: Description) -> dict[str, Any]:
    """Kind, shape and names of rows."""
    return {
        "kind": description.kind,
        "shape": image_shape(description.shape) if description.shape else None,
        "names": [visible(name) for name in description.feature_names or ()],
    }


def _beginnings(table: FeatureTable, steps: Sequence[Step]) -> tuple[float, float, NDArray]:
    """The range of raw values, and raw rows to begin from: the table's inputs, or else some of its examples."""
    apart = -(-table.example_rows.shape[0] // N_CANDIDATES)
    examples = _raw(np.unique(table.example_rows[::apart].toarray(), axis=0), steps)
    inputs = _raw(table.inputs.toarray(), steps)
    both = np.concatenate([examples, inputs])
    if not len(both):
        return 0.0, 1.0, both
    low, high = float(both.min()), float(both.max())
    if low > -1e-3 and high < 1 + 1e-3:
        low, high = 0.0, 1.0
    rows = inputs if len(inputs) else examples
    spread = np.unique(np.linspace(0, len(rows) - 1, N_EXAMPLES).round().astype(int))
    return low, high if high > low else low + 1, rows[spread]


def _raw(prepared: NDArray, steps: Sequence[Step]) -> NDArray:
    """Raw rows of which the steps make these.

    Inverses take them back, and steps without one may leave them as they are; what does not become the same prepared
    row again is left out.
    """
    rows = prepared
    lost = any(not hasattr(step, "inverse_transform") and step.n_outputs != step.n_features_in_ for step in steps)
    if lost or not len(rows):
        return np.zeros((0, steps[0].n_features_in_ if steps else rows.shape[1]))
    with np.errstate(all="ignore"):  # what overflows is no such row
        for step in reversed(steps):
            rows = step.inverse_transform(rows) if hasattr(step, "inverse_transform") else rows
        again = rows
        for step in steps:
            again = step.apply(again)
        return rows[(np.abs(again - prepared) <= 1e-3 * np.abs(prepared).max(initial=0)).all(axis=1)]


def _listed(rows: NDArray) -> list[list[float]]:
    """Rows as numbers of six digits, which is what a field shows; the inverse of a step rounds the others."""
    return [[float(f"{value:.6g}") for value in row] for row in rows]
