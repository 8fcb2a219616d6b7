"""Measure speed side by side with others, and write ``docs/benchmarks.md`` and ``docs/benchmarks.json``.

``python tools/bench.py`` measures everything; ``python tools/bench.py boltzmann startup`` does so for some sections
alone, and leaves the others as they stand. Each module of ``benchmarks/`` is a section, and is run in a process of its
own. ``--quick`` shows on small data that everything runs, and writes nothing.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import torch
from sections import read_sections, stamp, table, write_sections

from rarefire.estimators.keeping import versions

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIGURES = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks.json"
#: The sections, in the order of the page.
SECTIONS = ("boltzmann", "autoencoder", "words", "stream", "growth", "overhead", "gpu", "startup")

HEAD = [
    "# Benchmarks",
    "",
    "Written by `make bench`; do not edit. What is compared was measured side by side, in turns. Medians, with the "
    "lowest and the highest of all turns. The same numbers stand in `benchmarks.json`.",
    "",
]


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


def main(words: Sequence[str]) -> None:
    """Measure what is wanted, or everything, and write the page and the figures."""
    quick = "--quick" in words
    wanted = [word for word in words if word != "--quick"] or list(SECTIONS)
    if unknown := [name for name in wanted if name not in SECTIONS]:
        raise SystemExit(f"there is no section {unknown[0]} (there are: {', '.join(SECTIONS)})")
    written = read_sections(PAGE)
    figures: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.is_file() else {}
    for name in wanted:
        command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *(["--quick"] if quick else [])]
        outcome = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        machine = {"processor": processor(), "threads": torch.get_num_threads(), "gflops": outcome["gflops"]}
        title, rows, said = importlib.import_module(name).tell(outcome["found"])
        reached = ", ".join(f"{value:,.0f} GFLOP/s in {kind}" for kind, value in machine["gflops"].items())
        written[name] = [
            f"## {title}",
            "",
            *(line for sentence in said for line in (sentence, "")),
            *(table(rows[0], rows[1:]) if rows else []),
            "",
            f"*{machine['processor']}, {machine['threads']} threads; square matrix products reached {reached}.*",
            "",
            *stamp(versions()),
        ]
        figures[name] = {"machine": machine, "versions": versions(), "found": outcome["found"]}
        print("\n".join(written[name]), flush=True)
        if not quick:  # section by section, since the next takes minutes
            write_sections(PAGE, HEAD, written, SECTIONS)
            found = {name: figures[name] for name in SECTIONS if name in figures}
            FIGURES.write_text(json.dumps(found, indent=1) + "\n")
            print(f"wrote {PAGE.relative_to(ROOT)} and {FIGURES.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
