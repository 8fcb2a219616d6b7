"""Sparse autoencoders as scikit-learn estimators."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from rarefire.activations import Activation, Identity, Sigmoid
from rarefire.arguments import Choice, Either, Free, Number, Part, Rule, Whole
from rarefire.data.source import Source, column_sums
from rarefire.errors import InputError
from rarefire.estimators.base import SparseLearner
from rarefire.estimators.full_batch import check_full_batch
from rarefire.estimators.keeping import part_or
from rarefire.estimators.machine import RestrictedBoltzmannMachine
from rarefire.estimators.mapping import measured_rows
from rarefire.estimators.module import TorchModel
from rarefire.estimators.refining import arguments_of, check_init, machine_of, start_of
from rarefire.losses import ReconstructionLoss, SquaredError
from rarefire.metrics import metric
from rarefire.metrics.activity import active_count, share_of_zeros, unit_activity
from rarefire.models.autoencoder import Autoencoder
from rarefire.objectives.averages import Averages
from rarefire.objectives.reconstruction import Reconstruction
from rarefire.parallel import resolve_device
from rarefire.penalties import L2, ActivityPenalty, KLDivergence, L1Activity, NoPenalty, WeightPenalty
from rarefire.precision import Precision
from rarefire.random import Generator
from rarefire.schedules import Schedule
from rarefire.solvers import Solver
from rarefire.solvers.lbfgs import LBFGS
from rarefire.solvers.stepping import LEARNING_RATES, check_momentum, stepping
from rarefire.types import Tensors, rows_tensor, tensor_of

_SOLVERS = (*LEARNING_RATES, "lbfgs")
#: Rows of an update where ``batch_size`` is "auto", for the solvers that take mini-batches.
_BATCH = 100


class SparseAutoencoder(SparseLearner):
    """Autoencoder with one hidden layer whose codes a penalty keeps sparse.

    h = f(W x + b), x̂ = g(Dᵀ h + c), fitted by minimising the mean cost of a row, plus the penalty on the codes, plus
    that on the weights of both matrices.

    Parameters
    ----------
    n_components : int
        Number of hidden units.
    activation : Activation or None
        f; None is ``Sigmoid()``.
    output : Activation or None
        g; None is linear, ``Identity()``.
    loss : ReconstructionLoss or None
        What a row costs; None is ``SquaredError()``, half the squared error.
    penalty : ActivityPenalty or None
        Penalty on the codes. None is ``KLDivergence(target=0.05, strength=3.0)`` for activations of bounded range and
        ``L1Activity(strength=0.1)`` for others; no penalty is ``NoPenalty()``.
    weight_decay : WeightPenalty or None
        Penalty on the weights of both matrices, not the biases; None is ``L2(1e-4)``.
    tied : bool
        Whether the decoder's weights are the encoder's (D = W), which then stand once among the weights.
    dropout, input_dropout : float
        Probability that a code, or an input, is set to zero in training; the mean is kept (inverted dropout).
    init : RestrictedBoltzmannMachine or None
        A fitted machine whose weights and biases training begins with, and refines: the encoder takes E[h|v] and the
        decoder E[v|h], so that the activation must be ``Sigmoid()`` and the output that of its visible units. A clone
        keeps it as it is; wrap it in ``sklearn.frozen.FrozenEstimator`` where it is a candidate of a grid.
        :meth:`from_rbm` sets all of this. None draws the weights at random.
    init_scale : float
        Factor on the encoder's initial weights, which are uniform in ±√(6/(n_features + n_components + 1)) with 1.
    init_output : {"zero", "mean"}
        Decoder's initial bias: zero, or the one at which the reconstruction without any code is the mean of the
        training rows, so that units need not learn what all rows have in common.
    solver : {"adam", "sgd", "lbfgs"}
        "lbfgs" takes all rows in every iteration and finds its own step; it follows a value, so that dropout and
        running averages are refused.
    max_iter : int
        Epochs, or iterations of "lbfgs".
    batch_size : int, "auto" or None
        Rows for each update; "auto" is 100, and all for "lbfgs"; None takes all rows at once.
    learning_rate : float, Schedule or None
        Step of "adam" and "sgd"; None is 0.001 and 0.1.
    momentum : float or Schedule
        Share of the last step of "sgd" that is kept; the learning rate is not scaled by one minus it.
    averaging : float or None
        Factor d in [0, 1) of an exponential average of the parameters over epochs, which becomes the fitted model.
    reconstruction_sampling : float or None
        For rows with few values that are not zero: columns without a value that are drawn, for each column with one,
        in every 100 rows of a batch. The batch's cost and gradient are then taken at these columns alone, and those
        drawn count by one over the probability that they are, so that both are right on average
        (:func:`rarefire.objectives.sampled.outputs_of`; Dauphin, Glorot and Bengio 2011). None takes all columns. "sgd"
        without momentum, and "adam", then move the columns at hand only, provided that there is no weight decay; each
        column has averages and a count of steps of its own in "adam".
    sparse_output : bool
        Whether ``transform`` gives a SciPy CSR matrix of the codes that are not zero.
    validation_fraction : float or None
        Share of rows held out; None is 0.1 with early stopping and none without.
    early_stopping : bool
        Stop when the held-out cost fell by less than ``tol`` in ``n_iter_no_change`` measurements, and keep the best.
    n_iter_no_change, tol : int, float
        Patience, and the least fall of the held-out cost that counts.
    warm_start : bool
        Whether ``fit`` goes on from the fitted weights; the solver begins anew.
    random_state : int, RandomState instance or None
        Fixes initial weights, order of rows, held-out rows and what is dropped.
    verbose : int
        Above 0, one line an epoch on standard output.
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
    encoder_weight_ : ndarray of shape (n_components, n_features)
        W.
    encoder_bias_ : ndarray of shape (n_components,)
        b.
    components_, decoder_weight_ : ndarray of shape (n_components, n_features)
        D: what each unit adds to a reconstruction.
    decoder_bias_ : ndarray of shape (n_features,)
        c.
    activation_, output_, loss_, penalty_, weight_decay_ : component
        The parts in use, where None was given what it stands for.
    running_mean_, running_weight_ : ndarray of shape (n_components,) and (1,)
        Weighted sum of the batches' mean rates, and of the weights; only for a penalty with ``averaging``.
    history_ : list of dict
        One record an epoch or iteration: ``objective`` and its terms ``cost``, ``penalty`` and ``weight_decay``, as
        the batches passed, or of the parameters that "lbfgs" ended with; the solver's settings; every ``eval_every``,
        on at most 1000 rows of each part, without dropout, ``active_mean`` and ``active_max`` (active units of one
        row), with held-out rows ``validation_cost``, and ``zeros`` (share of codes that are exactly zero, of held-out
        rows where there are any).
    n_iter_ : int
        Epochs, or iterations of "lbfgs", done.
    stop_reason_, seed_, validation_indices_, n_features_in_, feature_names_in_
        As :class:`BernoulliRBM` has them.

    References
    ----------
    Ng, CS294A lecture notes: Sparse autoencoder (documents 001 and 003). Activation sparsity for non-sigmoid units
    (document 004).

    Examples
    --------
    >>> import numpy as np
    >>> import rarefire as rf
    >>> X = np.random.default_rng(0).normal(size=(50, 8))
    >>> rf.SparseAutoencoder(n_components=3, solver="lbfgs", max_iter=20, random_state=0).fit(X).transform(X).shape
    (50, 3)
    """

    rules: ClassVar[dict[str, Rule]] = {
        "n_components": Whole(1),
        "activation": Part(Activation),
        "output": Part(Activation),
        "loss": Part(ReconstructionLoss),
        "penalty": Part(ActivityPenalty),
        "weight_decay": Part(WeightPenalty),
        "dropout": Number(0, 1),
        "input_dropout": Number(0, 1),
        "init_scale": Number(0, 1e30, above=True),
        "init_output": Choice(("zero", "mean")),
        "solver": Choice(_SOLVERS),
        "max_iter": Whole(0),
        "batch_size": Either(Choice(("auto",)), Whole(1, none=True)),
        "learning_rate": Number(0, 1e6, above=True, none=True, schedule=Schedule),
        "momentum": Number(0, 1, schedule=Schedule),
        "averaging": Number(0, 1, none=True),
        "reconstruction_sampling": Number(0, 1e6, above=True, none=True),
        "validation_fraction": Number(0, 1, none=True),
        "n_iter_no_change": Whole(1),
        "tol": Number(0),
        "eval_every": Whole(1),
        "precision": Choice(get_args(Precision)),
        "verbose": Free(),
    }

    state_names: ClassVar[dict[str, str]] = {"running_mean_": "running_mean", "running_weight_": "running_weight"}

    def __init__(
        self,
        n_components: int = 100,
        *,
        activation: Activation | None = None,
        output: Activation | None = None,
        loss: ReconstructionLoss | None = None,
        penalty: ActivityPenalty | None = None,
        weight_decay: WeightPenalty | None = None,
        tied: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        init: Any = None,
        init_scale: float = 1.0,
        init_output: str = "zero",
        solver: str = "adam",
        max_iter: int = 200,
        batch_size: int | str | None = "auto",
        learning_rate: float | Schedule | None = None,
        momentum: float | Schedule = 0.0,
        averaging: float | None = None,
        reconstruction_sampling: float | None = None,
        sparse_output: bool = False,
        validation_fraction: float | None = None,
        early_stopping: bool = False,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        eval_every: int = 1,
        precision: Precision = "full",
        checkpoint_dir: str | None = None,
    ) -> None:
        self.n_components = n_components
        self.activation = activation
        self.output = output
        self.loss = loss
        self.penalty = penalty
        self.weight_decay = weight_decay
        self.tied = tied
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.init = init
        self.init_scale = init_scale
        self.init_output = init_output
        self.solver = solver
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.averaging = averaging
        self.reconstruction_sampling = reconstruction_sampling
        self.sparse_output = sparse_output
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.eval_every = eval_every
        self.precision = precision
        self.checkpoint_dir = checkpoint_dir

    @classmethod
    def from_rbm(cls, rbm: RestrictedBoltzmannMachine, **arguments: Any) -> SparseAutoencoder:
        """An autoencoder that begins as a fitted Boltzmann machine: units, loss and sizes are the machine's.

        Without penalties, so that fitting refines the weights for the reconstruction alone.

        Parameters
        ----------
        rbm : RestrictedBoltzmannMachine
            Fitted; its weights are read when training begins.
        **arguments
            Of the constructor, in place of these.

        Raises
        ------
        InputError
            If the machine is not fitted.

        Examples
        --------
        >>> import numpy as np
        >>> import rarefire as rf
        >>> X = np.random.default_rng(0).normal(size=(100, 4))
        >>> rbm = rf.GaussianRBM(n_components=3, random_state=0).fit(X)
        >>> refined = rf.SparseAutoencoder.from_rbm(rbm, max_iter=10, random_state=0).fit(X)
        >>> refined.score(X) >= rf.SparseAutoencoder.from_rbm(rbm, max_iter=0).fit(X).score(X)
        True
        """
        return cls(**{**arguments_of(rbm), **arguments})

    def __sklearn_clone__(self) -> SparseAutoencoder:
        """A clone of the arguments, but with the very machine in ``init``: a clone of that would not be fitted."""
        frozen = copy.copy(self)
        if self.init is not None and not isinstance(self.init, FrozenEstimator):
            frozen.init = FrozenEstimator(self.init)
        return super(SparseAutoencoder, frozen).__sklearn_clone__()

    # Training ---------------------------------------------------------------------------------------------------

    @property
    def parameter_names(self) -> dict[str, str]:  # type: ignore[override]
        """The fitted arrays, and the parameter that each holds; tied weights are one parameter."""
        return {
            "encoder_weight_": "encoder_weight",
            "encoder_bias_": "encoder_bias",
            "components_": "encoder_weight" if self.tied else "decoder_weight",
            "decoder_bias_": "decoder_bias",
        }

    @property
    def decoder_weight_(self) -> NDArray[np.floating]:
        """D, another name of ``components_``."""
        return self.components_

    def parts(self) -> dict[str, Any]:
        """The components in use, by fitted attribute."""
        layers = self._layers()
        bounded = layers["activation"].range is not None
        penalty = KLDivergence(target=0.05, strength=3.0) if bounded else L1Activity(strength=0.1)
        return {
            "activation_": clone(layers["activation"]),
            "output_": clone(layers["output"]),
            "loss_": clone(self._loss()),
            "penalty_": part_or(self.penalty, penalty),
            "weight_decay_": part_or(self.weight_decay, L2(1e-4)),
        }

    # Not through parts(): models are built and rows are judged for every update and epoch, and copies would cost more
    # than small batches do.
    def _layers(self) -> dict[str, Activation]:
        activation = Sigmoid() if self.activation is None else self.activation
        return {"activation": activation, "output": Identity() if self.output is None else self.output}

    def _loss(self) -> ReconstructionLoss:
        return SquaredError() if self.loss is None else self.loss

    def _initial(self, train: Source, dtype: torch.dtype, generator: Generator) -> Tensors:
        if self.init is not None:
            return start_of(self, train.shape[1], dtype)
        parameters = Autoencoder.initial(
            train.shape[1], self.n_components, **self._layers(), tied=self.tied, generator=generator, dtype=dtype
        ).parameters
        parameters["encoder_weight"] *= self.init_scale
        if self.init_output == "mean":
            total = torch.from_numpy(column_sums(train))
            bias = self._layers()["output"].input_of_mean(total, train.shape[0])
            assert bias is not None  # check_arguments refuses an output that has none
            parameters["decoder_bias"] = bias.to(dtype)
        return parameters

    def _model_of(self, parameters: Tensors, *, fitted: bool = False) -> Autoencoder:
        layers = {"activation": self.activation_, "output": self.output_} if fitted else self._layers()
        return Autoencoder(**parameters, **layers)  # type: ignore[arg-type]

    def _parameters(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensors:
        self._check_unchanged()
        return super()._parameters(device, dtype)

    def _check_fitted_shapes(self, n_features: int) -> None:
        super()._check_fitted_shapes(n_features)
        self._check_unchanged()
        for name in ("activation_", "output_", "loss_"):
            if (part := self.parts()[name]) != getattr(self, name):
                raise InputError(
                    f"the model was fitted with {name.rstrip('_')}={getattr(self, name)!r}, which is {part!r} now; set "
                    "it back, or fit a clone"
                )

    def _check_unchanged(self) -> None:
        if self.tied and not np.array_equal(self.encoder_weight_, self.components_):
            raise InputError(
                "tied=True, but the fitted encoder and decoder differ; set tied=False again, or fit a clone"
            )

    def _objective(self) -> Reconstruction:
        parts = self.parts()
        return Reconstruction(
            parts["loss_"],
            parts["penalty_"],
            parts["weight_decay_"],
            self.dropout,
            self.input_dropout,
            self.reconstruction_sampling,
            self._columns,
        )

    @property
    def _columns(self) -> tuple[str, ...]:
        """Parameters whose gradients may come by columns: where a step leaves what has no gradient as it is."""
        sampled = self.reconstruction_sampling is not None
        follows = sampled if self.solver == "adam" else self.solver == "sgd" and self.momentum == 0
        if not follows or not isinstance(self.weight_decay, NoPenalty):
            return ()
        if not sampled:
            return () if self.tied else ("encoder_weight",)
        return ("encoder_weight", "decoder_bias") if self.tied else ("encoder_weight", "decoder_weight", "decoder_bias")

    def _by_columns(self, train: Source) -> bool:
        return self.solver != "lbfgs" and (train.sparse or self.reconstruction_sampling is not None)

    def _objective_state(self, train: Source, dtype: torch.dtype, device: torch.device) -> Tensors:
        averaging = self.parts()["penalty_"].averaging
        return {} if averaging is None else Averages.initial(self.n_components, dtype, device)

    def _solver(self) -> Solver:
        if self.solver == "lbfgs":
            return LBFGS()
        return stepping(self.solver, self.learning_rate, self.momentum, self._columns)

    @property
    def _begins_elsewhere(self) -> bool:
        return self._is_warm or self.init is not None

    def spec(self, seed: int) -> dict[str, Any]:
        """Of :class:`Keepable`, without ``init``: the first checkpoint holds the weights that it gave."""
        without = copy.copy(self)
        without.init = None
        return super(SparseAutoencoder, without).spec(seed)

    @property
    def n_epochs(self) -> int:
        """``max_iter``."""
        return self.max_iter

    @property
    def _rows_per_update(self) -> int | None:
        if self.batch_size != "auto":
            return self.batch_size  # type: ignore[return-value]
        return None if self.solver == "lbfgs" else _BATCH

    def parameter_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """(n_components, n_features) for both matrices, and one bias for each unit of either layer."""
        return {
            "encoder_weight_": (self.n_components, n_features),
            "encoder_bias_": (self.n_components,),
            "components_": (self.n_components, n_features),
            "decoder_bias_": (n_features,),
        }

    def _more_arrays(self, n_features: int) -> dict[str, tuple[int | None, ...]]:
        if self.parts()["penalty_"].averaging is None:
            return {}
        return {"running_mean_": (self.n_components,), "running_weight_": (1,)}

    def _advice(self, history: Sequence[dict[str, Any]]) -> str:
        if self.solver == "lbfgs":
            return "; rescale the data or use a weaker penalty"
        return f"; lower learning_rate (now {self._solver().learning_rate!r}) or rescale the data"

    def _rate_range(self) -> tuple[float, float] | None:
        return self._layers()["activation"].range

    def _units_called(self) -> str:
        return f"{type(self._layers()['activation']).__name__} units"

    def check_arguments(self) -> None:
        """Refuse arguments that cannot be used, alone or together.

        Raises
        ------
        InputError
            For the first that cannot.
        """
        super().check_arguments()
        parts = self.parts()
        if reason := parts["loss_"].unsuited(parts["output_"]):
            raise InputError(f"loss={parts['loss_']!r} {reason}")
        if self.init is not None:
            check_init(self, self._layers(), machine_of(self.init))
        if self.init_output == "mean" and parts["output_"].input_of_mean(torch.zeros(1), 1) is None:
            raise InputError(f"init_output='mean' is for outputs with an inverse, not {parts['output_']!r}; use 'zero'")
        check_momentum(self.solver, self.momentum)
        if self.solver == "lbfgs":
            check_full_batch(self, parts)

    def check_values(self, source: Source) -> str | None:
        """A sentence if values lie where no reconstruction can reach, else None."""
        output = self._layers()["output"]
        bounds = output.reach
        if not any(map(math.isfinite, bounds)):
            return None
        low, high = source.extremes
        if low >= bounds[0] and high <= bounds[1]:
            return None
        return (
            f"values of the data lie in [{low:.4g}, {high:.4g}], but output={output!r} reaches only values "
            f"in [{bounds[0]:g}, {bounds[1]:g}]; rescale them (rarefire.preprocess.Rescale or ClipRescale, --prepare "
            "on the command line), or use a linear output"
        )

    @property
    def refuses_values(self) -> bool:
        """Whether a value out of reach would let the cost fall without end."""
        return self._loss().needs_reach

    # Measuring --------------------------------------------------------------------------------------------------

    @property
    def cost_unit(self) -> str:
        """What the loss measures a row in."""
        return self._loss().unit

    def _costs(self, model: Autoencoder, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """The cost of each row, of shape (n_rows,), in float64."""
        return self._loss().evaluate(x, model.output_input(codes), model.output)[0]

    def _record(
        self,
        model: Autoencoder,
        train: torch.Tensor,
        held_out: torch.Tensor | None,
        generator: Generator,
    ) -> dict[str, Any]:
        codes = model.encode(train)
        active = active_count(model.activation.active(codes).cpu().numpy())
        record = {"active_mean": active.mean, "active_max": active.maximum}
        if held_out is not None:
            codes = model.encode(held_out)
            record["validation_cost"] = self._costs(model, held_out, codes).mean().item()
        return {**record, "zeros": share_of_zeros(codes.cpu().numpy())}

    def measure(self, train: Source, held_out: Source | None) -> list[dict[str, Any]]:
        """Costs, explained variance and activity on all rows of both parts, as entries of ``metrics.json``."""
        model = self.fitted_model(torch.float64, resolve_device(self.device))
        centre = column_sums(train) / train.shape[0]
        entries = []
        zeros, total, most = 0.0, 0, 0  # of arrays that were kept among those that are freed memory would grow
        for name, rows_of, source in (("cost", "training", train), ("cv_cost", "held-out", held_out)):
            if source is None:
                continue
            cost = left = spread = zeros = 0.0
            for rows in source.batches(measured_rows(model)):
                x = tensor_of(rows, model.device).to(torch.float64)
                codes = model.encode(x)
                cost += self._costs(model, x, codes).sum().item()
                left += ((x - model.decode(codes)) ** 2).sum().item()
                spread += ((rows - centre) ** 2).sum()
                zeros += share_of_zeros(codes.cpu().numpy()) * len(rows)
                if source is train:
                    counts = model.activation.active(codes).sum(dim=1)
                    total, most = total + int(counts.sum()), max(most, int(counts.max()))
            text = f"reconstruction cost of {rows_of} rows"
            entries.append(metric(name, cost / source.shape[0], self.cost_unit, text))
            if spread > 0:
                prefix = name.removesuffix("cost")
                text = f"1 − squared error over squared distance from the training rows' mean, {rows_of} rows"
                entries.append(metric(f"{prefix}explained_variance", 1 - left / spread, "share", text))
            zeros /= source.shape[0]
        part = "held-out" if held_out is not None else "training"
        entries.append(metric("zeros", zeros, "share", f"codes of {part} rows that are exactly zero, dead units too"))
        units = unit_activity(self.codes_and_active(rows) for rows in train.any_batches())
        if (bounds := self._rate_range()) is not None:
            rates = (units.mean_code - bounds[0]) / (bounds[1] - bounds[0])
            entries.append(metric("mean_rate", rates.mean(), "", "mean rate of the units over training rows"))
        meaning = "rate above 0.5" if bounds is not None else "not zero, or above it for units that leak"
        return [
            *entries,
            metric(
                "active_mean", total / train.shape[0], "units", f"active units ({meaning}), mean over training rows"
            ),
            metric("active_max", most, "units", "active units, most on any training row"),
            metric("dead_units", units.dead.sum(), "units", "never active on any training row"),
            metric("always_on_units", units.always_on.sum(), "units", "active on every training row"),
        ]

    def codes_and_active(self, rows: Any) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """Codes of shape (n_rows, n_components), and which of them count as active."""
        dtype = torch.float64 if rows.dtype == np.float64 else torch.float32
        model = self.encoding_model(dtype, resolve_device(self.device), sparse=sp.issparse(rows))
        codes = model.encode(rows_tensor(rows, model.device))
        return codes.cpu().numpy(), model.activation.active(codes).cpu().numpy()

    def score_samples(self, X: Any) -> Any:
        """Minus the reconstruction cost of each row, in the unit of the loss.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray or torch.Tensor of shape (n_samples,)
        """
        return self._map_rows(X, lambda model, x: -self._costs(model, x, model.encode(x)))

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the mean reconstruction cost of the rows of ``X``; higher is better."""
        return float(self.score_samples(X).mean())

    def to_torch(self) -> torch.nn.Module:
        """The fitted model as a torch module.

        Its parameters are ``encoder_weight`` (n_components, n_features), ``encoder_bias``, ``decoder_bias`` and,
        unless tied, ``decoder_weight``; ``forward(x)`` gives codes and ``decode(h)`` reconstructions, both
        differentiable.
        """
        return TorchModel(self.fitted_model())
