"""The run directory: files only; it knows no estimator.

``spec.json`` is written first. ``weights.safetensors``, ``metrics.json`` and ``report.html`` appear only when
the run is complete, each whole or not at all. ``history.jsonl`` grows by one line an epoch; what differs between
two runs of the same bits (durations) stands in ``timing.jsonl``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rarefire.errors import InputError, RunError

#: Version of the directory's format; a newer one is refused.
FORMAT = 1

_SPEC, _WEIGHTS, _HISTORY, _TIMING = "spec.json", "weights.safetensors", "history.jsonl", "timing.jsonl"
_METRICS, _TABLE, _PAGE, _LOCK = "metrics.json", "features.safetensors", "report.html", ".lock"


class RunDirectory:
    """A run on disk.

    Parameters
    ----------
    path : str or Path
        The directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

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
    def checkpoint(self) -> Path:
        """The state of an unfinished run."""
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / _SPEC).is_file()

    @property
    def complete(self) -> bool:
        """Whether the run was finished."""
        return self.exists and self.weights.is_file() and not self.checkpoint.parent.exists()

    def arm(self, name: str) -> RunDirectory:
        """The directory of one of several runs that belong together."""
        return RunDirectory(self.path / "arms" / name)

    def check_free(self, *, overwrite: bool = False) -> None:
        """See that a run may be begun here.

        Raises
        ------
        InputError
            If the directory holds a run and ``overwrite`` is not set, or holds files that are no run's.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self} is a file; give the run a directory")
        if not self.path.is_dir() or all(entry.name == _LOCK for entry in self.path.iterdir()):
            return
        if not self.exists:
            raise InputError(f"{self} holds files that belong to no run; give the run an empty or new directory")
        if not overwrite:
            state = "a finished run" if self.complete else "an unfinished run (rarefire resume goes on with it)"
            raise InputError(f"{self} holds {state}; choose another directory, or replace it with --overwrite")

    def create(self, spec: dict[str, Any], *, overwrite: bool = False) -> None:
        """Make the directory and write ``spec.json``; a run that is overwritten loses its files first.

        Raises
        ------
        InputError
            As :meth:`check_free` does.
        """
        self.check_free(overwrite=overwrite)
        for name in (_SPEC, _WEIGHTS, _HISTORY, _TIMING, _METRICS, _TABLE, _PAGE):
            (self.path / name).unlink(missing_ok=True)
        for folder in ("figures", "checkpoint", "arms"):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        self.write_json(_SPEC, {"format": FORMAT, **spec})

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory against a second process; the lock goes with the process, however that ends.

        Raises
        ------
        RunError
            If another process works on the run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / _LOCK, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"another process is working on {self}; wait for it or choose another directory"
                ) from None
            yield

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all: beside its place first, then renamed."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with open(beside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file whole or not at all."""
        self.write(name, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())

    def spec(self) -> dict[str, Any]:
        """``spec.json``.

        Raises
        ------
        InputError
            If there is none, it cannot be read, or a newer version wrote it.
        """
        if not self.exists:
            raise InputError(f"{self} is no run: it has no spec.json")
        spec = self._read_json(_SPEC)
        if not isinstance(spec.get("format"), int) or spec["format"] > FORMAT:
            raise InputError(
                f"{self} was written in format {spec.get('format')}, this version reads up to {FORMAT}; update rarefire"
            )
        return spec

    def metrics(self) -> list[dict[str, Any]]:
        """The entries of ``metrics.json``; none while the run is not complete."""
        return self._read_json(_METRICS)["metrics"] if (self.path / _METRICS).is_file() else []

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path / name} cannot be read ({error}); the run must be made again") from None
        if not isinstance(value, dict):
            raise InputError(f"{self.path / name} holds no JSON object; the run must be made again")
        return value

    def write_metrics(self, entries: list[dict[str, Any]]) -> None:
        """Write ``metrics.json``."""
        self.write_json(_METRICS, {"metrics": entries})

    def append_history(self, record: dict[str, Any], seconds: float) -> None:
        """One line an epoch, and its duration in a file of its own."""
        for name, entry in (
            (_HISTORY, record),
            (_TIMING, {"epoch": record["epoch"], "seconds": round(seconds, 4)}),
        ):
            with open(self.path / name, "ab") as file:
                file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")

    def write_history(self, records: list[dict[str, Any]]) -> None:
        """The whole history at once."""
        self.write(_HISTORY, b"".join(json.dumps(record, allow_nan=False).encode() + b"\n" for record in records))

    def history(self) -> list[dict[str, Any]]:
        """The records of all epochs; a torn last line is left out."""
        path = self.path / _HISTORY
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        return [json.loads(line) for line in lines]

    def cut_history(self, n_epochs: int) -> list[dict[str, Any]]:
        """Cut history and timing back to the first ``n_epochs`` whole lines, and give those of the history."""
        for name in (_HISTORY, _TIMING):
            path = self.path / name
            if path.is_file():
                lines = path.read_bytes().split(b"\n")[:-1][:n_epochs]
                self.write(name, b"".join(line + b"\n" for line in lines))
        return self.history()

    def finish(self, weights: bytes) -> None:
        """The last act of a run: its weights appear, its checkpoint goes."""
        self.write(_WEIGHTS, weights)
        shutil.rmtree(self.checkpoint.parent, ignore_errors=True)

    def figures(self) -> list[tuple[str, bytes]]:
        """Names and contents of ``figures/*.png``."""
        return [(path.stem, path.read_bytes()) for path in sorted((self.path / "figures").glob("*.png"))]

    def captions(self) -> dict[str, str]:
        """The sentence under each figure that the page shows, by the figure's name."""
        name = "figures/captions.json"
        return self._read_json(name) if (self.path / name).is_file() else {}
