"""Where a computation runs."""

from __future__ import annotations

import torch

from rarefire.errors import InputError


def resolve_device(device: str) -> torch.device:
    """The device that a ``device`` argument means: ``"auto"`` is the GPU where there is one, else the CPU.

    Raises
    ------
    InputError
        If the name is no device, or its hardware is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("mps"):
        raise InputError(f"device {device!r} has no double precision, which sums are kept in; use 'cpu'")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError):
        others = "'auto', 'cpu' or 'cuda'" if torch.cuda.is_available() else "'auto' or 'cpu'"
        raise InputError(f"device {device!r} is not available here; use {others}") from None
    return found
