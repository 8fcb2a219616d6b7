"""Every block of code in the documentation and in docstrings runs, and what it names is there."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import rarefire
from rarefire.component import label, members
from rarefire.recipes import Recipe, load_all

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Pages whose blocks go on from one another, from an empty directory at the beginning of each part.
IN_ORDER = {ROOT / "docs/tutorial.md", ROOT / "docs/extending.md"}
#: What a line of the documentation starts, as this environment has it.
PROGRAMS = {"rarefire": ["-m", "rarefire"], "torchrun": ["-m", "torch.distributed.run"], "python": []}


def run_python(code, place):
    # The directory of the caller stands first on Python's path, as in a shell.
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], cwd=place, check=True)


def run_console(code, place):
    for line in code.splitlines():
        program, *words = shlex.split(line.removeprefix("$ "))
        subprocess.run([sys.executable, *PROGRAMS[program], *words], cwd=place, check=True)


def blocks(language):
    found = [
        pytest.param(code, id=f"{page.name}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
        for page in PAGES
        if page not in IN_ORDER
        for match in BLOCK.finditer(page.read_text())
        for kind, code in [match.groups()]
        if kind == language
    ]
    assert found
    return found


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_python(code, tmp_path):
    run_python(code, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("console"))
def test_console(code, tmp_path):
    run_console(code, tmp_path)


def run_part(page, title, place):
    """Run the blocks of the part of a page below a heading of the second order, in their order, in one directory."""
    (part,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    found = BLOCK.findall(part)
    assert found
    for language, code in found:
        {"python": run_python, "console": run_console}[language](code, place)


def figures(run):
    return {entry["name"]: entry["value"] for entry in json.loads((run / "metrics.json").read_text())["metrics"]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_on_images_and_what_it_says_comes_out(tmp_path):
    run_part(ROOT / "docs/tutorial.md", "Images", tmp_path)
    edges, sparser = (figures(tmp_path / "runs" / name) for name in ("edges", "sparser"))
    assert edges["edge_share"] > 0.5
    assert sparser["cv_explained_variance"] < edges["cv_explained_variance"]
    assert sparser["dead_units"] > edges["dead_units"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_on_texts_and_what_it_says_comes_out(tmp_path):
    run_part(ROOT / "docs/tutorial.md", "Texts", tmp_path)
    silent, loud, topics = (figures(tmp_path / "runs" / name) for name in ("silent", "loud", "topics"))
    assert (silent["dead_units"], silent["zeros"]) == (30, 1)
    assert (loud["dead_units"], loud["active_mean"] > 20) == (0, True)
    assert topics["dead_units"] < 10
    assert 1 < topics["active_mean"] < 10


@pytest.mark.slow
def test_a_penalty_of_ones_own(tmp_path):
    run_part(ROOT / "docs/extending.md", "A penalty", tmp_path)


def test_no_block_of_a_page_in_order_is_left_out():
    run = {"tutorial.md": {"Images", "Texts"}, "extending.md": {"A penalty"}}
    for page in IN_ORDER:
        parts = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
        assert {part.split("\n")[0] for part in parts if BLOCK.search(part)} == run[page.name]


def modules():
    names = [info.name for info in pkgutil.walk_packages(rarefire.__path__, "rarefire.")]
    return [name for name in names if name != "rarefire.__main__"]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not result.failed


def test_some_docstrings_have_examples():
    finder = doctest.DocTestFinder()
    found = [test for name in modules() for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) > 10


def test_recipes_named_in_the_readme_are_all_there_are():
    load_all()
    named = re.findall(r"^rarefire run ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(label(cls) for cls in members(Recipe) if cls.__module__.startswith("rarefire."))


def test_links_and_pictures_are_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_targets_named_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        assert set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)) <= targets
