"""How the matrix products of training are rounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

#: "full" products are made in the type of the weights. With "bfloat16" the factors of float32 products are rounded to a
#: significand of 8 bits (11 on a GPU, whose units for it are those of TF32), multiplied exactly and summed in float32;
#: everything else stays as it is. Where a processor has units for it they are much faster, elsewhere nothing changes.
Precision = Literal["full", "bfloat16"]


@contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Products within are of this precision; torch's setting, which is the whole process's, is put back afterwards."""
    if precision == "full":
        yield
        return
    backends: dict[Any, str] = {torch.backends.mkldnn.matmul: "bf16", torch.backends.cuda.matmul: "tf32"}  # type: ignore[attr-defined]
    before = {backend: backend.fp32_precision for backend in backends}
    try:
        for backend, setting in backends.items():
            backend.fp32_precision = setting
        yield
    finally:
        for backend, setting in before.items():
            backend.fp32_precision = setting
