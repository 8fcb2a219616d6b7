"""Files of any content: every loader reads what is in them or refuses in one sentence; each bug found stays mended."""

from __future__ import annotations

import gzip
import io
import logging
import os
import pickle
import struct
import sys
import time
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path
from random import Random

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import fuzzing
from fuzz_files import FAMILIES, Canary, Input, damaged, npy_bytes, png_of_zeros, saved, written
from fuzzing import judge, keep, limited_memory, replayed
from rarefire.data import checks
from rarefire.data.images import read_image
from rarefire.data.open import open_source
from rarefire.data.source import ArraySource, Description
from rarefire.data.text import bag_of_words
from rarefire.errors import InputError, printable

QUICK = settings(
    derandomize=True, database=None, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck)
)
ORDERS = ("C", "F", "backwards")


@pytest.fixture(autouse=True)
def _hard_limit():
    with limited_memory():
        yield


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """Empty folders, one for each input; Hypothesis runs many in one test."""

    def new():
        return tmp_path_factory.mktemp("input")

    return new


def passed(given: Input, fit: str = "") -> fuzzing.Verdict:
    verdict = judge(given, fit)
    assert verdict.kind != "failed", verdict.why
    return verdict


def refused(where, *words, **options):
    with pytest.raises(InputError) as caught:
        open_source(str(where), **options)
    message = str(caught.value)
    assert message.isprintable()
    assert fuzzing.REMEDY.search(message), message
    for word in words:
        assert word in message
    return message


def everything(source):
    return source.rows(slice(0, source.shape[0]))


# Many inputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_inputs_of_every_family(name, tmp_path):
    kinds = []
    for number in range({"patches": 100, "text": 150}.get(name, 250)):
        folder = tmp_path / str(number)
        folder.mkdir()
        r = Random(f"test {name} {number}")
        fit = r.choice(("SparseAutoencoder", "BernoulliRBM", "GaussianRBM")) if number % 25 == 0 else ""
        kinds.append(passed(FAMILIES[name](r, folder), fit).kind)
    assert kinds.count("accepted") > 10
    assert kinds.count("refused") > 30


def arrays_of(dtypes, dimensions=(2, 4)):
    """Arrays of these types without values that cannot be read; the empty ones are refused."""
    shapes = hnp.array_shapes(min_dims=dimensions[0], max_dims=dimensions[1], min_side=0, max_side=5)
    return dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes, elements=_readable(np.dtype(dtype))))


def _readable(dtype):
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return st.integers(max(np.iinfo(dtype).min, -(2**53)), 2**53)
    return hnp.from_dtype(dtype, allow_nan=False, allow_infinity=False)


NUMBERS = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
)


def laid_out(array, order):
    return array[::-1] if order == "backwards" else np.asarray(array, order=order)


def expected_verdict(array):
    usable = array.ndim in (2, 3) or array.shape[3] == 3
    return "accepted" if usable and array.size else "refused"


def rows_of(array):
    if array.ndim == 2 or not array.size:
        return array
    flat = array.reshape(len(array), -1)
    return flat / 255.0 if array.dtype == np.uint8 else flat


@QUICK
@given(array=arrays_of(NUMBERS), order=st.sampled_from(ORDERS), version=st.sampled_from([(1, 0), (2, 0), (3, 0)]))
def test_npy_and_npz_of_any_numbers(scratch, array, order, version):
    folder, verdict, rows = scratch(), expected_verdict(array), rows_of(laid_out(array, order))
    content = npy_bytes(laid_out(array, order), version)
    passed(Input("npy", written(folder, "x.npy", content), {}, rows, verdict))
    np.savez_compressed(folder / "x.npz", one=laid_out(array, order), two=np.ones(3))
    passed(Input("npz", str(folder / "x.npz"), {"column": "one"}, rows, verdict))


@QUICK
@given(
    array=arrays_of(st.sampled_from(["u1", "i1", ">i2", ">i4", ">f4", ">f8"])),
    compressed=st.booleans(),
)
def test_idx_of_any_numbers(scratch, array, compressed):
    code = {"u1": 8, "i1": 9, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}[array.dtype.str[1:]]
    content = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    name = "x.idx.gz" if compressed else "x.idx"
    path = written(scratch(), name, gzip.compress(content) if compressed else content)
    passed(Input("idx", path, {}, rows_of(array), expected_verdict(array)))


@QUICK
@given(
    array=arrays_of(st.sampled_from(["?", "u1", "i8", "u4", "f4", "f8"]), (2, 2)),
    layout=st.sampled_from(["csr", "csc", "coo", "bsr", "dia"]),
    compressed=st.booleans(),
)
def test_sparse_of_any_numbers(scratch, array, layout, compressed):
    path = scratch() / "x.npz"
    if not array.size and layout in ("bsr", "dia"):
        return  # SciPy writes none
    sp.save_npz(path, getattr(sp, f"{layout}_array")(array), compressed=compressed)
    passed(Input("sparse", str(path), {}, array, expected_verdict(array)))


@QUICK
@given(
    table=arrays_of(st.sampled_from(["f8", "i4"]), (2, 2)).filter(lambda array: array.size),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    named=st.booleans(),
)
def test_csv_of_any_numbers(scratch, table, end, named):
    header = [",".join(f"c{i}" for i in range(table.shape[1]))] if named else []
    text = end.join(header + [",".join(repr(value.item()) for value in row) for row in table])
    passed(Input("csv", written(scratch(), "x.csv", text.encode()), {}, table, "accepted"))


@QUICK
@given(text=st.text(max_size=60), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]))
def test_any_text_as_text_and_as_table(scratch, text, encoding):
    content = text.encode(encoding, errors="replace")
    for name, options in (("x.txt", {}), ("x.csv", {}), ("x.csv", {"column": text[:3]})):
        passed(Input("text", written(scratch(), name, content), options))


MAGIC = (
    b"",
    b"\x93NUMPY\x01\x00",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b\x08\0",
    b"\0\0\x08\x03",
    b"\x89PNG\r\n\x1a\n",
)
ENDINGS = ("npy", "npz", "idx", "idx.gz", "csv", "csv.gz", "txt", "txt.gz", "bin")


@QUICK
@given(magic=st.sampled_from(MAGIC), tail=st.binary(max_size=200), ending=st.sampled_from(ENDINGS))
def test_any_bytes(scratch, magic, tail, ending):
    passed(Input("other", written(scratch(), f"x.{ending}", magic + tail)))


@QUICK
@given(
    kind=st.sampled_from(["npy", "npz", "idx", "csv", "txt", "png", "tif", "bin"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4),
)
def test_any_edits_of_a_whole_file(scratch, kind, edits):
    folder = scratch()
    array = np.arange(12, dtype=np.uint8).reshape(4, 3)
    stream = io.BytesIO()
    if kind in ("png", "tif"):
        Image.fromarray(array).save(stream, {"png": "PNG", "tif": "TIFF"}[kind])
    elif kind == "npz":
        sp.save_npz(stream, sp.csr_array(array), compressed=False)
    content = {
        "npy": npy_bytes(array),
        "idx": b"\0\0\x08\x02" + struct.pack(">2I", 4, 3) + array.tobytes(),
        "csv": b"a,b\n1,2\n3,4\n",
        "txt": b"red green\nblue red\n",
        "bin": bytes(3073),
    }.get(kind, stream.getvalue())
    for place, n_cut, piece in edits:
        at = round(place * len(content))
        content = content[:at] + piece + content[at + n_cut :]
    path = written(folder, f"x.{kind}", content)
    passed(Input(kind, str(folder) if kind in ("png", "tif") else path))


# The judge ----------------------------------------------------------------------------------------------------------


def source_of(array):
    return ArraySource(np.asarray(array, np.float64), Description("x.npy"))


def _warns():
    warnings.warn("careful", UserWarning, stacklevel=1)


def _loads():
    with pytest.raises(AssertionError):
        assert pickle.loads(pickle.dumps(Canary())) is None


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda where: source_of([[1, 2], [3, 5]]), "other values"),
        (lambda where: source_of([[1, 2]]), "rows of shape"),
        (lambda where: source_of([[1, 2], [3, np.inf]]), "not finite"),
        (lambda where: source_of(np.random.random((2, 2))), "another fingerprint"),  # noqa: NPY002
        (lambda where: [][0], "IndexError"),
        (lambda where: (_warns(), source_of([[1, 2], [3, 4]]))[1], "UserWarning: careful"),
        (lambda where: (logging.getLogger("y").warning("oh"), source_of([[1, 2], [3, 4]]))[1], "logged: oh"),
        (lambda where: (os.write(2, b"oh"), source_of([[1, 2], [3, 4]]))[1], "standard error"),
        (lambda where: (_loads(), source_of([[1, 2], [3, 4]]))[1], "pickle.find_class"),
        (lambda where: (written(Path(where).parent, "y", b""), source_of([[1, 2], [3, 4]]))[1], "writes"),
        (lambda where: (np.ones(2**26), source_of([[1, 2], [3, 4]]))[1], "bytes of memory"),
        (lambda where: (time.sleep(9), source_of([[1, 2], [3, 4]]))[1], "no end"),
        (lambda where: _refusing("x.npy is wrong; give another"), "nothing is wrong with it"),
    ],
)
def test_the_judge_sees_what_is_wrong(tmp_path, monkeypatch, capfd, happens, why):
    given = Input("npy", written(tmp_path, "x.npy", npy_bytes(np.array([[1.0, 2], [3, 4]]))), verdict="accepted")
    assert judge(given).kind == "accepted"
    monkeypatch.setattr(fuzzing, "open_source", lambda where, **options: happens(where))
    monkeypatch.setattr(fuzzing, "HANGS", 0.5 if why == "no end" else 60)
    # pytest's own handlers would stand before the last resort.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    verdict = judge(given)
    assert verdict.kind == "failed"
    assert why in verdict.why
    copy = replayed(keep(given, verdict, tmp_path / "kept"))
    assert (copy.loader, copy.options, copy.verdict) == ("npy", {}, "accepted")
    assert Path(copy.path).read_bytes() == Path(given.path).read_bytes()


def _refusing(message, cause=None):
    raise InputError(message) from cause


@pytest.mark.parametrize(
    ("message", "cause", "why"),
    [
        ("x.npy is wrong", None, "nothing to do"),
        ("it is wrong; give another", None, "not named"),
        ("x.npy is\nwrong; give another", None, "no one line"),
        ("x.npy is \x1b[31mwrong; give another", None, "no one line"),
        ("x.npy is wrong; give another", MemoryError(), "memory had been asked for"),
    ],
)
def test_the_judge_reads_refusals(tmp_path, monkeypatch, message, cause, why):
    given = Input("npy", written(tmp_path, "x.npy", b"anything"))
    monkeypatch.setattr(fuzzing, "open_source", lambda where, **options: _refusing("x.npy is wrong; give another"))
    assert judge(given).kind == "refused"
    monkeypatch.setattr(fuzzing, "open_source", lambda where, **options: _refusing(message, cause))
    verdict = judge(given)
    assert verdict.kind == "failed"
    assert why in verdict.why


def test_what_must_be_refused_and_is_not_is_a_failure(tmp_path):
    whole = written(tmp_path, "x.npy", npy_bytes(np.ones((2, 2))))
    verdict = judge(Input("npy", whole, verdict="refused"))
    assert (verdict.kind, "should not be" in verdict.why) == ("failed", True)


# Bugs that were found -----------------------------------------------------------------------------------------------


def csr(**changed):
    parts = {"format": b"csr", "shape": (2, 3), "data": np.ones(2), "indices": [0, 2], "indptr": [0, 1, 2]}
    return saved({**parts, **changed})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"indices": [0.9, 1.9]}, "'indices' is not of whole numbers"),
        ({"indptr": [0.0, 1.5, 2.0]}, "'indptr' is not of whole numbers"),
        ({"indices": [0, 2**32 + 1]}, "'indices' points outside"),
        ({"indptr": [0, 2**32 + 1, 2]}, "'indptr' points outside"),
        ({"indptr": [0, 2, 1]}, "do not fit"),
        ({"indptr": [1, 1, 2]}, "do not fit"),
        ({"indices": [[0, 2]]}, "do not fit"),
        ({"indices": [True, False]}, "not of whole numbers"),
        ({"shape": (2.7, 3.2)}, "'shape' is not of whole numbers"),
        ({"shape": (2, 3, 4)}, "not of two numbers"),
        ({"shape": (2**20, 2**20)}, "1048576 rows of 1048576 columns"),
        ({"format": "lil"}, "its format is 'lil'"),
        ({"format": np.array(7)}, "its format is '7'"),
        ({"data": np.array([None, None])}, "pickles are never read"),
        ({"data": np.ones((2, 1))}, "its data are not of the shape"),
        ({"data": np.full(2, 2**52 + 1), "indices": [0, 0], "indptr": [0, 2, 2]}, "add up to more"),
    ],
)
def test_sparse_parts_that_scipy_would_bend(tmp_path, changed, words):
    if isinstance(changed.get("data"), np.ndarray) and changed["data"].dtype == object:
        np.savez(tmp_path / "x.npz", **{"format": b"csr", "shape": (2, 3), **changed})
    else:
        written(tmp_path, "x.npz", csr(**changed))
    refused(tmp_path / "x.npz", "x.npz", words)


def test_sparse_parts_that_are_right(tmp_path):
    for changed in ({}, {"indices": np.array([0, 2], ">u2")}, {"data": np.ones(2, ">f2")}):
        source = open_source(written(tmp_path, "x.npz", csr(**changed)))
        np.testing.assert_array_equal(everything(source), [[1, 0, 0], [0, 0, 1]])
    # As SciPy has announced to save it.
    parts = {"format": b"coo", "shape": (2, 3), "data": [5.0, 7.0], "coords": [[0, 1], [0, 2]], "_is_array": True}
    source = open_source(written(tmp_path, "x.npz", saved(parts)))
    np.testing.assert_array_equal(everything(source), [[5, 0, 0], [0, 0, 7]])
    refused(written(tmp_path, "x.npz", saved({**parts, "coords": [[0, 1]]})), "cannot be read as a .npz file")


def test_a_sparse_fingerprint_takes_no_longer_than_its_values(tmp_path):
    n = 60_000
    one = sp.csr_array(([1.0, 2.0], ([5, n - 1], [n - 1, 7])), shape=(n, n))
    sp.save_npz(tmp_path / "x.npz", one)
    began = time.process_time()
    fingerprint = open_source(str(tmp_path / "x.npz")).fingerprint
    assert time.process_time() - began < 3
    again = sp.csr_array(([2.0, 0.5, 0.5, 0.0], ([n - 1, 5, 5, 3], [7, n - 1, n - 1, 3])), shape=(n, n))
    assert ArraySource(again, Description("y")).fingerprint == fingerprint
    for row, column, value in ((5, n - 1, 1.5), (5, n - 2, 1.0), (6, n - 1, 1.0), (70_000 % n, n - 1, 1.0)):
        other = sp.csr_array(([value, 2.0], ([row, n - 1], [column, 7])), shape=(n, n))
        assert ArraySource(other, Description("y")).fingerprint != fingerprint


def test_the_array_that_is_checked_is_the_one_that_is_read(tmp_path):
    small, large = npy_bytes(np.ones((2, 2))), npy_bytes(np.full((3, 3), 7.0))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("one.npy", small)
        archive.writestr("one", large)
    np.testing.assert_array_equal(everything(open_source(str(tmp_path / "x.npz"))), np.ones((2, 2)))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("one.npy", small)
        archive.writestr("one.npy", large)
    refused(tmp_path / "x.npz", "two arrays of one name")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_zip_methods_that_numpy_does_not_use(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.writestr("x.npy", npy_bytes(np.ones((9, 9))))
    refused(tmp_path / "x.npz", "packed in a way", "savez_compressed")


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "ALWAYS_ALLOWED", 2**20)
    array = npy_bytes(np.ones((9, 9)))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", array + bytes(2**26))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, len(array))
    passed(Input("npz", written(tmp_path, "x.npz", bytes(content)), verdict="refused"))


def test_names_in_archives_lead_nowhere(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in ("../x.npy", "/tmp/../x.npy", "a/../../x.npy"):
        with zipfile.ZipFile(inner / "x.npz", "w") as archive:
            archive.writestr(name, npy_bytes(np.ones((2, 2))))
        assert open_source(str(inner / "x.npz")).shape == (2, 2)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inner", "x.npz"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\n9007199254740993\n", ["line 2, column 'a'", "the integer 9007199254740993 is too large"]),
        ("a\n-123456789012345678901\n", ["line 2", "too large to be held exactly"]),
        ("1,2\n3,1_000\n", ["line 2, column 'column 2'", "'1_000' is no finite number"]),
        ("a,b\n1,nan\n", ["line 2, column 'b'", "'nan'"]),
        ("a,b\nnan,1\n", ["line 2, column 'a'", "'nan'"]),
    ],
)
def test_cells_that_would_be_changed(tmp_path, text, words):
    refused(written(tmp_path, "x.csv", text.encode()), *words)


def test_large_numbers_that_are_held_exactly(tmp_path):
    path = written(tmp_path, "x.csv", b"9007199254740992,1e300,-9007199254740994\n16777217,3.5e38,0\n")
    rows = everything(open_source(path))
    assert rows.dtype == np.float64
    assert rows.tolist() == [[2.0**53, 1e300, -(2.0**53) - 2], [2.0**24 + 1, 3.5e38, 0]]
    for dtype in ("i4", "u4", ">i8"):
        exact = written(tmp_path, "x.npy", npy_bytes(np.full((2, 2), 2**24 + 1, dtype)))
        assert everything(open_source(exact)).tolist() == [[2**24 + 1] * 2] * 2


def test_a_column_that_is_not_there_is_answered_at_once(tmp_path):
    names = ",".join(f"{'long' * 900}{i}" if i % 2 else f"column{i}" for i in range(20_000))
    path = written(tmp_path, "x.csv", names.encode() + b"\n")
    began = time.process_time()
    message = refused(path, "has no column 'colum'", "did you mean", column="colum")
    assert len(message) < 2000
    assert time.process_time() - began < 3


def test_a_word_many_times_costs_no_memory_for_each():
    document = "red green " * 50_000
    tracemalloc.start()
    matrix, words = bag_of_words([document])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (matrix.toarray().tolist(), words) == ([[1, 1]], ("green", "red"))
    assert peak < 3 * len(document)


def test_a_packed_table_is_counted_as_numbers(tmp_path):
    # 24 MiB of text are 96 MiB of numbers.
    path = written(tmp_path, "x.csv.gz", gzip.compress(b"1," * 2**23 * 3 + b"1\n"))
    refused(path, "would take at least", "bytes in memory")


@pytest.mark.parametrize("name", ["x\ny.npy", "\x1b[31mx.npy", "\u202ex.npy", "\u2028.npy"])
def test_names_that_a_terminal_would_obey(tmp_path, name):
    path = written(tmp_path, name, b"no array")
    refused(path, printable(name), "cannot be read as a .npy file")
    assert printable(name).isprintable()
    source = open_source(written(tmp_path, name, npy_bytes(np.ones((2, 2)))))
    assert source.description.name == printable(name)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such names")
def test_names_that_are_not_in_utf8(tmp_path):
    refused(written(tmp_path, b"caf\xe9.npy", npy_bytes(np.ones((2, 2)))), "caf\\udce9.npy", "rename")


def test_devices_pipes_and_links_to_nothing(tmp_path):
    os.symlink("/dev/zero", tmp_path / "zero.txt")
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("zero.txt", "pipe.npy"):
        refused(tmp_path / name, name, "is no file")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("L", (2, 2)).save(pictures / "a.png")
    os.symlink("nowhere", pictures / "b.png")
    refused(pictures, "b.png is no file, or a link to none")


def test_headers_of_odd_words_are_quiet(tmp_path):
    body = np.ones((4, 3)).tobytes()
    for header, verdict in (
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (4L, 3L), }", "accepted"),
        ("{'descr': 'a5', 'fortran_order': False, 'shape': (4, 3), }", "refused"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': '\\d', }", "refused"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (%s, 2), }" % ("9" * 4000), "refused"),
    ):
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + body
        passed(Input("npy", written(tmp_path, "x.npy", content), verdict=verdict))
    whole = bytearray(npy_bytes(np.ones((4, 3))))
    whole[6:8] = b"\x09\x09"
    refused(written(tmp_path, "x.npy", bytes(whole)), "its version is 9.9")


def test_damaged_tiffs_say_nothing_of_their_own(tmp_path, capfd):
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, "TIFF", compression="tiff_adobe_deflate")
    content, messages = stream.getvalue(), []
    for number in range(60):
        path = Path(written(tmp_path, "x.tif", damaged(Random(number), content)))
        try:
            read_image(path)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert capfd.readouterr() == ("", "")


def test_pictures_out_of_proportion_to_their_files(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "ALWAYS_ALLOWED", 2**20)
    path = written(tmp_path, "a.png", png_of_zeros(1000, 1050, 0))
    refused(tmp_path, "a.png would take at least 1058400 bytes")
    # Narrow ones have many rows, and each has a pointer.
    written(tmp_path, "a.png", png_of_zeros(1, 90_000, 2))
    refused(tmp_path, "a.png would take at least 1080000 bytes")
    os.remove(path)
    for number in range(8):
        written(tmp_path, f"{number}.png", png_of_zeros(360, 360, 0))
    assert open_source(str(tmp_path)).shape == (8, 360 * 360)
    written(tmp_path, "8.png", png_of_zeros(360, 360, 0))
    refused(tmp_path, "would take at least 1166400 bytes")
    assert open_source(str(tmp_path), patch=2).shape == (10_000, 4)


def chunk(name, data, length=None):
    return (
        struct.pack(">I", len(data) if length is None else length)
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
    )


def test_a_length_that_an_image_claims_is_not_set_aside(tmp_path):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0\1\2\0\3\4"), length=2**32 - 2**16)
    written(tmp_path, "a.png", b"\x89PNG\r\n\x1a\n" + header + body)
    np.testing.assert_allclose(everything(open_source(str(tmp_path))), np.array([[1, 2, 3, 4]]) / 255, rtol=1e-6)


def test_a_canvas_that_a_webp_claims_is_not_made(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), "white").save(stream, "WEBP", lossless=True)
    whole, side = stream.getvalue(), (9000).to_bytes(3, "little")
    inside = whole[12:]
    canvas = b"VP8X" + struct.pack("<II", 10, 0) + side + side + inside
    lossless = inside[:9] + (8999 | 8999 << 14).to_bytes(4, "little") + inside[13:]
    lossy = b"VP8 " + struct.pack("<I", 20) + b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 9000, 9000) + bytes(10)
    for body in (canvas, lossless, lossy):
        written(tmp_path, "a.webp", b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
        refused(tmp_path, "a.webp would take at least 324")
    written(tmp_path, "a.webp", whole)
    assert everything(open_source(str(tmp_path))).tolist() == [[1.0] * 12]


def test_images_of_no_pixels_and_of_no_known_kind(tmp_path):
    empty = chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 2, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0\0"))
    for content in (b"\x89PNG\r\n\x1a\n" + empty + chunk(b"IEND", b""), b"%!PS-Adobe-3.0 EPSF-3.0\n", b"no image"):
        written(tmp_path, "a.png", content)
        refused(tmp_path, "a.png is of none of the formats that are read (PNG, JPEG")


# The command line ---------------------------------------------------------------------------------------------------


def one_of_each(folder: Path) -> dict[str, list[str]]:
    """Files that cannot be used, one of each class, and what their refusal says."""
    flipped = bytearray(saved({"x": np.ones((9, 9))}))
    flipped[200] ^= 1
    contents = {
        "cut.npy": (npy_bytes(np.ones((9, 9)))[:-9], ["is cut off"]),
        "objects.npy": (b"", ["pickles are never read"]),
        "inf.npy": (npy_bytes(np.array([[1.0], [np.inf]])), ["row 1, column 0"]),
        "wide.npy": (npy_bytes(np.array([[2**53 + 1]])), ["too large to be held exactly"]),
        "complex.npy": (npy_bytes(np.ones((2, 2), complex)), ["complex128"]),
        "empty.npy": (b"", ["is empty"]),
        "no rows.npy": (npy_bytes(np.ones((0, 3))), ["(0, 3)"]),
        "flip.npz": (bytes(flipped), ["CRC"]),
        "half.npz": (csr(indices=[0.5, 1.5]), ["whole numbers"]),
        "bomb.idx.gz": (
            gzip.compress(b"\0\0\x08\x02" + struct.pack(">2I", 2**10, 2**17) + bytes(2**20)),
            ["over 200 times its size"],
        ),
        "magic.idx": (b"not idx at all", ["magic number"]),
        "ragged.csv": (b"1,2\n3\n", ["line 2 has 1 cells"]),
        "wide.csv": (b"a\n9007199254740993\n", ["line 2, column 'a'"]),
        "utf16.csv": ("1,2\n3,4\n".encode("utf-16"), ["not in utf-8"]),
        "latin.txt": ("café\n".encode("latin-1"), ["line 1 is not in utf-8"]),
        "nul.txt": (b"a\0b\n", ["NUL"]),
        "x.bin": (bytes(3074), ["no batch of CIFAR-10"]),
        "data_batch_1": (pickle.dumps({}), ["pickles are never read", "cifar-10-binary.tar.gz"]),
        "cifar-10-python.tar.gz": (b"x", ["pickles are never read", "cifar-10-binary.tar.gz"]),
        "line\nend.npy": (b"x", ["line\\nend.npy"]),
        "x.parquet": (b"PAR1", ["of no kind"]),
        "one.png": (png_of_zeros(2, 2, 0), ["give the folder"]),
    }
    for name, (content, _) in contents.items():
        written(folder, name, content)
    np.save(folder / "objects.npy", np.array([[None]]), allow_pickle=True)
    (folder / "pictures").mkdir()
    written(folder / "pictures", "a.tif", b"II*\0" + bytes(9))
    return {
        **{name: words for name, (_, words) in contents.items()},
        "pictures": ["a.tif is of none of the formats"],
    }


def test_the_command_line_says_one_line_and_writes_nothing(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, words in one_of_each(tmp_path).items():
        outcome = cli("fit", name, "--set", "max_iter=1", "--quiet", "--out", "run")
        assert outcome.code == 2, (name, outcome)
        assert outcome.out == ""
        assert outcome.err.startswith("rarefire: ")
        assert outcome.err.count("\n") == 1
        assert outcome.err.strip().isprintable()
        for word in words:
            assert word in outcome.err
        assert not Path("run").exists()


def test_encode_reads_as_fit_does(cli, tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", np.random.default_rng(0).random((20, 1)))
    assert cli("fit", "good.npy", "--set", "max_iter=1", "--set", "n_components=2", "--quiet", "--out", "run").code == 0
    for name, words in one_of_each(tmp_path).items():
        outcome = cli("encode", "run", name, "-o", "codes.npy")
        assert outcome.code == 2, (name, outcome)
        assert outcome.err.count("\n") == 1
        for word in words:
            assert word in outcome.err
        assert not Path("codes.npy").exists()
