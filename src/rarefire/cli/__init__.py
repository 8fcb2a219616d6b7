"""The command line: every error a user can cause is one sentence and an exit code."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; exit codes are 0, 1 (failure), 2 (bad input or usage), 130 (interrupted)."""
    from rarefire.errors import InputError, Interrupted, RunError

    try:
        from rarefire.cli.app import app

        app()
    except InputError as error:
        _say(error, 2)
    except Interrupted as error:
        _say(error, 130)
    except (RunError, OSError) as error:
        _say(error, 1)
    except KeyboardInterrupt:
        _say("interrupted", 130)


def _say(message: object, code: int) -> None:
    sys.stderr.write(f"rarefire: {message}\n")
    raise SystemExit(code)
