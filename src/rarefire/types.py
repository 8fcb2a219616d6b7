"""Names of shapes, and the two records that every part of the library hands around: Pass and Loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

Visible: TypeAlias = Float[Tensor, "batch visible"]
Hidden: TypeAlias = Float[Tensor, "batch hidden"]
Weight: TypeAlias = Float[Tensor, "hidden visible"]
HiddenBias: TypeAlias = Float[Tensor, " hidden"]
VisibleBias: TypeAlias = Float[Tensor, " visible"]
PerRow: TypeAlias = Float[Tensor, " batch"]
Scalar: TypeAlias = Float[Tensor, ""]
Tensors: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Pass:
    """What a penalty sees of one batch, for both families; a field is computed when it is asked for.

    Parameters
    ----------
    rows : Tensor of shape (batch, visible)
        The rows, in torch's CSR form where they came so.
    pre : Tensor of shape (batch, hidden)
        The hidden layer's input, W x + b.
    activate : callable
        ``pre`` to codes; for a machine codes are E[h|v].
    slope_of : callable
        (pre, codes) to the derivative of codes with respect to ``pre``, entry by entry.
    rate_range : (float, float), optional
        The activation's declared range; None where it is unbounded, and then there are no rates.
    decode : callable
        Codes to the reconstruction.
    weights : sequence of Tensor
        All weight matrices, no biases.
    rate_gain : float, optional
        g of rates that are σ(g·pre): 1 for sigmoid units, 2 for tanh; None where there are no rates.
    average : callable, optional
        The average over the whole batch, of which ``rows`` may be a part; None where they are all of it.
    n_batch : int, optional
        Rows of the whole batch; None where ``rows`` are all of it.
    """

    rows: Visible
    pre: Hidden
    activate: Callable[[Tensor], Tensor]
    slope_of: Callable[[Tensor, Tensor], Tensor]
    rate_range: tuple[float, float] | None
    decode: Callable[[Tensor], Tensor]
    weights: Sequence[Tensor] = ()
    rate_gain: float | None = None
    average: Callable[[Tensor], Tensor] | None = None
    n_batch: int | None = None

    @cached_property
    def x(self) -> Visible:
        """The rows, dense."""
        return dense(self.rows)

    @cached_property
    def codes(self) -> Hidden:
        """The hidden layer's output."""
        return self.activate(self.pre)

    @cached_property
    def slope(self) -> Hidden:
        """∂codes/∂pre, entry by entry."""
        return self.slope_of(self.pre, self.codes)

    @cached_property
    def rates(self) -> Hidden:
        """Codes mapped to [0, 1] by the activation's declared range (a, b): (codes − a)/(b − a)."""
        if self.rate_range is None:
            raise ValueError("units of unbounded range have no rates")
        low, high = self.rate_range
        return self.codes if (low, high) == (0.0, 1.0) else (self.codes - low) / (high - low)

    @cached_property
    def rate_slope(self) -> Hidden:
        """∂rates/∂pre, entry by entry."""
        if self.rate_range is None:
            raise ValueError("units of unbounded range have no rates")
        low, high = self.rate_range
        return self.slope if high - low == 1.0 else self.slope / (high - low)

    @cached_property
    def x_hat(self) -> Visible:
        """The reconstruction from the codes."""
        return self.decode(self.codes)

    def mean(self, t: Hidden) -> HiddenBias:
        """The average over the whole batch, across the parts that it is worked on in."""
        return t.mean(dim=0) if self.average is None else self.average(t)

    @property
    def n(self) -> int:
        """Rows of the whole batch, over which :meth:`mean` runs."""
        return len(self.pre) if self.n_batch is None else self.n_batch


@dataclass(frozen=True)
class Columns:
    """A gradient that is zero but for some columns of a matrix of shape (hidden, visible), or entries of a bias.

    Parameters
    ----------
    index : Tensor of int of shape (n,)
        Which columns, each once.
    values : Tensor of shape (n, hidden) or (n,)
        Row i is the gradient of column ``index[i]``.
    """

    index: Int[Tensor, " n"]
    values: Tensor

    def add_to(self, gradient: Tensor) -> None:
        """Add it to a dense gradient, in place."""
        columns_of(gradient).index_add_(0, self.index, self.values)

    @staticmethod
    def total(parts: Sequence[Columns]) -> Columns:
        """The sum of several."""
        if len(parts) == 1:
            return parts[0]
        index, places = torch.unique(torch.cat([part.index for part in parts]), return_inverse=True)
        values = parts[0].values.new_zeros((len(index), *parts[0].values.shape[1:]))
        for part, where in zip(parts, places.split([len(part.index) for part in parts]), strict=True):
            values.index_add_(0, where, part.values)
        return Columns(index, values)


#: Rows on both sides together up to which one product of all is faster than one each: it passes over the matrix once.
FEW_ROWS = 128


@dataclass(frozen=True)
class Outer:
    """A gradient Σₖ sₖ AₖᵀBₖ that is not multiplied out, so that a step adds it to a matrix as it makes the products.

    Parameters
    ----------
    parts : tuple of (Tensor of shape (n, hidden), Tensor of shape (n, visible), float)
        Aₖ, Bₖ and sₖ.
    """

    parts: tuple[tuple[Hidden, Visible, float], ...]

    def add_to(self, matrix: Weight, scale: float = 1.0) -> None:
        """Add a multiple of it to a matrix of shape (hidden, visible), in place."""
        parts = self.parts
        if sum(len(a) for a, _, _ in parts) <= FEW_ROWS:
            parts = ((torch.cat([a * s for a, _, s in parts]), torch.cat([b for _, b, _ in parts]), 1.0),)
        for a, b, s in parts:
            matrix.addmm_(a.T, b, alpha=s * scale)

    def dense(self) -> Weight:
        """The gradient itself."""
        a, b, _ = self.parts[0]
        gradient = a.new_zeros(a.shape[1], b.shape[1])
        self.add_to(gradient)
        return gradient


def columns_of(t: Tensor) -> Tensor:
    """A matrix of shape (hidden, visible) as (visible, hidden), in the same memory; a bias as it is."""
    return t.T if t.ndim == 2 else t


def columns_together(t: Tensor) -> Tensor:
    """The same matrix with each column in one piece of memory, as products with sparse rows want it."""
    return columns_of(columns_of(t).contiguous())


@dataclass(frozen=True)
class Loss:
    """What an objective gives back: gradients by parameter name, named terms, and the value they belong to.

    Terms and value are tensors in float64 without dimensions, so that nobody waits for them before they are wanted as
    numbers. ``value`` is None where the gradients are those of no function, as in contrastive divergence.
    ``shrinkage`` is the weight λ of a term λ Σ|w| for each parameter that has one which is not among the gradients, but
    followed by a proximal step. A parameter's gradient stands in ``columns`` instead of ``grads`` where it is zero but
    for some columns and the objective was asked for it so, and in ``outer`` where nothing was to be done with it but a
    step.
    """

    grads: Tensors
    terms: dict[str, Scalar] = field(default_factory=dict)
    value: Scalar | None = None
    shrinkage: dict[str, float] = field(default_factory=dict)
    columns: dict[str, Columns] = field(default_factory=dict)
    outer: dict[str, Outer] = field(default_factory=dict)

    def multiplied_out(self) -> Tensors:
        """The gradients but for those in ``columns``, with factors multiplied out."""
        return self.grads | {name: gradient.dense() for name, gradient in self.outer.items()}

    def dense_grads(self, parameters: Tensors) -> Tensors:
        """All gradients in the shape of their parameters."""
        grads = self.multiplied_out()
        for name, gradient in self.columns.items():
            grads[name] = torch.zeros_like(parameters[name])
            gradient.add_to(grads[name])
        return grads


class Affine(NamedTuple):
    """One layer's way between its units and those below: f(W x + b) going up, f(Wᵀ h + b) going down.

    Parameters
    ----------
    weight : Tensor of shape (upper, lower)
        W.
    bias : Tensor of shape (upper,) or (lower,)
        b.
    law : Activation or Units
        What f is: the activation itself, or the units' mean.
    """

    weight: Weight
    bias: Tensor
    law: Any


def finite(tensors: Tensors) -> bool:
    """Whether every entry of every tensor is finite."""
    # Smallest and largest are not finite where any entry is not, NaN included; finding them takes one pass.
    extremes = (torch.stack(tensor.aminmax()) for tensor in tensors.values() if tensor.numel())
    return all(bool(torch.isfinite(pair).all()) for pair in extremes)


def tensor_of(array: NDArray[np.floating], device: torch.device | str = "cpu") -> Tensor:
    """An array as a tensor, without a copy where memory can be shared."""
    # torch warns when it shares memory that it may not write to, and knows no way backwards through memory.
    shared = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if shared else array.copy()).to(device)


def dense(rows: Tensor) -> Tensor:
    """Rows in torch's CSR form as a dense tensor; dense ones as they are."""
    return rows.to_dense() if rows.layout is torch.sparse_csr else rows


def csr_tensor(
    offsets: Tensor, places: Tensor, values: Tensor, shape: tuple[int, ...], *, check: bool = False
) -> Tensor:
    """A matrix in torch's CSR form, from its parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch's CSR tensors are young
        return torch.sparse_csr_tensor(offsets, places, values, size=shape, check_invariants=check)


def torch_csr(X: sp.csr_matrix, device: torch.device | str = "cpu", *, check: bool = False) -> Tensor:
    """SciPy's CSR matrix in torch's form."""
    offsets, places, values = (tensor_of(part, device) for part in (X.indptr, X.indices, X.data))
    return csr_tensor(offsets, places, values, X.shape, check=check)


def rows_tensor(rows: Any, device: torch.device | str = "cpu") -> Tensor:
    """Rows as a tensor: a SciPy CSR matrix in torch's CSR form, an array dense."""
    return torch_csr(rows, device) if sp.issparse(rows) else tensor_of(rows, device)


def transposed(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The columns of a CSR tensor of shape (batch, visible) that hold something, and what they hold.

    Gives their numbers, ascending, of shape (n,), and a CSR tensor of shape (n, batch).
    """
    order = torch.argsort(rows.col_indices(), stable=True)
    columns, counts = torch.unique_consecutive(rows.col_indices()[order], return_counts=True)
    row_of = torch.repeat_interleave(rows.crow_indices().diff())
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return columns.long(), csr_tensor(offsets, row_of[order], rows.values()[order], (len(columns), len(rows)))
