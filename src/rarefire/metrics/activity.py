"""Which units are active, dead or always on: each definition stands here, once.

Active
    sampled on, for the units of a machine; non-zero, for ReLU and thresholded units; above zero, for units that leak
    below it (leaky ReLU, ELU); rate above 0.5, for sigmoid and tanh.
Dead
    never active on any training row; for machines, never E[h|v] > 0.5.
Always on
    active on every training row; for machines, E[h|v] > 0.5 on every row.
Zeros
    the share of exact zeros among the codes of the held-out rows (the training rows where none are held out), dead
    units included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ActiveCount:
    """How many units are active on a row: the mean and the maximum over rows."""

    mean: float
    maximum: int


def active_count(active: NDArray[np.bool_]) -> ActiveCount:
    """Count the active units of each row of ``active``, of shape (n_rows, n_units)."""
    per_row = active.sum(axis=1)
    return ActiveCount(float(per_row.mean()), int(per_row.max()))


def share_of_zeros(codes: NDArray[np.floating]) -> float:
    """The share of exact zeros among codes of shape (n_rows, n_units)."""
    return float(np.mean(codes == 0))


@dataclass(frozen=True)
class UnitActivity:
    """What each unit does over the training rows; every field has shape (n_units,)."""

    mean_code: NDArray[np.float64]
    share_active: NDArray[np.float64]

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Units that are never active."""
        return self.share_active == 0

    @property
    def always_on(self) -> NDArray[np.bool_]:
        """Units that are active on every row."""
        return self.share_active == 1


def unit_activity(batches: Iterable[tuple[NDArray[np.floating], NDArray[np.bool_]]]) -> UnitActivity:
    """Sum up pairs (codes, active), each of shape (n_rows, n_units), over all batches."""
    total = n_active = np.float64(0)
    n_rows = 0
    for codes, active in batches:
        total = total + codes.sum(axis=0, dtype=np.float64)
        n_active = n_active + active.sum(axis=0)
        n_rows += len(codes)
    return UnitActivity(np.asarray(total / n_rows), np.asarray(n_active / n_rows))
