"""Array files as sources: ``.npy``, ``.npz`` and IDX; headers are checked before memory is taken."""

from __future__ import annotations

import gzip
import io
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rarefire.component import nearest
from rarefire.data.checks import check_expansion, check_finite, reading, shown, unusable
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError

IDX_NAME = re.compile(r"([.-]idx\d-ubyte|\.idx)(\.gz)?$", re.IGNORECASE)

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load_npy(path: Path | str) -> Source:
    """A ``.npy`` file, memory-mapped; only a stack of images in Fortran order is copied into memory.

    Two axes are rows and columns, (n, height, width) and (n, height, width, 3) are images; images of bytes
    are scaled to [0, 1]. Any order and byte order of booleans, integers and floats up to 64 bits will do.

    Raises
    ------
    InputError
        If the file is broken or not of the size that its header claims, or holds objects, text, complex
        numbers, one axis, no rows, no columns, or a value that is not finite.
    """
    path = Path(path)
    with reading(path, "a .npy file"), path.open("rb") as stream:
        shape, fortran, dtype, offset = _npy_header(path, stream, path.stat().st_size)
        _check_layout(path, shape, dtype)
        values = np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
        return _source(values, path)


def load_npz(path: Path | str, column: str | None = None) -> Source:
    """A ``.npz`` file: a SciPy sparse matrix (any format, read as CSR), or one of the arrays in it.

    Parameters
    ----------
    path : Path or str
        The file, as written by ``scipy.sparse.save_npz``, ``numpy.savez`` or ``numpy.savez_compressed``.
    column : str, optional
        The name of the array; needed where there are several.

    Raises
    ------
    InputError
        As :func:`load_npy`; if there are several arrays and none is named, or the named one is not there;
        if a sparse matrix is inconsistent.
    """
    path = Path(path)
    with reading(path, "a .npz file"), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        check_expansion(path, sum(info.file_size for info in members))
        headers = {}
        for info in members:
            with archive.open(info) as stream:
                headers[info.filename[:-4]] = _npy_header(path, stream, info.file_size)
        if "format" in headers and "shape" in headers:
            if column is not None:
                raise InputError(f"{path} holds one sparse matrix, so there is no array '{column}'; leave --column out")
            return _sparse(path)
        there = ", ".join(map(shown, sorted(headers)[:20])) or "none"
        if column is None and len(headers) != 1:
            raise InputError(f"{path} holds {len(headers)} arrays ({there}); name one with --column NAME")
        name = next(iter(headers)) if column is None else column
        if name not in headers:
            raise InputError(f"{path} has no array '{name}' (there are: {there}){nearest(name, headers)}")
        _check_layout(path, headers[name][0], headers[name][2])
        with np.load(path, allow_pickle=False) as arrays:
            return _source(arrays[name], path)


def load_idx(path: Path | str) -> Source:
    """An IDX file (the format of MNIST), memory-mapped, or gzipped and then read into memory.

    Axes and scale are as in :func:`load_npy`.

    Raises
    ------
    InputError
        If the magic number is wrong, the content is shorter or longer than the header claims, or the
        values are refused as in :func:`load_npy` (a file of labels has one axis).
    """
    path = Path(path)
    packed = path.suffix.lower() == ".gz"
    with reading(path, "an IDX file"), gzip.open(path) if packed else path.open("rb") as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or not 1 <= magic[3] <= 4:
            raise InputError(f"{path} does not begin with the magic number of an IDX file; check that it is one")
        dtype = np.dtype(_IDX_TYPES[magic[2]])
        sizes = stream.read(4 * magic[3])
        if len(sizes) < 4 * magic[3]:
            raise InputError(f"{path} ends within its header; get the file again")
        shape = tuple(int(n) for n in np.frombuffer(sizes, dtype=">u4"))
        _check_layout(path, shape, dtype)
        claimed = math.prod(shape) * dtype.itemsize
        if packed:
            check_expansion(path, claimed)
            content = stream.read(claimed + 1)
            _check_size(path, claimed, len(content))
            return _source(np.frombuffer(content, dtype).reshape(shape), path)
        offset = 4 + len(sizes)
        _check_size(path, claimed, path.stat().st_size - offset)
        return _source(np.memmap(path, dtype, "r", offset, shape), path)


def _npy_header(path: Path, stream: Any, size: int) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    # A bounded piece: the length of the header is a claim of the file as well.
    start = io.BytesIO(stream.read(2**16))
    version = np.lib.format.read_magic(start)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(start)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(start)
    if not dtype.hasobject:
        _check_size(path, math.prod(shape) * dtype.itemsize, size - start.tell())
    return shape, fortran, dtype, start.tell()


def _check_size(path: Path, claimed: int, there: int) -> None:
    if claimed != there:
        fault = "is cut off" if there < claimed else "goes on after its end"
        raise InputError(f"{path} {fault}: its header claims {claimed} bytes of values; get or write the file again")


def _check_layout(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    _check_dtype(path, dtype)
    if len(shape) == 1:
        raise InputError(f"{path} holds one axis of {shape[0]} values (labels?); give a matrix with one row a sample")
    if len(shape) not in (2, 3) and not (len(shape) == 4 and shape[3] == 3):
        raise InputError(
            f"{path} has the shape {shape}; give (rows, columns), or images as (n, height, width) "
            "or (n, height, width, 3)"
        )
    if min(shape) <= 0:
        raise InputError(f"{path} has the shape {shape}, so there is nothing in it; give at least one row and column")


def _check_dtype(path: Path, dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise InputError(f"{path} holds Python objects, and pickles are never read; save the values as numbers")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"{path} holds values of type {dtype}; save them as numbers of at most 64 bits")


def _source(values: NDArray[Any], path: Path) -> Source:
    if values.ndim == 2:
        return check_finite(ArraySource(values, Description(path.name)))
    scaled = values.dtype == np.uint8
    notes = "bytes divided by 255" if scaled else ""
    description = Description(path.name, "image", tuple(values.shape[1:]), notes=notes)
    flat = values.reshape(values.shape[0], -1)
    return check_finite(ArraySource(flat, description, 1 / 255 if scaled else 1.0))


def _sparse(path: Path) -> Source:
    with np.load(path, allow_pickle=False) as arrays:
        shape = tuple(int(n) for n in arrays["shape"])
    if len(shape) != 2 or min(shape) <= 0:
        raise InputError(f"{path} has the shape {shape}; give a sparse matrix with at least one row and one column")
    # A claimed row costs a row pointer even when it is empty, and a claimed column a value in each dense row.
    check_expansion(path, 8 * max(shape))
    matrix = sp.load_npz(path)
    _check_dtype(path, matrix.dtype)
    if hasattr(matrix, "check_format"):
        matrix.check_format(full_check=True)
    if matrix.dtype.kind in "iu" and unusable(matrix.data).any():
        raise InputError(f"{path} holds integers beyond 2**53, which cannot be held exactly; save the values as floats")
    # Duplicate entries are added up, which bytes could not hold.
    rows = sp.csr_array(matrix.astype(np.promote_types(matrix.dtype, np.float32)))
    rows.sum_duplicates()
    return check_finite(ArraySource(rows, Description(path.name)))
