"""The errors a user can cause, each one sentence: what was wrong, where, and what to do; and texts fit for one."""


class InputError(ValueError):
    """Data, a path or an option that cannot be used as given; the command line exits with code 2."""


class NotAtHand(InputError):
    """Data that are on no disk and that could not be fetched."""


class RunError(RuntimeError):
    """A run that could not go on (divergence, a directory in use); the command line exits with code 1."""


class ProcessLost(RunError):
    """One of several processes that work together has ended, or does not answer."""


class Interrupted(RunError):
    """A run that was asked to stop and left a checkpoint; the command line exits with code 130."""


def printable(text: str) -> str:
    """A text on one line: line ends, codes and what else no screen shows are written as Python escapes them."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
