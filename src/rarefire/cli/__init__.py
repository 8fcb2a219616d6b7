"""The command line: every error a user can cause is one sentence and an exit code."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; exit codes are 0, 1 (failure), 2 (bad input or usage), 130 (interrupted)."""
    from rarefire.errors import InputError, Interrupted, RunError

    try:
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
        raise


def _say(message: object, code: int) -> None:
    sys.stderr.write(f"rarefire: {' '.join(str(message).split())}\n")
    raise SystemExit(code)
