"""Reconstruction cost with penalties, and its exact gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rarefire.data.batch import Batch
from rarefire.losses import ReconstructionLoss
from rarefire.models.autoencoder import Autoencoder
from rarefire.objectives import Objective
from rarefire.objectives.averages import Averages
from rarefire.penalties import ActivityPenalty, NoPenalty, WeightPenalty
from rarefire.random import Generator
from rarefire.types import Loss, Tensors, Visible


@dataclass(frozen=True)
class Reconstruction(Objective):
    """J = (1/N) Σᵢ ℓ(xᵢ, x̂ᵢ) + R(weights) + Ω(codes), with every derivative written out.

    With N rows, z the input of the output layer and a = W x + b that of the hidden layer,

        δ³ = ∂ℓ/∂z / N,    δ² = (D δ³) f′(a) + ∂Ω/∂a,
        ∂J/∂D = Σ h δ³,    ∂J/∂c = Σ δ³,    ∂J/∂W = Σ δ² x + ∂R/∂W,    ∂J/∂b = Σ δ².

    For ℓ half the squared error, R half of λ times the squared weights and Ω the divergence of mean rates, this is
    the cost of document 001, and δ² that of document 003.

    Parameters
    ----------
    loss : ReconstructionLoss
        ℓ.
    penalty : ActivityPenalty
        Ω, of the codes as they are before any is dropped.
    weight_decay : WeightPenalty
        R.
    dropout, input_dropout : float
        Probability that a code, or an input, is set to zero; those kept are divided by one minus it, so that the mean
        stays (Srivastava et al. 2014). The reconstruction is compared with the row as it was.
    """

    loss: ReconstructionLoss
    penalty: ActivityPenalty
    weight_decay: WeightPenalty
    dropout: float = 0.0
    input_dropout: float = 0.0

    def evaluate(self, model: Autoencoder, batch: Batch, state: Tensors, generator: Generator) -> tuple[Loss, Tensors]:
        """J and its gradient over a batch; ``state`` holds the running averages of the penalty, if it has any."""
        n = batch.n
        width = len(model.encoder_bias)
        averages = Averages(self.penalty.averaging, state, batch.ranks)
        generator = batch.stream_of_parts(generator, width)
        if batch.in_parts(width) and not isinstance(self.penalty, NoPenalty):
            # The penalty needs averages over all parts before it can say what it adds to the gradient of any.
            drawn = generator.state()
            for x in batch.parts(width):
                kept, _ = self._draw(model, x, generator)
                self.penalty.evaluate(model.look(_thinned(x, kept), average=averages.collect, n_batch=n))
                averages.rewind()
            averages.divide(n)
            generator.set_state(drawn)  # the same entries are dropped on the second way

        grads = {name: torch.zeros_like(value) for name, value in model.parameters.items()}
        decoder = "encoder_weight" if model.decoder_weight is None else "decoder_weight"
        cost = torch.zeros((), dtype=torch.float64, device=model.device)
        sparsity = torch.zeros_like(cost)
        for x in batch.parts(width):
            input_kept, code_kept = self._draw(model, x, generator)
            seen = _thinned(x, input_kept)
            p = model.look(seen, average=averages, n_batch=n)
            h = _thinned(p.codes, code_kept)
            values, delta3 = self.loss.evaluate(x, model.output_input(h), model.output)
            cost += values.sum() / n
            delta3 = delta3 / n
            delta2 = _thinned(delta3 @ model.decoder.T, code_kept) * p.slope
            if not isinstance(self.penalty, NoPenalty):
                # The value is a function of averages over the whole batch, so every part gives the same.
                sparsity, pull = self.penalty.evaluate(p)
                averages.rewind()
                if self.penalty.biases_only:
                    grads["encoder_bias"] += pull.sum(dim=0)
                else:
                    delta2 = delta2 + pull
            grads[decoder] += h.T @ delta3
            grads["decoder_bias"] += delta3.sum(dim=0)
            grads["encoder_weight"] += delta2.T @ seen
            grads["encoder_bias"] += delta2.sum(dim=0)

        grads = batch.ranks.sum({**grads, "cost": cost})
        terms = {"reconstruction": float(grads.pop("cost"))}
        if not isinstance(self.penalty, NoPenalty):
            terms["penalty"] = float(sparsity)
        if not isinstance(self.weight_decay, NoPenalty):
            terms["weight_decay"] = float(self.weight_decay.value(model.weights))
            for name in {"encoder_weight", decoder}:
                grads[name] += self.weight_decay.gradient(model.parameters[name])
        strength = self.weight_decay.shrinkage
        shrinkage = dict.fromkeys({"encoder_weight", decoder}, strength) if strength else {}
        return Loss(grads, terms, sum(terms.values()), shrinkage), {**state, **averages.after}

    def _draw(self, model: Autoencoder, x: Visible, generator: Generator) -> tuple[Tensor | None, Tensor | None]:
        """What inputs and codes are multiplied by: 0 where dropped, 1/(1 − rate) where kept; None without dropout."""

        def factors(rate: float, n_units: int) -> Tensor | None:
            if rate == 0:
                return None
            return generator.bernoulli(x.new_full((len(x), n_units), 1 - rate)) / (1 - rate)

        return factors(self.input_dropout, x.shape[1]), factors(self.dropout, len(model.encoder_bias))


def _thinned(t: Tensor, factors: Tensor | None) -> Tensor:
    return t if factors is None else t * factors
