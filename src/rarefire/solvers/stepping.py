"""The solvers that step along gradients of batches, as estimators name them."""

from __future__ import annotations

from collections.abc import Sequence

from rarefire.errors import InputError
from rarefire.schedules import Schedule
from rarefire.solvers import Solver
from rarefire.solvers.adam import Adam
from rarefire.solvers.sgd import SGD

#: What a learning rate of None stands for.
LEARNING_RATES = {"adam": 0.001, "sgd": 0.1}


def stepping(
    solver: str, learning_rate: float | Schedule | None, momentum: float | Schedule, columns: Sequence[str] = ()
) -> Solver:
    """The solver of this name, "adam" or "sgd"; a learning rate of None is its own.

    ``columns`` are the parameters whose gradients come by columns.
    """
    rate = LEARNING_RATES[solver] if learning_rate is None else learning_rate
    return Adam(rate, columns) if solver == "adam" else SGD(rate, momentum)


def check_momentum(solver: str, momentum: float | Schedule) -> None:
    """See that only gradient descent is given a momentum.

    Raises
    ------
    InputError
        If another solver is.
    """
    if solver != "sgd" and momentum != 0:
        raise InputError(f"momentum={momentum!r} belongs to solver='sgd', not to {solver!r}; leave it at 0")
