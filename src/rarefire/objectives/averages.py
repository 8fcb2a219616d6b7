"""Averages of a batch that a penalty asks for, over all of its parts or running on from batch to batch."""

from __future__ import annotations

import torch
from torch import Tensor

from rarefire.parallel import ALONE, Ranks
from rarefire.types import Hidden, Tensors


class Averages:
    """Averages over a whole batch, in the order in which a penalty asks for them: what ``Pass.mean`` gives.

    Parameters
    ----------
    decay : float or None
        Factor of a running average over batches that is given in place of the batch's own; None gives that.
    state : dict of Tensor
        The running average before this batch: its sum of weights times values, and of weights, which begin at zero.
    ranks : Ranks
        The processes that have shares of the batch.
    """

    def __init__(self, decay: float | None, state: Tensors, ranks: Ranks = ALONE) -> None:
        self.decay = decay
        self.before = state
        self.ranks = ranks
        self.after: Tensors = {}
        self._totals: list[Hidden] = []
        self._collected = False
        self._asked = 0

    @staticmethod
    def initial(n_units: int, dtype: torch.dtype, device: torch.device) -> Tensors:
        """The state before the first batch."""
        zeros = torch.zeros(n_units, dtype=dtype, device=device)
        return {"running_mean": zeros, "running_weight": torch.zeros(1, dtype=dtype, device=device)}

    def collect(self, t: Hidden) -> Tensor:
        """Take a part into the averages; gives that of the part, for what is not kept."""
        total = t.sum(dim=0)
        if self._asked == len(self._totals):
            self._totals.append(torch.zeros_like(total))
        self._totals[self._asked] += total
        self._asked += 1
        return t.mean(dim=0)

    def divide(self, n: int) -> None:
        """End collecting: all parts, on all processes, had ``n`` rows together."""
        totals = self.ranks.sum({str(k): total for k, total in enumerate(self._totals)})
        self._totals = [total / n for total in totals.values()]
        self._collected = True

    def rewind(self) -> None:
        """Begin again with the first average, for the next part."""
        self._asked = 0

    def _mean(self, t: Hidden) -> Tensor:
        if self.ranks.size == 1:
            return t.mean(dim=0)
        sums = self.ranks.sum({"total": t.sum(dim=0), "rows": t.new_full((), len(t))})
        return sums["total"] / sums["rows"]

    def __call__(self, t: Hidden) -> Tensor:
        """The average over the whole batch, of which ``t`` may be a part."""
        mean = self._totals[self._asked] if self._collected else self._mean(t)
        self._asked += 1
        if self.decay is None:
            return mean
        if self._asked > 1:
            raise ValueError("a penalty with a running average may ask for one average only")
        d = self.decay
        weight = d * self.before["running_weight"] + (1 - d)
        total = d * self.before["running_mean"] + (1 - d) * mean
        self.after = {"running_mean": total, "running_weight": weight}
        return total / weight
