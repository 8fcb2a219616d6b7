"""Where examples come from, as a run keeps it: against the files that they were taken from."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from rarefire.artifact import RunDirectory
from rarefire.contexts import LONGEST_SIDE, check_contexts, contexts_of
from rarefire.data.open import open_source
from rarefire.data.origins import DocumentOrigin, PictureOrigin
from rarefire.data.source import ArraySource, Description
from rarefire.features import FeatureTable

RNG = np.random.default_rng(0)


def photographs(folder, n=3):
    folder.mkdir()
    for number in range(n):
        smooth = np.kron(RNG.integers(0, 255, (12, 20 + number, 3), dtype=np.uint8), np.ones((50, 50, 1), np.uint8))
        Image.fromarray(smooth).save(folder / f"{number}.png")
    return folder


def decoded(photograph):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(photograph["jpeg"]))))


def test_patches_lie_in_the_photographs_that_are_kept(tmp_path):
    source = open_source(str(photographs(tmp_path / "album")), patch=200, column=None, seed=0)
    places = np.arange(20)
    contexts = contexts_of(source, places)
    check_contexts(contexts, 20)
    assert json.loads(json.dumps(contexts)) == contexts
    for row, values in zip(contexts["rows"], source.rows(places), strict=True):
        pixels = decoded(contexts["photographs"][row["photograph"]])
        assert max(pixels.shape) == LONGEST_SIDE
        assert contexts["photographs"][row["photograph"]]["name"] == row["name"]
        top, left, height, width = (share * side for share, side in zip(row["box"], pixels.shape[:2] * 2, strict=True))
        part = pixels[round(top) : round(top + height), round(left) : round(left + width)]
        grey = np.asarray(Image.fromarray(part).convert("L")) / 255
        assert abs(grey.mean() - values.mean()) < 0.05


def test_pictures_that_are_rows_are_named_and_not_kept(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(RNG.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{number}.png")
    contexts = contexts_of(open_source(str(folder), patch=None, column=None, seed=0), np.array([2, 0]))
    assert [row["name"] for row in contexts["rows"]] == ["2.png", "0.png"]
    assert contexts["photographs"] == []
    check_contexts(contexts, 2)


class Told(ArraySource):
    """Rows that come from wherever a test says."""

    def __init__(self, origins):
        super().__init__(np.zeros((len(origins), 2), np.float32), Description("told"))
        self.told = origins

    def origins(self, index):
        return [self.told[place] for place in index]

    def photograph(self, number, longest_side=480):
        return np.full((4, 6), number, np.uint8)


def test_the_photographs_with_most_examples_are_kept(monkeypatch):
    monkeypatch.setattr("rarefire.contexts.N_PHOTOGRAPHS", 2)
    numbers = [5, 1, 5, 2, 2, 5]
    origins = [PictureOrigin(number, f"{number}.png", (4, 6), (0.0, 0.0, 0.5, 0.5)) for number in numbers]
    contexts = contexts_of(Told(origins), np.arange(6))
    assert [photograph["name"] for photograph in contexts["photographs"]] == ["2.png", "5.png"]
    assert [row["photograph"] for row in contexts["rows"]] == [1, None, 1, 0, 0, 1]


def test_long_documents_share_what_room_there_is(monkeypatch):
    monkeypatch.setattr("rarefire.contexts.N_CHARACTERS", 2000)
    origins = [DocumentOrigin(f"{number} " + "word " * 400, False, f"title {number}") for number in range(10)]
    contexts = contexts_of(Told(origins), np.arange(10))
    check_contexts(contexts, 10)
    there = [row for row in contexts["rows"] if row is not None]
    assert len(there) == 6  # of 300 characters at the least
    assert contexts["rows"][6:] == [None] * 4
    assert sum(len(row["text"]) for row in there) <= 2000
    assert all(row["cut"] and row["text"].endswith("word") for row in there)


def test_nothing_is_known_of_plain_rows():
    contexts = contexts_of(ArraySource(np.zeros((3, 2), np.float32), Description("plain")), np.arange(3))
    assert contexts == {"rows": [], "photographs": []}
    check_contexts(contexts, 3)


def test_a_photograph_that_has_gone_does_not_end_the_run(tmp_path):
    source = open_source(str(photographs(tmp_path / "album")), patch=8, column=None, seed=0)
    shutil.rmtree(tmp_path / "album")
    with pytest.warns(UserWarning, match="does not show where examples come from"):
        assert contexts_of(source, np.arange(3))["rows"] == []


def jpeg(size):
    stream = io.BytesIO()
    Image.new("L", size).save(stream, "JPEG")
    return base64.b64encode(stream.getvalue()).decode()


PART = {"name": "a", "box": [0, 0, 0.5, 0.5], "photograph": 0}
ALBUM = [{"name": "a", "jpeg": jpeg((8, 8))}]


@pytest.mark.parametrize(
    "contexts",
    [
        {},
        {"rows": [PART], "photographs": []},
        {"rows": [PART, PART], "photographs": ALBUM},
        {"rows": [PART | {"box": [0, 0, 10**400, 1]}], "photographs": ALBUM},
        {"rows": [PART | {"box": [0, 0, -1, 1]}], "photographs": ALBUM},
        {"rows": [PART | {"photograph": True}], "photographs": ALBUM},
        {"rows": [{"text": "a", "cut": 1, "title": None}], "photographs": []},
        {"rows": [PART], "photographs": [{"name": "a", "jpeg": "AAAA"}]},
        {"rows": [PART], "photographs": [{"name": "a", "jpeg": "no base64"}]},
        {"rows": [PART], "photographs": [{"name": "a", "jpeg": jpeg((LONGEST_SIDE + 1, 8))}]},
        {"rows": [PART], "photographs": [{"name": 1, "jpeg": jpeg((8, 8))}]},
    ],
)
def test_what_is_damaged_is_refused(contexts):
    check_contexts({"rows": [PART], "photographs": ALBUM}, 1)
    with pytest.raises(ValueError):
        check_contexts(contexts, 1)


def test_a_header_that_claims_too_many_pixels_is_refused():
    content = bytearray(base64.b64decode(jpeg((8, 8))))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = (60000).to_bytes(2, "big") * 2
    claimed = [{"name": "a", "jpeg": base64.b64encode(bytes(content)).decode()}]
    with pytest.raises(ValueError, match="photograph is damaged"):
        check_contexts({"rows": [PART], "photographs": claimed}, 1)


def test_a_run_keeps_them_and_shows_notes(tmp_path, cli):
    album, run = photographs(tmp_path / "album"), tmp_path / "run"
    words = ("--patch", "8", "--set", "n_components=4", "--set", "max_iter=2", "--device", "cpu", "--quiet")
    assert cli("fit", album, *words, "--out", run).code == 0
    directory = RunDirectory(run)
    table, contexts = FeatureTable.read(directory.table), directory.contexts()
    check_contexts(contexts, table.example_rows.shape[0])
    assert len(contexts["rows"]) == table.example_rows.shape[0]
    (page,) = run.glob("report.html")
    told = page.read_text().partition('id="data">')[2].partition("</script>")[0]
    own = json.loads(told)["run"]
    (run / "notes.json").write_text(json.dumps({"run": own, "notes": {"2": "a corner"}}))
    assert cli("report", run).code == 0
    assert json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])["notes"] == {
        "2": "a corner"
    }
    for damage, sentence in (
        ({"run": own, "notes": {"4": "x"}}, "holds no notes on 4 units"),
        ({"run": own, "notes": {"9" * 5000: "x"}}, "holds no notes on 4 units"),
        ({"run": own, "notes": {"1": 2}}, "holds no notes on 4 units"),
        ({"run": "another", "notes": {"1": "x"}}, "page of another run"),
    ):
        (run / "notes.json").write_text(json.dumps(damage))
        outcome = cli("report", run)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert sentence in outcome.err
    (run / "notes.json").unlink()
    (run / "contexts.json").write_text(json.dumps({"rows": [PART], "photographs": []}))
    outcome = cli("report", run)
    assert outcome.code == 2
    assert "contexts.json is damaged" in outcome.err
