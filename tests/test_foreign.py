"""Run directories from elsewhere: what they name is not loaded unless it is trusted, and what is wrong is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import rarefire as rf
from fuzzing import limited_memory
from fuzzing_runs import Base, make_bases, undrawn
from rarefire import resuming, runs
from rarefire.artifact import RunDirectory
from rarefire.checkpoint import TrainState, sealed_bytes
from rarefire.errors import InputError, RunError
from rarefire.report import SCRIPTS

# Classes of the user's --------------------------------------------------------------------------------------------

#: A package of the user's; whichever of its modules is imported leaves a file.
MARK = "import pathlib; pathlib.Path(__file__).with_suffix('.imported').touch()\n"
PARTS = """
import torch
from rarefire.activations import Activation
from rarefire.data.source import Description
from rarefire.estimators.boltzmann import BernoulliRBM
from rarefire.penalties import L1Activity
from rarefire.preprocess.step import SameColumns
from rarefire.schedules import Schedule

class Half(L1Activity):
    def __init__(self, strength=0.5):
        super().__init__(strength)

class Squared(Activation):
    def __call__(self, z):
        return z ** 2
    def slope(self, z, f):
        return 2 * z

class Steps(Schedule):
    def __init__(self, first=0.1):
        self.first = first
    def at(self, progress):
        return self.first / (1 + int(4 * progress))

class Doubled(SameColumns):
    fitted = ("factor_",)
    def fit_source(self, source):
        import numpy as np
        self.factor_, self.n_features_in_ = np.array([2.0]), source.shape[1]
        return self
    def apply(self, rows):
        return (rows * self.factor_).astype(rows.dtype)

class OwnRBM(BernoulliRBM):
    pass

class Strange(L1Activity):
    def __init__(self, *arguments):
        pass

class Changing(L1Activity):
    def __init__(self, strength=0.5):
        self.strength = 2 * strength
"""
BEGIN = """
import numpy as np, rarefire as rf
from mine.parts import *
from rarefire import resuming, runs
from rarefire.artifact import RunDirectory
from rarefire.data.open import open_source
from rarefire.errors import Interrupted
from fuzzing_runs import stop_at, undrawn

X = np.random.default_rng(0).random((40, 6)).astype(np.float32)
np.save("rows.npy", X)
own = rf.SparseAutoencoder(
    3, penalty=Half(0.2), activation=Squared(), learning_rate=Steps(0.01), max_iter=3, batch_size=8, random_state=0
)
np.save("saved.npy", own.fit(X).transform(X))
own.save("saved")
deep = rf.DeepBeliefNetwork([OwnRBM(4, n_iter=1), rf.BernoulliRBM(3, n_iter=1, penalty=Half())], random_state=0).fit(X)
np.save("network.npy", deep.transform(X))
deep.save("network")
source = own.source_of(X)
stopped = RunDirectory("stopped array")
stopped.create({**own.spec(0), "data": source.spec(), "warm": False})
try:
    own.fit_source(source, own.split(40, 0), seed=0, directory=stopped, should_stop=stop_at(7))
except Interrupted:
    pass
where = {"where": "rows.npy", "patch": None, "column": None, "seed": 0}
for name, stop in (("run", 0), ("stopped run", 7)):
    directory = RunDirectory(name, ["mine.parts"])
    directory.create(runs.fit_spec(where, open_source(**where), [Doubled()], own, 0))
    with undrawn():
        try:
            resuming.go_on(directory, runs.Watch(should_stop=stop_at(stop)))
        except Interrupted:
            pass
np.save("run.npy", rf.load("run", ["mine"]).transform(X))
class Local(Half):
    pass
try:
    own.set_params(penalty=Local()).save("local")
except rf.errors.InputError as error:
    print(error)
"""
TRUST = """
import json, pathlib, sys
import numpy as np, rarefire as rf
from rarefire.cli import main

X = np.load("rows.npy")
assert not any(name.startswith("mine") for name in sys.modules)
for name, trusted in (("saved", ["mine.parts"]), ("network", ("mine",)), ("run", ["other", "mine.parts"])):
    np.testing.assert_array_equal(rf.load(name, trusted=trusted).transform(X), np.load(f"{name}.npy"))
resumed = rf.resume("stopped array", X, trusted=["mine.parts"])
np.testing.assert_array_equal(resumed.transform(X), np.load("saved.npy"))

def command(*words):
    sys.argv = ["rarefire", *words]
    try:
        main()
    except SystemExit as end:
        return end.code or 0

assert command("resume", "stopped run", "--quiet", "--trust", "mine.parts") == 0
for file in ("weights.safetensors", "history.jsonl", "features.safetensors", "metrics.json"):
    assert pathlib.Path("stopped run", file).read_bytes() == pathlib.Path("run", file).read_bytes()
assert command("encode", "run", "rows.npy", "-o", "codes.npy", "--trust", "other", "--trust", "mine.parts") == 0
np.testing.assert_array_equal(np.load("codes.npy"), np.load("run.npy"))
assert command("report", "run", "--trust", "mine") == 0
assert "Half(strength=0.2)" in pathlib.Path("run/report.html").read_text()
pairs = ("n_components=3", "max_iter=2", "penalty=Half", "penalty__strength=0.3")
half = [word for pair in pairs for word in ("--set", pair)]
trusted = ("--trust", "mine.parts", "--quiet")
assert command("fit", "rows.npy", *half, "--prepare", "Doubled", *trusted, "--out", "own") == 0
assert json.loads(pathlib.Path("own/spec.json").read_text())["estimator"]["arguments"]["penalty"] == {
    "class": "mine.parts.Half", "arguments": {"strength": 0.3}
}
assert rf.load("own", trusted=["mine"])[-1].penalty.strength == 0.3
assert command("fit", "rows.npy", "--trust", "mine.nowhere", "--out", "never") == 2
assert not pathlib.Path("never").exists()

# Trust in a module is trust in its members of the family that is asked for, with arguments as scikit-learn has them.
spec = json.loads(pathlib.Path("saved/spec.json").read_text())
for key, value, words in (
    ("penalty", "mine.parts.Squared", "penalty=Squared() of SparseAutoencoder must be an instance of ActivityPenalty"),
    ("penalty", "mine.parts.torch", "mine.parts has no component of that name"),
    ("penalty", "mine.parts.Half.__init__", "the module mine.parts.Half cannot be imported"),
    ("penalty", "mine.parts.L1Activity", "mine.parts has no component of that name"),
    ("penalty", "mine.nowhere.Half", "the module mine.nowhere cannot be imported"),
    ("penalty", "mine.parts.Strange", "Strange cannot be built"),
    ("penalty", "mine.parts.Changing", "cannot be understood"),
    ("penalty", "other.parts.Half", "--trust other.parts"),
):
    told = {**spec, "estimator": json.loads(json.dumps(spec["estimator"]))}
    told["estimator"]["arguments"][key] = {"class": value, "arguments": {}}
    pathlib.Path("saved/spec.json").write_text(json.dumps(told))
    try:
        rf.load("saved", trusted=["mine"])
    except rf.errors.InputError as error:
        assert words in str(error) and "saved/spec.json" in str(error), error
    else:
        raise AssertionError(value)
pathlib.Path("saved/spec.json").write_text(json.dumps(spec))
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """Runs a program in a folder of its own, whose package ``mine`` it finds; gives what it prints."""
    place = tmp_path_factory.mktemp("mine")
    (place / "mine").mkdir()
    (place / "mine/__init__.py").write_text(MARK)
    (place / "mine/parts.py").write_text(MARK + PARTS)
    (place / "mine/idle.py").write_text(MARK)
    path = os.pathsep.join(
        [str(place), str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    )

    def run(program):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=place, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.place = place
    return run


def imported(place):
    return {path.stem for path in (place / "mine").glob("*.imported")}


@pytest.fixture(scope="session")
def own(python):
    """Runs of classes of the user's, whose package is on the path and was never imported here."""
    said = python(BEGIN)
    assert said.startswith("Local cannot be saved in a run, because no other program finds __main__.Local; put it")
    assert not (python.place / "local").exists()
    assert imported(python.place) == {"__init__", "parts"}
    for mark in (python.place / "mine").glob("*.imported"):
        mark.unlink()
    return python.place


@pytest.mark.parametrize("trusted", [(), ("other",), ("min", "mine.part", "parts", "mine.parts.Half", "")], ids=str)
def test_nothing_is_imported_that_is_not_trusted(own, monkeypatch, cli, trusted, contents):
    monkeypatch.syspath_prepend(str(own))
    monkeypatch.chdir(own)
    before = contents(own)
    options = [word for module in trusted for word in ("--trust", module)]
    for name in ("saved", "network", "run", "stopped array"):
        said = []
        with pytest.raises(InputError) as refused:
            (rf.resume if "stopped" in name else rf.load)(
                *[name, *([np.load("rows.npy")] * name.startswith("stopped"))], trusted=trusted
            )
        said.append(str(refused.value))
        if name == "run":
            outcome = cli("encode", name, "rows.npy", "-o", "codes.npy", *options)
            assert outcome.code == 2
            said += [outcome.err, cli("report", name, *options).err]
        for sentence in said:
            assert f"{name}/spec.json" in sentence
            assert "names mine.parts." in sentence
            assert (
                "not part of rarefire; nothing of it is loaded unless you trust its module: --trust mine.parts"
                in sentence
            )
    outcome = cli("resume", "stopped run", "--quiet", *options)
    assert outcome.code == 2
    assert "--trust mine.parts" in outcome.err
    assert "mine" not in sys.modules
    assert imported(own) == set()
    assert contents(own) == before
    assert cli("show", "saved").code == 0


def test_trusted_modules_are_imported_and_no_other(own, python):
    python(TRUST)
    assert imported(own) == {"__init__", "parts"}


def test_trust_is_a_list(own):
    with pytest.raises(InputError, match=r"trusted='mine' must be a list of modules; give \['mine'\]"):
        rf.load(own / "saved", trusted="mine")


# Real runs, changed -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    with undrawn():
        return make_bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def taken(bases, tmp_path):
    """A copy of a run, to be changed."""

    def copy(name) -> tuple[Path, Base]:
        return shutil.copytree(bases[name].path, tmp_path / name), bases[name]

    return copy


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def resume(path):
    directory = RunDirectory(path)
    directory.spec()
    with directory.locked(), undrawn():
        resuming.go_on(directory, runs.Watch())


def rewrite(path, change):
    """Change arrays and metadata of a file, as someone does who makes its digest anew."""
    arrays = load_file(path)
    with safe_open(path, framework="numpy") as file:
        ((entry, text),) = file.metadata().items()
    rest = json.loads(text)
    rest.pop("sha256", None)
    change(arrays, rest)
    path.write_bytes(sealed_bytes(arrays, entry, rest))


CAMPAIGN = """
import json, pathlib, sys
from fuzzing_runs import campaign
print(json.dumps(campaign({n}, {seed}, pathlib.Path({folder!r}))))
"""


def test_what_is_changed_at_random_is_read_rightly_or_refused(python, tmp_path):
    """In a process of its own, where shapes are not checked at every call."""
    n, seed = 200, 0
    said = python(CAMPAIGN.format(n=n, seed=seed, folder=str(tmp_path)))
    outcome = json.loads(said.splitlines()[-1])  # after what a run says that was made verbose
    assert outcome["failures"] == []
    assert outcome["inputs"] == n
    assert min(outcome["accepted"], outcome["refused"]) > n / 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a device that is not here")
def test_runs_of_a_device_that_is_not_here_are_used_on_one_that_is(taken, process, tmp_path):
    path, base = taken("machine")
    edit(path / "spec.json", lambda spec: spec["estimator"]["arguments"].update(device="cuda"))
    warning = "since the run began, its device 'cuda' has gone; what it learned is used on 'cpu'"
    with pytest.warns(UserWarning, match=warning):
        machine = rf.load(path)
    assert machine.device == "auto"
    rows = np.random.default_rng(0).random((3, machine.n_features_in_))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(machine.transform(rows), rf.load(base.path).transform(rows))
    np.save(tmp_path / "rows.npy", rows)
    one = process("encode", path.name, "rows.npy", "-o", "codes.npy", cwd=tmp_path)
    out, err = one.communicate(timeout=120)
    assert (one.returncode, out) == (0, "codes.npy: 3 rows of 4 features\n")
    assert err == f"rarefire: warning: {warning}\n"


def test_runs_go_on_with_other_versions_with_a_warning(taken, process, tmp_path):
    path, _ = taken("stopped autoencoder")
    edit(path / "spec.json", lambda spec: spec["versions"].update(numpy="1.0"))
    one = process("resume", path.name, "--quiet", cwd=tmp_path)
    _, err = one.communicate(timeout=120)
    assert one.returncode == 0
    assert re.fullmatch(
        r"rarefire: warning: since the run began, versions changed \(numpy 1\.0 to [\d.]+\); bits may differ\n", err
    )


@pytest.mark.parametrize("name", ["machine", "network", "pictures", "words"])
def test_a_file_that_is_cut_off_is_refused(taken, name):
    path, _ = taken(name)
    file = path / "weights.safetensors"
    content = file.read_bytes()
    for size in {*range(0, 40, 3), *np.linspace(0, len(content) - 1, 40, dtype=int).tolist()}:
        file.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"weights\.safetensors is damaged .*made again"):
            rf.load(path)


def test_a_checkpoint_with_one_bit_turned_is_refused(taken):
    """Wherever it is: in the length, in the names, in the numbers; not between them, where nothing stands."""
    path, _ = taken("stopped autoencoder")
    file = path / "checkpoint/state.safetensors"
    content = bytearray(file.read_bytes())
    state = TrainState.read(file, "cpu").to_bytes()
    assert state == content
    rng, said = np.random.default_rng(0), set()
    for at in [*range(12), *rng.integers(0, len(content), 300).tolist()]:
        turned = bytearray(content)
        turned[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(turned)
        try:
            assert TrainState.read(file, "cpu").to_bytes() == state
            assert chr(content[at]).isspace()
        except RunError as error:
            said.add(str(error).partition(" (")[0])
    assert said == {f"the checkpoint {file} is damaged"}


@pytest.mark.parametrize("file", ["weights.safetensors", "features.safetensors"])
def test_a_finished_run_with_one_bit_turned_is_refused(taken, cli, file):
    path, _ = taken("words")
    content = bytearray((path / file).read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(content), 60).tolist():
        turned = bytearray(content)
        turned[at] ^= 1 << int(rng.integers(8))
        (path / file).write_bytes(turned)
        if file.startswith("features"):
            outcome = cli("report", path)
            assert outcome.code == 2
            assert f"{file} is damaged" in outcome.err
            continue
        with pytest.raises(InputError, match=f"{file} is damaged"):
            rf.load(path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("machine", lambda a, m: a.update(visible_offset_=np.zeros(5, np.float32)), "visible_offset_ of shape"),
        ("machine", lambda a, m: a.update(components_=a["components_"].astype(np.int64)), "components_ that are"),
        ("machine", lambda a, m: a.update(components_=a["components_"] > 0), "components_ that are no finite"),
        ("machine", lambda a, m: a.update(components_=a["components_"].astype(np.float16)), "no finite numbers"),
        ("machine", lambda a, m: a.update(components_=a["components_"].astype(np.complex64)), "no finite numb"),
        ("machine", lambda a, m: a.update(components_=a["components_"].astype(np.float64)), "weights of several types"),
        ("machine", lambda a, m: a.update(components_=np.zeros((4, 0), np.float32)), "of shape"),
        ("machine", lambda a, m: a.update(h_samples_=np.zeros((2, 9), np.float32)), "h_samples_ of shape"),
        ("machine", lambda a, m: a["running_mean_"].fill(np.nan), "running_mean_"),
        ("machine", lambda a, m: a.update(validation_indices_=np.array([-1])), "validation_indices_"),
        ("machine", lambda a, m: a.update({"solver/weight": np.full((4, 9), np.inf, np.float32)}), "solver/weight"),
        ("machine", lambda a, m: m.update(n_features_in_=True), "no valid n_features_in_"),
        ("machine", lambda a, m: m.update(n_features_in_=10**12), "of shape"),
        ("machine", lambda a, m: m.update(n_iter_=-1), "no valid n_iter_"),
        ("machine", lambda a, m: m.update(n_iter_=99), "holds 3 epochs, but"),
        ("machine", lambda a, m: m.update(feature_names_in_=["a"]), "no valid feature_names_in_"),
        ("machine", lambda a, m: m.update(feature_names_in_=[1] * 9), "no valid feature_names_in_"),
        ("machine", lambda a, m: m.update(stop_reason_=[]), "no valid stop_reason_"),
        ("pictures", lambda a, m: a.update({"prepare/1/shape_": np.array([10**6, 10**6])}), "OneOverFWhitening that"),
("pictures", lambda a, m: a.update({"prepare/2/range_": np.array([1.0])}), "ClipRescale that does not fit"),
        ("components", lambda a, m: a.update({"prepare/0/mean_": np.zeros(8)}), "PCAWhitening that does not fit"),
        ("components", lambda a, m: a.update({"prepare/0/gain_": np.zeros(4)}), "PCAWhitening that does not fit"),
        ("components", lambda a, m: a.update({"prepare/0/components_": np.zeros((4, 9))}), "PCAWhitening that"),
    ],
)  # fmt: skip
def test_weights_that_are_well_formed_and_wrong(taken, name, change, words):
    path, _ = taken(name)
    rewrite(path / "weights.safetensors", change)
    with pytest.raises(InputError, match=words) as refused:
        rf.load(path)
    assert str(path / "weights.safetensors") in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(format=2), "format 2, this version reads up to 1; update rarefire"),
        (lambda s: s.update(format=0), "format 0, which never was"),
        (lambda s: s.update(format=True), "format True"),
        (lambda s: s.update(seed=-1), "'seed'"),
        (lambda s: s.update(seed=True), "'seed'"),
        (lambda s: s.update(versions={"rarefire": 1}), "'versions'"),
        (lambda s: s["source"].update(where=["a"]), "'where' of its source"),
        (lambda s: s["source"].update(seed=-1), "'source'"),
        (lambda s: s["data"].update(n_features=True), "'n_features' of its data"),
        (lambda s: s["data"].update(n_features=10**12), "'data'"),
        (lambda s: s["data"].update(kind="sound"), "'data'"),
        (lambda s: s["data"].update(name=None), "'name' of its data"),
        (lambda s: s["data"].update(feature_names=["a"] * 11), "'data'"),
        (lambda s: s["data"].update(feature_names=[1] * 12), "'data'"),
        (lambda s: s["data"].update(kind="image", shape=[5, 2]), "'data'"),
        (lambda s: s["data"].update(kind="image", shape=[-3, -4]), "'data'"),
        (lambda s: s["data"].update(kind="image", feature_names=None), "'data'"),
        (lambda s: s["estimator"].pop("class"), "names no class"),
        (lambda s: s["estimator"].pop("arguments"), "cannot be understood"),
        (lambda s: s["estimator"]["arguments"].update(n_components=10**9), "of shape"),
        (lambda s: s["estimator"]["arguments"].update(n_components=10**10), "n_components=10000000000"),
        (lambda s: s["estimator"]["arguments"].update(n_components=-4), "n_components=-4"),
        (lambda s: s["estimator"]["arguments"].update(tied="yes"), "tied='yes'"),
        (lambda s: s["estimator"]["arguments"].update(device="nowhere"), "nowhere"),
        (lambda s: s["estimator"]["arguments"].update(device=3), "device=3"),
        (lambda s: s["estimator"]["arguments"].update(random_state="x"), "random_state='x'"),
        (lambda s: s["estimator"]["arguments"].update(checkpoint_dir="/elsewhere"), "names another directory"),
        (lambda s: s["estimator"]["arguments"].update(activation={**s["estimator"], "arguments": {}}), "activation="),
        (lambda s: s["estimator"]["arguments"].update(solver="lbfgs"), "solver='lbfgs'"),
        (lambda s: s["estimator"].update({"class": "rarefire.recipes.lines.Lines"}), "no estimator of that name"),
        (lambda s: s["prepare"].append(s["estimator"]), "no step of that name"),
        (lambda s: s["prepare"].append({"class": "rarefire.preprocess.Rescale", "arguments": {}}), "prepare/0"),
    ],
)  # fmt: skip
def test_specifications_that_are_wrong(taken, change, words, cli, tmp_path):
    path, base = taken("words")
    edit(path / "spec.json", change)
    with pytest.raises(InputError) as refused:
        rf.load(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    outcome = cli("encode", path, base.source, "-o", tmp_path / "codes.npy")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert not (tmp_path / "codes.npy").exists()


def test_a_very_long_schedule_is_checked_at_once(taken):
    path, _ = taken("autoencoder")
    edit(path / "spec.json", lambda s: s["estimator"]["arguments"].update(max_iter=2**31 - 1))
    assert rf.load(path).max_iter == 2**31 - 1


def test_a_run_that_is_further_than_it_goes_is_refused(taken):
    path, _ = taken("stopped autoencoder")
    edit(path / "spec.json", lambda s: s["estimator"]["arguments"].update(max_iter=0))
    with pytest.raises(RunError, match="cannot go on at batch"):
        resume(path)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("history.jsonl", '{"epoch": 1, "cost": "low"}\n', "line 1, has no valid 'cost'"),
        ("history.jsonl", '{"epoch": 2, "cost": 1.0}\n', "line 1, has no valid 'epoch'"),
        ("history.jsonl", '{"epoch": 1, "cost": NaN}\n', "NaN is no number of JSON"),
        ("history.jsonl", '{"epoch": 1, "cost": 1' + "0" * 400 + "}\n", "'cost'"),
        ("history.jsonl", '{"epoch": 1, "cost": true}\n', "'cost'"),
        ("history.jsonl", "[" * 100_000 + "\n", "is damaged"),
        ("metrics.json", '{"metrics": [{"name": "a", "value": "b"}]}', "'value' in entry 1"),
        ("metrics.json", '{"metrics": [{"name": 1, "value": 1}]}', "'name' in entry 1"),
        ("metrics.json", '{"metrics": [{"name": "a", "value": 1, "within": 1}]}', "'within' in entry 1"),
        ("metrics.json", '{"metrics": [3]}', "'name' in entry 1"),
        ("metrics.json", '{"metrics": [{"name": "a", "value": Infinity}]}', "Infinity is no number"),
        ("figures/captions.json", '{"features": 3}', "captions that are no texts"),
        ("figures/activity.png", "GIF89a", "is damaged"),
        ("features.safetensors", "", "is damaged"),
    ],
)
def test_what_a_page_is_made_of(taken, cli, contents, file, text, words):
    path, _ = taken("words")
    (path / "figures/captions.json").write_text('{"activity": "Activity"}')
    (path / file).write_text(text)
    before = contents(path)
    outcome = cli("report", path)
    assert outcome.code == 2
    assert outcome.err.startswith(f"rarefire: {path / file}")
    assert words in outcome.err
    assert contents(path) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, m: a.update(optimal=a["optimal"][:2]), "optimal is of"),
        (lambda a, m: a["norm"].fill(np.nan), "norm is of"),
        (lambda a, m: a["example_index"].fill(10**6), "example_index reaches"),
        (lambda a, m: a["example_index"].fill(-1), "example_index reaches"),
        (lambda a, m: a["median_index"].fill(-2), "median_index reaches"),
        (lambda a, m: a["alike_index"].fill(10**6), "alike_index reaches"),
        (lambda a, m: a["histogram"].fill(-1), "negative"),
        (lambda a, m: a.pop("threshold_codes"), "threshold_codes"),
        (lambda a, m: a.update(outputs=a["outputs"][:2]), "outputs is of"),
        (lambda a, m: a.update(dead=a["dead"].astype(np.float32)), "dead is of"),
        (lambda a, m: a["example_rows.indices"].fill(10**6), "ind"),
        (lambda a, m: a.update({"example_rows.indptr": a["example_rows.indptr"][::-1].copy()}), "ind"),
        (lambda a, m: m.update(feature_names=["a"]), "description"),
        (lambda a, m: m.update(kind="image", shape=[1, 2]), "description"),
        (lambda a, m: m.pop("name"), "name"),
    ],
)
def test_a_table_that_does_not_agree_with_itself(taken, cli, change, words):
    path, _ = taken("words")
    file = path / "features.safetensors"
    arrays = load_file(file)
    with safe_open(file, framework="numpy") as opened:
        description = json.loads(opened.metadata()["description"])
    description.pop("sha256", None)
    change(arrays, description)
    save_file(arrays, file, {"description": json.dumps(description)})
    outcome = cli("report", path)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert f"{file} is damaged" in outcome.err
    assert words in outcome.err


# What is not in the directory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".lock", "history.jsonl", "timing.jsonl", "checkpoint", "figures", "layers", "x/y"])
def test_nothing_is_written_through_a_link(taken, tmp_path, cli, contents, name):
    """A run to be gone on with could else empty any file of the user's."""
    path, base = taken("stopped network")
    outside = tmp_path / "outside"
    outside.mkdir()
    inside = path / name
    if inside.is_dir():
        shutil.move(inside, outside / "moved")
        inside.symlink_to(outside / "moved")
    else:
        (outside / "precious").write_text("years of work")
        inside.unlink(missing_ok=True)
        inside.parent.mkdir(exist_ok=True)
        inside.symlink_to(outside / "precious")
    before = contents(tmp_path)
    for refused in (cli("resume", path), cli("report", path)):
        assert refused.code == 2
        assert refused.err.startswith(
            f"rarefire: {inside} is a link, and what a run writes must stay in its directory;"
        )
    with pytest.raises(InputError, match="is a link"):
        rf.resume(path, base.rows)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/evil", "..", "", ".", "a/b", "a\x00b", "layer 1", "low__x", 3, None]
)
def test_a_layer_stays_in_its_directory(taken, tmp_path, contents, name):
    path, _ = taken("network")
    shutil.copytree(path / "layers/low", tmp_path / "evil")
    edit(path / "spec.json", lambda s: s["estimator"]["arguments"]["machines"][0].__setitem__(0, name))
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"spec\.json"):
        rf.load(path)
    for folder in ("layer", "arm"):
        if not isinstance(name, str) or name in ("../../evil", "/tmp/evil", "..", "", ".", "a/b"):
            with pytest.raises((InputError, TypeError)):
                getattr(RunDirectory(path), folder)(name)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda low, bases: other(low, bases["machine"]), "holds a BernoulliRBM of shape (4, 9)"),
        (lambda low, bases: other(low, bases["autoencoder"]), "no restricted boltzmann machine of that name"),
        (lambda low, bases: other(low, bases["network"]), "no restricted boltzmann machine of that name"),
        (lambda low, bases: other(low, bases["stopped machine"]), "no finished machine"),
        (lambda low, bases: shutil.rmtree(low), "no finished machine"),
        (lambda low, bases: other(low, low.parent / "high"), "of shape (3, 5)"),
        (lambda low, bases: (shutil.rmtree(low), low.symlink_to("..")), "no restricted boltzmann machine of that name"),
    ],
)
def test_a_layer_that_is_anothers(taken, bases, change, words):
    path, _ = taken("network")
    change(path / "layers/low", bases)
    with pytest.raises(InputError) as refused:
        rf.load(path)
    assert words in str(refused.value)
    assert str(path / "layers/low") in str(refused.value)


def other(place, instead):
    shutil.rmtree(place)
    shutil.copytree(getattr(instead, "path", instead), place)


@pytest.mark.parametrize("instead", ["machine", "autoencoder"])
def test_a_finished_layer_of_an_unfinished_run_is_its_own(taken, bases, instead):
    path, _ = taken("stopped network")
    other(path / "layers/low", bases[instead])
    with pytest.raises(InputError, match=f"{path}/layers/low"):
        resume(path)


def test_parts_of_runs_name_the_whole(taken):
    """Of a layer of an arm the run is two folders up and two more, and a run from Python goes on in Python."""
    path, _ = taken("stopped recipe")
    network, _ = taken("stopped network")
    arm = next((path / "arms").iterdir())
    shutil.copytree(network / "layers", arm / "layers")
    with pytest.raises(InputError, match=rf"part of the run {path}; go on with that by rarefire resume {path}"):
        resume(arm / "layers/low")
    edit(network / "spec.json", lambda s: s.update(kind="array"))
    with pytest.raises(InputError, match=rf"go on with that by rarefire\.resume\('{network}', X\) in Python"):
        resume(network / "layers/low")
    shutil.copytree(network / "layers/low", path.parent / "alone")
    with pytest.raises(InputError, match="part of a run that is not there"):
        resume(path.parent / "alone")


# Unfinished runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, m: m.update(epoch=-1), "place"),
        (lambda a, m: m.update(epoch=1.0), "place"),
        (lambda a, m: m.update(epoch=10**30), "history.jsonl holds 1 of the"),
        (lambda a, m: m.update(batch=-1), "place"),
        (lambda a, m: m.update(batch=6), "cannot go on at batch 6"),
        (lambda a, m: m.update(batch=True), "place"),
        (lambda a, m: m.update(waited=None), "place"),
        (lambda a, m: m.update(best="x"), "best"),
        (lambda a, m: m.update(best=float("nan")), "best"),
        (lambda a, m: m.update(reason=3), "reason"),
        (lambda a, m: m.update(sums={"objective": 1.0}), "sums"),
        (lambda a, m: m.update(sums={"objective": "x", "rows": 8}), "sums"),
        (lambda a, m: m.update(sums=[1]), "sums"),
        (lambda a, m: m.update(generator={}), "generator"),
        (lambda a, m: m.update(generator={"device": "cpu"}), "generator"),
        (lambda a, m: m["generator"].update(sfc64=[1, 2]), "generator"),
        (lambda a, m: m["generator"].update(device="cuda"), "cannot go on on cpu"),
        (lambda a, m: m.pop("epoch"), "entries"),
        (lambda a, m: m.update(more=1), "entries"),
        (lambda a, m: m.update(parameters={}), "argument 'parameters'"),
        (lambda a, m: a["parameters/encoder_weight"].fill(np.nan), "weights"),
        (lambda a, m: a["average/encoder_weight"].fill(np.inf), "weights"),
        (lambda a, m: a.pop("parameters/encoder_bias"), "other parameters"),
        (lambda a, m: a.pop("average/encoder_bias"), "average"),
        (lambda a, m: a.update({"best_parameters/x": np.zeros(3)}), "average"),
        (lambda a, m: a.update({"solver/steps": np.array(-2)}), "counts"),
        (lambda a, m: a.update({"solver/steps": np.array(1.0)}), "other solver"),
        (lambda a, m: a.update({"objective/x": np.zeros(3)}), "other objective"),
        (lambda a, m: a.update(x=np.zeros(3)), "is damaged"),
        (lambda a, m: a.update({"other/x": np.zeros(3)}), "is damaged"),
    ],
)
def test_a_checkpoint_that_is_well_formed_and_wrong(taken, change, words):
    path, _ = taken("stopped autoencoder")
    rewrite(path / "checkpoint/state.safetensors", change)
    with pytest.raises(RunError) as refused:
        resume(path)
    assert words in str(refused.value)
    assert not (path / "weights.safetensors").exists()


@pytest.mark.parametrize("name", ["stopped machine", "stopped lbfgs", "stopped network", "stopped autoencoder"])
def test_a_thousand_million_units_ask_for_no_memory(taken, name):
    """What a checkpoint or a weights file holds cannot be of so many, and is seen to be too small before that."""
    path, _ = taken(name)

    def grow(spec):
        arguments = spec["estimator"]["arguments"]
        (arguments if "n_components" in arguments else arguments["machines"][-1][1]["arguments"])["n_components"] = (
            10**9
        )

    edit(path / "spec.json", grow)
    with limited_memory(), pytest.raises(RunError, match=r"does not belong to the run's spec\.json.*more parameters"):
        resume(path)
    for checkpoint in path.rglob("checkpoint"):
        shutil.rmtree(checkpoint)
    with (
        limited_memory(),
        pytest.raises(RunError, match=f"the run {path} asks for more memory than there is; use fewer"),
    ):
        resume(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(settings=[]), "'settings'"),
        (lambda r: r.update(settings={"class": "rarefire.penalties.L2", "arguments": {}}), "no recipe of that name"),
        (lambda r: r["settings"]["arguments"].update(n_sparse=-1), "n_sparse"),
        (lambda r: r.update(set=[[1, 2, 3]]), "'recipe'"),
        (lambda r: r.update(set=[["tied", {"class": "os.system"}]]), "not part of rarefire"),
        (lambda r: r.update(set=[["tieed", 1]]), "tieed"),
        (lambda r: r.update(device="/dev/null"), "/dev/null"),
        (lambda r: r.pop("title"), "'title'"),
    ],
)
def test_a_recipe_that_is_none(taken, change, words):
    path, _ = taken("stopped recipe")
    edit(path / "spec.json", lambda s: change(s["recipe"]))
    with pytest.raises(InputError) as refused:
        resume(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)


# What is shown ----------------------------------------------------------------------------------------------------

HOSTILE = "</script><script>alert(1)</script>\x1b[2J\x00\u202e\ud800[red]{{ 1 }}"


def test_texts_of_a_run_are_shown_as_texts(taken, cli):
    """In the terminal nothing steers it, on the page nothing is markup, and half a pair stops neither."""
    path, base = taken("words")

    def hostile(spec):
        spec["data"].update(name=HOSTILE, notes=HOSTILE, fingerprint=HOSTILE)
        spec["data"]["feature_names"][:] = [f"{HOSTILE}{i}" for i in range(len(spec["data"]["feature_names"]))]
        spec["versions"] = {HOSTILE: HOSTILE}

    edit(path / "spec.json", hostile)
    edit(path / "metrics.json", lambda m: m["metrics"][0].update(name=HOSTILE, unit=HOSTILE, explanation=HOSTILE))
    shown = cli("show", path)
    assert shown.code == 0
    assert "</script><script>alert(1)</script>\\x1b[2J\\x00\\u202e\\ud800[red]{{ 1 }}" in shown.out
    assert not set(shown.out) & {*"\x1b\x00\u202e\ud800"}
    assert cli("report", path).code == 0
    page = (path / "report.html").read_text(encoding="utf-8")
    # Those of the page, with what computes for it, and two of data.
    assert page.count("<script") == len(SCRIPTS) + 3 + 2
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[2J\\x00\\u202e\\ud800[red]{{ 1 }}" in page
    with pytest.raises(InputError, match="has the feature names"):
        runs.encode_to(RunDirectory(path), runs.open_source(base.source), path.parent / "codes.npy")
