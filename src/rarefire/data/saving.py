"""Matrices as files, written a batch of rows at a time in constant memory."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

#: Bytes that are copied at a time.
_PIECE = 2**22


def save_npy(file: IO[bytes], batches: Iterable[NDArray[Any]], shape: tuple[int, int], dtype: np.dtype) -> None:
    """Write the rows of all batches, a matrix of this shape and type, as a ``.npy`` file."""
    _write_header(file, shape, dtype)
    # Not through a memory map: that ends in a signal where the disk is full.
    for rows in batches:
        file.write(np.ascontiguousarray(rows).data)


def save_csr(
    file: IO[bytes], batches: Iterable[NDArray[Any]], shape: tuple[int, int], dtype: np.dtype, folder: Path
) -> None:
    """Write the rows of all batches, a matrix of this shape and type, as ``scipy.sparse.save_npz`` writes a CSR array.

    A ``.npz`` file holds one array after the other, each with its length before it. They wait in files without a name
    in ``folder`` until all rows were there.
    """
    with contextlib.ExitStack() as stack:
        indices, indptr, data = (stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(3))
        total = 0
        indptr.write(np.int64(total).tobytes())
        for rows in batches:
            present = rows != 0
            ends = total + np.cumsum(np.count_nonzero(present, axis=1), dtype=np.int64)
            indptr.write(ends.tobytes())
            indices.write(np.nonzero(present)[1].astype(np.int64).tobytes())
            data.write(rows[present].tobytes())
            total = int(ends[-1])
        # Positions of one matrix are of one type to SciPy, the narrow one where it will do.
        index = np.dtype(np.int32 if max(total, *shape) < 2**31 else np.int64)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            _copy(archive, "indices", indices, (total,), np.dtype(np.int64), index)
            _copy(archive, "indptr", indptr, (shape[0] + 1,), np.dtype(np.int64), index)
            _copy(archive, "data", data, (total,), dtype, dtype)
            for name, value in {"format": b"csr", "shape": shape, "_is_array": True}.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asanyarray(value))


def _copy(
    archive: zipfile.ZipFile, name: str, file: IO[bytes], shape: tuple[int], dtype: np.dtype, wanted: np.dtype
) -> None:
    """The values of a file as an array of the archive, of the type that is wanted."""
    file.seek(0)
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        _write_header(member, shape, wanted)
        while piece := file.read(_PIECE):
            member.write(np.frombuffer(piece, dtype).astype(wanted).tobytes())


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
