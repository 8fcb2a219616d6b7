"""Two finished runs on one page, from what is on disk."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rarefire.artifact import RunDirectory, writing
from rarefire.errors import InputError
from rarefire.estimators.base import SparseLearner
from rarefire.estimators.load import built
from rarefire.preprocess import Step
from rarefire.report.comparing import Side, build_comparison
from rarefire.runs import n_features_of, parts_of, table_of, title_of

#: What a page of this kind has among its first bytes; nothing else is ever replaced by one.
MARK = b'<meta name="generator" content="rarefire report, two runs">'
#: Arguments that say nothing of what was trained.
_UNTOLD = ("random_state", "verbose", "checkpoint_dir")


def default_output(a: RunDirectory, b: RunDirectory) -> Path:
    """``compare-A-B.html`` beside run A, outside of any run."""
    return _home(a).parent / f"compare-{_name(a)}-{_name(b)}.html"


def write_comparison(a: RunDirectory, b: RunDirectory, output: Path) -> None:
    """Write the page that shows two runs side by side, whole or not at all.

    Raises
    ------
    InputError
        If one is no finished run of the command line, or ``output`` is something that is not to be replaced.
    RunError
        If it cannot be written.
    """
    for run in (a, b):
        run.spec()
        if not run.table.is_file():
            raise InputError(f"{run} holds no finished run of the command line, so there is nothing to compare")
    check_output(output)
    learners = [_learner(run) for run in (a, b)]
    page = build_comparison(
        _side(a, learners[0], output),
        _side(b, learners[1], output),
        either_sign=all(map(_either_sign, learners)),
        cautions=_cautions(a.spec(), b.spec()),
    )
    with writing(output) as beside:
        beside.write_text(page, encoding="utf-8")


def check_output(output: Path) -> None:
    """See that the page may be written.

    Raises
    ------
    InputError
        If the folder is not there, or something stands in the page's place that is no such page.
    """
    if not output.parent.is_dir():
        raise InputError(f"the folder {output.parent} of {output} is not there; make it first")
    if output.is_dir():
        raise InputError(f"{output} is a folder; give the name of a file")
    if output.exists():
        with open(output, "rb") as file:
            if MARK not in file.read(1000):
                raise InputError(
                    f"{output} is no page of two runs, so it is not replaced; give another name (--output)"
                )


def _home(run: RunDirectory) -> Path:
    """The directory of the run, or of the run that it is an arm of."""
    path = run.whole.path
    return path if path.name not in ("", "..") else path.resolve()


def _name(run: RunDirectory) -> str:
    """That of its directory; of an arm, after that of the whole run, for arms of many runs have the same."""
    own, whole = run.path.resolve().name, run.whole.path.resolve().name
    return own if run.path == run.whole.path else f"{whole}-{own}"


def _learner(run: RunDirectory) -> SparseLearner:
    return built(run.spec()["estimator"], SparseLearner, run)


def _either_sign(learner: SparseLearner) -> bool:
    """Whether a component and its negative stand for one feature: by the activation; a machine has none."""
    activation = learner.parts().get("activation_")
    return activation is not None and activation.either_sign


def _side(run: RunDirectory, learner: SparseLearner, output: Path) -> Side:
    spec = run.spec()
    if "data" not in spec:
        raise InputError(f"{run}/spec.json says nothing of the data, so there is nothing to compare; fit again")
    data, recipe, name = spec["data"], spec.get("recipe"), type(learner).__name__
    arguments = {key: value for key, value in learner.get_params(deep=False).items() if key not in _UNTOLD}
    defaults = inspect.signature(type(learner)).parameters
    changed = {key: value for key, value in arguments.items() if _text(value) != _text(defaults[key].default)}
    steps = ", then ".join(_text(built(step, Step, run)) for step in spec.get("prepare", [])) or "none"
    rows = f"{data['n_rows']:,} rows of {data['n_features']:,} columns"
    settings = {
        **({"recipe": f"{recipe['name']}, preset {recipe['preset']}"} if recipe else {}),
        "estimator": name,
        **{key: _text(value) for key, value in arguments.items()},
        **parts_of(learner),
        "data": data["name"],
        "size of the data": rows,
        "what was done to them": data["notes"] or "nothing",
        "data fingerprint": data["fingerprint"],
        "preparation": steps,
        "seed": str(spec["seed"]),
        **{f"version of {key}": version for key, version in spec["versions"].items()},
    }
    return Side(
        name=_name(run),
        title=title_of(spec),
        facts=[
            ("Estimator", f"{name}({', '.join(f'{key}={_text(value)}' for key, value in changed.items())})"),
            ("Data", f"{data['name']}: {rows}"),
            ("Preparation", steps),
            ("Seed", str(spec["seed"])),
        ],
        settings=settings,
        history=run.history(),
        cost_label=learner.cost_unit,
        metrics=run.metrics(),
        table=table_of(run, n_features_of(learner)),
        link=quote(os.fsencode(os.path.relpath(run.page, output.parent))) if run.page.is_file() else None,
    )


def _text(value: Any) -> str:
    """A value as Python writes it, on one line."""
    return " ".join(repr(value).split())


def _cautions(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What makes the columns of two runs differ although they bear the same names."""
    of_a, of_b = a.get("prepare"), b.get("prepare")
    if of_a != of_b:
        return ["The rows were prepared differently: a cosine compares weights on values as each run saw them."]
    if of_a and a["data"]["fingerprint"] != b["data"]["fingerprint"]:
        return ["The preparation was fitted to other data in B than in A, so that columns may stand for other things."]
    return []
