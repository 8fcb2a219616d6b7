"""Sparse codes in torch's form."""

from __future__ import annotations

import warnings

import scipy.sparse as sp
import torch


def torch_csr(X: sp.csr_matrix, device: torch.device) -> torch.Tensor:
    """SciPy's CSR matrix in torch's form."""
    offsets, places, values = map(torch.from_numpy, (X.indptr, X.indices, X.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch's CSR tensors are young
        return torch.sparse_csr_tensor(offsets, places, values, size=X.shape, device=device, check_invariants=True)
