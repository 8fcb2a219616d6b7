"""Unfinished runs of every kind on to their end."""

from __future__ import annotations

import os
import warnings
from typing import Any

from rarefire import recipes, runs
from rarefire.artifact import RunDirectory
from rarefire.errors import InputError
from rarefire.estimators.base import SparseLearner
from rarefire.estimators.keeping import versions
from rarefire.estimators.load import built, load
from rarefire.runs import Watch


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
    estimator : the fitted estimator, as :func:`rarefire.load` gives it

    Raises
    ------
    InputError
        If there is no run, or ``X`` is not the data that it began with.
    RunError
        If another process is working on it, or it was begun on another kind of device.
    """
    directory = RunDirectory(path)
    directory.spec()  # seen to be a run before anything is locked
    with directory.locked():
        go_on(directory, Watch(), X)
    return load(path)


def go_on(directory: RunDirectory, watch: Watch, X: Any = None) -> None:
    """Bring a run of any kind to its end; nothing happens to one that is complete."""
    spec = directory.spec()
    if spec["kind"] == "arm":
        whole = directory.path.parent.parent
        raise InputError(f"{directory} is a part of the run {whole}; go on with that by rarefire resume {whole}")
    if directory.complete:
        return
    if spec["versions"] != (now := versions()):
        changed = [
            f"{name} {spec['versions'].get(name)} to {now[name]}"
            for name in now
            if now[name] != spec["versions"].get(name)
        ]
        warnings.warn(f"since the run began, versions changed ({', '.join(changed)}); bits may differ", stacklevel=3)
    if spec["kind"] == "recipe":
        recipes.go_on(directory, spec, watch)
    elif spec["kind"] == "fit":
        runs.go_on(directory, spec, watch)
    else:
        _go_on_with_array(directory, spec, X)


def _go_on_with_array(directory: RunDirectory, spec: dict[str, Any], X: Any) -> None:
    if X is None:
        raise InputError(
            f"{directory} was begun from Python on an array; go on with rarefire.resume({str(directory)!r}, X)"
        )
    if spec.get("warm") and not directory.checkpoint.is_file():
        raise InputError(f"{directory} began from fitted weights and has no checkpoint of them; fit again")
    estimator = built(spec["estimator"], SparseLearner, directory)
    source = estimator.source_of(X)
    if source.fingerprint != spec.get("data", {}).get("fingerprint"):
        raise InputError(f"X is not the data that the run {directory} was begun on: its fingerprint differs")
    split = estimator.split(source.shape[0], spec["seed"])
    estimator.fit_source(source, split, seed=spec["seed"], directory=directory)
    directory.finish(estimator.weights_bytes())
