"""The Boltzmann machine with Gaussian visible units as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rarefire.checkpoint import TrainState
from rarefire.data.source import Source
from rarefire.errors import InputError
from rarefire.estimators.machine import RestrictedBoltzmannMachine
from rarefire.metrics import metric
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.penalties import ActivityPenalty, WeightPenalty
from rarefire.precision import Precision
from rarefire.preprocess.moments import Moments
from rarefire.random import Generator
from rarefire.schedules import Schedule, value_at
from rarefire.types import Tensors
from rarefire.units import Gaussian

#: Learning rate times active units that is stable on standardised rows.
STABLE = 2.0


class GaussianRBM(RestrictedBoltzmannMachine):
    """Restricted Boltzmann machine with real-valued visible and binary hidden units, trained by contrastive divergence.

    E(v, h) = Σ(v − a)²/2σ² − b·h − h·W(v/σ²), so that v given h is normal with mean a + Wᵀh and variance σ², and
    P(hⱼ = 1 | v) = σ((W v/σ²)ⱼ + bⱼ). With σ = 1, the default, rows should be standardised: each column, or all
    together, of mean 0 and variance 1 (:class:`rarefire.preprocess.Standardise`).

    Parameters
    ----------
    n_components : int
        Number of hidden units.
    learning_rate : float or Schedule
        Step along the gradient of the mean over rows. Much smaller than for binary units, because nothing bounds a
        reconstruction: on standardised rows the rate times the number of active units must stay below about 2.
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
        What the half-steps of a chain hand on: down to the visibles, with their noise or without ("mean"), and up to
        the hidden units.
    negative_hidden : {"mean", "sample"}
        Last half-step up, as it enters the statistics of the chains.
    penalty : ActivityPenalty or None
        Penalty on the hidden units' activity; None is none.
    weight_decay : WeightPenalty or None
        Penalty on the weights, not the biases; its gradient is multiplied by the learning rate; None is none.
    centring : float or None
        Factor ν in [0, 1) by which the hidden units' offsets slide towards their means with every batch (0.01, say),
        for the gradient of the centred machine; the visibles' offsets are the means of the rows that training began
        with. None does not centre.
    averaging : float or None
        Factor d in [0, 1) of an exponential average over epochs, θ̄ ← dθ̄ + (1 − d)θ, which becomes the fitted
        model; None keeps the last parameters.
    learn_variance : bool
        Whether every visible unit learns a variance of its own, through ln σ², from 1 on; else it stays 1.
    init_scale : float
        Standard deviation of the initial weights; hidden biases start at zero.
    init_visible : {"zero", "mean"}
        Visible biases to begin with: zero, or those at which the machine without weights has the rows' means.
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
    eval_every : int
        Epochs from one measurement of held-out cost and activity to the next, which is what early stopping counts; the
        last epoch has one in any case.
    precision : {"full", "bfloat16"}
        Of the matrix products of training. "bfloat16" rounds the factors of float32 products to 8 bits and sums in
        float32: faster for large batches on processors with units for it, and without effect on others. (On a GPU the
        factors are those of TF32.) Products with sparse rows, measuring and what is done with the model stay full.
    checkpoint_dir : str or None
        Run directory that ``fit`` writes, with checkpoints that :func:`rarefire.resume` goes on from.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        W: what each unit adds to the mean of the visibles.
    intercept_hidden_ : ndarray of shape (n_components,)
        b.
    intercept_visible_ : ndarray of shape (n_features,)
        a.
    log_variance_ : ndarray of shape (n_features,)
        ln σ²; only with ``learn_variance``.
    h_samples_ : ndarray of shape (n_chains, n_components)
        Hidden state of the persistent chains; only with ``persistent=True``.
    running_mean_, running_weight_ : ndarray of shape (n_components,) and (1,)
        Weighted sum of the batches' mean rates, and of the weights; only for a penalty with ``averaging``.
    hidden_offset_, visible_offset_ : ndarray of shape (n_components,) and (n_features,)
        About which units are centred; only with ``centring``.
    penalty_, weight_decay_ : component
        The penalties in use, ``NoPenalty()`` where None was given.
    history_ : list of dict
        As :class:`BernoulliRBM` has it; costs are half the squared error per pixel.
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
    Krizhevsky (2009), Learning multiple layers of features from tiny images. Cho, Ilin and Raiko (2011), Improved
    learning of Gaussian-Bernoulli restricted Boltzmann machines, for this form of the energy and ln σ².

    Examples
    --------
    >>> import numpy as np
    >>> import rarefire as rf
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> rf.GaussianRBM(n_components=3, random_state=0).fit(X).transform(X).shape
    (100, 3)
    """

    def __init__(
        self,
        n_components: int = 256,
        *,
        learning_rate: float | Schedule = 0.003,
        batch_size: int | None = 10,
        n_iter: int = 10,
        verbose: int = 0,
        random_state: Any = None,
        momentum: float | Schedule = 0.0,
        gibbs_steps: int = 1,
        persistent: bool = False,
        n_chains: int | None = None,
        positive_hidden: str = "mean",
        chain_visible: str = "sample",
        chain_hidden: str = "sample",
        negative_hidden: str = "mean",
        penalty: ActivityPenalty | None = None,
        weight_decay: WeightPenalty | None = None,
        centring: float | None = None,
        averaging: float | None = None,
        learn_variance: bool = False,
        init_scale: float = 0.01,
        init_visible: str = "zero",
        validation_fraction: float | None = None,
        early_stopping: bool = False,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        device: str = "auto",
        eval_every: int = 1,
        precision: Precision = "full",
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
        self.centring = centring
        self.averaging = averaging
        self.learn_variance = learn_variance
        self.init_scale = init_scale
        self.init_visible = init_visible
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.eval_every = eval_every
        self.precision = precision
        self.checkpoint_dir = checkpoint_dir

    @property
    def parameter_names(self) -> dict[str, str]:  # type: ignore[override]
        """The fitted arrays, and the parameter that each holds."""
        names = RestrictedBoltzmannMachine.parameter_names
        return {**names, "log_variance_": "log_variance"} if self.learn_variance else names

    @property
    def visible_units(self) -> Gaussian:
        """Normal, with variance 1 until the machine says otherwise."""
        return Gaussian()

    @property
    def variance_(self) -> NDArray[np.floating]:
        """σ², of shape (n_features,)."""
        return np.exp(self.log_variance_) if hasattr(self, "log_variance_") else np.ones_like(self.intercept_visible_)

    def _take(self, parameters: Tensors, state: TrainState, generator: Generator) -> None:
        self.__dict__.pop("log_variance_", None)  # that of an earlier fit, which learnt variances
        super()._take(parameters, state, generator)

    def _parameters(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensors:
        self._check_unchanged()
        return super()._parameters(device, dtype)

    def _check_fitted_shapes(self, n_features: int) -> None:
        self._check_unchanged()
        super()._check_fitted_shapes(n_features)

    def _check_unchanged(self) -> None:
        if hasattr(self, "log_variance_") != self.learn_variance:
            raise InputError(
                f"the machine was fitted with learn_variance={not self.learn_variance}, which is "
                f"{self.learn_variance} now; set it back, or fit a clone"
            )

    def _initial(self, train: Source, dtype: torch.dtype, generator: Generator) -> Tensors:
        parameters = super()._initial(train, dtype, generator)
        if self.learn_variance:
            parameters["log_variance"] = torch.zeros_like(parameters["visible_bias"])
        return parameters

    def parameter_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """(n_components, n_features), a bias for each unit of either layer, and the variances where they are learnt."""
        shapes = super().parameter_shapes(n_features)
        return {**shapes, "log_variance_": (n_features,)} if self.learn_variance else shapes

    def _advice(self, history: Sequence[dict[str, Any]]) -> str:
        # Before the first epoch is over half of the units are on: all weights and biases are near zero.
        measured = [record["active_mean"] for record in history if "active_mean" in record]
        active = measured[-1] if measured else self.n_components / 2
        rate = history[-1]["learning_rate"] if history else value_at(self.learning_rate, 0.0)
        if rate * max(active, 1) < STABLE:  # a rate that no unit stands leaves none active
            return (
                f"; learning_rate × active units was {rate:g} × {active:.0f} = {rate * active:.3g}, which is stable "
                "by itself: a weaker penalty or weight decay helps, or standardised rows"
            )
        return (
            f"; learning_rate × active units was {rate:g} × {active:.0f} = {rate * active:.3g}, and stays stable below "
            f"about {STABLE:g} on standardised rows: lower learning_rate, or standardise"
        )

    def check_values(self, source: Source) -> str | None:
        """A sentence if rows are far from variance 1, for which the defaults are made, else None."""
        deviation = float(np.sqrt(Moments(source).variance.mean()))
        # Learnt variances begin at 1 too, and the weights' steps are divided by them.
        if deviation == 0 or 0.1 < deviation < 10:
            return None
        return (
            f"values of the data have a standard deviation of {deviation:.4g}, but Gaussian visible units begin with "
            "1; standardise them (rarefire.preprocess.Standardise, --prepare on the command line)"
        )

    def measure(self, train: Source, held_out: Source | None) -> list[dict[str, Any]]:
        """Costs, explained variance, activity and free energy on all rows of both parts."""
        entries = super().measure(train, held_out)
        costs = {entry["name"]: entry["value"] for entry in entries}
        centre = Moments(train).mean
        for prefix, rows_of, source in (("", "training", train), ("cv_", "held-out", held_out)):
            if source is None:
                continue
            moments = Moments(source)
            spread = (moments.variance + (moments.mean - centre) ** 2).mean()
            if spread > 0:
                value = 1 - 2 * costs[f"{prefix}cost_mean_field"] / spread
                text = f"1 − squared error over squared distance from the training rows' mean, {rows_of} rows"
                entries.append(metric(f"{prefix}explained_variance", value, "share", text))
        return entries

    def score_samples(self, X: Any) -> Any:
        """Minus the cost of each row's reconstruction from E[h|v], half its mean squared error per pixel.

        Not the likelihood, whose normalising constant differs from machine to machine: see :meth:`log_likelihood`.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray or torch.Tensor of shape (n_samples,)
        """

        def score(machine: BoltzmannMachine, v: torch.Tensor) -> torch.Tensor:
            return -machine.visible.cost(v, machine.visible_input(machine.hidden_mean(v))).mean(dim=1)

        return self._map_rows(X, score)
