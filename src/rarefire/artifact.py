"""The run directory: files only; it knows no estimator.

``spec.json`` is written first. ``weights.safetensors``, ``metrics.json`` and ``report.html`` appear only when
the run is complete, each whole or not at all. ``history.jsonl`` grows by one line an epoch; what differs between
two runs of the same bits (durations) stands in ``timing.jsonl``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from rarefire.errors import InputError, RunError
from rarefire.parallel import is_first

#: Version of the directory's format; a newer one is refused.
FORMAT = 1

_SPEC, _WEIGHTS, _HISTORY, _TIMING = "spec.json", "weights.safetensors", "history.jsonl", "timing.jsonl"
_METRICS, _TABLE, _PAGE, _NOTES = "metrics.json", "features.safetensors", "report.html", "notes.json"
_CONTEXTS = "contexts.json"
_CHECKPOINT, _LOCK = "checkpoint/state.safetensors", ".lock"
_BOARDS = "tensorboard"

#: What a run that is overwritten loses.
_OF_A_RUN = (
    *("checkpoint", _WEIGHTS, _PAGE, _METRICS, _TABLE, _CONTEXTS, _HISTORY, _TIMING),
    *("figures", "arms", "layers", _BOARDS, _NOTES),
)

#: Ending of files that are being written; one that is left over belongs to a process that was killed.
_PART = ".part"

#: What every specification holds, and what each kind of run adds.
_KEYS: dict[str, type] = {"kind": str, "estimator": dict, "seed": int, "versions": dict}
_KEYS_OF: dict[str, dict[str, type]] = {
    "fit": {"source": dict, "data": dict, "prepare": list},
    "recipe": {"recipe": dict, "data": dict, "prepare": list},
    "array": {},
    "arm": {"data": dict, "prepare": list},
}
#: What its parts hold.
_PARTS: dict[str, dict[str, Any]] = {
    "source": {"where": str, "patch": int | None, "column": str | None, "seed": int},
    "data": {
        "fingerprint": str,
        "n_rows": int,
        "n_features": int,
        "name": str,
        "kind": str,
        "shape": list | None,
        "feature_names": list | None,
        "notes": str,
    },
    "recipe": {"name": str, "title": str, "preset": str, "settings": dict, "set": list, "device": str},
}
#: What an entry of ``metrics.json`` may say, beside other things that nobody reads.
_METRIC: dict[str, Any] = {
    "name": str,
    "value": int | float,
    "unit": str | None,
    "explanation": str | None,
    "published": int | float | None,
    "source": str | None,
    "tolerance": int | float | None,
    "better": str | None,
    "expected": str | None,
    "within": bool | None,
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; it becomes ``path`` when all went well, and else nothing has changed.

    Raises
    ------
    RunError
        If it cannot be written: a full disk, a directory that is not there or read-only.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path} cannot be written ({error.strerror or error}); what was there before is whole, so make room or give "
        "the right to write there, and try again (rarefire resume goes on with a run that had begun)"
    )


class RunDirectory:
    """A run on disk. Of several processes all may read it; what one other than rank 0 writes goes nowhere.

    Parameters
    ----------
    path : str or Path
        The directory.
    trusted : collection of str
        Modules whose classes it may name, beside those of this package: see :func:`rarefire.component.from_spec`.
    """

    def __init__(self, path: str | os.PathLike[str], trusted: Collection[str] = ()) -> None:
        if isinstance(trusted, str):
            raise InputError(f"trusted={trusted!r} must be a list of modules; give [{trusted!r}]")
        self.path = Path(path)
        self.trusted = tuple(trusted)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def weights(self) -> Path:
        """``weights.safetensors``."""
        return self.path / _WEIGHTS

    @property
    def table(self) -> Path:
        """``features.safetensors``."""
        return self.path / _TABLE

    @property
    def page(self) -> Path:
        """``report.html``."""
        return self.path / _PAGE

    @property
    def boards(self) -> Path:
        """``tensorboard``."""
        return self.path / _BOARDS

    @property
    def checkpoint(self) -> Path:
        """The state of an unfinished run."""
        return self.path / _CHECKPOINT

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / _SPEC).is_file()

    @property
    def complete(self) -> bool:
        """Whether the run was finished."""
        return self.exists and self.weights.is_file() and not self.checkpoint.is_file()

    @property
    def way_on(self) -> str:
        """What goes on with a run of this kind."""
        return "rarefire.resume(path, X) in Python" if self.spec()["kind"] == "array" else "rarefire resume"

    def arm(self, name: str) -> RunDirectory:
        """The directory of one of several runs that belong together."""
        return self._part("arms", name)

    def layer(self, name: str) -> RunDirectory:
        """The directory of one of the machines that a deep model is made of."""
        return self._part("layers", name)

    def layers(self) -> list[tuple[str, RunDirectory]]:
        """The machines of a deep network that have begun, in the order of their names."""
        folder = self.path / "layers"
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
        return [(name, self.layer(name)) for name in sorted(names, key=lambda name: (len(name), name))]

    def _part(self, folder: str, name: str) -> RunDirectory:
        if name in ("", "..") or Path(name).name != name:
            raise InputError(f"{self} cannot have {name!r} in its {folder}, which is not the name of a file")
        return RunDirectory(self.path / folder / name, self.trusted)

    @property
    def whole(self) -> RunDirectory:
        """The run that this one is an arm or a layer of; itself where it is neither, or stands alone."""
        run, above = self, RunDirectory(self.path.resolve().parent.parent, self.trusted)
        while run.spec()["kind"] == "arm" and above.exists:
            run, above = above, RunDirectory(above.path.parent.parent, self.trusted)
        return run

    def check_links(self) -> None:
        """See that what is written into the directory stays there.

        Raises
        ------
        InputError
            If something in it is a link to another place.
        """
        for folder, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                if (path := Path(folder, name)).is_symlink():
                    raise InputError(
                        f"{path} is a link, and what a run writes must stay in its directory; put a copy in its place"
                    )

    def check_free(self, *, overwrite: bool = False) -> None:
        """See that a run may be begun here.

        Raises
        ------
        InputError
            If the directory holds a run and ``overwrite`` is not set, or holds files that are no run's.
        """
        for path in (self.path, *self.path.parents):
            if path.exists() and not path.is_dir():
                raise InputError(f"{path} is a file; give the run a directory")
        if not self.path.is_dir():
            return
        if all(entry.name == _LOCK or entry.name.endswith(_PART) for entry in self.path.iterdir()):
            return
        if not self.exists:
            raise InputError(f"{self} holds files that belong to no run; give the run an empty or new directory")
        if not overwrite:
            state = "a finished run" if self.complete else f"an unfinished run ({self.way_on} goes on with it)"
            raise InputError(
                f"{self} holds {state}; choose another directory, or replace it (--overwrite on the command line)"
            )

    def create(self, spec: dict[str, Any], *, overwrite: bool = False) -> None:
        """Make the directory and write ``spec.json``; a run that is overwritten loses its files first.

        Raises
        ------
        InputError
            As :meth:`check_free` does.
        """
        if not is_first():
            return
        self.check_free(overwrite=overwrite)
        self.check_links()
        spec_file = self.path / _SPEC
        aside = self.path / f".replaced.{os.getpid()}{_PART}"
        moved: list[str] = []
        # At every moment the directory holds the old run whole, the old run begun anew, or the new one.
        try:
            with self._beside(spec_file, _as_json({"format": FORMAT, **spec})):
                for name in _OF_A_RUN:
                    if (self.path / name).exists():
                        aside.mkdir(exist_ok=True)
                        os.rename(self.path / name, aside / name)
                        moved.append(name)
        except RunError:
            for name in moved:
                os.rename(aside / name, self.path / name)
            raise
        finally:
            _remove(aside)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory against a second process; the lock goes with the process, however that ends.

        Where no run was begun inside, the directory is left as it was found.

        Raises
        ------
        RunError
            If another process works on the run, or nothing can be written there.
        """
        if not is_first():
            yield
            return
        found = self.path.is_dir()
        lock = self.path / _LOCK
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = _lock(lock)
        except OSError as error:
            if not found:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
            raise _unwritable(self.path, error) from None
        if file is None:
            raise RunError(f"another process is working on {self}; wait for it or choose another directory")
        with file:
            # What processes that were killed left: half a file, and the checkpoint of a run whose weights stand.
            done = [weights.parent / Path(_CHECKPOINT).parent for weights in self.path.rglob(_WEIGHTS)]
            for left in [*self.path.rglob(f".*{_PART}"), *done]:
                _remove(left)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    lock.unlink()
                    if not found and not self.exists:
                        self.path.rmdir()

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all: beside its place first, then renamed.

        Raises
        ------
        RunError
            If it cannot be written, or the run was taken away.
        """
        if not self.exists:
            raise RunError(f"{self} has no spec.json any more, so nothing of the run can be kept; begin it anew")
        with self._beside(self.path / name, content):
            pass

    @contextlib.contextmanager
    def _beside(self, target: Path, content: bytes) -> Iterator[None]:
        """Have the content on disk beside its place, and put it there when the body is done."""
        if not is_first():
            yield
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(target, error) from None
        with writing(target) as beside:
            with open(beside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file whole or not at all."""
        self.write(name, _as_json(value))

    def spec(self) -> dict[str, Any]:
        """``spec.json``.

        Raises
        ------
        InputError
            If there is none, it cannot be read, or a newer version wrote it.
        """
        if not self.exists:
            raise InputError(f"{self} is no run: it has no spec.json; give the directory of a run")
        spec = self._read_json(_SPEC)
        version = spec.get("format")
        if type(version) is not int or version > FORMAT:
            raise InputError(
                f"{self} was written in format {version!r}, this version reads up to {FORMAT}; update rarefire"
            )
        if version < 1:
            raise InputError(f"{self.path / _SPEC} is of format {version}, which never was; the run must be made again")
        keys = _KEYS | _KEYS_OF.get(str(spec.get("kind")), {})
        bad = [key for key, kind in keys.items() if not isinstance(spec.get(key), kind)]
        if bad or spec["kind"] not in _KEYS_OF:
            raise InputError(f"{self.path / _SPEC} has no valid '{[*bad, 'kind'][0]}'; the run must be made again")
        for part in set(_PARTS) & set(spec):
            if (key := unfit(spec[part], _PARTS[part])) is not None:
                raise InputError(f"{self.path / _SPEC} has no valid '{key}' of its {part}; the run must be made again")
        for key, fits in (
            ("seed", not isinstance(spec["seed"], bool) and spec["seed"] >= 0),
            ("versions", all(isinstance(version, str) for version in spec["versions"].values())),
            ("prepare", isinstance(spec.get("prepare", []), list) and ("data" in spec or not spec.get("prepare"))),
            ("source", "source" not in spec or spec["source"]["seed"] >= 0),
            ("data", "data" not in spec or is_description(spec["data"], spec["data"]["n_features"])),
            ("recipe", "recipe" not in spec or all(isinstance(e, list) and len(e) == 2 for e in spec["recipe"]["set"])),
        ):
            if not fits:
                raise InputError(f"{self.path / _SPEC} has no valid '{key}'; the run must be made again")
        return spec

    def metrics(self) -> list[dict[str, Any]]:
        """The entries of ``metrics.json``; none while the run is not complete."""
        if not (self.path / _METRICS).is_file():
            return []
        entries = self._read_json(_METRICS).get("metrics")
        if not isinstance(entries, list):
            raise InputError(f"{self.path / _METRICS} holds no list of metrics; the run must be made again")
        for number, entry in enumerate(entries, 1):
            if (key := unfit(entry, _METRIC)) is not None:
                raise InputError(
                    f"{self.path / _METRICS} has no valid '{key}' in entry {number}; the run must be made again"
                )
        return entries

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            value = _json((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{self.path / name} cannot be read ({error}); the run must be made again") from None
        if not isinstance(value, dict):
            raise InputError(f"{self.path / name} holds no JSON object; the run must be made again")
        return value

    def write_metrics(self, entries: list[dict[str, Any]]) -> None:
        """Write ``metrics.json``.

        Raises
        ------
        RunError
            If a value is no finite number.
        """
        for entry in entries:
            if not math.isfinite(entry["value"]):
                raise RunError(f"{entry['name']} of {self} came out as {entry['value']}; metrics must be finite")
        self.write_json(_METRICS, {"metrics": entries})

    def append_history(self, record: dict[str, Any], seconds: float) -> None:
        """One line an epoch, and its duration in a file of its own."""
        if not is_first():
            return
        for name, entry in (
            (_HISTORY, record),
            (_TIMING, {"epoch": record["epoch"], "seconds": round(seconds, 4)}),
        ):
            line = json.dumps(entry, allow_nan=False).encode() + b"\n"
            try:
                with open(self.path / name, "ab") as file:
                    file.write(line)
            except OSError as error:
                raise _unwritable(self.path / name, error) from None

    def write_history(self, records: list[dict[str, Any]]) -> None:
        """The whole history at once."""
        self.write(_HISTORY, b"".join(json.dumps(record, allow_nan=False).encode() + b"\n" for record in records))

    def history(self) -> list[dict[str, Any]]:
        """The records of all epochs; a torn last line is left out.

        Raises
        ------
        InputError
            If a line holds no record.
        """
        path = self.path / _HISTORY
        try:
            records = [_json(line.decode()) for line in _whole_lines(path)]
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}); the run must be made again") from None
        if not all(isinstance(record, dict) for record in records):
            raise InputError(f"{path} holds lines that are no records; the run must be made again")
        for epoch, record in enumerate(records, 1):
            bad = unfit(record, dict.fromkeys(record, int | float))
            if bad is not None or record.get("epoch") != epoch:
                raise InputError(f"{path}, line {epoch}, has no valid '{bad or 'epoch'}'; the run must be made again")
        return records

    def cut_history(self, n_epochs: int) -> list[dict[str, Any]]:
        """Cut history and timing back to the first ``n_epochs`` whole lines, and give those of the history.

        Raises
        ------
        RunError
            If the history holds fewer.
        """
        for name in (_HISTORY, _TIMING):
            lines = _whole_lines(self.path / name)
            if name == _HISTORY and len(lines) < n_epochs:
                raise RunError(
                    f"{self.path / name} holds {len(lines)} of the {n_epochs} epochs that the checkpoint has done; "
                    "start the run again with --overwrite"
                )
            if (self.path / name).is_file():
                self.write(name, b"".join(line + b"\n" for line in lines[:n_epochs]))
        return self.history()

    def write_checkpoint(self, content: bytes) -> None:
        """Replace the checkpoint, once the history that it counts on is on disk."""
        if (history := self.path / _HISTORY).is_file():
            with open(history, "rb") as file:
                os.fsync(file.fileno())
        self.write(_CHECKPOINT, content)

    def finish(self, weights: bytes) -> None:
        """The last act of a run: its weights appear, its checkpoint goes."""
        if not is_first():
            return
        self.write(_WEIGHTS, weights)
        self.checkpoint.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoint.parent, ignore_errors=True)

    def figures(self) -> list[tuple[str, bytes]]:
        """Names and contents of ``figures/*.png``."""
        paths = sorted(path for path in (self.path / "figures").glob("*.png") if path.is_file())
        return [(path.stem, path.read_bytes()) for path in paths]

    def captions(self) -> dict[str, str]:
        """The sentence under each figure that the page shows, by the figure's name."""
        name = "figures/captions.json"
        captions = self._read_json(name) if (self.path / name).is_file() else {}
        if not all(isinstance(caption, str) for caption in captions.values()):
            raise InputError(f"{self.path / name} holds captions that are no texts; the run must be made again")
        return captions

    def contexts(self) -> dict[str, Any] | None:
        """Where examples come from, as it was written; None where nothing was."""
        return self._read_json(_CONTEXTS) if (self.path / _CONTEXTS).is_file() else None

    def write_contexts(self, contexts: dict[str, Any]) -> None:
        """Write where examples come from: see :mod:`rarefire.contexts`."""
        self.write(_CONTEXTS, json.dumps(contexts, ensure_ascii=False, allow_nan=False).encode())

    def notes(self, run: str, n_units: int) -> dict[str, str]:
        """What a person wrote of units: the file that the page exports, where it was put here as ``notes.json``."""
        if not (self.path / _NOTES).is_file():
            return {}
        found = self._read_json(_NOTES)
        notes, units = found.get("notes"), set(map(str, range(n_units)))
        if not isinstance(notes, dict) or not notes.keys() <= units or not all(map(_is_text, notes.values())):
            raise InputError(f"{self.path / _NOTES} holds no notes on {n_units} units; take it out, or mend it")
        if found.get("run") != run:
            raise InputError(f"{self.path / _NOTES} was written on the page of another run; take it out")
        return notes


def unfit(values: Any, kinds: dict[str, Any]) -> str | None:
    """The first key whose value is not of its kind, a key that is missing being None; None where all are."""
    values = values if isinstance(values, dict) else {}
    return next((key for key, kind in kinds.items() if not _is_of(values.get(key), kind)), None)


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):  # which is an int to Python
        return isinstance(value, kind) and not isinstance(0, kind)
    return isinstance(value, kind) and (not isinstance(value, (int, float)) or _is_number(value))


def is_description(values: dict[str, Any], n_features: int) -> bool:
    """Whether JSON values are those of a :class:`rarefire.data.source.Description` of rows of so many columns."""
    shape, names = values.get("shape"), values.get("feature_names")
    fits: bool = values.get("kind") in ("image", "words", "named", "plain") and n_features > 0
    if shape is not None:
        drawn = len(shape) in (2, 3) and tuple(shape[2:]) in ((), (1,), (3,))
        fits = (
            fits and drawn and all(type(size) is int and size > 0 for size in shape) and math.prod(shape) == n_features
        )
    if names is not None:
        fits = fits and len(names) == n_features and all(isinstance(name, str) for name in names)
    needed = {"image": shape, "words": names, "named": names}
    return fits and values["kind"] not in {kind for kind, value in needed.items() if value is None}


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _json(text: str) -> Any:
    """JSON without the numbers that are none of it."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number of JSON")

    return json.loads(text, parse_constant=refuse)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    """Whether a JSON value is a number that a float holds."""
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:
        return False


def _remove(path: Path) -> None:
    """Take away a file or a folder, as far as that may be done."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that end as lines do; none where there is no file."""
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []


def _lock(path: Path) -> IO[str] | None:
    """The file at ``path``, locked; None if another process holds it."""
    while True:
        # Through a link a file elsewhere would be locked, and a pipe would be waited for.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666), "w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()  # another process was done in between and took this file away
