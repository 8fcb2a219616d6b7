"""Reconstruction cost with penalties, and its exact gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rarefire.data.batch import Batch
from rarefire.losses import ReconstructionLoss
from rarefire.models.autoencoder import Autoencoder
from rarefire.objectives import Objective
from rarefire.objectives.averages import Averages
from rarefire.objectives.sampled import BLOCK, outputs_of
from rarefire.penalties import ActivityPenalty, NoPenalty, WeightPenalty
from rarefire.random import Generator
from rarefire.types import Columns, Loss, Tensors, Visible, csr_tensor, transposed


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
    zeros : float or None
        Reconstruction sampling (:func:`~rarefire.objectives.sampled.outputs_of`): columns without a value that are
        drawn, for each column with one, in every block of rows. None takes all columns.
    columns : sequence of str
        Parameters whose gradients are to come as :class:`~rarefire.types.Columns` where rows are sparse or columns
        drawn, so that a solver need not touch the others.
    """

    loss: ReconstructionLoss
    penalty: ActivityPenalty
    weight_decay: WeightPenalty
    dropout: float = 0.0
    input_dropout: float = 0.0
    zeros: float | None = None
    columns: Sequence[str] = ()

    def evaluate(self, model: Autoencoder, batch: Batch, state: Tensors, generator: Generator) -> tuple[Loss, Tensors]:
        """J and its gradient over a batch; ``state`` holds the running averages of the penalty, if it has any."""
        n = batch.n
        sampled, size = self.zeros is not None, batch.rows_of_part(len(model.encoder_bias))
        size = min(size, BLOCK) if sampled else size
        if batch.sparse or sampled:
            model = model.for_sparse_rows()
        averages = Averages(self.penalty.averaging, state, batch.ranks)
        generator = batch.stream_of_parts(generator, size)
        if batch.in_parts(size) and not isinstance(self.penalty, NoPenalty):
            # The penalty needs averages over all parts before it can say what it adds to the gradient of any.
            drawn = generator.state()
            for x in batch.parts(size, sparse=sampled):
                kept, _ = self._draw(model, x, generator)
                if sampled and (self.dropout or self.input_dropout):  # which are drawn in turn with the columns
                    outputs_of(x, self.zeros, generator)
                self.penalty.evaluate(model.look(_thinned(x, kept), average=averages.collect, n_batch=n))
                averages.rewind()
            averages.divide(n)
            generator.set_state(drawn)  # the same entries are dropped on the second way

        loose: dict[str, list[Columns]] = {name: [] for name in self.columns if batch.sparse or sampled}
        grads = {name: torch.zeros_like(value) for name, value in model.parameters.items() if name not in loose}

        def add(name: str, gradient: Columns | Tensor) -> None:
            if isinstance(gradient, Tensor):
                grads[name] += gradient
            elif name in loose:
                loose[name].append(gradient)
            else:
                gradient.add_to(grads[name])

        decoder = "encoder_weight" if model.decoder_weight is None else "decoder_weight"
        cost = torch.zeros((), dtype=torch.float64, device=model.device)
        sparsity = torch.zeros_like(cost)
        for x in batch.parts(size, sparse=sampled):
            input_kept, code_kept = self._draw(model, x, generator)
            outputs = outputs_of(x, self.zeros, generator)
            seen = _thinned(x, input_kept)
            p = model.look(seen, average=averages, n_batch=n)
            values, back, of_weights, of_biases = outputs.backward(self.loss, model, _thinned(p.codes, code_kept), n)
            cost += values
            add(decoder, of_weights)
            add("decoder_bias", of_biases)
            delta2 = _thinned(back, code_kept) * p.slope
            if not isinstance(self.penalty, NoPenalty):
                # The value is a function of averages over the whole batch, so every part gives the same.
                sparsity, pull = self.penalty.evaluate(p)
                averages.rewind()
                if self.penalty.biases_only:
                    grads["encoder_bias"] += pull.sum(dim=0)
                else:
                    delta2 = delta2 + pull
            if seen.layout is torch.sparse_csr:
                touched, of_columns = transposed(seen)
                add("encoder_weight", Columns(touched, of_columns @ delta2))
            else:
                add("encoder_weight", delta2.T @ seen)
            grads["encoder_bias"] += delta2.sum(dim=0)

        grads = batch.ranks.sum({**grads, "cost": cost})
        terms = {"cost": grads.pop("cost")}
        if not isinstance(self.penalty, NoPenalty):
            terms["penalty"] = sparsity.double()
        if not isinstance(self.weight_decay, NoPenalty):
            terms["weight_decay"] = self.weight_decay.value(model.weights).double()
            for name in {"encoder_weight", decoder}:
                grads[name] += self.weight_decay.gradient(model.parameters[name])
        strength = self.weight_decay.shrinkage
        shrinkage = dict.fromkeys({"encoder_weight", decoder}, strength) if strength else {}
        columns = {name: Columns.total(parts) for name, parts in loose.items()}
        value = sum(terms.values(), torch.zeros_like(cost))
        return Loss(grads, terms, value, shrinkage, columns), {**state, **averages.after}

    def _draw(self, model: Autoencoder, x: Visible, generator: Generator) -> tuple[Tensor | None, Tensor | None]:
        """What inputs and codes are multiplied by: 0 where dropped, 1/(1 − rate) where kept; None without dropout."""

        def factors(rate: float, *shape: int) -> Tensor | None:
            if rate == 0:
                return None
            return generator.bernoulli(model.encoder_bias.new_full(shape, 1 - rate)) / (1 - rate)

        # Of sparse rows there is nothing to drop but the values that they hold.
        inputs = (len(x.values()),) if x.layout is torch.sparse_csr else x.shape
        return factors(self.input_dropout, *inputs), factors(self.dropout, len(x), len(model.encoder_bias))


def _thinned(t: Tensor, factors: Tensor | None) -> Tensor:
    if factors is None:
        return t
    if t.layout is torch.sparse_csr:
        return csr_tensor(t.crow_indices(), t.col_indices(), t.values() * factors, t.shape)
    return t * factors
