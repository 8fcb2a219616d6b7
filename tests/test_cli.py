"""The command line: what it writes, what it says, and what wrong input gets."""

from __future__ import annotations

import gzip
import html
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.sparse as sp
from PIL import Image
from safetensors import safe_open
from sklearn.base import clone

import rarefire as rf
from rarefire import activations, penalties
from rarefire.component import members
from rarefire.data.open import open_source

#: A fit of a moment with the estimator that is taken where none is named, and with each family.
QUICK = ["--set", "max_iter=2", "--set", "n_components=5", "--device", "cpu"]
FAMILIES = {
    "BernoulliRBM": ["--estimator", "BernoulliRBM", "--set", "n_iter=2", *QUICK[2:]],
    "SparseAutoencoder": QUICK,
}
MACHINE = FAMILIES["BernoulliRBM"]
both = pytest.mark.parametrize("quick", FAMILIES.values(), ids=FAMILIES)

#: What a record of the history has beside its costs.
RECORDED = {
    "BernoulliRBM": {"free_energy_gap", "learning_rate"},
    "SparseAutoencoder": {"objective", "cost", "penalty", "weight_decay", "zeros", "learning_rate"},
}

FILES = {
    "spec.json",
    "weights.safetensors",
    "features.safetensors",
    "contexts.json",
    "history.jsonl",
    "timing.jsonl",
    "metrics.json",
    "report.html",
    "figures",
    "figures/captions.json",
    *(f"figures/{name}.{kind}" for name in ("activity", "cost", "spread", "features") for kind in ("png", "svg")),
}


def sets(*pairs):
    return [word for pair in pairs for word in ("--set", pair)]


def write_inputs(folder):
    """One small file of each kind, values in [0, 1] with structure to learn."""
    rng = np.random.default_rng(0)
    values = (rng.random((60, 1)) > rng.random(20)).astype(np.float32)
    np.save(folder / "rows.npy", values)
    np.save(folder / "narrow.npy", values[:, :7])
    header = ",".join(f"word{i}" for i in range(20))
    (folder / "table.csv").write_text(header + "\n" + "\n".join(",".join(map(str, row)) for row in values))
    sp.save_npz(folder / "sparse.npz", sp.csr_array(values))
    texts = [" ".join(word for word, value in zip(header.split(","), row, strict=True) if value) for row in values]
    (folder / "texts.txt").write_text("\n".join(text or "none" for text in texts))
    (folder / "texts.csv").write_text("id,text\n" + "\n".join(f'{i},"{text}"' for i, text in enumerate(texts)))
    idx = struct.pack(">4B3I", 0, 0, 8, 3, 60, 4, 5) + (values * 255).astype(np.uint8).tobytes()
    (folder / "some-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx))
    (folder / "pictures").mkdir()
    for number, row in enumerate(values[:12]):
        Image.fromarray((row.reshape(4, 5) * 255).astype(np.uint8)).save(folder / "pictures" / f"{number}.png")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    return tmp_path


@pytest.fixture(scope="module", params=FAMILIES)
def digits(tmp_path_factory, finished, request):
    """A run on real images, made by a real process."""
    folder = tmp_path_factory.mktemp("digits")
    more = sets("activation=ReLU", "penalty=TargetMean", "penalty__strength=2.0")
    words = [*FAMILIES[request.param], *(more if request.param == "SparseAutoencoder" else [])]
    outcome = finished("fit", "digits", *words, "--out", "run", cwd=folder)
    return folder / "run", outcome


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, cli):
    """A machine whose rows were prepared."""
    return prepare(tmp_path_factory.mktemp("prepared"), cli, *MACHINE)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory, cli):
    """An autoencoder whose rows were prepared, and whose penalty follows running averages."""
    averaging = sets("penalty=KLDivergence", "penalty__averaging=0.9")
    return prepare(tmp_path_factory.mktemp("averaged"), cli, *QUICK, *averaging)


def prepare(folder, cli, *words):
    np.save(folder / "x.npy", np.random.default_rng(1).normal(size=(50, 6)))
    step = "ClipRescale:low=0,high=1"
    outcome = cli("fit", folder / "x.npy", *words, "--prepare", step, "--quiet", "--out", folder / "run")
    assert outcome.code == 0, outcome.err
    return folder


def check_run(run, contents):
    held = contents(run)
    spec, metrics = json.loads(held["spec.json"]), json.loads(held["metrics.json"])["metrics"]
    assert {"format", "kind", "estimator", "data", "seed", "versions"} <= set(spec)
    assert spec["data"]["fingerprint"].startswith("sha256:")
    family = spec["estimator"]["class"].rpartition(".")[2]
    # A machine has one matrix, so that its optimal inputs are its features; and only images can be drawn.
    image = spec["data"]["kind"] == "image"
    more = ["reconstructions"] * image + ["optimal_inputs"] * (image and family == "SparseAutoencoder")
    assert set(held) == FILES | {f"figures/{name}.{kind}" for name in more for kind in ("png", "svg")}
    assert {"cost", "cv_cost", "active_mean", "dead_units"} <= {entry["name"] for entry in metrics}
    assert all(np.isfinite(entry["value"]) for entry in metrics)
    records = [json.loads(line) for line in held["history.jsonl"].splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert all({"cost", "validation_cost", *RECORDED[family]} <= set(record) for record in records)
    assert all(np.isfinite(list(record.values())).all() for record in records)
    with safe_open(run / "weights.safetensors", framework="numpy") as file:
        assert file.get_tensor("components_").shape == (5, spec["data"]["n_features"])
    for name in held:
        if name.endswith(".png"):
            with Image.open(run / name) as image:
                image.verify()
        elif name.endswith(".svg"):
            assert ElementTree.fromstring(held[name]).tag == "{http://www.w3.org/2000/svg}svg"
    assert held["report.html"].lower().startswith(b"<!doctype html>")


# What goes well ---------------------------------------------------------------------------------------------------


def test_fit_in_a_process(digits, contents):
    run, outcome = digits
    assert outcome.code == 0, outcome.err
    check_run(run, contents)
    assert outcome.out.splitlines()[-1] == str(Path("run", "report.html"))
    assert "cv_cost" in outcome.out
    assert "epoch 2/2" in outcome.err
    assert "epoch" not in outcome.out
    assert "Warning" not in outcome.err


def test_the_autoencoder_is_what_fit_takes(here, undrawn, cli):
    assert cli("fit", "rows.npy", *QUICK, "--out", "run").code == 0
    assert isinstance(rf.load("run"), rf.SparseAutoencoder)
    assert "SparseAutoencoder" in " ".join(cli("fit", "--help").out.split())


@both
@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("rows.npy", []),
        ("table.csv", []),
        ("sparse.npz", []),
        ("texts.txt", []),
        ("texts.csv", ["--column", "text"]),
        ("some-images-idx3-ubyte.gz", []),
        ("pictures", ["--validation", "0.25"]),
        ("pictures", ["--patch", "3", "--set", "batch_size=500"]),
    ],
)
def test_fit_on_every_kind_of_source(here, cli, contents, source, options, quick):
    outcome = cli("fit", source, *quick, *options, "--quiet", "--out", "run")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    check_run(here / "run", contents)
    again = cli("resume", "run", "--quiet")
    assert (again.code, again.out, again.err) == (0, outcome.out, "")


def test_a_run_without_a_name_gets_a_new_directory(here, undrawn, cli):
    pages = [cli("fit", "rows.npy", *QUICK).out.splitlines()[-1] for _ in range(2)]
    assert pages == ["runs/rows-SparseAutoencoder/report.html", "runs/rows-SparseAutoencoder-2/report.html"]
    assert cli("fit", "rows.npy", *QUICK, "--overwrite").out.splitlines()[-1] == pages[0]
    assert cli("fit", "rows.npy", *MACHINE).out.splitlines()[-1] == "runs/rows-BernoulliRBM/report.html"


def test_layers_are_fitted_shown_and_encoded(here, undrawn, cli, contents):
    quick = sets("machines=[9, 7]", "layer1__n_iter=3", "layer2__n_iter=2", "fine_tune=sample", "max_iter=2")
    words = ["fit", "lines", "--estimator", "DeepBeliefNetwork", *quick, "--device", "cpu"]
    outcome = cli(*words, "--json", "--out", "run")
    assert (outcome.code, outcome.err) == (0, "")
    events = [json.loads(line) for line in outcome.out.splitlines()]
    fits = [["FitStarted", *["EpochEnded"] * n, "FitEnded"] for n in (3, 2, 2)]
    expected = [event for fit in fits for event in ("ArmStarted", *fit)]
    assert [event["event"] for event in events if event["event"] != "Ticked"] == [*expected, "RunFinished"]
    parts = [(event["number"], event["n_arms"], event["name"]) for event in events if event["event"] == "ArmStarted"]
    assert parts == [(1, 3, "layer1"), (2, 3, "layer2"), (3, 3, "all layers together")]
    files = {"spec.json", "weights.safetensors", "history.jsonl", "timing.jsonl"}
    layers = {f"layers/{layer}/{file}" for layer in ("layer1", "layer2") for file in files}
    assert {name for name in contents(here / "run") if name.startswith("layers/layer")} == layers | {
        "layers/layer1",
        "layers/layer2",
    }
    deep, source = rf.load("run"), open_source("lines")
    alone = clone(deep).fit(source.rows(slice(None)))
    assert [len(machine.components_) for machine in deep.machines_] == [9, 7]
    for name in deep.parameter_names:
        np.testing.assert_array_equal(getattr(deep, name), getattr(alone, name))
    metrics = {entry["name"]: entry["value"] for entry in json.loads(Path("run/metrics.json").read_text())["metrics"]}
    held_out = source.rows(deep.validation_indices_)
    assert metrics["cv_cost_mean_field"] == pytest.approx(-deep.score(held_out), rel=1e-5)
    assert cli("encode", "run", "lines", "-o", "codes.npy").code == 0
    np.testing.assert_array_equal(np.load("codes.npy"), deep.transform(source.rows(slice(None))))
    shown = cli("show", "run")
    assert "DeepBeliefNetwork, seed 0" in shown.out
    assert "cost over 2 epochs" in shown.out
    shown = cli("show", "run/layers/layer2")
    assert "BernoulliRBM" in shown.out
    assert "cost over 2 epochs" in shown.out
    before = contents(here / "run")
    assert cli("resume", "run", "--quiet").code == 0
    assert contents(here / "run") == before
    assert cli(*words, "--set", "layer3=4", "--out", "other").code == 2
    refused = cli(*words, "--set", "init=transpose", "--out", "other")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "layer2 as the machine below upside down, which has 81 visible units, but layer2 has 7" in refused.err
    assert not Path("other").exists()


@both
def test_json_gives_json_lines_alone(here, undrawn, cli, quick):
    outcome = cli("fit", "rows.npy", *quick, "--json", "--out", "run")
    events = [json.loads(line) for line in outcome.out.splitlines()]
    assert [event["event"] for event in events] == ["FitStarted", "EpochEnded", "EpochEnded", "FitEnded", "RunFinished"]
    assert events[-1]["metrics"] == json.loads(Path("run/metrics.json").read_text())["metrics"]
    assert outcome.err == ""


@both
def test_settings_reach_the_estimator(here, undrawn, cli, quick):
    pairs = ["penalty=MeanActivity", "penalty__target=0.02", "learning_rate=Switch", "learning_rate__first=0.2"]
    given = [*sets(*pairs), "--seed", "3", "--validation", "0.5"]
    assert cli("fit", "rows.npy", *quick, *given, "--out", "run").code == 0
    estimator = rf.load("run")
    assert estimator.penalty == rf.penalties.MeanActivity(target=0.02)
    assert estimator.learning_rate == rf.schedules.Switch(first=0.2)
    assert estimator.seed_ == 3
    assert len(estimator.validation_indices_) == 30
    assert [record["learning_rate"] for record in estimator.history_] == [0.2, 0.9]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["activation=ReLU"], {"activation": activations.ReLU()}),
        (["activation=ThresholdedReLU", "activation__threshold=0.5"], None),
        (["penalty=TargetMean", "penalty__strength=2.0"], {"penalty": penalties.TargetMean(strength=2.0)}),
        (["loss=BernoulliCrossEntropy", "output=Sigmoid"], {"loss": rf.losses.BernoulliCrossEntropy()}),
        (["solver=lbfgs"], {"solver": "lbfgs"}),
        (["solver=sgd", "momentum=Switch", "tied=true"], {"momentum": rf.schedules.Switch(), "tied": True}),
        (["penalty=NoPenalty", "weight_decay=NoPenalty"], {"weight_decay": penalties.NoPenalty()}),
        (["dropout=0.5", "input_dropout=0.2", "batch_size=7"], {"dropout": 0.5, "batch_size": 7}),
        (["sparse_output=true", "batch_size=none", "averaging=0.5"], {"sparse_output": True, "batch_size": None}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_components_of_the_autoencoder(here, undrawn, cli, pairs, expected):
    outcome = cli("fit", "rows.npy", *QUICK, *sets(*pairs), "--quiet", "--out", "run")
    assert (outcome.code, outcome.err) == (0, "")
    estimator, rows = rf.load("run"), np.load("rows.npy")
    if expected is None:
        expected = {"activation": activations.ThresholdedReLU(threshold=0.5)}
    assert {name: getattr(estimator, name) for name in expected} == expected
    assert cli("encode", "run", "rows.npy", "-o", "codes.npy").code == 0
    codes = estimator.transform(rows)
    np.testing.assert_array_equal(np.load("codes.npy"), codes.toarray() if sp.issparse(codes) else codes)
    metrics = {entry["name"]: entry for entry in json.loads(Path("run/metrics.json").read_text())["metrics"]}
    assert metrics["cost"]["unit"] == ("nats a row" if "loss" in expected else rf.SparseAutoencoder().cost_unit)
    train = np.delete(rows, estimator.validation_indices_, axis=0)
    assert metrics["cost"]["value"] == pytest.approx(-estimator.score(train), rel=1e-4)
    page = Path("run/report.html").read_text()
    assert all(html.escape(str(pair.partition("=")[2])) in page for pair in pairs[:1])


def test_lbfgs_says_when_nothing_is_left_to_do(here, undrawn, cli):
    """Rows of zeros are reconstructed by a model without biases from the start, so that every gradient is zero."""
    np.save("zeros.npy", np.zeros((20, 4)))
    pairs = sets("solver=lbfgs", "activation=ReLU", "penalty=NoPenalty", "weight_decay=NoPenalty")
    outcome = cli("fit", "zeros.npy", *pairs, "--json", "--out", "run")
    assert outcome.code == 0, outcome.err
    ended = [event for event in map(json.loads, outcome.out.splitlines()) if event["event"] == "FitEnded"]
    assert [(event["epoch"], "gradient is zero" in event["reason"]) for event in ended] == [(1, True)]
    assert rf.load("run").n_iter_ == 1


def test_encode_is_transform(digits, prepared, averaged, tmp_path, cli):
    for run, source in ((digits[0], "digits"), *((made / "run", str(made / "x.npy")) for made in (prepared, averaged))):
        rows = open_source(source)
        expected = rf.load(run).transform(rows.rows(slice(0, rows.shape[0])))
        for name in ("codes.npy", "codes.npz"):
            outcome = cli("encode", run, source, "-o", tmp_path / name)
            assert outcome.code == 0, outcome.err
            assert outcome.out == f"{tmp_path / name}: {rows.shape[0]} rows of 5 features\n"
        codes = np.load(tmp_path / "codes.npy")
        assert codes.dtype == expected.dtype
        np.testing.assert_array_equal(codes, expected)
        np.testing.assert_array_equal(sp.load_npz(tmp_path / "codes.npz").toarray(), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.npy", "codes.npz"]


@both
def test_texts_are_encoded_in_the_words_of_the_run(here, undrawn, cli, quick):
    assert cli("fit", "texts.csv", "--column", "text", *quick, "--out", "run").code == 0
    data = json.loads(Path("run/spec.json").read_text())["data"]
    assert data["kind"] == "words"
    words = data["feature_names"]
    assert words == sorted(words)
    assert len(words) == data["n_features"] > 12
    # What a resumed run would open is what this one opened.
    source = open_source(str(here / "texts.csv"), column="text")
    assert (source.fingerprint, list(source.description.feature_names)) == (data["fingerprint"], words)
    Path("new.txt").write_text(f"{words[11]} unheard {words[3]}\n\nunheard\n")
    Path("new.csv.gz").write_bytes(gzip.compress(f"text,year\n{words[11]}! {words[3]},1\n,2\n".encode()))
    X = np.zeros((2, len(words)), np.float32)
    X[0, [3, 11]] = 1
    for name in ("new.txt", "new.csv.gz"):
        # The column of the run is meant again, gzipped or not.
        outcome = cli("encode", "run", name, "-o", "codes.npy")
        assert (outcome.code, outcome.out) == (0, "codes.npy: 2 rows of 5 features\n"), outcome.err
        np.testing.assert_array_equal(np.load("codes.npy"), rf.load("run").transform(X))
    np.savez_compressed("new.npz", X)
    assert cli("encode", "run", "new.npz", "-o", "codes.npy").code == 0
    np.testing.assert_array_equal(np.load("codes.npy"), rf.load("run").transform(X))


def test_prepared_rows_lie_between_the_bounds(prepared):
    rows = rf.load(prepared / "run")[:-1].transform(np.load(prepared / "x.npy"))
    assert rows.min() >= 0
    assert rows.max() <= 1


def test_show_and_report(digits, cli, monkeypatch):
    run, _ = digits
    family = type(rf.load(run)).__name__
    shown = cli("show", run)
    assert shown.code == 0
    for word in ("complete", f"{family}, seed 0", "digits, 1797 rows of 64", "cost over 2 epochs", "cv_cost"):
        assert word in shown.out
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert cli("report", run).out == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_bytes() == page


def test_names_with_markup_stay_text(here, undrawn, cli):
    run = here / "[red]a[/nothing]"
    assert cli("fit", "rows.npy", *QUICK, "--out", run).code == 0
    assert str(run) in cli("show", run).out.replace("\n", "")


def test_list(cli):
    listed = cli("list")
    assert listed.code == 0
    for word in ("lines-units", "photos", "BernoulliRBM", "MeanActivity", "Switch", "ClipRescale"):
        assert word in listed.out
    estimators = cli("list", "estimators").out
    assert set(FAMILIES) <= {line.split()[0] for line in estimators.splitlines()}
    assert "photos" not in estimators


@pytest.mark.parametrize(
    ("family", "base"),
    [
        ("activations", activations.Activation),
        ("losses", rf.losses.ReconstructionLoss),
        ("penalties", penalties.Penalty),
    ],
)
def test_list_of_components(cli, family, base):
    """Every name that is listed can be given to --set, with a sentence of what it is."""
    lines = cli("list", family).out.splitlines()
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert set(listed) == {cls.__name__ for cls in members(base)}
    assert all(listed.values())
    named = {"activations": "ThresholdedReLU", "losses": "BernoulliCrossEntropy", "penalties": "StudentT"}
    assert named[family] in listed


@pytest.mark.parametrize("command", [[], ["fit"], ["run"], ["resume"], ["encode"], ["show"], ["report"], ["list"]])
def test_help(cli, command):
    outcome = cli(*command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith("Usage: rarefire")
    assert outcome.err == ""


def test_module_and_script_are_the_same(tmp_path, finished):
    script = Path(sys.executable).with_name("rarefire")
    for words in (["--version"], ["fit", "--help"], ["fit"]):
        outcome = finished(*words, cwd=tmp_path)
        if words == ["--version"]:
            assert outcome.out == f"rarefire {rf.__version__}\n"
        if script.exists():
            other = subprocess.run([script, *words], capture_output=True, text=True, cwd=tmp_path)
            assert (other.returncode, other.stdout, other.stderr) == (outcome.code, outcome.out, outcome.err)


def test_run_and_overwrite(here, cli, contents):
    # The other family is replaced as well.
    assert cli("fit", "rows.npy", *MACHINE, "--out", "run").code == 0
    before = contents(here / "run")
    outcome = cli("fit", "rows.npy", *QUICK, "--seed", "1", "--out", "run")
    refused(outcome, 2, ["run holds a finished run", "--overwrite"])
    assert contents(here / "run") == before
    assert cli("fit", "rows.npy", *QUICK, "--seed", "1", "--out", "run", "--overwrite").code == 0
    check_run(here / "run", contents)
    assert rf.load("run").seed_ == 1
    # A refused replacement leaves the old run alone.
    before = contents(here / "run")
    refused(cli("fit", "nan.npy", *QUICK, "--out", "run", "--overwrite"), 2, ["nan.npy"])
    refused(cli("fit", "rows.npy", "--set", "max_iter=-1", "--out", "run", "--overwrite"), 2, ["max_iter=-1"])
    assert contents(here / "run") == before


def test_resume_from_elsewhere_finds_a_relative_source(here, undrawn, cli, monkeypatch):
    for source in ("rows.npy", "pictures"):
        run = here / f"run-{source}"
        assert cli("fit", source, *QUICK, "--validation", "0.25", "--out", run).code == 0
        weights = (run / "weights.safetensors").read_bytes()
        (run / "weights.safetensors").unlink()
        (here / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(here / "elsewhere")
        assert cli("resume", run).code == 0
        assert (run / "weights.safetensors").read_bytes() == weights
        monkeypatch.chdir(here)


# What goes wrong --------------------------------------------------------------------------------------------------


def refused(outcome, code, words):
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("rarefire: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    for word in words:
        assert word in outcome.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["absent.npy"], ["'absent.npy' is no file or folder"]),
        (["x" * 3000], ["is no file or folder"]),
        (["digts"], ["did you mean 'digits'"]),
        (["empty.npy"], ["empty.npy is empty"]),
        (["empty.csv"], ["empty.csv is empty"]),
        (["nan.npy"], ["nan.npy", "row 1, column 2"]),
        (["cube.npy"], ["cube.npy"]),
        (["onerow.npy"], ["leaves 0 rows held out"]),
        (["objects.npy"], ["objects.npy"]),
        (["rows.npy", *sets("activation=ReLU", "penalty=KLDivergence")], ["KLDivergence", "ReLU", "TargetMean"]),
        (["rows.npy", *sets("activation=Tanh", "penalty=L1Activity")], ["L1Activity", "rest at -1", "KLDivergence"]),
        (["rows.npy", *sets("solver=lbfgs", "dropout=0.5")], ["solver='lbfgs'", "dropout=0.5", "solver='adam'"]),
        (["rows.npy", *sets("solver=lbfgs", "batch_size=20")], ["batch_size=20", "all rows"]),
        (["rows.npy", *sets("solver=lbfgs", "learning_rate=0.1")], ["learning_rate=0.1", "finds its own step"]),
        (
            ["rows.npy", *sets("solver=lbfgs", "penalty=KLDivergence", "penalty__averaging=0.9")],
            ["running average", "averaging=None"],
        ),
        (["rows.npy", *sets("solver=newton")], ["solver='newton'", "'adam', 'sgd', 'lbfgs'"]),
        (["rows.npy", *sets("momentum=0.5")], ["momentum=0.5", "solver='sgd'"]),
        (["rows.npy", *sets("loss=BernoulliCrossEntropy")], ["BernoulliCrossEntropy", "output=Sigmoid"]),
        (["rows.npy", *sets("loss=BernouliCrossEntropy")], ["did you mean 'BernoulliCrossEntropy'"]),
        (["rows.npy", *sets("activation=RelU2")], ["no activation named 'RelU2'", "did you mean 'ReLU'"]),
        (["rows.npy", *sets("activation=ReLU", "activation__slope=2")], ["'slope'", "ReLU"]),
        (["rows.npy", *sets("activation__threshold=2")], ["--set activation=NAME"]),
        (["rows.npy", *sets("dropout=1")], ["dropout=1"]),
        (["rows.npy", *sets("n_iter=3")], ["no argument 'n_iter'", "max_iter"]),
        (["rows.npy", "--prepare", "Standardise", *sets("output=Sigmoid")], ["[0, 1]", "--prepare", "Rescale"]),
        (["rows.npy", *MACHINE, *sets("solver=lbfgs")], ["BernoulliRBM has no argument 'solver'"]),
        (["rows.npy", "--estimator", "BernouliRBM"], ["did you mean 'BernoulliRBM'"]),
        (["rows.npy", "--estimator", "os.system"], ["no estimator named 'os.system'"]),
        (["rows.npy", "--prepare", "Clip"], ["ClipRescale"]),
        (["rows.npy", "--prepare", "ClipRescale:lo=0"], ["did you mean 'low'"]),
        (["rows.npy", "--prepare", "ClipRescale:low=zero"], ["low='zero' of ClipRescale must be a finite number"]),
        (["rows.npy", "--prepare", "ClipRescale:low"], ["--prepare 'low' is not of the form key=value"]),
        (["rows.npy", *MACHINE, "--prepare", "Standardise"], ["[0, 1]", "--prepare", "Rescale"]),
        (["photos", "--estimator", "BernoulliRBM"], ["photos", "[0, 1]", "--prepare", "Rescale"]),
        (["rows.npy", "--patch", "3"], ["--patch does not apply"]),
        (["pictures", "--patch", "30"], ["too small", "--patch 4"]),
        (["rows.npy", "--column", "a"], ["--column does not apply"]),
        (["texts.txt", "--column", "a"], ["--column does not apply to", "texts.txt"]),
        (["texts.csv"], ["line 2, column 'text'", "a column of texts on its own"]),
        (["texts.csv", "--column", "id,text"], ["line 2, column 'text'", "a column of texts on its own"]),
        (["texts.csv", "--column", "txt"], ["no column 'txt'", "did you mean 'text'?"]),
        (["rows.npy", "--validation", "1.0"], ["validation_fraction=1.0"]),
        (["rows.npy", "--validation", "0.001"], ["leaves 0 rows held out"]),
        (["rows.npy", "--device", "abacus"], ["device 'abacus'"]),
        (["rows.npy", "--out", "rows.npy"], ["rows.npy is a file"]),
        (["rows.npy", "--out", "rows.npy/run"], ["rows.npy is a file"]),
        (["rows.npy", "--out", "pictures"], ["belong to no run"]),
        (["rows.npy", "--out", "pictures", "--overwrite"], ["belong to no run"]),
        (["rows.npy", *sets("n_component=3")], ["did you mean 'n_components'"]),
        (["rows.npy", *sets("n_components=0")], ["n_components=0"]),
        (["rows.npy", *sets("n_components=many")], ["n_components='many'"]),
        (["rows.npy", *sets("n_components={1: 2}")], ["n_components={1: 2}"]),
        (["rows.npy", *sets("learning_rate=-1")], ["learning_rate=-1"]),
        (["rows.npy", *sets("learning_rate=fast")], ["no schedule named 'fast'"]),
        (["rows.npy", *sets("learning_rate__first=0.2")], ["--set learning_rate=NAME"]),
        (["rows.npy", *sets("learning_rate=Switch", "learning_rate__frst=1")], ["did you mean 'first'"]),
        (["rows.npy", *sets("learning_rate=Switch", "learning_rate__first=x")], ["first='x' of Switch"]),
        (["rows.npy", *sets("penalty=MeanActivty")], ["did you mean 'MeanActivity'"]),
        (["rows.npy", *sets("penalty=MeanActivity", "penalty__target=low")], ["target='low' of MeanActivity"]),
        (["rows.npy", *sets("penalty=MeanActivity", "penalty__target=True")], ["target=True of MeanActivity"]),
        (["rows.npy", *sets("penalty=MeanActivity", "penalty__target=1e999")], ["target=inf of MeanActivity"]),
        (["rows.npy", *sets("penalty=MeanActivity", "penalty__scale=cat")], ["scale='cat'"]),
        (["rows.npy", *sets("penalty=KLDivergence", "penalty__target=2")], ["target=2"]),
        (["rows.npy", *sets("penalty=3")], ["penalty=3"]),
        (["rows.npy", *sets("random_state=3")], ["use --seed"]),
        (["rows.npy", *sets("device=cpu")], ["use --device"]),
        (["rows.npy", *sets("momentum")], ["not of the form key=value"]),
        (["rows.npy", *sets("=3")], ["not of the form key=value"]),
        (["rows.npy", *sets("early_stopping=true"), "--validation", "0"], ["early_stopping needs held-out rows"]),
    ],
)
def test_fit_refuses(here, cli, contents, words, expected):
    Path("empty.npy").write_bytes(b"")
    Path("empty.csv").write_bytes(b"")
    holes = np.ones((5, 4))
    holes[1, 2] = np.nan
    np.save("nan.npy", holes)
    np.save("cube.npy", np.ones((2, 3, 4, 5, 6)))
    np.save("onerow.npy", np.ones((1, 4)))
    np.save("objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    before = contents(here)
    out = [] if "--out" in words else ["--out", "out"]
    refused(cli("fit", *words, *out), 2, expected)
    assert contents(here) == before


@pytest.mark.parametrize("words", [MACHINE, [*QUICK, "--set", "solver=sgd"]], ids=["machine", "autoencoder"])
def test_divergence_is_a_failure_and_no_bad_input(here, cli, words):
    far = sets("learning_rate=1", "weight_decay=L2", "weight_decay__strength=1e30")
    outcome = cli("fit", "rows.npy", *words, *far, "--quiet", "--out", "out")
    refused(outcome, 1, ["diverged", "learning_rate"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["line"], ["did you mean 'lines'"]),
        (["patchs"], ["did you mean 'patches'"]),
        (["kl", "--source", "digits"], ["takes no --source"]),
        (["kl", *sets("target=2")], ["target=2"]),
        (["kl", *sets("max_itr=3")], ["did you mean 'max_iter'"]),
        (["kl", *sets("dropout=0.5")], ["solver='lbfgs'", "dropout=0.5"]),
        (["kl", *sets("activation=ReLU")], ["KLDivergence", "ReLU"]),
        (["structure", *sets("n_samples=3")], ["n_samples=3 of structure must be a whole number"]),
        (["lines", "--preset", "better"], ["no preset 'better'", "best"]),
        (["lines", "--source", "digits"], ["takes no --source"]),
        (["lines", *sets("n_sample=30")], ["did you mean 'n_samples'"]),
        (["lines", *sets("gibbs_step=3")], ["did you mean 'gibbs_steps'"]),
        (["lines", *sets("repeats=0")], ["repeats=0 of lines must be a whole number of at least 1"]),
        (["lines", *sets("repeats=two")], ["repeats='two' of lines must be a whole number"]),
        (["lines", *sets("n_samples=0")], ["n_samples=0"]),
        (["lines", *sets("n_samples=4", "repeats=1")], ["n_samples=4 of lines must be a whole number of at least 20"]),
        (["lines", *sets("n_components=-3")], ["n_components=-3"]),
        (["lines", *sets("preset=best")], ["use --preset"]),
        (["lines", *sets("random_state=1")], ["use --seed"]),
        (["lines-units", *sets("units=few")], ["units='few' of lines-units", "several"]),
        (["lines-units", *sets("units=()", "repeats=1")], ["units=() of lines-units"]),
    ],
)
def test_run_refuses(here, cli, contents, words, expected):
    before = contents(here)
    refused(cli("run", *words, "--out", "out"), 2, expected)
    assert contents(here) == before


@pytest.mark.parametrize(
    "words",
    [
        ["fit"],
        ["fit", "digits", "--sed", "3"],
        ["fit", "digits", "--seed", "-1"],
        ["fit", "digits", "--seed", "one"],
        ["fit", "digits", "--validation", "2"],
        ["fit", "digits", "--patch", "0"],
        ["fit", "digits", "--checkpoint-every", "-1"],
        ["fit", "digits", "digits"],
        ["encode", "run", "digits"],
        ["list", "animals"],
        ["train", "digits"],
        [],
    ],
)
def test_usage_errors(here, cli, contents, words):
    before = contents(here)
    outcome = cli(*words)
    assert outcome.code == 2
    assert "Usage: rarefire" in outcome.err + outcome.out
    assert "Traceback" not in outcome.err
    assert contents(here) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["encode", "RUN", "narrow.npy", "-o", "codes.npy"], ["narrow.npy has 7 columns", "trained on 6"]),
        (["encode", "RUN", "six.npy", "-o", "codes.txt"], [".npy nor in .npz"]),
        (["encode", "RUN", "six.npy", "-o", "absent/codes.npy"], ["folder absent", "make it first"]),
        (["encode", "RUN", "six.npy", "-o", "folder.npy"], ["folder.npy is a folder"]),
        (["encode", "RUN", "absent.npy", "-o", "codes.npy"], ["absent.npy"]),
        (["encode", "RUN", "texts.txt", "-o", "codes.npy"], ["texts.txt is a text", "are no words"]),
        (["encode", "RUN", "table.csv", "--column", "text", "-o", "codes.npy"], ["no column 'text'"]),
        (["encode", "pictures", "six.npy", "-o", "codes.npy"], ["pictures is no run"]),
        (["resume", "absent"], ["absent is no run"]),
        (["show", "absent"], ["absent is no run"]),
        (["report", "pictures"], ["pictures is no run"]),
    ],
)
def test_other_commands_refuse(here, cli, contents, prepared, words, expected):
    np.save("six.npy", np.ones((3, 6)))
    Path("folder.npy").mkdir()
    before = contents(here)
    refused(cli(*[prepared / "run" if word == "RUN" else word for word in words]), 2, expected)
    assert contents(here) == before


@pytest.mark.parametrize(
    "estimator",
    [
        rf.BernoulliRBM(n_components=2, n_iter=1, random_state=0),
        rf.SparseAutoencoder(n_components=2, max_iter=1, random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_what_only_a_command_line_run_can_do(here, cli, estimator):
    clone(estimator).fit(np.load("rows.npy")).save("saved")
    refused(cli("report", "saved"), 2, ["no finished run of the command line"])
    assert type(estimator).__name__ in cli("show", "saved").out
    assert cli("encode", "saved", "rows.npy", "-o", "codes.npy").code == 0


# Run directories from elsewhere -----------------------------------------------------------------------------------


@pytest.fixture
def copy(prepared, tmp_path):
    """A copy of a finished run, to be damaged."""
    return shutil.copytree(prepared / "run", tmp_path / "copy")


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rewrite(path, change):
    from safetensors.numpy import load_file, save_file

    arrays = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    change(arrays, metadata)
    # Without the digest, as someone leaves it out who changes a file on purpose.
    about = json.loads(metadata["fitted"]) if "fitted" in metadata else []
    if isinstance(about, dict) and about.pop("sha256", None):
        metadata["fitted"] = json.dumps(about)
    save_file(arrays, path, metadata)


@pytest.mark.parametrize(
    ("name", "damage", "word"),
    [
        ("weights.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-100]), "damaged"),
        ("weights.safetensors", lambda p: p.write_bytes(b""), "damaged"),
        ("weights.safetensors", lambda p: p.write_bytes(b"\xff" * 64), "damaged"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: m.pop("fitted")), "damaged"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: m.update(fitted="[]")), "n_iter_"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: a.pop("components_")), "components_"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: a.pop("h_samples_")), "h_samples_"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: a.pop("prepare/0/range_")), "prepare/0/range_"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: a.update(components_=np.ones((2, 3)))), "shape"),
        (
            "weights.safetensors",
            lambda p: rewrite(p, lambda a, m: a["intercept_hidden_"].fill(np.nan)),
            "intercept_hidden_",
        ),
        ("spec.json", lambda p: edit(p, lambda s: s.update(format=2)), "format 2"),
        ("spec.json", lambda p: edit(p, lambda s: s.pop("format")), "format None"),
        ("spec.json", lambda p: edit(p, lambda s: s.pop("kind")), "'kind'"),
        ("spec.json", lambda p: edit(p, lambda s: s.update(kind="zip")), "'kind'"),
        ("spec.json", lambda p: edit(p, lambda s: s.pop("estimator")), "'estimator'"),
        ("spec.json", lambda p: edit(p, lambda s: s.update(data={})), "fingerprint"),
        ("spec.json", lambda p: edit(p, lambda s: s["estimator"].update({"class": "os.system"})), "os.system"),
        ("spec.json", lambda p: edit(p, lambda s: s["estimator"].update({"class": "rarefire.runs.go_on"})), "go_on"),
        ("spec.json", lambda p: edit(p, lambda s: s["estimator"].update({"class": 3})), "not part of rarefire"),
        (
            "spec.json",
            lambda p: edit(p, lambda s: s["estimator"].update({"class": "rarefire.preprocess.Rescale"})),
            "Rescale",
        ),
        ("spec.json", lambda p: edit(p, lambda s: s["estimator"].update(arguments=[1])), "cannot be understood"),
        ("spec.json", lambda p: edit(p, lambda s: s["estimator"]["arguments"].update(n_components=9)), "shape"),
        (
            "spec.json",
            lambda p: edit(p, lambda s: s["estimator"]["arguments"].update(penalty={"class": "os.system"})),
            "os.system",
        ),
        ("spec.json", lambda p: edit(p, lambda s: s["prepare"].append({"class": "shutil.rmtree"})), "shutil.rmtree"),
        ("spec.json", lambda p: p.write_text("{"), "cannot be read"),
        ("spec.json", lambda p: p.write_text("[]"), "no JSON object"),
        ("spec.json", lambda p: p.write_bytes(b"\xff\xfe"), "cannot be read"),
        ("history.jsonl", lambda p: p.write_text("{]\n{}\n"), "damaged"),
        ("history.jsonl", lambda p: p.write_text("3\n"), "no records"),
    ],
)
def test_a_damaged_run_is_not_loaded(copy, tmp_path, cli, contents, name, damage, word):
    damage(copy / name)
    np.save(tmp_path / "six.npy", np.ones((3, 6)))
    before = contents(tmp_path)
    refused(cli("encode", copy, tmp_path / "six.npy", "-o", tmp_path / "codes.npy"), 2, [str(copy), word])
    with pytest.raises(ValueError, match=word.replace("(", r"\(")):
        rf.load(copy)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "damage", "word"),
    [
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: a.pop("encoder_weight_")), "encoder_weight_"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: a.pop("decoder_bias_")), "decoder_bias_"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: a.pop("running_mean_")), "running_mean_"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: a.update(running_weight_=np.ones(2))), "shape"),
        ("weights.safetensors", lambda p: rewrite(p, lambda a, m: a["encoder_bias_"].fill(np.inf)), "encoder_bias_"),
        (
            "spec.json",
            lambda p: edit(p, lambda s: s["estimator"]["arguments"].update(activation={"class": "os.system"})),
            "os.system",
        ),
        (
            "spec.json",
            lambda p: edit(p, lambda s: s["estimator"].update({"class": "rarefire.estimators.boltzmann.BernoulliRBM"})),
            "no argument 'activation'",
        ),
    ],
)
def test_a_damaged_autoencoder_is_not_loaded(averaged, tmp_path, cli, name, damage, word):
    run = shutil.copytree(averaged / "run", tmp_path / "copy")
    damage(run / name)
    np.save(tmp_path / "six.npy", np.ones((3, 6)))
    refused(cli("encode", run, tmp_path / "six.npy", "-o", tmp_path / "codes.npy"), 2, [str(run), word])
    assert not (tmp_path / "codes.npy").exists()


def test_names_in_a_weights_file_decide_nothing(copy):
    rewrite(copy / "weights.safetensors", lambda arrays, _: arrays.update(fit=np.ones(1), __class__=np.ones(1)))
    estimator = rf.load(copy)[-1]
    assert callable(estimator.fit)


@pytest.mark.parametrize(
    ("command", "name", "text"),
    [
        ("show", "metrics.json", "{}"),
        ("show", "metrics.json", '{"metrics": [{}]}'),
        ("show", "history.jsonl", "{]\n"),
        ("show", "features.safetensors", "nothing"),
        ("report", "features.safetensors", "nothing"),
        ("report", "metrics.json", "["),
    ],
)
def test_a_damaged_run_is_not_shown(copy, cli, contents, command, name, text):
    (copy / name).write_text(text)
    before = contents(copy)
    refused(cli(command, copy), 2, [str(copy / name)])
    assert contents(copy) == before


def test_a_run_of_a_module_that_is_not_at_hand_is_shown(copy, cli):
    edit(copy / "spec.json", lambda spec: spec["estimator"].update({"class": "elsewhere.Machine"}))
    shown = cli("show", copy)
    assert shown.code == 0
    assert "Machine, seed 0" in shown.out
    assert "dead, on none" in shown.out
    refused(cli("report", copy), 2, ["elsewhere"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_without_the_right_to_write(here, cli):
    (here / "locked").mkdir(mode=0o500)
    refused(cli("fit", "rows.npy", *QUICK, "--quiet", "--out", "locked/run"), 1, ["locked", "cannot be written"])


def test_a_name_that_is_a_dataset_and_a_folder_is_asked_about(here, cli):
    (here / "photos").mkdir()
    (here / "digits").write_text("")
    for words in (("fit", "photos"), ("fit", "digits"), ("run", "patches", "--source", "photos")):
        refused(cli(*words, "--quiet"), 2, ["is a dataset, and a file or folder here; write ./"])
    refused(cli("fit", "./photos", "--quiet"), 2, ["no images directly in the folder"])


def test_columns_may_be_named_one_by_one(here, cli):
    (here / "three.csv").write_text("a,b,c\n" + "".join(f"{i},{i % 3},{i % 5}\n" for i in range(20)))
    for number, words in enumerate((["--column", "a,c"], ["--column", "a", "--column", "c"])):
        assert cli("fit", "three.csv", *words, *QUICK, "--quiet", "--out", f"run{number}").code == 0
        spec = json.loads((here / f"run{number}/spec.json").read_text())
        assert spec["data"]["feature_names"] == ["a", "c"]
