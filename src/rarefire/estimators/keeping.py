"""Fitted estimators as files: their arguments, their arrays, and what they need to go on."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from rarefire.artifact import RunDirectory
from rarefire.checkpoint import sealed_bytes
from rarefire.component import to_spec
from rarefire.errors import InputError
from rarefire.parallel import resolve_device


class Keepable(BaseEstimator, ABC):
    """What an estimator writes of itself into a run directory, and takes back from one."""

    #: The fitted arrays that make up the model: attribute name to parameter name.
    parameter_names: ClassVar[dict[str, str]] = {}
    #: The fitted arrays that hold the objective's state, where it has one: attribute name to name in the state.
    state_names: ClassVar[dict[str, str]] = {}

    def _check_fitted_shapes(self, n_features: int) -> None:
        for attribute, shape in self.parameter_shapes(n_features).items():
            if np.shape(getattr(self, attribute)) != shape:
                raise InputError(
                    f"the fitted {attribute} has shape {np.shape(getattr(self, attribute))}, but data and arguments "
                    f"now ask for {shape}; fit a clone instead"
                )

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """The components in use, by the fitted attribute that shows each: copies, or what None stands for."""

    def _set_parts(self) -> None:
        for name, part in self.parts().items():
            setattr(self, name, part)

    def spec(self, seed: int) -> dict[str, Any]:
        """The part of a specification that every run has: arguments, seed, versions, and where it ran.

        ``random_state`` is written as the seed that it was turned into, and the directory does not name itself.
        """
        plain = clone(self).set_params(random_state=seed, checkpoint_dir=None)
        device = str(resolve_device(self.device))
        return {"kind": "array", "estimator": to_spec(plain), "seed": seed, "device": device, "versions": versions()}

    def weights_bytes(self, steps: Sequence[Any] = ()) -> bytes:
        """All fitted state, and that of the preparation steps before it, as one safetensors file."""
        check_is_fitted(self)
        self._check_fitted_shapes(self.n_features_in_)
        more = self._more_arrays(self.n_features_in_)
        if missing := [name for name in more if not hasattr(self, name)]:
            raise InputError(f"{missing[0]} is not fitted, because arguments were changed since; fit again")
        arrays = {name: np.asarray(getattr(self, name)) for name in (*self.parameter_names, *more)}
        arrays["validation_indices_"] = self.validation_indices_
        arrays |= {f"solver/{name}": value.numpy() for name, value in self._solver_state.items()}
        for index, step in enumerate(steps):
            arrays |= {f"prepare/{index}/{name}": np.asarray(getattr(step, name)) for name in step.fitted}
        rest = {
            "n_iter_": self.n_iter_,
            "n_features_in_": self.n_features_in_,
            "seed_": self.seed_,
            "stop_reason_": self.stop_reason_,
            "generator": self._sampler_state,
            "feature_names_in_": [str(name) for name in getattr(self, "feature_names_in_", [])],
        }
        return sealed_bytes(arrays, "fitted", rest)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted estimator as a run directory, without pickle; :func:`rarefire.load` reads it.

        Raises
        ------
        InputError
            If the directory holds something, or an argument cannot be written down.
        """
        weights = self.weights_bytes()
        directory = RunDirectory(path)
        with directory.locked():
            directory.create(self.spec(self.seed_))
            directory.write_history(self.history_)
            self._save_layers(directory)
            directory.finish(weights)

    def _save_layers(self, directory: RunDirectory) -> None:
        """Write the models that this one is made of, before its own weights say that the run is complete."""

    def restore(self, solver_state: dict[str, NDArray], fitted: dict[str, Any], history: list[dict]) -> None:
        """Take back what :meth:`weights_bytes` wrote beside the fitted arrays."""
        self.n_iter_, self.n_features_in_, self.seed_, self.stop_reason_ = (
            fitted[name] for name in ("n_iter_", "n_features_in_", "seed_", "stop_reason_")
        )
        if fitted["feature_names_in_"]:
            self.feature_names_in_ = np.array(fitted["feature_names_in_"], dtype=object)
        self.history_ = history
        self._set_parts()
        self._n_features_out = len(self.components_)
        self._solver_state = {name: torch.from_numpy(array) for name, array in solver_state.items()}
        self._sampler_state = fitted["generator"]

    @abstractmethod
    def parameter_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """The shape that each fitted array of the model must have."""

    def fitted_shapes(self, n_features: int) -> dict[str, tuple[int | None, ...] | None]:
        """The shape of every array that a saved model holds, None where any number will do."""
        return {
            **self.parameter_shapes(n_features),
            **self._more_arrays(n_features),
            "validation_indices_": (None,),
        }

    def _more_arrays(self, n_features: int) -> dict[str, tuple[int | None, ...]]:
        """Fitted arrays beyond the parameters, and their shapes."""
        return {}


def part_or(part: Any, default: Any) -> Any:
    """A copy of a component, or what None stands for."""
    return default if part is None else clone(part)


def versions() -> dict[str, str]:
    """The versions that a run depends on."""
    return {name: metadata.version(name) for name in ("rarefire", "torch", "numpy", "scikit-learn")}
