"""Which rows are for training, and which are held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rarefire.errors import InputError
from rarefire.random import Generator


class Split(NamedTuple):
    """Positions of the training rows and of the held-out rows, each ascending."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split_rows(n_rows: int, fraction: float | None, early_stopping: bool, seed: int) -> Split:
    """Draw the rows that are held out.

    Parameters
    ----------
    fraction : float or None
        Share of the rows; None is 0.1 with early stopping, and none without.

    Raises
    ------
    InputError
        If no row would be left on one side.
    """
    if fraction is None:
        fraction = 0.1 if early_stopping else 0.0
    if fraction == 0:
        if early_stopping:
            raise InputError("early_stopping needs held-out rows; give a validation_fraction above 0")
        return Split(np.arange(n_rows), np.arange(0))
    n_held_out = round(fraction * n_rows)
    if not 0 < n_held_out < n_rows:
        raise InputError(
            f"validation_fraction={fraction} of {n_rows} rows leaves {n_held_out} rows held out and "
            f"{n_rows - n_held_out} for training; give more rows (--patch cuts many from each picture) or another "
            "fraction (--validation)"
        )
    order = Generator(seed, "split").permutation(n_rows)
    return Split(np.sort(order[n_held_out:]), np.sort(order[:n_held_out]))
