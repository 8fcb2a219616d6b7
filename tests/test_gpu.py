"""On a GPU, where there is one: what the tests on the CPU can only play."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import rarefire as rf

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is at hand")

ROWS = (load_digits().data / 16).astype(np.float32)


@pytest.mark.parametrize(
    "estimator",
    [
        rf.BernoulliRBM(n_components=32, batch_size=50, n_iter=3, random_state=0),
        rf.BernoulliRBM(n_components=32, batch_size=50, n_iter=3, persistent=False, momentum=0.5, random_state=0),
        rf.GaussianRBM(n_components=32, batch_size=50, n_iter=3, learning_rate=0.01, random_state=0),
    ],
)
def test_the_graph_gives_the_bits_of_single_steps(estimator, monkeypatch):
    estimator.set_params(device="cuda")
    played = estimator.fit(ROWS).components_
    monkeypatch.setenv("RAREFIRE_GRAPH", "0")
    np.testing.assert_array_equal(estimator.fit(ROWS).components_, played)


@pytest.mark.parametrize("solver", ["lbfgs", "adam", "sgd"])
def test_autoencoders_learn_what_they_do_on_the_cpu(solver):
    estimator = rf.SparseAutoencoder(16, solver=solver, max_iter=10, random_state=0)
    on_cpu, on_gpu = (estimator.set_params(device=device).fit(ROWS).history_ for device in ("cpu", "cuda"))
    np.testing.assert_allclose([r["cost"] for r in on_gpu], [r["cost"] for r in on_cpu], rtol=1e-3)
