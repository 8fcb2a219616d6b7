"""A function of a model and rows over many rows, some at a time: constant memory beyond the rows and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from rarefire.data.source import Source, batch_rows
from rarefire.types import Visible, rows_tensor

#: Rows that are encoded at a time, and values of them: few enough that a processor's caches hold what is made of them.
CACHED_ROWS, CACHED_VALUES = 2048, 2**20
#: Rows of many columns that are encoded at a time nevertheless, since all weights are read for them.
FEW_ROWS = 256
#: Values that a layer has at most in measuring.
MEASURED_VALUES = 2**19


def measured_rows(model: Any) -> int:
    """Rows that a model is measured on at a time: no layer has more than half a million values of them.

    The C library keeps freed blocks of up to 32 MiB for later, and where they lie apart asks for more. So the tensors
    that measuring makes in float64, a dozen for each batch, are to be far smaller than that.
    """
    return batch_rows(max(max(weight.shape) for weight in model.weights), MEASURED_VALUES)


def mapped(
    rows: Visible | Source, model: Any, function: Callable[[Any, torch.Tensor], torch.Tensor], *, encodes: bool = False
) -> Iterator[tuple[slice, torch.Tensor]]:
    """What the function of (model, rows) makes of each chunk of the rows, and where these rows stand.

    A function that ``encodes`` draws nothing, so that chunks may be such as fit into a processor's caches; of a source
    whose rows are sparse it is given them in torch's CSR form.
    """
    n_rows, n_columns = rows.shape
    sparse = encodes and isinstance(rows, Source) and rows.sparse
    size = CACHED_ROWS if sparse else batch_rows(n_columns)
    if encodes and not sparse and model.device.type == "cpu":
        size = min(CACHED_ROWS, max(CACHED_VALUES // n_columns, min(FEW_ROWS, size)))
    for start in range(0, n_rows, size):
        chunk = slice(start, min(start + size, n_rows))
        if isinstance(rows, torch.Tensor):
            yield chunk, function(model, rows[chunk])
        else:
            read = rows.sparse_rows if sparse else rows.rows
            yield chunk, function(model, rows_tensor(read(chunk), model.device))


def gathered(
    pieces: Iterable[tuple[slice, torch.Tensor]], n_rows: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """The pieces as one tensor of so many rows, at least one."""
    out = None
    for chunk, piece in pieces:
        if out is None:
            shape = (n_rows, *piece.shape[1:])
            if torch.device(device).type == "cpu":
                # NumPy asks for large pages, and making pages is a good part of the time; torch does not ask.
                out = torch.from_numpy(np.empty(shape, piece[:0].cpu().numpy().dtype))
            else:
                out = torch.empty(shape, dtype=piece.dtype, device=device)
        out[chunk] = piece
    assert out is not None
    return out
