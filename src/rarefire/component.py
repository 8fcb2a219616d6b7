"""Base of every swappable part: its arguments are its whole state, so it can be written down and looked up."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

from rarefire.errors import InputError

T = TypeVar("T")

_NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


class Component(BaseEstimator):
    """A part with no state beyond its constructor's arguments (a penalty, a schedule, a unit type, a dataset).

    It inherits scikit-learn's ``BaseEstimator`` for ``get_params``, ``set_params``, ``clone`` and repr, so that
    grid search reaches inside an estimator (``penalty__strength``). Two components are equal when their types
    and arguments are.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_params() == other.get_params()

    def __hash__(self) -> int:
        return hash(type(self))


def members(family: type[T]) -> Iterator[type[T]]:
    """Every concrete, public class below ``family``, in the order of definition."""
    children: list[type[T]] = family.__subclasses__()
    for child in children:
        if not inspect.isabstract(child) and not child.__name__.startswith("_"):
            yield child
        yield from members(child)


def nearest(word: str, choices: Iterable[str]) -> str:
    """A sentence's end that names the choice most like ``word``: ``"; did you mean 'L2'?"``, or nothing."""
    lowered = {choice.lower(): choice for choice in choices}
    match = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.5)
    return f"; did you mean '{lowered[match[0]]}'?" if match else ""


def label(cls: type) -> str:
    """The name that a user types for a class: its own ``name`` if it has one, else that of the class."""
    return str(getattr(cls, "name", cls.__name__))


def find(family: type[T], name: str) -> type[T]:
    """The member of a family with this name, upper and lower case alike.

    Raises
    ------
    InputError
        If no member has the name; the message holds the nearest one and all there are.
    """
    by_name = {label(cls).lower(): cls for cls in members(family)}
    if (found := by_name.get(name.lower())) is not None:
        return found
    names = sorted(map(label, by_name.values()))
    words = getattr(family, "called", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", family.__name__).lower())
    what = f"{words} named '{name}'{nearest(name, names)}"
    raise InputError(f"there is no {what} (there are: {', '.join(names)})")


def to_spec(value: Any) -> Any:
    """Write a constructor's argument as JSON; components and estimators become class and arguments.

    Raises
    ------
    InputError
        If the value is of a kind that a run directory cannot hold.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if math.isfinite(number) else {"float": repr(number)}
    if isinstance(value, (list, tuple)):
        return [to_spec(entry) for entry in value]
    if isinstance(value, BaseEstimator):
        cls = type(value)
        arguments = {key: to_spec(entry) for key, entry in value.get_params(deep=False).items()}
        return {"class": f"{cls.__module__}.{cls.__qualname__}", "arguments": arguments}
    raise InputError(
        f"a value of type {type(value).__name__} cannot be saved in a run; use numbers, strings, lists or components"
    )


def from_spec(spec: Any, family: type = BaseEstimator) -> Any:
    """The inverse of :func:`to_spec`, with tuples for lists; only classes of this package are built.

    Raises
    ------
    InputError
        If the specification names a class outside rarefire, one that is not there, or unknown arguments.
    """
    if isinstance(spec, list):
        return tuple(from_spec(entry, family) for entry in spec)
    if not isinstance(spec, dict):
        return spec
    if "float" in spec:
        return _NON_FINITE[spec["float"]]
    module, _, name = str(spec.get("class", "")).rpartition(".")
    if module.split(".")[0] != "rarefire":
        raise InputError(f"the specification names {module}.{name}, which is not part of rarefire; it is not loaded")
    classes: list[type] = list(members(family))
    by_path: dict[str, Any] = {f"{member.__module__}.{member.__qualname__}": member for member in classes}
    cls = by_path.get(f"{module}.{name}")
    if cls is None:
        raise InputError(f"the specification names {module}.{name}, which this version of rarefire does not have")
    arguments = {key: from_spec(entry) for key, entry in spec.get("arguments", {}).items()}
    unknown = sorted(set(arguments) - set(cls._get_param_names()))
    if unknown:
        raise InputError(f"{name} of this version has no argument '{unknown[0]}'")
    return cls(**arguments)
