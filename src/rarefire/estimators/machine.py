"""What both restricted Boltzmann machines share: contrastive divergence, measuring, sampling."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import numpy as np
import torch

from rarefire.arguments import Choice, Free, Number, Part, Rule, Whole
from rarefire.data.memory import validated
from rarefire.data.source import Source, column_sums
from rarefire.errors import InputError
from rarefire.estimators import likelihood
from rarefire.estimators.keeping import part_or
from rarefire.estimators.module import TorchModel
from rarefire.estimators.stochastic import HALF_STEPS, StochasticLearner
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.objectives.averages import Averages
from rarefire.objectives.contrastive import ContrastiveDivergence
from rarefire.parallel import resolve_device
from rarefire.penalties import ActivityPenalty, NoPenalty, WeightPenalty
from rarefire.precision import Precision
from rarefire.random import Generator
from rarefire.sampling import gibbs
from rarefire.sampling.annealing import Estimate
from rarefire.sampling.path import Path
from rarefire.sampling.tempering import tempered
from rarefire.schedules import Schedule
from rarefire.solvers.sgd import SGD
from rarefire.types import Tensors, tensor_of
from rarefire.units import Bernoulli


class RestrictedBoltzmannMachine(StochasticLearner):
    """Restricted Boltzmann machine with binary hidden units, trained by contrastive divergence.

    Subclasses say which units the visibles are, and take the arguments that are read here.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "n_components": Whole(1),
        "learning_rate": Number(0, 1e6, above=True, schedule=Schedule),
        "batch_size": Whole(1, none=True),
        "n_iter": Whole(0),
        "verbose": Free(),
        "momentum": Number(0, 1, schedule=Schedule),
        "gibbs_steps": Whole(1),
        "n_chains": Whole(1, none=True),
        "positive_visible": Choice(HALF_STEPS),
        "positive_hidden": Choice(HALF_STEPS),
        "chain_visible": Choice(HALF_STEPS),
        "chain_hidden": Choice(HALF_STEPS),
        "negative_hidden": Choice(HALF_STEPS),
        "penalty": Part(ActivityPenalty),
        "weight_decay": Part(WeightPenalty),
        "centring": Number(0, 1, none=True),
        "averaging": Number(0, 1, none=True),
        "init_scale": Number(0, 1e30),
        "init_visible": Choice(("zero", "mean")),
        "validation_fraction": Number(0, 1, none=True),
        "n_iter_no_change": Whole(1),
        "tol": Number(0),
        "eval_every": Whole(1),
        "precision": Choice(get_args(Precision)),
    }
    parameter_names: ClassVar[dict[str, str]] = {
        "components_": "weight",
        "intercept_hidden_": "hidden_bias",
        "intercept_visible_": "visible_bias",
    }
    state_names: ClassVar[dict[str, str]] = {
        "h_samples_": "chains",
        "running_mean_": "running_mean",
        "running_weight_": "running_weight",
        "hidden_offset_": "hidden_offset",
        "visible_offset_": "visible_offset",
    }
    #: What the positive phase takes of the rows.
    positive_visible: str = "mean"

    n_components: int
    learning_rate: float | Schedule
    batch_size: int | None
    n_iter: int
    momentum: float | Schedule
    gibbs_steps: int
    persistent: bool
    n_chains: int | None
    positive_hidden: str
    chain_visible: str
    chain_hidden: str
    negative_hidden: str
    penalty: ActivityPenalty | None
    weight_decay: WeightPenalty | None
    centring: float | None
    init_scale: float
    init_visible: str
    precision: Precision
    eval_every: int

    # Training ---------------------------------------------------------------------------------------------------

    def _initial(self, train: Source, dtype: torch.dtype, generator: Generator) -> Tensors:
        parameters = BoltzmannMachine.initial(
            train.shape[1],
            self.n_components,
            hidden=Bernoulli(),
            visible=self.visible_units,
            generator=generator,
            dtype=dtype,
            scale=self.init_scale,
        ).parameters
        if self.init_visible == "mean":
            total = torch.from_numpy(column_sums(train))
            parameters["visible_bias"] = self.visible_units.input_of_mean(total, train.shape[0]).to(dtype)
        return parameters

    def _model_of(self, parameters: Tensors, *, fitted: bool = False) -> BoltzmannMachine:
        return BoltzmannMachine(**parameters, hidden=Bernoulli(), visible=self.visible_units)

    def _objective(self) -> ContrastiveDivergence:
        return ContrastiveDivergence(
            gibbs_steps=self.gibbs_steps,
            persistent=self.persistent,
            positive_visible=self.positive_visible,  # type: ignore[arg-type]
            positive_hidden=self.positive_hidden,  # type: ignore[arg-type]
            chain_hidden=self.chain_hidden,  # type: ignore[arg-type]
            chain_visible=self.chain_visible,  # type: ignore[arg-type]
            negative_hidden=self.negative_hidden,  # type: ignore[arg-type]
            penalty=self.parts()["penalty_"],
            weight_decay=self.parts()["weight_decay_"],
            centring=self.centring,
        )

    def _objective_state(self, train: Source, dtype: torch.dtype, device: torch.device) -> Tensors:
        state: Tensors = {}
        if self.persistent:
            n_chains = self.n_chains or self.batch_size or train.shape[0]
            state["chains"] = torch.zeros(n_chains, self.n_components, dtype=dtype, device=device)
        if self.parts()["penalty_"].averaging is not None:
            state |= Averages.initial(self.n_components, dtype, device)
        if self.centring is not None:
            mean = torch.from_numpy(column_sums(train) / train.shape[0])
            state["visible_offset"] = mean.to(device, dtype)
            state["hidden_offset"] = torch.full((self.n_components,), 0.5, dtype=dtype, device=device)
        return state

    def _solver(self) -> SGD:
        return SGD(self.learning_rate, self.momentum)

    def parameter_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """(n_components, n_features) and one bias for each unit of either layer."""
        return {
            "components_": (self.n_components, n_features),
            "intercept_hidden_": (self.n_components,),
            "intercept_visible_": (n_features,),
        }

    def _more_arrays(self, n_features: int) -> dict[str, tuple[int | None, ...]]:
        arrays: dict[str, tuple[int | None, ...]] = {}
        if self.persistent:
            arrays["h_samples_"] = (None, self.n_components)
        if self.parts()["penalty_"].averaging is not None:
            arrays |= {"running_mean_": (self.n_components,), "running_weight_": (1,)}
        if self.centring is not None:
            arrays |= {"hidden_offset_": (self.n_components,), "visible_offset_": (n_features,)}
        return arrays

    def parts(self) -> dict[str, Any]:
        """Penalty and weight decay, ``NoPenalty()`` for None."""
        return {
            "penalty_": part_or(self.penalty, NoPenalty()),
            "weight_decay_": part_or(self.weight_decay, NoPenalty()),
        }

    @property
    def n_epochs(self) -> int:
        """``n_iter``."""
        return self.n_iter

    @property
    def _rows_per_update(self) -> int | None:
        return self.batch_size

    # Measuring --------------------------------------------------------------------------------------------------

    def _up(self, model: BoltzmannMachine, v: torch.Tensor, generator: Generator | None) -> torch.Tensor:
        mean = model.hidden_mean(v)
        return mean if generator is None else model.hidden.sample(mean, generator)

    def _way(
        self, model: BoltzmannMachine, v: torch.Tensor, generator: Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        h = self._up(model, v, generator)
        return h, model.visible_input(h)

    def _free_energies(self, model: BoltzmannMachine, v: torch.Tensor) -> torch.Tensor:
        return model.free_energy(v)

    def free_energy(self, X: Any) -> Any:
        """F(v) = −ln Σₕ exp(−E(v, h)) of each row, of shape (n_samples,), in nats."""
        return self._map_rows(X, lambda machine, v: machine.free_energy(v))

    # Sampling ---------------------------------------------------------------------------------------------------

    def gibbs(self, v: Any) -> Any:
        """One step of Gibbs sampling: hidden units given ``v``, then visibles given them, both sampled.

        Calls follow one another in one stream of random numbers, which ``random_state`` begins with each fit.

        Parameters
        ----------
        v : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
            Visibles to start from.

        Returns
        -------
        v_new : ndarray or torch.Tensor of shape (n_samples, n_features)
            Of bool where visibles are binary.
        """

        def step(machine: BoltzmannMachine, rows: torch.Tensor) -> torch.Tensor:
            stream = self._stream(rows.device)
            h = machine.hidden.sample(machine.hidden_mean(rows), stream)
            drawn = machine.visible.sample(machine.visible_mean(h), stream)
            return drawn.bool() if machine.visible.binary else drawn

        return self._map_rows(v, step)

    def sample(
        self, n_samples: int = 1, *, gibbs_steps: int = 1000, init: Any = None, n_temperatures: int | None = None
    ) -> Any:
        """Draw visibles from the model by Gibbs sampling or parallel tempering, one chain each.

        Parameters
        ----------
        n_samples : int
            Number of chains, and of samples.
        gibbs_steps : int
            Steps of each chain; a chain forgets its start only after many.
        init : array-like or torch.Tensor of shape (n_samples, n_features), optional
            Where the chains start; by default at the persistent chains, repeated as often as needed, or without
            them at hidden units drawn with probability one half.
        n_temperatures : int, optional
            Parallel tempering with so many temperatures: each chain exchanges its state with chains of machines of
            smaller and smaller weights, and so moves between modes far apart; at so many times the cost. The chains
            start at independent units with the means of the persistent chains. None is Gibbs sampling.

        Returns
        -------
        v : ndarray of shape (n_samples, n_features)
            Of 0 and 1 where visibles are binary; a tensor where ``init`` is one.
        """
        machine = self.fitted_model(device=resolve_device(self.device))
        generator = self._stream(machine.device)
        dtype = machine.weight.dtype
        for name, value in (("n_samples", n_samples), ("gibbs_steps", gibbs_steps)):
            if not Whole(1).allows(value):
                raise InputError(f"{name}={value!r} must be {Whole(1)}")
        if n_temperatures is not None:
            if not Whole(2).allows(n_temperatures):
                raise InputError(f"n_temperatures={n_temperatures!r} must be {Whole(2)}")
            if init is not None:
                raise InputError("tempered chains start at independent units; give init or n_temperatures, not both")
            path = Path(machine, likelihood.base_of(self, machine))
            replicas = tempered(path, n_samples, gibbs_steps, generator, n_temperatures=n_temperatures)
            return replicas.samples.cpu().numpy()
        if init is not None:
            start = validated(init, sparse=False).astype(self.components_.dtype)
            if start.shape != (n_samples, self.n_features_in_):
                raise InputError(f"init has shape {start.shape}, expected ({n_samples}, {self.n_features_in_})")
            h = machine.hidden.sample(machine.hidden_mean(tensor_of(start, machine.device)), generator)
        elif hasattr(self, "h_samples_"):
            h = tensor_of(np.resize(self.h_samples_, (n_samples, len(self.components_))), machine.device).to(dtype)
        else:
            h = generator.bernoulli(
                torch.full((n_samples, len(self.components_)), 0.5, dtype=dtype, device=machine.device)
            )
        v, _ = gibbs(machine, h, gibbs_steps, generator)
        return v.to(init.device) if isinstance(init, torch.Tensor) else v.cpu().numpy()

    def to_torch(self) -> torch.nn.Module:
        """The fitted machine as a torch module.

        Its parameters are ``weight`` (n_components, n_features), ``hidden_bias`` and ``visible_bias``;
        ``forward(v)`` gives E[h|v] and ``decode(h)`` gives E[v|h], both differentiable.
        """
        return TorchModel(self.fitted_model())

    # Likelihood -------------------------------------------------------------------------------------------------

    def log_partition(
        self,
        X: Any = None,
        *,
        method: str = "auto",
        n_temperatures: int = 10_000,
        n_runs: int = 100,
        reverse: bool = True,
        n_sweeps: int = 2000,
        random_state: Any = None,
    ) -> Estimate:
        """Find ln Z = ln Σ exp(−E(v, h)), in nats: a sum over all states, or by annealed importance sampling.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features), optional
            Rows whose means the annealing starts from, commonly the training rows; without them it starts from those
            of the persistent chains, or from the machine's visible biases. ln Z itself does not depend on them.
        method : {"auto", "exact", "ais"}
            "exact" sums over the smaller layer, or the hidden one where visibles are Gaussian, of at most 25 units:
            seconds at 20, minutes at 25. "auto" does so up to 20, and takes "ais" beyond.
        n_temperatures, n_runs : int
            Steps from independent units to the machine, two matrix products of n_runs rows each, and parallel runs.
        reverse : bool
            Whether to give the estimate from the machine's end beside it. Forward runs find Z too small on average,
            reverse runs too large, these approximately: they start from samples that parallel tempering gave.
        n_sweeps : int
            Sweeps of that tempering, at 20 temperatures.
        random_state : int, RandomState instance or None
            Fixes the estimate; None takes the seed of the fit, so that calls agree.

        Returns
        -------
        Estimate
            ``value``, ``standard_error``, ``spread`` of the log weights, ``effective_runs``, and ``reverse``, the
            same for the other direction; ``gap`` is the difference. A spread far above 1, or a reverse value below
            the forward one, says not to believe them yet: more temperatures, or more sweeps.

        Raises
        ------
        InputError
            If an argument cannot be used, or the layer is too large to sum over.
        """
        return likelihood.log_partition(
            self,
            X,
            method=method,
            n_temperatures=n_temperatures,
            n_runs=n_runs,
            reverse=reverse,
            n_sweeps=n_sweeps,
            random_state=random_state,
        )

    def log_likelihood(self, X: Any, partition: Estimate | None = None, **options: Any) -> Estimate:
        """Mean of ln P(v) = −F(v) − ln Z over the rows, in nats; a density where visibles are Gaussian.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The rows; of 0 and 1 where visibles are binary.
        partition : Estimate, optional
            What :meth:`log_partition` gave, for the likelihood of several parts of the data; estimated from the means
            of ``X`` when left out.
        **options
            Those of :meth:`log_partition`, where ``partition`` is left out.

        Returns
        -------
        Estimate
            An annealed ``value`` is too high on average, its ``reverse`` too low: where they are far apart, the value
            is optimistic, and takes more temperatures. The standard error is that of ln Z.

        Raises
        ------
        InputError
            If binary units are given other values than 0 and 1, or an option cannot be used.
        """
        return likelihood.log_likelihood(self, X, partition, **options)
