"""Products of factors of eight bits: how far they are from the full ones, and what that does to what is learned."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import rarefire as rf
from rarefire.data.arrays import load_npy
from rarefire.errors import InputError
from rarefire.precision import products
from rarefire.runs import check_run

#: Relative error of one rounding to a significand of 8 bits.
UNIT = 2.0**-8

needs_units = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has no units for bfloat16"
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_products_of_small_integers_are_exact(rng):
    a, b = (torch.from_numpy(rng.integers(-3, 4, shape).astype(np.float32)) for shape in ((50, 90), (90, 60)))
    with products("bfloat16"):
        found = a @ b
    np.testing.assert_array_equal(found, a.numpy().astype(int) @ b.numpy().astype(int))


@needs_units
def test_products_are_those_of_rounded_factors_summed_in_float32(rng):
    a, b = (torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for shape in ((70, 300), (300, 40)))
    rounded = a.bfloat16().double().numpy() @ b.bfloat16().double().numpy()
    with products("bfloat16"):
        np.testing.assert_allclose(a @ b, rounded, rtol=0, atol=1e-4)
        assert not np.allclose(a.double().numpy() @ b.double().numpy(), rounded, rtol=0, atol=1e-2)
        wide = a.double() @ b.double()
    np.testing.assert_array_equal(wide, a.double() @ b.double())  # float64 is left as it is


def test_the_setting_is_put_back(rng):
    a = torch.from_numpy(rng.normal(size=(90, 90)).astype(np.float32))
    before = a @ a
    with pytest.raises(ZeroDivisionError), products("bfloat16"):
        raise ZeroDivisionError
    np.testing.assert_array_equal(a @ a, before)
    with products("full"):
        np.testing.assert_array_equal(a @ a, before)
    assert torch.get_float32_matmul_precision() == "highest"


def gradients(precision, cls, X, **options):
    """The step of one update on all rows: minus the gradient, times the learning rate of 1."""
    common = {"learning_rate": 1.0, "batch_size": None, "random_state": 0, **options}
    steps = {"max_iter": 1} if cls is rf.SparseAutoencoder else {"n_iter": 1}
    still = cls(20, **common, **{name: 0 for name in steps}).fit(X)
    moved = cls(20, **common, **steps, precision=precision).fit(X)
    return {name: getattr(moved, name) - getattr(still, name) for name in still.parameter_names}


@needs_units
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (rf.SparseAutoencoder, {"solver": "sgd"}),
        (rf.SparseAutoencoder, {"solver": "sgd", "activation": rf.activations.ReLU(), "tied": True}),
        *(
            (cls, {"persistent": False, "chain_hidden": "mean", "chain_visible": "mean"})
            for cls in (rf.BernoulliRBM, rf.GaussianRBM)
        ),
    ],
)
def test_updates_are_those_of_full_products_but_for_rounding(rng, cls, options):
    """With nothing drawn in between."""
    X = rng.random((300, 40)).astype(np.float32)
    full, low = (gradients(precision, cls, X, **options) for precision in ("full", "bfloat16"))
    assert any(not np.array_equal(full[name], low[name]) for name in full)
    for name, step in full.items():
        np.testing.assert_allclose(low[name], step, rtol=0, atol=4 * UNIT * max(1, np.abs(step).max()))


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


def test_weights_keep_their_type_and_repeats_their_bits(rng):
    X = rng.random((60, 12)).astype(np.float32)
    for cls in (rf.BernoulliRBM, rf.GaussianRBM):
        first, second = (cls(5, n_iter=2, precision="bfloat16", random_state=0).fit(X) for _ in range(2))
        assert first.components_.dtype == np.float32
        np.testing.assert_array_equal(first.components_, second.components_)
        # Rows are encoded by full products.
        z = X @ first.components_.T + first.intercept_hidden_
        np.testing.assert_allclose(first.transform(X), 1 / (1 + np.exp(-z)), rtol=1e-5)


def test_what_cannot_be_rounded_is_refused(rng):
    with pytest.raises(InputError, match="precision='half' of BernoulliRBM must be one of 'full', 'bfloat16'"):
        rf.BernoulliRBM(precision="half").fit(np.eye(3))
    with pytest.raises(InputError, match="precision='bfloat16' is for float32 rows, and these are float64"):
        rf.BernoulliRBM(2, precision="bfloat16").fit(rng.random((5, 3)))
    with pytest.raises(InputError, match="compares values that must be exact, so precision='bfloat16'"):
        rf.SparseAutoencoder(2, solver="lbfgs", precision="bfloat16").fit(rng.random((5, 3)))


def test_it_is_refused_before_anything_is_made(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deep = rf.DeepBeliefNetwork([("low", rf.BernoulliRBM(2)), ("high", rf.BernoulliRBM(2, precision="bfloat16"))])
    for estimator in (rf.BernoulliRBM(2, precision="bfloat16"), deep):
        with pytest.raises(InputError, match=r"precision='bfloat16'.* is for float32 rows"):
            estimator.set_params(checkpoint_dir="run").fit(rng.random((5, 3)))
        assert not hasattr(estimator, "machines_")
    np.save("rows.npy", rng.random((5, 3)))
    with pytest.raises(InputError, match="for float32 rows"):
        check_run(load_npy("rows.npy"), [], rf.SparseAutoencoder(2, precision="bfloat16"), 0)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]
    with pytest.raises(InputError, match="precision='bfloat16' belongs to fine-tuning"):
        rf.DeepBeliefNetwork([2, 2], precision="bfloat16").fit(np.eye(4, dtype=np.float32))
