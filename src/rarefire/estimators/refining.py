"""A fitted Boltzmann machine as the autoencoder that fitting begins with, and refines."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.frozen import FrozenEstimator

from rarefire.activations import Activation, Identity, Sigmoid
from rarefire.errors import InputError
from rarefire.estimators.machine import RestrictedBoltzmannMachine
from rarefire.losses import BernoulliCrossEntropy, SquaredError
from rarefire.penalties import NoPenalty
from rarefire.types import Tensors
from rarefire.units import Bernoulli


def machine_of(init: Any) -> RestrictedBoltzmannMachine:
    """The fitted machine that ``init`` is, or wraps.

    Raises
    ------
    InputError
        If it is none, or not fitted.
    """
    machine = init.estimator if isinstance(init, FrozenEstimator) else init
    if not isinstance(machine, RestrictedBoltzmannMachine):
        raise InputError(f"init must be a fitted BernoulliRBM or GaussianRBM, or None, not {machine!r}")
    if not hasattr(machine, "components_"):
        raise InputError(
            f"the machine in init, {machine!r}, is not fitted; call its fit first (where it is a candidate of a grid, "
            "wrap it in sklearn.frozen.FrozenEstimator, or the grid clones the fit away)"
        )
    return machine


def output_of(machine: RestrictedBoltzmannMachine) -> Activation:
    """The output layer that answers as the machine's visible units do in the mean."""
    return Sigmoid() if isinstance(machine.visible_units, Bernoulli) else Identity()


def arguments_of(rbm: Any) -> dict[str, Any]:
    """Arguments of an autoencoder with the machine's units and sizes, and without penalties."""
    machine = machine_of(rbm)
    return {
        "n_components": len(machine.components_),
        "init": FrozenEstimator(machine),
        "output": output_of(machine),
        "loss": BernoulliCrossEntropy() if isinstance(machine.visible_units, Bernoulli) else SquaredError(),
        "penalty": NoPenalty(),
        "weight_decay": NoPenalty(),
    }


def check_init(autoencoder: Any, layers: dict[str, Activation], machine: RestrictedBoltzmannMachine) -> None:
    """See that the layers of an autoencoder are those of the machine that it begins with, fitted already or not.

    Raises
    ------
    InputError
        If they are not, or another argument says what training begins with.
    """
    for name, wanted in (("activation", Sigmoid()), ("output", output_of(machine))):
        if layers[name] != wanted:
            raise InputError(
                f"init is a {type(machine).__name__}, whose {name} is {wanted!r}, but {name}={layers[name]!r}; use "
                "SparseAutoencoder.from_rbm, which sets it"
            )
    if autoencoder.tied and getattr(machine, "learn_variance", False):
        raise InputError("the machine in init divides its weights by a variance on the way up; set tied=False")
    if autoencoder.init_scale != 1 or autoencoder.init_output != "zero":
        raise InputError("weights and biases come from the machine in init; leave init_scale and init_output alone")


def start_of(autoencoder: Any, n_features: int, dtype: torch.dtype) -> Tensors:
    """The parameters of an autoencoder that computes E[h|v] and E[v|h] of the machine in its ``init``.

    With learnt variances the encoder's weights are W/σ², and the decoder's are W.

    Raises
    ------
    InputError
        If sizes differ.
    """
    machine = machine_of(autoencoder.init).fitted_model(dtype)
    if (shape := tuple(machine.weight.shape)) != (autoencoder.n_components, n_features):
        raise InputError(
            f"init is a machine of {shape[1]} columns and {shape[0]} units, but data and n_components ask for "
            f"{n_features} and {autoencoder.n_components}; make the sizes agree"
        )
    decoder = {} if autoencoder.tied else {"decoder_weight": machine.weight}
    return {
        "encoder_weight": machine.encoder.clone(),
        "encoder_bias": machine.hidden_bias,
        **decoder,
        "decoder_bias": machine.visible_bias,
    }
