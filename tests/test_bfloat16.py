"""Products of factors of eight bits: how far they are from the full ones, and what that does to what is learned."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import rarefire as rf
from rarefire.data.batch import Batch
from rarefire.errors import InputError
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.objectives.contrastive import ContrastiveDivergence
from rarefire.penalties import NoPenalty
from rarefire.precision import affine, factor, product
from rarefire.random import Generator
from rarefire.units import Bernoulli

#: Relative error of one rounding to a significand of 8 bits.
UNIT = 2.0**-8


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_products_of_small_integers_are_exact(rng):
    a, b = (torch.from_numpy(rng.integers(-3, 4, shape).astype(np.float32)) for shape in ((5, 9), (9, 6)))
    exact = (a.numpy() @ b.numpy()).astype(np.float32)
    np.testing.assert_array_equal(product(a, b, 0.5, "bfloat16"), exact * 0.5)
    bias = torch.arange(6.0)
    np.testing.assert_array_equal(affine(bias, a, factor(b, "bfloat16")), exact + bias.numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_those_of_rounded_factors(rng, dtype):
    a, b = (torch.from_numpy(rng.normal(size=shape)).to(dtype) for shape in ((7, 300), (300, 4)))
    rounded = a.bfloat16().double().numpy() @ b.bfloat16().double().numpy()
    bias = torch.from_numpy(rng.normal(size=4)).to(dtype)
    for found, expected in (
        (product(a, b, 3.0, "bfloat16"), 3 * rounded),
        (affine(bias, a, factor(b, "bfloat16")), rounded + bias.numpy()),
    ):
        assert found.dtype == dtype
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=3 * UNIT * np.abs(rounded).max())
    np.testing.assert_array_equal(product(a, b, 1.0, "full"), (a @ b).numpy())


def test_the_gradient_is_that_of_full_products_but_for_rounding(rng):
    """Of samples that are the same in both: with all means at hand nothing is drawn."""
    weight, v = rng.normal(size=(6, 20)), rng.random((50, 20))
    machine = BoltzmannMachine(
        torch.from_numpy(weight), torch.zeros(6).double(), torch.zeros(20).double(), Bernoulli(), Bernoulli()
    )

    def gradients(precision):
        objective = ContrastiveDivergence(
            gibbs_steps=2,
            persistent=False,
            positive_hidden="mean",
            chain_hidden="mean",
            chain_visible="mean",
            negative_hidden="mean",
            penalty=NoPenalty(),
            weight_decay=NoPenalty(),
            precision=precision,
        )
        return objective.evaluate(machine, Batch.of(torch.from_numpy(v)), {}, Generator(0, "test"))[0].grads

    full, low = gradients("full"), gradients("bfloat16")
    assert not np.array_equal(full["weight"], low["weight"])
    for name, gradient in full.items():
        assert low[name].dtype == torch.float64
        np.testing.assert_allclose(low[name], gradient, rtol=0, atol=4 * UNIT)


def test_what_is_learned_is_as_likely():
    """By enumeration, after a training in which the two take different samples: as close as two seeds are."""
    X = (load_digits().data > 8).astype(np.float32)

    def likelihood(**options):
        machine = rf.BernoulliRBM(10, learning_rate=0.05, batch_size=50, n_iter=20, **options).fit(X)
        estimate = machine.log_likelihood(X)
        assert estimate.standard_error == 0  # summed over all hidden states
        return estimate.value

    full = [likelihood(random_state=seed) for seed in range(3)]
    low = [likelihood(random_state=seed, precision="bfloat16") for seed in range(3)]
    assert np.mean(low) == pytest.approx(np.mean(full), abs=0.5)
    assert low != full


def test_weights_keep_their_type_and_repeats_their_bits(rng):
    X = rng.random((60, 12)).astype(np.float32)
    for cls in (rf.BernoulliRBM, rf.GaussianRBM):
        first, second = (cls(5, n_iter=2, precision="bfloat16", random_state=0).fit(X) for _ in range(2))
        assert first.components_.dtype == np.float32
        np.testing.assert_array_equal(first.components_, second.components_)
        # Rows are encoded by full products.
        z = X @ first.components_.T + first.intercept_hidden_
        np.testing.assert_allclose(first.transform(X), 1 / (1 + np.exp(-z)), rtol=1e-5)


def test_unknown_precisions_are_refused():
    with pytest.raises(InputError, match="precision='half' of BernoulliRBM must be one of 'full', 'bfloat16'"):
        rf.BernoulliRBM(precision="half").fit(np.eye(3))
