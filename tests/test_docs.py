"""Every block of code in the documentation runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language):
    found = [
        pytest.param(code, id=f"{page.name}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
        for page in PAGES
        for match in BLOCK.finditer(page.read_text())
        for kind, code in [match.groups()]
        if kind == language
    ]
    assert found
    return found


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_python(code, tmp_path):
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], cwd=tmp_path, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("console"))
def test_console(code, tmp_path):
    modules = {"rarefire": "rarefire", "torchrun": "torch.distributed.run"}
    for line in code.splitlines():
        program, *words = shlex.split(line.removeprefix("$ "))
        subprocess.run([sys.executable, "-m", modules[program], *words], cwd=tmp_path, check=True)


def test_links_and_pictures_are_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_targets_named_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        assert set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)) <= targets
