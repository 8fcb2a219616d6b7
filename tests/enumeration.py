"""Small Bernoulli machines summed over every state, in NumPy, by the definition of the energy alone."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.units import Bernoulli


def machine(n_visible=4, n_hidden=3, seed=0, scale=1.0) -> BoltzmannMachine:
    rng = np.random.default_rng(seed)
    tensors = [torch.from_numpy(scale * rng.normal(size=s)) for s in ((n_hidden, n_visible), n_hidden, n_visible)]
    return BoltzmannMachine(*tensors, hidden=Bernoulli(), visible=Bernoulli())


def states(n: int) -> np.ndarray:
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def energies(m: BoltzmannMachine) -> np.ndarray:
    """E(v, h) for all pairs, (2**n_visible, 2**n_hidden)."""
    w, b, a = m.weight.numpy(), m.hidden_bias.numpy(), m.visible_bias.numpy()
    v, h = states(len(a)), states(len(b))
    return np.array([[-x @ a - y @ b - y @ w @ x for y in h] for x in v])


def joint(m: BoltzmannMachine) -> np.ndarray:
    """P(v, h) for all pairs."""
    weights = np.exp(-energies(m))
    return weights / weights.sum()


def log_likelihood(m: BoltzmannMachine, rows: np.ndarray) -> float:
    """Mean of ln P(v) over rows of 0 and 1."""
    index = rows.astype(int) @ (2 ** np.arange(rows.shape[1])[::-1])
    return float(np.log(joint(m).sum(axis=1))[index].mean())


def gradient(m: BoltzmannMachine, rows: np.ndarray) -> dict[str, np.ndarray]:
    """d log_likelihood / d parameters in closed form: data expectations minus model expectations."""
    p = joint(m)
    v, h = states(m.visible_bias.numel()), states(m.hidden_bias.numel())
    given = p / p.sum(axis=1, keepdims=True)
    index = rows.astype(int) @ (2 ** np.arange(rows.shape[1])[::-1])
    data = given[index] / len(rows)
    model = p
    return {
        "weight": np.einsum("nj,jk,nv->kv", data, h, rows) - np.einsum("vj,jk,vi->ki", model, h, v),
        "hidden_bias": data.sum(axis=0) @ h - model.sum(axis=0) @ h,
        "visible_bias": rows.mean(axis=0) - model.sum(axis=1) @ v,
    }
