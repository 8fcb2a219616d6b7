"""From a word or a path to a source, and what wrong ones are told."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from PIL import Image

from rarefire.data.datasets import Lines, Photos
from rarefire.data.open import open_source
from rarefire.errors import InputError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder_of_images(path):
    path.mkdir()
    for name in "ab":
        Image.new("L", (6, 4), ord(name)).save(path / f"{name}.png")


def test_names(here):
    assert open_source("digits").shape == (1797, 64)
    assert open_source("Lines", seed=4).fingerprint == Lines(seed=4).open().fingerprint
    assert open_source("lines").fingerprint == Lines().open().fingerprint
    assert open_source("photos", patch=4, seed=2).fingerprint == Photos(patch=4, seed=2).open().fingerprint


def test_every_kind_of_path(here):
    values = np.arange(12.0).reshape(4, 3)
    np.save("x.npy", values)
    np.savez("x.npz", one=values, two=values + 1)
    sp.save_npz("sparse.npz", sp.csr_array(values))
    Path("x.csv").write_text("a,b,c\n" + "\n".join(",".join(map(str, row)) for row in values))
    Path("x.CSV.gz").write_bytes(gzip.compress(Path("x.csv").read_bytes()))
    idx = struct.pack(">4B3I", 0, 0, 8, 3, 4, 1, 3) + bytes(range(12))
    for name in ("t-images-idx3-ubyte", "t.idx3-ubyte", "x.idx"):
        Path(name).write_bytes(idx)
        Path(f"{name}.gz").write_bytes(gzip.compress(idx))
    for name in ("x.npy", "./x.npy", "sparse.npz", "x.csv", "x.CSV.gz", str(here / "x.npy")):
        source = open_source(name)
        np.testing.assert_array_equal(source.rows(slice(0, 4)), values)
        assert source.description.name == Path(name).name
    np.testing.assert_array_equal(open_source("x.npz", column="two").rows(slice(0, 4)), values + 1)
    np.testing.assert_array_equal(open_source("x.csv", column="c,a").rows(slice(0, 4)), values[:, [2, 0]])
    Path("words.txt").write_text("red green\n\nred\n")
    Path("words.txt.gz").write_bytes(gzip.compress(Path("words.txt").read_bytes()))
    Path("texts.csv").write_text("id,text\n1,red green\n2,red\n")
    for name, column in (("words.txt", None), ("words.txt.gz", None), ("texts.csv", "text")):
        np.testing.assert_array_equal(open_source(name, column=column).rows(slice(0, 2)), [[1, 1], [0, 1]])
        source = open_source(name, column=column, vocabulary=("red", "blue"))
        assert source.description.feature_names == ("red", "blue")
        np.testing.assert_array_equal(source.rows(slice(0, 2)), [[1, 0], [1, 0]])
    for name in ("t-images-idx3-ubyte", "t.idx3-ubyte", "x.idx"):
        for path in (name, f"{name}.gz"):
            np.testing.assert_allclose(open_source(path).rows(slice(0, 4)), values / 255, rtol=1e-6)


def test_folders_with_and_without_patches(here):
    folder_of_images(here / "pictures")
    for where in ("pictures", "pictures/", "./pictures"):
        source = open_source(where)
        assert source.shape == (2, 24)
        assert source.description.name == "pictures"
    patches = open_source("pictures", patch=3)
    assert patches.shape == (10000, 9)
    assert patches.fingerprint == open_source("pictures", patch=3, seed=0).fingerprint
    assert patches.fingerprint != open_source("pictures", patch=3, seed=1).fingerprint
    folder_of_images(here / "holiday.2024")
    assert open_source("holiday.2024").shape == (2, 24)


def test_a_word_is_a_dataset_first_and_a_path_second(here):
    folder_of_images(here / "digits")
    assert open_source("digits").shape == (1797, 64)
    assert open_source("./digits").shape == (2, 24)
    np.save("photos.npy", np.zeros((2, 2)))
    assert open_source("photos.npy").shape == (2, 2)


@pytest.mark.parametrize(
    ("where", "options", "words"),
    [
        ("cifar-10", {}, ["'cifar-10' is no file or folder", "did you mean 'cifar10'?"]),
        (
            "digts",
            {},
            ["'digts' is no file or folder", "lines, mnist, movies, newsgroups, photos", "did you mean 'digits'?"],
        ),
        ("absent.npy", {}, ["'absent.npy' is no file or folder"]),
        ("absent/digits", {}, ["is no file or folder"]),
        ("", {}, ["is no file or folder"]),
        ("x" * 5000, {}, ["is no file or folder"]),
        ("a\0b", {}, ["is no file or folder"]),
        ("numbers.txt", {}, ["numbers.txt has no words in its 1 documents"]),
        ("numbers.txt", {"column": "a"}, ["--column does not apply to numbers.txt"]),
        ("numbers.txt", {"patch": 3}, ["--patch does not apply to numbers.txt"]),
        ("numbers.txt.gz", {}, ["cannot be read as a text"]),
        ("movies", {"column": "Plot"}, ["--column does not apply to movies"]),
        ("newsgroups", {"patch": 3}, ["--patch does not apply to newsgroups"]),
        ("one.png", {}, ["one image", "--patch"]),
        ("x.doc", {}, ["x.doc", ".txt (both also .gz)"]),
        ("word", {}, ["of no kind"]),
        ("empty.npy", {}, ["is empty"]),
        ("x.npy", {"patch": 3}, ["--patch does not apply to x.npy"]),
        ("x.npy", {"column": "a"}, ["--column does not apply to x.npy"]),
        ("x.csv", {"patch": 3}, ["--patch does not apply"]),
        ("digits", {"patch": 3}, ["--patch does not apply to digits"]),
        ("digits", {"column": "a"}, ["--column does not apply to digits"]),
        ("photos", {"column": "a"}, ["--column does not apply to photos"]),
        ("photos", {"patch": 0}, ["--patch 0"]),
        ("folder", {"column": "a"}, ["--column does not apply to folder"]),
        ("folder", {}, ["no images"]),
        ("x.bin", {}, ["no batch of CIFAR-10"]),
        ("x.bin", {"column": "a"}, ["--column does not apply to x.bin"]),
        ("data_batch_1", {}, ["pickles are never read", "cifar-10-binary.tar.gz"]),
    ],
)
def test_what_cannot_be_opened(here, where, options, words):
    for name in ("numbers.txt", "numbers.txt.gz", "one.png", "x.doc", "word", "x.csv", "data_batch_1"):
        Path(name).write_text("1,2\n")
    Path("empty.npy").write_text("")
    np.save("x.npy", np.zeros((2, 2)))
    Path("x.bin").write_bytes(bytes(3072))
    Path("folder").mkdir()
    with pytest.raises(InputError) as caught:
        open_source(where, **options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_hang(here):
    os.mkfifo("x.npy")
    with pytest.raises(InputError, match=r"x\.npy"):
        open_source("x.npy")


def test_real_photographs():
    folder = Path(os.environ.get("RAREFIRE_DATA") or Path(__file__).parents[2] / "shared/data") / "photos"
    if not folder.exists():
        pytest.skip("the photographs are not on this machine")
    patches = open_source(str(folder), patch=8)
    rows = patches.rows(slice(0, 10000))
    assert rows.min() >= 0
    assert rows.max() <= 1
    # Neighbouring pixels of natural images correlate strongly.
    assert np.corrcoef(rows[:, 0], rows[:, 1])[0, 1] > 0.9
    with pytest.raises(InputError, match="--patch N"):
        open_source(str(folder))
