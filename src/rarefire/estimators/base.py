"""What both families of estimators share: from data to a fitted object, and to a run directory."""

from __future__ import annotations

import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from rarefire.arguments import Number, Rule, check
from rarefire.artifact import RunDirectory
from rarefire.checkpoint import TrainState
from rarefire.data.batch import Batch
from rarefire.data.memory import check_narrowing, is_sparse, tensor_rows, validated
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError, Interrupted
from rarefire.estimators.beginning import check_agreement, check_processes, check_rows
from rarefire.estimators.keeping import Keepable
from rarefire.estimators.mapping import gathered, mapped
from rarefire.estimators.picture import Pictured
from rarefire.estimators.splitting import Split, split_rows
from rarefire.events import EpochEnded, Event, Listener
from rarefire.interrupts import interruptible
from rarefire.objectives import Objective
from rarefire.parallel import ranks, resolve_device
from rarefire.penalties import check_suits
from rarefire.precision import Precision
from rarefire.random import Generator, integer_seed
from rarefire.schedules import Schedule
from rarefire.solvers import Solver
from rarefire.trainer import EarlyStopping, Trainer
from rarefire.types import Tensors, tensor_of, torch_csr

#: Rows and values that an epoch's record is computed on at the most, of the training and of the held-out part each.
EVALUATION_ROWS, EVALUATION_VALUES = 1000, 2**22


class SparseLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Pictured, Keepable):
    """Estimator that learns features from rows; both families inherit it."""

    #: What a user calls the family.
    called: ClassVar[str] = "estimator"
    #: What each argument may be, where its default does not say it.
    rules: ClassVar[dict[str, Rule]] = {}
    #: Whether codes come as a SciPy CSR matrix.
    sparse_output: bool = False
    eval_every: int
    precision: Precision

    # What a family defines ------------------------------------------------------------------------------------

    @abstractmethod
    def _initial(self, train: Source, dtype: torch.dtype, generator: Generator) -> Tensors:
        """Parameters to begin with, for these training rows."""

    @property
    @abstractmethod
    def cost_unit(self) -> str:
        """The unit of the cost."""

    @property
    @abstractmethod
    def n_epochs(self) -> int:
        """Epochs, or iterations of a solver that takes all rows in each, at the most."""

    @abstractmethod
    def _model_of(self, parameters: Tensors, *, fitted: bool = False) -> Any:
        """The model with these parameters, by the arguments or by the parts that it was fitted with."""

    @abstractmethod
    def _objective(self) -> Objective:
        """What training follows."""

    @abstractmethod
    def _objective_state(self, train: Source, dtype: torch.dtype, device: torch.device) -> Tensors:
        """The objective's state before the first update on these training rows."""

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
    def codes_and_active(self, rows: Any) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """Codes of shape (n_rows, n_components) of dense or CSR rows, and which of them count as active."""

    @abstractmethod
    def _rate_range(self) -> tuple[float, float] | None:
        """Smallest and largest code; None where codes are unbounded, and then have no rates."""

    @abstractmethod
    def check_values(self, source: Source) -> str | None:
        """A sentence on why values of a source do not suit this estimator, or None where they do."""

    @property
    def refuses_values(self) -> bool:
        """Whether unsuitable values are an error in Python too, and not only spoken of."""
        return False

    @abstractmethod
    def _units_called(self) -> str:
        """What the hidden units are called in a sentence on penalties."""

    @property
    @abstractmethod
    def _rows_per_update(self) -> int | None:
        """Rows of a batch; None takes all."""

    @property
    def _monitor(self) -> str:
        """The number of an epoch's record that early stopping watches."""
        return "validation_cost"

    @abstractmethod
    def _advice(self, history: Sequence[dict[str, Any]]) -> str:
        """What usually helps when training diverges, after these epochs, as the end of a sentence."""

    # Fitting --------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> Any:
        """Fit the model to data.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The rows; sparse ones are never made dense but for a batch at a time.
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
        self.check_arguments()
        source = self.source_of(X, reset=True)
        check_rows(self, source)
        check_processes(self)
        own = integer_seed(self.random_state)  # on every process: a generator is advanced by it
        seed = ranks().of_first(lambda: own)
        split = self.split(source.shape[0], seed)
        if self.checkpoint_dir is None:
            return self.fit_source(source, split, seed=seed)
        directory = RunDirectory(self.checkpoint_dir)
        with ranks().first_holds(directory.locked()):
            spec = {**self.spec(seed), "data": source.spec(), "warm": self._begins_elsewhere}
            ranks().of_first(lambda: directory.create(spec))
            try:
                with interruptible() as stopped:
                    self.fit_source(source, split, seed=seed, directory=directory, should_stop=stopped)
            except Interrupted as error:
                how = f"rarefire.resume({str(directory)!r}, X)"
                raise KeyboardInterrupt(f"{error}; go on with {how}") from None
            directory.finish(self.weights_bytes())
        ranks().wait()
        return self

    def split(self, n_rows: int, seed: int) -> Split:
        """Positions of training and held-out rows, drawn by the seed; no row is held out without a fraction.

        Raises
        ------
        InputError
            If no row would be left on one side.
        """
        return split_rows(n_rows, self.validation_fraction, self.early_stopping, seed)

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

        Raises
        ------
        InputError
            If of several processes each has rows of its own, or an argument is for one process.
        """
        check_processes(self)  # a run may have begun on one
        check_agreement(self, source)
        all_ranks = ranks()
        device = resolve_device(self.device)
        dtype = torch.float64 if source.dtype == np.float64 else torch.float32
        train = source.subset(split.train) if len(split.held_out) else source
        held_out = source.subset(split.held_out) if len(split.held_out) else None
        n_features = source.shape[1]
        generator = Generator(seed, "sample", device=device)
        history: list[dict[str, Any]] = []
        trainer = self._trainer(train, held_out, seed, device, self.n_epochs, history)
        if all_ranks.of_first(lambda: directory is not None and directory.checkpoint.is_file()):
            assert directory is not None
            state = TrainState.read(directory.checkpoint, device)
            expected = self._start(train, seed, dtype, device, trainer.solver, carry=False)
            state.check_like(expected, str(directory.checkpoint))
            history.extend(all_ranks.of_first(lambda: directory.cut_history(state.epoch)))
        else:
            state = self._start(train, seed, dtype, device, trainer.solver, carry=self._is_warm)
            if directory is not None:
                directory.cut_history(0)
                if self._begins_elsewhere:  # spec.json does not hold the weights that training begins with
                    state.generator = generator.state()
                    directory.write_checkpoint(state.to_bytes())

        if self._by_columns(train):
            state.lay_out()
        all_ranks.wait()  # for those who read what is written over now

        def remember(event: Event) -> None:
            if isinstance(event, EpochEnded):
                history.append(event.record)
                if directory is not None:
                    directory.append_history(event.record, event.seconds)

        save = None if directory is None else lambda state: directory.write_checkpoint(state.to_bytes())
        said = [self._say] if self.verbose and all_ranks.rank == 0 else []
        trainer.run(
            state,
            train,
            generator,
            listeners=[remember, *said, *listeners],
            save=save,
            save_every=checkpoint_every,
            should_stop=should_stop,
        )
        self._take({name: value.contiguous() for name, value in trainer.result(state).items()}, state, generator)
        self.n_features_in_, self._described = n_features, source.description
        self.n_iter_ = state.epoch
        self.stop_reason_ = state.reason
        self.history_ = history
        self.seed_ = seed
        self.validation_indices_ = split.held_out
        self._streams: dict[str, Generator] = {}
        return self

    def _start(
        self,
        train: Source,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        solver: Solver,
        *,
        carry: bool,
    ) -> TrainState:
        """The state before the first update; with ``carry`` from the fitted weights and chains."""
        if carry:
            self._check_fitted_shapes(train.shape[1])
        parameters = self._parameters(device) if carry else self._initial(train, dtype, Generator(seed, "initial"))
        parameters = {name: value.to(device, dtype, copy=True) for name, value in parameters.items()}
        objective = self._objective_state(train, dtype, device)
        for attribute, name in self.state_names.items():
            if carry and name in objective and hasattr(self, attribute):
                objective[name] = tensor_of(np.asarray(getattr(self, attribute)), device).to(dtype, copy=True)
        return TrainState(parameters, solver.initial(parameters), objective=objective)

    def _by_columns(self, train: Source) -> bool:
        """Whether updates fetch columns of the weights one by one."""
        return False

    @property
    def _is_warm(self) -> bool:
        """Whether a fit goes on from fitted weights."""
        return self.warm_start and hasattr(self, "components_")

    @property
    def _begins_elsewhere(self) -> bool:
        """Whether a fit begins with weights that arguments and seed do not fix."""
        return self._is_warm

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Make one update on all rows of ``X`` together.

        The first call draws the initial weights; every later one goes on with the solver's memory, the objective's
        state (chains, running averages) and the random numbers of the one before.

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
            If an argument speaks of the whole course of a fit (a schedule, averaging), which has no meaning here, or
            the solver needs all rows in every step.
        RunError
            If the weights are no longer finite.
        """
        self.check_arguments()
        for name, rule in self.rules.items():
            if isinstance(value := getattr(self, name), Schedule) and isinstance(rule, Number):
                raise InputError(
                    f"partial_fit knows no last epoch, so {name}={value!r} has no meaning; give a number and change it "
                    "with set_params between calls"
                )
        for name in ("averaging", "early_stopping", "validation_fraction", "checkpoint_dir"):
            if getattr(self, name):
                raise InputError(
                    f"partial_fit makes one update and knows no epochs, so {name}={getattr(self, name)!r} has no "
                    "meaning; unset it"
                )
        if self._solver().full_batch:
            raise InputError(
                f"partial_fit makes an update on the rows at hand, but solver={self.solver!r} needs all rows in every "
                "step; use another solver"
            )
        first = not hasattr(self, "components_")
        source = self.source_of(X, reset=first)
        check_rows(self, source)
        device = resolve_device(self.device)
        dtype = torch.float64 if source.dtype == np.float64 else torch.float32
        seed = integer_seed(self.random_state) if first else self.seed_
        if not first:
            wide, dtype = dtype, next(iter(self._parameters("cpu").values())).dtype
            if (wide, dtype) == (torch.float64, torch.float32):
                check_narrowing(source)
        generator = Generator(seed, "sample", device=device)
        trainer = self._trainer(source, None, seed, device, 1, [])
        state = self._start(source, seed, dtype, device, trainer.solver, carry=not first)
        if not first:
            generator.set_state(self._sampler_state)
            before = self._solver_state
            # Another solver than before, or other parameters, begin anew.
            of = {name: (t.shape, t.dtype) for name, t in before.items()}
            if of == {name: (t.shape, t.dtype) for name, t in state.solver.items()}:
                state.solver = {name: value.to(device, copy=True) for name, value in before.items()}
        if self._by_columns(source):
            state.lay_out()
        trainer.update(state, Batch(source, slice(None), device, dtype), generator, 0.0)
        trainer.check(state)
        self._take(state.parameters, state, generator)
        if first:
            self.n_iter_, self.history_, self.validation_indices_, self.stop_reason_ = 0, [], np.arange(0), ""
            self.seed_, self._streams = seed, {}
        return self

    def _say(self, event: Event) -> None:
        """What ``verbose`` prints after each epoch."""
        if isinstance(event, EpochEnded):
            epoch, cost = event.record["epoch"], event.record["cost"]
            name = type(self).__name__
            sys.stdout.write(f"[{name}] Iteration {epoch}, cost = {cost:.4g}, time = {event.seconds:.2f}s\n")

    def _trainer(
        self,
        train: Source,
        held_out: Source | None,
        seed: int,
        device: torch.device,
        n_epochs: int,
        history: list[dict[str, Any]],
    ) -> Trainer:
        # The rows that every epoch is measured on are drawn once, so that curves are not shaken by their choice.
        def some(source: Source) -> torch.Tensor:
            n_rows = min(EVALUATION_ROWS, max(1, EVALUATION_VALUES // source.shape[1]))
            chosen = Generator(seed, "evaluation rows").permutation(source.shape[0])[:n_rows]
            return tensor_of(source.rows(np.sort(chosen)), device)

        rows: list[torch.Tensor | None] = []

        def evaluate(model: Any, epoch: int) -> dict[str, float]:
            if not rows:
                rows.extend([some(train), None if held_out is None else some(held_out)])
            generator = Generator(seed, "evaluation", epoch, device=device)
            return self._record(model, rows[0], rows[1], generator)  # type: ignore[arg-type]

        def of_first(model: Any, epoch: int) -> dict[str, float]:
            return ranks().of_first(lambda: evaluate(model, epoch))

        stopping = EarlyStopping(self._monitor, self.tol, self.n_iter_no_change) if self.early_stopping else None
        return Trainer(
            name=type(self).__name__,
            model_of=self._model_of,
            objective=self._objective(),
            solver=self._solver(),
            evaluate=of_first,
            n_epochs=n_epochs,
            batch_size=self._rows_per_update,
            averaging=self.averaging,
            early_stopping=stopping,
            seed=seed,
            device=device,
            eval_every=self.eval_every,
            precision=self.precision,
            advice=lambda: self._advice(history),
        )

    def _take(self, parameters: Tensors, state: TrainState, generator: Generator) -> None:
        """Set the fitted attributes from tensors."""
        for attribute, name in self.parameter_names.items():
            setattr(self, attribute, parameters[name].detach().cpu().numpy())
        for attribute, name in self.state_names.items():
            self.__dict__.pop(attribute, None)  # that of an earlier fit, whose objective had such a state
            if name in state.objective:
                setattr(self, attribute, state.objective[name].cpu().numpy())
        self._set_parts()
        self._n_features_out = len(self.components_)
        # A solver that needs all rows takes part in no partial_fit, and its memory is many times the model.
        kept = {} if self._solver().full_batch else state.solver
        self._solver_state = {name: value.cpu() for name, value in kept.items()}
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
        return self._model_of(self._parameters(device, dtype), fitted=True)

    def encoding_model(self, dtype: torch.dtype, device: torch.device, *, sparse: bool) -> Any:
        """The model behind the fitted attributes, for rows in CSR form where they are sparse."""
        model = self.fitted_model(dtype, device)
        return model.for_sparse_rows() if sparse else model

    def __sklearn_is_fitted__(self) -> bool:
        # Validation alone sets n_features_in_, which does not make a model.
        return hasattr(self, "components_")

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
        codes : ndarray, CSR matrix or torch.Tensor of shape (n_samples, n_components)
            A tensor on the device of ``X`` for a tensor; float32 for float32, half and bytes, else float64. Sparse,
            in SciPy's or in torch's CSR form, where the estimator has ``sparse_output`` and it is set.
        """
        return self._map_rows(X, lambda model, rows: model.encode(rows), sparse=self.sparse_output, encodes=True)

    def optimal_inputs(self) -> NDArray[np.floating]:
        """The input of norm 1 that excites each unit most: w/‖w‖, w the unit's row of encoder weights.

        Returns
        -------
        inputs : ndarray of shape (n_components, n_features)
            A unit without weights has none: its row is zero. Source: documents 001 and 003.
        """
        weight = self.fitted_model().encoder.numpy()
        norms = np.linalg.norm(weight, axis=1, keepdims=True)
        return weight / np.where(norms == 0, 1, norms)

    def inverse_transform(self, X: Any) -> Any:
        """Reconstructions from codes.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_components)
            The codes.

        Returns
        -------
        rows : ndarray or torch.Tensor of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        return self._map_rows(X, lambda model, codes: model.decode(codes), columns=len(self.components_))

    def _map_rows(
        self,
        X: Any,
        function: Callable[[Any, torch.Tensor], torch.Tensor],
        columns: int | None = None,
        sparse: bool = False,
        encodes: bool = False,
    ) -> Any:
        """Apply a function of (model, rows) to ``X`` as :func:`mapped` does, and answer in kind, or sparse.

        One that ``encodes`` draws nothing, and is given sparse rows in torch's CSR form.
        """
        check_is_fitted(self)
        if isinstance(X, torch.Tensor) and not is_sparse(X):
            rows: Any = tensor_rows(X, columns or self.n_features_in_)
            model = self.fitted_model(rows.dtype, rows.device)
            home = rows.device
        else:
            values = validated(X, self if columns is None else None)
            if columns is not None and values.shape[1] != columns:
                name = type(self).__name__
                raise InputError(f"X has {values.shape[1]} columns, but {name} has {columns} components")
            rows = ArraySource(values, Description("array"))
            model = self._model_for(rows, sparse=encodes and rows.sparse)
            home = X.device if isinstance(X, torch.Tensor) else torch.device("cpu")
        pieces = mapped(rows, model, function, encodes=encodes)
        if sparse:
            stacked = sp.vstack([sp.csr_matrix(piece.cpu().numpy()) for _, piece in pieces], format="csr")
            return torch_csr(stacked, home, check=True) if isinstance(X, torch.Tensor) else stacked
        out = gathered(pieces, rows.shape[0], home)
        return out if isinstance(X, torch.Tensor) else out.numpy()

    def _model_for(self, source: Source, *, sparse: bool) -> Any:
        dtype = torch.float64 if source.dtype == np.float64 else torch.float32
        return self.encoding_model(dtype, resolve_device(self.device), sparse=sparse)

    def encoded(self, source: Source) -> Iterator[NDArray[np.floating]]:
        """Codes of the rows of a source in order, some rows at a time; :meth:`transform` gives the same bits."""
        model = self._model_for(source, sparse=source.sparse)
        for _, codes in mapped(source, model, lambda model, rows: model.encode(rows), encodes=True):
            yield codes.cpu().numpy()

    def source_of(self, X: Any, *, reset: bool = True) -> Source:
        """Validated data as a source; warns once of values that do not suit the estimator."""
        X = validated(X, self, reset=reset)
        names = getattr(self, "feature_names_in_", None)
        kind = "plain" if names is None else "named"
        source = ArraySource(X, Description("array", kind, None, None if names is None else tuple(map(str, names))))
        if (sentence := self.check_values(source)) is not None:
            if self.refuses_values:
                raise InputError(sentence)
            warnings.warn(sentence, UserWarning, stacklevel=3)
        return source

    def check_arguments(self) -> None:
        """Refuse arguments that cannot be used.

        Raises
        ------
        InputError
            For the first that cannot.
        """
        check(self)
        resolve_device(self.device)
        for name, rule in self.rules.items():
            value = getattr(self, name)
            if isinstance(rule, Number) and isinstance(value, Schedule):
                # Of very many epochs a thousand: a schedule is a simple function.
                every = max(1, self.n_epochs // 1000)
                reached = (value.at(epoch / self.n_epochs) for epoch in range(0, self.n_epochs, every))
                if (bad := next((v for v in reached if not rule.contains(v)), None)) is not None:
                    raise InputError(f"{name}={value!r} reaches {bad:g}, but {name} must be {rule.range}")
        check_suits(self.parts()["penalty_"], self._rate_range(), self._units_called())
