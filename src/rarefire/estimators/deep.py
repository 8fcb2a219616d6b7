"""Deep belief networks as a scikit-learn estimator: machines trained one upon the other, then together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.validation import check_is_fitted

from rarefire.arguments import Choice, Free, Number, Part, Rule, Whole
from rarefire.artifact import RunDirectory
from rarefire.component import find
from rarefire.data.source import Source
from rarefire.errors import InputError
from rarefire.estimators.boltzmann import BernoulliRBM
from rarefire.estimators.keeping import part_or
from rarefire.estimators.layers import LayerSource
from rarefire.estimators.machine import RestrictedBoltzmannMachine
from rarefire.estimators.module import TorchModel
from rarefire.estimators.splitting import Split
from rarefire.estimators.stochastic import HALF_STEPS, StochasticLearner
from rarefire.events import ArmStarted, Listener
from rarefire.models.deep import Layer, UnrolledNetwork
from rarefire.objectives import Objective
from rarefire.objectives.finetune import Unrolled, UpDown
from rarefire.parallel import resolve_device
from rarefire.penalties import NoPenalty, WeightPenalty
from rarefire.precision import Precision
from rarefire.random import Generator, integer_seed
from rarefire.schedules import Schedule
from rarefire.solvers import Solver
from rarefire.solvers.stepping import LEARNING_RATES, check_momentum, stepping
from rarefire.trainer import Trainer
from rarefire.types import Tensors, tensor_of
from rarefire.units import Gaussian, Units

_TUNINGS = ("mean", "sample", "up-down")
#: What is of the fine-tuning alone; machines have their own ``eval_every`` and ``precision``.
_TUNING = ("early_stopping", "eval_every", "precision")
#: What arguments are where they have no meaning.
_FREE: dict[str, Any] = {
    "early_stopping": False,
    "eval_every": 1,
    "precision": "full",
    "gibbs_steps": 1,
    "redraw": True,
    "init": "random",
}


class DeepBeliefNetwork(_BaseComposition, StochasticLearner):
    """Restricted Boltzmann machines stacked one upon the other, trained greedily, then together if asked for.

    The first machine learns the rows; each machine above learns what the hidden units of the one below make of them.
    ``fit`` trains one after the other, and with ``fine_tune`` the unrolled network after that: all layers up, and down
    again, each way with weights of its own that begin as the machine's.

    Parameters
    ----------
    machines : list of (str, RestrictedBoltzmannMachine), of machines, of their names or of int; or None
        The lowest first, fitted as clones; a name is that of the arguments, ``lower__n_components``. Without names they
        are called ``layer1``, ``layer2``, ...; a whole number stands for a ``BernoulliRBM`` with as many units. Those
        above the first have binary visible units. None is two machines of 100 units.
    hand_over : {"sample", "mean"}
        What a machine is trained on: samples of the hidden units below, sampled all the way up, or their
        probabilities.
    redraw : bool
        Whether samples are drawn anew in every epoch; else once and for all.
    init : {"random", "transpose"}
        How machines above the first begin: as they would alone, or as the machine below turned upside down, so that
        the stack begins as good a model as that machine; they then have as many units as that has visibles.
    fine_tune : {"mean", "sample", "up-down"} or None
        How all layers are trained together: the reconstruction's cost through layers that hand on their means, or
        samples (straight-through), or the up-down algorithm. None leaves the machines as they are.
    solver : {"adam", "sgd"}
        Of the fine-tuning, as are the next six.
    learning_rate : float, Schedule or None
        None is 0.001 for "adam" and 0.1 for "sgd".
    momentum : float or Schedule
        Of "sgd".
    max_iter : int
        Epochs.
    batch_size : int or None
        Rows of an update; None takes all rows at once.
    weight_decay : WeightPenalty or None
        Penalty on all matrices; None is none. Not for "up-down".
    gibbs_steps : int
        Steps of the highest machine in each update of "up-down".
    averaging : float or None
        Factor d in [0, 1) of an exponential average over epochs, which becomes the fitted network.
    validation_fraction : float or None
        Share of rows held out, from all layers; None is none, and 0.1 with early stopping.
    early_stopping, n_iter_no_change, tol : bool, int, float
        Whether fine-tuning stops when the held-out cost has not fallen by more than ``tol`` for so many epochs.
    random_state : int, RandomState instance or None
        Fixes all random numbers; ``random_state``, ``verbose`` and ``device`` of the machines are not used.
    verbose : int
        Above 0, one line an epoch on standard output, of the machines too.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", ...
    eval_every, precision : int, {"full", "bfloat16"}
        Of the fine-tuning, as :class:`BernoulliRBM` has them; those of the machines are theirs.
    checkpoint_dir : str or None
        Run directory that ``fit`` writes; the machines are in its folder ``layers``.

    Attributes
    ----------
    machines_ : list of RestrictedBoltzmannMachine
        The machines as greedy training left them.
    encoder_weight_1_, encoder_bias_1_, decoder_weight_1_, decoder_bias_1_, encoder_weight_2_, ... : ndarray
        Of the unrolled network, the lowest layer first; rows belong to the upper layer's units.
    components_ : ndarray of shape (n_top, n_features)
        The product of all decoder weights: what a top unit would add to a row if no layer between bent its input.
    history_ : list of dict
        One record for each epoch of fine-tuning, as :class:`BernoulliRBM` has them; ``machines_`` have their own.
    n_iter_ : int
        Epochs done, of all machines and of the fine-tuning.
    stop_reason_, seed_, validation_indices_, n_features_in_, feature_names_in_
        As :class:`BernoulliRBM` has them; of the fine-tuning.

    References
    ----------
    Hinton, Osindero and Teh (2006), A fast learning algorithm for deep belief nets. Hinton and Salakhutdinov (2006),
    Reducing the dimensionality of data with neural networks.

    Examples
    --------
    >>> import numpy as np
    >>> import rarefire as rf
    >>> X = (np.random.default_rng(0).random((100, 6)) < 0.3).astype(float)
    >>> deep = rf.DeepBeliefNetwork([4, 3], random_state=0).fit(X)
    >>> deep.transform(X).shape, deep.inverse_transform(deep.transform(X)).shape
    ((100, 3), (100, 6))
    """

    rules: ClassVar[dict[str, Rule]] = {
        "machines": Free(),
        "hand_over": Choice(HALF_STEPS),
        "init": Choice(("random", "transpose")),
        "fine_tune": Choice((*_TUNINGS, None)),
        "solver": Choice(tuple(LEARNING_RATES)),
        "learning_rate": Number(0, above=True, none=True, schedule=Schedule),
        "momentum": Number(0, 1, schedule=Schedule),
        "max_iter": Whole(0),
        "batch_size": Whole(1, none=True),
        "weight_decay": Part(WeightPenalty),
        "gibbs_steps": Whole(1),
        "averaging": Number(0, 1, none=True),
        "validation_fraction": Number(0, 1, none=True),
        "n_iter_no_change": Whole(1),
        "tol": Number(0),
        "eval_every": Whole(1),
        "precision": Choice(get_args(Precision)),
        "verbose": Free(),
    }
    warm_start = False

    def __init__(
        self,
        machines: Any = None,
        *,
        hand_over: str = "sample",
        redraw: bool = True,
        init: str = "random",
        fine_tune: str | None = None,
        solver: str = "adam",
        learning_rate: float | Schedule | None = None,
        momentum: float | Schedule = 0.0,
        max_iter: int = 100,
        batch_size: int | None = 100,
        weight_decay: WeightPenalty | None = None,
        gibbs_steps: int = 1,
        averaging: float | None = None,
        validation_fraction: float | None = None,
        early_stopping: bool = False,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        eval_every: int = 1,
        precision: Precision = "full",
        checkpoint_dir: str | None = None,
    ) -> None:
        self.machines = machines
        self.hand_over = hand_over
        self.redraw = redraw
        self.init = init
        self.fine_tune = fine_tune
        self.solver = solver
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.gibbs_steps = gibbs_steps
        self.averaging = averaging
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.eval_every = eval_every
        self.precision = precision
        self.checkpoint_dir = checkpoint_dir

    # Parameters of the machines ---------------------------------------------------------------------------------

    @property
    def named(self) -> list[tuple[str, RestrictedBoltzmannMachine]]:
        """The machines that were given, each with its name."""
        given = [100, 100] if self.machines is None else self.machines
        if not isinstance(given, (list, tuple)) or not given:
            raise InputError(
                f"machines={given!r} must be a list of machines, (name, machine) pairs or numbers of units"
            )
        named = []
        for k, entry in enumerate(given, 1):
            name, machine = entry if isinstance(entry, (list, tuple)) and len(entry) == 2 else (f"layer{k}", entry)
            if isinstance(machine, str):
                machine = find(RestrictedBoltzmannMachine, machine)()
            elif Whole(1).allows(machine):
                machine = BernoulliRBM(n_components=machine)
            if not isinstance(machine, RestrictedBoltzmannMachine):
                raise InputError(f"machines holds {machine!r}; it may hold BernoulliRBM, GaussianRBM and whole numbers")
            named.append((name, machine))
        return named

    @named.setter
    def named(self, machines: list[tuple[str, RestrictedBoltzmannMachine]]) -> None:
        self.machines = machines

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments, and with ``deep`` the machines by name and their arguments as ``name__argument``."""
        try:
            return self._get_params("named", deep=deep)
        except InputError:  # of machines that are none, which fit will speak of
            return super().get_params(deep=False)

    def set_params(self, **params: Any) -> DeepBeliefNetwork:
        """Set arguments, machines by name, and arguments of machines as ``name__argument``."""
        if "machines" in params:
            self.machines = params.pop("machines")
        own = self.get_params(deep=False)
        if any(key.partition("__")[0] not in own for key in params):
            # Numbers and None stand for machines that nobody holds yet, whose arguments would be set in vain.
            self.named = self.named
            self._set_params("named", **params)
        else:  # machines that are none are for fit to speak of
            super().set_params(**params)
        return self

    # Training ---------------------------------------------------------------------------------------------------

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
        """Train the machines from the lowest up, then all layers together; see :class:`SparseLearner`.

        A machine that is trained already, in the directory's ``layers``, is taken from there.
        """
        from rarefire.estimators.load import load_parts  # which knows this module

        below = source
        machines: list[RestrictedBoltzmannMachine] = []
        named = self.named
        for k, (name, given) in enumerate(named):
            place = None if directory is None else directory.layer(name)
            if place is not None and place.complete:
                machine = load_parts(place)[0]
            else:
                for listener in listeners:
                    listener(ArmStarted(name, k + 1, len(named) + (self.fine_tune is not None)))
                seed_of_layer = integer_seed(np.random.default_rng([seed, k])) if k else seed
                machine = clone(given).set_params(device=self.device, verbose=self.verbose, random_state=seed_of_layer)
                if place is not None and not place.exists:
                    spec = machine.spec(seed_of_layer)
                    place.create({**spec, "kind": "arm", "data": below.spec(), "prepare": []})
                if k and self.init == "transpose":
                    self._turn_over(machines[-1], machine)
                machine.fit_source(
                    below,
                    split,
                    seed=seed_of_layer,
                    directory=place,
                    listeners=listeners,
                    should_stop=should_stop,
                    checkpoint_every=checkpoint_every,
                )
                machine.warm_start = given.warm_start
                if place is not None:
                    place.finish(machine.weights_bytes())
            machines.append(machine)
            below = LayerSource(source, [m.fitted_model() for m in machines], self.hand_over, seed)
            if not self.redraw:
                below = below.kept()
        self.machines_ = machines
        if self.fine_tune is not None:
            for listener in listeners:
                listener(ArmStarted("all layers together", len(named) + 1, len(named) + 1))
        return self._fit_together(
            source,
            split,
            seed=seed,
            directory=directory,
            listeners=listeners,
            should_stop=should_stop,
            checkpoint_every=checkpoint_every,
        )

    def _fit_together(self, source: Source, split: Split, **arguments: Any) -> DeepBeliefNetwork:
        super().fit_source(source, split, **arguments)
        self.n_iter_ += sum(machine.n_iter_ for machine in self.machines_)
        return self

    @staticmethod
    def _turn_over(below: RestrictedBoltzmannMachine, machine: RestrictedBoltzmannMachine) -> None:
        """Let a machine begin as the one below it upside down."""
        machine.components_ = below.components_.T.copy()
        machine.intercept_hidden_ = below.intercept_visible_.copy()
        machine.intercept_visible_ = below.intercept_hidden_.copy()
        machine.warm_start = True

    def tune(self, X: Any, y: Any = None) -> DeepBeliefNetwork:
        """Train all layers together as ``fine_tune`` says, from where greedy training left the machines.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored.

        Returns
        -------
        self : the network

        Raises
        ------
        InputError
            If ``fine_tune`` is None, or another argument cannot be used.
        RunError
            If training diverged.
        """
        check_is_fitted(self)
        self.check_arguments()
        if self.fine_tune is None:
            raise InputError(f"fine_tune=None leaves the machines as they are; set it to one of {_TUNINGS}")
        if self.checkpoint_dir is not None:
            raise InputError(
                f"tune writes no run, but checkpoint_dir={self.checkpoint_dir!r}; unset it, or let fit do both"
            )
        source = self.source_of(X, reset=False)
        # The seed of the fit, so that the rows held out are those that the machines have not seen.
        return self._fit_together(source, self.split(source.shape[0], self.seed_), seed=self.seed_)

    def _initial(self, train: Source, dtype: torch.dtype, generator: Generator) -> Tensors:
        if not hasattr(self, "machines_"):
            raise InputError("fine-tuning begins with trained machines, and there are none yet; fit the network first")
        return UnrolledNetwork.of([machine.fitted_model(dtype) for machine in self.machines_]).parameters

    def _model_of(self, parameters: Tensors, *, fitted: bool = False) -> UnrolledNetwork:
        return UnrolledNetwork.from_parameters(parameters, self._law_of_rows(parameters["decoder_bias_1"]))

    def _law_of_rows(self, like: torch.Tensor) -> Units:
        """The visible units, in the type of a tensor and where it is."""
        lowest = self.machines_[0]
        if not getattr(lowest, "learn_variance", False):
            return lowest.visible_units
        return Gaussian(tensor_of(lowest.variance_, like.device).to(like.dtype))

    def _trainer(self, train: Source, *others: Any, **options: Any) -> Trainer:
        laws: list[Units] = []

        def model_of(parameters: Tensors) -> UnrolledNetwork:
            if not laws:  # sent to the device once, and not in every update
                laws.append(self._law_of_rows(parameters["decoder_bias_1"]))
            return UnrolledNetwork.from_parameters(parameters, laws[0])

        return replace(super()._trainer(train, *others, **options), model_of=model_of)

    def _objective(self) -> Objective:
        if self.fine_tune == "up-down":
            return UpDown(self.gibbs_steps)
        return Unrolled(noise=self.fine_tune == "sample", weight_decay=self.parts()["weight_decay_"])

    def _objective_state(self, train: Source, dtype: torch.dtype, device: torch.device) -> Tensors:
        return {}

    def _solver(self) -> Solver:
        return stepping(self.solver, self.learning_rate, self.momentum)

    def _advice(self, history: Sequence[dict[str, Any]]) -> str:
        return f"; lower learning_rate (now {stepping(self.solver, self.learning_rate, self.momentum).learning_rate!r})"

    @property
    def _monitor(self) -> str:
        # What is followed; by means the sampled cost may rise while the other falls.
        return "validation_cost_mean_field" if self.fine_tune == "mean" else "validation_cost"

    @property
    def n_epochs(self) -> int:
        """``max_iter``, or none without fine-tuning."""
        return 0 if self.fine_tune is None else self.max_iter

    @property
    def _rows_per_update(self) -> int | None:
        return self.batch_size

    @property
    def parameter_names(self) -> dict[str, str]:  # type: ignore[override]
        """The fitted arrays, and the parameter that each holds."""
        n_layers = len(getattr(self, "machines_", self.named))
        return {f"{name}_{k}_": f"{name}_{k}" for k in range(1, n_layers + 1) for name in Layer._fields}

    def parameter_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """(above, below) for both matrices of a layer, and a bias for each unit on either side."""
        shapes: dict[str, tuple[int, ...]] = {}
        below = n_features
        for k, (_, machine) in enumerate(self.named, 1):
            above = machine.n_components
            for name, shape in zip(Layer._fields, ((above, below), (above,), (above, below), (below,)), strict=True):
                shapes[f"{name}_{k}_"] = shape
            below = above
        return shapes

    def parts(self) -> dict[str, Any]:
        """No penalty on activity; the weight decay, ``NoPenalty()`` for None."""
        return {"penalty_": NoPenalty(), "weight_decay_": part_or(self.weight_decay, NoPenalty())}

    @property
    def components_(self) -> NDArray[np.floating]:
        """The product of all decoder weights, of shape (n_top, n_features)."""
        if not hasattr(self, "decoder_weight_1_"):
            raise AttributeError("components_ is there once the network is fitted")
        return self.fitted_model().decoder.numpy()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "decoder_weight_1_")

    @property
    def visible_units(self) -> Units:
        """The law of the rows: that of the lowest machine."""
        return self.named[0][1].visible_units

    @available_if(lambda self: False)
    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Not there: layers are trained one after the other, each to its end."""

    def check_arguments(self) -> None:
        """Refuse arguments that cannot be used, of the network and of its machines.

        Raises
        ------
        InputError
            For the first that cannot.
        """
        super().check_arguments()
        names = [name for name, _ in self.named]
        for name in names:
            if not isinstance(name, str) or not name.isidentifier() or "__" in name or names.count(name) > 1:
                raise InputError(f"a machine cannot be called {name!r}; give each a word of its own, without '__'")
            if name in self.get_params(deep=False):
                raise InputError(f"a machine cannot be called {name!r}, which is an argument; give it another name")
        for k, (name, machine) in enumerate(self.named):
            machine.check_arguments()
            if k and not isinstance(machine, BernoulliRBM):
                raise InputError(
                    f"{name} is a {type(machine).__name__}, but what it learns are binary units; use a BernoulliRBM "
                    "above the first machine"
                )
            if machine.warm_start:
                raise InputError(f"warm_start=True of {name} has no meaning, as clones are fitted; leave it at False")
            for argument in ("validation_fraction", "early_stopping", "checkpoint_dir"):
                if getattr(machine, argument):
                    value = getattr(machine, argument)
                    raise InputError(f"{argument}={value!r} of {name} belongs to the whole network; set it there")
        if self.fine_tune == "up-down" and len(names) == 1:
            raise InputError("fine_tune='up-down' of one machine is contrastive divergence; give two machines or more")
        if self.init == "transpose" and not isinstance(self.named[0][1], BernoulliRBM):
            raise InputError(
                f"init='transpose' takes the visible units below for hidden ones, which those of a "
                f"{type(self.named[0][1]).__name__} are not; leave it at 'random'"
            )
        if self.fine_tune == "up-down" and not isinstance(self.parts()["weight_decay_"], NoPenalty):
            raise InputError(f"fine_tune='up-down' takes no decay, but weight_decay={self.weight_decay!r}; unset it")
        for name, idle, meaning in (
            *((name, self.fine_tune is None, "belongs to fine-tuning, and fine_tune is None") for name in _TUNING),
            ("gibbs_steps", self.fine_tune != "up-down", "belongs to fine_tune='up-down'"),
            ("redraw", self.hand_over == "mean", "belongs to hand_over='sample'"),
            ("init", len(names) == 1, "is for machines above the first, and there is one"),
        ):
            if idle and getattr(self, name) != (free := _FREE[name]):
                raise InputError(f"{name}={getattr(self, name)!r} {meaning}; leave it at {free!r}")
        check_momentum(self.solver, self.momentum)

    def check_values(self, source: Source) -> str | None:
        """What the lowest machine says of them.

        Raises
        ------
        InputError
            If machines cannot begin upside down on rows of this width.
        """
        if self.init == "transpose":
            widths = [source.shape[1], *(machine.n_components for _, machine in self.named)]
            for (name, machine), visible in zip(self.named[1:], widths, strict=False):
                if machine.n_components != visible:
                    raise InputError(
                        f"init='transpose' begins {name} as the machine below upside down, which has {visible} visible "
                        f"units, but {name} has {machine.n_components} components; make them equal"
                    )
        return self.named[0][1].check_values(source)

    # Measuring and sampling -------------------------------------------------------------------------------------

    def _up(self, model: UnrolledNetwork, v: torch.Tensor, generator: Generator | None) -> torch.Tensor:
        return model.up(v, generator).states[-1]

    def _way(
        self, model: UnrolledNetwork, v: torch.Tensor, generator: Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        h = self._up(model, v, generator)
        return h, model.down(h, generator)[1]

    def score_samples(self, X: Any) -> Any:
        """Minus the mean-field cost of each row's reconstruction through all layers, per pixel.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray or torch.Tensor of shape (n_samples,)
        """
        return self._map_rows(X, lambda model, v: -model.visible.cost(v, self._way(model, v, None)[1]).mean(dim=1))

    def sample(self, n_samples: int = 1, *, gibbs_steps: int = 1000) -> NDArray[np.floating]:
        """Draw rows from the network: Gibbs sampling between the two highest layers, then down.

        After fine-tuning by "mean" or "sample" the ways up and down have weights of their own, and what is drawn is a
        chain of encoding and decoding rather than a model's distribution.

        Parameters
        ----------
        n_samples : int
            Number of chains, and of samples.
        gibbs_steps : int
            Steps of each chain, which starts at top units drawn with probability one half.

        Returns
        -------
        v : ndarray of shape (n_samples, n_features)
            Of 0 and 1 where visibles are binary.
        """
        check_is_fitted(self)
        for name, value in (("n_samples", n_samples), ("gibbs_steps", gibbs_steps)):
            if not Whole(1).allows(value):
                raise InputError(f"{name}={value!r} must be {Whole(1)}")
        model = self.fitted_model(device=resolve_device(self.device))
        stream = self._stream(model.device)
        bias = model.layers[-1].encoder_bias
        h = stream.bernoulli(torch.full((n_samples, len(bias)), 0.5, dtype=bias.dtype, device=bias.device))
        return model.dream(h, gibbs_steps, stream).cpu().numpy()

    def to_torch(self) -> torch.nn.Module:
        """The unrolled network as a torch module: ``forward`` gives the top layer's means, ``decode`` rows."""
        return TorchModel(self.fitted_model())

    def _save_layers(self, directory: RunDirectory) -> None:
        for (name, _), machine in zip(self.named, self.machines_, strict=True):
            machine.save(directory.layer(name).path)

    def _check_fitted_shapes(self, n_features: int) -> None:
        if len(self.named) != len(self.machines_):
            raise InputError(
                f"the network was fitted with {len(self.machines_)} machines, and has {len(self.named)} now; set "
                "machines back, or fit a clone"
            )
        super()._check_fitted_shapes(n_features)
