"""What both families of estimators share: from data to a fitted object, and to a run directory."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import metadata
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as safetensors_bytes
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from rarefire.artifact import RunDirectory
from rarefire.checkpoint import TrainState
from rarefire.component import members, to_spec
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError, RunError
from rarefire.events import EpochEnded, Event, Listener
from rarefire.objectives import Objective
from rarefire.parallel import resolve_device
from rarefire.random import Generator, integer_seed
from rarefire.schedules import Schedule
from rarefire.solvers import Solver
from rarefire.trainer import EarlyStopping, Trainer
from rarefire.types import Tensors, tensor_of

#: Rows that an epoch's record is computed on, of the training part and of the held-out part each.
EVALUATION_ROWS = 1000

#: Rows that are transformed at a time.
CHUNK = 4096


class Split(NamedTuple):
    """Positions of the training rows and of the held-out rows."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


class SparseLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """Estimator that learns features from rows; both families inherit it."""

    #: What a user calls the family.
    called: ClassVar[str] = "estimator"
    #: Which arguments are components, and of which family.
    component_families: ClassVar[dict[str, type]] = {}
    #: The fitted arrays that make up the model: attribute name to parameter name.
    parameter_names: ClassVar[dict[str, str]] = {}
    #: Allowed arguments: least integers; ranges of numbers as (low, high, whether low is excluded); choices;
    #: and those that may be None.
    _at_least: ClassVar[dict[str, int]] = {}
    _between: ClassVar[dict[str, tuple[float, float, bool]]] = {}
    _choices: ClassVar[dict[str, tuple[Any, ...]]] = {}
    _optional: ClassVar[frozenset[str]] = frozenset()
    #: What an unit of the held-out cost is called.
    cost_unit: ClassVar[str] = ""

    # What a family defines ------------------------------------------------------------------------------------

    @abstractmethod
    def _initial(self, n_features: int, dtype: torch.dtype, generator: Generator) -> Tensors:
        """Parameters to begin with."""

    @abstractmethod
    def _model_of(self, parameters: Tensors) -> Any:
        """The model with these parameters."""

    @abstractmethod
    def _objective(self) -> Objective:
        """What training follows."""

    @abstractmethod
    def _objective_state(self, n_rows: int, dtype: torch.dtype, device: torch.device, carry: bool) -> Tensors:
        """The objective's state before the first update; with ``carry`` that of the fitted estimator."""

    @abstractmethod
    def _solver(self) -> Solver:
        """How training follows it."""

    @abstractmethod
    def _record(self, model: Any, train: torch.Tensor, held_out: torch.Tensor | None, generator: Generator) -> dict:
        """The numbers of an epoch's record, on rows of both parts."""

    @abstractmethod
    def measure(self, train: Source, held_out: Source | None) -> list[dict[str, Any]]:
        """The entries of ``metrics.json`` for a fitted estimator, on all rows of both parts."""

    @abstractmethod
    def codes_and_active(self, rows: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """Codes of shape (n_rows, n_components), and which of them count as active."""

    @abstractmethod
    def check_values(self, source: Source) -> str | None:
        """A sentence on why values of a source do not suit this estimator, or None where they do."""

    def _advice(self) -> str:
        return "; lower learning_rate"

    # Fitting --------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> Any:
        """Fit the model to data.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The rows; sparse ones are made dense a batch at a time.
        y : None
            Ignored, there for scikit-learn's pipelines.

        Returns
        -------
        self : the fitted estimator

        Raises
        ------
        InputError
            If an argument cannot be used, or ``checkpoint_dir`` holds another run.
        RunError
            If training diverged.
        """
        source = self.source_of(X, reset=True)
        seed = integer_seed(self.random_state)
        self.check_arguments()
        split = self.split(source.shape[0], seed)
        if self.checkpoint_dir is None:
            return self.fit_source(source, split, seed=seed)
        directory = RunDirectory(self.checkpoint_dir)
        with directory.locked():
            spec = {
                "kind": "array",
                "estimator": self._spec(seed),
                "data": {"fingerprint": source.fingerprint, **source.description.to_json()},
                "seed": seed,
                "versions": versions(),
            }
            directory.create(spec)
            self.fit_source(source, split, seed=seed, directory=directory)
            directory.finish(self.weights_bytes())
        return self

    def split(self, n_rows: int, seed: int) -> Split:
        """Positions of training and held-out rows, drawn by the seed; no row is held out without a fraction.

        Raises
        ------
        InputError
            If no row would be left on one side.
        """
        fraction: Any = self.validation_fraction
        if fraction is None:
            fraction = 0.1 if self.early_stopping else 0.0
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction < 1:
            raise InputError(f"validation_fraction={fraction!r} must lie in [0, 1)")
        if fraction == 0:
            if self.early_stopping:
                raise InputError("early_stopping needs held-out rows; give a validation_fraction above 0")
            return Split(np.arange(n_rows), np.arange(0))
        n_held_out = round(fraction * n_rows)
        if not 0 < n_held_out < n_rows:
            raise InputError(
                f"validation_fraction={fraction} of {n_rows} rows leaves {n_held_out} rows held out and "
                f"{n_rows - n_held_out} for training; give more rows or another fraction"
            )
        order = Generator(seed, "split").permutation(n_rows)
        return Split(np.sort(order[n_held_out:]), np.sort(order[:n_held_out]))

    def fit_source(
        self,
        source: Source,
        split: Split,
        *,
        seed: int,
        directory: RunDirectory | None = None,
        listeners: Sequence[Listener] = (),
        should_stop: Callable[[], bool] = lambda: False,
        checkpoint_every: float = 30.0,
    ) -> Any:
        """Fit to the training rows of a source, going on from the directory's checkpoint if there is one.

        Parameters
        ----------
        source : Source
            All rows, prepared.
        split : Split
            Which are for training, which held out.
        seed : int
            Fixes every random number of the fit.
        directory : RunDirectory, optional
            Where history and checkpoints go.
        listeners, should_stop, checkpoint_every
            See :class:`rarefire.trainer.Trainer`.
        """
        self.check_arguments()
        device = resolve_device(self.device)
        dtype = torch.float64 if source.dtype == np.float64 else torch.float32
        train = source.subset(split.train) if len(split.held_out) else source
        held_out = source.subset(split.held_out) if len(split.held_out) else None
        n_features = source.shape[1]
        generator = Generator(seed, "sample", device=device)
        trainer = self._trainer(train, held_out, seed, device, self.n_iter)

        history: list[dict[str, Any]] = []
        if directory is not None and directory.checkpoint.is_file():
            state = TrainState.read(directory.checkpoint, device)
            self._check_state(state, n_features, directory)
            history = directory.cut_history(state.epoch)
        else:
            warm = self.warm_start and hasattr(self, "components_")
            initial = Generator(seed, "initial")
            parameters = self._parameters(device) if warm else self._initial(n_features, dtype, initial)
            parameters = {name: value.to(device, dtype, copy=True) for name, value in parameters.items()}
            state = TrainState(
                parameters,
                trainer.solver.initial(parameters),
                objective=self._objective_state(train.shape[0], dtype, device, carry=warm),
            )
            if directory is not None:
                directory.cut_history(0)
                if warm:  # spec.json does not hold the weights that training begins with
                    state.generator = generator.state()
                    directory.write_checkpoint(state.to_bytes())

        def remember(event: Event) -> None:
            if isinstance(event, EpochEnded):
                history.append(event.record)
                if directory is not None:
                    directory.append_history(event.record, event.seconds)

        save = None
        if directory is not None:

            def save(state: TrainState) -> None:
                directory.write_checkpoint(state.to_bytes())

        said = [self._say] if self.verbose else []
        trainer.run(
            state,
            train,
            generator,
            listeners=[remember, *said, *listeners],
            save=save,
            save_every=checkpoint_every,
            should_stop=should_stop,
        )
        self._take(trainer.result(state), state, generator)
        self.n_features_in_ = n_features
        self.n_iter_ = state.epoch
        self.history_ = history
        self.seed_ = seed
        self.validation_indices_ = split.held_out
        return self

    def _check_state(self, state: TrainState, n_features: int, directory: RunDirectory) -> None:
        """See that a checkpoint is of this estimator and of rows with this many columns."""
        for attribute, shape in self.parameter_shapes(n_features).items():
            found = state.parameters.get(self.parameter_names[attribute])
            if found is None or tuple(found.shape) != shape:
                raise RunError(
                    f"the checkpoint {directory.checkpoint} does not belong to {directory}/spec.json, which asks for "
                    f"{attribute} of shape {shape}; start the run again with --overwrite"
                )

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Make one update on all rows of ``X`` together.

        The first call draws the initial weights; every later one goes on with the velocity, the chains and the
        random numbers of the one before.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored.

        Returns
        -------
        self : the estimator

        Raises
        ------
        InputError
            If an argument speaks of the whole course of a fit (a schedule, averaging), which has no meaning here.
        RunError
            If the weights are no longer finite.
        """
        self.check_arguments()
        for name in ("learning_rate", "momentum"):
            if isinstance(value := getattr(self, name), Schedule):
                raise InputError(
                    f"partial_fit knows no last epoch, so {name}={value!r} has no meaning; give a number and change it "
                    "with set_params between calls"
                )
        if self.averaging is not None:
            raise InputError("partial_fit knows no epochs to average over; set averaging=None")
        first = not hasattr(self, "components_")
        source = self.source_of(X, reset=first)
        device = resolve_device(self.device)
        dtype = torch.float64 if source.dtype == np.float64 else torch.float32
        if first:
            self.seed_ = integer_seed(self.random_state)
            initial = self._initial(source.shape[1], dtype, Generator(self.seed_, "initial"))
        else:
            initial = self._parameters("cpu")
            dtype = initial["weight"].dtype
        parameters = {name: value.to(device, copy=True) for name, value in initial.items()}
        generator = Generator(self.seed_, "sample", device=device)
        if not first:
            generator.set_state(self._sampler_state)
        trainer = self._trainer(source, None, self.seed_, device, 1)
        solver_state = {name: value.to(device) for name, value in getattr(self, "_solver_state", {}).items()}
        state = TrainState(
            parameters,
            solver_state or trainer.solver.initial(parameters),
            objective=self._objective_state(source.shape[0], dtype, device, carry=not first),
        )
        batch = tensor_of(source.rows(slice(None)), device).to(dtype)
        trainer.update(state, batch, generator, 0.0)
        trainer.check(state)
        self._take(state.parameters, state, generator)
        if first:
            self.n_iter_, self.history_, self.validation_indices_ = 0, [], np.arange(0)
        return self

    def _say(self, event: Event) -> None:
        """What ``verbose`` prints after each epoch."""
        if isinstance(event, EpochEnded):
            epoch, cost = event.record["epoch"], event.record["cost"]
            name = type(self).__name__
            sys.stdout.write(f"[{name}] Iteration {epoch}, cost = {cost:.4g}, time = {event.seconds:.2f}s\n")

    def _trainer(
        self, train: Source, held_out: Source | None, seed: int, device: torch.device, n_epochs: int
    ) -> Trainer:
        # The rows that every epoch is measured on are drawn once, so that curves are not shaken by their choice.
        def some(source: Source) -> torch.Tensor:
            chosen = Generator(seed, "evaluation rows").permutation(source.shape[0])[:EVALUATION_ROWS]
            return tensor_of(source.rows(np.sort(chosen)), device)

        rows: list[torch.Tensor | None] = []

        def evaluate(model: Any, epoch: int) -> dict[str, float]:
            if not rows:
                rows.extend([some(train), None if held_out is None else some(held_out)])
            generator = Generator(seed, "evaluation", epoch, device=device)
            return self._record(model, rows[0], rows[1], generator)  # type: ignore[arg-type]

        stopping = EarlyStopping("validation_cost", self.tol, self.n_iter_no_change) if self.early_stopping else None
        return Trainer(
            name=type(self).__name__,
            model_of=self._model_of,
            objective=self._objective(),
            solver=self._solver(),
            evaluate=evaluate,
            n_epochs=n_epochs,
            batch_size=self.batch_size,
            averaging=self.averaging,
            early_stopping=stopping,
            seed=seed,
            device=device,
            advice=self._advice(),
        )

    def _take(self, parameters: Tensors, state: TrainState, generator: Generator) -> None:
        """Set the fitted attributes from tensors."""
        for attribute, name in self.parameter_names.items():
            setattr(self, attribute, parameters[name].detach().cpu().numpy())
        self._n_features_out = len(self.components_)
        self._solver_state = {name: value.cpu() for name, value in state.solver.items()}
        self._sampler_state = generator.state()

    def _parameters(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensors:
        """The fitted attributes as tensors."""
        return {
            name: tensor_of(np.asarray(getattr(self, attribute)), device).to(dtype)
            for attribute, name in self.parameter_names.items()
        }

    def fitted_model(self, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Any:
        """The model behind the fitted attributes."""
        check_is_fitted(self)
        return self._model_of(self._parameters(device, dtype))

    def __sklearn_tags__(self) -> Any:
        """Sparse rows are taken; float types are kept."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # Using --------------------------------------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """Codes of the rows of ``X``.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        codes : ndarray or torch.Tensor of shape (n_samples, n_components)
            Of the type and on the device of ``X``.
        """
        return self._map_rows(X, lambda model, rows: model.hidden_mean(rows))

    def inverse_transform(self, X: Any) -> Any:
        """Reconstructions from codes.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_components)
            The codes.

        Returns
        -------
        rows : ndarray or torch.Tensor of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        return self._map_rows(X, lambda model, codes: model.visible_mean(codes), columns=len(self.components_))

    def _map_rows(
        self, X: Any, function: Callable[[Any, torch.Tensor], torch.Tensor], columns: int | None = None
    ) -> Any:
        """Apply a function of (model, rows) to ``X`` a chunk at a time and answer in kind."""
        check_is_fitted(self)
        if isinstance(X, torch.Tensor):
            rows = self._checked_tensor(X, columns or self.n_features_in_)
            return function(self.fitted_model(rows.dtype, rows.device), rows)
        if columns is None:
            X = validate_data(self, X, accept_sparse="csr", reset=False, dtype=(np.float64, np.float32))
        else:
            X = check_array(X, dtype=(np.float64, np.float32))
            if X.shape[1] != columns:
                raise InputError(f"X has {X.shape[1]} columns, but {type(self).__name__} has {columns} components")
        model = self.fitted_model(torch.float64 if X.dtype == np.float64 else torch.float32)
        out: NDArray | None = None
        for start in range(0, X.shape[0], CHUNK):
            chunk = X[start : start + CHUNK]
            chunk = chunk.toarray() if sp.issparse(chunk) else np.ascontiguousarray(chunk)
            piece = function(model, tensor_of(chunk)).numpy()
            if out is None:
                out = np.empty((X.shape[0], *piece.shape[1:]), piece.dtype)
            out[start : start + CHUNK] = piece
        return out

    @staticmethod
    def _checked_tensor(X: torch.Tensor, columns: int) -> torch.Tensor:
        if X.ndim != 2 or X.shape[1] != columns or len(X) == 0:
            raise InputError(f"X is a tensor of shape {tuple(X.shape)}; expected (n_samples, {columns})")
        rows = X.detach() if X.dtype in (torch.float32, torch.float64) else X.detach().to(torch.float32)
        if not bool(torch.isfinite(rows).all()):
            raise InputError("X holds values that are not finite (NaN or infinity); remove or replace them")
        return rows

    def source_of(self, X: Any, *, reset: bool = True) -> Source:
        """Validated data as a source; warns once of values that do not suit the estimator."""
        if isinstance(X, torch.Tensor):
            X = X.detach().to("cpu", torch.float64 if X.dtype == torch.float64 else torch.float32).numpy()
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=reset)
        names = getattr(self, "feature_names_in_", None)
        description = (
            Description("array") if names is None else Description("array", "named", None, tuple(map(str, names)))
        )
        source = ArraySource(X, description)
        if (sentence := self.check_values(source)) is not None:
            warnings.warn(sentence, UserWarning, stacklevel=3)
        return source

    def check_arguments(self) -> None:
        """Refuse arguments that cannot be used; builds the components that None stands for."""
        for name, least in self._at_least.items():
            value = getattr(self, name)
            optional = name in self._optional
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                none = " or None" if optional else ""
                raise InputError(f"{name}={value!r} must be an integer of at least {least}{none}")
        for name, (low, high, low_open) in self._between.items():
            value = getattr(self, name)
            if value is None and name in self._optional:
                continue
            if isinstance(value, Schedule) and self.component_families.get(name) is Schedule:
                # Schedules are monotone between these points, or constant.
                values = [value.at(progress) for progress in (0.0, 0.25, 0.5, 0.75)]
                if all(isinstance(v, Real) and low <= v < high for v in values):
                    continue
                raise InputError(f"{name}={value!r} leaves the range from {low:g} to {high:g} that {name} has")
            bad = isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value)
            if bad or value < low or (low_open and value == low) or value >= high:
                range_ = f"{'(' if low_open else '['}{low:g}, {high:g})" if high < math.inf else f"above {low:g}"
                schedule = " or a schedule" if self.component_families.get(name) is Schedule else ""
                raise InputError(
                    f"{name}={value!r} must be a number in {range_}{schedule}".replace("in above", "above")
                )
        for name, choices in self._choices.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name}={getattr(self, name)!r} is unknown; use one of {', '.join(map(repr, choices))}"
                )
        for name, family in self.component_families.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, family) and name not in self._between:
                example = next(members(family)).__name__
                raise InputError(
                    f"{name}={value!r} is no {family.__name__}; give an instance of one, such as {example}()"
                )

    # Keeping ------------------------------------------------------------------------------------------------

    def _spec(self, seed: int) -> dict[str, Any]:
        """The estimator's arguments as JSON, with the seed that ``random_state`` was turned into."""
        plain = clone(self).set_params(random_state=seed)
        return to_spec(plain)

    def weights_bytes(self, steps: Sequence[Any] = ()) -> bytes:
        """All fitted state, and that of the preparation steps before it, as one safetensors file."""
        check_is_fitted(self)
        arrays = {name: np.asarray(getattr(self, name)) for name in (*self.parameter_names, *self._more_arrays())}
        arrays["validation_indices_"] = self.validation_indices_
        arrays |= {f"solver/{name}": value.numpy() for name, value in self._solver_state.items()}
        for index, step in enumerate(steps):
            arrays |= {f"prepare/{index}/{name}": np.asarray(getattr(step, name)) for name in step.fitted}
        rest = {
            "n_iter_": self.n_iter_,
            "n_features_in_": self.n_features_in_,
            "seed_": self.seed_,
            "generator": self._sampler_state,
            "feature_names_in_": [str(name) for name in getattr(self, "feature_names_in_", [])],
        }
        # One metadata entry, because safetensors writes several in no fixed order.
        return safetensors_bytes(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            {"fitted": json.dumps(rest)},
        )

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
            directory.create(
                {
                    "kind": "array",
                    "estimator": self._spec(self.seed_),
                    "seed": self.seed_,
                    "versions": versions(),
                }
            )
            directory.write_history(self.history_)
            directory.finish(weights)

    def restore(self, solver_state: dict[str, NDArray], fitted: dict[str, Any], history: list[dict]) -> None:
        """Take back what :meth:`weights_bytes` wrote beside the fitted arrays."""
        self.n_iter_, self.n_features_in_, self.seed_ = (
            fitted[name] for name in ("n_iter_", "n_features_in_", "seed_")
        )
        if fitted["feature_names_in_"]:
            self.feature_names_in_ = np.array(fitted["feature_names_in_"], dtype=object)
        self.history_ = history
        self._n_features_out = len(self.components_)
        self._solver_state = {name: torch.from_numpy(array) for name, array in solver_state.items()}
        self._sampler_state = fitted["generator"]

    @abstractmethod
    def parameter_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """The shape that each fitted array of the model must have."""

    def fitted_shapes(self, n_features: int) -> dict[str, tuple[int | None, ...] | None]:
        """The shape of every array that a saved model holds, None where any number will do."""
        return {**self.parameter_shapes(n_features), **self._more_arrays(), "validation_indices_": (None,)}

    def _more_arrays(self) -> dict[str, tuple[int | None, ...]]:
        """Fitted arrays beyond the parameters, and their shapes."""
        return {}


def versions() -> dict[str, str]:
    """The versions that a run depends on."""
    return {name: metadata.version(name) for name in ("rarefire", "torch", "numpy", "scikit-learn")}
