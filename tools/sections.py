"""Files of results whose sections are written one at a time: the others stay as they stand."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

#: What stands before each section, with its name behind it.
MARK = "<!-- section: "


def read_sections(path: Path) -> dict[str, list[str]]:
    """The lines of each section of a file as it stands, by name; none where there is no file."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if line.startswith(MARK):
            name = line.removeprefix(MARK).removesuffix(" -->")
            found[name] = []
        elif name:
            found[name].append(line)
    return found


def write_sections(path: Path, head: list[str], sections: dict[str, list[str]], order: Iterable[str]) -> None:
    """Write a file of a head and the sections that there are, in their order."""
    lines = list(head)
    for name in order:
        if name in sections:
            lines += [f"{MARK}{name} -->", *sections[name]]
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table."""
    lines = [[cell.replace("|", "\\|") for cell in cells] for cells in (header, *rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def stamp(versions: dict[str, str]) -> list[str]:
    """With what a section was made."""
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [f"*{told}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}*", ""]
