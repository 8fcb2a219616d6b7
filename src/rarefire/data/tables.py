"""Tables of numbers in text files: ``.csv`` and ``.csv.gz``, read a line at a time."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from rarefire.component import nearest
from rarefire.data.checks import check_expansion, reading, shown
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError


def load_csv(path: Path | str, column: str | None = None) -> Source:
    """A table of numbers with commas between cells, plain or gzipped, in UTF-8; read as float64.

    The first line is a header when none of its cells is a number, and always when ``column`` is given.

    Parameters
    ----------
    path : Path or str
        ``.csv`` or ``.csv.gz``.
    column : str, optional
        Names of columns, separated by commas; all columns when left out.

    Raises
    ------
    InputError
        If a cell is no finite number or a line has too few or too many cells (the message names file, line
        and column), if the first line mixes names and numbers, if a named column is missing or there twice,
        or there are no rows.
    """
    path = Path(path)
    with reading(path, "a CSV file"), _text(path) as lines:
        table = csv.reader(lines, strict=True)
        first = next((row for row in table if row), [])
        first_line = table.line_num
        names = _header(path, first, first_line, column is not None)
        labels = names or [f"column {i + 1}" for i in range(len(first))]
        picked = _pick(path, labels, column)
        values, line_of_row = array("d"), array("q")
        for row in table if names else itertools.chain([first], table):
            if not row:
                continue
            if len(row) != len(first):
                raise InputError(
                    f"{path}, line {table.line_num} has {len(row)} cells where line {first_line} has "
                    f"{len(first)}; give every line the same number, with commas between them"
                )
            try:
                values.extend([float(row[i]) for i in picked])
            except ValueError:
                bad = next(i for i in picked if not _is_number(row[i]))
                raise _bad_cell(path, table.line_num, labels[bad], row[bad]) from None
            line_of_row.append(table.line_num)
    if not line_of_row:
        raise InputError(f"{path} has no rows of numbers below its header; give at least one")
    matrix = np.frombuffer(values, dtype=np.float64).reshape(len(line_of_row), len(picked))
    for row_number, entry in np.argwhere(~np.isfinite(matrix))[:1]:
        cell = str(matrix[row_number, entry])
        raise _bad_cell(path, line_of_row[row_number], labels[picked[entry]], cell)
    if names is None:
        return ArraySource(matrix, Description(path.name))
    return ArraySource(matrix, Description(path.name, "named", feature_names=tuple(labels[i] for i in picked)))


def _header(path: Path, first: list[str], line: int, wanted: bool) -> list[str] | None:
    """The names in the first line, or None when it holds numbers."""
    numeric = [_is_number(cell) and "_" not in cell for cell in first]
    if all(numeric) and not wanted:
        return None
    if any(numeric) and not wanted:
        name, number = first[numeric.index(False)], first[numeric.index(True)]
        raise InputError(
            f"{path}, line {line} mixes text ('{shown(name)}') and numbers ('{shown(number)}'), so it may "
            "be a header or a row; correct it, or name the columns to read with --column"
        )
    return [cell.strip() or f"column {i + 1}" for i, cell in enumerate(first)]


def _pick(path: Path, labels: list[str], column: str | None) -> list[int]:
    """The indices of the columns to read."""
    if column is None:
        return list(range(len(labels)))
    picked = []
    for name in (part.strip() for part in column.split(",")):
        if labels.count(name) != 1:
            there = ", ".join(map(shown, labels[:20])) + (", ..." if len(labels) > 20 else "")
            fault = "has no column" if name not in labels else f"has {labels.count(name)} columns named"
            raise InputError(f"{path} {fault} '{name}' (there are: {there}){nearest(name, labels)}")
        picked.append(labels.index(name))
    return picked


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _bad_cell(path: Path, line: int, label: str, cell: str) -> InputError:
    what = f"the cell '{shown(cell)}'" if cell.strip() else "an empty cell"
    return InputError(
        f"{path}, line {line}, column '{shown(label)}': {what} is no finite number; "
        "correct it, or choose columns with --column"
    )


class _Bounded(io.RawIOBase):
    """An unpacking stream that stops where :func:`check_expansion` does."""

    def __init__(self, stream: gzip.GzipFile, path: Path) -> None:
        self.stream, self.path, self.count = stream, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.stream.read(len(buffer))
        self.count += len(piece)
        check_expansion(self.path, self.count)
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self.stream.close()
        super().close()


def _text(path: Path) -> io.TextIOWrapper:
    if path.suffix.lower() != ".gz":
        return path.open(encoding="utf-8-sig", newline="")
    return io.TextIOWrapper(io.BufferedReader(_Bounded(gzip.open(path), path)), encoding="utf-8-sig", newline="")
