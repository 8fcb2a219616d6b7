"""Change the numerical core, one operator or number at a time, and see whether the tests notice.

``python tools/mutate.py`` does so for penalties, units, sampling and objectives, and writes
``runs/reliability/mutation.json``; ``python tools/mutate.py src/rarefire/units.py`` for some modules alone, whose
entries it replaces there. It works on a copy of the working tree, on one core, for about an hour.

The changes are those of Cosmic Ray (the package ``cosmic-ray``), with assignments such as ``+=``, which it leaves out.
A change first meets the tests that concern its module, and all tests of the core where those pass. What passes all the
same is listed with the judgement that stands in ``tools/survivors.toml``, where it is looked up by module, function,
old line and new line.
"""

from __future__ import annotations

import ast
import difflib
import gc
import importlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "runs" / "reliability" / "mutation.json"
JUDGEMENTS = Path(__file__).with_name("survivors.toml")

#: Of each binary operator the inverse and one of another kind; of each comparison its negation and its boundary.
BINARY = {
    "Add": ("Sub", "Mul"),
    "Sub": ("Add", "Mul"),
    "Mul": ("Div", "Add"),
    "Div": ("Mul", "Sub"),
    "FloorDiv": ("Mul", "Div"),
    "Mod": ("FloorDiv", "Add"),
    "Pow": ("Mul", "Add"),
}
COMPARISON = {
    "Eq": ("NotEq",),
    "NotEq": ("Eq",),
    "Lt": ("LtE", "GtE"),
    "LtE": ("Lt", "Gt"),
    "Gt": ("GtE", "LtE"),
    "GtE": ("Gt", "Lt"),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
}
OPERATORS = [
    *(f"ReplaceBinaryOperator_{old}_{new}" for old, several in BINARY.items() for new in several),
    *(f"ReplaceComparisonOperator_{old}_{new}" for old, several in COMPARISON.items() for new in several),
    "ReplaceUnaryOperator_USub_UAdd",
    "ReplaceUnaryOperator_Delete_Not",
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
]
#: Where an operator's sign is none: a bare star of a signature, stars before what is unpacked.
NO_OPERATION = {"parameters", "dictorsetmaker", "arglist", "argument", "testlist_comp"}

#: The test modules that concern each module of the core, those that notice most first.
TESTS = {
    "src/rarefire/penalties.py": ["penalties", "machine_penalties", "contracts", "weight_decay", "autoencoder"],
    "src/rarefire/units.py": ["units", "sampling", "annealing", "gaussian", "likelihood", "contracts"],
    "src/rarefire/sampling/__init__.py": ["sampling", "contrastive"],
    "src/rarefire/sampling/path.py": ["sampling", "annealing", "tempering"],
    "src/rarefire/sampling/annealing.py": ["sampling", "annealing", "likelihood"],
    "src/rarefire/sampling/tempering.py": ["sampling", "tempering", "annealing"],
    "src/rarefire/objectives/__init__.py": ["contrastive"],
    "src/rarefire/objectives/averages.py": ["machine_penalties", "autoencoder"],
    "src/rarefire/objectives/contrastive.py": ["contrastive", "gaussian", "machine_penalties", "weight_decay"],
    "src/rarefire/objectives/finetune.py": ["contrastive", "deep"],
    "src/rarefire/objectives/reconstruction.py": ["contrastive", "autoencoder", "contracts", "weight_decay"],
}
ALL = sorted({name for names in TESTS.values() for name in names} | {"boltzmann_model", "refining"})
#: Left out: scikit-learn's checks, runs on disk, which are no part of the core, and fits that take seconds.
SELECTION = (
    "not slow",
    "not (scikit_learns_contract or datasets or steps or on_disk or interrupted or killed or save or saved"
    " or sparse_rows_are_never_dense or let_units_differ or minibatch_solvers or eight_warm_fits or more_likely"
    " or grid_search or (whole_objective and not Sigmoid))",
)


class AugmentedAssignment(Operator):
    """``+=`` and its like become the inverse, or a plain ``=``."""

    changes = {"+=": ("-=", "="), "-=": ("+=", "="), "*=": ("/=", "="), "/=": ("*=", "="), "|=": ("=",)}  # noqa: RUF012

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Where the sign stands, once for each change."""
        if node.type == "operator":
            for _ in self.changes.get(node.value, ()):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """The same place with another sign."""
        node.value = self.changes[node.value][index]
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """None are needed here."""
        return ()


@dataclass(frozen=True)
class Mutant:
    """A changed module: its whole text, where it differs, and which operator made it."""

    module: str
    code: str
    function: str
    old: str
    new: str
    operator: str


def function_at(tree: ast.Module, line: int) -> str:
    """The qualified name of the innermost function or class that holds a line, its decorators included."""
    names, nodes = [], list(tree.body)
    while nodes:
        node = nodes.pop(0)
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        if first <= line <= (node.end_lineno or line):
            names.append(node.name)
            nodes = list(node.body)
    return ".".join(names) or "module"


def mutants_of(path: str) -> Iterator[Mutant]:
    """Every change of a module, each text once."""
    code = Path(path).read_text()
    tree, nodes = ast.parse(code), list(ast_nodes(get_ast(code)))
    seen = {code}
    for name in [*OPERATORS, "AugmentedAssignment"]:
        operator = AugmentedAssignment() if name == "AugmentedAssignment" else get_operator(f"core/{name}")()
        places = [(node, start) for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (node, start) in enumerate(places):
            if name.startswith("ReplaceBinary") and node.parent.type in NO_OPERATION:
                continue
            if name == "AddNot" and node.children[2 if node.type == "test" else 1].type in {"comparison", "not_test"}:
                continue  # the same as another comparison, or none
            changed = mutate_code(code, operator, occurrence)
            if changed is None or changed in seen:
                continue
            seen.add(changed)
            delta = list(difflib.unified_diff(code.splitlines(), changed.splitlines(), lineterm="", n=0))[2:]
            old, new = (
                " ".join(line[1:].strip() for line in delta if line.startswith(sign)).strip() for sign in ("-", "+")
            )
            yield Mutant(path, changed, function_at(tree, start[0]), old, new, name)


#: What tests import and mutants do not change, so that a fork has it.
PRELOADED = (
    *("beartype", "hypothesis", "jaxtyping", "jinja2", "matplotlib.pyplot", "pandas", "PIL.Image", "rich.progress"),
    *("safetensors.torch", "scipy.optimize", "scipy.sparse", "scipy.special", "scipy.stats", "sklearn.datasets"),
    *("sklearn.neural_network", "sklearn.pipeline", "sklearn.utils.estimator_checks", "torch.nn.functional", "typer"),
)


#: Of no use here; the search for exceptions that nobody raised takes longer than most tests.
PLUGINS = ("cacheprovider", "xdist", "unraisableexception", "threadexception")


def passes(names: list[str], limit: float, bytecode: bool = False) -> bool | None:
    """Run tests in a fork of this process; None where they take longer than ``limit`` seconds."""
    if not (child := os.fork()):
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.dont_write_bytecode = not bytecode
        code = 1
        try:
            without = [word for name in PLUGINS for word in ("-p", f"no:{name}")]
            words = ["-x", "-q", *without, "-m", SELECTION[0], "-k", SELECTION[1]]
            code = int(pytest.main([*words, *(f"tests/test_{name}.py" for name in names)]))
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def tested(names: list[str]) -> float:
    """See that tests pass on the code as it is; how long changed code may take for them."""
    start = time.monotonic()
    if not passes(names, 900, bytecode=True):
        raise SystemExit(f"the tests {', '.join(names)} do not pass on the code as it is")
    return 30 + 3 * (time.monotonic() - start)


def outcome_of(mutant: Mutant, names: list[str], limit: float) -> bool | None:
    """Whether tests pass on changed code."""
    source = Path(mutant.module)
    code = source.read_text()
    # Bytecode is told apart by time and size alone.
    for stale in source.parent.glob(f"__pycache__/{source.stem}.*"):
        stale.unlink()
    source.write_text(mutant.code)
    start = time.monotonic()
    outcome = passes(names, limit)
    source.write_text(code)
    word = {True: "survived", False: "killed", None: "timed out"}[outcome]
    print(f"{word:9} {time.monotonic() - start:5.1f} s  {mutant.function}: {mutant.old}  ->  {mutant.new}", flush=True)
    return outcome


def examine(path: str) -> tuple[dict[str, int], list[Mutant]]:
    """Run all mutants of a module; counts, and those that no test of the core noticed."""
    print(path, flush=True)
    narrow = TESTS[path]
    limit = tested(narrow)
    outcomes = {mutant: outcome_of(mutant, narrow, limit) for mutant in mutants_of(path)}
    if doubtful := [mutant for mutant, outcome in outcomes.items() if outcome]:
        wide = [name for name in ALL if name not in narrow]
        limit = tested(wide)
        outcomes |= {mutant: outcome_of(mutant, wide, limit) for mutant in doubtful}
    survivors = [mutant for mutant, outcome in outcomes.items() if outcome]
    found = list(outcomes.values())
    counts = {"mutants": len(found), "killed": found.count(False), "timed_out": found.count(None)}
    counts["survived"] = found.count(True)
    return counts, survivors


def main(modules: list[str]) -> None:
    """Copy the working tree, run the mutants of these modules there, and write what came of it."""
    entries = tomllib.loads(JUDGEMENTS.read_text()).get("survivor", []) if JUDGEMENTS.exists() else []
    judged = {(e["module"], e["function"], e["old"], e["new"]): e["judgement"] for e in entries}
    found = {"modules": {}, "survivors": []}
    if modules and OUT.exists():
        found = json.loads(OUT.read_text())
    found["tool"] = f"cosmic-ray {importlib.metadata.version('cosmic-ray')}"
    found["operators"] = [*OPERATORS, "AugmentedAssignment"]
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (target := Path(folder, name)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        os.chdir(folder)
        sys.path.insert(0, str(Path("src").resolve()))
        os.environ["PYTHONPATH"] = sys.path[0]
        for name in PRELOADED:
            importlib.import_module(name)
        gc.freeze()
        for path in modules or TESTS:
            found["modules"][path], survivors = examine(path)
            found["survivors"] = [one for one in found["survivors"] if one["module"] != path]
            for one in survivors:
                judgement = judged.get((path, one.function, one.old, one.new), "not judged")
                change = f"{one.old} -> {one.new}"
                entry = {"module": path, "function": one.function, "change": change, "judgement": judgement}
                found["survivors"].append(entry)
            OUT.parent.mkdir(parents=True, exist_ok=True)
            OUT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
