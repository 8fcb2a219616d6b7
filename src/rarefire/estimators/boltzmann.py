"""The Boltzmann machine with binary units as a scikit-learn estimator."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from rarefire.data.source import Source
from rarefire.estimators.machine import RestrictedBoltzmannMachine
from rarefire.events import EpochEnded, Event
from rarefire.metrics.likelihood import log_pseudo_likelihood
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.penalties import ActivityPenalty, WeightPenalty
from rarefire.precision import Precision
from rarefire.random import Generator
from rarefire.schedules import Schedule
from rarefire.units import Bernoulli


class BernoulliRBM(RestrictedBoltzmannMachine):
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
    positive_visible : {"mean", "sample"}
        Rows as they enter the statistics of the data: as they are, or a binary sample with these probabilities, drawn
        anew each time that a row is presented.
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
    centring : float or None
        Factor ν in [0, 1) by which the hidden units' offsets slide towards their means with every batch (0.01, say),
        for the gradient of the centred machine; the visibles' offsets are the means of the rows that training began
        with. None does not centre.
    averaging : float or None
        Factor d in [0, 1) of an exponential average over epochs, θ̄ ← dθ̄ + (1 − d)θ, which becomes the fitted
        model; None keeps the last parameters.
    init_scale : float
        Standard deviation of the initial weights; hidden biases start at zero.
    init_visible : {"zero", "mean"}
        Visible biases to begin with: zero, or those at which the machine without weights has the rows' means.
    validation_fraction : float or None
        Share of rows held out; None is 0.1 with early stopping and none without.
    early_stopping : bool
        Stop when the held-out cost has not fallen by more than ``tol`` for ``n_iter_no_change`` measurements, and
        keep the parameters that were best.
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
        W.
    intercept_hidden_ : ndarray of shape (n_components,)
        b.
    intercept_visible_ : ndarray of shape (n_features,)
        a.
    h_samples_ : ndarray of shape (n_chains, n_components)
        Hidden state of the persistent chains; only with ``persistent=True``.
    running_mean_, running_weight_ : ndarray of shape (n_components,) and (1,)
        Weighted sum of the batches' mean rates, and of the weights; only for a penalty with ``averaging``.
    hidden_offset_, visible_offset_ : ndarray of shape (n_components,) and (n_features,)
        About which units are centred; only with ``centring``.
    penalty_, weight_decay_ : component
        The penalties in use, ``NoPenalty()`` where None was given.
    history_ : list of dict
        One record an epoch: ``cost`` (with sampled hidden units, of about 500 rows in batches spread over the epoch,
        each as it passed), ``learning_rate`` and ``momentum``; every ``eval_every`` epochs, on at most 1000 rows of
        each part, ``active_mean`` and ``active_max`` (units sampled on, of one row); with held-out rows
        ``validation_cost``, ``validation_cost_mean_field`` (hidden units at their means) and ``free_energy_gap`` (mean
        F held out minus mean F in training); with ``verbose`` ``pseudo_likelihood``.
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
        positive_visible: str = "mean",
        positive_hidden: str = "mean",
        chain_visible: str = "sample",
        chain_hidden: str = "sample",
        negative_hidden: str = "mean",
        penalty: ActivityPenalty | None = None,
        weight_decay: WeightPenalty | None = None,
        centring: float | None = None,
        averaging: float | None = None,
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
        self.positive_visible = positive_visible
        self.positive_hidden = positive_hidden
        self.chain_visible = chain_visible
        self.chain_hidden = chain_hidden
        self.negative_hidden = negative_hidden
        self.penalty = penalty
        self.weight_decay = weight_decay
        self.centring = centring
        self.averaging = averaging
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
    def visible_units(self) -> Bernoulli:
        """Binary."""
        return Bernoulli()

    def _advice(self, history: Sequence[dict[str, Any]]) -> str:
        return f"; lower learning_rate (now {self.learning_rate!r}) or momentum, or use a smaller init_scale"

    def check_values(self, source: Source) -> str | None:
        """A sentence if values lie outside [0, 1], which binary units cannot take, else None."""
        low, high = source.extremes
        if low >= 0 and high <= 1:
            return None
        return (
            f"values of the data lie in [{low:.4g}, {high:.4g}], but binary visible units take values in [0, 1]; "
            "rescale them (rarefire.preprocess.Rescale or ClipRescale, --prepare on the command line)"
        )

    def _record(
        self, model: BoltzmannMachine, train: torch.Tensor, held_out: torch.Tensor | None, generator: Generator
    ) -> dict[str, Any]:
        record = super()._record(model, train, held_out, generator)
        if self.verbose:
            record["pseudo_likelihood"] = log_pseudo_likelihood(model, train).mean().item()
        return record

    def _say(self, event: Event) -> None:
        if isinstance(event, EpochEnded) and "pseudo_likelihood" not in event.record:
            super()._say(event)  # with the cost, between measurements
        elif isinstance(event, EpochEnded):
            sys.stdout.write(
                f"[{type(self).__name__}] Iteration {event.record['epoch']}, "
                f"pseudo-likelihood = {event.record['pseudo_likelihood']:.2f}, time = {event.seconds:.2f}s\n"
            )

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
