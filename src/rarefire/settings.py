"""Settings as text, ``key=value``: components by name, then their arguments; unknown keys get the nearest name."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from sklearn.base import BaseEstimator

from rarefire.component import find, nearest
from rarefire.errors import InputError

#: Arguments that an option of their own sets.
OPTION_OF = {
    "random_state": "--seed",
    "device": "--device",
    "checkpoint_dir": "--out",
    "validation_fraction": "--validation",
    "verbose": "--quiet or --json",
}

_WORDS = {"none": None, "true": True, "false": False}


def parse_value(text: str) -> Any:
    """A Python number, string, list, ``none``, ``true`` or ``false``; anything else is a string."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse_pairs(pairs: Iterable[str], option: str = "--set") -> list[tuple[str, Any]]:
    """``key=value`` texts as pairs.

    Raises
    ------
    InputError
        If a text has no equals sign or no key.
    """
    parsed = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{option} {pair!r} is not of the form key=value")
        parsed.append((key.strip(), parse_value(value.strip())))
    return parsed


def apply(target: Any, pairs: Iterable[tuple[str, Any]]) -> Any:
    """Set arguments of an estimator or a recipe in the order given.

    A name sets a component (``penalty=MeanActivity``), two underscores its argument (``penalty__target=0.02``).

    Raises
    ------
    InputError
        If a key is unknown, belongs to an option of its own, or asks for an argument of something that has none.
    """
    for key, value in pairs:
        head, _, tail = key.partition("__")
        _check_key(target, head, key)
        if tail:
            part = getattr(target, head)
            if not isinstance(part, BaseEstimator):
                raise InputError(
                    f"{key} cannot be set, because {head} is {part!r}; choose one first with --set {head}=NAME"
                )
            apply(part, [(tail, value)])
        else:
            family = getattr(target, "component_families", {}).get(head)
            chosen = find(family, value)() if family is not None and isinstance(value, str) else value
            target.set_params(**{head: chosen})
    return target


def _check_key(target: Any, head: str, key: str) -> None:
    known = target.get_params(deep=False)
    if head not in known:
        name = type(target).__name__
        raise InputError(f"{name} has no argument '{head}'{nearest(head, known)} (it has: {', '.join(known)})")
    if head in OPTION_OF and "__" not in key:
        raise InputError(f"{head} is not set by --set; use {OPTION_OF[head]}")


def parse_step(text: str, family: type[Any]) -> Any:
    """A preparation step: ``ClipRescale``, or with arguments ``ClipRescale:low=0,high=1``."""
    name, _, arguments = text.partition(":")
    step = find(family, name)()
    return apply(step, parse_pairs(filter(None, arguments.split(",")), "--prepare"))
