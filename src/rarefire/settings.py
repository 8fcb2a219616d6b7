"""Settings as text, ``key=value``: components by name, then their arguments; unknown keys get the nearest name."""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sklearn.base import BaseEstimator

from rarefire.arguments import check, family_of
from rarefire.component import find, label, nearest
from rarefire.errors import InputError

#: Arguments that an option of their own sets.
OPTION_OF = {
    "random_state": "--seed",
    "device": "--device",
    "checkpoint_dir": "--out",
    "validation_fraction": "--validation",
    "verbose": "--quiet or --json",
    "warm_start": "rarefire.load and fit, in Python",
}

_WORDS = {"none": None, "true": True, "false": False, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def parse_value(text: str) -> Any:
    """A Python number, string, list, ``none``, ``true`` or ``false``; anything else is a string."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def parse_pairs(pairs: Iterable[str], option: str = "--set") -> list[tuple[str, Any]]:
    """``key=value`` texts as pairs.

    Raises
    ------
    InputError
        If a text has no equals sign or no key.
    """
    parsed: list[tuple[str, Any]] = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{option} {pair!r} is not of the form key=value")
        # Arguments that would be called by a word of Python's, such as "from", have an underscore at their end.
        name = f"{key.strip()}_" if keyword.iskeyword(key.strip()) else key.strip()
        if name in dict(parsed):
            raise InputError(f"{option} {key.strip()} is given twice; give it once")
        parsed.append((name, parse_value(value.strip())))
    return parsed


def apply(
    target: Any,
    pairs: Iterable[tuple[str, Any]],
    also: Collection[str] = (),
    options: Mapping[str, str] = OPTION_OF,
) -> Any:
    """Set arguments of an estimator or a recipe in the order given.

    A name sets a component (``penalty=MeanActivity``), two underscores its argument (``penalty__target=0.02``).

    Parameters
    ----------
    target : estimator, recipe or component
        What is changed, and given back.
    pairs : iterable of (key, value)
        What to set.
    also : collection of str
        Other keys that the user could have meant.
    options : mapping of str to str
        Keys that are not set here, and the option that each belongs to.

    Raises
    ------
    InputError
        If a key is unknown or belongs to an option of its own, if a value is of a wrong type, or if an argument of
        something that has none is asked for.
    """
    for key, value in pairs:
        head, below, tail = key.partition("__")
        if key in options:
            raise InputError(f"{key} is not set by --set; use {options[key]}")
        known = {name: part for name, part in target.get_params().items() if "__" not in name}
        if head not in known:
            name = label(type(target))
            close = nearest(head, [*known, *also])
            who = f"neither the recipe nor {name} has an" if also else f"{name} has no"
            raise InputError(f"{who} argument '{head}'{close} ({name} has: {', '.join(known) or 'none'})")
        if below:
            part = known[head]
            if not isinstance(part, BaseEstimator):
                raise InputError(
                    f"{key} cannot be set, because {head} is {part!r}; choose one first with --set {head}=NAME"
                )
            # Set again, because a part that nobody holds yet was made for this question.
            target.set_params(**{head: apply(part, [(tail, value)], options={})})
            continue
        family: Any = family_of(target, head) if head in target.get_params(deep=False) else None
        chosen: Any = value
        if family is not None and isinstance(value, str):
            chosen = find(family, value)()
        target.set_params(**{head: chosen})
    check(target)
    return target


def parse_step(text: str, family: type[Any]) -> Any:
    """A preparation step: ``ClipRescale``, or with arguments ``ClipRescale:low=0,high=1``."""
    name, _, arguments = text.partition(":")
    step = find(family, name)()
    # A comma inside of brackets belongs to the value: shape=(8,8).
    parts = re.split(r",(?![^()\[\]]*[)\]])", arguments)
    return apply(step, parse_pairs(filter(None, parts), "--prepare"))
