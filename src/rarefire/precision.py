"""How the matrix products of training are rounded."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

#: "full" products are made in the type of the weights. With "bfloat16" their factors and results are rounded to 8 bits,
#: and summed in float32; everything else stays as it is. Where a processor has units for it they are much faster.
Precision = Literal["full", "bfloat16"]


def factor(weight: Tensor, precision: Precision) -> Tensor:
    """A matrix as :func:`affine` multiplies by it."""
    return weight if precision == "full" else weight.bfloat16()


def affine(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """X W + b of rows x of shape (n, k) and a :func:`factor` W of shape (k, m), in the type of b."""
    if weight.dtype == bias.dtype:
        return torch.addmm(bias, x, weight)
    return (x.to(weight.dtype) @ weight).to(bias.dtype).add_(bias)


def product(a: Tensor, b: Tensor, scale: float, precision: Precision) -> Tensor:
    """A B times a number, of shape (n, m), in the type of A."""
    if precision == "full":
        # With a β of 0 what stands in the memory is not read.
        return a.new_empty(a.shape[0], b.shape[1]).addmm_(a, b, beta=0, alpha=scale)
    return (a.bfloat16() @ b.bfloat16()).to(a.dtype).mul_(scale)
