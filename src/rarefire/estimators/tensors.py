"""Sparse tensors of torch as SciPy's matrices, and back."""

from __future__ import annotations

import warnings
from typing import Any

import scipy.sparse as sp
import torch

from rarefire.errors import InputError


def is_sparse(X: Any) -> bool:
    """Whether this is a tensor of torch in one of its sparse layouts."""
    return isinstance(X, torch.Tensor) and X.layout is not torch.strided


def scipy_rows(X: torch.Tensor) -> sp.csr_matrix:
    """A sparse tensor of any layout as SciPy's CSR matrix, float64 or float32.

    Raises
    ------
    InputError
        If it has not two axes.
    """
    if X.ndim != 2:
        raise InputError(f"X is a tensor of shape {tuple(X.shape)}; expected (n_samples, n_columns)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch's CSR tensors are young
        rows = X.detach().cpu().to_sparse_csr()
    values = rows.values() if X.dtype == torch.float64 else rows.values().to(torch.float32)
    parts = (values.numpy(), rows.col_indices().numpy(), rows.crow_indices().numpy())
    return sp.csr_matrix(parts, shape=tuple(rows.shape))


def torch_csr(X: sp.csr_matrix, device: torch.device) -> torch.Tensor:
    """SciPy's CSR matrix in torch's form."""
    offsets, places, values = map(torch.from_numpy, (X.indptr, X.indices, X.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch's CSR tensors are young
        return torch.sparse_csr_tensor(offsets, places, values, size=X.shape, device=device, check_invariants=True)
