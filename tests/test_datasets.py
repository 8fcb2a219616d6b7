"""The named datasets: a contract over all of them, and each against where its rows come from."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_sample_images
from sklearn.feature_extraction.text import CountVectorizer

from rarefire.component import find, from_spec, members, to_spec
from rarefire.data.datasets import (
    CIFAR10,
    MNIST,
    Dataset,
    Digits,
    Lines,
    Movies,
    Newsgroups,
    Photos,
    film_plots,
    newsgroup_posts,
)
from rarefire.data.source import Description
from rarefire.errors import InputError


def everything(source):
    return source.rows(slice(0, source.shape[0]))


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Three made images in MNIST's place, so that tests need no download."""
    monkeypatch.setenv("RAREFIRE_DATA", str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    (tmp_path / "mnist").mkdir()
    content = gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 3, 28, 28) + pixels.tobytes())
    (tmp_path / "mnist/train-images-idx3-ubyte.gz").write_bytes(content)
    return pixels


@pytest.fixture
def small_cifar10(tmp_path, monkeypatch):
    """Two made images a batch in CIFAR-10's place: labels, and planes of red, green and blue."""
    monkeypatch.setenv("RAREFIRE_DATA", str(tmp_path))
    rng = np.random.default_rng(1)
    labels, planes = rng.integers(0, 10, (6, 2, 1), np.uint8), rng.integers(0, 256, (6, 2, 3072), np.uint8)
    (tmp_path / "cifar10").mkdir()
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for name, batch in zip(names, np.concatenate([labels, planes], axis=2), strict=True):
        (tmp_path / "cifar10" / name).write_bytes(batch.tobytes())
    return planes.reshape(12, 3, 1024)


TABLE = b'''ID,Title,Category,Plot
0,Dogs,"""Family film"",  ""Drama""","A ""good"" dog runs, and
runs."
1,1984,"""Drama""",A man reads.
2,Cats,,A cat and a dog.
'''


@pytest.fixture
def small_movies(tmp_path, monkeypatch):
    """Three made plots in the movies' place, written as the real ones are."""
    monkeypatch.setenv("RAREFIRE_DATA", str(tmp_path))
    (tmp_path / "movies").mkdir()
    (tmp_path / "movies/movies.csv.gz").write_bytes(gzip.compress(TABLE))


@pytest.fixture
def small_newsgroups(monkeypatch):
    """Three made posts for what scikit-learn would fetch."""
    bunch = SimpleNamespace(data=["a moon", "", "the moon and faith"], target=[1, 1, 0], target_names=["alt", "sci"])
    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", lambda **_: bunch)


@pytest.mark.parametrize("cls", list(members(Dataset)), ids=lambda cls: cls.__name__)
def test_contract(cls, small_mnist, small_cifar10, small_movies, small_newsgroups):
    dataset = cls()
    name = cls.__name__.lower()
    assert find(Dataset, name) is cls
    assert all(value is None or isinstance(value, (int, float, str)) for value in dataset.get_params().values())
    assert clone(dataset) == dataset
    assert from_spec(to_spec(dataset), Dataset) == dataset
    assert cls.__doc__
    source = dataset.open()
    assert source.description.name == name
    assert source.description.notes
    assert source.dtype == np.float32
    assert Description.from_json(source.description.to_json()) == source.description
    if source.description.kind == "image":
        assert np.prod(source.description.shape) == source.shape[1]
    if source.description.kind == "words":
        assert len(source.description.feature_names) == source.shape[1]
    assert source.fingerprint == cls().open().fingerprint
    if "seed" in dataset.get_params():
        assert source.fingerprint != cls(seed=1).open().fingerprint


def test_lines():
    source = Lines(n_samples=200).open()
    assert source.shape == (200, 81)
    assert set(np.unique(everything(source))) == {0.0, 1.0}


def test_digits_are_scikit_learn_s():
    source = Digits().open()
    np.testing.assert_array_equal(everything(source), load_digits().data / 16)
    assert everything(source).max() == 1


@pytest.mark.parametrize("patch", [2, 8])
def test_photos_are_standardised_pieces(patch):
    source = Photos(patch=patch, n_patches=3000).open()
    rows = everything(source).astype(np.float64)
    assert rows.shape == (3000, patch * patch)
    assert source.description.shape == (patch, patch)
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-6)
    assert rows.std() == pytest.approx(1, abs=1e-6)
    # One scale for all: whole grey levels come back, and some place of a photograph holds a patch of them.
    deviation = float(source.description.notes.split("divided by ")[1].split()[0])
    levels = rows[0] * deviation * 255
    levels -= levels[0]
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-2)
    if patch == 8:
        piece = np.round(levels).reshape(8, 8)
        found = 0
        for image in load_sample_images().images:
            # Pillow's integer rounding of the luma may differ from ours by one level.
            luma = np.floor(image @ [0.299, 0.587, 0.114] + 0.5)
            windows = np.lib.stride_tricks.sliding_window_view(luma, (8, 8))
            found += (np.abs(windows - windows[..., :1, :1] - piece).max(axis=(2, 3)) <= 2).sum()
        assert found >= 1


def test_mnist_rows(small_mnist):
    np.testing.assert_allclose(everything(MNIST().open()), small_mnist.reshape(3, -1) / 255, atol=1e-7)


def test_mnist_in_full(monkeypatch):
    folder = Path(os.environ.get("RAREFIRE_DATA") or Path(__file__).parents[2] / "shared/data")
    if not (folder / "mnist").exists():
        pytest.skip("MNIST's files are not on this machine")
    monkeypatch.setenv("RAREFIRE_DATA", str(folder))
    assert MNIST().open().shape == (60000, 784)
    assert MNIST(part="test").open().shape == (10000, 784)


def test_cifar10_rows(small_cifar10):
    luma = np.einsum("ncp,c->np", small_cifar10, [0.299, 0.587, 0.114]) / 255
    train, test = CIFAR10().open(), CIFAR10(part="test").open()
    np.testing.assert_allclose(everything(train), luma[:10], atol=0.6 / 255)
    np.testing.assert_allclose(everything(test), luma[10:], atol=0.6 / 255)
    assert train.description.shape == (32, 32)


def test_cifar10_in_full(monkeypatch):
    folder = Path(os.environ.get("RAREFIRE_DATA") or Path(__file__).parents[2] / "shared/data")
    if not (folder / "cifar10").exists():
        pytest.skip("CIFAR-10's files are not on this machine")
    monkeypatch.setenv("RAREFIRE_DATA", str(folder))
    train = CIFAR10().open()
    assert train.shape == (50000, 1024)
    assert CIFAR10(part="test").open().shape == (10000, 1024)
    # The published means of the channels are 0.4914, 0.4822 and 0.4465.
    mean = np.mean([rows.mean(axis=1).mean() for rows in np.split(everything(train), 10)])
    assert mean == pytest.approx(0.299 * 0.4914 + 0.587 * 0.4822 + 0.114 * 0.4465, abs=5e-4)


def test_movies(small_movies):
    plots = film_plots()
    assert plots.documents == ['A "good" dog runs, and\nruns.', "A man reads.", "A cat and a dog."]
    assert plots.titles == ["Dogs", "1984", "Cats"]
    assert plots.genres == [{"Family film", "Drama"}, {"Drama"}, set()]
    source = Movies().open()
    assert source.description.feature_names == ("and", "cat", "dog", "good", "man", "reads", "runs")
    assert everything(source).tolist() == [[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]]
    given = Movies().open(("dog", "owl"))
    assert given.description.feature_names == ("dog", "owl")
    assert everything(given).tolist() == [[1, 0], [0, 0], [1, 0]]


def test_movies_in_another_form_are_refused(small_movies, tmp_path):
    (tmp_path / "movies/movies.csv.gz").write_bytes(gzip.compress(b"id,title\n0,Dogs\n"))
    with pytest.raises(InputError, match="has no column 'Title'"):
        Movies().open()


def test_movies_in_full(monkeypatch):
    folder = Path(os.environ.get("RAREFIRE_DATA") or Path(__file__).parents[2] / "shared/data")
    if not (folder / "movies/movies.csv.gz").exists():
        pytest.skip("the file of film plots is not on this machine")
    monkeypatch.setenv("RAREFIRE_DATA", str(folder))
    plots, source = film_plots(), Movies().open()
    assert len(plots.documents) == len(plots.titles) == len(plots.genres) == 5000
    assert plots.titles[0] == "Ghosts of Mars"
    assert "Space western" in plots.genres[0]
    assert len(set().union(*plots.genres)) == 264
    counter = CountVectorizer(binary=True, min_df=10)
    expected = counter.fit_transform(plots.documents)
    assert source.description.feature_names == tuple(counter.get_feature_names_out())
    assert (expected != source.array).nnz == 0


def test_newsgroups(small_newsgroups):
    documents, labels = newsgroup_posts("test")
    assert documents == ["a moon", "", "the moon and faith"]
    assert labels == ["sci", "sci", "alt"]
    source = Newsgroups().open()
    assert source.description.feature_names == ("and", "faith", "moon", "the")
    assert everything(source).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("dataset", "word"),
    [
        (Lines(n_samples=0), "n_samples=0 of lines"),
        (Lines(n_samples=2.5), "n_samples=2.5"),
        (Lines(seed=-1), "seed=-1"),
        (Photos(patch=1), "patch=1 of photos"),
        (Photos(patch=5000), "do not fit"),
        (Photos(n_patches="many"), "n_patches='many'"),
        (Photos(seed=True), "seed=True"),
        (MNIST(part="half"), "no part 'half'"),
        (CIFAR10(part="half"), "CIFAR-10 has no part 'half'"),
        (Newsgroups(part="half"), "newsgroups has no part 'half'"),
    ],
)
def test_arguments_that_cannot_be(dataset, word):
    with pytest.raises(InputError) as caught:
        dataset.open()
    assert word in str(caught.value)


def test_mnist_of_another_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RAREFIRE_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    path = tmp_path / "mnist/train-images-idx3-ubyte"
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 1, 2, 2) + bytes(4))
    with pytest.raises(InputError, match="28 by 28"):
        MNIST().open()
