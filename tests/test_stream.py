"""Data that stay on disk: folders of files, the order of their rows, and results written as they are made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_digits

import rarefire as rf
from rarefire.artifact import RunDirectory
from rarefire.data import mapped
from rarefire.data.arrays import load_npy
from rarefire.data.mapped import BlockOrder, Stacked
from rarefire.data.open import open_source
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError, Interrupted
from rarefire.estimators import mapping
from rarefire.estimators.splitting import Split
from rarefire.preprocess import Standardise, fit_steps, prepared
from rarefire.random import Generator

WHOLE = np.random.default_rng(0).random((40, 7)).astype(np.float32)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of two rows of seven float32, mixed in threes."""
    monkeypatch.setattr(mapped, "BLOCK_BYTES", 2 * 7 * 4)
    monkeypatch.setattr(mapped, "MIXED_BLOCKS", 3)


def shards(folder, values=WHOLE, cuts=(3, 4, 25)):
    folder.mkdir()
    for name, part in zip("abcdefgh", np.split(values, cuts), strict=False):
        np.save(folder / f"{name}.npy", part)
    return open_source(str(folder))


def on_disk(path, values=WHOLE):
    np.save(path, values)
    return load_npy(path)


# Folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, ">f8", np.uint8, bool, np.int64, np.float16])
def test_a_folder_of_files_is_one_matrix(here, dtype):
    values = (WHOLE * 9).astype(dtype)
    source, one = shards(here / "x", values), on_disk("one.npy", values)
    assert source.shape == one.shape
    assert source.dtype == one.dtype
    assert source.description.name == "x"
    assert source.fingerprint == one.fingerprint
    assert source.extremes == one.extremes == (values.min(), values.max())
    draw = np.random.default_rng(1)
    for index in (
        slice(None), slice(2, 30), slice(5, 9), slice(39, 60), slice(0, 40, 7), slice(8, 8),
        draw.permutation(40), draw.permutation(40)[:3], np.array([-1, 0, -40]), np.array([], np.int64),
    ):  # fmt: skip
        np.testing.assert_array_equal(source.rows(index), values[index])
        np.testing.assert_array_equal(source.rows(index), one.rows(index))
    assert not isinstance(source.array.parts[0], np.memmap)
    assert all(mapped.mapping_of(part) is not None for part in source.array.parts)


def test_rows_of_many_files_are_read_row_by_row():
    parts = [WHOLE[i : i + 1] for i in range(40)]
    np.testing.assert_array_equal(Stacked(parts)[np.array([7, 3, 39, 3])], WHOLE[[7, 3, 39, 3]])


def test_a_folder_of_stacks_of_images(here):
    images = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    source = shards(here / "x", images, (2,))
    assert source.description.shape == (4, 3)
    np.testing.assert_array_equal(source.rows(slice(0, 5)), images.reshape(5, 12) * np.float32(1 / 255))


def test_what_a_folder_must_not_hold(here):
    shards(here / "x")
    np.save("x/.hidden.npy", np.zeros(3))  # left out, as hidden pictures are
    assert open_source("x").shape == (40, 7)
    for other, message in (
        (WHOLE[:, :5], r"x/z\.npy has rows of shape \(5\) and type float32, but x/a\.npy has .*\(7\)"),
        (WHOLE.astype(np.float64), r"x/z\.npy has .*float64, but x/a\.npy has .*float32"),
        (np.zeros((0, 7), np.float32), "there is nothing in it"),
        (np.zeros(7, np.float32), "one axis"),
        (np.array([[None] * 7]), "pickles are never read"),
        (np.where(WHOLE[5, 3] == WHOLE, np.nan, WHOLE), r"z\.npy: the value nan at row 5, column 3"),
        (np.where(WHOLE[5, 3] == WHOLE, -np.inf, WHOLE), r"z\.npy: the value -inf at row 5, column 3"),
    ):
        np.save("x/z.npy", other)
        with pytest.raises(InputError, match=message):
            open_source("x")
    Path("x/z.npy").write_bytes(Path("x/a.npy").read_bytes()[:-1])
    with pytest.raises(InputError, match="is cut off"):
        open_source("x")
    Path("x/z.npy").unlink()
    Path("x/z.npy").mkdir()
    with pytest.raises(InputError, match="is no file"):
        open_source("x")
    Path("x/z.npy").rmdir()
    Path("x/view.PNG").write_bytes(b"")
    with pytest.raises(InputError, match=r"x holds pictures \(view\.PNG\) and \.npy files \(a\.npy\)"):
        open_source("x")


# Orders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_rows", "block"), [(1, 1), (5, 2), (6, 2), (7, 2), (100, 4), (101, 100), (101, 1)])
def test_an_order_of_blocks(monkeypatch, n_rows, block):
    monkeypatch.setattr(mapped, "MIXED_BLOCKS", 3)
    asked: list[int] = []
    order = BlockOrder(n_rows, block, Generator(0), lambda start, stop: asked.extend(range(start, stop)))
    n_blocks = -(-n_rows // block)
    n_groups = -(-n_blocks // 3)
    presented, size = [], 3
    for start in range(0, n_rows, size):
        rows = order[start : start + size]
        assert set(rows) <= set(asked)  # before they are read
        presented.extend(rows.tolist())
        ahead = len(asked) - len(presented)
        assert ahead <= block * (2 * -(-n_blocks // n_groups) + 1)
    assert len(order) == n_rows
    assert sorted(presented) == sorted(asked) == list(range(n_rows))  # each once
    # Groups are of equal size, and every block is in one of them.
    where = np.empty(n_rows, int)
    where[presented] = np.arange(n_rows)
    spans = [np.ptp(where[start : start + block]) for start in range(0, n_rows, block)]
    assert max(spans) < -(-n_blocks // n_groups) * block
    again = BlockOrder(n_rows, block, Generator(0), lambda start, stop: None)
    assert again[slice(None)].tolist() == presented
    if n_rows > 50:
        assert BlockOrder(n_rows, block, Generator(1), lambda start, stop: None)[slice(None)].tolist() != presented


def test_an_order_that_begins_in_the_middle_asks_for_its_group(monkeypatch):
    monkeypatch.setattr(mapped, "MIXED_BLOCKS", 3)
    asked: list[int] = []
    order = BlockOrder(60, 2, Generator(0), lambda start, stop: asked.extend(range(start, stop)))
    assert set(order[31:37].tolist()) <= set(asked)
    assert len(asked) < 30


def test_every_order_of_a_group_is_as_likely(monkeypatch):
    """The place of row 0 among all, over many orders, against the uniform law."""
    monkeypatch.setattr(mapped, "MIXED_BLOCKS", 2)
    n = 4000
    places = [int(np.flatnonzero(BlockOrder(8, 2, Generator(s), lambda *_: None)[:] == 0)[0]) for s in range(n)]
    counts = np.bincount(places, minlength=8)
    assert ((counts - n / 8) ** 2 / (n / 8)).sum() < 24.3  # chi-squared of 7 degrees, once in a thousand


def test_only_what_is_large_and_on_disk_goes_by_blocks(here, small_blocks):
    plain = Generator(3).permutation(40)
    source = on_disk("x.npy")
    assert source.block_rows == 2
    assert isinstance(source.order(Generator(3)), BlockOrder)
    assert shards(here / "x").order(Generator(3))[:].tolist() == source.order(Generator(3))[:].tolist()
    for other in (ArraySource(WHOLE, Description("x")), ArraySource(sp.csr_array(WHOLE), Description("x"))):
        assert other.block_rows is None
        np.testing.assert_array_equal(other.order(Generator(3)), plain)
    np.save("few.npy", WHOLE[:6])
    assert load_npy("few.npy").block_rows is None  # mixed as a whole
    viewed = ArraySource(np.asarray(np.load("x.npy", mmap_mode="r")), Description("x"))
    assert viewed.block_rows == 2
    steps = [Standardise()]
    fit_steps(steps, source)
    assert prepared(source, steps).block_rows == 2
    index = np.sort(np.random.default_rng(0).permutation(40)[:20])
    assert source.subset(index).block_rows == 1
    assert source.subset(index[::-1]).block_rows is None
    order = source.subset(index).order(Generator(3))
    assert sorted(order[:].tolist()) == list(range(20))


def test_the_order_of_real_blocks_depends_on_the_file_alone(here):
    np.lib.format.open_memmap("x.npy", "w+", np.uint8, (2**18 + 1, 1024)).flush()  # takes no room on the disk
    source = ArraySource(np.load("x.npy", mmap_mode="r"), Description("x"))
    assert source.block_rows == 1024
    assert source.subset(np.arange(2**18)).block_rows == 1024
    assert ArraySource(np.load("x.npy", mmap_mode="r")[:-1], Description("x")).block_rows is None
    assert len(set((source.order(Generator(0))[:100] // 1024).tolist())) > 60


def test_the_right_bytes_are_asked_for(here, monkeypatch):
    asked = []

    class Map:
        def madvise(self, option, start, length):
            asked.append((start, length))

    np.save("x.npy", np.zeros((3000, 100), np.float32))
    array = np.load("x.npy", mmap_mode="r")
    origin = mapped.np.frombuffer(mapped.mapping_of(array), np.uint8)
    monkeypatch.setattr(mapped, "mapping_of", lambda part: Map())
    monkeypatch.setattr(mapped.np, "frombuffer", lambda *_: origin)
    header = Path("x.npy").stat().st_size - array.nbytes
    mapped.will_need(array, 1000, 1010)
    begin, end = header + 1000 * 400, header + 1010 * 400
    assert asked == [(begin // 4096 * 4096, end - begin // 4096 * 4096)]
    mapped.will_need(Stacked([array[:1005], array[1005:]]), 1000, 1010)
    assert asked[1:] == [
        (begin // 4096 * 4096, header + 1005 * 400 - begin // 4096 * 4096),
        ((header + 1005 * 400) // 4096 * 4096, end - (header + 1005 * 400) // 4096 * 4096),
    ]


# Training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_a_run_that_stops_within_an_epoch_ends_with_the_same_bits(here, small_blocks, fraction):
    source = shards(here / "x")
    results = []
    for name, stops in (("alone", ()), ("stopped", (3, 8, 12))):
        directory = RunDirectory(name)
        directory.create(rf.BernoulliRBM().spec(0))
        count = 0

        def stop(stops=stops):
            nonlocal count
            count += 1
            return count in stops

        while True:
            machine = rf.BernoulliRBM(4, batch_size=6, n_iter=4, validation_fraction=fraction, random_state=0)
            try:
                machine.fit_source(
                    source, machine.split(40, 0), seed=0, directory=directory, should_stop=stop, checkpoint_every=1e9
                )
                break
            except Interrupted:
                continue
        results.append(machine)
    alone, stopped = results
    assert alone.components_.tobytes() == stopped.components_.tobytes()
    assert alone.history_ == stopped.history_
    # In memory the order is another.
    memory = rf.BernoulliRBM(4, batch_size=6, n_iter=4, validation_fraction=fraction, random_state=0).fit(WHOLE)
    assert memory.components_.tobytes() != alone.components_.tobytes()


def sorted_digits():
    """Digits with noise, 0 or 1 in each pixel, all zeros first and all nines last."""
    images, labels = load_digits(return_X_y=True)
    draw = np.random.default_rng(0)
    rows = np.repeat(np.argsort(labels, kind="stable"), 5)
    return (draw.random((len(rows), 64)) < 0.02 + 0.96 * images[rows] / 16).astype(np.float32)


def curves(rows, seed):
    machine = rf.BernoulliRBM(30, batch_size=20, n_iter=5, learning_rate=0.05, persistent=False, random_state=seed)
    held_out = np.arange(0, rows.shape[0], 10)
    machine.fit_source(rows, Split(np.setdiff1d(np.arange(rows.shape[0]), held_out), held_out), seed=seed)
    return np.array([record["validation_cost_mean_field"] for record in machine.history_])


@pytest.mark.slow
def test_costs_fall_as_with_rows_shuffled_as_a_whole(here, monkeypatch):
    """On rows that are sorted by class: within what another seed changes, which reading in order is far from."""
    rows = sorted_digits()
    source = on_disk("x.npy", rows)
    seeds = range(4)
    full = np.mean([curves(ArraySource(rows, Description("x")), seed) for seed in seeds], axis=0)
    monkeypatch.setattr(mapped, "BLOCK_BYTES", 8 * 64 * 4)  # 1,124 blocks of eight rows
    monkeypatch.setattr(mapped, "MIXED_BLOCKS", 100)
    blocks = np.mean([curves(source, seed) for seed in seeds], axis=0)
    monkeypatch.setattr(mapped, "BLOCK_BYTES", 800 * 64 * 4)  # one class, or two, at a time
    monkeypatch.setattr(mapped, "MIXED_BLOCKS", 1)
    apart = np.mean([curves(source, seed) for seed in seeds], axis=0)
    np.testing.assert_allclose(blocks, full, rtol=0.01)
    assert (apart > 1.05 * full).all()


# Results ------------------------------------------------------------------------------------------------------


def test_transform_is_the_logistic_function_of_every_row():
    rows = np.random.default_rng(0).random((2500, 7)).astype(np.float32)
    machine = rf.BernoulliRBM(3, n_iter=1, random_state=0).fit(rows)
    expected = expit(rows.astype(np.float64) @ machine.components_.T + machine.intercept_hidden_)
    codes = machine.transform(rows)
    assert codes.dtype == np.float32
    assert codes.flags.writeable
    np.testing.assert_allclose(codes, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_are_written_as_transform_gives_them(here, cli, dtype):
    rows = np.random.default_rng(0).normal(size=(2500, 7)).astype(dtype)
    np.save("x.npy", rows)
    options = ["--set", "n_components=5", "--set", "activation=ReLU", "--set", "max_iter=2", "--out", "run", "--quiet"]
    assert cli("fit", "x.npy", *options).code == 0
    codes = rf.load("run").transform(rows)
    assert 0.05 < (codes == 0).mean() < 0.95
    for name in ("codes.npy", "codes.npz"):
        outcome = cli("encode", "run", "x.npy", "-o", name)
        assert outcome.code == 0, outcome.err
    assert np.load("codes.npy").tobytes() == codes.tobytes()
    ours = sp.load_npz("codes.npz")
    sp.save_npz("theirs.npz", sp.csr_array(codes))
    theirs = sp.load_npz("theirs.npz")
    assert type(ours) is type(theirs)
    ours.check_format()
    for part in ("data", "indices", "indptr"):
        assert getattr(ours, part).dtype == getattr(theirs, part).dtype
        np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
    with np.load("codes.npz") as ours, np.load("theirs.npz") as theirs:
        assert set(ours.files) == set(theirs.files)
        assert {name: (ours[name].dtype, ours[name].shape) for name in ours} == {
            name: (theirs[name].dtype, theirs[name].shape) for name in theirs
        }
    assert sorted(path.name for path in here.iterdir()) == ["codes.npy", "codes.npz", "run", "theirs.npz", "x.npy"]


@pytest.mark.parametrize(
    "learner",
    [
        rf.BernoulliRBM(8, n_iter=1, random_state=0),
        rf.GaussianRBM(8, n_iter=1, random_state=0),
        rf.SparseAutoencoder(8, max_iter=1, random_state=0),
    ],
    ids=lambda learner: type(learner).__name__,
)
def test_what_is_measured_does_not_depend_on_how_many_rows_are_measured_at_a_time(monkeypatch, learner):
    train, held_out = (ArraySource(part, Description("x")) for part in np.split(sorted_digits()[::30], [221]))
    learner = clone(learner).fit(train.array)
    at_once = learner.measure(train, held_out)
    monkeypatch.setattr(mapping, "MEASURED_VALUES", 64 * 14)
    sizes, read = [], ArraySource.rows

    def rows(self, index):
        sizes.append(len(found := read(self, index)))
        return found

    monkeypatch.setattr(ArraySource, "rows", rows)
    by_parts = learner.measure(train, held_out)
    assert sizes.count(14) == 221 // 14 + 79 // 14
    assert [entry["name"] for entry in by_parts] == [entry["name"] for entry in at_once]
    values = [[entry["value"] for entry in entries] for entries in (by_parts, at_once)]
    np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-12)


# Memory -------------------------------------------------------------------------------------------------------

#: Runs the command line, then prints the largest anonymous memory that it had, in MiB: all but the pages of files.
PEAK = """
import sys, threading, time
from pathlib import Path
from rarefire.cli import main

def transform(run, rows):
    # In place of the command line; how many MiB the codes are.
    import numpy as np
    import rarefire as rf
    print(rf.load(run).transform(np.load(rows, mmap_mode="r")).nbytes // 2**20, end=" ")

largest, done = 0, threading.Event()

def watch():
    global largest
    while not done.wait(0.01):
        status = Path("/proc/self/status").read_text()
        largest = max(largest, int(status.split("RssAnon:")[1].split()[0]) // 1024)

watcher = threading.Thread(target=watch)
watcher.start()
try:
    main() if sys.argv[1] != "transform" else transform(*sys.argv[2:])
finally:
    done.set()
    watcher.join()
    print(largest)
"""


def told(*words):
    ran = subprocess.run([sys.executable, "-c", PEAK, *map(str, words)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def peak(*words):
    return int(told(*words)[-1])


def zeros(path, n_rows):
    """A file of bytes that takes no room on the disk."""
    np.lib.format.open_memmap(path, "w+", np.uint8, (n_rows, 1000)).flush()
    return path


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("estimator", "arguments"),
    [("BernoulliRBM", ["n_iter=1", "batch_size=2000"]), ("SparseAutoencoder", ["max_iter=1", "solver=adam"])],
)
def test_memory_does_not_grow_with_the_file(here, estimator, arguments):
    words = ["--estimator", estimator, "--set", "n_components=2"]
    words += [word for argument in arguments for word in ("--set", argument)]
    used = {}
    for n_rows in (20_000, 320_000):  # 20 and 320 MB: mixed as a whole, and by blocks
        folder = here / f"{n_rows}"
        folder.mkdir()
        for name in "ab":
            zeros(folder / f"{name}.npy", n_rows // 2)
        used[n_rows] = peak("fit", folder, *words, "--out", here / f"run{n_rows}", "--quiet")
    assert used[320_000] < used[20_000] + 60  # of 300; positions of rows take 10


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_memory_does_not_grow_with_the_codes(here, suffix):
    rows = (np.random.default_rng(0).random((5_000, 1000)) < 0.5).astype(np.uint8)
    rf.SparseAutoencoder(500, activation=rf.activations.ReLU(), max_iter=1, random_state=0).fit(rows[:50]).save("run")
    used, size = {}, {}
    for n_repeats in (1, 16):
        np.save("x.npy", np.tile(rows, (n_repeats, 1)))
        out = here / f"{n_repeats}.{suffix}"
        used[n_repeats] = peak("encode", "run", "x.npy", "-o", out)
        size[n_repeats] = out.stat().st_size
    assert size[16] > 15 * size[1] > 15e6
    assert used[16] < used[1] + 40  # of 160 MB of codes, about half of them zero


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_transform_holds_the_codes_and_little_else(here):
    """Of float32 rows on disk, 640 MB, and of bytes that are made floats in between."""
    rows = (np.random.default_rng(0).random((1_000, 1000)) < 0.5).astype(np.uint8)
    rf.SparseAutoencoder(100, max_iter=1, random_state=0).fit(rows[:50]).save("run")
    for dtype in (np.float32, np.uint8):
        used = {}
        for n_repeats in (4, 160):
            np.save("x.npy", np.tile(rows.astype(dtype), (n_repeats, 1)))
            codes, largest = map(int, told("transform", "run", "x.npy"))
            used[n_repeats] = largest - codes
        assert codes > 50
        assert used[160] < used[4] + 30
