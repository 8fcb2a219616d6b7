"""Names of shapes, and the two records that every part of the library hands around: Pass and Loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
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
    x : Tensor of shape (batch, visible)
        The rows.
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
        The average over the whole batch, of which ``x`` may be a part; None where it is all of it.
    n_batch : int, optional
        Rows of the whole batch; None where ``x`` is all of it.
    """

    x: Visible
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
class Loss:
    """What an objective gives back: gradients by parameter name, named terms, and the value they belong to.

    ``value`` is None where the gradients are those of no function, as in contrastive divergence. ``shrinkage`` is the
    weight λ of a term λ Σ|w| for each parameter that has one which is not among the gradients, but followed by a
    proximal step.
    """

    grads: Tensors
    terms: dict[str, float] = field(default_factory=dict)
    value: float | None = None
    shrinkage: dict[str, float] = field(default_factory=dict)


def finite(tensors: Tensors) -> bool:
    """Whether every entry of every tensor is finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def tensor_of(array: NDArray[np.floating], device: torch.device | str = "cpu") -> Tensor:
    """An array as a tensor, without a copy where memory can be shared."""
    # torch warns when it shares memory that it may not write to, and knows no way backwards through memory.
    shared = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if shared else array.copy()).to(device)
