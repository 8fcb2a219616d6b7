"""Measure what can be relied on, and write ``docs/reliability.md`` with the numbers.

``python tools/reliability.py`` measures everything anew, which takes hours; ``python tools/reliability.py kills fuzz``
does so for some sections alone, and leaves the others as they stand in the file. What each finds is kept below
``runs/reliability``; with ``--tell`` the sections are written from there and nothing is measured.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from sections import read_sections, stamp, table, write_sections
from sklearn.neural_network.tests import test_rbm

from fuzzing_runs import campaign
from rarefire.component import members
from rarefire.estimators.keeping import versions

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / "runs" / "reliability"
PAGE = ROOT / "docs" / "reliability.md"
KILLS, INPUTS, DIRECTORIES = 20, 100_000, 2000


class Section(ABC):
    """A part of the page: how its numbers are measured, and how they are told."""

    name: str

    @property
    def found(self) -> Path:
        """Where what was measured is kept."""
        return FOUND / f"{self.name}.json"

    @abstractmethod
    def measure(self) -> None:
        """Write :attr:`found`."""

    @abstractmethod
    def tell(self, found: dict[str, Any]) -> list[str]:
        """The section's lines."""


def run(*command: str, **environment: str) -> None:
    """Run a command at the root, on one thread; a failure of it ends this one too."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], cwd=ROOT, env={**os.environ, **one, **environment}, check=True)


def tests(path: Path) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Module, name, outcome and properties of each test in a report of pytest."""
    for case in ElementTree.parse(path).iter("testcase"):
        outcomes = {child.tag for child in case} & {"failure", "error", "skipped"}
        properties = {one.attrib["name"]: one.attrib["value"] for one in case.iter("property")}
        yield case.attrib["classname"], case.attrib["name"], min(outcomes, default="passed"), properties


class Contract(Section):
    """What scikit-learn asks of estimators."""

    name = "contract"

    def measure(self) -> None:
        report = FOUND / "contract.xml"
        files = ["tests/test_contracts.py", "tests/test_estimator_contract.py", "tests/test_sklearn_suite.py"]
        run("-m", "pytest", "-q", "-n", "2", f"--junitxml={report}", *files)
        found: dict[str, Counter[str]] = defaultdict(Counter)
        theirs = set(vars(test_rbm))
        for module, name, outcome, _ in tests(report):
            if name.startswith("test_scikit_learns_contract"):
                kind = "scikit-learn's checks of " + re.split(r"[\[(]", name)[1]
            elif module.endswith("test_sklearn_suite") and name.split("[")[0] in theirs:
                kind = "scikit-learn's own tests of its BernoulliRBM, run on ours"
            elif module.endswith("test_estimator_contract"):
                kind = "tags, clones, frames, pipelines, unions, grid search, parallel fits, same bits"
            else:
                continue
            found[kind][outcome] += 1
        self.found.write_text(json.dumps(found, indent=1) + "\n")

    def tell(self, found: dict[str, Any]) -> list[str]:
        rows = [
            (kind, str(n.get("passed", 0)), str(n.get("failure", 0) + n.get("error", 0)), str(n.get("skipped", 0)))
            for kind, n in found.items()
        ]
        return [
            "## The contract",
            "",
            "`check_estimator` of scikit-learn with no check left out or expected to fail, for every estimator and "
            "every preparation step; scikit-learn's tests of its own machine with the import replaced, but for those "
            "that name private methods or the constants of NumPy's random stream (`tests/test_sklearn_suite.py` gives "
            "the reason of each).",
            "",
            *table(("what", "passed", "failed", "skipped"), rows),
            "",
        ]


class Kills(Section):
    """Real processes that were killed."""

    name = "kills"

    def measure(self) -> None:
        report = FOUND / "kills.xml"
        words = ["-n", "2", "--dist", "loadgroup", "--timeout", "3600", "-k", "killed", f"--junitxml={report}"]
        run("-m", "pytest", "-q", *words, "tests/test_interruptions.py", RAREFIRE_KILLS=str(KILLS))
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for _, name, outcome, properties in tests(report):
            if outcome != "passed":
                raise SystemExit(f"{name}: {outcome}")
            found[properties["configuration"]].update(json.loads(properties["kills"]))
        self.found.write_text(json.dumps(found, indent=1) + "\n")

    def tell(self, found: dict[str, Any]) -> list[str]:
        places = (
            "while Python started",
            "before spec.json",
            "before the first checkpoint",
            "between checkpoints",
            "while it was measured and drawn",
            "at its end",
        )
        rows = [
            (
                name,
                *(str(sum(n for where, n in kills.items() if where.startswith(place))) for place in places),
                str(sum(kills.values())),
            )
            for name, kills in found.items()
        ]
        total = sum(sum(kills.values()) for kills in found.values())
        random = sum(n for kills in found.values() for where, n in kills.items() if where.endswith("at random"))
        return [
            "## Killed runs",
            "",
            f"Processes that SIGKILL ended, {total} in all, {random} of them at random moments and the others between "
            "two checkpoints or before the first, by where the run stood. Each was gone on with by `rarefire resume` "
            "(or begun again, where it had not yet written its `spec.json`) until it was done, and weights, history, "
            "metrics, features, figures and page were then those of a run left alone, byte for byte. "
            "`tests/test_interruptions.py` says what each configuration is.",
            "",
            *table(("run", *places, "kills survived"), rows),
            "",
        ]


class Fuzz(Section):
    """Files and run directories from anywhere."""

    name = "fuzz"

    def measure(self) -> None:
        run("tools/fuzz.py", "--inputs", str(INPUTS), "--seed", "0", "--out", str(self.found))

    def tell(self, found: dict[str, Any]) -> list[str]:
        columns = ("inputs", "accepted", "refused", "failures")
        rows = [
            (
                name,
                *(f"{entry[column]:,}" for column in columns),
                f"{entry['slowest_seconds']:.2f} s",
                f"{entry['most_memory'] / 2**20:.1f} MiB",
            )
            for name, entry in found["loaders"].items()
        ]
        total = sum(entry["inputs"] for entry in found["loaders"].values())
        return [
            "## Input from anywhere",
            "",
            f"{total:,} files, whole and damaged: valid ones of every type, order and layout, and others with bytes "
            "changed, parts cut, repeated or moved, headers that claim too much, damaged contents within whole "
            "archives, names that lead elsewhere. Accepted means read to the end twice with the same fingerprint and "
            "finite values, equal to those that were written where these are known; refused means one sentence that "
            "names the file and what to do. Anything else (a traceback, a library's warning, a value changed without "
            "a word, too much time or memory) is a failure.",
            "",
            *table(("loader", *columns, "slowest", "most memory beyond the start"), rows),
            "",
        ]


class Directories(Section):
    """Run directories from elsewhere."""

    name = "directories"

    def measure(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = campaign(DIRECTORIES, 0, Path(folder))
        self.found.write_text(json.dumps(found, indent=1) + "\n")

    def tell(self, found: dict[str, Any]) -> list[str]:
        columns = ("inputs", "accepted", "refused")
        row = (*(f"{found[column]:,}" for column in columns), str(len(found["failures"])))
        return [
            "## Run directories from elsewhere",
            "",
            "Finished and unfinished runs of every kind in which values of JSON, arrays, metadata, bytes or links were "
            "changed at random (`tests/fuzzing_runs.py`), then loaded, used, shown, drawn and gone on with. Accepted "
            "means that all of it gave what the run unchanged gives, or what the change stands for.",
            "",
            *table((*columns, "failures"), [row]),
            "",
        ]


class Coverage(Section):
    """Lines and branches that tests run through."""

    name = "coverage"

    def measure(self) -> None:
        words = ["-n", "2", "--dist", "loadgroup", "--timeout", "1800", "-m", "not slow", "--cov", "--cov-report="]
        run("-m", "pytest", "-q", *words)
        whole = FOUND / "coverage.full.json"
        run("-m", "coverage", "json", "-q", "-o", str(whole))
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for path, entry in json.loads(whole.read_text())["files"].items():
            part = Path(path).parts[2].removesuffix(".py")
            keys = ("num_statements", "covered_lines", "num_branches", "covered_branches")
            found[part].update({key: entry["summary"][key] for key in keys})
        self.found.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")

    def tell(self, found: dict[str, Any]) -> list[str]:
        whole = Counter[str]()
        for entry in found.values():
            whole.update(entry)

        def row(name: str, entry: dict[str, int]) -> tuple[str, ...]:
            lines, branches = entry["num_statements"], entry["num_branches"]
            return (
                name,
                str(lines),
                f"{100 * entry['covered_lines'] / lines:.1f}%" if lines else "",
                str(branches),
                f"{100 * entry['covered_branches'] / branches:.1f}%" if branches else "",
            )

        rows = [row(f"`{name}`", entry) for name, entry in sorted(found.items()) if entry["num_statements"]]
        return [
            "## Coverage",
            "",
            "Statements and branches of `src/rarefire` that the quick tests (`make test`) run through; the slow "
            "ones of `make check` are not counted.",
            "",
            *table(("", "lines", "covered", "branches", "covered"), [row("**all**", whole), *rows]),
            "",
        ]


class Mutation(Section):
    """Changes to the numerical core that tests notice."""

    name = "mutation"

    def measure(self) -> None:
        run("tools/mutate.py")

    def tell(self, found: dict[str, Any]) -> list[str]:
        keys = ("mutants", "killed", "timed_out", "survived")
        whole = {key: sum(entry[key] for entry in found["modules"].values()) for key in keys}

        def row(name: str, entry: dict[str, int]) -> tuple[str, ...]:
            dead = entry["killed"] + entry["timed_out"]
            return (name, *(str(entry[key]) for key in keys), f"{100 * dead / entry['mutants']:.1f}%")

        rows = [row("**all**", whole), *(row(f"`{name}`", entry) for name, entry in found["modules"].items())]
        survivors = [(f"`{s['module']}`, {s['function']}", s["change"], s["judgement"]) for s in found["survivors"]]
        return [
            "## Mutation of the numerical core",
            "",
            f"Small changes to penalties, units, sampling and objectives by {found['tool']}, one at a time "
            "(`tools/mutate.py` says which), and whether the tests of the core noticed. A change after which tests "
            "do not end counts as noticed and stands apart.",
            "",
            *table(("", "changes", "noticed", "endless", "survived", "score"), rows),
            "",
            "What survived, and what is to be said of it:",
            "",
            *table(("where", "change", "judgement"), survivors),
            "",
        ]


def main(words: Sequence[str]) -> None:
    """Measure what is wanted, or everything, and write the page."""
    sections = {cls.name: cls() for cls in members(Section)}
    wanted = [word for word in words if word != "--tell"] or list(sections)
    if unknown := [name for name in wanted if name not in sections]:
        raise SystemExit(f"there is no section {unknown[0]} (there are: {', '.join(sections)})")
    FOUND.mkdir(parents=True, exist_ok=True)
    written = read_sections(PAGE)
    for name in wanted:
        if "--tell" not in words:
            sections[name].measure()
        written[name] = [*sections[name].tell(json.loads(sections[name].found.read_text())), *stamp(versions())]
    head = [
        "# Reliability",
        "",
        "Written by `python tools/reliability.py`; do not edit.",
        "",
    ]
    write_sections(PAGE, head, written, sections)
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
