"""Loaders of array files: real files, compared with what NumPy, SciPy or plain bytes put into them."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from rarefire.data.arrays import load_idx, load_npy, load_npz
from rarefire.data.checks import check_finite
from rarefire.data.source import ArraySource, Description
from rarefire.data.tables import load_csv
from rarefire.errors import InputError


def everything(source):
    return source.rows(slice(0, source.shape[0]))


def save(tmp_path, array, name="x.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", ">i2", "<u2", "i4", "u4", "i8", ">f2", "f4", ">f4", "f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_every_type_and_order(tmp_path, dtype, order):
    values = np.asarray(np.arange(12).reshape(4, 3) % 5, dtype=dtype, order=order)
    source = load_npy(save(tmp_path, values))
    wide = np.dtype(dtype).itemsize == 8 or dtype in ("i4", "u4")
    assert source.dtype == (np.float64 if wide else np.float32)
    assert source.dtype.isnative
    assert everything(source).dtype == source.dtype
    np.testing.assert_array_equal(everything(source), values)
    np.testing.assert_array_equal(source.rows(np.array([2, 0])), values[[2, 0]])
    assert isinstance(source.array, np.memmap)
    assert not source.array.flags.writeable
    assert source.description == Description("x.npy")


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 2, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_images(tmp_path, shape, order):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    source = load_npy(save(tmp_path, np.asarray(values, order=order)))
    assert source.description.kind == "image"
    assert source.description.shape == shape[1:]
    np.testing.assert_allclose(everything(source), values.reshape(5, -1) / 255, atol=1e-7)
    floats = load_npy(save(tmp_path, values.astype(np.float32)))
    np.testing.assert_array_equal(everything(floats), values.reshape(5, -1))


def test_bytes_as_images_end_at_exactly_one(tmp_path):
    source = load_npy(save(tmp_path, np.full((1, 2, 2), 255, np.uint8)))
    assert everything(source).max() == 1.0


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(4), ["one axis"]),
        (np.zeros(()), ["shape ()"]),
        (np.zeros((2, 3, 4, 5)), ["(2, 3, 4, 5)"]),
        (np.zeros((0, 3)), ["(0, 3)", "at least one"]),
        (np.zeros((3, 0)), ["(3, 0)", "at least one"]),
        (np.zeros((3, 2), complex), ["complex128"]),
        (np.array([["a", "b"]]), ["<U1"]),
        (np.zeros((2, 2), "M8[s]"), ["datetime64"]),
        (np.zeros((2, 2), [("a", "f4")]), ["type"]),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), ["x.npy", "nan", "row 1, column 1"]),
        (np.array([[1.0, -np.inf], [3.0, np.nan]]), ["-inf", "row 0, column 1"]),
        (np.array([[1, 2], [2**53 + 1, 0]]), ["9007199254740993", "row 1, column 0"]),
        (np.array([[1, 2], [0, 2**64 - 1]], np.uint64), ["18446744073709551615", "row 1, column 1"]),
    ],
)
def test_npy_that_cannot_be_used(tmp_path, array, words):
    path = save(tmp_path, array)
    refused(lambda: load_npy(path), *words)


def test_the_place_of_a_nan_beyond_the_first_batch(tmp_path):
    values = np.zeros((3000, 1000), np.float32)
    values[2345, 678] = np.nan
    path = save(tmp_path, values)
    refused(lambda: load_npy(path), "row 2345, column 678")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-read",)


def test_no_pickle_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path, np.array([[Bomb()]], dtype=object))
    refused(lambda: load_npy(path), "Python objects", "never read")
    np.savez(tmp_path / "x.npz", np.array([[Bomb()]], dtype=object))
    refused(lambda: load_npz(tmp_path / "x.npz"), "Python objects")
    path.write_bytes(pickle.dumps(Bomb()))
    refused(lambda: load_npy(path), "cannot be read")
    assert not (tmp_path / "pickle-was-read").exists()


def test_headers_that_claim_too_much_or_too_little(tmp_path):
    path = save(tmp_path, np.zeros((4, 3)))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(4, 3)", b"(9, 9)"))
    refused(lambda: load_npy(path), "cut off", "648 bytes")
    path.write_bytes(content.replace(b"(4, 3), }       ", b"(10**15, 3), }  "))
    refused(lambda: load_npy(path), "x.npy")
    path.write_bytes(content.replace(b"(4, 3), }               ", b"(1000000000000000, 3), }"))
    refused(lambda: load_npy(path), "cut off")
    path.write_bytes(content.replace(b"(4, 3), }  ", b"(-4, -3), }"))
    refused(lambda: load_npy(path), "(-4, -3)")
    path.write_bytes(content + b"more")
    refused(lambda: load_npy(path), "goes on")
    path.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + content[10:])
    refused(lambda: load_npy(path), "cannot be read")
    path.write_bytes(b"")
    refused(lambda: load_npy(path), "is empty")
    refused(lambda: load_npy(tmp_path / "absent.npy"), "absent.npy")
    refused(lambda: load_npy(tmp_path), "cannot be read")


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr", "dia"])
def test_npz_sparse_in_every_format(tmp_path, layout):
    matrix = sp.random_array((20, 7), density=0.3, rng=np.random.default_rng(0), format=layout)
    sp.save_npz(tmp_path / "x.npz", matrix)
    source = load_npz(tmp_path / "x.npz")
    assert source.array.format == "csr"
    np.testing.assert_array_equal(everything(source), matrix.toarray())


def write_csr(path, data, indices, indptr, shape):
    np.savez(path, format=b"csr", shape=shape, data=data, indices=indices, indptr=indptr)


def test_npz_sparse_with_unsorted_and_duplicate_indices(tmp_path):
    path = tmp_path / "x.npz"
    write_csr(path, np.array([200, 1, 100], np.uint8), np.array([2, 0, 2]), np.array([0, 3, 3]), (2, 3))
    np.testing.assert_array_equal(everything(load_npz(path)), [[1, 0, 300], [0, 0, 0]])


def test_npz_sparse_that_cannot_be_used(tmp_path):
    path = tmp_path / "x.npz"
    one = np.ones(1)
    write_csr(path, one, np.array([5]), np.array([0, 1]), (1, 3))
    refused(lambda: load_npz(path), "x.npz", "cannot be read")
    write_csr(path, one, np.array([-1]), np.array([0, 1]), (1, 3))
    refused(lambda: load_npz(path), "cannot be read")
    write_csr(path, np.array([np.nan]), np.array([2]), np.array([0, 0, 1]), (2, 3))
    refused(lambda: load_npz(path), "nan", "row 1, column 2")
    write_csr(path, np.array([2**60]), np.array([2]), np.array([0, 0, 1]), (2, 3))
    refused(lambda: load_npz(path), "2**53")
    write_csr(path, np.array([1j]), np.array([2]), np.array([0, 0, 1]), (2, 3))
    refused(lambda: load_npz(path), "complex")
    write_csr(path, one[:0], np.array([], int), np.array([0]), (0, 3))
    refused(lambda: load_npz(path), "(0, 3)")
    np.savez(path, format=b"coo", shape=(10**12, 3), data=one, row=[1], col=[1])
    refused(lambda: load_npz(path), "8000000000016 bytes")
    np.savez(path, format=b"csr", shape=(2, 3))
    refused(lambda: load_npz(path), "cannot be read")
    sp.save_npz(path, sp.csr_array(np.eye(3)))
    refused(lambda: load_npz(path, "data"), "--column")


def test_npz_of_arrays(tmp_path):
    path = tmp_path / "x.npz"
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (6, 2, 2), dtype=np.uint8), np.arange(6)
    np.savez_compressed(path, images=images)
    np.testing.assert_allclose(everything(load_npz(path)), images.reshape(6, 4) / 255, atol=1e-7)
    np.savez(path, images=images, labels=labels, words=np.array([None]))
    source = load_npz(path, "images")
    assert source.description.shape == (2, 2)
    assert source.description.name == "x.npz"
    refused(lambda: load_npz(path), "3 arrays", "images, labels, words", "--column")
    refused(lambda: load_npz(path, "image"), "no array 'image'", "did you mean 'images'")
    refused(lambda: load_npz(path, "labels"), "one axis")
    refused(lambda: load_npz(path, "words"), "Python objects")
    np.savez(path)
    refused(lambda: load_npz(path), "0 arrays (none)")


def test_compressed_bombs_are_refused_before_they_take_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("rarefire.data.checks.ALWAYS_ALLOWED", 2**20)
    np.savez_compressed(tmp_path / "x.npz", np.zeros((1000, 500)))
    images = struct.pack(">4B3I", 0, 0, 8, 3, 4000, 32, 32) + bytes(4000 * 32 * 32)
    (tmp_path / "x.idx.gz").write_bytes(gzip.compress(images))
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"1,2,3\n" * 700_000))
    (tmp_path / "line.csv.gz").write_bytes(gzip.compress(b"1" * 4_200_000))
    tracemalloc.start()
    for load, name in ((load_npz, "x.npz"), (load_idx, "x.idx.gz")):
        refused(lambda load=load, name=name: load(tmp_path / name), name, "over 200 times its size")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    refused(lambda: load_csv(tmp_path / "x.csv.gz"), "over 200 times its size")
    refused(lambda: load_csv(tmp_path / "line.csv.gz"), "over 200 times its size")


def test_zip_that_lies(tmp_path):
    path = tmp_path / "x.npz"
    whole = save(tmp_path, np.zeros((4, 3))).read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", whole[:-8])
    refused(lambda: load_npz(path), "cut off")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", whole)
    content = path.read_bytes()
    path.write_bytes(content.replace(whole, whole[:-4] + b"abcd"))
    refused(lambda: load_npz(path), "CRC")
    path.write_bytes(content[: len(content) // 2])
    refused(lambda: load_npz(path), "cannot be read")


def idx(values, code, dtype):
    header = struct.pack(f">4B{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
    return header + values.astype(dtype).tobytes()


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_of_every_type(tmp_path, code, dtype, packed):
    values = np.arange(12).reshape(4, 3)
    content = idx(values, code, dtype)
    path = tmp_path / ("x.idx.gz" if packed else "x.idx")
    path.write_bytes(gzip.compress(content) if packed else content)
    np.testing.assert_array_equal(everything(load_idx(path)), values)


def test_idx_images_by_hand(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 51, 255, 102, 153, 204]))
    source = load_idx(path)
    np.testing.assert_allclose(everything(source), [[0, 0.2, 1], [0.4, 0.6, 0.8]], rtol=1e-6)
    assert source.description.shape == (1, 3)
    assert source.dtype == np.float32


def test_idx_that_cannot_be_used(tmp_path):
    path, packed = tmp_path / "x.idx", tmp_path / "x.idx.gz"
    content = idx(np.arange(12).reshape(3, 2, 2), 8, "u1")
    for broken, word in [
        (content[:-1], "cut off"),
        (content + b"x", "goes on"),
        (content[:10], "within its header"),
        (content[:3], "magic"),
        (b"\x00\x01" + content[2:], "magic"),
        (b"\x00\x00\x07" + content[3:], "magic"),
        (b"\x00\x00\x08\xff" + content[4:], "magic"),
        (content[:4] + b"\xff" * 12 + content[16:], "cut off"),
        (content[:4] + bytes(12), "at least one row"),
        (idx(np.arange(5), 8, "u1"), "labels"),
    ]:
        path.write_bytes(broken)
        refused(lambda: load_idx(path), "x.idx", word)
        packed.write_bytes(gzip.compress(broken))
        refused(lambda: load_idx(packed), "x.idx.gz")
    packed.write_bytes(gzip.compress(content)[:-10])
    refused(lambda: load_idx(packed), "cannot be read")
    packed.write_bytes(content)
    refused(lambda: load_idx(packed), "cannot be read")


def test_mnist_agrees_with_its_published_mean():
    folder = Path(os.environ.get("RAREFIRE_DATA") or Path(__file__).parents[2] / "shared/data")
    path = folder / "mnist/train-images-idx3-ubyte.gz"
    if not path.exists():
        pytest.skip("MNIST's files are not on this machine")
    source = load_idx(path)
    assert source.shape == (60000, 784)
    assert np.mean([b.mean() for b in np.array_split(source.rows(slice(None)), 10)]) == pytest.approx(0.1307, abs=5e-5)


def write(tmp_path, text, name="x.csv"):
    path = tmp_path / name
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_with_and_without_a_header(tmp_path, name, end):
    body = end.join(["1,2.5,-3e2", "", '4,"5",6', ""])
    expected = [[1, 2.5, -300], [4, 5, 6]]
    plain = load_csv(write(tmp_path, body, name))
    np.testing.assert_array_equal(everything(plain), expected)
    assert plain.description == Description(name)
    named = load_csv(write(tmp_path, f'\ufeffa,b c,"d,1"{end}{body}', name))
    np.testing.assert_array_equal(everything(named), expected)
    assert named.description.feature_names == ("a", "b c", "d,1")
    assert named.description.kind == "named"


def test_csv_columns_by_name(tmp_path):
    path = write(tmp_path, 'id,word,2019,x,x\n1,hello,7,0,0\n2,"a, b\nc",8,0,0\n')
    source = load_csv(path, "2019, id")
    np.testing.assert_array_equal(everything(source), [[7, 1], [8, 2]])
    assert source.description.feature_names == ("2019", "id")
    refused(lambda: load_csv(path, "Word"), "no column 'Word'", "did you mean 'word'")
    refused(lambda: load_csv(path, "x"), "2 columns named 'x'")
    refused(lambda: load_csv(path, "id,word"), "line 2, column 'word'", "'hello'")
    refused(lambda: load_csv(path), "line 1", "'id'", "'2019'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3,x\n", ["line 3, column 'b'", "'x'"]),
        ("1,2\n\n3,\n", ["line 3, column 'column 2'", "empty cell"]),
        ("a,b\n1,2\nnan,4\n", ["line 3, column 'a'", "nan"]),
        ("a,b\n1,2\n3,1e999\n", ["line 3, column 'b'", "'1e999'"]),
        ("a,b\n1,2\n3\n", ["line 3 has 1 cells where line 1 has 2"]),
        ("a,b\n1,2\n3,4,5\n", ["line 3 has 3 cells"]),
        ("a,b\n", ["no rows"]),
        ("\n\n", ["no rows"]),
        ("", ["is empty"]),
        ('a,b\n1,"2\n', ["cannot be read"]),
        ("a\n1;2\n", ["line 2", "'1;2'"]),
        ('"a\n\x1b[31m",b\n"x\ny",2\n', ["line 4, column 'a  [31m'", "'x y'"]),
        (b"a,b\n1,\xff\n", ["cannot be read", "utf-8"]),
        (b"a,b\n1,\x00\n", ["x.csv"]),
        ("a,b\n" + "1" * 200_000 + ",2\n", ["field limit"]),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, words):
    path = write(tmp_path, text)
    refused(lambda: load_csv(path), "x.csv", *words)


def test_check_finite_names_columns_and_takes_any_source():
    source = ArraySource(np.array([[0, 1], [2, np.inf]]), Description("t", "named", feature_names=("a", "b")))
    refused(lambda: check_finite(source), "t:", "row 1, column b")
    refused(lambda: check_finite(source.subset(np.array([1]))), "row 0, column b")
    fine = source.subset(np.array([0]))
    assert check_finite(fine) is fine


@pytest.mark.parametrize("kind", ["npy", "npz", "sparse", "coo", "idx", "csv", "csv.gz", "idx.gz"])
def test_mutated_files_are_read_or_refused(tmp_path, kind):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, (6, 5)).astype(np.float32)
    path = tmp_path / "x"
    loaders = {"npy": load_npy, "npz": load_npz, "sparse": load_npz, "coo": load_npz}
    load = loaders.get(kind) or (load_idx if "idx" in kind else load_csv)
    if kind in ("sparse", "coo"):
        path = tmp_path / "x.npz"
        sp.save_npz(path, sp.csr_array(values) if kind == "sparse" else sp.coo_array(values), compressed=False)
    elif kind == "npz":
        path = tmp_path / "x.npz"
        np.savez_compressed(path, values)
    elif kind == "npy":
        path = save(tmp_path, values)
    else:
        path = tmp_path / f"x.{kind}"
        content = idx(values, 0x0D, ">f4") if "idx" in kind else b"a,b\n1,2\n3,4\n5,6\n"
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    original = path.read_bytes()
    messages = []
    for trial in range(300):
        content = bytearray(original)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] = rng.integers(0, 256)
        if trial % 3 == 0:
            content = content[: rng.integers(0, len(content))]
        path.write_bytes(content)
        try:
            rows = everything(load(path))
        except InputError as error:
            messages.append(str(error))
        else:
            assert np.isfinite(rows).all()
    assert len(messages) > 50
    assert all(path.name in message and "\n" not in message for message in messages)
