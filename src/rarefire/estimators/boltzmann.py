"""Restricted Boltzmann machines as scikit-learn estimators."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from rarefire.arguments import Choice, Free, Number, Part, Rule, Whole
from rarefire.data.source import Source, extremes
from rarefire.errors import InputError
from rarefire.estimators.base import SparseLearner
from rarefire.estimators.keeping import part_or
from rarefire.estimators.module import TorchModel
from rarefire.events import EpochEnded, Event
from rarefire.metrics import metric
from rarefire.metrics.activity import active_count, unit_activity
from rarefire.metrics.cost import bernoulli_cost
from rarefire.metrics.likelihood import log_pseudo_likelihood
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.objectives.contrastive import ContrastiveDivergence
from rarefire.parallel import resolve_device
from rarefire.penalties import ActivityPenalty, NoPenalty, WeightPenalty
from rarefire.random import Generator
from rarefire.sampling import gibbs
from rarefire.schedules import Schedule
from rarefire.solvers.sgd import SGD
from rarefire.types import Tensors, tensor_of
from rarefire.units import Bernoulli

_HALF_STEPS = ("mean", "sample")


class BernoulliRBM(SparseLearner):
    """Restricted Boltzmann machine with binary visible and hidden units, trained by contrastive divergence.

    E(v, h) = −a·v − b·h − h·W v, with v, h ∈ {0, 1}; values of v between 0 and 1 are taken as probabilities.
    Arguments, defaults, attributes and methods of ``sklearn.neural_network.BernoulliRBM`` mean here what they
    mean there; the rest extends it. By default training is persistent contrastive divergence (PCD-1).

    Parameters
    ----------
    n_components : int
        Number of hidden units.
    learning_rate : float or Schedule
        Step along the gradient of the mean over rows.
    batch_size : int or None
        Rows for each update; None takes all rows at once.
    n_iter : int
        Epochs: passes over the training rows.
    verbose : int
        Above 0, one line an epoch on standard output.
    random_state : int, RandomState instance or None
        Fixes initial weights, order of rows, held-out rows and all samples.
    momentum : float or Schedule
        Share of the last step that is kept; the learning rate is not scaled by one minus it.
    gibbs_steps : int
        k of CD-k and PCD-k.
    persistent : bool
        Whether chains go on from update to update (PCD) or start at the data (CD).
    n_chains : int or None
        Number of persistent chains; None means ``batch_size``, or the number of rows where that is None too.
    positive_hidden : {"mean", "sample"}
        First half-step up, as it enters the statistics of the data: probabilities, or the sample that starts a
        fresh chain.
    chain_visible, chain_hidden : {"sample", "mean"}
        What the half-steps of a chain hand on: down to the visibles, and up to the hidden units.
    negative_hidden : {"mean", "sample"}
        Last half-step up, as it enters the statistics of the chains.
    penalty : ActivityPenalty or None
        Penalty on the hidden units' activity; None is none.
    weight_decay : WeightPenalty or None
        Penalty on the weights, not the biases; its gradient is multiplied by the learning rate; None is none.
    averaging : float or None
        Factor d in [0, 1) of an exponential average over epochs, θ̄ ← dθ̄ + (1 − d)θ, which becomes the fitted
        model; None keeps the last parameters.
    init_scale : float
        Standard deviation of the initial weights; biases start at zero.
    validation_fraction : float or None
        Share of rows held out; None is 0.1 with early stopping and none without.
    early_stopping : bool
        Stop when the held-out cost has not fallen by more than ``tol`` for ``n_iter_no_change`` epochs, and keep
        the parameters that were best.
    n_iter_no_change, tol : int, float
        Patience, and the least fall of the held-out cost that counts.
    warm_start : bool
        Whether ``fit`` goes on from the fitted weights.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", ...
    checkpoint_dir : str or None
        Run directory that ``fit`` writes, with checkpoints that :func:`rarefire.resume` goes on from.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        W.
    intercept_hidden_ : ndarray of shape (n_components,)
        b.
    intercept_visible_ : ndarray of shape (n_features,)
        a.
    h_samples_ : ndarray of shape (n_chains, n_components)
        Hidden state of the persistent chains; only with ``persistent=True``.
    penalty_, weight_decay_ : component
        The penalties in use, ``NoPenalty()`` where None was given.
    history_ : list of dict
        One record an epoch, costs on at most 1000 rows of each part: ``cost`` (with sampled hidden units),
        ``cost_mean_field``, ``active_mean`` and ``active_max`` (units sampled on, of one row), ``learning_rate`` and
        ``momentum``; with held-out rows ``validation_cost``, ``validation_cost_mean_field`` and
        ``free_energy_gap`` (mean F held out minus mean F in training); with ``verbose`` ``pseudo_likelihood``.
    n_iter_ : int
        Epochs done.
    stop_reason_ : str
        Why training ended.
    seed_ : int
        The integer that ``random_state`` was turned into.
    validation_indices_ : ndarray of int
        Rows that were held out.
    n_features_in_ : int
        Number of columns seen in ``fit``.
    feature_names_in_ : ndarray of str
        Names of the columns, where the data had them.

    Notes
    -----
    A last batch that is short is averaged over its own rows and the chains over their number, so it adds no bias.

    References
    ----------
    Hinton (2010), A practical guide to training restricted Boltzmann machines. Tieleman (2008), Training
    restricted Boltzmann machines using approximations to the likelihood gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import rarefire as rf
    >>> X = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> rf.BernoulliRBM(n_components=2, random_state=0).fit(X).transform(X).shape
    (4, 2)
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
        "positive_hidden": Choice(_HALF_STEPS),
        "chain_visible": Choice(_HALF_STEPS),
        "chain_hidden": Choice(_HALF_STEPS),
        "negative_hidden": Choice(_HALF_STEPS),
        "penalty": Part(ActivityPenalty),
        "weight_decay": Part(WeightPenalty),
        "averaging": Number(0, 1, none=True),
        "init_scale": Number(0, 1e30),
        "validation_fraction": Number(0, 1, none=True),
        "n_iter_no_change": Whole(1),
        "tol": Number(0),
    }
    parameter_names: ClassVar[dict[str, str]] = {
        "components_": "weight",
        "intercept_hidden_": "hidden_bias",
        "intercept_visible_": "visible_bias",
    }
    state_names: ClassVar[dict[str, str]] = {"h_samples_": "chains"}
    cost_unit = "nats per pixel"

    def __init__(
        self,
        n_components: int = 256,
        *,
        learning_rate: float | Schedule = 0.1,
        batch_size: int | None = 10,
        n_iter: int = 10,
        verbose: int = 0,
        random_state: Any = None,
        momentum: float | Schedule = 0.0,
        gibbs_steps: int = 1,
        persistent: bool = True,
        n_chains: int | None = None,
        positive_hidden: str = "mean",
        chain_visible: str = "sample",
        chain_hidden: str = "sample",
        negative_hidden: str = "mean",
        penalty: ActivityPenalty | None = None,
        weight_decay: WeightPenalty | None = None,
        averaging: float | None = None,
        init_scale: float = 0.01,
        validation_fraction: float | None = None,
        early_stopping: bool = False,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        device: str = "auto",
        checkpoint_dir: str | None = None,
    ) -> None:
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.verbose = verbose
        self.random_state = random_state
        self.momentum = momentum
        self.gibbs_steps = gibbs_steps
        self.persistent = persistent
        self.n_chains = n_chains
        self.positive_hidden = positive_hidden
        self.chain_visible = chain_visible
        self.chain_hidden = chain_hidden
        self.negative_hidden = negative_hidden
        self.penalty = penalty
        self.weight_decay = weight_decay
        self.averaging = averaging
        self.init_scale = init_scale
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.checkpoint_dir = checkpoint_dir

    # Training ---------------------------------------------------------------------------------------------------

    def _initial(self, train: Source, dtype: torch.dtype, generator: Generator) -> Tensors:
        machine = BoltzmannMachine.initial(
            train.shape[1],
            self.n_components,
            hidden=Bernoulli(),
            visible=Bernoulli(),
            generator=generator,
            dtype=dtype,
            scale=self.init_scale,
        )
        return machine.parameters

    def _model_of(self, parameters: Tensors, *, fitted: bool = False) -> BoltzmannMachine:
        return BoltzmannMachine(**parameters, hidden=Bernoulli(), visible=Bernoulli())

    def _objective(self) -> ContrastiveDivergence:
        return ContrastiveDivergence(
            gibbs_steps=self.gibbs_steps,
            persistent=self.persistent,
            positive_hidden=self.positive_hidden,  # type: ignore[arg-type]
            chain_hidden=self.chain_hidden,  # type: ignore[arg-type]
            chain_visible=self.chain_visible,  # type: ignore[arg-type]
            negative_hidden=self.negative_hidden,  # type: ignore[arg-type]
            penalty=self.parts()["penalty_"],
            weight_decay=self.parts()["weight_decay_"],
        )

    def _objective_state(self, n_rows: int, dtype: torch.dtype, device: torch.device) -> Tensors:
        if not self.persistent:
            return {}
        n_chains = self.n_chains or self.batch_size or n_rows
        return {"chains": torch.zeros(n_chains, self.n_components, dtype=dtype, device=device)}

    def _solver(self) -> SGD:
        return SGD(self.learning_rate, self.momentum)

    def parameter_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """(n_components, n_features) and one bias for each unit of either layer."""
        return {
            "components_": (self.n_components, n_features),
            "intercept_hidden_": (self.n_components,),
            "intercept_visible_": (n_features,),
        }

    def _more_arrays(self) -> dict[str, tuple[int | None, ...]]:
        return {"h_samples_": (None, self.n_components)} if self.persistent else {}

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

    def _units_called(self) -> str:
        return "binary units"

    def _advice(self) -> str:
        return f"; lower learning_rate (now {self.learning_rate!r}) or momentum, or use a smaller init_scale"

    def _rate_range(self) -> tuple[float, float]:
        return Bernoulli.support

    def check_arguments(self) -> None:
        """Refuse arguments that cannot be used.

        Raises
        ------
        InputError
            For the first that cannot.
        """
        super().check_arguments()
        if self.penalty is not None and self.penalty.averaging is not None:
            raise InputError(f"{self.penalty!r} keeps a running average, which a machine does not; set averaging=None")

    def check_values(self, source: Source) -> str | None:
        """A sentence if values lie outside [0, 1], which binary units cannot take, else None."""
        low, high = extremes(source)
        if low >= 0 and high <= 1:
            return None
        return (
            f"values of the data lie in [{low:.4g}, {high:.4g}], but binary visible units take values in [0, 1]; "
            "rescale them (rarefire.preprocess.Rescale or ClipRescale, --prepare on the command line)"
        )

    # Measuring --------------------------------------------------------------------------------------------------

    def _costs(self, machine: BoltzmannMachine, v: torch.Tensor, generator: Generator) -> dict[str, Any]:
        """Cost with sampled hidden units, with their means, and the sample, of rows of shape (n, n_features)."""
        mean = machine.hidden_mean(v)
        h = machine.hidden.sample(mean, generator)
        return {
            "cost": bernoulli_cost(v, machine.visible_input(h)).mean().item(),
            "cost_mean_field": bernoulli_cost(v, machine.visible_input(mean)).mean().item(),
            "h": h,
        }

    def _record(
        self,
        model: BoltzmannMachine,
        train: torch.Tensor,
        held_out: torch.Tensor | None,
        generator: Generator,
    ) -> dict[str, Any]:
        costs = self._costs(model, train, generator)
        active = active_count((costs.pop("h") > 0.5).cpu().numpy())
        record = {**costs, "active_mean": active.mean, "active_max": active.maximum}
        if held_out is not None:
            beside = self._costs(model, held_out, generator)
            gap = model.free_energy(held_out).mean() - model.free_energy(train).mean()
            record |= {
                "validation_cost": beside["cost"],
                "validation_cost_mean_field": beside["cost_mean_field"],
                "free_energy_gap": gap.item(),
            }
        if self.verbose:
            record["pseudo_likelihood"] = log_pseudo_likelihood(model, train).mean().item()
        return record

    def _say(self, event: Event) -> None:
        if isinstance(event, EpochEnded):
            sys.stdout.write(
                f"[{type(self).__name__}] Iteration {event.record['epoch']}, "
                f"pseudo-likelihood = {event.record['pseudo_likelihood']:.2f}, time = {event.seconds:.2f}s\n"
            )

    def measure(self, train: Source, held_out: Source | None) -> list[dict[str, Any]]:
        """Costs, activity and free energy on all rows of both parts, as entries of ``metrics.json``."""
        machine = self.fitted_model(torch.float64, resolve_device(self.device))
        generator = Generator(self.seed_, "metrics", device=machine.device)
        parts: dict[str, dict[str, Any]] = {}
        for name, source in (("cost", train), ("cv_cost", held_out)):
            if source is None:
                continue
            sums = {"cost": 0.0, "cost_mean_field": 0.0, "free_energy": 0.0}
            counts = []
            for rows in source.batches():
                v = tensor_of(rows, machine.device).to(torch.float64)
                costs = self._costs(machine, v, generator)
                counts.append(costs.pop("h").sum(dim=1).cpu().numpy())
                costs["free_energy"] = machine.free_energy(v).mean().item()
                for key, value in costs.items():
                    sums[key] += value * len(rows)
            parts[name] = {key: value / source.shape[0] for key, value in sums.items()}
            parts[name]["active"] = np.concatenate(counts)
        entries = []
        for name, part in parts.items():
            rows_of = "training" if name == "cost" else "held-out"
            entries += [
                metric(
                    name,
                    part["cost"],
                    self.cost_unit,
                    f"reconstruction cost of {rows_of} rows, hidden units sampled",
                ),
                metric(
                    f"{name}_mean_field",
                    part["cost_mean_field"],
                    self.cost_unit,
                    f"reconstruction cost of {rows_of} rows, hidden units at their probabilities",
                ),
            ]
        if "cv_cost" in parts:
            gap = parts["cv_cost"]["free_energy"] - parts["cost"]["free_energy"]
            explanation = "mean free energy of held-out rows minus that of training rows; far above 0 is overfitting"
            entries.append(metric("free_energy_gap", gap, "nats", explanation))
        active = parts["cost"]["active"]
        units = unit_activity(self.codes_and_active(rows) for rows in train.batches())
        return [
            *entries,
            metric("active_mean", active.mean(), "units", "hidden units sampled on, mean over training rows"),
            metric("active_max", active.max(), "units", "hidden units sampled on, most on any training row"),
            metric("dead_units", units.dead.sum(), "units", "never E[h|v] > 0.5 on any training row"),
            metric("always_on_units", units.always_on.sum(), "units", "E[h|v] > 0.5 on every training row"),
        ]

    def codes_and_active(self, rows: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """E[h|v] of shape (n_rows, n_components), and where it exceeds 0.5."""
        dtype = torch.float64 if rows.dtype == np.float64 else torch.float32
        machine = self.fitted_model(dtype, resolve_device(self.device))
        codes = machine.encode(tensor_of(rows, machine.device)).cpu().numpy()
        return codes, codes > 0.5

    def score_samples(self, X: Any) -> Any:
        """Log pseudo-likelihood of each row, Σᵢ ln P(vᵢ | the other visibles), in nats.

        scikit-learn estimates the sum from one pixel drawn at random; here it runs over all pixels, which that
        estimate is on average, so the result is not random.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)

        Returns
        -------
        log_pseudo_likelihood : ndarray or torch.Tensor of shape (n_samples,)
        """
        return self._map_rows(X, log_pseudo_likelihood)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log pseudo-likelihood of the rows of ``X``, in nats; higher is better."""
        return float(self.score_samples(X).mean())

    def free_energy(self, X: Any) -> Any:
        """F(v) = −a·v − Σⱼ ln(1 + exp(Wⱼ·v + bⱼ)) of each row, of shape (n_samples,), in nats."""
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
        v_new : ndarray or torch.Tensor of bool of shape (n_samples, n_features)
        """

        def step(machine: BoltzmannMachine, rows: torch.Tensor) -> torch.Tensor:
            stream = self._stream(rows.device)
            h = machine.hidden.sample(machine.hidden_mean(rows), stream)
            return machine.visible.sample(machine.visible_mean(h), stream).bool()

        return self._map_rows(v, step)

    def reconstruct(self, X: Any, *, hidden: str = "mean") -> Any:
        """P(v' = 1) on the way down from the hidden units of each row.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The rows.
        hidden : {"mean", "sample"}
            Whether the way down starts from the hidden units' probabilities or from a sample.

        Returns
        -------
        probabilities : ndarray or torch.Tensor of shape (n_samples, n_features)
        """
        if hidden not in _HALF_STEPS:
            raise InputError(f"hidden={hidden!r} is unknown; use one of 'mean', 'sample'")

        def down(machine: BoltzmannMachine, rows: torch.Tensor) -> torch.Tensor:
            mean = machine.hidden_mean(rows)
            h = machine.hidden.sample(mean, self._stream(rows.device)) if hidden == "sample" else mean
            return machine.visible_mean(h)

        return self._map_rows(X, down)

    def sample(self, n_samples: int = 1, *, gibbs_steps: int = 1000, init: Any = None) -> Any:
        """Draw visibles from the model by Gibbs sampling, one chain each.

        Parameters
        ----------
        n_samples : int
            Number of chains, and of samples.
        gibbs_steps : int
            Steps of each chain; a chain forgets its start only after many.
        init : array-like or torch.Tensor of shape (n_samples, n_features), optional
            Where the chains start; by default at the persistent chains, repeated as often as needed, or without
            them at hidden units drawn with probability one half.

        Returns
        -------
        v : ndarray of shape (n_samples, n_features)
            Of 0 and 1; a tensor where ``init`` is one.
        """
        machine = self.fitted_model(device=resolve_device(self.device))
        generator = self._stream(machine.device)
        dtype = machine.weight.dtype
        for name, value in (("n_samples", n_samples), ("gibbs_steps", gibbs_steps)):
            if not Whole(1).allows(value):
                raise InputError(f"{name}={value!r} must be {Whole(1)}")
        if init is not None:
            given = init.detach().cpu().numpy() if isinstance(init, torch.Tensor) else init
            start = check_array(given, dtype=self.components_.dtype)
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

    def _stream(self, device: torch.device) -> Generator:
        """The random numbers of calls after the fit: for each kind of device one stream, which the seed begins."""
        streams: dict[str, Generator] = self.__dict__.setdefault("_streams", {})
        if device.type not in streams:
            streams[device.type] = Generator(self.seed_, "after fit", device=device)
        return streams[device.type]

    def to_torch(self) -> torch.nn.Module:
        """The fitted machine as a torch module.

        Its parameters are ``weight`` (n_components, n_features), ``hidden_bias`` and ``visible_bias``;
        ``forward(v)`` gives E[h|v] and ``decode(h)`` gives E[v|h], both differentiable.
        """
        return TorchModel(self.fitted_model())
