"""Fitted estimators back from a run directory, and unfinished runs on to their end."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from sklearn.pipeline import Pipeline

from rarefire.artifact import RunDirectory
from rarefire.component import from_spec
from rarefire.errors import InputError
from rarefire.estimators import boltzmann  # noqa: F401 (a run may name any estimator of the package)
from rarefire.estimators.base import SparseLearner
from rarefire.preprocess import Step


def load(path: str | os.PathLike[str]) -> Any:
    """Load a finished run.

    Parameters
    ----------
    path : str or Path
        A directory that ``save``, ``fit`` with ``checkpoint_dir`` or the command line wrote.

    Returns
    -------
    estimator : the fitted estimator
        Where the run prepared its data, a fitted ``sklearn.pipeline.Pipeline`` of the steps and the estimator, so
        that ``transform`` takes raw rows.

    Raises
    ------
    InputError
        If the directory holds no finished run, a damaged one, one of a newer format, or names anything that is not
        part of rarefire.
    """
    estimator, steps = load_parts(RunDirectory(path))
    if not steps:
        return estimator
    named = [(f"prepare{index}", step) for index, step in enumerate(steps)]
    return Pipeline([*named, ("estimator", estimator)])


def load_parts(directory: RunDirectory) -> tuple[SparseLearner, list[Step]]:
    """The fitted estimator of a finished run, and the fitted steps before it."""
    spec = directory.spec()
    if not directory.weights.is_file():
        raise InputError(f"{directory} holds an unfinished run; go on with it by rarefire resume {directory}")
    estimator = from_spec(spec["estimator"], SparseLearner)
    steps = [from_spec(step, Step) for step in spec.get("prepare", [])]
    arrays, fitted = _read(directory)
    _check_shapes(estimator, arrays, fitted, directory)
    for name in list(arrays):
        if "/" not in name:
            setattr(estimator, name, arrays[name])
    for index, step in enumerate(steps):
        for name in step.fitted:
            if f"prepare/{index}/{name}" not in arrays:
                raise InputError(f"{directory.weights} lacks {name} of preparation step {index}; the run is damaged")
            setattr(step, name, arrays[f"prepare/{index}/{name}"])
        step.n_features_in_ = fitted["n_features_in_"]
    estimator.restore(
        {name.removeprefix("solver/"): array for name, array in arrays.items() if name.startswith("solver/")},
        fitted,
        directory.history(),
    )
    return estimator, steps


def _read(directory: RunDirectory) -> tuple[dict[str, NDArray], dict[str, Any]]:
    try:
        with safe_open(directory.weights, framework="numpy") as file:
            fitted = json.loads(file.metadata()["fitted"])
            return {name: file.get_tensor(name) for name in file.keys()}, fitted  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{directory.weights} is damaged ({error}); the run must be made again") from None


def _check_shapes(
    estimator: SparseLearner, arrays: dict[str, NDArray], fitted: dict[str, Any], directory: RunDirectory
) -> None:
    expected = estimator.parameter_shapes(int(fitted["n_features_in_"]))
    for name, shape in expected.items():
        if name not in arrays:
            raise InputError(f"{directory.weights} has no {name}; the run is damaged")
        if arrays[name].shape != shape:
            raise InputError(
                f"{directory.weights} holds {name} of shape {arrays[name].shape}, but {directory}/spec.json asks for "
                f"{shape}; the two do not belong together"
            )
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{directory.weights} holds values in {name} that are not finite; the run is damaged")


def resume(path: str | os.PathLike[str], X: Any = None) -> Any:
    """Go on with an unfinished run until its end, bit for bit as if it had never stopped.

    Parameters
    ----------
    path : str or Path
        The run directory.
    X : array-like, sparse matrix or torch.Tensor
        The data, for a run that ``fit`` began with ``checkpoint_dir``. A run of the command line opens its own.

    Returns
    -------
    estimator : the fitted estimator, as :func:`load` gives it

    Raises
    ------
    InputError
        If there is no run, or ``X`` is not the data that it began with.
    RunError
        If another process is working on it.
    """
    from rarefire import runs  # a run of the command line needs sources, pages and recipes

    directory = RunDirectory(path)
    spec = directory.spec()
    with directory.locked():
        if directory.complete:
            pass
        elif spec["kind"] == "array":
            _resume_array(directory, spec, X)
        else:
            runs.go_on(directory)
    return load(path)


def _resume_array(directory: RunDirectory, spec: dict[str, Any], X: Any) -> None:
    if X is None:
        raise InputError(f"the run {directory} was begun on an array; give it as X")
    estimator = from_spec(spec["estimator"], SparseLearner)
    source = estimator.source_of(X)
    if source.fingerprint != spec["data"]["fingerprint"]:
        raise InputError(f"X is not the data that the run {directory} was begun on: its fingerprint differs")
    split = estimator.split(source.shape[0], spec["seed"])
    estimator.fit_source(source, split, seed=spec["seed"], directory=directory)
    directory.finish(estimator.weights_bytes())
