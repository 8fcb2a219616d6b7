"""The autoencoder with one hidden layer: encode, decode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rarefire.activations import Activation
from rarefire.random import Generator
from rarefire.types import Affine, Hidden, HiddenBias, Pass, Tensors, Visible, VisibleBias, Weight, columns_together


@dataclass(frozen=True)
class Autoencoder:
    """Codes h = f(W x + b), reconstruction x̂ = g(Dᵀ h + c).

    Parameters
    ----------
    encoder_weight, encoder_bias : Tensor of shape (hidden, visible) and (hidden,)
        W and b; row j of W is what unit j looks for.
    decoder_weight, decoder_bias : Tensor of shape (hidden, visible) and (visible,)
        D and c; row j of D is what unit j adds to a reconstruction. ``decoder_weight`` None ties it to W.
    activation, output : Activation
        f and g.
    """

    encoder_weight: Weight
    encoder_bias: HiddenBias
    decoder_bias: VisibleBias
    activation: Activation
    output: Activation
    decoder_weight: Weight | None = None

    @classmethod
    def initial(
        cls,
        n_visible: int,
        n_hidden: int,
        *,
        activation: Activation,
        output: Activation,
        tied: bool,
        generator: Generator,
        dtype: torch.dtype,
    ) -> Autoencoder:
        """Weights uniform in ±√(6/(n_visible + n_hidden + 1)), biases of zero; source: CS294A (document 001)."""
        reach = math.sqrt(6 / (n_visible + n_hidden + 1))

        def weight() -> Weight:
            draws = generator.uniform((n_hidden, n_visible), torch.float64)
            return ((2 * draws - 1) * reach).to(dtype)

        encoder, decoder = weight(), None if tied else weight()
        hidden_bias, visible_bias = (
            torch.zeros(n, dtype=dtype, device=generator.device) for n in (n_hidden, n_visible)
        )
        return cls(encoder, hidden_bias, visible_bias, activation, output, decoder)

    @property
    def parameters(self) -> Tensors:
        """All parameters by name; tied weights stand there once."""
        named = {
            "encoder_weight": self.encoder_weight,
            "encoder_bias": self.encoder_bias,
            "decoder_weight": self.decoder_weight,
            "decoder_bias": self.decoder_bias,
        }
        return {name: value for name, value in named.items() if value is not None}

    def with_parameters(self, parameters: Tensors) -> Autoencoder:
        """The same model with other parameters."""
        return Autoencoder(**parameters, activation=self.activation, output=self.output)

    @property
    def encoder(self) -> Weight:
        """W."""
        return self.encoder_weight

    @property
    def decoder(self) -> Weight:
        """D, which is W where the two are tied."""
        return self.encoder_weight if self.decoder_weight is None else self.decoder_weight

    @property
    def weights(self) -> Sequence[Tensor]:
        """All weight matrices, no biases; a tied one once."""
        return (self.encoder_weight,) if self.decoder_weight is None else (self.encoder_weight, self.decoder_weight)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.encoder_weight.device

    @property
    def ways(self) -> tuple[list[Affine], list[Affine]]:
        """What is met on the way up, and on the way down."""
        up = Affine(self.encoder, self.encoder_bias, self.activation)
        return [up], [Affine(self.decoder, self.decoder_bias, self.output)]

    def hidden_input(self, x: Visible) -> Hidden:
        """W x + b, of rows that are dense or in torch's CSR form."""
        return torch.addmm(self.encoder_bias, x, self.encoder_weight.T)

    def output_input(self, h: Hidden) -> Visible:
        """Dᵀ h + c."""
        return torch.addmm(self.decoder_bias, h, self.decoder)

    def decoder_at(self, columns: Int[Tensor, " n"]) -> tuple[Float[Tensor, "hidden n"], Float[Tensor, " n"]]:
        """D and c of these columns."""
        return self.decoder.T.index_select(0, columns).T, self.decoder_bias[columns]

    def for_sparse_rows(self) -> Autoencoder:
        """The same model, its encoder in memory as products with sparse rows want it."""
        return replace(self, encoder_weight=columns_together(self.encoder_weight))

    def encode(self, x: Visible) -> Hidden:
        """Rows to codes."""
        return self.activation(self.hidden_input(x))

    def decode(self, h: Hidden) -> Visible:
        """Codes to rows."""
        return self.output(self.output_input(h))

    def look(
        self, x: Visible, *, average: Callable[[Tensor], Tensor] | None = None, n_batch: int | None = None
    ) -> Pass:
        """What a penalty sees of a batch, or of a part of one with ``n_batch`` rows."""
        return Pass(
            rows=x,
            pre=self.hidden_input(x),
            activate=self.activation,
            slope_of=self.activation.slope,
            rate_range=self.activation.range,
            decode=self.decode,
            weights=self.weights,
            rate_gain=self.activation.rate_gain,
            average=average,
            n_batch=n_batch,
        )
