"""Files of every kind that a loader may meet: written by NumPy, SciPy, Pillow, gzip, zipfile and csv, then damaged.

Every family is a function of a ``random.Random`` and an empty folder, and gives an :class:`Input`. Hypothesis drives
the same functions through its own ``randoms()``.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import pickle
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import matplotlib
import numpy as np
import scipy.sparse as sp
import sklearn
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

DTYPES = ("?", "u1", "i1", "<u2", ">i2", "<i4", ">u4", "<i8", ">i8", "<u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8")
WORDS = ("red", "green", "blue", "naïve", "Ωμέγα", "snake_case", "1984", "the", "THE", "dog's", "x", "?", "日本語")
EXACT = 2**53


@dataclass
class Input:
    """A path to open, and what is known of it.

    Parameters
    ----------
    loader : str
        The family.
    path : str
        What ``open_source`` is given.
    options : dict
        Its other arguments.
    rows : ndarray, optional
        What must be read: exactly, or float64 for bytes that are scaled to [0, 1].
    verdict : {"accepted", "refused"}, optional
        What must come of it; either may where this is left out.
    made : str
        How it was made.
    """

    loader: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    rows: NDArray[Any] | None = None
    verdict: str | None = None
    made: str = ""


# Values -------------------------------------------------------------------------------------------------------------


def values(r: Random, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Finite values that float64 holds exactly: ordinary, constant, or at the ends of what the type can be."""
    rng, kind = np.random.default_rng(r.getrandbits(32)), np.dtype(dtype).kind
    how = r.choice(("small", "constant", "extreme"))
    if kind == "f":
        info = np.finfo(dtype)
        ends = [info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, 1.0, info.eps]
        small: NDArray[Any] = rng.random(shape)
    else:
        low, high = (0, 1) if kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        ends = [max(low, -EXACT), min(high, EXACT), min(high, 2**24 + 1), 0]
        small = rng.integers(0, min(high, 9), shape, endpoint=True)
    if how == "constant":
        small = np.full(shape, r.choice(ends[-2:]))
    elif how == "extreme":
        small = np.array([r.choice(ends) for _ in range(int(np.prod(shape)))], object).reshape(shape)
    return np.asarray(small.astype(dtype), order=r.choice("CF"))


def spoiled(r: Random, array: NDArray[Any]) -> NDArray[Any] | None:
    """The same with one value that is not finite, or an integer that float64 rounds; None where the type has none."""
    kind, wide = array.dtype.kind, array.dtype.itemsize == 8
    bad = {"f": [np.nan, np.inf, -np.inf], "i": [EXACT + 1, -EXACT - 1, 2**62], "u": [EXACT + 1, 2**63]}.get(kind)
    if bad is None or (kind != "f" and not wide):
        return None
    array = array.copy()
    array[tuple(r.randrange(n) for n in array.shape)] = r.choice(bad)
    return array


def as_rows(array: NDArray[Any]) -> NDArray[Any]:
    """What rows must be read of an array: images are flat, and bytes of images in [0, 1]."""
    if array.ndim == 2:
        return array
    flat = array.reshape(len(array), -1)
    return flat / 255.0 if array.dtype == np.uint8 else flat


def shape_of(r: Random) -> tuple[int, ...]:
    """Rows and columns, one of either now and then, and stacks of images."""
    n = r.choice((1, 1, 2, 3, 8))
    return r.choice(((n, 1), (1, n), (n, 5), (n, 5), (40, n), (n, 2, 3), (n, 3, 2, 3)))


# Real files ---------------------------------------------------------------------------------------------------------


@cache
def _installed() -> dict[str, list[Path]]:
    """Files that NumPy, SciPy, scikit-learn and matplotlib bring along, up to 300 kB, by their endings."""
    found: dict[str, list[Path]] = {}
    for package in (np, sp, sklearn, matplotlib):
        for path in sorted(Path(package.__file__).parent.rglob("*.*")):
            ending = path.name[path.name.index(".") :].lower()
            if ending in _ENDINGS and path.stat().st_size < 300_000:
                found.setdefault(ending, []).append(path)
    return found


_ENDINGS = (".npy", ".npz", ".csv", ".csv.gz", ".rst", ".txt", ".png", ".jpg", ".gif")


def real(r: Random, *endings: str) -> tuple[bytes, str] | None:
    """One input in ten: a file with one of these endings, in most cases damaged, and its ending."""
    there = [path for ending in endings for path in _installed().get(ending, ())]
    if r.random() > 0.1 or not there:
        return None
    path = r.choice(there)
    content = path.read_bytes()
    return damaged(r, content, head=128) if r.random() < 0.7 else content, path.name[path.name.index(".") :].lower()


# Damage -------------------------------------------------------------------------------------------------------------

_EXTREMES = (
    b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 7 + b"\x7f", b"\x80" + b"\0" * 7, b"\0" * 7 + b"\x80",
    b"\0\0\0\x01", b"\x01\0\0\0", b"\0\x01\0\0",
)  # fmt: skip


def damaged(r: Random, content: bytes, head: int = 0) -> bytes:
    """One to three changes to the bytes; the first ``head`` of them, where fields are, are hit as often as the rest."""
    changed = bytearray(content)
    for _ in range(r.choice((1, 1, 2, 3))):
        end = min(head, len(changed)) if head and r.random() < 0.5 else len(changed)
        place = r.randrange(end + 1)
        how = r.choice(("flip", "flip", "byte", "cut", "insert", "drop", "splice", "extreme", "extreme"))
        if how == "flip" and place < len(changed):
            changed[place] ^= 1 << r.randrange(8)
        elif how == "byte" and place < len(changed):
            changed[place] = r.randrange(256)
        elif how == "cut":
            del changed[place:]
        elif how == "insert":
            changed[place:place] = bytes(r.randrange(256) for _ in range(r.randrange(1, 9)))
        elif how == "drop":
            del changed[place : place + r.randrange(1, 9)]
        elif how == "splice":
            start = r.randrange(len(changed) + 1)
            changed[place : place + 16] = changed[start : start + r.randrange(1, 33)]
        elif how == "extreme":
            field_ = r.choice(_EXTREMES)[: r.choice((1, 2, 4, 8))]
            changed[place : place + len(field_)] = field_
    return bytes(changed)


def packed(r: Random, content: bytes) -> tuple[bytes, str]:
    """A gzip file of this, whole or with a fault of its own, and which."""
    whole = gzip.compress(content, mtime=0)
    how = r.choice(("whole",) * 6 + ("members", "cut", "tail", "trailer", "flip", "not packed"))
    if how == "members":
        half = len(content) // 2
        whole = gzip.compress(content[:half], mtime=0) + gzip.compress(content[half:], mtime=0)
    elif how == "cut":
        whole = whole[: r.randrange(len(whole))]
    elif how == "tail":
        whole += r.choice((b"more", b"\x1f\x8b", b"\x1f\x8b\x08\xff" + bytes(20)))
    elif how == "trailer":
        whole = whole[:-8] + r.randbytes(8)
    elif how == "flip":
        whole = damaged(r, whole)
    elif how == "not packed":
        whole = content
    return whole, how


def written(folder: Path, name: str | bytes, content: bytes) -> str:
    """Write a file; the path of it."""
    path = os.path.join(os.fsencode(folder), os.fsencode(name))
    with open(path, "wb") as stream:
        stream.write(content)
    return os.fsdecode(path)


# .npy ---------------------------------------------------------------------------------------------------------------

_SHAPES = (
    "()", "(0, 3)", "(3, 0)", "(-1, 3)", "(-4, -3)", "(2147483648, 2147483648)", "(9223372036854775807, 2)",
    f"({10**30}, 1)", "(" + "9" * 4000 + ", 2)", "(" + "9" * 5000 + ", 2)",
    "(True, 3)", "(1.5, 2)", "('a', 2)", "((1, 2), 3)", "[4, 3]", "None", "4", "4L",
    "(" + "1," * 70 + ")", "(0," * 40 + ")" * 40, "(2, " + "(" * 3000, "__import__('os').getcwd()", "(1 if 1else 2, 3)",
    "'\\d'", "(" + "-" * 4000 + "1, 2)", "(1,) * 10", "(4L, 3L)", "(1000000000, 3)", "(0x4, 0o3)", "(4, 3, 0)",
)  # fmt: skip
_DESCRIPTIONS = (
    "'|O'", "'O'", "'<c16'", "'<f16'", "'<M8[s]'", "'<m8'", "'|V0'", "'|S0'", "'<U0'", "'|V8'", "'|S2147483647'",
    "'<V2147483647'", "'f8,f4'", "[('a', '<f8')]", "[('a', '|O')]", "('<f8', (2,))",
    "('<f8', (2000000000, 2000000000))",
    "'x'", "''", "None", "8", "'<i8:'", "'<f8' ('x')", "'a5'", "{'names': []}", "'|b1'", "'=f8'", "'float64'", "'>i3'",
    "[]", "[('a', '<f8'), ('a', '<f8')]", "'\\n'", "b'<f8'", "'<G8'", "'<l'",
)  # fmt: skip


def npy_bytes(array: NDArray[Any], version: tuple[int, int] = (1, 0)) -> bytes:
    """A ``.npy`` file as NumPy writes it."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        npy.write_array(stream, array, version)
    return stream.getvalue()


def npy_claiming(r: Random, array: NDArray[Any]) -> tuple[bytes, str]:
    """A ``.npy`` file whose header says what cannot be, or what is not so."""
    claims = {"descr": repr(npy.dtype_to_descr(array.dtype)), "fortran_order": "False", "shape": repr(array.shape)}
    what = r.choice(("shape", "shape", "descr", "fortran_order", "keys", "length", "version"))
    said = ""
    if what in ("shape", "descr"):
        said = claims[what] = r.choice(_SHAPES if what == "shape" else _DESCRIPTIONS)
    elif what == "fortran_order":
        said = claims[what] = r.choice(("None", "'x'", "0", "True"))
    elif what == "keys":
        said = r.choice(("descr", "shape"))
        claims[r.choice((said, "more"))] = claims.pop(said) if r.random() < 0.7 else "1"
    text = "{" + ", ".join(f"'{key}': {value}" for key, value in claims.items()) + ", }"
    header = (text + " " * r.choice((0, 1, 30)) + r.choice(("\n", "", "\n\n", "#"))).encode("latin1")
    length = (
        r.choice((0, 1, 0xFFFF, len(header) // 2, len(header) + 9)) if what == "length" else min(len(header), 0xFFFF)
    )
    version = bytes(r.choice(((9, 9), (0, 0), (1, 1), (4, 0), (255, 255)))) if what == "version" else b"\x01\x00"
    body = np.ascontiguousarray(array).tobytes() if not array.dtype.hasobject else b""
    return b"\x93NUMPY" + version + struct.pack("<H", length) + header + body, f"a header with {what} {said[:60]}"


def npy_family(r: Random, folder: Path) -> Input:
    """Whole arrays of every type, order and version; types that are no numbers; headers that lie; damage."""
    if found := real(r, ".npy"):
        return Input("npy", written(folder, "x.npy", found[0]), made="a real file")
    array = values(r, shape_of(r), r.choice(DTYPES))
    how = r.choice(("whole", "whole", "spoiled", "type", "header", "header", "damage", "damage", "damage"))
    rows, verdict, made = None, None, how
    content = npy_bytes(array[::-1] if r.random() < 0.3 else array, r.choice(((1, 0), (2, 0), (3, 0))))
    if how == "whole":
        reread = np.load(io.BytesIO(content))
        rows, verdict, made = as_rows(reread), "accepted", f"whole {reread.dtype} {reread.shape}"
    elif how == "spoiled" and (bad := spoiled(r, array)) is not None:
        content, verdict = npy_bytes(bad), "refused"
    elif how == "type":
        odd: tuple[Any, ...] = (complex, np.longdouble, "M8[s]", "m8[s]", "S3", "U3", "V4", [("a", "f4")], object)
        bad = np.zeros(array.shape, odd[r.randrange(len(odd))])
        content = npy_bytes(bad) if not bad.dtype.hasobject else pickled_npy(bad)
        verdict, made = "refused", f"values of type {bad.dtype}"
    elif how == "header":
        content, made = npy_claiming(r, array)
    elif how == "damage":
        content = damaged(r, content, head=128)
    return Input("npy", written(folder, "x.npy", content), {}, rows, verdict, made)


class Canary:
    """Pickled where a pickle may be; looking its class up is seen by the judge."""


def pickled_npy(array: NDArray[Any]) -> bytes:
    """An array of objects, as NumPy pickles it."""
    array.flat[0] = Canary()
    stream = io.BytesIO()
    npy.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


# .npz ---------------------------------------------------------------------------------------------------------------

_NAMES = ("../x", "/etc/x", "a/../../b", "x\ny", "\x1b[31mx", "x", "..", "", "C:\\x", "x" * 300, "дан", "x.npy", "a/")


def zipped(r: Random, members: Sequence[tuple[str, bytes]], faulty: bool) -> tuple[bytes, str]:
    """A zip file of these, stored or compressed, whole or with a lie in its directory."""
    stream = io.BytesIO()
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]
    method = r.choice([*methods, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA] if faulty else methods)
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    content = bytearray(stream.getvalue())
    how = r.choice(("sizes", "flags", "method", "offset", "flip", "flip", "none")) if faulty else "none"
    entry = content.rfind(b"PK\x01\x02") if r.random() < 0.5 else content.find(b"PK\x01\x02")
    extreme = r.choice((0, 1, 2**16, 2**25, 2**31, 2**32 - 2, 2**32 - 1))
    if how == "sizes":
        struct.pack_into("<I", content, entry + r.choice((16, 20, 24)), extreme)
    elif how == "flags":
        struct.pack_into("<H", content, entry + 8, r.choice((1, 8, 0x20, 0x40, 0x800, 0xFFFF)))
    elif how == "method":
        struct.pack_into("<H", content, entry + 10, r.choice((0, 1, 8, 9, 12, 14, 93, 99)))
    elif how == "offset":
        struct.pack_into("<I", content, entry + 42, r.choice((0, 1, extreme)))
    elif how == "flip":
        return damaged(r, bytes(content)), f"method {method}, flip"
    return bytes(content), f"method {method}, {how}"


def npz_family(r: Random, folder: Path) -> Input:
    """Archives of one array or of several, in members of odd names; members that are damaged, or no arrays."""
    if found := real(r, ".npz"):
        column = r.choice((None, "x", "arr_0", "elevation", "topo", "poly"))  # names that are in some
        return Input("npz", written(folder, "x.npz", found[0]), {"column": column}, made="a real file")
    arrays = [values(r, shape_of(r), r.choice(DTYPES)) for _ in range(r.choice((1, 1, 2)))]
    names = ["one", "two"][: len(arrays)]
    column = r.choice(names) if len(arrays) > 1 or r.random() < 0.3 else None
    rows: NDArray[Any] | None = as_rows(arrays[names.index(column) if column else 0])
    how = r.choice(("whole", "whole", "spoiled", "member", "member", "names", "zip", "zip", "zip", "bomb"))
    members = [(f"{name}.npy", npy_bytes(array)) for name, array in zip(names, arrays, strict=True)]
    verdict: str | None = None
    if how == "whole":
        verdict = "accepted"
    elif how == "spoiled" and (bad := spoiled(r, arrays[0])) is not None:
        members, column, verdict = [("one.npy", npy_bytes(bad))], None, "refused"
    elif how == "member":
        content, _ = npy_claiming(r, arrays[0]) if r.random() < 0.5 else (damaged(r, members[0][1], head=128), "")
        members[0] = (
            members[0][0],
            r.choice((content, content, pickle.dumps(Canary()), pickled_npy(np.zeros((2, 2), object)))),
        )
    elif how == "names":
        odd = r.choice(_NAMES)
        members = r.choice((
            [(f"{odd}.npy", members[0][1])],
            [members[0], members[0]],
            [("one.npy", members[0][1]), ("one", members[0][1])],
            [("one.npy", members[0][1]), (odd, b"PK\x05\x06" + bytes(18))],
            [("one/", b""), members[0]],
        ))  # fmt: skip
        column = r.choice((None, odd or "x", "one"))
    elif how == "bomb" and r.random() < 0.1:
        n = r.choice((2**22, 2**23, 2**24))
        members, column = [("one.npy", npy_bytes(np.zeros((n // 8, 8), r.choice(("u1", "f8")))))], None
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(*members[0])
        return Input("npz", written(folder, "x.npz", content.getvalue()), made=f"a bomb of {n * 8} bytes")
    content, fault = zipped(r, members, faulty=how == "zip")
    if how not in ("whole", "zip"):
        rows = None
    if how == "zip":
        rows = None
    return Input("npz", written(folder, "x.npz", content), {"column": column}, rows, verdict, f"{how}: {fault}")


def sparse_family(r: Random, folder: Path) -> Input:
    """Every layout that SciPy saves; indices out of order, twice, out of range, not whole; shapes that lie."""
    n_rows, n_columns = r.choice(((1, 1), (1, 6), (6, 1), (4, 6), (20, 4)))
    rng = np.random.default_rng(r.getrandbits(32))
    kept = rng.random((n_rows, n_columns)) < r.choice((0.0, 0.3, 1.0))
    dense = np.where(kept, values(r, (n_rows, n_columns), r.choice(DTYPES)), 0)
    layout = r.choice(("csr", "csc", "coo", "bsr", "dia"))
    native = dense.astype(np.float32 if dense.dtype == np.float16 else dense.dtype.newbyteorder("="))
    made_of = getattr(sp, f"{layout}_{r.choice(('array', 'matrix'))}")
    stream = io.BytesIO()
    sp.save_npz(stream, made_of(native), compressed=r.random() < 0.5)
    how = r.choice(("whole", "whole", "order", "part", "part", "part", "part", "zip", "damage"))
    content, verdict, rows, made = stream.getvalue(), None, None, f"{how} {layout} of {native.dtype}"
    with np.load(io.BytesIO(content)) as archive:
        parts: dict[str, Any] = {name: archive[name] for name in archive.files}
    if how == "whole":
        if layout == "coo" and r.random() < 0.3:
            parts["coords"] = np.stack([parts.pop("row"), parts.pop("col")])
            content = saved(parts)
        rows, verdict = native, "accepted"
    elif how == "order" and layout in ("csr", "csc", "coo") and native.dtype.kind != "b" and len(parts["data"]) > 1:
        # Ones: an entry that stands twice counts twice.
        n = len(parts["data"])
        order = rng.integers(0, n, 2 * n)
        data, inner = np.ones(2 * n, r.choice(("u1", "<i8", ">f4", "f8"))), dense
        coo = sp.coo_array(native)
        row, col = coo.row[order % coo.nnz] if coo.nnz else order, coo.col[order % coo.nnz] if coo.nnz else order
        inner = np.zeros(native.shape)
        np.add.at(inner, (row, col), 1)
        parts = {"format": np.bytes_("coo"), "shape": native.shape, "data": data, "row": row, "col": col}
        if layout != "coo":
            major, minor = (row, col) if layout == "csr" else (col, row)
            by = np.argsort(major, kind="stable")
            starts = np.searchsorted(major[by], np.arange(native.shape[layout == "csc"] + 1))
            parts = {
                "format": np.bytes_(layout),
                "shape": native.shape,
                "data": data,
                "indices": minor[by],
                "indptr": starts,
            }
        content, rows, verdict = saved(parts), inner, "accepted"
    elif how == "part":
        name, said, verdict = wrong_part(r, parts)
        content, made = saved(parts), f"{layout} with {name} {said}"
    elif how == "damage":
        name = r.choice(sorted(parts))
        members = [(f"{key}.npy", npy_bytes(np.asarray(value))) for key, value in parts.items()]
        members = [(key, damaged(r, part, head=128) if key == f"{name}.npy" else part) for key, part in members]
        content = zipped(r, members, faulty=False)[0]
    elif how == "zip":
        members = [(f"{key}.npy", npy_bytes(np.asarray(value))) for key, value in parts.items()]
        content = zipped(r, members, faulty=True)[0]
    return Input("sparse", written(folder, "x.npz", content), {}, rows, verdict, made)


def wrong_part(r: Random, parts: dict[str, Any]) -> tuple[str, str, str | None]:
    """Replace one part of a sparse matrix; which, by what, and what must come of it."""
    name = r.choice([key for key in parts if key != "_is_array"])
    old = np.asarray(parts[name])
    if name == "format":
        new: Any = r.choice(("xyz", "lil", "dok", b"csr\xff", 7, ["csr", "csc"], "x" * 5000, "base", "spmatrix", None))
        verdict: str | None = "refused"
    elif name == "shape":
        new = r.choice(
            (
                (-1, 3),
                (0, 3),
                (3, 0),
                (2**31, 2**31),
                (2**62, 3),
                (3, 2**40),
                (5,),
                (2, 2, 2),
                (2.5, 3.0),
                "ab",
                (10**6, 10**6),
                (np.nan, 2),
                (2**33, 1),
            )
        )
        verdict = "refused" if new != (10**6, 10**6) else None
    elif name == "data":
        new = r.choice(
            (
                old.astype(complex),
                old.astype("U4"),
                np.full(old.shape, np.nan),
                np.full(old.shape, 2**60),
                old[:-1],
                old.astype(np.longdouble),
                np.full(old.shape, np.finfo("f8").max),
            )
        )
        verdict = None if new.dtype.kind in "iuf" and new.dtype.itemsize <= 8 else "refused"
        verdict = (
            "refused"
            if old.size and new.dtype.kind == "f" and np.isnan(new).any() and name == "data" and "offsets" not in parts
            else verdict
        )
    else:
        wide = old.astype(np.int64)
        at = (r.randrange(old.size),) if old.size and old.ndim == 1 else None
        new = wide.copy()
        how = r.choice(("far", "low", "half", "unsigned", "flat", "short", "long", "bool", "objects", "wide"))
        if how in ("far", "low", "wide") and at is not None:
            new[at] = {
                "far": r.choice((100, 2**31, 2**32, 2**40, 2**63 - 1)),
                "low": r.choice((-1, -(2**31), -(2**63))),
                "wide": 2**32 + int(wide[at]),
            }[how]
        elif how == "half":
            new = wide + 0.5
        elif how == "unsigned":
            new = wide.astype(np.uint64)
        elif how == "flat":
            new = wide[None]
        elif how == "short":
            new = wide[:-1]
        elif how == "long":
            new = np.append(wide, 0)
        elif how == "bool":
            new = wide.astype(bool)
        elif how == "objects":
            new = wide.astype(object)
        verdict = "refused" if how in ("half", "objects") and old.size else None
        parts[name] = new
        return name, how, verdict
    parts[name] = new
    return name, str(new)[:60], verdict if old.size else None


def saved(parts: dict[str, Any]) -> bytes:
    """An archive of these arrays."""
    stream = io.BytesIO()
    np.savez(stream, **parts)
    return stream.getvalue()


# IDX ----------------------------------------------------------------------------------------------------------------

IDX_TYPES = {8: "u1", 9: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_family(r: Random, folder: Path) -> Input:
    """Files of every type and number of axes, plain and packed; counts that lie; damage inside of sound gzip."""
    code = r.choice(sorted(IDX_TYPES))
    shape = shape_of(r)
    array = values(r, shape, IDX_TYPES[code])
    how = r.choice(("whole", "whole", "spoiled", "counts", "counts", "damage", "damage", "bomb"))
    rows, verdict = as_rows(array), "accepted" if how == "whole" else None
    if how == "spoiled" and (bad := spoiled(r, array)) is not None:
        array, verdict = bad, "refused"
    counts = list(shape)
    if how == "counts":
        counts[r.randrange(len(counts))] = r.choice((0, 1, 2**16, 2**24, 2**31, 2**32 - 1))
    magic = bytes([0, 0, code, len(shape)])
    content = magic + struct.pack(f">{len(counts)}I", *counts) + array.tobytes()
    if how == "bomb" and r.random() < 0.1:
        n = r.choice((2**22, 2**25, 2**26, 2**28))
        head = b"\0\0\x08\x02" + struct.pack(">2I", n // 64, 64)
        small = gzip.compress(head) + b"".join([gzip.compress(bytes(2**22))] * (n // 2**22))
        return Input("idx", written(folder, "x.idx.gz", small), made=f"a bomb of {n} bytes")
    if how == "damage":
        content = damaged(r, content, head=20)
    name = r.choice(("x.idx", "t-images-idx3-ubyte", "t.idx3-ubyte", "X.IDX"))
    fault = "whole"
    if r.random() < 0.5:
        name = f"{name}.gz"
        content, fault = packed(r, content)
        verdict = verdict if fault in ("whole", "members") else None
    return Input(
        "idx", written(folder, name, content), {}, rows if verdict == "accepted" else None, verdict, f"{how}, {fault}"
    )


# CSV ----------------------------------------------------------------------------------------------------------------

_CELLS = (
    "", " ", "nan", "inf", "-Infinity", "1e999", "N/A", "1;2", "1.5.2", "0x10", "1d5", "1_000", "--1", "1 2", "1,5",
    '"', '"1"2', "\t", "é", "\x1b[31m", "\x00", "9007199254740993", "-9007199254740993", "123456789012345678901",
    "9" * 400, "9" * 5000, "1e400", "٣", "½", "1e5", "+7", " 4 ", '"5"', '"6\n"', "True", "1" * 140_000, "1e-400",
    "\ufeff1", "１",
)  # fmt: skip


def text_bytes(r: Random, text: str) -> tuple[bytes, str]:
    """The bytes of a text: in UTF-8, or as other systems and programs write it."""
    how = r.choice(("utf-8",) * 8 + ("utf-8-sig", "utf-16", "utf-16-le", "latin-1", "nul", "damage"))
    if how == "nul":
        return text.encode()[:-3] + b"\0\0", how
    if how == "damage":
        return damaged(r, text.encode()), how
    return text.encode(how, errors="replace"), how


def csv_family(r: Random, folder: Path) -> Input:
    """Tables of numbers with and without names, in every convention of lines and quotes; cells that are none."""
    if found := real(r, ".csv", ".csv.gz"):
        first = found[0][:80].decode("latin1").split("\n")[0].split(",")[0]
        options = {"column": first} if r.random() < 0.3 else {}
        return Input("csv", written(folder, f"x{found[1]}", found[0]), options, made="a real file")
    n_rows, n_columns = r.choice((1, 2, 5, 30)), r.choice((1, 2, 4))
    dtype = r.choice(("f8", "f4", "i8", "u1"))
    matrix = values(r, (n_rows, n_columns), dtype)
    form = r.choice(("{!r}", "{}", '"{}"', " {} ", "+{}" if not np.signbit(matrix.astype(float)).any() else "{}"))
    cells = [[form.format(v.item()) for v in row] for row in matrix]
    names = [r.choice(("a", "b c", "d,1", 'a "quote"', "", "naïve", "two\nlines", "x" * 50)) for _ in range(n_columns)]
    how = r.choice(("whole", "whole", "cell", "cell", "cell", "ragged", "damage", "long"))
    if how == "cell":
        cells[r.randrange(n_rows)][r.randrange(n_columns)] = r.choice(_CELLS)
    elif how == "ragged":
        row = r.choice(cells)
        row.append("1") if r.random() < 0.5 else row.pop()
    elif how == "long" and r.random() < 0.1:
        cells = [["1"] * r.choice((10**4, 10**5, 10**6))] * r.choice((1, 2))
    end = r.choice(("\n", "\r\n", "\r", "\n\n"))
    header = io.StringIO()
    csv.writer(header, csv.unix_dialect, lineterminator="").writerow(names)
    lines = [header.getvalue()] * (r.random() < 0.5) + [",".join(row) for row in cells]
    text = end.join(lines) + r.choice((end, ""))
    content, encoding = (damaged(r, text.encode()), "damage") if how == "damage" else text_bytes(r, text)
    sound = how == "whole" and encoding in ("utf-8", "utf-8-sig")
    name, fault = r.choice(("x.csv", "x.CSV")), "plain"
    if r.random() < 0.3:
        name = f"{name}.gz"
        content, fault = packed(r, content)
        sound = sound and fault in ("whole", "members")
    options = {"column": r.choice(("a", "b c", "a,b c", "nope", "1", ""))} if r.random() < 0.2 else {}
    sound = sound and not options
    return Input(
        "csv",
        written(folder, name, content),
        options,
        matrix if sound else None,
        "accepted" if sound else None,
        f"{how}, {encoding}, {fault}",
    )


# Texts --------------------------------------------------------------------------------------------------------------


def document(r: Random) -> str:
    """A few words."""
    return " ".join(r.choice(WORDS) for _ in range(r.randrange(6)))


def text_family(r: Random, folder: Path) -> Input:
    """Lines of words in several encodings and conventions; no words, no lines, one long line; packed."""
    if found := real(r, ".rst", ".txt"):
        return Input("text", written(folder, "x.txt", found[0]), made="a real file")
    documents = [document(r) for _ in range(r.choice((1, 3, 30)))]
    how = r.choice(("whole", "whole", "damage", "long", "empty"))
    if how == "long" and r.random() < 0.1:
        documents = [r.choice(("ab ", "x", "日 ")) * r.choice((10**5, 10**6))]
    elif how == "empty":
        documents = r.choice(([""], ["  ", "\t"], ["1 2"], ["?"], ["\x0c"]))
    text = r.choice(("\n", "\r\n", "\r")).join(documents) + r.choice(("\n", ""))
    content, encoding = (damaged(r, text.encode()), "damage") if how == "damage" else text_bytes(r, text)
    name, fault = r.choice(("x.txt", "x.TXT")), "plain"
    if r.random() < 0.4:
        name = f"{name}.gz"
        content, fault = packed(r, content)
        if how == "long" and r.random() < 0.05:
            content, fault = b"".join([gzip.compress(b"ab " * 2**20)] * r.choice((2, 8))), "a bomb"
    options = {"vocabulary": ("red", "the", "unknown")} if r.random() < 0.2 else {}
    return Input("text", written(folder, name, content), options, made=f"{how}, {encoding}, {fault}")


def column_family(r: Random, folder: Path) -> Input:
    """A column of texts in a table, with quotes, line ends and commas in them."""
    n_rows = r.choice((1, 3, 30))
    odd = ("", 'a "red" dog', "red, green", "two\nlines of it", "1984", "red " * 50_000 if r.random() < 0.05 else "red")
    rows = [(str(i), document(r) if r.random() < 0.7 else r.choice(odd), "0") for i in range(n_rows)]
    stream = io.StringIO(newline="")
    header = r.choice(
        (("id", "text", "n"), ("id", "text", "text"), ("text", "id", "text\x1b"), ("", "text", "x" * 3000))
    )
    csv.writer(stream, lineterminator=r.choice(("\n", "\r\n"))).writerows([header, *rows])
    content, how = text_bytes(r, stream.getvalue())
    if r.random() < 0.3:
        content, how = damaged(r, content), "damage"
    name = "x.csv"
    if r.random() < 0.3:
        name = "x.csv.gz"
        content, fault = packed(r, content)
        how = f"{how}, {fault}"
    options: dict[str, Any] = {"column": r.choice(("text", "text", "text", "id", "nope", "id,text", ""))}
    if r.random() < 0.2:
        options["vocabulary"] = ("red", "the", "unknown")
    return Input("column", written(folder, name, content), options, made=how)


# Images -------------------------------------------------------------------------------------------------------------

FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "webp": "WEBP"}
_MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpg": ("L", "RGB", "CMYK"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "gif": ("1", "L", "P", "RGB"),
    "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "I"),
    "webp": ("RGB", "RGBA", "L"),
}


def picture(r: Random, suffix: str, size: tuple[int, int]) -> bytes:
    """An image file as Pillow writes it."""
    mode = r.choice(_MODES[suffix])
    rng = np.random.default_rng(r.getrandbits(32))
    if mode in ("I;16", "I", "F"):
        deep = rng.integers(0, 65536, size[::-1])
        image = Image.fromarray(deep.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)
    options: dict[str, Any] = {}
    if suffix == "tif":
        options["compression"] = r.choice((None, "tiff_lzw", "tiff_adobe_deflate", "packbits"))
        if r.random() < 0.2:
            exif = Image.Exif()
            exif[0x0112] = r.randrange(1, 9)
            options["exif"] = exif
    elif suffix in ("gif", "tif", "webp") and r.random() < 0.2:
        options.update(save_all=True, append_images=[image])
    elif suffix == "jpg" and r.random() < 0.3:
        options["progressive"] = True
    stream = io.BytesIO()
    image.save(stream, FORMATS[suffix], **options)
    return stream.getvalue()


def png_lying(r: Random, content: bytes) -> bytes:
    """A PNG with other fields or pixels than it had, and checksums that are right."""
    pieces, place = [content[:8]], 8
    target = r.choice((b"IHDR", b"IDAT", b"more"))
    while place + 8 <= len(content):
        (length,), name = struct.unpack_from(">I", content, place), content[place + 4 : place + 8]
        data = content[place + 8 : place + 8 + length]
        place += 12 + length
        if name == target == b"IHDR":
            field_, extreme = r.randrange(7), r.choice((0, 1, 2**14, 2**15, 2**24, 2**31 - 1, 2**32 - 1))
            data = bytearray(data)
            struct.pack_into(">I", data, 4 * field_, extreme) if field_ < 2 else data.__setitem__(
                6 + field_, extreme % 256
            )
        elif name == target == b"IDAT":
            data = zlib.compress(damaged(r, zlib.decompress(data)))
        elif name == b"IEND" and target == b"more":
            extra = r.choice((b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"eXIf", b"sRGB"))
            body = r.choice((b"", bytes(4), b"a\0\0" + zlib.compress(bytes(r.choice((10, 2**21)))), r.randbytes(9)))
            pieces.append(struct.pack(">I", len(body)) + extra + body + struct.pack(">I", zlib.crc32(extra + body)))
        pieces.append(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + bytes(data))))
    return b"".join(pieces)


def png_of_zeros(width: int, height: int, color: int) -> bytes:
    """A PNG of black pixels, as small as can be."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width * {0: 1, 2: 3, 6: 4}[color])
    body = b"".join([packer.compress(row) for _ in range(height)]) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def tiff_claiming(r: Random) -> bytes:
    """A TIFF of a few pixels by its specification, one of whose fields says what is not so."""
    pixels = r.randbytes(48)
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: len(pixels)}
    if r.random() < 0.4:
        tags |= {322: 16, 323: 16, 324: 8, 325: len(pixels)}
    for _ in range(r.choice((1, 1, 2))):
        tag = r.choice((*tags, 284, 317, 338, 339, 274))
        tags[tag] = r.choice((0, 1, 2, 3, 5, 6, 7, 8, 16, 32, 1000, 2**14, 2**16 - 1, 2**20, 2**31 - 1, 2**32 - 1))
    tags[259] = r.choice((tags[259], 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000, 50001))
    field_of = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())]
    directory = struct.pack("<H", len(tags)) + b"".join(field_of) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def webp_claiming(r: Random, content: bytes) -> bytes:
    """A WebP image on a canvas of another size than it had."""
    width, height = (r.choice((0, 1, 2**10, 2**14 - 1, 2**16, 2**24 - 1)) for _ in range(2))
    flags = r.choice((0, 2, 16, 0x3E))
    canvas = b"VP8X" + struct.pack("<II", 10, flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    body = b"WEBP" + canvas + content[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def images_into(r: Random, folder: Path) -> str:
    """Put one to three images into a folder, one of them perhaps damaged; how."""
    if found := real(r, ".png", ".jpg", ".gif"):
        written(folder, f"a{found[1]}", found[0])
        return "a real file"
    size = r.choice(((1, 1), (4, 3), (9, 9), (12, 5)))
    how = r.choice(("whole", "whole", "size", "damage", "damage", "lie", "lie", "content", "bomb"))
    n = r.choice((1, 1, 2, 3))
    for number in range(n):
        suffix = r.choice(sorted(FORMATS))
        content = picture(r, suffix, (5, 7) if how == "size" and number else size)
        name = f"{'abc'[number]}.{suffix}"
        if number == n - 1:
            if how == "damage":
                content = damaged(r, content, head=64)
            elif how == "lie":
                content = r.choice((
                    lambda: png_lying(r, picture(r, "png", size)),
                    lambda: tiff_claiming(r),
                    lambda: webp_claiming(r, picture(r, "webp", size)),
                ))()  # fmt: skip
            elif how == "content":
                content = r.choice(
                    (b"", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a", picture(r, "png", size), b"II*\0", b"\0" * 99)
                )
            elif how == "bomb" and r.random() < 0.03:
                content = png_of_zeros(8000, r.choice((4000, 8000, 11000)), r.choice((0, 2, 6)))
                how = "a bomb"
                name = f"{name}.png"
        written(folder, name, content)
    return how


def images_family(r: Random, folder: Path) -> Input:
    """Folders of whole images."""
    inner = folder / r.choice(("pictures", "holiday.2024", "x.npy", "x.txt"))
    inner.mkdir()
    return Input("images", str(inner), made=images_into(r, inner))


def patches_family(r: Random, folder: Path) -> Input:
    """The same folders, of which patches are cut."""
    inner = folder / "pictures"
    inner.mkdir()
    made = images_into(r, inner)
    return Input("patches", str(inner), {"patch": r.choice((1, 2, 3, 8, 100)), "seed": r.randrange(3)}, made=made)


# CIFAR-10 -----------------------------------------------------------------------------------------------------------


def batch(r: Random, n_images: int) -> bytes:
    """A binary batch of images at random."""
    rng = np.random.default_rng(r.getrandbits(32))
    records = rng.integers(0, 256, (n_images, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    return records.tobytes()


def cifar_family(r: Random, folder: Path) -> Input:
    """Binary batches, one or a folder of them; damaged, cut off, with labels that cannot be; patches of them."""
    where = folder / "cifar-10-batches-bin"
    where.mkdir()
    how = r.choice(("whole", "damage", "label", "size", "content"))
    n_batches = r.choice((1, 2, 3))
    for number in range(1, n_batches + 1):
        content = batch(r, r.choice((1, 2, 5)))
        if number == n_batches:
            if how == "damage":
                content = damaged(r, content, head=3073)
            elif how == "label":
                content = content[:3073] + bytes([r.choice((9, 10, 255))]) + content[1:3073]
            elif how == "size":
                content = content[: r.choice((0, 1, 3072, 3074, len(content) - 1))]
            elif how == "content":
                content = r.choice(
                    (pickle.dumps({b"data": Canary()}), b"x" * 3073, bytes(3073), gzip.compress(content))
                )
        name = r.choice(("data_batch_10.bin", "data_batch_3.bin")) if number == 3 else f"data_batch_{number}.bin"
        path = written(where, name, content)
    options = {"patch": r.choice((1, 8, 32, 33))} if r.random() < 0.3 else {}
    alone = r.random() < 0.5
    verdict = "accepted" if how == "whole" and options.get("patch") != 33 else None
    return Input("cifar", path if alone else str(where), options, None, verdict, how)


# Anything -----------------------------------------------------------------------------------------------------------

_PICKLED = ("data_batch_1", "data_batch_5", "test_batch", "batches.meta", "DATA_BATCH_2")
_ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar-10-python.tgz", "cifar-10-python.tar")
_ODD_NAMES = (
    "x\ny{}", "\x1b[31mred{}", " {}", "-rf{}", "a b{}", "é{}", "\u202egnp{}", "x" * 200 + "{}", "%s{{}}{}", "[a]*?{}",
    "'\"{}", "\t{}", "\r{}", "\x7f{}", "..{}", "x;rm{}", "<b>{}", "日本{}", "\u2028{}",
)  # fmt: skip
# Other systems have no names that are not in UTF-8.
_ODDER_NAMES = (b"\xff\xfe{}", b"caf\xe9{}") if sys.platform.startswith("linux") else ()
_SUFFIXES = (
    ".npy", ".npz", ".csv", ".csv.gz", ".txt", ".txt.gz", ".idx", ".idx.gz", ".bin", ".png", "", ".doc", ".tar.gz",
    ".parquet", ".pkl", "-idx3-ubyte", ".gz", ".zip", ".NPY", ".mat", ".h5", ".json",
)  # fmt: skip


def other_family(r: Random, folder: Path) -> Input:
    """What is no file of the kind that it seems: pickles, archives, pipes, devices, links, odd names, other content."""
    how = r.choice(("pickle", "archive", "content", "content", "name", "name", "special", "folder"))
    if how == "pickle":
        content = pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1], b"more": Canary()})
        where = folder / "cifar-10-batches-py"
        where.mkdir()
        name = r.choice(_PICKLED)
        path = written(where, name, content)
        whole = r.random() < 0.5 and name in ("data_batch_1", "data_batch_5")
        return Input("other", str(where) if whole else path, {}, None, "refused", f"a pickled {name}")
    if how == "archive":
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            info = tarfile.TarInfo("../../data_batch_1")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"data"))
        name = r.choice(_ARCHIVES)
        return Input("other", written(folder, name, stream.getvalue()), {}, None, "refused", name)
    if how in ("content", "name"):
        maker = r.choice(
            [family for name, family in FAMILIES.items() if name not in ("other", "images", "patches", "cifar")]
        )
        first = maker(r, folder)
        content = Path(first.path).read_bytes()
        name = os.path.basename(first.path)
        if how == "content":
            name = f"y{r.choice(_SUFFIXES)}"
            return Input("other", written(folder, name, content), made=f"{first.made} as {name}")
        suffix = name[name.index("-" if name.startswith("t-") else ".") :]
        odd = r.choice(_ODD_NAMES + _ODDER_NAMES)
        named = odd.replace(b"{}", suffix.encode()) if isinstance(odd, bytes) else odd.replace("{}", suffix)
        if isinstance(odd, bytes):
            first.verdict = "refused"
        return Input(
            "other",
            written(folder, named, content),
            first.options,
            first.rows,
            first.verdict,
            f"{first.made} as {named!r}",
        )
    path = str(folder / f"x{r.choice(_SUFFIXES)}")
    if how == "folder":
        os.mkdir(path)
        if r.random() < 0.5:
            what = r.choice(("a.png", "data_batch_1.bin", "b.gif"))
            r.choice((os.mkdir, os.mkfifo, lambda p: os.symlink("nowhere", p), lambda p: os.symlink("/dev/zero", p)))(
                os.path.join(path, what)
            )
        return Input(
            "other", path, {"patch": 2} if r.random() < 0.3 else {}, None, "refused", "a folder without a file"
        )
    kind = r.choice(("pipe", "zero", "null", "broken", "itself", "absent", "nul", "empty", "slash"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind in ("zero", "null", "broken", "itself"):
        os.symlink({"zero": "/dev/zero", "null": "/dev/null", "broken": "nowhere", "itself": path}[kind], path)
    elif kind == "nul":
        path = f"{path[:-1]}\0{path[-1:]}"
    elif kind in ("empty", "slash"):
        Path(path).touch()
        path += "/" * (kind == "slash")
    return Input("other", path, {}, None, "refused", kind)


FAMILIES: dict[str, Callable[[Random, Path], Input]] = {
    "npy": npy_family,
    "npz": npz_family,
    "sparse": sparse_family,
    "idx": idx_family,
    "csv": csv_family,
    "text": text_family,
    "column": column_family,
    "images": images_family,
    "patches": patches_family,
    "cifar": cifar_family,
    "other": other_family,
}
