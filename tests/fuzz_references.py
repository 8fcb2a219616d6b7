"""What is in a file by other means than the package: NumPy, SciPy, csv, scikit-learn and Pillow."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer

from fuzz_files import IDX_TYPES, Input, as_rows, saved


def reference(given: Input) -> Any:
    """The rows of a file by other means than the package: an array, or a function that says whether rows are right."""
    name, path = os.path.basename(given.path.rstrip("/")).lower(), given.path
    if os.path.isdir(path):
        return _images(given) if not any(n.startswith("data_batch_") for n in os.listdir(path)) else _batches(given)
    if name.endswith(".bin"):
        return _batches(given)
    if name.endswith(".npy"):
        return as_rows(np.load(path, allow_pickle=False))
    if name.endswith(".npz"):
        return _archive(path, given.options.get("column"))
    content = gzip.decompress(Path(path).read_bytes()) if name.endswith(".gz") else Path(path).read_bytes()
    if name.endswith((".csv", ".csv.gz")):
        return _table(content, given.options)
    if name.endswith((".txt", ".txt.gz")):
        return _bag([line for line in re.split(r"\r\n|\r|\n", content.decode("utf-8-sig")) if line.strip()], given)
    n_axes = content[3]
    shape = struct.unpack(f">{n_axes}I", content[4 : 4 + 4 * n_axes])
    return as_rows(np.frombuffer(content[4 + 4 * n_axes :], IDX_TYPES[content[2]]).reshape(shape))


def _archive(path: str, column: str | None) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:

        def member(name: str) -> NDArray[Any]:
            return np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)

        names = {name[:-4] for name in archive.namelist() if name.endswith(".npy")}
        if not {"format", "shape"} <= names:
            return as_rows(member(names.pop() if column is None else column))
        needed = {"format", "shape", "data", "indices", "indptr", "row", "col", "coords", "offsets"}
        parts = {name: member(name) for name in names & needed}
    # As floats, which hold the sum of entries that stand in one place.
    return sp.load_npz(io.BytesIO(saved(parts))).astype(np.float64).toarray()


def _table(content: bytes, options: dict[str, Any]) -> NDArray[Any]:
    table = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    before = csv.field_size_limit(2**31 - 1)
    try:
        rows = [row for row in table if row]
    finally:
        csv.field_size_limit(before)
    names: list[str] = []
    column = options.get("column")
    if column is not None or not any(_plain(cell) for cell in rows[0]):
        names, rows = [cell.strip() or f"column {i + 1}" for i, cell in enumerate(rows[0])], rows[1:]
    if column is not None:
        picked = [names.index(part.strip()) for part in column.split(",")]
        rows = [[row[i] for i in picked] for row in rows]
        if len(picked) == 1:
            head = [cell for (cell,) in rows[:100] if cell.strip()]
            if sum(not _plain(cell) for cell in head) > len(head) / 2:
                return _bag([cell for (cell,) in rows], Input("column", "", options))
    if any("_" in cell for row in rows for cell in row):
        raise ValueError("an underscore in a number")
    for row in rows:
        for cell in row:
            if re.fullmatch(r"\s*[+-]?\d+\s*", cell) and int(cell) != float(cell):
                raise ValueError(f"{cell} is rounded")
    return np.array([[float(cell) for cell in row] for row in rows])


def _plain(cell: str) -> bool:
    with contextlib.suppress(ValueError):
        float(cell)
        return "_" not in cell
    return False


def _bag(documents: list[str], given: Input) -> NDArray[Any]:
    n = len(documents)
    vocabulary = given.options.get("vocabulary")
    least = {} if vocabulary else {"min_df": 10 if n >= 1000 else 2 if n >= 20 else 1}
    return CountVectorizer(binary=True, vocabulary=vocabulary, **least).fit_transform(documents).toarray()


def _grey(image: Image.Image) -> NDArray[np.float64]:
    if image.mode.startswith("I"):
        return np.asarray(image) / 65535
    return np.asarray(image.convert("L")) / 255


def _images(given: Input) -> Any:
    pictures = []
    for name in sorted(os.listdir(given.path)):
        with Image.open(io.BytesIO(Path(given.path, name).read_bytes())) as image:
            pictures.append(_grey(image))
    if "patch" not in given.options:
        return np.stack([picture.ravel() for picture in pictures])
    return _pieces_of(pictures, given.options["patch"])


def _pieces_of(pictures: list[NDArray[np.float64]], side: int) -> Callable[[NDArray[Any]], bool]:
    pieces = set()
    for whole in (np.round(picture * 65535).astype(np.uint16) for picture in pictures):
        if whole.size > 2**14:
            # All pieces of a large picture would not fit; its levels at least are known.
            return lambda rows: np.isin(np.round(rows * 65535), np.round(np.concatenate(pictures, None) * 65535)).all()
        windows = np.lib.stride_tricks.sliding_window_view(whole, (side, side)).reshape(-1, side * side)
        pieces |= {window.tobytes() for window in windows}
    return lambda rows: all(row.tobytes() in pieces for row in np.round(rows * 65535).astype(np.uint16))


def _batches(given: Input) -> Any:
    paths = [given.path]
    if os.path.isdir(given.path):
        numbers = sorted(int(name[11:-4]) for name in os.listdir(given.path))
        paths = [os.path.join(given.path, f"data_batch_{number}.bin") for number in numbers]
    records = np.concatenate([np.fromfile(path, np.uint8).reshape(-1, 3073) for path in paths])
    colours = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    pictures = [_grey(Image.fromarray(np.ascontiguousarray(colour))) for colour in colours]
    if "patch" in given.options:
        return _pieces_of(pictures, given.options["patch"])
    return np.stack([picture.ravel() for picture in pictures])
