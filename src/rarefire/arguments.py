"""What an argument may be: one rule each, and one sentence when it is not kept.

A class says its rules in ``rules``; an argument without one must be of the kind that its default is. Scikit-learn's
conventions leave constructors without checks, so estimators check when they are fitted, and the command line before
anything is written.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from rarefire.component import label, members
from rarefire.errors import InputError


class Rule(ABC):
    """What one argument may be."""

    @abstractmethod
    def allows(self, value: Any) -> bool:
        """Whether the value may be used."""

    @abstractmethod
    def __str__(self) -> str:
        """The end of the sentence "... must be"."""


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number, not below ``least``; None too where ``none`` is set."""

    least: int | None = None
    none: bool = False

    def allows(self, value: Any) -> bool:
        if value is None:
            return self.none
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        # Beyond 2**31 no size or count of ours has a meaning, and arrays could not be indexed.
        return whole and (-(2**31) if self.least is None else self.least) <= int(value) < 2**31

    def __str__(self) -> str:
        least = "" if self.least is None else f" of at least {self.least}"
        return f"a whole number{least}{' or None' if self.none else ''}"


@dataclass(frozen=True)
class Number(Rule):
    """A finite number in [low, high), without ``low`` itself where ``above`` is set; or a schedule, or None."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    none: bool = False
    schedule: type | None = None

    def allows(self, value: Any) -> bool:
        if value is None:
            return self.none
        if self.schedule is not None and isinstance(value, self.schedule):
            return True
        return isinstance(value, Real) and not isinstance(value, bool) and self.contains(value)

    def contains(self, value: Any) -> bool:
        """Whether a number lies in the range."""
        try:
            number = float(value)
        except OverflowError:
            return False
        lowest = number > self.low if self.above else number >= self.low
        return math.isfinite(number) and lowest and number < self.high

    @property
    def range(self) -> str:
        """The range in words."""
        if self.low == -math.inf:
            return "a finite number"
        if self.high == math.inf:
            return f"a number {'above' if self.above else 'of at least'} {self.low:g}"
        return f"a number in {'(' if self.above else '['}{self.low:g}, {self.high:g})"

    def __str__(self) -> str:
        more = [*(["a schedule"] if self.schedule else []), *(["None"] if self.none else [])]
        return " or ".join([self.range, *more])


@dataclass(frozen=True)
class Choice(Rule):
    """One of a few values."""

    values: tuple[Any, ...]

    def allows(self, value: Any) -> bool:
        # Of the same kind first, because an array equals nothing in one word.
        return any(isinstance(value, type(one)) and value == one for one in self.values)

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.values))}" if len(self.values) > 1 else repr(self.values[0])


@dataclass(frozen=True)
class Part(Rule):
    """A component of a family, or None."""

    family: type

    def allows(self, value: Any) -> bool:
        return value is None or isinstance(value, self.family)

    def __str__(self) -> str:
        family: list[type] = list(members(self.family))
        example = next(member for member in family if member.__name__ != "NoPenalty")
        return f"an instance of {self.family.__name__}, such as {label(example)}(), or None"


@dataclass(frozen=True)
class Kind(Rule):
    """Of the same kind as a default that is a bool or a string."""

    kind: type

    def allows(self, value: Any) -> bool:
        return isinstance(value, self.kind)

    def __str__(self) -> str:
        return "true or false" if self.kind is bool else "a string"


@dataclass(frozen=True)
class Several(Rule):
    """One or more values, each of which keeps a rule."""

    each: Rule

    def allows(self, value: Any) -> bool:
        return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(self.each.allows, value))

    def __str__(self) -> str:
        return f"{self.each}, or several with commas between"


@dataclass(frozen=True)
class Either(Rule):
    """What one of two rules allows."""

    one: Rule
    other: Rule

    def allows(self, value: Any) -> bool:
        return self.one.allows(value) or self.other.allows(value)

    def __str__(self) -> str:
        return f"{self.one}, or {self.other}"


@dataclass(frozen=True)
class Free(Rule):
    """Anything; whoever reads it knows better."""

    def allows(self, value: Any) -> bool:
        return True

    def __str__(self) -> str:
        return "anything"


def rules_of(cls: type) -> dict[str, Rule]:
    """The rule of every argument: the class's own, else that of its default's kind."""
    own: dict[str, Rule] = getattr(cls, "rules", {})
    defaults = {name: p.default for name, p in inspect.signature(cls).parameters.items()}
    return {name: own.get(name) or _rule_of(default) for name, default in defaults.items()}


def _rule_of(default: Any) -> Rule:
    if isinstance(default, (bool, str)):
        return Kind(type(default))
    if isinstance(default, int):
        return Whole()
    if isinstance(default, float):
        return Number()
    if isinstance(default, tuple):
        return Several(_rule_of(default[0]))
    return Free()


def family_of(part: Any, name: str) -> type | None:
    """The family of components that an argument takes, if it takes one."""
    rule = rules_of(type(part))[name]
    return rule.family if isinstance(rule, Part) else rule.schedule if isinstance(rule, Number) else None


def check(part: Any) -> None:
    """See that all arguments of a component, step, recipe or estimator may be used, and those of its parts.

    Raises
    ------
    InputError
        For the first that may not: its value, whose it is, and what it must be.
    """
    for name, rule in rules_of(type(part)).items():
        value = getattr(part, name)
        if isinstance(rule, Whole) and isinstance(value, Integral) and int(value) >= 2**31:
            raise InputError(f"{name}={value!r} of {label(type(part))} is too large; it must stay below 2**31")
        if not rule.allows(value):
            raise InputError(f"{name}={value!r} of {label(type(part))} must be {rule}")
        if hasattr(value, "get_params"):
            check(value)
