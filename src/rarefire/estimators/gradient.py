"""The gradient that an estimator follows, against differences of the value that it belongs to."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import clone

from rarefire.arguments import Number, Whole
from rarefire.data.batch import Batch
from rarefire.errors import InputError
from rarefire.estimators.base import SparseLearner
from rarefire.objectives.finetune import Unrolled
from rarefire.penalties import ActivityPenalty, WeightPenalty
from rarefire.random import Generator, integer_seed
from rarefire.types import Tensors


def check_gradient(estimator: SparseLearner, X: Any, *, max_entries: int | None = 1000, step: float = 1e-4) -> float:
    """Compare an estimator's gradient on all rows of ``X`` with central differences of its objective.

    The figure is ‖g − g′‖/‖g + g′‖, with g the gradient that training follows and g′ the differences of fourth order
    (f(−2s) − 8f(−s) + 8f(s) − f(2s))/12s, in float64 and with the same random draws each time. A right gradient gives
    less than 1e-8; it is larger where an activation has a kink within 2s of some unit's input. Each entry costs four
    evaluations, so nothing calls this unless it is asked to.

    Parameters
    ----------
    estimator : SparseLearner
        Fitted, or not: then the initial parameters are taken.
    X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
        The rows.
    max_entries : int or None
        How many entries of the parameters are compared, drawn at random where there are more; None takes all.
    step : float
        s.

    Returns
    -------
    gap : float

    Raises
    ------
    InputError
        If the estimator's gradient belongs to no value, as in contrastive divergence or with a penalty that follows
        running averages, moves biases alone or takes proximal steps; or if an argument cannot be.

    Notes
    -----
    Source: the gradient checking of CS294A (document 001).

    Examples
    --------
    >>> import numpy as np
    >>> import rarefire as rf
    >>> X = np.random.default_rng(0).normal(size=(20, 6))
    >>> rf.check_gradient(rf.SparseAutoencoder(n_components=3, random_state=0), X) < 1e-8
    True
    """
    for name, value, rule in (
        ("max_entries", max_entries, Whole(1, none=True)),
        ("step", step, Number(0, above=True)),
    ):
        if not rule.allows(value):
            raise InputError(f"{name}={value!r} must be {rule}")
    estimator.check_arguments()
    fitted = hasattr(estimator, "components_")
    if not fitted:
        estimator = clone(estimator)  # which validation of the rows may leave its marks on
    source = estimator.source_of(X, reset=not fitted)
    seed = estimator.seed_ if fitted else integer_seed(estimator.random_state)
    if fitted:
        parameters: Tensors = dict(estimator.fitted_model(torch.float64).parameters)
    else:
        parameters = estimator._initial(source, torch.float64, Generator(seed, "initial"))
    objective = estimator._objective()
    state = estimator._objective_state(source, torch.float64, torch.device("cpu"))
    batch = Batch(source, slice(None), dtype=torch.float64)

    def evaluate(at: Tensors) -> Any:
        return objective.evaluate(estimator._model_of(at), batch, state, Generator(seed, "gradient check"))[0]

    loss = evaluate(parameters)
    if loss.value is None:
        raise InputError(
            f"the gradient of {type(estimator).__name__} is an estimate and that of no value; none to check"
        )
    if isinstance(objective, Unrolled) and objective.noise:
        raise InputError("the straight-through gradient is not the derivative of its value; none to check")
    parts = estimator.parts()
    for part in (parts.get("penalty_"), parts.get("weight_decay_")):
        inexact = isinstance(part, ActivityPenalty) and not part.exact
        if inexact or (isinstance(part, WeightPenalty) and part.shrinkage):
            raise InputError(
                f"what {part!r} adds to a step is not the derivative of its value; none to check, so leave it out"
            )
    entries = [(name, index) for name, value in parameters.items() for index in range(value.numel())]
    if max_entries is not None and len(entries) > max_entries:
        chosen = Generator(seed, "checked entries").permutation(len(entries))[:max_entries]
        entries = [entries[place] for place in sorted(chosen)]

    def value_at(name: str, index: int, by: float) -> float:
        moved = parameters[name].clone()
        moved.view(-1)[index] += by
        return float(evaluate({**parameters, name: moved}).value)

    grads = loss.dense_grads(parameters)
    exact = torch.tensor([grads[name].reshape(-1)[index] for name, index in entries], dtype=torch.float64)
    weights = ((-2, 1), (-1, -8), (1, 8), (2, -1))
    numeric = torch.tensor(
        [sum(w * value_at(name, index, k * step) for k, w in weights) / (12 * step) for name, index in entries],
        dtype=torch.float64,
    )
    total = (exact + numeric).norm()
    return float((exact - numeric).norm() / total) if total > 0 else 0.0
