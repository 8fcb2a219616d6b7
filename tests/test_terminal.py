"""What a terminal shows: features as text, live progress in a real one, curves for TensorBoard."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys

import numpy as np
import pytest
from rich.color import Color

from rarefire import plots, terminal
from rarefire.display import bars, curve_lines, sparkline
from rarefire.errors import InputError
from rarefire.events import ArmStarted, EpochEnded, FitStarted
from rarefire.tensorboard import TensorBoard
from test_plots import make_table

FIT = ["fit", "digits", "--estimator", "BernoulliRBM", "--set", "n_components=6", "--set", "batch_size=50"]


def pixels_of(lines, height, width):
    """The pixels that coloured half blocks show, of shape (units, height, width, 3)."""
    shown = []
    for line in lines:
        pairs = [(span.style.color, span.style.bgcolor) for span in line.spans]
        shown.append([[Color.get_truecolor(c) for c in pair] for pair in pairs])
    n_units = len(shown[0]) // width
    cells = np.array(shown, dtype=int).reshape(-1, n_units, width, 2, 3)
    return cells.transpose(1, 0, 3, 2, 4).reshape(n_units, -1, width, 3)[:, :height]


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (6, 4, 3)])
def test_half_blocks_show_every_pixel(shape):
    table = make_table(5, int(np.prod(shape)), kind="image", shape=shape)
    height, width = shape[:2]
    lines = list(terminal.features(table, 80, colour=True))
    assert len(lines) == (height + 1) // 2 + 1
    expected = plots.grey_rows(table.components).reshape(5, *plots.image_shape(shape))
    expected = np.broadcast_to(expected, (5, height, width, 3)).astype(int)
    np.testing.assert_array_equal(pixels_of(lines[:-1], height, width), expected)
    assert lines[-1].plain.split() == list("01234")


def test_only_as_many_pictures_as_there_is_room_for():
    table = make_table(50, 64, kind="image", shape=(8, 8))
    lines = list(terminal.features(table, 60, colour=False))
    assert lines[0].plain == "the 12 of 50 units of largest norm:"
    shown = [int(number) for line in lines[5::5] for number in line.plain.split()]
    assert shown == sorted(np.argsort(-table.norm, kind="stable")[:12].tolist())
    assert all(line.cell_len <= 60 for line in lines)


@pytest.mark.parametrize("width", [8, 79, 80, 81])
@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_wider_than_the_terminal(width, colour):
    table = make_table(50, 64, kind="image", shape=(8, 8))
    beside = (width + 1) // 9
    lines = [line for line in terminal.features(table, width, colour=colour) if "of largest norm" not in line.plain]
    assert max(line.cell_len for line in lines) == 9 * beside - 1 <= width
    assert len(lines) == 10


def test_shades_grow_with_grey():
    grey = np.repeat(np.arange(256, dtype=np.uint8), 2).reshape(1, 256, 2, 1)
    shades = [terminal.SHADES.index(terminal._pixels(*grey[0, i, :, 0][:, None], colour=False)[0]) for i in range(256)]
    assert shades == sorted(shades)
    assert set(shades) == set(range(len(terminal.SHADES)))


@pytest.mark.parametrize("shape", [(28, 28, 1), (33, 17, 3), (16, 16, 1), (200, 3, 1)])
def test_large_pictures_are_means_of_blocks(shape):
    pictures = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.uint8)
    small = terminal.small(pictures)
    step = -(-max(shape[:2]) // terminal.SIDE)
    assert max(small.shape[1:3]) <= terminal.SIDE
    for i, j in np.ndindex(small.shape[1:3]):
        block = pictures[:, i * step : (i + 1) * step, j * step : (j + 1) * step]
        np.testing.assert_allclose(small[:, i, j], block.mean(axis=(1, 2)), atol=0.5)


def test_units_in_words():
    names = ("ape", "bee", "c\x1b[2Jat", "dog")
    table = make_table(3, 4, kind="words", feature_names=names)
    lines = [line.plain for line in terminal.features(table, 200, colour=True)]
    assert len(lines) == 3
    for unit, line in enumerate(lines[:2]):
        order = plots.strongest(table, unit, 8)
        told = [("−" if table.components[unit, i] < 0 else "") + names[i].replace("\x1b", "\\x1b") for i in order]
        assert line.split("  ")[-1] == ", ".join(told)
    assert all(len(line.plain) <= 20 for line in terminal.features(table, 20, colour=True))


def test_activity_in_words():
    table = make_table(40, 12)
    histogram, said = terminal.activity(table)
    assert histogram.startswith("40 units")
    assert f"dead, on none: {table.dead.sum()}; always on: {table.always_on.sum()}" in said
    assert len(histogram.split()[-1]) == 10


def test_bars_and_curves():
    assert bars([0, 1, 7]) == "▁▂█"
    assert bars([]) == ""
    assert bars([0, 0]) == "▁▁"
    assert sparkline([-3, 4]) == "▁█"
    history = [{"epoch": e, "cost": c, "active_mean": 2.0} for e, c in ((1, 3.0), (2, float("nan")), (3, 1.0))]
    assert list(curve_lines(history)) == [
        "cost over 2 epochs        █▁  3 → 1",
        "active over 3 epochs      ▁▁▁  2.0 → 2.0",
    ]


# A real terminal ----------------------------------------------------------------------------------------------


def in_terminal(words, cwd, columns=80, until=None):
    """What a process of the command line writes to a terminal of so many columns; Ctrl-C once it has said a word."""
    master, slave = pty.openpty()
    environment = {
        **os.environ,
        "COLUMNS": str(columns),
        "LINES": "24",
        "TERM": "xterm-256color",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "rarefire", *map(str, words)], cwd=cwd, env=environment, stdin=slave, stdout=slave,
        stderr=slave, close_fds=True, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    told = b""
    while select.select([master], [], [], 120)[0]:
        try:
            told += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if until and until in told:
            until = None
            process.send_signal(signal.SIGINT)
    os.close(master)
    return process.wait(30), told.decode()


def shown_lines(told):
    """The lines between one movement of the cursor and the next, without colours."""
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+|\x1b\[\d*[AK]", told)]


def test_live_progress_in_a_terminal(tmp_path):
    code, told = in_terminal([*FIT, "--set", "n_iter=30", "--out", "run"], tmp_path)
    assert code == 0
    lines = shown_lines(told)
    assert any(
        re.search(r"[▁▂▃▄▅▆▇█]+  cost [\d.]+  held out [\d.]+  active [\d.]+  [\d,]+ rows/s", line) for line in lines
    )
    assert any(re.search(r"\d+/30 epochs \d+:\d\d:\d\d", line) for line in lines)
    assert max(map(len, lines)) <= max(80, len(str(tmp_path)) + 40)
    # The cursor is hidden while the bar is there, and shown at the end.
    assert told.rfind("\x1b[?25h") > told.rfind("\x1b[?25l") > -1
    assert told.rstrip().endswith("run/report.html")


def test_ctrl_c_in_a_terminal_leaves_it_as_it_was(tmp_path):
    code, told = in_terminal([*FIT, "--set", "n_iter=100000", "--out", "run"], tmp_path, until=b"rows/s")
    assert code == 130
    assert told.rfind("\x1b[?25h") > told.rfind("\x1b[?25l")
    assert "go on with: rarefire resume run" in " ".join(shown_lines(told)[-3:])


def test_show_in_a_terminal(tmp_path, cli):
    assert cli(*FIT, "--set", "n_iter=2", "--out", tmp_path / "run", "--quiet").code == 0
    code, told = in_terminal(["show", "run"], tmp_path)
    assert code == 0
    for word in ("complete", "cost over 2 epochs", "held out over 2 epochs", "active over 2 epochs", "dead, on none"):
        assert word in told
    # Six digits of 8 by 8 pixels: four lines of half blocks, each eight wide.
    assert told.count("▀") == 6 * 8 * 4
    plain = cli("show", tmp_path / "run").out
    assert "▀" not in plain
    assert any(line.count("▒") > 3 for line in plain.splitlines())


# TensorBoard --------------------------------------------------------------------------------------------------


def scalars(folder):
    """What TensorBoard itself reads: for each name the steps and values."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder)).Reload()
    return {name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]}


def test_tensorboard_shows_the_history(tmp_path, cli):
    run = tmp_path / "run"
    assert cli(*FIT, "--set", "n_iter=3", "--out", run, "--log", "tensorboard").code == 0
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    told = scalars(run / "tensorboard")
    assert all(value > 0 for _, value in told.pop("rows_per_second"))
    assert set(told) == set(history[0]) - {"epoch"}
    for name, points in told.items():
        assert [step for step, _ in points] == [1, 2, 3]
        np.testing.assert_allclose([value for _, value in points], [record[name] for record in history], rtol=1e-6)
    assert cli(*FIT, "--set", "n_iter=1", "--out", run, "--overwrite").code == 0
    assert not (run / "tensorboard").exists()


def test_what_a_resumed_fit_does_again_is_shown_once(tmp_path):
    for first, epochs in ((0, (1, 2, 3)), (1, (2, 3, 4))):
        board = TensorBoard(tmp_path)
        board(ArmStarted("all layers together", 1, 1))
        board(FitStarted("BernoulliRBM", first, 4, 100))
        for epoch in epochs:
            board(EpochEnded({"epoch": epoch, "cost": 10.0 * first + epoch}, 4, 0.5))
        board.close()
    assert scalars(tmp_path / "all-layers-together")["cost"] == [(1, 1.0), (2, 12.0), (3, 13.0), (4, 14.0)]
    assert scalars(tmp_path / "all-layers-together")["rows_per_second"][0] == (1, 200.0)


def test_without_tensorboard_the_error_says_what_to_install(tmp_path, monkeypatch, cli):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'rarefire\[tensorboard\]'"):
        TensorBoard(tmp_path)
    outcome = cli(*FIT, "--out", tmp_path / "run", "--log", "tensorboard")
    assert outcome.code == 2
    assert not (tmp_path / "run").exists()
