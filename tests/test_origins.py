"""Where rows come from: patches cut again from the photographs that are named, documents read again by other means."""

from __future__ import annotations

import csv
import gzip
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from rarefire.data import images as images_module
from rarefire.data.datasets import Digits, Movies, Newsgroups, Photos
from rarefire.data.images import load_folder
from rarefire.data.open import open_source
from rarefire.data.origins import LONGEST_TEXT, DocumentOrigin, PictureOrigin
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError
from rarefire.estimators.layers import LayerSource
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.preprocess import RemoveMean, Standardise, fit_steps, prepared
from rarefire.recipes.decay import Decay
from rarefire.recipes.edges import Edges
from rarefire.recipes.patches import Patches
from rarefire.recipes.structure import Structure
from rarefire.recipes.words import Words
from rarefire.units import Bernoulli

RNG = np.random.default_rng(0)
WHOLE = (0.0, 0.0, 1.0, 1.0)
DATA = Path(os.environ.get("RAREFIRE_DATA") or Path(__file__).parents[2] / "shared/data")


@pytest.fixture
def folder(tmp_path):
    """Pictures of different sizes, some odd: grey, in colour, and grey of 16 bits."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, shape in (("a.png", (31, 17)), ("b.png", (12, 40, 3)), ("d.bmp", (25, 25, 3))):
        Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    Image.fromarray(RNG.integers(0, 65536, (19, 22), dtype=np.uint16)).save(folder / "c.png")
    return folder


def grey_of(source, number):
    """A photograph as it is, in grey from 0 to 1."""
    pixels = source.photograph(number, longest_side=10**6)
    return np.asarray(Image.fromarray(pixels).convert("L")) / 255


def part(picture, origin, scale=1):
    """What lies in the box of an origin, which must be of whole pixels."""
    top, left, height, width = (share * scale for share in origin.box)
    edges = np.array([top, top + height, left, left + width]) * np.repeat(picture.shape, 2)
    whole = np.rint(edges).astype(int)
    np.testing.assert_allclose(edges, whole, atol=1e-6)
    return picture[whole[0] : whole[1], whole[2] : whole[3]]


def direction(rows):
    """Each row without its mean and of length 1, so that what was done to brightness and contrast does not matter."""
    rows = np.asarray(rows, np.float64).reshape(len(rows), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_patch_is_what_lies_in_its_box(folder):
    source = open_source(str(folder), patch=5)
    index = np.arange(300)
    origins = source.origins(index)
    rows = source.rows(index)
    assert {origin.name for origin in origins} == {"a.png", "b.png", "c.png", "d.bmp"}
    for row, origin in zip(rows, origins, strict=True):
        picture = grey_of(source, origin.photograph)
        assert origin.size == picture.shape
        with Image.open(folder / origin.name) as image:
            assert image.size[::-1] == origin.size
        # 16 bits are shown as 8.
        np.testing.assert_allclose(part(picture, origin).ravel(), row, atol=1 / 255 if origin.name == "c.png" else 1e-6)


def test_any_rows_in_any_order(folder):
    source = open_source(str(folder), patch=5)
    index = np.array([9999, 3, 3, 0])
    last, third, again, first = source.origins(index)
    assert third == again
    assert source.origins(np.arange(4))[3] == third
    assert source.origins(np.arange(4))[0] == first
    assert last.box != first.box
    assert source.origins(np.array([], np.int64)) == []


def test_sources_before_others_hand_on(folder):
    source = open_source(str(folder), patch=5)
    index = np.array([7, 4000, 12])
    expected = source.origins(index)
    picked = source.subset(np.array([12, 5, 4000, 7]))
    assert picked.origins(np.array([3, 2, 0])) == expected
    steps = [RemoveMean(), Standardise()]
    fit_steps(steps, source)
    ready = prepared(source, steps)
    assert ready.origins(index) == ready.subset(np.arange(10000)).origins(index) == expected
    machine = BoltzmannMachine(torch.zeros(4, 25), torch.zeros(4), torch.zeros(25), Bernoulli(), Bernoulli())
    codes = LayerSource(ready, [machine], "sample", 0)
    for above in (ready, codes, codes.at_epoch(3), codes.kept(), codes.subset(np.arange(10000)).at_epoch(1)):
        assert above.origins(index) == expected
        np.testing.assert_array_equal(above.photograph(1), source.photograph(1))


def halved(picture):
    height, width = (n // 2 for n in picture.shape)
    return [[picture[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(width)] for i in range(height)]


@pytest.mark.parametrize("recipe", ["edges", "patches", "structure"])
def test_recipes_that_halve(folder, recipe):
    (folder / "b.png").unlink()  # halved it is smaller than a patch
    if recipe == "structure":  # whose patches are larger
        (folder / "a.png").unlink()
        (folder / "c.png").unlink()
        _, _, noise, _ = Structure(source=str(folder), n_samples=200).arms()
        assert noise.source.origins(np.arange(3)) is None
    settings = {"source": str(folder), "repeats": 1, "n_patches": 200, "side": 6}
    source = {
        "edges": lambda: Edges(**settings, ablation=False).arms()[0].source,
        "patches": lambda: Patches(**settings).arms()[1].source,
        "structure": lambda: Structure(source=str(folder), n_samples=200).arms()[0].source,
    }[recipe]()
    index = np.arange(40)
    cut = [halved(part(grey_of(source, origin.photograph), origin)) for origin in source.origins(index)]
    np.testing.assert_allclose(direction(source.rows(index)), direction(cut), atol=0.02)


def test_whitened_patches_lie_where_plain_ones_do(folder):
    (folder / "b.png").unlink()
    whitened, plain = Patches(source=str(folder), repeats=1, n_patches=200, side=6).arms()
    assert whitened.source.origins(np.arange(200)) == plain.source.origins(np.arange(200))


@pytest.mark.parametrize("from_", ["patches", "resized"])
def test_recipes_on_standardised_pictures(folder, from_):
    for number in range(96):
        Image.fromarray(RNG.integers(0, 256, (9, 13 + number % 3), dtype=np.uint8)).save(
            folder / f"more{number:02}.png"
        )
    source = Decay(source=str(folder), from_=from_, standardise="image", n_images=100, side=5, repeats=1).images(0)
    index = np.arange(100)
    parts = []
    for origin in source.origins(index):
        inside = part(grey_of(source, origin.photograph), origin)
        if from_ == "resized":
            # The middle of the picture, as high and wide as its shorter side.
            assert max(origin.box[2:]) == pytest.approx(1)
            assert abs(origin.box[0] - (1 - origin.box[0] - origin.box[2])) <= 1 / origin.size[0] + 1e-9
            inside = Image.fromarray(inside.astype(np.float32)).resize((5, 5), Image.Resampling.BOX)
        parts.append(np.asarray(inside))
    np.testing.assert_allclose(direction(source.rows(index)), direction(np.array(parts)), atol=0.02)


def test_the_photographs_of_scikit_learn():
    source = Photos(n_patches=50).open()
    origins = source.origins(np.arange(50))
    assert {(origin.name, origin.size) for origin in origins} == {(n, (427, 640)) for n in ("china.jpg", "flower.jpg")}
    for number, name in enumerate(("china.jpg", "flower.jpg")):
        np.testing.assert_array_equal(source.photograph(number, 640), load_sample_image(name))
    cut = [part(grey_of(source, origin.photograph), origin) for origin in origins]
    np.testing.assert_allclose(direction(source.rows(np.arange(50))), direction(cut), atol=1e-5)
    recipe = Edges(repeats=1, n_patches=100, ablation=False)
    origins = recipe.arms()[0].source.origins(np.arange(100))
    # The last row of 427 is in no pair of rows.
    assert max(origin.box[0] + origin.box[2] for origin in origins) <= 426 / 427


def test_a_photograph_is_made_smaller_and_never_larger(tmp_path):
    ramp = np.linspace(0, 255, 1000).astype(np.uint8)
    Image.fromarray(np.tile(ramp, (300, 1))).save(tmp_path / "grey.png")
    source = open_source(str(tmp_path), patch=8)
    small = source.photograph(0)
    assert small.shape == (144, 480)
    assert small.dtype == np.uint8
    np.testing.assert_allclose(small[70], np.linspace(0, 255, 480), atol=2)
    assert source.photograph(0, 2).shape == (1, 2)
    assert source.photograph(0, 1).shape == (1, 1)
    np.testing.assert_array_equal(source.photograph(0, 5000), np.tile(ramp, (300, 1)))
    refused(lambda: source.photograph(0, 0), "0 pixels", "1 or more")


def test_colour_is_shown_in_colour(tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40, 0], pixels[:, 40:, 2] = 255, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shown = open_source(str(tmp_path), patch=8).photograph(0, 20)
    assert shown.shape == (10, 20, 3)
    assert shown[5, 2].tolist() == [255, 0, 0]
    assert shown[5, 17].tolist() == [0, 0, 255]


def test_whole_pictures_of_a_folder(tmp_path):
    names = ["one.png", "two\x1b[2J.png", "zwölf.png"]
    pixels = RNG.integers(0, 256, (3, 6, 5), dtype=np.uint8)
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    source = load_folder(tmp_path)
    assert source.origins(np.array([2, 1])) == [
        PictureOrigin(2, "zwölf.png", (6, 5), WHOLE),
        PictureOrigin(1, "two\\x1b[2J.png", (6, 5), WHOLE),
    ]
    np.testing.assert_array_equal(source.photograph(2), pixels[2])


def test_cifar(tmp_path):
    colours = RNG.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    records = [b"\7" + image.transpose(2, 0, 1).tobytes() for image in colours]
    (tmp_path / "data_batch_1.bin").write_bytes(b"".join(records[:2]))
    (tmp_path / "data_batch_2.bin").write_bytes(b"".join(records[2:]))
    source = open_source(str(tmp_path))
    (origin,) = source.origins(np.array([4]))
    assert origin == PictureOrigin(4, "data_batch_2.bin, image 2 (counted from 0)", (32, 32), WHOLE)
    np.testing.assert_array_equal(source.photograph(4), colours[4])
    patches = open_source(str(tmp_path), patch=8)
    for row, origin in zip(patches.rows(slice(0, 50)), patches.origins(np.arange(50)), strict=True):
        np.testing.assert_array_equal(patches.photograph(origin.photograph), colours[origin.photograph])
        np.testing.assert_allclose(part(grey_of(patches, origin.photograph), origin).ravel(), row, atol=1e-6)


def test_where_nothing_is_known():
    for source in (Digits().open(), ArraySource(np.zeros((3, 2)), Description("x"))):
        assert source.origins(np.arange(3)) is None
        assert source.subset(np.arange(2)).origins(np.arange(2)) is None
        refused(lambda source=source: source.photograph(0), "no photograph")


@pytest.mark.parametrize("patch", [5, None])
def test_pictures_that_are_gone_or_others(tmp_path, patch):
    for name in ("a.png", "b.png"):
        Image.fromarray(RNG.integers(0, 256, (9, 9), dtype=np.uint8)).save(tmp_path / name)
    source = open_source(str(tmp_path), patch=patch)
    other = RNG.integers(0, 256, (9, 9), dtype=np.uint8)
    Image.fromarray(other).save(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", ns=(0, 0))
    (tmp_path / "b.png").unlink()
    for number, words in ((0, ("a.png has changed", "put it back")), (1, ("b.png is gone", "put it back"))):
        refused(lambda number=number: source.photograph(number), *words)
    refused(lambda: source.origins(np.arange(source.shape[0])), "a.png has changed")


def test_opening_reads_each_picture_once(folder, monkeypatch):
    read = []
    whole = images_module.read_image
    monkeypatch.setattr(
        images_module, "read_image", lambda path, grey=True: read.append(path.name) or whole(path, grey)
    )
    source = open_source(str(folder), patch=5)
    assert sorted(read) == ["a.png", "b.png", "c.png", "d.bmp"]
    source.origins(np.arange(100))
    assert len(read) == 4
    source.photograph(2)
    assert read[4:] == ["c.png"]


LINES = ["A dog runs", "", "the cat, the dog", "   ", "nothing of note", "ein Hund läuft 😀", "a cat and a dog"]
KEPT = [line for line in LINES if line.strip()]


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_documents_are_the_lines_that_are_not_blank(tmp_path, name):
    content = "\ufeff" + "\r\n".join(LINES)
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    source = open_source(str(tmp_path / name))
    assert source.shape[0] == len(KEPT)
    index = np.array([4, 0, 3, 3])
    assert source.origins(index) == [DocumentOrigin(KEPT[row], False) for row in index]
    assert source.subset(np.array([2, 4])).origins(np.array([1, 0])) == [
        DocumentOrigin(KEPT[4], False),
        DocumentOrigin(KEPT[2], False),
    ]
    assert source.origins(np.array([], np.int64)) == []
    refused(lambda: source.photograph(0), "no photograph")


def test_documents_with_words_that_are_given(tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(LINES))
    source = open_source(str(tmp_path / "x.txt"), vocabulary=["dog", "owl"])
    assert [origin.text for origin in source.origins(np.arange(5))] == KEPT


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_cells_of_a_column(tmp_path, name):
    cells = [f'plot {n}, "quoted"\nof two lines' for n in range(300)]
    cells[7] = ""
    with open(tmp_path / "x.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "plot"], *([n, cell] for n, cell in enumerate(cells))])
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "x.csv").read_bytes()))
    limit = csv.field_size_limit()
    source = open_source(str(tmp_path / name), column="plot")
    index = np.array([299, 7, 0, 150])
    assert [origin.text for origin in source.origins(index)] == [cells[row] for row in index]
    assert csv.field_size_limit() == limit


def test_films_and_posts_have_titles(tmp_path, monkeypatch):
    monkeypatch.setenv("RAREFIRE_DATA", str(tmp_path))
    (tmp_path / "movies").mkdir()
    table = 'ID,Title,Category,Plot\n0,Dogs,"""Drama""",A dog runs.\n1,1984,"""Drama""",A man reads.\n'
    (tmp_path / "movies/movies.csv.gz").write_bytes(gzip.compress(table.encode()))
    assert Movies().open().origins(np.array([1, 0])) == [
        DocumentOrigin("A man reads.", False, "1984"),
        DocumentOrigin("A dog runs.", False, "Dogs"),
    ]
    bunch = SimpleNamespace(data=["a moon", "", "the moon"], target=[1, 1, 0], target_names=["alt", "sci"])
    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", lambda **_: bunch)
    assert Newsgroups().open().origins(np.arange(3)) == [
        DocumentOrigin("a moon", False, "sci"),
        DocumentOrigin("", False, "sci"),
        DocumentOrigin("the moon", False, "alt"),
    ]


def test_documents_of_the_recipe(tmp_path):
    words = [f"w{n}" for n in range(12)]
    lines = [" ".join(RNG.choice(words, 3, replace=False)) for _ in range(200)]
    (tmp_path / "x.txt").write_text("\n".join(lines))
    source = Words(source=str(tmp_path / "x.txt"), repeats=1).arms()[0].source
    assert [origin.text for origin in source.origins(np.arange(200))] == lines


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("a" * LONGEST_TEXT, "a" * LONGEST_TEXT),
        ("a" * (LONGEST_TEXT + 1), "a" * LONGEST_TEXT),
        ("go " + "a" * LONGEST_TEXT, "go"),
        ("ab " * 2000, "ab " * 1333),
        ("ab " * 1333 + "dogma and more", "ab " * 1333),
        ("ab " * 1333 + "d more", "ab " * 1333 + "d"),
        ("😀" * 5000, "😀" * LONGEST_TEXT),
        ("\n lines\n of\n it\n", "lines\n of\n it"),
    ],
)
def test_long_documents_end_with_a_whole_word(document, text):
    origin = DocumentOrigin.of(document)
    assert origin.text == text.strip()
    assert origin.cut == (len(document.strip()) > LONGEST_TEXT)
    assert len(origin.text.encode("utf-16-le")) <= 4 * LONGEST_TEXT
    assert origin.text.encode("utf-16-le").decode("utf-16-le") == origin.text


def test_texts_that_are_gone_or_others(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("\n".join(LINES))
    source = open_source(str(path))
    # What is asked for is as it was, though the file has grown.
    path.write_text("\n".join([*LINES, "one more"]))
    assert source.origins(np.array([4]))[0].text == KEPT[4]
    path.write_text("\n".join(KEPT[:2]))
    assert source.origins(np.array([1]))[0].text == KEPT[1]
    refused(lambda: source.origins(np.array([0, 4])), "x.txt has changed", "no document 4", "open it again")
    path.write_text("\n".join(["one more", *KEPT]))
    refused(lambda: source.origins(np.array([1])), "x.txt has changed", "document 1", "other words")
    path.write_bytes(b"caf\xe9\n")
    refused(lambda: source.origins(np.array([1])), "x.txt", "utf-8")
    path.unlink()
    refused(lambda: source.origins(np.array([0])), "x.txt", "No such file")


def test_memory_is_for_what_is_asked(tmp_path):
    line = "dog " * 250
    with open(tmp_path / "x.txt", "w") as file:
        file.writelines(f"{line}{n % 7}\n" for n in range(10000))
    size = (tmp_path / "x.txt").stat().st_size
    tracemalloc.start()
    try:
        source = open_source(str(tmp_path / "x.txt"))
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        (origin,) = source.origins(np.array([9999]))
        peak = tracemalloc.get_traced_memory()[1] - kept
    finally:
        tracemalloc.stop()
    assert origin.text == f"{line}{9999 % 7}"
    assert kept < size / 10
    assert peak < size / 10


def test_real_photographs():
    if not (DATA / "photos").exists():
        pytest.skip("the photographs are not on this machine")
    source = open_source(str(DATA / "photos"), patch=16)
    index = np.arange(0, 10000, 500)
    origins = source.origins(index)
    assert len({origin.photograph for origin in origins}) > 3
    for row, origin in zip(source.rows(index), origins, strict=True):
        with Image.open(DATA / "photos" / origin.name) as image:
            grey = np.asarray(image.convert("L")) / 255
        np.testing.assert_allclose(part(grey, origin).ravel(), row, atol=1e-6)
    assert max(source.photograph(origins[0].photograph).shape) == 480


def test_real_films(monkeypatch):
    if not (DATA / "movies/movies.csv.gz").exists():
        pytest.skip("the film plots are not on this machine")
    monkeypatch.setenv("RAREFIRE_DATA", str(DATA))
    with gzip.open(DATA / "movies/movies.csv.gz", "rt", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    index = np.array([4999, 17, 0])
    for row, origin in zip(index, Movies().open().origins(index), strict=True):
        assert origin.title == table[row]["Title"]
        assert origin.text == table[row]["Plot"].strip()[: len(origin.text)]
