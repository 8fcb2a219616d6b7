"""Imports go one way; importing the package costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import rarefire

ROOT = Path(rarefire.__file__).parent

# A module may import those before it, never those after it; a package counts as one place.
ORDER = [
    "errors",
    "types",
    "component",
    "arguments",
    "settings",
    "random",
    "parallel",
    "precision",
    "data",
    "preprocess",
    "schedules",
    "units",
    "activations",
    "penalties",
    "models",
    "metrics",
    "losses",
    "sampling",
    "objectives",
    "solvers",
    "events",
    "interrupts",
    "checkpoint",
    "artifact",
    "capture",
    "trainer",
    "features",
    "contexts",
    "plots",
    "report",
    "estimators",
    "runs",
    "comparison",
    "notebook",
    "recipes",
    "resuming",
    "display",
    "tensorboard",
    "terminal",
    "cli",
]


def place(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "rarefire":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("rarefire.")}
    return names


def test_imports_point_one_way():
    files = [path for path in ROOT.rglob("*.py") if place(path) not in ("__init__", "__main__")]
    assert {place(path) for path in files} == set(ORDER)
    wrong = []
    for path in files:
        here = place(path)
        for there in imported(ast.parse(path.read_text())):
            if there in ORDER and ORDER.index(there) > ORDER.index(here):
                wrong.append(f"{path.relative_to(ROOT)} imports {there}")
    assert not wrong


def test_importing_the_package_imports_neither_torch_nor_scikit_learn():
    code = "import sys, rarefire; assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_loads():
    for name in rarefire.__all__:
        assert getattr(rarefire, name) is not None
    assert set(dir(rarefire)) == set(rarefire.__all__)


def test_no_module_is_too_long():
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 600, path
