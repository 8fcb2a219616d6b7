"""Tables in text files: ``.csv`` and ``.csv.gz`` of numbers, and columns of texts; read a line at a time."""

from __future__ import annotations

import csv
import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rarefire.component import nearest
from rarefire.data.checks import reading, shown
from rarefire.data.source import ArraySource, Description, Source
from rarefire.data.text import text_lines, text_source
from rarefire.errors import InputError

FIRST_ROWS = 100
"""How many rows tell whether a column holds texts or numbers."""

_LONGEST_CELL = 2**31 - 1
"""The most that csv's own limit on a cell can be on every system."""

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
        If a cell is no finite number or a line has too few or too many cells (the message names file, line
        and column), if the first line mixes names and numbers, if a named column is missing or there twice,
        if texts are read with other columns, if there are no rows, or no word in enough texts.
    """
    path = Path(path)
    with _table(path, column) as (labels, named, picked, rows):
        if column is not None and len(picked) == 1:
            head = list(itertools.islice(rows, FIRST_ROWS))
            rows = itertools.chain(head, rows)
            if _are_texts(row[picked[0]] for _, row in head):
                return text_source((row[picked[0]] for _, row in rows), path, vocabulary)
        return _numbers(path, labels, named, picked, rows)


def text_columns(path: Path, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The cells of these columns as they are, a tuple for each row.

    Raises
    ------
    InputError
        If the file is broken, or a column is missing or there twice.
    """
    with _table(path, ",".join(names)) as (_, _, picked, rows):
        return [tuple(row[i] for i in picked) for _, row in rows]


@contextmanager
def _table(path: Path, column: str | None) -> Iterator[tuple[list[str], bool, list[int], Iterator[_Row]]]:
    """What the columns are called, whether by a header, which of them are read, and the rows."""
    with reading(path, "a CSV file"), _long_cells(column is not None), text_lines(path) as lines:
        table = csv.reader(lines, strict=True)
        first = next((row for row in table if row), [])
        names = _header(path, first, table.line_num, column is not None)
        labels = names or [f"column {i + 1}" for i in range(len(first))]
        yield labels, names is not None, _pick(path, labels, column), _rows(path, table, first, names is not None)


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


def _numbers(path: Path, labels: list[str], named: bool, picked: list[int], rows: Iterator[_Row]) -> Source:
    values, line_of_row = array("d"), array("q")
    for line, row in rows:
        try:
            values.extend([float(row[i]) for i in picked])
        except ValueError:
            bad = next(i for i in picked if not _is_number(row[i]))
            raise _bad_cell(path, line, labels[bad], row[bad]) from None
        line_of_row.append(line)
    if not picked or not line_of_row:
        raise InputError(f"{path} has no rows below its header; give at least one")
    matrix = np.frombuffer(values, dtype=np.float64).reshape(len(line_of_row), len(picked))
    for row_number, entry in np.argwhere(~np.isfinite(matrix))[:1]:
        cell = str(matrix[row_number, entry])
        raise _bad_cell(path, line_of_row[row_number], labels[picked[entry]], cell)
    if not named:
        return ArraySource(matrix, Description(path.name))
    return ArraySource(matrix, Description(path.name, "named", feature_names=tuple(labels[i] for i in picked)))


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
        "correct it, or choose columns with --column (a column of texts on its own)"
    )
