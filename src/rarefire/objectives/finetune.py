"""Fine-tuning of all layers of a deep belief network together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rarefire.data.batch import Batch
from rarefire.models.deep import UnrolledNetwork
from rarefire.objectives import Objective
from rarefire.penalties import NoPenalty, WeightPenalty
from rarefire.random import Generator
from rarefire.sampling import gibbs
from rarefire.types import Loss, Tensors


@dataclass(frozen=True)
class Unrolled(Objective):
    """Cost of the reconstruction through all layers, J = (1/N) Σᵢ Σ ℓ(vᵢ, zᵢ) + R(weights), and its gradient.

    Without noise every layer hands on its means, and the gradient is exact. With noise every hidden layer hands on a
    sample, up and down, as the layers of a Boltzmann machine do; the gradient goes back as though a sample moved with
    its mean, ∂s/∂z = σ(z)(1 − σ(z)) (the straight-through estimate), which learns codes that noise does not garble.

    Parameters
    ----------
    noise : bool
        Whether hidden layers hand on samples.
    weight_decay : WeightPenalty
        R, of all matrices.

    Notes
    -----
    Sources: Hinton and Salakhutdinov (2006), Reducing the dimensionality of data with neural networks, for the unrolled
    network; Bengio, Léonard and Courville (2013), Estimating or propagating gradients through stochastic neurons.
    """

    noise: bool
    weight_decay: WeightPenalty

    def evaluate(
        self, model: UnrolledNetwork, batch: Batch, state: Tensors, generator: Generator
    ) -> tuple[Loss, Tensors]:
        """J and its gradient over a batch; there is no state."""
        v = batch.whole
        n = batch.n
        noise = batch.stream(generator) if self.noise else None
        up = model.up(v, noise)
        down, z = model.down(up.states[-1], noise)
        cost = model.visible.cost(v, z).sum(dtype=torch.float64)

        grads: Tensors = {}
        delta = (model.visible.mean(z) - v) / n  # ∂J/∂z, for every law of the exponential family at its own cost
        # Hidden units are binary: their slope, σ(z)(1 − σ(z)), follows from the mean, which stands in for z below.
        states = down.states[::-1]  # of the layers from the lowest hidden one to the top
        means = [*down.means[::-1], up.means[-1]]
        for k, layer in enumerate(model.layers, 1):
            _collect(grads, "decoder", k, states[k - 1].T @ delta, delta)
            mean = means[k - 1]
            delta = (delta @ layer.decoder_weight.T) * model.hidden.slope(mean, mean)
        for k in range(len(model.layers), 0, -1):
            _collect(grads, "encoder", k, delta.T @ up.states[k - 1], delta)
            if k > 1:
                mean = up.means[k - 2]
                delta = (delta @ model.layers[k - 1].encoder_weight) * model.hidden.slope(mean, mean)
        grads = batch.ranks.sum({**grads, "cost": cost})
        value = grads.pop("cost") / n
        terms = {"cost": value / v.shape[1]}  # of a pixel, as everywhere with binary units; the objective is of a row
        if not isinstance(self.weight_decay, NoPenalty):
            terms["weight_decay"] = self.weight_decay.value(model.weights).double()
            value = value + terms["weight_decay"]
            for name in grads:
                if "weight" in name:
                    grads[name] += self.weight_decay.gradient(model.parameters[name])
        strength = self.weight_decay.shrinkage
        shrinkage = {name: strength for name in grads if strength and "weight" in name}
        return Loss(grads, terms, value, shrinkage), state


@dataclass(frozen=True)
class UpDown(Objective):
    """The up-down algorithm: wake-sleep in which the two highest layers stay a Boltzmann machine.

    Wake: states are sampled on the way up, and every layer below learns to predict them downwards, by the delta rule.
    The highest machine takes ``gibbs_steps`` steps of contrastive divergence from there. Sleep: from where it has come
    to, states are sampled on the way down, and every layer learns to predict them upwards.

    Parameters
    ----------
    gibbs_steps : int
        Full steps of the highest machine.

    Notes
    -----
    The gradients are those of no value. Source: Hinton, Osindero and Teh (2006), A fast learning algorithm for deep
    belief nets, appendix B.
    """

    gibbs_steps: int

    def evaluate(
        self, model: UnrolledNetwork, batch: Batch, state: Tensors, generator: Generator
    ) -> tuple[Loss, Tensors]:
        """The estimate for one batch; there is no state."""
        v = batch.whole
        n, n_layers = batch.n, len(model.layers)
        generator = batch.stream(generator)
        laws = [model.visible, *[model.hidden] * n_layers]
        up = model.up(v, generator)
        grads: Tensors = {}
        for k, layer in enumerate(model.layers[:-1], 1):
            predicted = laws[k - 1].mean(up.states[k] @ layer.decoder_weight + layer.decoder_bias)
            delta = (predicted - up.states[k - 1]) / n
            _collect(grads, "decoder", k, up.states[k].T @ delta, delta)

        top = model.top()
        dreamt, mean = gibbs(top, up.states[-1], self.gibbs_steps, generator)
        weight = (mean.T @ dreamt - up.means[-1].T @ up.states[-2]) / n
        _collect(grads, "encoder", n_layers, weight, (mean - up.means[-1]) / n)
        _collect(grads, "decoder", n_layers, weight.clone(), (dreamt - up.states[-2]) / n)

        for k in range(n_layers - 1, 0, -1):
            layer = model.layers[k - 1]
            below_mean = laws[k - 1].mean(dreamt @ layer.decoder_weight + layer.decoder_bias)
            below = laws[k - 1].sample(below_mean, generator)
            delta = (model.hidden.mean(below @ layer.encoder_weight.T + layer.encoder_bias) - dreamt) / n
            _collect(grads, "encoder", k, delta.T @ below, delta)
            dreamt = below
        if batch.watched:
            cost = model.visible.cost(v, model.down(up.states[-1], generator)[1])
            grads["cost"] = cost.sum(dtype=torch.float64) / (n * v.shape[1])
        grads = batch.ranks.sum(grads)
        terms = {"cost": grads.pop("cost")} if batch.watched else {}
        return Loss(grads, terms), state


def _collect(grads: Tensors, way: str, k: int, weight: Tensor, delta: Tensor) -> None:
    """Keep the gradient of layer k's weights, and that of its biases: the sum of ``delta`` over the rows."""
    grads[f"{way}_weight_{k}"] = weight
    grads[f"{way}_bias_{k}"] = delta.sum(dim=0)
