"""Reconstruction sampling: the cost of a block of rows at some columns, unbiased for that at all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rarefire.activations import Activation
from rarefire.losses import ReconstructionLoss
from rarefire.random import Generator
from rarefire.types import Scalar, Visible, csr_tensor, dense, transposed

#: Rows that share the columns drawn. More rows have more columns with a value among them, which all are worked on;
#: fewer make less of a column that was fetched.
BLOCK = 100


@dataclass(frozen=True)
class Singles:
    """Values that stand alone in their column of a block.

    Parameters
    ----------
    columns, rows : Tensor of int of shape (n,)
        Where they are; each column once.
    x : Tensor of shape (n,)
        What they are.
    """

    columns: Int[Tensor, " n"]
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
    x : Tensor of shape (batch, n_seen)
        The rows at the columns with values in several rows, dense; at all columns where none are drawn.
    columns : Tensor of int of shape (n_seen + n_drawn,), optional
        First those with several values, then those drawn from the others. None is all.
    weight : float
        What the cost at a drawn column is multiplied by, one over the probability that it is drawn.
    singles : Singles, optional
        The values in columns that hold no other.
    """

    x: Visible
    columns: Int[Tensor, " columns"] | None = None
    weight: float = 1.0
    singles: Singles | None = None

    def cost(self, loss: ReconstructionLoss, z: Tensor, output: Activation) -> tuple[Scalar, Tensor]:
        """The cost of all rows together, from z at these columns, and its derivative with respect to z."""
        if self.columns is None:
            values, delta = loss.evaluate(self.x, z, output)
            return values.sum(), delta
        seen, drawn = z.split([self.x.shape[1], z.shape[1] - self.x.shape[1]], dim=1)
        values, delta = loss.evaluate(self.x, seen, output)
        more, more_delta = loss.evaluate(torch.zeros_like(drawn), drawn, output)
        return values.sum() + self.weight * more.sum(), torch.cat([delta, self.weight * more_delta], dim=1)


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
    seen, values = transposed(rows)
    counts = values.crow_indices().diff()
    several = counts > 1
    entries = torch.repeat_interleave(several, counts)
    shared = counts[several].cumsum(0)
    x = csr_tensor(
        torch.cat([shared.new_zeros(1), shared]),
        values.col_indices()[entries],
        values.values()[entries],
        (len(shared), len(rows)),
    )
    singles = Singles(seen[counts == 1], values.col_indices()[~entries].long(), values.values()[~entries])
    rest = torch.ones(rows.shape[1], dtype=torch.bool, device=rows.device)
    rest[seen[several]] = False
    others = torch.nonzero(rest)[:, 0]
    n = min(math.ceil(zeros * max(len(seen), 1)), len(others))
    drawn = others[torch.from_numpy(generator.permutation(len(others))[:n]).to(others.device)]
    return Outputs(dense(x).T, torch.cat([seen[several], drawn]), len(others) / max(n, 1), singles)
