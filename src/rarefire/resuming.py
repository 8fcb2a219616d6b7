"""Unfinished runs of every kind on to their end."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection
from typing import Any

from rarefire import recipes, runs
from rarefire.artifact import RunDirectory
from rarefire.errors import InputError, Interrupted
from rarefire.estimators.base import SparseLearner
from rarefire.estimators.keeping import versions
from rarefire.estimators.load import built, load
from rarefire.interrupts import interruptible
from rarefire.parallel import ranks
from rarefire.runs import Watch


def resume(path: str | os.PathLike[str], X: Any = None, trusted: Collection[str] = ()) -> Any:
    """Go on with an unfinished run until its end, bit for bit as if it had never stopped.

    Parameters
    ----------
    path : str or Path
        The run directory.
    X : array-like, sparse matrix or torch.Tensor
        The data, for a run that ``fit`` began with ``checkpoint_dir``. A run of the command line opens its own.
    trusted : collection of str
        Modules of yours that the run may name, as for :func:`rarefire.load`.

    Returns
    -------
    estimator : the fitted estimator, as :func:`rarefire.load` gives it

    Raises
    ------
    InputError
        If there is no run, ``X`` is not the data that it began with, or something in it is a link.
    RunError
        If another process is working on it, or it was begun on another kind of device.
    """
    directory = RunDirectory(path, trusted)
    directory.spec()  # seen to be a run before anything is locked
    directory.check_links()
    with ranks().first_holds(directory.locked()), interruptible() as stopped:
        try:
            go_on(directory, Watch(should_stop=stopped), X)
        except Interrupted as error:
            raise KeyboardInterrupt(f"{error}; go on with rarefire.resume({str(path)!r}, X)") from None
    ranks().wait()
    return load(path, trusted)


def go_on(directory: RunDirectory, watch: Watch, X: Any = None) -> None:
    """Bring a run of any kind to its end; nothing happens to one that is complete."""
    spec = directory.spec()
    if spec["kind"] == "arm":
        whole = directory.whole
        if whole is directory:
            raise InputError(f"{directory} is a part of a run that is not there; begin that anew")
        python = whole.spec()["kind"] == "array"
        how = f"rarefire.resume({str(whole)!r}, X) in Python" if python else f"rarefire resume {whole}"
        raise InputError(f"{directory} is a part of the run {whole}; go on with that by {how}")
    if directory.complete:
        return
    if spec["versions"] != (now := versions()):
        changed = [
            f"{name} {spec['versions'].get(name)} to {now[name]}"
            for name in now
            if now[name] != spec["versions"].get(name)
        ]
        warnings.warn(f"since the run began, versions changed ({', '.join(changed)}); bits may differ", stacklevel=3)
    try:
        if spec["kind"] == "recipe":
            recipes.go_on(directory, spec, watch)
        elif spec["kind"] == "fit":
            runs.go_on(directory, spec, watch)
        else:
            _go_on_with_array(directory, spec, X, watch)
    except InputError as error:  # of data and arguments that the user has not given now
        named = re.search(rf"(?<!\w){re.escape(str(directory))}(?!\w)", str(error))
        raise error if named else InputError(f"{directory}: {error}") from None


def _go_on_with_array(directory: RunDirectory, spec: dict[str, Any], X: Any, watch: Watch) -> None:
    if X is None:
        raise InputError(
            f"{directory} was begun from Python on an array; go on with rarefire.resume({str(directory)!r}, X)"
        )
    if spec.get("warm") and not directory.checkpoint.is_file():
        raise InputError(f"{directory} began from fitted weights and has no checkpoint of them; fit again")
    estimator = built(spec["estimator"], SparseLearner, directory)
    source = estimator.source_of(X)
    if source.fingerprint != spec.get("data", {}).get("fingerprint"):
        raise InputError(f"X is not the data that the run {directory} was begun on: its fingerprint differs; give it")
    split = estimator.split(source.shape[0], spec["seed"])
    runs.check_begun(estimator, directory, source.shape[1])
    with runs.memory_said(directory):
        estimator.fit_source(source, split, seed=spec["seed"], directory=directory, should_stop=watch.should_stop)
    directory.finish(estimator.weights_bytes())
