"""The documentation site builds without a warning, is whole, and opens from disk without a network."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import posixpath
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import rarefire
from rarefire.component import Component, label, members
from rarefire.estimators.base import SparseLearner
from rarefire.preprocess import Step
from rarefire.recipes import Recipe, load_all

inventory = pytest.importorskip("sphinx.util.inventory", reason="sphinx is not installed (extra docs)")

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

#: Pages that a browser looks at, one of each kind.
SEEN = ("index", "tutorial", "mathematics", "extending", "results", "recipes/patches", "api/index", "api/penalties")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("site")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "site"
    # What an earlier run left gives way.
    for folder in (out, out.with_name("site-source")):
        folder.mkdir()
        for name in (".made-by-tools-docs", "old.html"):
            (folder / name).touch()
    # No colours, whatever runs the tests: the output is shown where the build fails.
    command = [sys.executable, str(ROOT / "tools/docs.py"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert not list(out.parent.rglob("old.html"))
    return out


@pytest.mark.parametrize("name", ["mine", "mine-source"])
def test_a_folder_that_is_no_site_is_left_alone(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("years")
    command = [sys.executable, str(ROOT / "tools/docs.py"), str(tmp_path / "mine")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    expected = f"{tmp_path / name} was not made by tools/docs.py and would be lost; name another place, or remove it\n"
    assert done.stderr == expected
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [name, f"{name}/thesis.txt"]


class Read(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.targets, self.tags, self.pictures = [], [], [], []
        self.language = None
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "html":
            self.language = attrs.get("lang")
        if tag == "img":
            self.pictures.append(attrs)
        self.targets += [attrs[key] for key in ("href", "src") if attrs.get(key)]


@pytest.fixture(scope="module")
def pages(site):
    return {page: Read(page) for page in sorted(site.rglob("*.html")) if "_static" not in page.parts}


def test_no_link_is_broken(site, pages):
    broken = []
    for page, read in pages.items():
        for target in read.targets:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            other = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            lost = parts.fragment and other in pages and unquote(parts.fragment) not in pages[other].ids
            if lost or not other.is_file():
                broken.append(f"{page.relative_to(site)}: {target}")
    assert not broken
    assert len(pages) > 50


def test_every_recipe_has_a_page_with_its_figures_and_its_source(site):
    load_all()
    recipes = [cls for cls in members(Recipe) if cls.__module__.startswith("rarefire.")]
    assert recipes
    for cls in recipes:
        page = (site / "recipes" / f"{label(cls)}.html").read_text(encoding="utf-8")
        assert cls.title in page
        assert "has not been run" not in page, cls
        assert "<table" in page
        assert "def</span>" in page


def test_every_public_name_is_in_the_reference(site):
    with (site / "objects.inv").open("rb") as file:
        known = inventory.InventoryFile.load(file, "", posixpath.join)
    documented = {name for kind in ("py:class", "py:function", "py:exception") for name in known.get(kind, {})}
    last = {name.rpartition(".")[2] for name in documented}
    load_all()
    families = {cls for base in (Component, SparseLearner, Step) for cls in members(base)}
    for cls in families:
        if cls.__module__.startswith("rarefire."):
            assert cls.__name__ in last, cls
    for name in rarefire.__all__:
        value = getattr(rarefire, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert f"rarefire.{name}" in documented
    for place in ("data", "metrics", "sampling", "penalties", "units", "plots", "features", "preprocess", "schedules"):
        home = importlib.import_module(f"rarefire.{place}")
        below = pkgutil.iter_modules(getattr(home, "__path__", []), f"rarefire.{place}.")
        for module in (home, *(importlib.import_module(info.name) for info in below)):
            for name, value in vars(module).items():
                own = getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
                if own and inspect.isfunction(value):
                    assert name in last, f"{module.__name__}.{name}"


def test_pages_can_be_read_by_a_screen_reader(pages):
    for page, read in pages.items():
        assert read.language == "en", page
        assert read.tags.count("h1") == 1 or page.name in ("genindex.html", "py-modindex.html", "search.html"), page
        assert "main" in read.tags or "article" in read.tags, page
        assert len(read.ids) == len(set(read.ids)), page
        assert all(picture.get("alt") for picture in read.pictures), page


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_open_from_disk_and_ask_for_nothing(site, width):
    playwright = pytest.importorskip("playwright.sync_api")
    asked, failed, said = [], [], []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("requestfailed", lambda request: failed.append(request.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        for name in SEEN:
            page.goto((site / f"{name}.html").as_uri())
            # What is wide scrolls by itself: no page does.
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        page.goto((site / "mathematics.html").as_uri())
        # The browser sets formulas: a fraction is taller than a letter.
        heights = page.evaluate("[...document.querySelectorAll('mfrac')].map(f => f.getBoundingClientRect().height)")
        page.goto((site / "search.html").as_uri() + "?q=KLDivergence")
        page.wait_for_selector("ul.search li a")
        browser.close()
    assert len(heights) > 5
    assert min(heights) > 10
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert failed == []
    assert said == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on this machine")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site, scheme):
    playwright = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
        for name in SEEN:
            page.goto((site / f"{name}.html").as_uri())
            found = axe.run(page).response["violations"]
            serious = [f"{each['id']}: {each['help']}" for each in found if each["impact"] in ("serious", "critical")]
            assert not serious, name
        browser.close()
