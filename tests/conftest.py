"""Helpers that several test modules share: the command line in this process and in others, and what a folder holds."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rarefire.cli import main

# Before SciPy is imported: scikit-learn's contract has checks that are skipped without.
os.environ["SCIPY_ARRAY_API"] = "1"

# A shell has Ctrl-C ignored in what it runs in the background, and so would these tests and their processes.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def cli():
    """Run the command line in this process, which saves the seconds that torch takes to start."""

    def call(*words: object) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        before = sys.argv
        sys.argv = ["rarefire", *map(str, words)]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.argv = before
        return Outcome(code, out.getvalue(), err.getvalue())

    return call


def processes(*command: str) -> Iterator[Callable[..., subprocess.Popen]]:
    """What starts processes of a command, on one thread; those still running at the end are killed."""
    running: list[subprocess.Popen] = []

    def start(*words: object, cwd: Path, largest_file: int = resource.RLIM_INFINITY) -> subprocess.Popen:
        running.append(
            subprocess.Popen(
                [sys.executable, *command, *map(str, words)],
                cwd=cwd,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY)),
            )
        )
        return running[-1]

    yield start
    for one in running:
        if one.poll() is None:
            one.kill()
        one.communicate()


@pytest.fixture(scope="session")
def process():
    """Start a process of the command line; ``largest_file`` is the quota on the size of a file, in bytes."""
    yield from processes("-m", "rarefire")


@pytest.fixture(scope="session")
def program():
    """Start a process of ``program.py`` in the folder ``cwd``."""
    yield from processes("program.py")


@pytest.fixture(scope="session")
def finished(process):
    """Run the command line as a process until it ends."""

    def run(*words: object, cwd: Path) -> Outcome:
        one = process(*words, cwd=cwd)
        out, err = one.communicate(timeout=240)
        return Outcome(one.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def contents():
    """Every file below a folder with its bytes, and every folder."""

    def read(folder: Path) -> dict[str, bytes | None]:
        return {
            str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
        }

    return read


@pytest.fixture(scope="module")
def browser():
    """A browser without a window."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page, given as text, from disk; at the end it is held to silence: no message, no request but for it."""
    contexts, troubles = [], []

    def open_page(text: str, anchor: str = "", width: int = 1280, scheme: str = "light"):
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: None if r.url.split("#")[0] == file.as_uri() else troubles.append(r.url))
        page.goto(file.as_uri() + anchor)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture
def flaws():
    """What axe finds wrong with a page, all its details open: rule, impact, and the first elements."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

    def find(page) -> list[tuple]:
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        found = axe.Axe().run(page).response["violations"]
        return [(one["id"], one["impact"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found]

    return find


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the figures and the search for edges, which take longer than the fits of these tests."""
    monkeypatch.setattr("rarefire.runs.standard_figures", lambda table, trained: [])
    monkeypatch.setattr("rarefire.runs.edge_metrics", lambda table: [])
