"""Schedules for learning rate and momentum over the course of a fit, and averaging of weights over time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real
from typing import ClassVar

from rarefire.arguments import Number, Rule
from rarefire.component import Component
from rarefire.types import Tensors


class Schedule(Component, ABC):
    """Number that depends on how far a fit has come."""

    @abstractmethod
    def at(self, progress: float) -> float:
        """The value when the share ``progress`` (0 to 1) of all epochs is done."""


class Switch(Schedule):
    """One value, then another.

    Parameters
    ----------
    first, second : float
        The values before and from the switch on.
    when : float
        The share of all epochs after which the second value holds.

    Examples
    --------
    >>> Switch(1.0, 3.0).at(0.49), Switch(1.0, 3.0).at(0.5)
    (1.0, 3.0)
    """

    rules: ClassVar[dict[str, Rule]] = {"when": Number(0, 1)}

    def __init__(self, first: float = 0.5, second: float = 0.9, when: float = 0.5) -> None:
        self.first = first
        self.second = second
        self.when = when

    def at(self, progress: float) -> float:
        """``first`` while progress < ``when``, then ``second``."""
        return self.first if progress < self.when else self.second


class Linear(Schedule):
    """Constant at first, then a straight line to the last value at the end of the fit.

    Parameters
    ----------
    first, last : float
        The value up to ``when``, and the one that the line heads for: an epoch takes the value at its beginning, so
        that the last of n epochs is one nth of the way short of it.
    when : float
        The share of all epochs after which the line begins; 0 begins at once.

    Examples
    --------
    >>> Linear(1.0, 0.0, when=0.5).at(0.75)
    0.5
    """

    rules: ClassVar[dict[str, Rule]] = {"when": Number(0, 1)}

    def __init__(self, first: float = 0.1, last: float = 0.0, when: float = 0.0) -> None:
        self.first = first
        self.last = last
        self.when = when

    def at(self, progress: float) -> float:
        """``first`` up to ``when``, from there linearly to ``last``."""
        done = max(0.0, progress - self.when) / (1 - self.when)
        return self.first + done * (self.last - self.first)


def value_at(value: float | Schedule, progress: float) -> float:
    """A number as it is, a schedule at this point of the fit."""
    return float(value) if isinstance(value, Real) else value.at(progress)  # type: ignore[union-attr]


def update_average(average: Tensors, parameters: Tensors, decay: float) -> None:
    """Exponential average over epochs, in place: average ← decay·average + (1 − decay)·parameters.

    The first call copies the parameters, so the average is never pulled towards the start's zeros.
    """
    for name, value in parameters.items():
        if name in average:
            average[name].lerp_(value, 1 - decay)
        else:
            average[name] = value.clone()
