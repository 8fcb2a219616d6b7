"""Tables in text files: ``.csv`` and ``.csv.gz`` of numbers, and columns of texts; read a line at a time."""

from __future__ import annotations

import csv
import itertools
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rarefire.data.checks import LARGEST_EXACT, alike, reading, shown
from rarefire.data.source import ArraySource, Description, Source
from rarefire.data.text import text_lines, text_source
from rarefire.errors import InputError

FIRST_ROWS = 100
"""How many rows tell whether a column holds texts or numbers."""

_LONGEST_CELL = 2**31 - 1
"""The most that csv's own limit on a cell can be on every system."""

_WHOLE = re.compile(r"[+-]?\d+")

_Row = tuple[int, list[str]]


def load_csv(path: Path | str, column: str | None = None, vocabulary: Sequence[str] | None = None) -> Source:
    """A table of numbers with commas between cells, read as float64, or one column of texts as a bag of words.

    The file is in UTF-8, plain or gzipped. The first line is a header when none of its cells is a number, and
    always when ``column`` is given. Blank lines are no rows.

    One column that is named alone holds texts when, of its cells in the first 100 rows that are not empty, more
    are texts than numbers. Each of its cells is a document then, also one that happens to be a number, and also
    an empty one, so that row numbers stay those of the file.

    Parameters
    ----------
    path : Path or str
        ``.csv`` or ``.csv.gz``.
    column : str, optional
        Names of columns, separated by commas; all columns when left out. One name may be a column of texts.
    vocabulary : sequence of str, optional
        For a column of texts, the words of the bag of words (:func:`rarefire.data.text.bag_of_words`); chosen
        from all its cells when left out. A table of numbers has no use for it.

    Raises
    ------
    InputError
        If a cell is no finite number or an integer that float64 would round, or a line has too few or too many cells
        (the message names file, line and column), if the first line mixes names and numbers, if a named column is
        missing or there twice, if texts are read with other columns, if there are no rows, or no word in enough texts.
    """
    path = Path(path)
    with _table(path, column) as (names, picked, rows):
        texts = False
        if column is not None and len(picked) == 1:
            head = list(itertools.islice(rows, FIRST_ROWS))
            rows = itertools.chain(head, rows)
            texts = _are_texts(row[picked[0]] for _, row in head)
        if not texts:
            return _numbers(path, names, picked, rows)
    with reading(path, "a CSV file"):
        return text_source(partial(_cells, path, column), path, vocabulary)


def text_columns(path: Path, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The cells of these columns as they are, a tuple for each row.

    Raises
    ------
    InputError
        If the file is broken, or a column is missing or there twice.
    """
    with _table(path, ",".join(names)) as (_, picked, rows):
        return [tuple(row[i] for i in picked) for _, row in rows]


def _cells(path: Path, column: str | None) -> Iterator[str]:
    """The cells of one column as they are, one after the other."""
    with _table(path, column) as (_, picked, rows):
        yield from (row[picked[0]] for _, row in rows)


@contextmanager
def _table(path: Path, column: str | None) -> Iterator[tuple[list[str] | None, Sequence[int], Iterator[_Row]]]:
    """What a header calls the columns, if there is one, which of them are read, and the rows."""
    with reading(path, "a CSV file"), _long_cells(column is not None), text_lines(path) as lines:
        table = csv.reader(lines, strict=True)
        first = next((row for row in table if row), [])
        names = _header(path, first, table.line_num, column is not None)
        picked = range(len(first)) if column is None else _pick(path, names or [], column)
        yield names, picked, _rows(path, table, first, names is not None)


def _rows(path: Path, table: Any, first: list[str], header: bool) -> Iterator[_Row]:
    """Each row with the number of its last line, all as long as the first."""
    first_line = table.line_num
    if not header:
        yield first_line, first
    for row in filter(None, table):
        if len(row) != len(first):
            raise InputError(
                f"{path}, line {table.line_num} has {len(row)} cells where line {first_line} has "
                f"{len(first)}; give every line the same number, with commas between them"
            )
        yield table.line_num, row


def _numbers(path: Path, names: list[str] | None, picked: Sequence[int], rows: Iterator[_Row]) -> Source:
    values, n_rows = array("d"), 0
    for line, row in rows:
        cells = row if isinstance(picked, range) else [row[i] for i in picked]
        try:
            numbers = array("d", map(float, cells))
            # Rarely so, and then looked at cell by cell.
            doubtful = not all(-LARGEST_EXACT < n < LARGEST_EXACT for n in numbers) or "_" in "".join(cells)
        except ValueError:
            doubtful = True
        if doubtful:
            for i, cell in zip(picked, cells, strict=True):
                _check_cell(path, line, _label(names, i), cell)
        values.extend(numbers)
        n_rows += 1
    if not picked or not n_rows:
        raise InputError(f"{path} has no rows below its header; give at least one")
    matrix = np.frombuffer(values, dtype=np.float64).reshape(n_rows, len(picked))
    if names is None:
        return ArraySource(matrix, Description(path.name))
    return ArraySource(matrix, Description(path.name, "named", feature_names=tuple(names[i] for i in picked)))


def _are_texts(cells: Iterable[str]) -> bool:
    numeric = [_is_number(cell) for cell in cells if cell.strip()]
    return numeric.count(False) > numeric.count(True)


@contextmanager
def _long_cells(wanted: bool) -> Iterator[None]:
    # A long text may be in the column that is read or beside it; the limit is csv's own and has no other place.
    before = csv.field_size_limit()
    if wanted:
        csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _header(path: Path, first: list[str], line: int, wanted: bool) -> list[str] | None:
    """The names in the first line, or None when it holds numbers."""
    numeric = [_is_number(cell) for cell in first]
    if all(numeric) and not wanted:
        return None
    if any(numeric) and not wanted:
        name, number = first[numeric.index(False)], first[numeric.index(True)]
        raise InputError(
            f"{path}, line {line} mixes text ('{shown(name)}') and numbers ('{shown(number)}'), so it may "
            "be a header or a row; correct it, or name the columns to read with --column"
        )
    return [cell.strip() or f"column {i + 1}" for i, cell in enumerate(first)]


def _pick(path: Path, names: list[str], column: str) -> list[int]:
    """The indices of the columns to read."""
    picked = []
    for name in (part.strip() for part in column.split(",")):
        if names.count(name) != 1:
            there = ", ".join(map(shown, names[:20])) + (", ..." if len(names) > 20 else "")
            fault = "has no column" if name not in names else f"has {names.count(name)} columns named"
            meant = alike(name, (n for n in names if n != name))
            raise InputError(
                f"{path} {fault} '{shown(name)}'{meant}; name one that is there once ({there or 'none'}) with --column"
            )
        picked.append(names.index(name))
    return picked


def _label(names: list[str] | None, number: int) -> str:
    return names[number] if names else f"column {number + 1}"


def _is_number(cell: str) -> bool:
    # What float() takes besides, 1_000, is a name or a code in a table.
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _check_cell(path: Path, line: int, label: str, cell: str) -> None:
    where = f"{path}, line {line}, column '{shown(label)}'"
    if not _is_number(cell) or not math.isfinite(float(cell)):
        what = f"the cell '{shown(cell)}'" if cell.strip() else "an empty cell"
        raise InputError(
            f"{where}: {what} is no finite number; "
            "correct it, or choose columns with --column (a column of texts on its own)"
        )
    if _WHOLE.fullmatch(cell.strip()) and int(cell) != float(cell):
        raise InputError(
            f"{where}: the integer {shown(cell.strip())} is too large to be held exactly; "
            "write it as a float, with a point, or choose other columns with --column"
        )
