"""Reconstruction sampling: the cost of a block of rows at some columns, unbiased for that at all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rarefire.activations import Activation
from rarefire.losses import ReconstructionLoss
from rarefire.models.autoencoder import Autoencoder
from rarefire.random import Generator
from rarefire.types import Columns, Hidden, Scalar, Visible, dense

#: Rows that share the columns drawn. More rows have more columns with a value among them, which all are worked on;
#: fewer make less of a column that was fetched.
BLOCK = 100
#: Values of a reconstruction that are worked on at a time: what is made of them on the way is soon used again, and no
#: block of memory is so large that the C library asks the system for it anew each time.
BLOCK_VALUES = 2**19


@dataclass(frozen=True)
class Singles:
    """Values that stand alone in their column of a block.

    Parameters
    ----------
    rows : Tensor of int of shape (n,)
        Where they are.
    x : Tensor of shape (n,)
        What they are.
    """

    rows: Int[Tensor, " n"]
    x: Float[Tensor, " n"]

    def cost(self, loss: ReconstructionLoss, z: Tensor, output: Activation) -> tuple[Scalar, Tensor]:
        """By how much they cost more than zeros would, from z there, and its derivative with respect to z."""
        value, delta = loss.evaluate(self.x[None], z[None], output)
        zero, zero_delta = loss.evaluate(torch.zeros_like(z)[None], z[None], output)
        return (value - zero).sum(), (delta - zero_delta)[0]


@dataclass(frozen=True)
class Outputs:
    """The columns that a block of rows is compared with its reconstruction at.

    Parameters
    ----------
    x : Tensor of shape (batch, n_several)
        The rows at the columns with values in several rows, dense; at all columns where none are drawn.
    columns : Tensor of int of shape (n,), optional
        First those with several values, then those drawn from the others, then the rest of those with one value. None
        is all.
    n_drawn : int
        How many are drawn.
    weight : float
        What the cost at a drawn column is multiplied by, one over the probability that it is drawn.
    singles : Singles, optional
        The values of the last columns, which hold no other; the first of these columns may be drawn ones.
    """

    x: Visible
    columns: Int[Tensor, " columns"] | None = None
    n_drawn: int = 0
    weight: float = 1.0
    singles: Singles | None = None

    def backward(
        self, loss: ReconstructionLoss, model: Autoencoder, h: Hidden, n: int
    ) -> tuple[Scalar, Hidden, Tensor | Columns, Tensor | Columns]:
        """The cost of all rows together, from their codes, over n, and its derivatives by h, D and c."""
        if self.columns is None or self.singles is None:
            return self._of_all_columns(loss, model, h, n)
        weights, biases = model.decoder_at(self.columns)
        several = self.x.shape[1]
        compared, alone = slice(several + self.n_drawn), slice(len(biases) - len(self.singles.rows), None)
        z = torch.addmm(biases[compared], h, weights[:, compared])
        values, delta = loss.evaluate(self.x, z[:, :several], model.output)
        zeros, zeros_delta = loss.evaluate(torch.zeros_like(z[:, several:]), z[:, several:], model.output)
        delta = torch.cat([delta, self.weight * zeros_delta], dim=1) / n
        back = delta @ weights[:, compared].T

        codes, of_units = h.index_select(0, self.singles.rows), weights[:, alone].T
        z = (codes * of_units).sum(dim=1) + biases[alone]
        more, delta_alone = self.singles.cost(loss, z, model.output)
        delta_alone = delta_alone / n
        back.index_add_(0, self.singles.rows, delta_alone[:, None] * of_units)

        of_weights, of_biases = torch.zeros_like(weights.T), torch.zeros_like(biases)
        torch.mm(delta.T, h, out=of_weights[compared])
        torch.sum(delta, dim=0, out=of_biases[compared])
        of_weights[alone].addcmul_(delta_alone[:, None], codes)
        of_biases[alone] += delta_alone
        value = (values.sum() + self.weight * zeros.sum() + more) / n
        return value, back, Columns(self.columns, of_weights), Columns(self.columns, of_biases)

    def _of_all_columns(
        self, loss: ReconstructionLoss, model: Autoencoder, h: Hidden, n: int
    ) -> tuple[Scalar, Hidden, Tensor, Tensor]:
        parts = []
        size = max(1, BLOCK_VALUES // self.x.shape[1])
        for x, codes in zip(self.x.split(size), h.split(size), strict=True):
            values, delta = loss.evaluate(x, model.output_input(codes), model.output)
            delta = delta / n
            parts.append((values.sum(), delta @ model.decoder.T, codes.T @ delta, delta.sum(dim=0)))
        costs, back, *gradients = zip(*parts, strict=True)
        of_weights, of_biases = (reduce(torch.add, pieces) for pieces in gradients)
        return reduce(torch.add, costs) / n, torch.cat(back), of_weights, of_biases


def outputs_of(rows: Visible, zeros: float | None, generator: Generator) -> Outputs:
    """Where to compare a block of rows with their reconstruction.

    Let A be the columns in which several rows hold values, B those in which one row does, and R a random subset of the
    D − |A| columns outside A, of ``zeros`` times |A| + |B| columns, rounded up. The cost of row i is a sum over
    columns, ℓᵢ = Σₖ ℓ(xᵢₖ, zᵢₖ), and

        ℓ̂ᵢ = Σ_{k∈A} ℓ(xᵢₖ, zᵢₖ) + Σ_{k∈B} [ℓ(xᵢₖ, zᵢₖ) − ℓ(0, zᵢₖ)] + (D − |A|)/|R| Σ_{k∈R} ℓ(0, zᵢₖ)

    has it as its mean over R, and its gradient likewise. With a block of one row this is nearly the estimator of the
    source, which draws R outside B too; rows that share their columns leave matrix products, and zeros of columns that
    the block has to be worked on at in any case are not drawn.

    Parameters
    ----------
    rows : Tensor of shape (batch, visible)
        In torch's CSR form where ``zeros`` is given.
    zeros : float or None
        None is all columns.

    Notes
    -----
    Source: Dauphin, Glorot and Bengio (2011), Large-scale learning of embeddings with reconstruction sampling.
    """
    if zeros is None:
        return Outputs(dense(rows))
    seen, values = rows.col_indices().long(), rows.values()
    row_of = torch.repeat_interleave(rows.crow_indices().diff())
    counts = torch.bincount(seen, minlength=rows.shape[1])
    of_several = counts > 1
    several, others = torch.nonzero(of_several)[:, 0], torch.nonzero(~of_several)[:, 0]
    shared = of_several[seen]
    x = values.new_zeros(len(rows), len(several))
    x[row_of[shared], of_several.cumsum(0)[seen[shared]] - 1] = values[shared]
    alone = ~shared
    single = seen[alone]
    n = min(math.ceil(zeros * max(len(several) + len(single), 1)), len(others))
    drawn = others[torch.from_numpy(generator.permutation(len(others))[:n]).to(others.device)]
    # No column stands twice: one that is drawn and holds a value stands where those drawn and those of one value meet.
    is_drawn = torch.zeros_like(of_several)
    is_drawn[drawn] = True
    order = torch.argsort(is_drawn[single].logical_not(), stable=True)
    columns = torch.cat([several, drawn[counts[drawn] == 0], single[order]])
    singles = Singles(row_of[alone][order], values[alone][order])
    return Outputs(x, columns, n, len(others) / max(n, 1), singles)
