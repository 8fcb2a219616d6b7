"""Costs of a reconstruction."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor


def bernoulli_cost(v: Float[Tensor, "*shape"], z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """−[v ln p + (1 − v) ln(1 − p)] of each entry, p = σ(z), in nats: ln(1 + eᶻ) − v z.

    Computed from the input z and not from p, so that no probability is clipped. Source: document 002, whose cost
    is the mean of this over pixels and samples, p being the pixel's probability on the way down.
    """
    return F.softplus(z) - v * z
