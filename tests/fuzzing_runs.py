"""Run directories from elsewhere: real ones, changed at random, and a judge of what comes of them.

:func:`campaign` takes finished and unfinished runs of every kind, changes one file of each copy, and gives it to
everything that reads runs: ``rarefire.load`` and the commands ``show``, ``report``, ``encode`` and ``resume``. Each
must do what it would have done, or end with one sentence that names the file and what to do.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
import re
import shutil
import signal
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

import rarefire as rf
from rarefire import recipes, resuming, runs
from rarefire.artifact import RunDirectory
from rarefire.checkpoint import sealed_bytes
from rarefire.cli import main
from rarefire.component import to_spec
from rarefire.data.open import open_source
from rarefire.errors import InputError, Interrupted, RunError
from rarefire.preprocess import ClipRescale, OneOverFWhitening, PCAWhitening, RemoveMean
from rarefire.report import SCRIPTS

#: Seconds after which an input hangs; bytes that a process may grow by for a directory of some kilobytes.
HANGS, MOST = 60.0, 2**28
#: Batches that a resumed run is left to do, which are more than any of the bases needs.
BATCHES = 200

REMEDY = re.compile(
    r"[;(] ?[^;]*\b(again|anew|together|begin|goe?s? on|give|put|update|unless|use|set|lower|leave|fit)\b"
)
_NOISE = ("pickle.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
_WRITES = {"os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,), "os.symlink": (1,)}


@dataclass
class Base:
    """A real run, and what is known of it.

    Parameters
    ----------
    path : Path
        The run.
    rows : ndarray
        Rows that it takes.
    source : str
        The file that holds them, or nothing where the run's own may be read again.
    codes : ndarray, optional
        What they become; of an unfinished run in the end.
    from_array : bool
        Whether the run was begun from Python.
    """

    path: Path
    rows: NDArray[np.floating]
    source: str
    codes: NDArray[np.floating]
    finished: bool = True
    from_array: bool = False


@dataclass
class Change:
    """What was done to a copy."""

    file: str
    what: str
    parts: dict[str, Any] = field(default_factory=dict)


class Failure(Exception):
    """Something else than a right answer or a right refusal."""


class _Hanging(BaseException):
    """No exception that a reader may catch."""


# Real runs ----------------------------------------------------------------------------------------------------------


def make_bases(folder: Path) -> dict[str, Base]:
    """Small runs of every kind, finished and not."""
    rng = np.random.default_rng(0)
    bits = (rng.random((40, 1)) > rng.random(9)).astype(np.float32)
    pictures = rng.random((40, 3, 3)).astype(np.float32)
    np.save(folder / "bits.npy", bits)
    np.save(folder / "pictures.npy", pictures)
    words = ["red", "green", "blue", "ship", "captain", "love", "kiss", "gun", "police", "heart", "planet", "alien"]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(40)]
    (folder / "texts.txt").write_text("\n".join(texts) + "\n")
    small: dict[str, Any] = {"n_components": 4, "batch_size": 8, "device": "cpu", "random_state": 0}
    machine = rf.BernoulliRBM(**small, n_iter=3, centring=0.1, penalty=rf.penalties.KLDivergence(averaging=0.9))
    encoder = rf.SparseAutoencoder(**small, max_iter=3, averaging=0.5, learning_rate=rf.schedules.Linear(0.1, 0.01))
    lbfgs = rf.SparseAutoencoder(
        n_components=4, solver="lbfgs", max_iter=5, device="cpu", activation=rf.activations.ReLU()
    )
    low = rf.GaussianRBM(n_components=5, n_iter=2, learn_variance=True)
    deep = rf.DeepBeliefNetwork(
        [("low", low), ("high", rf.BernoulliRBM(n_components=3, n_iter=2))],
        fine_tune="sample", max_iter=2, batch_size=8, random_state=0, device="cpu",
    )  # fmt: skip
    bases: dict[str, Base] = {}

    def saved(name: str, estimator: Any, rows: NDArray) -> None:
        fitted = estimator.fit(rows)
        fitted.save(folder / name)
        np.save(folder / f"{name}.npy", rows)
        bases[name] = Base(folder / name, rows, str(folder / f"{name}.npy"), fitted.transform(rows), from_array=True)

    def begun(name: str, source: str, estimator: Any, steps: tuple = (), stop: int = 0) -> None:
        where = {"where": source, "patch": None, "column": None, "seed": 0}
        opened = open_source(**where)
        ends = (name, f"{name} alone") if stop else (name,)
        for end in ends:
            directory = RunDirectory(folder / end)
            directory.create(runs.fit_spec(where, opened, list(steps), estimator, 0))
            with contextlib.suppress(Interrupted):
                resuming.go_on(directory, runs.Watch(should_stop=stop_at(stop if end == name else 0)))
        rows = opened.rows(slice(None))
        bases[name] = Base(folder / name, rows, source, rf.load(folder / ends[-1]).transform(rows), not stop)

    saved("machine", machine, bits)
    saved("autoencoder", encoder, bits)
    saved("network", deep, rng.normal(size=(40, 9)).astype(np.float32))
    begun("pictures", str(folder / "pictures.npy"), encoder, (RemoveMean(), OneOverFWhitening(), ClipRescale()))
    begun("components", str(folder / "pictures.npy"), lbfgs, (PCAWhitening(n_components=5),))
    begun("words", str(folder / "texts.txt"), encoder)
    begun("stopped machine", str(folder / "bits.npy"), machine, stop=7)
    begun("stopped autoencoder", str(folder / "pictures.npy"), encoder, (ClipRescale(),), stop=7)
    begun("stopped lbfgs", str(folder / "bits.npy"), lbfgs, stop=3)
    begun("stopped network", str(folder / "pictures.npy"), deep.set_params(low__learn_variance=False), stop=13)
    directory, source = RunDirectory(folder / "stopped array"), machine.source_of(bits)
    directory.create({**machine.spec(0), "data": source.spec(), "warm": False})
    with contextlib.suppress(Interrupted):
        machine.fit_source(source, machine.split(40, 0), seed=0, directory=directory, should_stop=stop_at(7))
    bases["stopped array"] = Base(directory.path, bits, "", bases["machine"].codes, False, from_array=True)
    settings = [("n_samples", 200), ("n_bottleneck", 5), ("n_sparse", 8), ("max_iter", 3)]
    for name, stop in (("recipe", 0), ("stopped recipe", 9)):
        directory = RunDirectory(folder / name)
        directory.create(recipes.recipe_spec("structure", "faithful", None, settings, 0, "cpu"))
        with contextlib.suppress(Interrupted):
            resuming.go_on(directory, runs.Watch(should_stop=stop_at(stop)))
        if not stop:
            rows = np.eye(100, dtype=np.float32)
            np.save(folder / "eye.npy", rows)
            codes = rf.load(directory.path).transform(rows)
        bases[name] = Base(directory.path, rows, str(folder / "eye.npy"), codes, not stop)
    return bases


def stop_at(batch: int) -> Callable[[], bool]:
    """Stops once, when so many batches are done."""
    count = 0

    def ask() -> bool:
        nonlocal count
        count += 1
        return count == batch

    return ask


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Leave out the figures of finished runs, which take longer than all else."""
    before = runs.standard_figures, runs.edge_metrics
    runs.standard_figures, runs.edge_metrics = lambda table, trained: [], lambda table: []
    try:
        yield
    finally:
        runs.standard_figures, runs.edge_metrics = before


# Changes ------------------------------------------------------------------------------------------------------------

_DEEP: Any = []
for _ in range(400):
    _DEEP = [_DEEP]
#: What a value may become, and the classes that it may name.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 2**31 - 1, 2**31, 2**63, 10**9, 10**30, 10**400, 0.5, -0.5, 1e308, -1e308,
    math.nan, math.inf, "", "x", "none", "cuda", "../../x", "/etc/passwd", "..", "a\x00b", "\x1b[2J", "\ud800",
    "\u202e", "<script>alert(1)</script>", "x" * 100_000, [], {}, [[]], [1, 2], ["a"], _DEEP, {"float": "nan"},
    {"float": "-inf"}, {"float": []}, {"class": None}, {"class": "os.system", "arguments": {"command": "true"}},
    {"class": "rarefire.schedules.Switch", "arguments": {"when": 2}},
)  # fmt: skip
CLASSES = (
    "builtins.eval", "sklearn.decomposition._pca.PCA", "foreign_marker.Evil", "foreign_marker.sub.Evil", "rarefire.",
    "rarefire.penalties.L2", "rarefire.penalties.L1Activity", "rarefire.penalties.Penalty", "rarefire.activations.ReLU",
    "rarefire.schedules.Linear", "rarefire.estimators.boltzmann.BernoulliRBM", "rarefire.estimators.base.SparseLearner",
    "rarefire.estimators.boltzmann.BernoulliRBM.__init__", "rarefire.preprocess.whitening._CovarianceWhitening",
    "rarefire.preprocess.Standardise", "rarefire.recipes.lines.Lines", "rarefire.data.datasets.Digits",
)  # fmt: skip
VALUES += tuple({"class": name, "arguments": {}} for name in CLASSES)


def places(value: Any, here: tuple = ()) -> Iterator[tuple]:
    """The way to every value inside of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*here, key)
        yield from places(part, (*here, key))


def changed_value(r: Random, value: Any) -> tuple[Any, str]:
    """A JSON value with one thing changed, and what that is."""
    value = copy.deepcopy(value)
    ways = list(places(value))
    if not ways:
        return r.choice(VALUES), "replaced"
    # The short ways first, or the thousands of names and lines below would be all that is ever changed.
    way = r.choice([w for w in ways if len(w) <= r.choice((1, 2, 3, 4, 9))] or ways)
    parent = value
    for key in way[:-1]:
        parent = parent[key]
    last, where = way[-1], ".".join(map(str, way))
    kind = r.choice(("replace",) * 6 + ("delete", "rename", "twice", "nudge", "swap"))
    if kind == "delete":
        del parent[last]
    elif kind == "rename" and isinstance(parent, dict):
        parent[r.choice(("", "x", "__class__", f"{last}_"))] = parent.pop(last)
    elif kind == "twice" and isinstance(parent, list):
        parent.insert(last, parent[last])
    elif kind == "nudge" and isinstance(parent[last], (int, float)):
        parent[last] += r.choice((-1, 1))
    elif kind == "swap":
        other = value
        for key in r.choice(ways):
            other = other[key]
        parent[last] = copy.deepcopy(other)
    else:
        parent[last] = copy.deepcopy(chosen := r.choice(VALUES))
        return value, f"{where} = {str(chosen)[:60]!r}"
    return value, f"{kind} {where}"


def changed_bytes(r: Random, content: bytes, header: int) -> tuple[bytes, str]:
    """A file cut off, longer, or with one bit turned, more often among its first bytes."""
    kind = r.choice(("cut", "flip", "flip", "flip", "longer", "zeros", "empty", "random"))
    if kind == "cut":
        return content[: (at := r.randrange(max(1, len(content))))], f"cut at {at}"
    if kind == "flip" and content:
        at = r.randrange(min(len(content), r.choice((8, header, len(content), len(content)))))
        turned = content[at] ^ (1 << r.randrange(8))
        return content[:at] + bytes([turned]) + content[at + 1 :], f"bit of byte {at}"
    if kind == "longer":
        return content + r.randbytes(r.choice((1, 8, 1000))), "longer"
    if kind == "zeros" and content:
        start = r.randrange(len(content))
        end = min(len(content), start + r.choice((4, 64, 1024)))
        return content[:start] + bytes(end - start) + content[end:], f"zeros from {start}"
    return (b"", "empty") if kind == "empty" else (r.randbytes(200), "other bytes")


def changed_arrays(r: Random, path: Path) -> tuple[bytes, str]:
    """A safetensors file that is well formed and holds other things than it should; its digest made anew, or not."""
    with safe_open(path, framework="numpy") as file:
        ((entry, text),) = file.metadata().items()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    rest, what = json.loads(text), ""
    kind = r.choice(("metadata", "metadata", "missing", "extra", "rename", "type", "shape", "values", "none", "text"))
    name = r.choice(sorted(arrays))
    array = arrays[name]
    if kind == "metadata":
        rest, what = changed_value(r, rest)
    elif kind == "missing":
        del arrays[name]
    elif kind == "extra":
        arrays[r.choice(("evil", "__class__", "fit", "prepare/9/mean_", "solver/x", "a/b/c/d"))] = array.copy()
    elif kind == "rename":
        arrays[r.choice(("", "x", f"{name}_", f"x/{name}"))] = arrays.pop(name)
    elif kind == "type":
        types = (np.float16, np.float32, np.float64, np.int8, np.int32, np.int64, np.bool_, np.uint64, np.complex64)
        arrays[name] = array.astype(chosen := r.choice(types))
        what = str(np.dtype(chosen))
    elif kind == "shape":
        flat = array.ravel()
        turns = (array.T, flat, array[..., None], array[None], flat[:0], flat[:-1], np.concatenate([flat, flat]))
        arrays[name] = r.choice(turns).copy()
        what = str(arrays[name].shape)
    elif kind == "values" and array.size:
        chosen = r.choice((math.nan, math.inf, -1, 0, 1e30, -1e30, 10**6, 2**62))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            filled = array.copy().ravel()
            filled[r.randrange(array.size) if r.random() < 0.5 else slice(None)] = np.array(chosen).astype(array.dtype)
        arrays[name], what = filled.reshape(array.shape), str(chosen)
    about = f"{kind} {name if kind != 'metadata' else ''} {what}"
    with contextlib.suppress(TypeError, ValueError, OverflowError, UnicodeError):
        if kind == "none":
            return safetensors_bytes(arrays), about
        if kind == "text":
            return safetensors_bytes(arrays, {entry: r.choice(("", "{", "[]", "3", "[" * 5000, '{"a": 1e999}'))}), about
        if r.random() < 0.7 and isinstance(rest, dict):
            rest.pop("sha256", None)
            return sealed_bytes(arrays, entry, rest), f"{about}, sealed"
        return safetensors_bytes(arrays, {entry: json.dumps(rest)}), about
    return b"", "empty"


def change(r: Random, run: Path, others: list[Path]) -> Change:
    """Change one file of a run."""
    files = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.suffix != ".html")
    weights = [5 if "/" not in name or "checkpoint" in name or "layers" in name else 1 for name in files]
    (name,) = r.choices(files, weights)
    path = run / name
    content = path.read_bytes()
    kind = r.random()
    if kind < 0.03:
        path.unlink()
        return Change(name, "removed")
    if kind < 0.06:
        path.unlink()
        path.mkdir()
        return Change(name, "a folder")
    if kind < 0.10:
        found = [found for other in others if (found := other / name).is_file()] or [path]
        path.write_bytes((chosen := r.choice(found)).read_bytes())
        return Change(name, f"that of {chosen}")
    if path.suffix == ".safetensors":
        if kind < 0.5:
            (size,) = struct.unpack("<Q", content[:8])
            made, what = changed_bytes(r, content, size)
        else:
            made, what = changed_arrays(r, path)
    elif path.suffix in (".json", ".jsonl") and kind < 0.8:
        lines = content.decode().split("\n") if path.suffix == ".jsonl" else [content.decode()]
        at = r.randrange(len(lines))
        value, what = changed_value(r, json.loads(lines[at]) if lines[at].strip() else {})
        with contextlib.suppress(ValueError):  # numbers that are too long for Python to write
            lines[at] = json.dumps(value)
        made = "\n".join(lines).encode()
    else:
        made, what = changed_bytes(r, content, len(content))
    path.write_bytes(made)
    return Change(name, what)


# The judge ----------------------------------------------------------------------------------------------------------


def judge(run: Path, base: Base, made: Change, output: Path) -> str:
    """Read a changed run with everything that reads runs; "accepted" if all answer, "refused" if one refuses.

    Raises
    ------
    Failure
        If anything else comes of it.
    """
    allowed = (str(run.resolve()), str(output.parent.resolve()))
    verdicts = []
    with _watched(allowed) as noise, _limited_time():
        began, before = time.process_time(), _memory()
        verdicts.append(_answer(run, base.source, "show", lambda: _command("show", run)))
        if base.finished:
            verdicts.append(_answer(run, base.source, "load", lambda: _check_loaded(run, base, made)))
            verdicts.append(_answer(run, base.source, "encode", lambda: _encoded(run, base, made, output)))
            if (run / "features.safetensors").is_file():
                verdicts.append(_answer(run, base.source, "report", lambda: _reported(run)))
        elif not _would_take_for_ever(run):
            verdicts.append(_answer(run, base.source, "resume", lambda: _resumed(run, base, made)))
        seconds, grown = time.process_time() - began, _memory() - before
    if noise:
        raise Failure(f"noise: {noise[0]}")
    if seconds > HANGS / 4 or grown > MOST:
        raise Failure(f"{seconds:.1f} seconds, {grown} bytes")
    return "refused" if "refused" in verdicts else "accepted"


def _answer(run: Path, source: str, who: str, act: Callable[[], None]) -> str:
    try:
        with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
            warnings.simplefilter("always")
            act()
    except (InputError, RunError) as error:
        _check_sentence(run, source, who, str(error))
        return "refused"
    except _Hanging:
        raise Failure(f"{who} does not end") from None
    except Failure as error:
        raise Failure(f"{who}: {error}") from None
    except Exception as error:
        raise Failure(f"{who} ends in {type(error).__name__}: {str(error)[:300]}") from error
    if strange := [str(w.message) for w in caught if not str(w.message).startswith("since the run began")]:
        raise Failure(f"{who} warns: {strange[0][:300]}")
    return "accepted"


def _check_sentence(run: Path, source: str, who: str, sentence: str) -> None:
    words = " ".join(sentence.split())
    if len(words) > 2500 or not REMEDY.search(words):
        raise Failure(f"{who} says nothing to do: {words[:300]!r}")
    # That a run diverged is said of the run at hand; of a source, and of what steps make of it, that is said.
    others = (source, " diverged in ", " cannot go on at batch ", "X contains ")
    if str(run) not in words and not any(other in words for other in others if other):
        raise Failure(f"{who} does not name the run: {words[:300]!r}")


def _command(*words: object) -> str:
    """What a command prints; its errors as exceptions, once they are seen to be one line and an exit code."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["rarefire", *map(str, words)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    text = err.getvalue()
    if code == 0 and not text:
        return out.getvalue()
    if code not in (1, 2) or not text.startswith("rarefire: ") or text.count("\n") != 1:
        raise Failure(f"exit code {code}: {text[:300]!r}")
    raise RunError(text)


def _check_loaded(run: Path, base: Base, made: Change) -> None:
    spec = RunDirectory(run).spec()
    loaded = rf.load(run)
    if made.what.startswith("that of"):
        return
    estimator = loaded[-1] if hasattr(loaded, "steps") else loaded
    rows = base.rows.reshape(len(base.rows), -1)
    codes = loaded.transform(rows)
    if not np.isfinite(codes).all():
        raise Failure("codes that are not finite")
    asked = spec["estimator"]
    if asked["arguments"].get("device") not in ("auto", "cpu") and estimator.device == "auto":
        asked["arguments"].pop("device", None)  # of a device that is not here
    if not _is_told(asked, to_spec(estimator)):
        raise Failure("arguments that are not those of spec.json")
    if made.file in ("metrics.json", "timing.jsonl", "history.jsonl") or "figures" in made.file or _is_whole(run, made):
        _check_codes(codes, base)


def _is_told(told: Any, now: Any) -> bool:
    """Whether a specification is kept; what it does not tell has its default, as of versions that did not know it."""
    if isinstance(told, list):
        return len(told) == len(now) and all(map(_is_told, told, now))
    if isinstance(told, dict):
        return all(key in now and _is_told(value, now[key]) for key, value in told.items())
    return told == now


def _is_whole(run: Path, made: Change) -> bool:
    """Whether a weights file that is taken must be that which was written, because it has a digest."""
    if not made.file.endswith("weights.safetensors") or made.what.endswith("sealed") or made.what.startswith("that of"):
        return False
    try:
        with safe_open(run / made.file, framework="numpy") as file:
            return "sha256" in file.metadata()["fitted"]
    except (SafetensorError, OSError, KeyError, TypeError):
        return False


def _check_codes(codes: Any, base: Base) -> None:
    if codes.dtype != base.codes.dtype or not np.array_equal(codes, base.codes):
        raise Failure("other codes than before")


def _words(run: Path) -> Any:
    return RunDirectory(run).spec().get("data", {}).get("feature_names")


def _encoded(run: Path, base: Base, made: Change, output: Path) -> None:
    rows, expected = _command("encode", run, base.source, "-o", output), rf.load(run)
    if "rows of" not in rows:
        raise Failure(f"nothing said: {rows!r}")
    codes = np.load(output)
    again = expected.transform(base.rows.reshape(len(base.rows), -1))
    # Another word in the vocabulary is looked for in the texts as well.
    same_words = _words(run) == _words(base.path)
    if codes.shape != again.shape or (same_words and not np.array_equal(codes, again)):
        raise Failure("other codes than those of transform")


def _reported(run: Path) -> None:
    page = run / "report.html"
    page.unlink(missing_ok=True)
    _command("report", run)
    text = page.read_text(encoding="utf-8")
    # Those of the page itself: what it holds, and what draws it; and the four by which an input can be tried.
    own = 1 + len(SCRIPTS)
    if text.count("<script") not in (own, own + 4) or text.count("</script>") != text.count("<script"):
        raise Failure("a page with other scripts than its own")


def _resumed(run: Path, base: Base, made: Change) -> None:
    directory = RunDirectory(run)
    directory.spec()
    directory.check_links()
    with directory.locked():
        try:
            X = base.rows if base.from_array else None
            resuming.go_on(directory, runs.Watch(should_stop=stop_at(BATCHES)), X)
        except Interrupted:
            return
    loaded = rf.load(run)
    if made.file in ("timing.jsonl", "metrics.json") or (
        made.file == "checkpoint/state.safetensors" and not made.what.endswith("sealed") and made.what != "removed"
    ):
        _check_codes(loaded.transform(base.rows.reshape(len(base.rows), -1)), base)


def _would_take_for_ever(run: Path) -> bool:
    """Whether a specification asks, as it may, for work that has an end, but not today."""
    try:
        spec = json.loads((run / "spec.json").read_text())
    except (OSError, ValueError, RecursionError):
        return False
    numbers: list[Any] = []
    for way in places(spec):
        value = spec
        for key in way:
            value = value[key]
        numbers.append(value)
    return any(isinstance(n, int) and 5000 < n < 2**31 for n in numbers)


def _memory() -> int:
    """Bytes that the process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


_noise: list[str] | None = None
_inside: tuple[str, ...] = ()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _noise is None:
        return
    written: list[Any] = []
    if event.startswith(_NOISE):
        _noise.append(f"{event} {arguments!r}"[:200])
    elif event == "import" and str(arguments[0]).startswith("foreign_marker"):
        _noise.append(f"imports {arguments[0]}")
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written = [arguments[0]]
    elif event in _WRITES:
        written = [arguments[place] for place in _WRITES[event]]
    for path in written:
        if isinstance(path, (str, bytes, os.PathLike)) and not _is_inside(os.fsdecode(path)):
            _noise.append(f"{event} writes {os.fsdecode(path)!r}"[:300])


def _is_inside(path: str) -> bool:
    real = os.path.realpath(os.path.dirname(path) or ".")
    return any(real == place or real.startswith(place + os.sep) or path == place for place in _inside) or (
        os.path.basename(real) == "__pycache__"
    )


sys.addaudithook(_audit)


@contextlib.contextmanager
def _watched(inside: tuple[str, ...]) -> Iterator[list[str]]:
    """Note what must not happen: writes elsewhere, a pickle read, a process or a connection."""
    global _noise, _inside
    noise: list[str] = []
    _noise, _inside = noise, inside
    try:
        yield noise
    finally:
        _noise = None


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _Hanging

    handler = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, HANGS)  # pytest-timeout uses the same clock
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, handler)


# Campaigns ----------------------------------------------------------------------------------------------------------


def campaign(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Judge so many changed runs.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Fixes them; input k of a seed is the same whatever ``n`` is.
    folder : Path
        An empty folder to work in; the runs that failed stay there.

    Returns
    -------
    dict
        ``inputs``, ``accepted`` and ``refused`` are numbers; ``failures`` is a list of texts.
    """
    folder = Path(folder)
    (folder / "bases").mkdir(parents=True)
    (folder / "out").mkdir()
    counts: Counter[str] = Counter()
    failures = []
    with undrawn():
        bases = make_bases(folder / "bases")
        names = sorted(bases)
        for number in range(n):
            r = Random(f"{seed} {number}")
            name = names[number % len(names)]
            run = folder / f"run{number}"
            shutil.copytree(bases[name].path, run)
            made = change(r, run, [base.path for base in bases.values()])
            shutil.copytree(run, folder / "kept")
            try:
                counts[judge(run, bases[name], made, folder / "out/codes.npy")] += 1
                shutil.rmtree(run)
            except Failure as error:
                failures.append(f"{number} ({name}, {made.file}: {made.what}): {error}")
                shutil.rmtree(run)
                (folder / "kept").rename(run)
            shutil.rmtree(folder / "kept", ignore_errors=True)
    return {"inputs": n, "accepted": counts["accepted"], "refused": counts["refused"], "failures": failures}
