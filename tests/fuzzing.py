"""The judge of what comes of a file, whatever is in it: read correctly, or refused in one sentence; nothing else.

:func:`judge` opens an input as the command line does, twice, and compares the rows with what was written, or with what
NumPy, SciPy, csv, scikit-learn or Pillow read from the same file (``fuzz_references.py``). ``fuzz_files.py`` makes the
inputs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import resource
import shutil
import signal
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuzz_files import Input
from fuzz_references import reference
from rarefire.data import checks
from rarefire.data.open import N_PATCHES, open_source
from rarefire.data.source import Source
from rarefire.errors import InputError, RunError
from rarefire.estimators.autoencoder import SparseAutoencoder
from rarefire.estimators.boltzmann import BernoulliRBM
from rarefire.estimators.gaussian import GaussianRBM
from rarefire.runs import check_run

#: Seconds of the clock after which an input hangs, and of the processor that it may take.
HANGS, SLOW = 60.0, 10.0
#: What a library may take for itself, and what the process is given on top of what it has: bytes.
ROOM, MOST = 2**25, 2**31
#: Values that are compared, and values that are trained on, at the most.
COMPARED, TRAINED = 2**22, 2**14

REMEDY = re.compile(
    r";[^;]*\b(give|save|check|use|correct|name|replace|take|leave|unpack|get|write|put|cut|choose|drop|rename)\b"
)
_FORBIDDEN = (
    "pickle.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "shutil.",
)


@dataclass(frozen=True)
class Verdict:
    """What came of an input.

    Parameters
    ----------
    kind : {"accepted", "refused", "failed"}
        A failure is anything that is not one of the others done right.
    why : str
        The message of a refusal, or what failed.
    seconds : float
        Of the processor, for opening it twice and reading the rows.
    memory : int
        Bytes that the process grew by at the most, meanwhile.
    share : float
        The same as a share of what is allowed for a file of this size.
    """

    kind: str
    why: str = ""
    seconds: float = 0.0
    memory: int = 0
    share: float = 0.0


class Failure(Exception):
    """An input was neither read correctly nor refused as it should be."""


class _Hanging(BaseException):
    """No exception that a loader may catch."""


def judge(given: Input, fit: str = "") -> Verdict:
    """Open an input and see what comes of it.

    Parameters
    ----------
    given : Input
        What to open, how, and what is known of it.
    fit : {"", "SparseAutoencoder", "BernoulliRBM", "GaussianRBM"}
        What is trained for one epoch, where the input is accepted and not too large.
    """
    source, refusal, failure = None, None, ""
    _forget_the_peak()
    resting, began = _peak(), time.process_time()
    with _watched() as noise, _limited_time():
        try:
            source = open_source(given.path, **given.options)
            rows = _read(source)
            again = open_source(given.path, **given.options)
            if (again.fingerprint, again.shape) != (source.fingerprint, source.shape):
                failure = "another fingerprint when it is opened again"
        except InputError as error:
            refusal = error
        except _Hanging:
            failure = f"no end after {HANGS} seconds"
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    seconds, memory = time.process_time() - began, _peak() - resting
    share = memory / allowed(given)
    if noise:
        failure = failure or f"noise: {noise[0]}"
    if seconds > SLOW:
        failure = failure or f"{seconds:.1f} seconds"
    if share > 1:
        failure = failure or f"{memory} bytes of memory for {size_of(given.path)} bytes of files"
    try:
        if failure:
            raise Failure(failure)
        if refusal is not None:
            _check_refusal(refusal, given)
            return Verdict("refused", str(refusal), seconds, memory, share)
        _check_rows(rows, source, given)
        if fit and rows.size <= TRAINED and len(rows) > 1:
            _check_fit(source, fit)
    except Failure as error:
        return Verdict("failed", f"{error} ({given.made})", seconds, memory, share)
    return Verdict("accepted", "", seconds, memory, share)


def allowed(given: Input) -> int:
    """Bytes that an input may take: three times what a file may claim, the patches that are asked for, some room."""
    patches = 2 * N_PATCHES * given.options.get("patch", 0) ** 2 * 4
    return 3 * max(checks.ALWAYS_ALLOWED, checks.MAX_EXPANSION * size_of(given.path)) + patches + ROOM


def size_of(path: str) -> int:
    """Bytes of a file, or of all in a folder."""
    places = [entry.path for entry in os.scandir(path)] if os.path.isdir(path) else [path]
    return sum(os.stat(place).st_size for place in places if os.path.exists(place))


def _read(source: Source) -> NDArray[np.floating]:
    """The first rows, all of them where they are not too many."""
    return source.rows(slice(0, max(1, COMPARED // max(1, source.shape[1]))))


def _check_refusal(error: InputError, given: Input) -> None:
    message = str(error)
    if given.verdict == "accepted":
        raise Failure(f"refused, and nothing is wrong with it: {message}")
    if not message.isprintable() or len(message) > 1000:
        raise Failure(f"no one line that can be shown: {message[:1000]!r}")
    if not REMEDY.search(message):
        raise Failure(f"nothing to do in: {message}")
    inside = os.listdir(given.path) if os.path.isdir(given.path) else []
    if not any(_named(name, message) for name in (os.path.basename(given.path.rstrip("/")), *inside)):
        raise Failure(f"the file is not named in: {message}")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) and "stack" not in str(cause):
            raise Failure(f"refused only when memory had been asked for: {message}")
        cause = cause.__cause__ or cause.__context__


def _named(name: str, message: str) -> bool:
    """Whether a message has what is printable of a name; a long one may be shortened."""
    pieces = "".join(letter if letter.isprintable() else "\n" for letter in name).split("\n")
    return all(piece[:40] in message for piece in pieces)


def _check_rows(rows: NDArray[np.floating], source: Source, given: Input) -> None:
    if given.verdict == "refused":
        raise Failure("accepted, and it should not be")
    n_rows, n_features = source.shape
    if n_rows < 1 or n_features < 1 or rows.shape != (min(n_rows, max(1, COMPARED // n_features)), n_features):
        raise Failure(f"rows of shape {rows.shape} from a source of shape {source.shape}")
    if rows.dtype != source.dtype or not source.dtype.isnative or source.dtype.name not in ("float32", "float64"):
        raise Failure(f"rows of type {rows.dtype} from a source of type {source.dtype}")
    if not np.isfinite(rows).all():
        raise Failure("values that are not finite")
    names, shape = source.description.feature_names, source.description.shape
    if (names is not None and len(names) != n_features) or (shape is not None and np.prod(shape) != n_features):
        raise Failure(f"{n_features} columns described as {shape} or {len(names or ())} names")
    picked = np.array([len(rows) - 1, 0])
    if not np.array_equal(source.rows(picked), rows[picked]):
        raise Failure("other values when rows are picked")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = given.rows if given.rows is not None else reference(given)
    except Exception as error:
        raise Failure(f"accepted, and the reference cannot read it ({type(error).__name__}: {error})") from error
    if callable(expected):
        if not expected(rows):
            raise Failure("rows that are not in the file")
    elif expected.shape[1:] != rows.shape[1:] or len(expected) != n_rows:
        raise Failure(f"rows of shape {source.shape}, and there are {expected.shape}")
    elif not _same(rows, expected[: len(rows)]):
        raise Failure("other values than are in the file")


def _same(rows: NDArray[np.floating], expected: NDArray[Any]) -> bool:
    """Equal, or where bytes were scaled to [0, 1] as near as single precision is."""
    if expected.dtype == np.float64 and rows.dtype == np.float32:
        return np.allclose(rows, expected, rtol=1e-6, atol=0)
    return np.array_equal(rows, expected.astype(np.float64))


def _check_fit(source: Source, name: str) -> None:
    """One epoch on the source, as the command line trains: finite weights, or one sentence that says why not."""
    cls = {cls.__name__: cls for cls in (SparseAutoencoder, BernoulliRBM, GaussianRBM)}[name]
    model = cls(n_components=2, random_state=0).set_params(**{_epochs(cls): 1})
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            check_run(source, [], model, 0)
            model.fit_source(source, model.split(source.shape[0], 0), seed=0)
        except (InputError, RunError) as error:
            if not str(error).isprintable():
                raise Failure(f"no one line that can be shown: {error!r}") from error
            return
        except Exception as error:
            raise Failure(f"{name} ends in {type(error).__name__}: {error}") from error
    if not np.isfinite(model.components_).all():
        raise Failure(f"{name} has weights that are not finite")


def _epochs(cls: type) -> str:
    return "n_iter" if "n_iter" in cls._get_param_names() else "max_iter"


# What the process does meanwhile ------------------------------------------------------------------------------------

_noise: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _noise is None:
        return
    if event.startswith(_FORBIDDEN):
        _noise.append(f"{event} {arguments!r}"[:200])
    elif (
        event == "open" and arguments[0] != os.devnull and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        _noise.append(f"writes {arguments[0]!r}"[:200])


sys.addaudithook(_audit)


class _LastResort(logging.Handler):
    """What logging falls back on where nobody has set it up, and would write to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        if _noise is not None:
            _noise.append(f"logged: {record.getMessage()}")


def _on_standard_error() -> int:
    """Bytes written to it so far, where it is a file, as it is under pytest and in the campaign."""
    about = os.fstat(2)
    return about.st_size if stat.S_ISREG(about.st_mode) else 0


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    """Note what must not happen: a warning, a word on standard error, a pickle read, a file written, a process."""
    global _noise
    last_resort, logging.lastResort = logging.lastResort, _LastResort(logging.WARNING)
    written = _on_standard_error()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _noise = noise = []
        try:
            yield noise
        finally:
            _noise = None
            logging.lastResort = last_resort
            if _on_standard_error() > written:
                noise.append("a library wrote to standard error")
            noise.extend(f"{entry.category.__name__}: {entry.message}" for entry in caught)


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _Hanging

    handler = signal.signal(signal.SIGALRM, stop)
    # Of pytest-timeout, which uses the same clock.
    left, _ = signal.setitimer(signal.ITIMER_REAL, HANGS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, handler)


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Let the process have two gigabytes more than it has, so that a claim that is believed shows and harms nothing."""
    if not sys.platform.startswith("linux"):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _forget_the_peak() -> None:
    # Elsewhere than on Linux the peak never falls, and only an input that exceeds all before is seen.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# Inputs to look at again --------------------------------------------------------------------------------------------


def keep(given: Input, verdict: Verdict, folder: Path) -> Path:
    """Copy an input and its verdict, so that :func:`replayed` gives it again."""
    folder.mkdir(parents=True, exist_ok=True)
    name = os.path.basename(given.path.rstrip("/"))
    if os.path.isdir(given.path):
        shutil.copytree(given.path, folder / name, symlinks=True, dirs_exist_ok=True)
    elif os.path.isfile(given.path):
        shutil.copy(given.path, folder / name)
    about = {
        "name": name,
        "loader": given.loader,
        "options": given.options,
        "verdict": given.verdict,
        "made": given.made,
        "why": verdict.why,
    }
    (folder / "input.json").write_text(json.dumps(about, indent=1))
    return folder


def replayed(folder: Path) -> Input:
    """An input that :func:`keep` kept; the rows that it should have are those of the reference."""
    about = json.loads((folder / "input.json").read_text())
    path = os.path.join(str(folder), about["name"])
    return Input(about["loader"], path, about["options"], None, about["verdict"], about["made"])
