"""Fitted estimators back from a run directory."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from rarefire.arguments import check
from rarefire.artifact import RunDirectory, unfit
from rarefire.checkpoint import read_sealed
from rarefire.component import from_spec
from rarefire.data.source import Description
from rarefire.errors import InputError
from rarefire.estimators import autoencoder, boltzmann, gaussian  # noqa: F401 (a run may name any estimator of the package)
from rarefire.estimators.base import SparseLearner
from rarefire.estimators.deep import DeepBeliefNetwork
from rarefire.estimators.machine import RestrictedBoltzmannMachine
from rarefire.parallel import resolve_device
from rarefire.preprocess import Step

T = TypeVar("T")

#: What the weights file says beside its arrays.
_FITTED: dict[str, Any] = {
    "n_iter_": int,
    "n_features_in_": int,
    "seed_": int,
    "stop_reason_": str,
    "generator": dict,
    "feature_names_in_": list,
}


def load(path: str | os.PathLike[str], trusted: Collection[str] = ()) -> Any:
    """Load a finished run.

    Parameters
    ----------
    path : str or Path
        A directory that ``save``, ``fit`` with ``checkpoint_dir`` or the command line wrote.
    trusted : collection of str
        Modules of yours that the run may name, such as ``["my_penalties"]``, and packages with what is below them: they
        are imported, which executes them. No other is, whatever the directory holds.

    Returns
    -------
    estimator : the fitted estimator
        Where the run prepared its data, a fitted ``sklearn.pipeline.Pipeline`` of the steps and the estimator, so
        that ``transform`` takes raw rows. Where the run's device is not here, ``device`` is ``"auto"``, and a warning
        says so.

    Raises
    ------
    InputError
        If the directory holds no finished run, a damaged one, one of a newer format, or names anything that is neither
        part of rarefire nor trusted.
    """
    estimator, steps = load_parts(RunDirectory(path, trusted))
    if not steps:
        return estimator
    named = [(f"prepare{index}", step) for index, step in enumerate(steps)]
    return Pipeline([*named, ("estimator", estimator)])


def built(spec: Any, family: type[T], directory: RunDirectory) -> T:
    """What a part of a specification stands for, seen to be of the family that it should be and fit for use.

    Raises
    ------
    InputError
        If it names something outside rarefire that is not trusted, has arguments that cannot be used, or cannot be
        understood.
    """
    file = f"{directory}/spec.json"
    remedy = ""
    try:
        part = from_spec(spec, family, directory.trusted)
        remedy = " (the run must be made again)"
        if isinstance(part, family):
            _check_arguments(part)
    except InputError as error:
        raise InputError(f"{file}: {_brief(error)}{remedy}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{file} cannot be understood ({_brief(error)}); the run must be made again") from None
    if not isinstance(part, family):
        raise InputError(f"{file} names no class where one should stand; the run must be made again")
    return part


def _brief(error: Exception) -> str:
    """What an error says; a value that it cites may be as long as the file."""
    words = str(error)
    return words if len(words) <= 1000 else f"{words[:500]} ... {words[-500:]}"


def _check_arguments(part: Any) -> None:
    """Refuse arguments that cannot be used on any machine, or that would write elsewhere."""
    check(part)
    if not isinstance(part, SparseLearner):
        return
    anywhere = clone(part)
    for name, value in anywhere.get_params().items():
        kind = name.rpartition("__")[2]
        if kind == "checkpoint_dir" and value is not None:
            raise InputError(f"{name}={value!r} names another directory")
        if kind == "verbose" and not isinstance(value, (int, float)):
            raise InputError(f"{name}={value!r} must be a number")
        if kind == "random_state" and value is not None and (type(value) is not int or value < 0):
            raise InputError(f"{name}={value!r} must be a whole number of at least 0, or None")
        if kind == "device":
            # What was trained on a device that is not here is loaded all the same.
            if value != "auto":
                torch.device(value)
            anywhere.set_params(**{name: "cpu"})
    anywhere.check_arguments()


def _bring_here(estimator: SparseLearner) -> None:
    """Let what was trained on a device that is not here compute on one that is."""
    try:
        resolve_device(estimator.device)
    except InputError:
        warnings.warn(
            f"since the run began, its device {estimator.device!r} has gone; what it learned is used on "
            f"{resolve_device('auto').type!r}",
            stacklevel=2,
        )
        estimator.set_params(device="auto")


def load_parts(directory: RunDirectory, family: type[Any] = SparseLearner) -> tuple[Any, list[Step]]:
    """The fitted estimator of a finished run, of a family, and the fitted steps before it."""
    spec = directory.spec()
    if not directory.weights.is_file():
        raise InputError(f"{directory} holds an unfinished run; {directory.way_on} goes on with it")
    estimator = built(spec["estimator"], family, directory)
    steps = [built(step, Step, directory) for step in spec.get("prepare", [])]
    _bring_here(estimator)
    arrays, fitted = _read(directory)
    n_features = fitted["n_features_in_"]
    expected = estimator.fitted_shapes(n_features)
    for index, step in enumerate(steps):
        expected |= {f"prepare/{index}/{name}": None for name in step.fitted}
    solver = {name: array for name, array in arrays.items() if name.startswith("solver/")}
    _check(arrays, expected | dict.fromkeys(solver), directory)
    if len({arrays[name].dtype for name in estimator.parameter_names}) > 1:
        raise InputError(
            f"{directory.weights} holds weights of several types; the run is damaged and must be made again"
        )
    # Only what the estimator is known to have: the names in a file from elsewhere decide nothing.
    for name in expected:
        head, _, tail = name.partition("/")
        number, _, attribute = tail.partition("/")
        setattr(steps[int(number)] if tail else estimator, attribute or head, arrays[name])
    columns = spec["data"]["n_features"] if "data" in spec else n_features
    for step in steps:
        step.n_features_in_ = columns
        columns = _n_outputs(step, columns, directory)
    if columns != n_features:
        raise InputError(
            f"{directory.weights} is of {n_features} columns, but {directory}/spec.json of {columns}; the two do not "
            "belong together"
        )
    if isinstance(estimator, DeepBeliefNetwork):
        estimator.machines_ = machines_of(estimator, directory, n_features)
        for name, _ in estimator.named[len(estimator.machines_) :]:
            raise InputError(
                f"{directory.layer(name)} holds no finished machine; the run {directory} must be made again"
            )
    history = directory.history()
    n_epochs = fitted["n_iter_"] - sum(machine.n_iter_ for machine in getattr(estimator, "machines_", ()))
    if len(history) != n_epochs:
        raise InputError(
            f"{directory}/history.jsonl holds {len(history)} epochs, but {directory.weights} is of {n_epochs}; the two "
            "do not belong together"
        )
    estimator.restore({name.removeprefix("solver/"): array for name, array in solver.items()}, fitted, history)
    estimator._described = _described(spec, steps)
    return estimator, steps


def _described(spec: dict[str, Any], steps: list[Step]) -> Description | None:
    """What the rows are that the estimator was given, where the run says it."""
    if "data" not in spec:
        return None
    known = {field.name for field in fields(Description)}
    description = Description.from_json({key: value for key, value in spec["data"].items() if key in known})
    for step in steps:
        description = step.describe(description)
    return description


def machines_of(network: DeepBeliefNetwork, directory: RunDirectory, n_features: int) -> list[Any]:
    """The fitted machines of a deep network that stand in the directory's layers, the lowest first.

    Raises
    ------
    InputError
        If one is damaged, or not the one that the network is made of.
    """
    machines: list[Any] = []
    for name, given in network.named:
        place = directory.layer(name)
        if not place.complete:
            break
        machine, steps = load_parts(place, RestrictedBoltzmannMachine)
        shape = (given.n_components, n_features)
        if type(machine) is not type(given) or machine.components_.shape != shape or steps:
            raise InputError(
                f"{place} holds a {type(machine).__name__} of shape {machine.components_.shape}, but "
                f"{directory}/spec.json asks for a {type(given).__name__} of shape {shape}; the two do not belong "
                "together"
            )
        machines.append(machine)
        n_features = given.n_components
    return machines


def _n_outputs(step: Step, columns: int, directory: RunDirectory) -> int:
    """How many columns a loaded step makes of so many, seen by giving it rows."""
    shape = getattr(step, "shape_", (columns,))
    try:
        if columns > directory.weights.stat().st_size:
            raise ValueError(f"the file is too small for {columns} columns")
        # A filter as large as the shape says is made from it.
        if math.prod(map(int, shape)) != columns or min(shape) < 1:
            raise ValueError(f"rows of shape {tuple(map(int, shape))} have not {columns} values")
        rows = np.outer([0.0, 0.5, 1.0], np.ones(columns))
        with np.errstate(all="ignore"):
            made = step.apply(rows)
        if made.shape != (len(rows), step.n_outputs) or not np.isfinite(made).all():
            raise ValueError(f"{columns} columns become values of shape {made.shape}, or infinite")
        return step.n_outputs
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{directory.weights} holds a {type(step).__name__} that does not fit the data of {directory}/spec.json "
            f"({error}); the two do not belong together"
        ) from None


def _read(directory: RunDirectory) -> tuple[dict[str, NDArray], dict[str, Any]]:
    try:
        arrays, fitted = read_sealed(directory.weights, "fitted")
    except ValueError as error:
        raise InputError(f"{directory.weights} is damaged ({error}); the run must be made again") from None
    bad = unfit(fitted, _FITTED)
    if bad is None:
        names = fitted["feature_names_in_"]
        for name, fits in (
            ("n_iter_", fitted["n_iter_"] >= 0),
            ("n_features_in_", fitted["n_features_in_"] > 0),
            ("seed_", fitted["seed_"] >= 0),
            ("feature_names_in_", all(isinstance(one, str) for one in names)),
            ("feature_names_in_", not names or len(names) == fitted["n_features_in_"]),
        ):
            bad = bad if fits else name
    if bad is not None:
        raise InputError(f"{directory.weights} has no valid {bad}; the run is damaged and must be made again")
    return arrays, fitted


def _check(
    arrays: dict[str, NDArray], expected: dict[str, tuple[int | None, ...] | None], directory: RunDirectory
) -> None:
    for name, shape in expected.items():
        if name not in arrays:
            raise InputError(f"{directory.weights} has no {name}; the run is damaged and must be made again")
        array = arrays[name]
        if shape is not None and (
            array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True))
        ):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise InputError(
                f"{directory.weights} holds {name} of shape {array.shape}, but {directory}/spec.json asks for "
                f"({wanted}); the two do not belong together"
            )
        # Weights are floats; positions and counts are whole numbers, and none is negative.
        whole = name == "validation_indices_" or (shape is None and array.dtype == np.int64)
        wide = array.dtype in ((np.int64,) if whole else (np.float32, np.float64))
        if not wide or not np.isfinite(array).all() or (whole and (array < 0).any()):
            raise InputError(
                f"{directory.weights} holds values in {name} that are no finite numbers of its type; it is damaged and "
                "must be made again"
            )
