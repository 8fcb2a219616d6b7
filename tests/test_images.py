"""Folders of images: real files of every format, and patches compared with the pictures they come from."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from rarefire.data.images import (
    extract_patches,
    grey_images,
    halve,
    load_folder,
    load_patches,
    read_image,
    whiten_image,
)
from rarefire.data.source import Description
from rarefire.errors import InputError
from rarefire.random import Generator

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)


def everything(source):
    return source.rows(slice(0, source.shape[0]))


def png16(values):
    """A 16-bit grey PNG by the PNG specification alone."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "tiff", "webp", "PNG"])
def test_lossless_formats_keep_every_pixel(tmp_path, suffix):
    Image.fromarray(GREY).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    source = load_folder(tmp_path)
    np.testing.assert_allclose(everything(source), GREY.reshape(1, -1) / 255, atol=1e-7 if suffix != "webp" else 0.01)
    assert source.description.kind == "image"
    assert source.description.shape == (6, 5)
    assert source.description.name == tmp_path.name
    assert source.dtype == np.float32


@pytest.mark.parametrize("suffix", ["jpg", "jpeg"])
def test_jpeg_is_close(tmp_path, suffix):
    smooth = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 8
    Image.fromarray(smooth).save(tmp_path / f"a.{suffix}", quality=95)
    np.testing.assert_allclose(everything(load_folder(tmp_path)), smooth.reshape(1, -1) / 255, atol=0.03)


def test_colour_becomes_luma_and_can_be_kept(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    expected = COLOUR @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(everything(load_folder(tmp_path)), expected.reshape(1, -1), atol=0.6 / 255)
    kept = load_folder(tmp_path, grey=False)
    assert kept.description.shape == (6, 5, 3)
    np.testing.assert_allclose(everything(kept), COLOUR.reshape(1, -1) / 255, atol=1e-7)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_are_read(tmp_path, mode):
    Image.new("RGB", (4, 3), "white").convert(mode).save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    np.testing.assert_array_equal(everything(load_folder(tmp_path)), np.ones((1, 12)))


def test_sixteen_bits_alone_and_among_eight(tmp_path):
    deep = np.array([[0, 1, 256], [40000, 65534, 65535]], np.uint16)
    (tmp_path / "a.png").write_bytes(png16(deep))
    np.testing.assert_allclose(everything(load_folder(tmp_path)), deep.reshape(1, -1) / 65535, atol=1e-7)
    Image.fromarray(GREY[:2, :3]).save(tmp_path / "b.png")
    expected = [deep.ravel() / 65535, GREY[:2, :3].ravel() / 255]
    np.testing.assert_allclose(everything(load_folder(tmp_path)), expected, atol=1e-7)
    assert read_image(tmp_path / "a.png", grey=False).shape == (2, 3, 3)


def test_images_are_sorted_by_name_and_others_left_out(tmp_path):
    for name, value in [("b", 2), ("a", 1), ("c", 3)]:
        Image.new("L", (2, 2), value).save(tmp_path / f"{name}.png")
    (tmp_path / "README").write_text("no image")
    (tmp_path / "._d.png").write_text("a Mac's shadow of a file")
    (tmp_path / "e.png").mkdir()
    np.testing.assert_allclose(everything(load_folder(tmp_path))[:, 0] * 255, [1, 2, 3], rtol=1e-6)


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_folders_that_cannot_be_used(tmp_path):
    refused(lambda: load_folder(tmp_path), "no images", tmp_path.name)
    refused(lambda: load_folder(tmp_path / "absent"), "absent")
    for name, size in [("a", (4, 3)), ("b", (4, 3)), ("c", (3, 4)), ("d", (9, 9))]:
        Image.new("L", size).save(tmp_path / f"{name}.png")
    refused(lambda: load_folder(tmp_path), "a.png is 4×3", "c.png is 3×4", "--patch N")
    generator = Generator(0, "test")
    refused(lambda: load_patches(tmp_path, 4, 10, generator), "a.png is 4×3", "--patch 3")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "webp"])
def test_damaged_images_are_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (40, 40), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not an image", whole[:20]):
        path.write_bytes(content)
        refused(lambda: load_folder(tmp_path), f"a.{suffix}")
        refused(lambda: load_patches(tmp_path, 4, 10, Generator(0, "test")), f"a.{suffix}")


def test_mutated_images_are_read_or_refused(tmp_path):
    for suffix in ("png", "jpg", "bmp", "gif", "tif", "webp"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(GREY).save(path)
        whole = path.read_bytes()
        for _ in range(100):
            content = bytearray(whole)
            for place in RNG.integers(0, len(content), 3):
                content[place] = RNG.integers(0, 256)
            path.write_bytes(content)
            try:
                pixels = read_image(path)
            except InputError:
                continue
            assert pixels.ndim == 2


def test_other_content_behind_an_image_suffix_is_not_run(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    refused(lambda: load_folder(tmp_path), "a.png")


@pytest.mark.parametrize("share", [0.4, 0.9])
def test_pixel_bombs(tmp_path, monkeypatch, share):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(share * 10000))
    refused(lambda: load_folder(tmp_path), "a.png", "more pixels than is safe")


def test_more_than_sixteen_bits(tmp_path):
    Image.fromarray(np.full((3, 3), 70000, np.int32)).save(tmp_path / "a.tif")
    refused(lambda: load_folder(tmp_path), "a.tif", "16 bits")
    Image.fromarray(np.full((3, 3), 0.5, np.float32)).save(tmp_path / "a.tif")
    refused(lambda: load_folder(tmp_path), "a.tif", "16 bits")


def coded(height, width, number):
    """A picture whose every pixel tells where it is."""
    return (number * 10000 + np.add.outer(np.arange(height) * 100, np.arange(width))).astype(np.float64)


def test_patches_are_pieces_and_positions_are_uniform():
    sizes = [(6, 9), (5, 5), (8, 4)]
    images = [coded(*size, number) for number, size in enumerate(sizes)]
    side, n = 3, 40000
    patches, _ = extract_patches(images, side, n, Generator(0, "test"))
    assert patches.dtype == np.float32
    assert patches.shape == (n, 9)
    first = patches[:, :1]
    np.testing.assert_array_equal(patches - first, np.tile(np.add.outer([0, 100, 200], [0, 1, 2]).ravel(), (n, 1)))
    positions, counts = np.unique(first, return_counts=True)
    expected = [
        number * 10000 + top * 100 + left
        for number, (height, width) in enumerate(sizes)
        for top in range(height - side + 1)
        for left in range(width - side + 1)
    ]
    np.testing.assert_array_equal(positions, expected)
    even = n / len(expected)
    chi_square = ((counts - even) ** 2 / even).sum()
    # 48 degrees of freedom: mean 48, standard deviation 9.8.
    assert 48 - 4 * 9.8 < chi_square < 48 + 4 * 9.8


def test_patches_the_size_of_the_image_and_of_one_pixel():
    image = GREY[:5, :5]
    whole, _ = extract_patches([image], 5, 3, Generator(0, "test"))
    np.testing.assert_allclose(whole, np.tile(image.ravel() / 255, (3, 1)), atol=1e-7)
    pixels, _ = extract_patches([image.astype(np.uint16) * 257], 1, 500, Generator(0, "test"))
    assert set(np.round(pixels.ravel() * 255)) == set(image.ravel())


def test_the_largest_draw_stays_inside():
    top = SimpleNamespace(uniform=lambda shape, dtype: torch.full(shape, 1 - 2.0**-24, dtype=dtype))
    images = [coded(7, 9, number) for number in range(7)]
    assert (extract_patches(images, 3, 5, top)[0][:, 0] == 60406).all()


def test_patches_that_cannot_be():
    generator = Generator(0, "test")
    refused(lambda: extract_patches([GREY], 6, 1, generator), "do not fit")
    refused(lambda: extract_patches([], 6, 1, generator), "do not fit")
    refused(lambda: extract_patches([GREY], 0, 1, generator), "at least 1")
    refused(lambda: extract_patches([GREY], 2, 0, generator), "at least 1")


def test_patches_of_a_folder(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(COLOUR).save(tmp_path / "b.png")
    Image.new("L", (30, 2)).resize((30, 7)).save(tmp_path / "c.png")
    source = load_patches(tmp_path, 4, 50, Generator(3, "test"))
    assert source.shape == (50, 16)
    assert source.description.shape == (4, 4)
    assert isinstance(source.description, Description)
    images = [read_image(tmp_path / f"{name}.png") for name in "abc"]
    np.testing.assert_array_equal(everything(source), extract_patches(images, 4, 50, Generator(3, "test"))[0])
    other = load_patches(tmp_path, 4, 50, Generator(4, "test"))
    assert source.fingerprint != other.fingerprint


def test_halving_averages_blocks():
    image = np.array([[0, 2, 10, 20, 7], [4, 6, 30, 40, 7], [9, 9, 9, 9, 9]], np.uint8)
    np.testing.assert_array_equal(halve(image), [[3, 25]])
    assert halve(image).dtype == np.float64
    colour = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    by_channel = np.stack([halve(colour[:, :, channel]) for channel in range(3)], axis=-1)
    np.testing.assert_array_equal(halve(colour), by_channel)
    # Pillow's box filter, in float.
    grey = RNG.random((8, 12)).astype(np.float32)
    np.testing.assert_allclose(halve(grey), np.asarray(Image.fromarray(grey).reduce(2)), rtol=1e-6)
    refused(lambda: halve(np.zeros((1, 5))), "(1, 5)", "2 pixels")
    refused(lambda: halve(np.zeros(5)), "(5,)", "(height, width, channels)")


def test_grey_images_of_a_folder_and_of_scikit_learn(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(png16(np.array([[0, 65535]], np.uint16)))
    first, second = grey_images(tmp_path)
    np.testing.assert_array_equal(first, [[0, 1]])
    np.testing.assert_allclose(second, GREY / 255)
    photos = grey_images()
    assert [image.shape for image in photos] == [(427, 640)] * 2
    from sklearn.datasets import load_sample_image

    for name, image in zip(("china.jpg", "flower.jpg"), photos, strict=True):
        assert image.dtype == np.float64
        assert image.min() >= 0
        assert image.max() <= 1
        np.testing.assert_allclose(image, load_sample_image(name) @ [0.299, 0.587, 0.114] / 255, atol=0.6 / 255)
    refused(lambda: grey_images(tmp_path / "absent"), "absent")


def test_whitening_is_the_fourier_filter_of_the_image_among_its_mirror_images():
    image = RNG.random((7, 10))
    mirrored = np.pad(image, ((0, 7), (0, 10)), mode="symmetric")
    f = np.hypot.outer(np.fft.fftfreq(14), np.fft.fftfreq(20))
    filtered = np.fft.ifft2(np.fft.fft2(mirrored) * f * np.exp(-((f / 0.3) ** 4)))
    np.testing.assert_allclose(whiten_image(image, 0.3), filtered.real[:7, :10], atol=1e-12)
    assert np.abs(filtered.imag).max() < 1e-12


def test_whitening_leaves_a_wave_a_wave():
    height, width = 24, 40
    down, across = np.arange(height) + 0.5, np.arange(width) + 0.5
    for cycles_down, cycles_across in [(3, 0), (0, 9), (5, 8)]:
        f_down, f_across = cycles_down / height, cycles_across / width
        wave = np.cos(2 * np.pi * f_down * down)[:, None] * np.cos(2 * np.pi * f_across * across)
        f = np.hypot(f_down, f_across)
        # The brightness, 5, is lost.
        np.testing.assert_allclose(whiten_image(5 + wave), f * np.exp(-((f / 0.4) ** 4)) * wave, atol=1e-12)


def radial_amplitude(image):
    """Root mean square of the Fourier amplitudes in rings of 0.02 cycles a pixel between 0.03 and 0.25."""
    height, width = image.shape
    # A Hann window, so that the borders do not add amplitudes of their own.
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    ring = np.digitize(np.hypot.outer(np.fft.fftfreq(height), np.fft.fftfreq(width)), np.arange(0.03, 0.26, 0.02))
    return np.array([np.sqrt(power[ring == number].mean()) for number in range(1, 12)])


@pytest.mark.parametrize("halvings", [0, 1])
@pytest.mark.parametrize("number", [0, 1])
def test_whitened_photographs_have_a_flat_spectrum(number, halvings):
    image = grey_images()[number]
    for _ in range(halvings):
        image = halve(image)
    before, after = radial_amplitude(image), radial_amplitude(whiten_image(image))
    assert before.max() / before.min() > 4.5
    assert after.max() / after.min() < 1.8


def test_a_whitened_photograph_has_no_frame():
    image = grey_images()[0]  # a bright sky above dark trees: the jump at the border of a periodic image is large
    f = np.hypot.outer(np.fft.fftfreq(427), np.fft.fftfreq(640))
    periodic = np.fft.ifft2(np.fft.fft2(image) * f * np.exp(-((f / 0.4) ** 4))).real
    ours = whiten_image(image)

    def border(whitened):
        return np.abs(np.concatenate([whitened[0], whitened[-1]])).mean() / np.abs(whitened).mean()

    assert border(periodic) > 4
    assert border(ours) < 1.5
    np.testing.assert_allclose(ours[40:-40, 40:-40], periodic[40:-40, 40:-40], atol=0.1 * ours.std())


def test_images_that_cannot_be_whitened():
    refused(lambda: whiten_image(COLOUR), "(6, 5, 3)", "(height, width)")
    refused(lambda: whiten_image(np.zeros((0, 4))), "(0, 4)")
    for cutoff in (0, -1, float("nan")):
        refused(lambda cutoff=cutoff: whiten_image(GREY, cutoff), "above 0")
    np.testing.assert_allclose(whiten_image(np.full((3, 1), 7)), 0, atol=1e-15)
