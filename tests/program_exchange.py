"""What one of several processes says and hears; apart from the tests, so that it starts fast."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.distributed as dist

from rarefire.errors import InputError
from rarefire.parallel import Ranks


def exchange(rank: int, size: int, meeting: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    ranks = Ranks(rank, size)
    summed = ranks.sum(
        {
            "wide": torch.tensor([[1.0 + rank, 2.0]], dtype=torch.float64),
            "narrow": torch.full((3,), rank + 0.5),
            "number": torch.tensor(10.0**rank, dtype=torch.float64),
        }
    )
    own = torch.zeros(5, 2)
    own[ranks.share(5)] = torch.arange(10.0).reshape(5, 2)[ranks.share(5)]

    def fail() -> None:
        raise InputError(f"said by {rank}")

    try:
        ranks.of_first(fail)
        error = ""
    except InputError as raised:
        error = str(raised)
    answers = {
        "sum": {name: value.tolist() for name, value in summed.items()},
        "types": [str(value.dtype) for value in summed.values()],
        "rows": ranks.rows(own).tolist(),
        "any": ranks.any(rank == 1, False),
        "same": [ranks.same("a"), ranks.same(rank)],
        "first": ranks.of_first(lambda: rank),
        "alone": ranks.first_alone(lambda: rank),
        "error": error,
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(answers))
    dist.destroy_process_group()
