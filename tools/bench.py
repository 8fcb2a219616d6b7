"""Measure speed side by side with others, and write ``docs/benchmarks.md`` and ``docs/benchmarks.json``.

``python tools/bench.py`` measures everything; ``python tools/bench.py boltzmann startup`` does so for some sections
alone, and leaves the others as they stand. Each module of ``benchmarks/`` is a section, and is run in a process of its
own. ``--quick`` shows on small data that everything runs, and writes nothing; ``--page`` measures nothing, and writes
the page again from the figures.
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
from sections import stamp, table, write_sections

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
    names = [word for word in words if word not in ("--quick", "--page")]
    if unknown := [name for name in names if name not in SECTIONS]:
        raise SystemExit(f"there is no section {unknown[0]} (there are: {', '.join(SECTIONS)})")
    known: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.is_file() else {}
    if "--page" in words:
        write(known)
        return
    for name in names or SECTIONS:
        command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *(["--quick"] if quick else [])]
        outcome = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        machine = {"processor": processor(), "threads": torch.get_num_threads(), "gflops": outcome["gflops"]}
        known[name] = {"machine": machine, "versions": versions(), "found": outcome["found"]}
        print("\n".join(section(name, known[name])), flush=True)
        if not quick:  # the next section takes minutes, and may fail
            write(known)


def section(name: str, entry: dict[str, Any]) -> list[str]:
    """The lines of a section of the page."""
    module = importlib.import_module(name)
    title, rows, said = module.tell(entry["found"])
    said = [*said, module.AIM] if hasattr(module, "AIM") else said
    machine = entry["machine"]
    reached = ", ".join(f"{value:,.0f} GFLOP/s in {kind}" for kind, value in machine["gflops"].items())
    return [
        f"## {title}",
        "",
        *(line for sentence in said for line in (sentence, "")),
        *(table(rows[0], rows[1:]) if rows else []),
        "",
        f"*{machine['processor']}, {machine['threads']} threads; square matrix products reached {reached}.*",
        "",
        *stamp(entry["versions"]),
    ]


def write(known: dict[str, Any]) -> None:
    """The page and the figures, of the sections that were measured at any time."""
    in_order = {name: known[name] for name in SECTIONS if name in known}
    write_sections(PAGE, HEAD, {name: section(name, entry) for name, entry in in_order.items()}, SECTIONS)
    FIGURES.write_text(json.dumps(in_order, indent=1) + "\n")
    print(f"wrote {PAGE.relative_to(ROOT)} and {FIGURES.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
