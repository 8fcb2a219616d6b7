"""Fitted estimators back from a run directory."""

from __future__ import annotations

import json
import os
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from sklearn.pipeline import Pipeline

from rarefire.artifact import RunDirectory
from rarefire.component import from_spec
from rarefire.errors import InputError
from rarefire.estimators import autoencoder, boltzmann, gaussian  # noqa: F401 (a run may name any estimator of the package)
from rarefire.estimators.base import SparseLearner
from rarefire.estimators.deep import DeepBeliefNetwork
from rarefire.preprocess import Step

T = TypeVar("T")

#: What the weights file says beside its arrays.
_FITTED: dict[str, type] = {
    "n_iter_": int,
    "n_features_in_": int,
    "seed_": int,
    "stop_reason_": str,
    "generator": dict,
    "feature_names_in_": list,
}


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


def built(spec: Any, family: type[T], directory: RunDirectory) -> T:
    """What a part of a specification stands for, seen to be of the family that it should be.

    Raises
    ------
    InputError
        If it names something outside rarefire, or cannot be understood.
    """
    try:
        part = from_spec(spec, family)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{directory}/spec.json cannot be understood ({error}); the run must be made again") from None
    except InputError as error:
        raise InputError(f"{directory}/spec.json: {error}") from None
    if not isinstance(part, family):
        raise InputError(f"{directory}/spec.json holds {part!r} where the run's parts should stand; make the run again")
    return part


def load_parts(directory: RunDirectory) -> tuple[SparseLearner, list[Step]]:
    """The fitted estimator of a finished run, and the fitted steps before it."""
    spec = directory.spec()
    if not directory.weights.is_file():
        raise InputError(f"{directory} holds an unfinished run; {directory.way_on} goes on with it")
    estimator = built(spec["estimator"], SparseLearner, directory)
    steps = [built(step, Step, directory) for step in spec.get("prepare", [])]
    arrays, fitted = _read(directory)
    expected = estimator.fitted_shapes(fitted["n_features_in_"])
    for index, step in enumerate(steps):
        expected |= {f"prepare/{index}/{name}": None for name in step.fitted}
    _check(arrays, expected, directory)
    # Only what the estimator is known to have: the names in a file from elsewhere decide nothing.
    for name in expected:
        head, _, tail = name.partition("/")
        number, _, attribute = tail.partition("/")
        setattr(steps[int(number)] if tail else estimator, attribute or head, arrays[name])
    columns = spec["data"]["n_features"] if steps else fitted["n_features_in_"]
    for step in steps:
        step.n_features_in_ = columns
        columns = step.n_outputs
    if isinstance(estimator, DeepBeliefNetwork):
        estimator.machines_ = [load_parts(directory.layer(name))[0] for name, _ in estimator.named]
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
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, no dictionary)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{directory.weights} is damaged ({error}); the run must be made again") from None
    for name, kind in _FITTED.items():
        if not isinstance(fitted, dict) or not isinstance(fitted.get(name), kind):
            raise InputError(f"{directory.weights} has no valid {name}; the run is damaged and must be made again")
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
        if array.dtype.kind not in "fi" or not np.isfinite(array).all():
            raise InputError(f"{directory.weights} holds values in {name} that are no finite numbers; it is damaged")
