"""Base of every swappable part: its arguments are its whole state, so it can be written down and looked up."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import re
from collections.abc import Collection, Iterable
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


def members(family: type[T]) -> list[type[T]]:
    """Every concrete, public class below ``family``, once, in the order of definition."""
    found: dict[type[T], None] = {}  # a class with two bases is met twice
    children: list[type[T]] = family.__subclasses__()
    for child in children:
        if not inspect.isabstract(child) and not child.__name__.startswith("_"):
            found[child] = None
        found |= dict.fromkeys(members(child))
    return list(found)


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
    what = f"{called(family)} named '{name}'{nearest(name, names)}"
    raise InputError(f"there is no {what} (there are: {', '.join(names)})")


def called(family: type) -> str:
    """What a member of a family is called in a sentence."""
    return str(vars(family).get("called", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", family.__name__).lower()))


def to_spec(value: Any) -> Any:
    """Write a constructor's argument as JSON; components and estimators become class and arguments.

    Raises
    ------
    InputError
        If the value is of a kind that a run directory cannot hold, or of a class that no module names.
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
        if cls.__module__ == "__main__" or "." in cls.__qualname__:
            raise InputError(
                f"{cls.__name__} cannot be saved in a run, because no other program finds {cls.__module__}."
                f"{cls.__qualname__}; put it at the top level of a module of its own and import it from there"
            )
        arguments = {key: to_spec(entry) for key, entry in value.get_params(deep=False).items()}
        return {"class": f"{cls.__module__}.{cls.__qualname__}", "arguments": arguments}
    raise InputError(
        f"a value of type {type(value).__name__} cannot be saved in a run; use numbers, strings, lists or components"
    )


def from_spec(spec: Any, family: type = BaseEstimator, trusted: Collection[str] = ()) -> Any:
    """The inverse of :func:`to_spec`, with tuples for lists.

    Parameters
    ----------
    spec : JSON value
        What :func:`to_spec` gave.
    family : type
        What a class named at the top must be a concrete, public subclass of.
    trusted : collection of str
        Modules beside this package that the specification may name, and packages, with what is below them. They alone
        are imported, and only where they are named.

    Raises
    ------
    InputError
        If the specification names a class that may not be built, that is not there or not of the family, or
        arguments that it does not have.
    """
    if isinstance(spec, list):
        return tuple(from_spec(entry, family, trusted) for entry in spec)
    if not isinstance(spec, dict):
        return spec
    if "float" in spec:
        if str(spec["float"]) not in _NON_FINITE:
            raise InputError("the specification holds a float that is none of inf, -inf and nan; make the run again")
        return _NON_FINITE[str(spec["float"])]
    if "class" not in spec:
        raise InputError("the specification holds an object that names no class; the run must be made again")
    cls = _class_of(str(spec["class"]), family, trusted)
    arguments = {key: from_spec(entry, BaseEstimator, trusted) for key, entry in spec["arguments"].items()}
    try:
        known: set[str] = set(cls._get_param_names())
    except RuntimeError as error:  # scikit-learn's, of a constructor that takes *args
        raise InputError(f"{cls.__name__} cannot be built ({error}); give it arguments by name") from None
    if unknown := sorted(set(arguments) - known):
        raise InputError(
            f"{cls.__name__} of this version has no argument '{unknown[0]}'; use the version that wrote it"
        )
    return cls(**arguments)


def import_trusted(module: str) -> None:
    """Import a module of the user's, which puts its classes among the members of their families.

    Raises
    ------
    InputError
        If it cannot be imported.
    """
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a module of the user's may raise
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"the module {module} cannot be imported ({why}); put its folder into PYTHONPATH") from error


def _class_of(path: str, family: type, trusted: Collection[str]) -> Any:
    module = path.rpartition(".")[0]
    ours = module.split(".")[0] == "rarefire"
    if not ours:
        if not any(module == one or module.startswith(f"{one}.") for one in trusted):
            allow = f"unless you trust its module: --trust {module}, or trusted=[{module!r}] in Python"
            possible = all(part.isidentifier() for part in path.split(".")) and module
            raise InputError(
                f"the specification names {path[:200]}, which is not part of rarefire; nothing of it is loaded "
                + (allow if possible else "and the run must be made again")
            )
        import_trusted(module)
    classes: list[type] = list(members(family))
    by_path = {f"{member.__module__}.{member.__qualname__}": member for member in classes}
    if path not in by_path:
        whose = "this version of rarefire" if ours else module
        what = "component" if family is BaseEstimator else called(family)
        raise InputError(
            f"the specification names {path[:200]}, but {whose} has no {what} of that name; use the version that wrote "
            "it"
        )
    return by_path[path]
