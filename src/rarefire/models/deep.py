"""A stack of Boltzmann machines unrolled into a network: up through all layers, and down again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.random import Generator
from rarefire.types import Affine, Hidden, HiddenBias, Tensors, Visible, VisibleBias, Weight, columns_together
from rarefire.units import Bernoulli, Units


class Layer(NamedTuple):
    """The two ways between a layer of ``below`` and one of ``above`` units.

    Parameters
    ----------
    encoder_weight, encoder_bias : Tensor of shape (above, below) and (above,)
        The way up.
    decoder_weight, decoder_bias : Tensor of shape (above, below) and (below,)
        The way down; as in all of the library, rows belong to the upper layer's units.
    """

    encoder_weight: Weight
    encoder_bias: HiddenBias
    decoder_weight: Weight
    decoder_bias: VisibleBias


class Way(NamedTuple):
    """A way through the layers, in the order in which they are met.

    Parameters
    ----------
    means : list of Tensor
        E[layer | state of the layer before], for each layer that is reached.
    states : list of Tensor
        What each layer handed on, its means or a sample; the first is where the way began.
    """

    means: list[Tensor]
    states: list[Tensor]


@dataclass(frozen=True)
class UnrolledNetwork:
    """The layers of a deep belief network, each with weights of its own for the way up and the way down.

    h⁰ = v,  hᵏ = σ(Wₖ hᵏ⁻¹ + bₖ) on the way up, hᵏ⁻¹ = σ(Dₖᵀ hᵏ + cₖ) on the way down; the lowest layer answers by the
    law of the visible units. With sampled states every σ is a probability of which a sample is handed on.

    Parameters
    ----------
    layers : sequence of Layer
        The lowest first.
    visible : Units
        The law of the rows; hidden units are binary.
    """

    layers: Sequence[Layer]
    visible: Units

    @classmethod
    def of(cls, machines: Sequence[BoltzmannMachine]) -> UnrolledNetwork:
        """Machines that were trained one upon the other: both ways begin with the machine's own weights."""
        layers = [Layer(m.encoder.clone(), m.hidden_bias, m.weight.clone(), m.visible_bias) for m in machines]
        return cls(layers, machines[0].visible)

    @property
    def parameters(self) -> Tensors:
        """All parameters by name: ``encoder_weight_1`` and so on, from the lowest layer up."""
        return {f"{name}_{k}": t for k, layer in enumerate(self.layers, 1) for name, t in layer._asdict().items()}

    def with_parameters(self, parameters: Tensors) -> UnrolledNetwork:
        """The same network with other parameters."""
        return UnrolledNetwork.from_parameters(parameters, self.visible)

    @classmethod
    def from_parameters(cls, parameters: Tensors, visible: Units) -> UnrolledNetwork:
        """The inverse of :attr:`parameters`."""
        n_layers = len(parameters) // len(Layer._fields)
        layers = [Layer(*(parameters[f"{name}_{k}"] for name in Layer._fields)) for k in range(1, n_layers + 1)]
        return cls(layers, visible)

    def for_sparse_rows(self) -> UnrolledNetwork:
        """The same network, its lowest encoder in memory as products with sparse rows want it."""
        lowest, *others = self.layers
        lowest = lowest._replace(encoder_weight=columns_together(lowest.encoder_weight))
        return UnrolledNetwork([lowest, *others], self.visible)

    @property
    def weights(self) -> Sequence[Tensor]:
        """All weight matrices, no biases."""
        return [weight for layer in self.layers for weight in (layer.encoder_weight, layer.decoder_weight)]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.layers[0].encoder_bias.device

    @property
    def hidden(self) -> Units:
        """The law of every hidden layer."""
        return Bernoulli()

    @property
    def encoder(self) -> Weight:
        """The product of all weights on the way up: what a top unit looks for, if no layer bent its input."""
        return _product([layer.encoder_weight for layer in self.layers])

    @property
    def decoder(self) -> Weight:
        """The product of all weights on the way down: what a top unit adds, if no layer bent its input."""
        return _product([layer.decoder_weight for layer in self.layers])

    @property
    def ways(self) -> tuple[list[Affine], list[Affine]]:
        """What is met on the way up, and on the way down."""
        up = [Affine(layer.encoder_weight, layer.encoder_bias, self.hidden) for layer in self.layers]
        lowest, *others = self.layers
        down = [Affine(layer.decoder_weight, layer.decoder_bias, self.hidden) for layer in reversed(others)]
        return up, [*down, Affine(lowest.decoder_weight, lowest.decoder_bias, self.visible)]

    def up(self, v: Visible, generator: Generator | None = None) -> Way:
        """From rows to the top: samples are handed on where a generator is given, else means."""
        way = Way([], [v])
        for layer in self.layers:
            mean = self.hidden.mean(torch.addmm(layer.encoder_bias, way.states[-1], layer.encoder_weight.T))
            way.means.append(mean)
            way.states.append(mean if generator is None else self.hidden.sample(mean, generator))
        return way

    def down(self, h: Hidden, generator: Generator | None = None) -> tuple[Way, Visible]:
        """From the top to the layer above the rows, and the input of the visible units, Dᵀ h + c."""
        way = Way([], [h])
        for layer in reversed(self.layers[1:]):
            mean = self.hidden.mean(torch.addmm(layer.decoder_bias, way.states[-1], layer.decoder_weight))
            way.means.append(mean)
            way.states.append(mean if generator is None else self.hidden.sample(mean, generator))
        lowest = self.layers[0]
        return way, torch.addmm(lowest.decoder_bias, way.states[-1], lowest.decoder_weight)

    def encode(self, v: Visible) -> Hidden:
        """Rows to the top layer's means, means handed on from layer to layer."""
        return self.up(v).means[-1]

    def decode(self, h: Hidden) -> Visible:
        """Codes of the top layer to rows, means handed on from layer to layer."""
        return self.visible.mean(self.down(h)[1])

    def top(self) -> BoltzmannMachine:
        """The machine of the two highest layers, with the weights of the way down."""
        highest = self.layers[-1]
        return BoltzmannMachine(
            highest.decoder_weight, highest.encoder_bias, highest.decoder_bias, hidden=self.hidden, visible=self.below
        )

    @property
    def below(self) -> Units:
        """The law of the layer below the highest."""
        return self.hidden if len(self.layers) > 1 else self.visible

    def dream(self, h: Hidden, n_steps: int, generator: Generator) -> Visible:
        """Go to and fro between the two highest layers, then down to the rows, all sampled.

        With the same weights both ways, as before fine-tuning, to and fro is Gibbs sampling of the highest machine.
        """
        highest = self.layers[-1]
        for _ in range(n_steps):
            mean = self.below.mean(torch.addmm(highest.decoder_bias, h, highest.decoder_weight))
            state = self.below.sample(mean, generator)
            mean = self.hidden.mean(torch.addmm(highest.encoder_bias, state, highest.encoder_weight.T))
            h = self.hidden.sample(mean, generator)
        return self.visible.sample(self.visible.mean(self.down(h, generator)[1]), generator)


def _product(matrices: Sequence[Tensor]) -> Tensor:
    """Mₗ ⋯ M₂ M₁."""
    product = matrices[0]
    for matrix in matrices[1:]:
        product = matrix @ product
    return product
