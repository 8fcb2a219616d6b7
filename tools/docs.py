"""Build the documentation site: ``python tools/docs.py build/site``. A warning is an error.

Beside the pages in ``docs/`` it has those that nobody writes: one for each recipe, from its class, its source and its
sections in ``docs/results.md``, and the reference of the package. They stand in a copy of ``docs/``, next to the site.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from sections import read_sections
from sphinx.cmd.build import build_main
from typer.main import get_command

import rarefire
from rarefire.cli.app import app
from rarefire.component import label, members
from rarefire.estimators.base import SparseLearner
from rarefire.preprocess import Step
from rarefire.recipes import Recipe, load_all

ROOT = Path(__file__).resolve().parents[1]

#: Where the places of the package stand in the reference; those that are named nowhere come last.
GROUPS = {
    "Parts of a model": ("penalties", "activations", "units", "losses", "schedules"),
    "Data": ("data", "preprocess"),
    "Measuring and showing": ("metrics", "features", "plots", "report"),
    "Mathematics": ("models", "objectives", "solvers", "sampling"),
}
REST = "Inside"

#: A file that says that a folder was made here and may be made anew.
MARK = ".made-by-tools-docs"

#: The documents whose experiments the recipes repeat.
DOCUMENTS = {
    "000": "RBM and sparsity penalty: Gaussian machines on patches of photographs, with activity penalty and decay",
    "001": "Sparse autoencoder: the exercise of Stanford's CS294A on patches of photographs and handwritten digits",
    "002": "Restricted Boltzmann machines on pictures of lines: cost, activity, layers",
    "003": "Sparse autoencoder: the lecture notes of CS294A with the divergence as penalty",
    "004": "Activation sparsity for units that are no sigmoids, on bags of words",
}


def main(out: Path) -> int:
    """Write the site to ``out``; gives the exit code."""
    source = out.with_name(f"{out.name}-source")
    for folder in (source, out):
        check_ours(folder)
    for folder in (source, out):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source)
    for folder in (source, out):
        folder.mkdir(exist_ok=True)
        (folder / MARK).touch()
    (source / "src").symlink_to(ROOT / "src")
    for name, title in (("CONTRIBUTING.md", "contributing.md"), ("CHANGELOG.md", "changes.md")):
        text = (ROOT / name).read_text(encoding="utf-8")
        text = text.replace("](docs/decisions)", "](decisions/index.md)").replace("](docs/", "](")
        (source / title).write_text(text, encoding="utf-8")
    decisions = sorted(path.stem for path in (source / "decisions").glob("*.md"))
    write(source / "decisions/index.md", ["# Decisions", "", "Why it is so.", "", *toctree(decisions)])
    write_recipes(source / "recipes")
    write_reference(source / "api")
    return build_main(["-W", "--keep-going", "-q", "-j", "2", "-d", f"{source}/.doctrees", str(source), str(out)])


def check_ours(folder: Path) -> None:
    """See that nothing is lost where a folder is made anew.

    Raises
    ------
    SystemExit
        If something else than a folder that was made here, or an empty one, stands there.
    """
    free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not free and not (folder / MARK).is_file():
        sys.exit(f"{folder} was not made by tools/docs.py and would be lost; name another place, or remove it")


def write(path: Path, lines: Iterable[str]) -> None:
    """Write a page."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def toctree(names: Iterable[str], caption: str = "") -> list[str]:
    """What lists pages and puts them into the navigation."""
    return ["```{toctree}", ":maxdepth: 1", *([f":caption: {caption}"] if caption else []), "", *names, "```", ""]


def rst(lines: Iterable[str]) -> list[str]:
    """Directives of autodoc, whose docstrings are reStructuredText."""
    return ["```{eval-rst}", *lines, "```", ""]


def write_recipes(folder: Path) -> None:
    """A page for each recipe, and the list of them."""
    load_all()
    sections = read_sections(ROOT / "docs/results.md")
    recipes = sorted((cls for cls in members(Recipe) if cls.__module__.startswith("rarefire.")), key=label)
    for cls in recipes:
        write(folder / f"{label(cls)}.md", recipe_page(cls, sections))
    listed = [f"| [`{label(cls)}`]({label(cls)}.md) | {cls.title} | {cls.document} |" for cls in recipes]
    write(
        folder / "index.md",
        [
            "# Published experiments",
            "",
            "Each is a command, `rarefire run NAME`, and a page here: what it repeats, the published figures beside",
            "those obtained, the pictures, and its source.",
            "",
            "| recipe | what it shows | source |",
            "| --- | --- | --- |",
            *listed,
            "",
            "The sources that are numbers, here and in the reference:",
            "",
            *(f"- **{number}**: {what}." for number, what in DOCUMENTS.items()),
            "",
            "```{toctree}",
            ":hidden:",
            "",
            *map(label, recipes),
            "```",
        ],
    )


def recipe_page(cls: type[Recipe], sections: dict[str, list[str]]) -> list[str]:
    """What a recipe is, its results, its source."""
    name, file = label(cls), Path(inspect.getfile(cls)).relative_to(ROOT)
    source = f"document {cls.document}: {DOCUMENTS[cls.document]}" if cls.document in DOCUMENTS else cls.document
    presets = ", ".join(f"`{preset}`" for preset in cls.presets)
    results: list[str] = []
    for lines in sections.values():
        commands = [line.split("`")[1] for line in lines if re.match(rf"`rarefire run {name}[ `]", line)]
        if commands:
            title = lines[0].removeprefix("## ")
            own = title.endswith(")") and f"({name}, " in title
            results += [f"### {f'`{commands[0]}`' if own else title}", "", *moved_down(lines[1:])]
    return [
        f"# {cls.title}",
        "",
        f"`rarefire run {name}`. Source: {source}. Presets: {presets}.",
        "",
        *rst([f".. autoclass:: {cls.__module__}.{cls.__name__}"]),
        "## Figures published and obtained",
        "",
        *(results or ["`make reproduce` has not been run since this recipe was added."]),
        "",
        "## Source",
        "",
        f"```{{literalinclude}} /{file}",
        ":language: python",
        "```",
    ]


def moved_down(lines: Iterable[str]) -> list[str]:
    """Lines of a page in ``docs/`` as they must read in a folder below it."""
    return [re.sub(r"\]\((?=[\w-]+(\.md|/))", "](../", line) for line in lines]


def write_reference(folder: Path) -> None:
    """A page for each estimator and each place of the package, and the list of them."""
    top = [name for name in rarefire.__all__ if not inspect.ismodule(getattr(rarefire, name)) and name[0] != "_"]
    for name in top:
        write(folder / f"{name}.md", [f"# {name}", "", *rst(documented("rarefire", name, getattr(rarefire, name)))])
    recipes = {cls.__module__ for cls in members(Recipe)}
    places: dict[str, list[str]] = {}
    for info in pkgutil.walk_packages(rarefire.__path__, "rarefire."):
        place = info.name.split(".")[1]
        if place not in ("__main__", "cli") and info.name not in recipes:
            places.setdefault(place, []).append(info.name)
    known = {id(getattr(rarefire, name)) for name in top}
    for place, modules in places.items():
        lines = [f"# {place}", ""]
        for name in modules:
            lines += module_section(importlib.import_module(name), known, heading=len(modules) > 1)
        write(folder / f"{place}.md", lines)
    grouped = {**GROUPS, REST: tuple(sorted(set(places).difference(*GROUPS.values())))}
    index = ["# Reference", "", "Everything public, from the docstrings. Arguments of estimators and parts can be read"]
    index += ["and set as scikit-learn's can (`get_params`, `set_params`, `clone`).", ""]
    write(folder / "command-line.md", command_line())
    index += toctree(["command-line"], "Commands")
    index += toctree(top, "Estimators and functions")
    for caption, names in grouped.items():
        index += toctree(names, caption)
    write(folder / "index.md", index)


def command_line() -> list[str]:
    """What every command says of itself."""
    group = get_command(app)
    lines = ["# The command line", "", "`python -m rarefire` is the same. Exit codes: 0, 1 for a failure, 2 for input"]
    lines += ["or usage that cannot be, 130 when interrupted.", ""]
    for name, command in group.commands.items():
        context = command.make_context(f"rarefire {name}", [], resilient_parsing=True, max_content_width=100)
        lines += [f"## rarefire {name}", "", "```text", command.get_help(context), "```", ""]
    return lines


def module_section(module: ModuleType, known: set[int], heading: bool) -> list[str]:
    """What a module says of itself, and its public classes and functions; ``known`` have pages of their own."""
    public = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]
    lines = [f"## {module.__name__}", ""] if heading else []
    lines += rst([f".. automodule:: {module.__name__}"])
    for name in public:
        value = getattr(module, name)
        described = (inspect.isclass(value) or inspect.isfunction(value)) and name[0] != "_" and value.__doc__
        if described and id(value) not in known:
            known.add(id(value))
            lines += rst(documented(module.__name__, name, value))
    return lines


def documented(module: str, name: str, value: object) -> list[str]:
    """The directive for a class, with what it does, or a function."""
    if not inspect.isclass(value):
        return [f".. autofunction:: {module}.{name}"]
    lines = [f".. autoclass:: {module}.{name}", "   :members:", "   :show-inheritance:"]
    if issubclass(value, (SparseLearner, Step)):
        lines.append("   :inherited-members: TransformerMixin, BaseEstimator")
    return lines


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
