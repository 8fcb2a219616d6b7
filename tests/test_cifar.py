"""CIFAR-10's binary batches: files made by the description of the format, compared with what was put into them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rarefire.data.cifar import batch_files, load_batches
from rarefire.data.images import cut_patches, grey_images, load_folder
from rarefire.data.mapped import mapping_of
from rarefire.data.open import grey_pictures, open_source
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError, NotAtHand
from rarefire.random import Generator


def everything(source):
    return source.rows(slice(0, source.shape[0]))


def made(seed, n_images):
    """Colours of shape (n_images, 32, 32, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (n_images, 32, 32, 3), dtype=np.uint8)


def record(image, label):
    """A label, then all of the red, row by row, all of the green, all of the blue."""
    return bytes([label, *(int(image[i, j, c]) for c in range(3) for i in range(32) for j in range(32))])


def write(path, images, labels=None):
    labels = [number % 10 for number in range(len(images))] if labels is None else labels
    path.write_bytes(b"".join(map(record, images, labels)))
    return path


def pillow(images):
    return np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images]).reshape(len(images), 1024)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder as the archive of the binary version has it, with batches of different lengths."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number, n_images in ((1, 3), (2, 1), (3, 2), (4, 4), (5, 2)):
        write(folder / f"data_batch_{number}.bin", made(number, n_images))
    write(folder / "test_batch.bin", made(6, 2))
    (folder / "batches.meta.txt").write_text("airplane\n")
    (folder / "readme.html").write_text("<html>")
    return folder


def test_one_batch(here):
    path = here / "data_batch_1.bin"
    source = open_source(str(path))
    assert source.shape == (3, 1024)
    assert source.dtype == np.float32
    notes = "grey values of data_batch_1.bin, bytes divided by 255"
    assert source.description == Description("data_batch_1.bin", "image", (32, 32), notes=notes)
    rows = everything(source)
    np.testing.assert_allclose(rows, (made(1, 3) @ [0.299, 0.587, 0.114] / 255).reshape(3, 1024), atol=0.6 / 255)
    np.testing.assert_array_equal(rows, pillow(made(1, 3)) * np.float32(1 / 255))
    np.testing.assert_array_equal(source.rows(np.array([2, 0, 2])), rows[[2, 0, 2]])
    assert source.rows(slice(0, 0)).shape == (0, 1024)


def test_pure_colours_have_their_weights(tmp_path):
    images = np.zeros((4, 32, 32, 3), np.uint8)
    for number in range(3):
        images[number, :, :, number] = 255
    images[3] = 255
    images[0, 5, 7] = 255
    source = open_source(str(write(tmp_path / "x.bin", images)))
    np.testing.assert_allclose(everything(source)[:, 0], [0.299, 0.587, 0.114, 1], atol=0.5 / 255)
    assert everything(source).max() == 1
    # The place of a pixel: row 5, column 7.
    assert np.flatnonzero(everything(source)[0] == 1).tolist() == [5 * 32 + 7]


def test_bytes_stay_on_disk(here):
    source = load_batches(batch_files(here), "x")
    assert isinstance(source, ArraySource)
    for batch in source.array.colour.parts:
        assert mapping_of(batch) is not None
        assert batch.dtype == np.uint8
        assert not batch.flags.writeable
    assert source.array[slice(None)].dtype == np.uint8


def test_a_folder_is_its_training_batches_in_order(here):
    expected = pillow(np.concatenate([made(number, n) for number, n in ((1, 3), (2, 1), (3, 2), (4, 4), (5, 2))]))
    for where in (here, f"{here}/", "./cifar-10-batches-bin", "cifar-10-batches-bin"):
        source = open_source(str(where))
        assert source.description.name == "cifar-10-batches-bin"
        np.testing.assert_array_equal(everything(source), expected * np.float32(1 / 255))
    index = np.random.default_rng(0).integers(0, 12, 40)
    np.testing.assert_array_equal(source.rows(index), everything(source)[index])
    np.testing.assert_array_equal(source.subset(index).rows(slice(5, 9)), everything(source)[index[5:9]])
    write(here / "data_batch_10.bin", made(10, 1))
    assert [path.name for path in batch_files(here)][-2:] == ["data_batch_5.bin", "data_batch_10.bin"]


def test_many_images_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("rarefire.data.cifar._AT_A_TIME", 3)
    for number in (1, 2):
        write(tmp_path / f"data_batch_{number}.bin", made(number, 5))
    source = open_source(str(tmp_path))
    expected = pillow(np.concatenate([made(1, 5), made(2, 5)])) * np.float32(1 / 255)
    np.testing.assert_array_equal(everything(source), expected)
    np.testing.assert_array_equal(source.rows(slice(2, 9)), expected[2:9])


def test_the_same_images_in_a_folder_are_the_same_source(here, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(made(1, 3)):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{number}.png")
    source = open_source(str(here / "data_batch_1.bin"))
    assert source.fingerprint == load_folder(tmp_path / "pictures").fingerprint
    assert source.fingerprint != open_source(str(here / "data_batch_2.bin")).fingerprint


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_files_that_are_no_batches(tmp_path):
    path = write(tmp_path / "data_batch_1.bin", made(0, 3))
    whole = path.read_bytes()
    cases = [
        (whole[:-1], ["9218 bytes", "3073", "cut off"]),
        (whole + b"x", ["9220 bytes"]),
        (whole[:3072], ["3072 bytes"]),
        (b"", ["is empty"]),
        (whole[:3073] + b"\x0a" + whole[3074:], ["label of image 1", "is 10", "0 to 9"]),
        # CIFAR-100 has two labels an image.
        (b"\x01" + whole[:3073] + b"\x02" + whole[:3073], ["6148 bytes"]),
    ]
    for content, words in cases:
        path.write_bytes(content)
        refused(lambda: open_source(str(path)), "data_batch_1.bin", *words)
        refused(lambda: open_source(str(tmp_path)), "data_batch_1.bin", *words)
        refused(lambda: grey_pictures(str(path)), "data_batch_1.bin", *words)
    refused(lambda: open_source(str(tmp_path / "absent.bin")), "absent.bin")
    refused(lambda: grey_pictures(str(tmp_path / "absent.bin")), "absent.bin")
    path.unlink()
    path.mkdir()
    refused(lambda: open_source(str(tmp_path)), "data_batch_1.bin")


class Bomb:
    def __reduce__(self):
        return Path.mkdir, (Path("pickle-was-read"),)


def test_no_pickle_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(Bomb(), protocol=2)
    for name in ("data_batch_1", "test_batch", "batches.meta", "cifar-10-python.tar.gz"):
        (tmp_path / name).write_bytes(content)
        for call in (open_source, grey_pictures):
            refused(lambda call=call, name=name: call(name), name, "pickles are never read", "cifar-10-binary.tar.gz")
    refused(lambda: open_source(str(tmp_path)), "data_batch_1 ", "pickles are never read", "cifar-10-binary.tar.gz")
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"x")
    refused(lambda: open_source("cifar-10-binary.tar.gz"), "unpack")
    (tmp_path / "renamed.bin").write_bytes(content)
    refused(lambda: open_source("renamed.bin"), "no batch of CIFAR-10", "cifar-10-binary.tar.gz")
    assert not (tmp_path / "pickle-was-read").exists()


def test_patches_are_pieces_of_the_images(here):
    images = everything(open_source(str(here))).reshape(-1, 32, 32)
    patches = open_source(str(here), patch=8)
    assert patches.shape == (10000, 64)
    assert patches.description.shape == (8, 8)
    windows = np.lib.stride_tricks.sliding_window_view(images, (8, 8), axis=(1, 2)).reshape(-1, 64)
    there = {window.tobytes() for window in windows}
    found = {patch.tobytes() for patch in everything(patches)}
    assert found <= there
    # 10,000 draws from 12·25² places leave out 1 in e^(4/3).
    assert len(found) > 0.7 * len(there)
    assert patches.fingerprint == open_source(str(here), patch=8, seed=0).fingerprint
    assert patches.fingerprint != open_source(str(here), patch=8, seed=1).fingerprint
    one = open_source(str(here / "data_batch_2.bin"), patch=32)
    np.testing.assert_array_equal(everything(one)[7], pillow(made(2, 1))[0] * np.float32(1 / 255))
    refused(lambda: open_source(str(here), patch=33), "32×32 pixels", "33 by 33", "--patch 32")


def test_patches_of_a_source_are_those_of_the_folder_of_its_images(here, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(made(1, 3)):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{number}.png")
    source = cut_patches(load_folder(tmp_path / "pictures"), 8, 10000, Generator(0, "patches"))
    assert source.fingerprint == open_source(str(tmp_path / "pictures"), patch=8).fingerprint
    assert source.fingerprint == open_source(str(here / "data_batch_1.bin"), patch=8).fingerprint


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_by_name(here, tmp_path, monkeypatch, below):
    monkeypatch.setenv("RAREFIRE_DATA", str(tmp_path / "data"))
    (tmp_path / "data/cifar10").mkdir(parents=True)
    here.rename(tmp_path / "data/cifar10" / below)
    source, patches = open_source("cifar10"), open_source("CIFAR10", patch=8)
    assert source.shape == (12, 1024)
    assert patches.shape == (10000, 64)
    assert source.description.name == patches.description.name == "cifar10"
    assert patches.fingerprint == open_source(str(tmp_path / "data/cifar10" / below), patch=8).fingerprint
    assert patches.fingerprint != open_source("cifar10", patch=8, seed=1).fingerprint
    refused(lambda: open_source("cifar10", column="a"), "--column does not apply to cifar10")
    assert len(grey_pictures("cifar10").images) == 12


def test_grey_pictures(here, tmp_path):
    images = np.concatenate([made(number, n) for number, n in ((1, 3), (2, 1), (3, 2), (4, 4), (5, 2))])
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{number:02}.png")
    for where in (str(here), str(tmp_path / "pictures")):
        pictures = grey_pictures(where).images
        assert [picture.shape for picture in pictures] == [(32, 32)] * 12
        assert {picture.dtype for picture in pictures} == {np.dtype(np.float64)}
        np.testing.assert_allclose(np.stack(pictures), pillow(images).reshape(-1, 32, 32) / 255, atol=1e-7)
    assert len(grey_pictures(str(here / "test_batch.bin")).images) == 2
    for picture, image in zip(grey_pictures().images, grey_images(), strict=True):
        np.testing.assert_array_equal(picture, image)
    refused(lambda: grey_pictures("absent"), "absent")
    refused(lambda: grey_pictures("digits"), "digits")


def test_not_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("RAREFIRE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def openml(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", openml)
    for call in (open_source, grey_pictures):
        with pytest.raises(NotAtHand, match=r"CIFAR-10 is not at hand: .*no network"):
            call("cifar10")


def test_on_the_command_line(cli, here):
    listed = [line.split(maxsplit=1) for line in cli("list", "datasets").out.splitlines()]
    assert "32×32 pixels" in dict(listed)["cifar10"]
    # Patches too small for the measure of edges, which takes half a minute for units of 32×32 pixels.
    sets = ["--set", "n_components=3", "--set", "max_iter=2", "--patch", "3"]
    outcome = cli("fit", here / "data_batch_4.bin", *sets, "--quiet", "--out", "run")
    assert outcome.code == 0, outcome.err
    spec = json.loads(Path("run/spec.json").read_text())
    assert (spec["source"]["patch"], spec["data"]["shape"]) == (3, [3, 3])
    outcome = cli("fit", here / "batches.meta.txt", "--patch", "4")
    assert outcome.code == 2
    assert "only to folders of images, to photos and to CIFAR-10" in outcome.err
