"""Checks that every file goes through: broken, out of proportion, not finite; each ends in one sentence."""

from __future__ import annotations

import csv
import itertools
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rarefire.component import nearest
from rarefire.data.source import ArraySource, Source
from rarefire.errors import InputError

MAX_EXPANSION = 200
ALWAYS_ALLOWED = 2**26
LARGEST_EXACT = 2**53

# What NumPy, SciPy, zipfile, gzip and csv raise on broken files.
_UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, SyntaxError, ArithmeticError,
    RuntimeError, MemoryError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, csv.Error,
)  # fmt: skip


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library raises on a broken file into one sentence that names the file.

    Raises
    ------
    InputError
        If it is no file (a folder, a pipe, a device), is empty, or cannot be read as ``kind``.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{path} is no file, so it cannot be read as {kind}; save what it gives to a file")
        if about.st_size == 0:
            raise InputError(f"{path} is empty; give a file with data")
        yield
    except InputError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
        raise InputError(f"{path} cannot be read as {kind} ({reason}); check the file, or write it again") from error


def shown(text: str) -> str:
    """A piece of a file as an error message may show it: one line, nothing a terminal obeys, not long."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= 40 else f"{plain[:40]}..."


def alike(name: str, names: Iterable[str]) -> str:
    """A sentence's end that names the one of a file's names most like this one, as :func:`nearest`, among the first."""
    return nearest(name, [n for n in itertools.islice(names, 1000) if len(n) <= 40])


def brief(number: int) -> str:
    """A number that a file claims, which may be anything, with few digits."""
    return str(number) if abs(number) < 2**64 else "over 2**64" if number > 0 else "under -2**64"


def check_expansion(path: Path, claimed: int, size: int | None = None) -> None:
    """Refuse a compressed file that would take memory out of proportion to its own size.

    Up to 64 MiB pass always, and up to 200 times the size of the file; ``size`` is that of the files in a folder.

    Raises
    ------
    InputError
        If ``claimed`` bytes are more than that.
    """
    if claimed > max(ALWAYS_ALLOWED, MAX_EXPANSION * (path.stat().st_size if size is None else size)):
        raise InputError(
            f"{path} would take at least {brief(claimed)} bytes in memory, over {MAX_EXPANSION} times its size; "
            "if you trust it, unpack it and give the unpacked file"
        )


def check_finite(source: Source) -> Source:
    """Pass a source on when every value is a finite number that is held exactly; it is read batch by batch.

    Raises
    ------
    InputError
        If a value is NaN or infinite, or an integer beyond 2**53, which float64 would round; the message
        names the source, row and column.
    """
    raw: Any = source.array if isinstance(source, ArraySource) else None
    kind = "f" if raw is None else raw.dtype.kind
    if kind == "b" or (kind in "iu" and raw.dtype.itemsize < 8):
        return source
    if sp.issparse(raw):
        bad = np.flatnonzero(unusable(raw.data))
        if len(bad):
            row = int(np.searchsorted(raw.indptr, bad[0], side="right")) - 1
            raise _unusable_at(source, row, int(raw.indices[bad[0]]), raw.data[bad[0]])
        return source
    if kind == "f" and np.isfinite(source.extremes).all():  # which whoever looks at the values next needs as well
        return source
    size = max(1, 2**20 // source.shape[1])
    for start in range(0, source.shape[0], size):
        part = slice(start, start + size)
        block = source.rows(part) if raw is None or kind == "f" else np.asarray(raw[part])
        bad_mask = unusable(block)
        if bad_mask.any():
            row, column = (int(i) for i in np.argwhere(bad_mask)[0])
            raise _unusable_at(source, start + row, column, block[row, column])
    return source


def unusable(values: NDArray[Any]) -> NDArray[np.bool_]:
    """True where a float is not finite, or an integer is beyond what float64 holds exactly."""
    if values.dtype.kind == "f":
        return ~np.isfinite(values)
    return (values > LARGEST_EXACT) | ((values < -LARGEST_EXACT) if values.dtype.kind == "i" else False)


def _unusable_at(source: Source, row: int, column: int, value: Any) -> InputError:
    names = source.description.feature_names
    where = f"row {row}, column {names[column] if names else column} (counted from 0)"
    if np.asarray(value).dtype.kind == "f":
        fault = "is not finite; replace it or drop the row"
    else:
        fault = "is an integer too large to be held exactly; save the values as floats"
    return InputError(f"{source.description.name}: the value {value} at {where} {fault}")
