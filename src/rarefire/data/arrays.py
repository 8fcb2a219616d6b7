"""Array files as sources: ``.npy``, folders of them, ``.npz`` and IDX; headers are checked before memory is taken."""

from __future__ import annotations

import gzip
import io
import math
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rarefire.data.checks import LARGEST_EXACT, alike, brief, check_expansion, check_finite, reading, shown, unusable
from rarefire.data.mapped import Stacked
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError

IDX_NAME = re.compile(r"([.-]idx\d-ubyte|\.idx)(\.gz)?$", re.IGNORECASE)

#: Values of a sparse matrix, zeros included, that pass always, and for each byte of its file.
DENSE_ALWAYS_ALLOWED, DENSE_ALLOWED = 2**32, 2000

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
    with reading(path, "a .npy file"):
        return check_finite(_source(_mapped(path), path))


def shard_files(where: Path | str) -> list[Path]:
    """The ``.npy`` files directly in a folder, sorted by name; hidden ones are left out. Empty for anything else."""
    return sorted(p for p in Path(where).glob("*") if p.suffix.lower() == ".npy" and not p.name.startswith("."))


def load_shards(paths: Sequence[Path], name: str) -> Source:
    """Several ``.npy`` files, one after the other, as one matrix that stays on disk.

    Parameters
    ----------
    paths : sequence of Path
        The files, in order; each as :func:`load_npy` takes it, all of one type and with the same columns.
    name : str
        What the source is called.

    Raises
    ------
    InputError
        As :func:`load_npy`, or if two files differ in their type or columns; the message names both.
    """
    sources: list[ArraySource] = []
    kind = None
    for path in paths:
        with reading(path, "a .npy file"):
            values = _mapped(path)
            here = f"rows of shape {_shape(values.shape[1:])} and type {values.dtype}"
            if here != (kind := kind or here):
                raise InputError(
                    f"{path} has {here}, but {paths[0]} has {kind}; put files with the same columns and type into a "
                    "folder, and nothing else"
                )
            sources.append(_source(values, path))
    first = sources[0]
    whole = ArraySource(Stacked([s.array for s in sources]), replace(first.description, name=name), first.scale)
    # All together, so that the extremes of the whole need no second pass; one by one to name the file at fault.
    if whole.array.dtype.kind != "f" or not np.isfinite(whole.extremes).all():
        for source in sources:
            check_finite(source)
    return whole


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
        found = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        members = {info.filename[:-4]: info for info in found}
        if len(members) < len(found):
            raise InputError(f"{path} holds two arrays of one name; write it again, each with a name of its own")
        if "format" in members and "shape" in members:
            if column is not None:
                raise InputError(f"{path} holds one sparse matrix, so there is no array '{column}'; leave --column out")
            return _sparse(_Parts(path, archive, members))
        there = ", ".join(map(shown, sorted(members)[:20])) or "none"
        if column is None and len(members) != 1:
            raise InputError(f"{path} holds {len(members)} arrays ({there}); name one with --column NAME")
        name = next(iter(members)) if column is None else column
        if name not in members:
            raise InputError(
                f"{path} has no array '{shown(name)}'{alike(name, members)}; name one that is there ({there}) "
                "with --column"
            )
        values = _member(path, archive, members[name])
        _check_layout(path, values.shape, values.dtype)
        return check_finite(_source(values, path))


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
            return check_finite(_source(np.frombuffer(content, dtype).reshape(shape), path))
        offset = 4 + len(sizes)
        _check_size(path, claimed, path.stat().st_size - offset)
        return check_finite(_source(np.memmap(path, dtype, "r", offset, shape), path))


def _mapped(path: Path) -> np.memmap:
    with path.open("rb") as stream:
        shape, fortran, dtype, offset = _npy_header(path, stream, path.stat().st_size)
        _check_layout(path, shape, dtype)
        return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _npy_header(path: Path, stream: Any, size: int) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    # A bounded piece: the length of the header is a claim of the file as well.
    start = io.BytesIO(stream.read(2**16))
    version = np.lib.format.read_magic(start)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"its version is {version[0]}.{version[1]}, and there are 1.0, 2.0 and 3.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Python 2 wrote, and of names that NumPy once had
        shape, fortran, dtype = read(start)
    if not dtype.hasobject:
        _check_size(path, math.prod(shape) * dtype.itemsize, size - start.tell())
    return shape, fortran, dtype, start.tell()


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """An array of a zip file, read-only; its member may unpack to more than it says, and no more is unpacked."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{path} is packed in a way that NumPy does not use; save it with numpy.savez_compressed")
    check_expansion(path, info.file_size)
    with archive.open(info) as stream:
        content = stream.read(info.file_size)
    shape, fortran, dtype, offset = _npy_header(path, io.BytesIO(content), len(content))
    if dtype.hasobject:
        _check_dtype(path, dtype)
    return np.ndarray(shape, dtype, content, offset, order="F" if fortran else "C")


def _check_size(path: Path, claimed: int, there: int) -> None:
    if claimed != there:
        fault = "is cut off" if there < claimed else "goes on after its end"
        raise InputError(
            f"{path} {fault}: its header claims {brief(claimed)} bytes of values; get or write the file again"
        )


def _check_layout(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    _check_dtype(path, dtype)
    if len(shape) == 1:
        raise InputError(f"{path} holds one axis of {shape[0]} values (labels?); give a matrix with one row a sample")
    if len(shape) not in (2, 3) and not (len(shape) == 4 and shape[3] == 3):
        raise InputError(
            f"{path} has the shape {_shape(shape)}; give (rows, columns), or images as (n, height, width) "
            "or (n, height, width, 3)"
        )
    if min(shape) <= 0:
        raise InputError(
            f"{path} has the shape {_shape(shape)}, so there is nothing in it; give at least one row and column"
        )


def _shape(shape: tuple[int, ...]) -> str:
    return shown(f"({', '.join(map(brief, shape))})")


def _check_dtype(path: Path, dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise InputError(f"{path} holds Python objects, and pickles are never read; save the values as numbers")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"{path} holds values of type {shown(str(dtype))}; save them as numbers of at most 64 bits")


def _source(values: NDArray[Any], path: Path) -> ArraySource:
    if values.ndim == 2:
        return ArraySource(values, Description(path.name))
    scaled = values.dtype == np.uint8
    notes = "bytes divided by 255" if scaled else ""
    description = Description(path.name, "image", tuple(values.shape[1:]), notes=notes)
    flat = values.reshape(values.shape[0], -1)
    return ArraySource(flat, description, 1 / 255 if scaled else 1.0)


@dataclass(frozen=True)
class _Parts:
    """The arrays of a sparse matrix. SciPy would cut an index of 1.5 down to 1, and one of 2**32 + 1 as well."""

    path: Path
    archive: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]

    def array(self, name: str) -> NDArray[Any]:
        if name not in self.members:
            raise self.fault(f"it has no '{name}'")
        return _member(self.path, self.archive, self.members[name])

    def indices(self, name: str, low: int, high: int) -> NDArray[np.int64]:
        """An array of whole numbers from ``low`` on and below ``high``."""
        values = self.array(name)
        if values.dtype.kind not in "iu":
            raise self.fault(f"'{name}' is not of whole numbers")
        if values.size and not low <= int(values.min()) <= int(values.max()) < high:
            raise self.fault(f"'{name}' points outside of the matrix")
        return values.astype(np.int64)

    def fault(self, what: str) -> InputError:
        return InputError(
            f"{self.path} cannot be read as a sparse matrix: {what}; save it again with scipy.sparse.save_npz"
        )


def _sparse(parts: _Parts) -> Source:
    path, size, data = parts.path, parts.indices("shape", -(2**63), 2**63), parts.array("data")
    if size.shape != (2,):
        raise parts.fault("its shape is not of two numbers")
    shape = (int(size[0]), int(size[1]))
    if min(shape) <= 0:
        raise InputError(f"{path} has the shape {shape}; give a sparse matrix with at least one row and one column")
    _check_dtype(path, data.dtype)
    whole = data.dtype.kind in "iu"
    if whole and unusable(data).any():
        raise InputError(f"{path} holds integers beyond 2**53, which cannot be held exactly; save the values as floats")
    # A value costs itself and its index; a claimed row a pointer even when it is empty, and a column a value in every
    # dense row. Time goes by rows times columns.
    check_expansion(path, 8 * max(shape) + 16 * data.size)
    if math.prod(shape) > max(DENSE_ALWAYS_ALLOWED, DENSE_ALLOWED * path.stat().st_size):
        raise InputError(
            f"{path} claims {shape[0]} rows of {shape[1]} columns for {data.size} values; "
            "leave out rows and columns that have none"
        )
    # Entries that stand in one place are added up, which bytes could not hold.
    values = data.astype(np.promote_types(data.dtype, np.float32).newbyteorder("="))
    rows = _csr(parts, values, shape)
    n_entries = rows.nnz
    rows.sum_duplicates()
    if whole and rows.nnz < n_entries and np.abs(values).sum() > LARGEST_EXACT:
        raise InputError(
            f"{path} holds integers that stand in one place and add up to more than can be held exactly; "
            "save the values as floats"
        )
    return check_finite(ArraySource(rows, Description(path.name)))


def _csr(parts: _Parts, values: NDArray[np.floating], shape: tuple[int, int]) -> sp.csr_array:
    kind = parts.array("format")
    layout = bytes(kind).rstrip(b"\0").decode("latin1") if kind.dtype.kind == "S" else str(kind)
    if layout == "coo":
        if "coords" in parts.members:  # as SciPy is to write it
            row, col = parts.indices("coords", 0, max(shape))
        else:
            row, col = parts.indices("row", 0, shape[0]), parts.indices("col", 0, shape[1])
        return sp.coo_array((values, (row, col)), shape=shape).tocsr()
    if layout == "dia":
        return sp.dia_array((values, parts.indices("offsets", 1 - shape[0], shape[1])), shape=shape).tocsr()
    if layout not in ("csr", "csc", "bsr"):
        raise parts.fault(f"its format is '{shown(layout)}', and csr, csc, bsr, coo and dia are read")
    block = values.shape[1:] if layout == "bsr" else (1, 1)
    if values.ndim != (3 if layout == "bsr" else 1) or min(block) < 1 or shape[0] % block[0] or shape[1] % block[1]:
        raise parts.fault("its data are not of the shape that its format asks for")
    n_major, n_minor = shape[0] // block[0], shape[1] // block[1]
    if layout == "csc":
        n_major, n_minor = n_minor, n_major
    indices, starts = parts.indices("indices", 0, n_minor), parts.indices("indptr", 0, len(values) + 1)
    if indices.shape != (len(values),) or starts.shape != (n_major + 1,) or starts[0] or (np.diff(starts) < 0).any():
        raise parts.fault("'indptr', 'indices' and 'data' do not fit each other")
    return getattr(sp, f"{layout}_array")((values, indices, starts), shape=shape).tocsr()
