"""What is refused before a fit begins, for the rows that it is given."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from rarefire.data.source import Source
from rarefire.errors import InputError
from rarefire.parallel import ranks

#: Arguments in which processes may differ: rank 0's seed is that of all, and it alone writes and speaks.
_OWN = ("random_state", "checkpoint_dir", "verbose", "device")


def check_rows(estimator: Any, source: Source) -> None:
    """See that arguments mean something for these rows.

    Raises
    ------
    InputError
        If products of float64 rows, which always are full, are to be rounded.
    """
    parts = {f" of {name}": machine for name, machine in getattr(estimator, "named", [])}
    for name, part in {"": estimator, **parts}.items():
        if part.precision != "full" and source.dtype == np.float64:
            raise InputError(
                f"precision={part.precision!r}{name} is for float32 rows, and these are float64; give them as float32 "
                "(X.astype('float32'), or a .npy file of float32), or leave it at 'full'"
            )


def check_processes(estimator: Any) -> None:
    """See that arguments mean something for as many processes as there are.

    Raises
    ------
    InputError
        If columns are to be sampled, which one process draws, and there are several.
    """
    if ranks().size > 1 and getattr(estimator, "reconstruction_sampling", None) is not None:
        raise InputError(
            "reconstruction_sampling draws columns in one process, and there are several; start one, or unset it"
        )


def check_agreement(estimator: Any, source: Source) -> None:
    """See that all processes, each of which is to call this, were given the same.

    Raises
    ------
    InputError
        If their rows differ, by shape or by the first of them, or their arguments do.
    """
    together = ranks()
    if together.size == 1:
        return
    if not together.same((source.shape, zlib.crc32(source.rows(slice(0, 1)).tobytes()))):
        raise InputError(
            "the processes were given different rows; give all rows to each, and it takes its share of every batch"
        )
    if not together.same(_plain_arguments(estimator)):
        raise InputError("the processes were given different arguments; give the same to each")


def _plain_arguments(estimator: Any) -> dict[str, str]:
    """Arguments, those of parts too, as far as processes must agree on them and they can be told by their text."""
    plain = (bool, int, float, str, type(None), np.generic)
    return {
        name: repr(value) if isinstance(value, plain) else type(value).__qualname__
        for name, value in estimator.get_params().items()
        if name.rpartition("__")[2] not in _OWN
    }
