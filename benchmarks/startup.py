"""How long Python takes to import the package, its first estimator, and the command line, in new processes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from timing import run, side_by_side, told

#: What the figures are to be held against.
AIM = (
    "Aimed at: 0.1 s for `import rarefire`, 0.3 s for `rarefire --help`, and at most 1.1 times torch and "
    "`sklearn.base` for the first estimator."
)

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "import rarefire": ("-c", "import rarefire"),
    "import torch, sklearn.base": ("-c", "import torch, sklearn.base"),
    "rarefire.BernoulliRBM": ("-c", "import rarefire; rarefire.BernoulliRBM"),
    "rarefire --help": ("-m", "rarefire", "--help"),
}


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds of each process, and whether the bare import leaves torch and scikit-learn alone."""

    def start(words: tuple[str, ...]) -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    seconds = side_by_side(
        {name: lambda words=words: start(words) for name, words in COMMANDS.items()}, 1 if quick else 11
    )
    seen = subprocess.run(
        [sys.executable, "-c", "import sys, rarefire; print({'torch', 'sklearn'} & set(sys.modules))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return {"seconds": seconds, "imported": seen}


def tell(found: dict[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """A heading, the rows of a table (the first is its head), and what is to be said of it."""
    seconds = found["seconds"]
    rows = [("process", "seconds (lowest to highest)"), *((f"`{name}`", told(one)) for name, one in seconds.items())]
    ratio = seconds["rarefire.BernoulliRBM"]["median"] / seconds["import torch, sklearn.base"]["median"]
    own = seconds["import rarefire"]["median"] - seconds["python -c pass"]["median"]
    said = [
        f"`import rarefire` adds {1000 * own:.0f} ms to the start of Python, and loads "
        + ("neither torch nor scikit-learn" if found["imported"] == "set()" else found["imported"])
        + f". The first estimator takes {ratio:.2f} times as long as torch and `sklearn.base` alone.",
    ]
    return "Start-up", rows, said


if __name__ == "__main__":
    run(measure)
