"""The command line: every error a user can cause is one sentence and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from rarefire.errors import InputError, Interrupted, RunError, printable
from rarefire.parallel import is_first, said, speaks


class _CtrlC(KeyboardInterrupt):
    """A KeyboardInterrupt by another name: where that one passes through exec(), Python ends by the signal itself."""


def main() -> None:
    """Run the command line; exit codes are 0, 1 (failure), 2 (bad input or usage), 130 (interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal may not have every letter
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _warning
    if not is_first():
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
    try:
        with _ctrl_c_raises():
            from rarefire.cli.app import app

            app(prog_name="rarefire")
    except InputError as error:
        _say(error, 2)
    except Interrupted as error:
        _say(error, 130)
    except RunError as error:
        _say(error, 1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        _say(f"{place}{error.strerror or error}; check that it is there and may be used", 1)
    except MemoryError as error:
        _say(f"not enough memory ({error}); use fewer units or rows", 1)
    except KeyboardInterrupt:
        _say("interrupted", 130)
    except SystemExit as end:
        if end.code == 130:  # typer turns Ctrl-C into this without a word
            _say("interrupted", 130)
        if end.code:  # typer has said why
            _speak(end)
        raise
    except Exception as error:
        if not _was_interrupted(error):
            _speak(error)
            raise
        _say("interrupted", 130)
    finally:
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # first of all that is left to do


@contextlib.contextmanager
def _ctrl_c_raises() -> Iterator[None]:
    """Ctrl-C as :class:`_CtrlC`, where it would be a KeyboardInterrupt; within an import it ends the process.

    Nothing is under way while libraries are loaded, and code in C++ that they run then would end in a crash.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return

    def stop(number: int, frame: Any) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                os.write(2, b"rarefire: interrupted\n")
                os._exit(130)
            frame = frame.f_back
        raise _CtrlC

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an exception is what became of Ctrl-C, as when it falls into the definition of a class."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sentence(message: object) -> str:
    return f"rarefire: {printable(' '.join(str(message).split()))}\n"


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return _sentence(f"warning: {message}")


def _say(message: object, code: int) -> None:
    _speak(message, _sentence(message))
    raise SystemExit(code)


def _speak(error: object, sentence: str = "") -> None:
    """Say why this process ends, where no other one does."""
    if not speaks(error):
        return
    if not is_first():
        sys.stderr = sys.__stderr__
    if sys.stderr is not None:
        sys.stderr.write(sentence)
        sys.stderr.flush()
    said()
