"""Reconstruction sampling: the cost of a block of rows at some columns, unbiased for that at all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from rarefire.activations import Activation
from rarefire.losses import ReconstructionLoss
from rarefire.random import Generator
from rarefire.types import Scalar, Visible, dense, transposed

#: Rows that share the columns drawn. More rows have more columns with a value among them, which all are worked on;
#: fewer make less of a column that was fetched.
BLOCK = 100


@dataclass(frozen=True)
class Outputs:
    """The columns that a block of rows is compared with its reconstruction at.

    Parameters
    ----------
    x : Tensor of shape (batch, n_seen)
        The rows at the columns with a value in some row, dense; at all columns where none are drawn.
    columns : Tensor of int of shape (n_seen + n_drawn,), optional
        First those with a value, then those drawn from the others. None is all.
    weight : float
        What the cost at a drawn column is multiplied by, one over the probability that it is drawn.
    """

    x: Visible
    columns: Int[Tensor, " columns"] | None = None
    weight: float = 1.0

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

    Let A be the columns in which some row holds a value, and R a random subset of the D − |A| others, of ``zeros``
    times |A| columns, rounded up. The cost of row i is a sum over columns, ℓᵢ = Σₖ ℓᵢₖ, and

        ℓ̂ᵢ = Σ_{k∈A} ℓᵢₖ + (D − |A|)/|R| Σ_{k∈R} ℓᵢₖ

    has it as its mean over R, and its gradient likewise. With blocks of one row and ``zeros`` 1 this is the
    estimator of the source; rows that share their columns leave matrix products, and no column is drawn that the block
    has to be worked on at in any case.

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
    rest = torch.ones(rows.shape[1], dtype=torch.bool, device=rows.device)
    rest[seen] = False
    others = torch.nonzero(rest)[:, 0]
    n = min(math.ceil(zeros * max(len(seen), 1)), len(others))
    drawn = others[torch.from_numpy(generator.permutation(len(others))[:n]).to(others.device)]
    return Outputs(dense(values).T, torch.cat([seen, drawn]), len(others) / max(n, 1))
