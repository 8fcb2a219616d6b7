"""Sparse rows: the same numbers as dense ones, nothing dense but a batch, and reconstruction sampling without bias."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import rarefire as rf
from rarefire.activations import ReLU, Sigmoid
from rarefire.artifact import RunDirectory
from rarefire.data import batch as batches
from rarefire.data.batch import Batch
from rarefire.data.source import SPARSE, ArraySource, Description, column_sums
from rarefire.errors import InputError, Interrupted
from rarefire.losses import BernoulliCrossEntropy, SquaredError
from rarefire.models.autoencoder import Autoencoder
from rarefire.objectives.reconstruction import Reconstruction
from rarefire.objectives.sampled import outputs_of
from rarefire.penalties import L2, KLDivergence, L1Activity, NoPenalty
from rarefire.preprocess import Binarise, Rescale, Standardise
from rarefire.preprocess.step import prepared
from rarefire.random import Generator
from rarefire.schedules import Linear
from rarefire.solvers.adam import BETA1, BETA2, EPSILON, Adam
from rarefire.solvers.sgd import SGD
from rarefire.types import Columns, Loss, columns_together, dense, torch_csr, transposed

N, D, K = 30, 90, 4
DENSE = np.random.default_rng(0).random((N, D))
DENSE[np.random.default_rng(1).random((N, D)) > 0.06] = 0
DENSE[3] = 0
ROWS = sp.csr_array(DENSE)
DECODING = {"output": Sigmoid(), "loss": BernoulliCrossEntropy()}
PLAIN = {**DECODING, "penalty": NoPenalty(), "weight_decay": NoPenalty()}


def source(rows=ROWS, **arguments):
    return ArraySource(rows, Description("rows"), **arguments)


def model(tied=False, n=D):
    made = Autoencoder.initial(
        n, K, activation=Sigmoid(), output=Sigmoid(), tied=tied, generator=Generator(0, "m"), dtype=torch.float64
    )
    made.decoder_bias.copy_(Generator(0, "c").normal((n,), torch.float64))
    return made


def evaluate(objective, model, rows, generator=None):
    batch = Batch(source(rows), slice(None), dtype=torch.float64)
    return objective.evaluate(model, batch, {}, generator or Generator(0, "draws"))[0]


# Sources --------------------------------------------------------------------------------------------------------


def test_a_source_gives_its_sparse_rows():
    twice = sp.csr_array((np.array([1, 2, 0, 4], np.uint8), np.array([5, 5, 1, 0]), np.array([0, 2, 3, 4])), (3, 90))
    some = source(twice, scale=0.5)
    assert some.sparse
    for index in (slice(None), slice(1, 3), np.array([2, 0])):
        for one in (some, some.subset(np.array([2, 1, 0]))):
            given = one.sparse_rows(index)
            assert given.dtype == one.dtype == np.float32
            assert given.has_canonical_format
            np.testing.assert_array_equal(given.toarray(), one.rows(index))
    assert twice.nnz == 4  # the matrix itself stays as it was given
    assert not source(DENSE).sparse
    assert not source(sp.csr_array(np.arange(10.0)[None] < 10 * SPARSE + 1)).sparse
    assert source(sp.csr_array(np.arange(10.0)[None] < 10 * SPARSE)).sparse


@pytest.mark.parametrize(
    ("step", "kept"),
    [(Binarise(0.5), True), (Binarise(-0.5), False), (Rescale(), True), (Standardise(), False)],
    ids=["binarise", "below zero", "rescale", "standardise"],
)
def test_steps_that_keep_zeros_keep_rows_sparse(step, kept):
    rows = prepared(source(), [step.fit_source(source())])
    assert rows.sparse == kept
    np.testing.assert_array_equal(rows.sparse_rows(slice(2, 9)).toarray(), rows.rows(slice(2, 9)))


def test_extremes_and_sums_of_sparse_rows_are_those_of_all_values():
    for rows in (ROWS, -ROWS):
        assert source(rows).extremes == (rows.toarray().min(), rows.toarray().max())
        np.testing.assert_allclose(column_sums(source(rows)), rows.toarray().sum(axis=0), rtol=1e-14)


def test_columns_of_rows_that_hold_something():
    columns, values = transposed(torch_csr(ROWS))
    np.testing.assert_array_equal(columns, np.flatnonzero(DENSE.any(axis=0)))
    np.testing.assert_array_equal(dense(values), DENSE.T[columns])


# The same numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n_part", [N, 7])
@pytest.mark.parametrize("columns", [(), ("encoder_weight",)])
def test_sparse_and_dense_rows_have_the_same_gradient(monkeypatch, tied, n_part, columns):
    monkeypatch.setattr(batches, "PART_VALUES", D * n_part)
    if tied and columns:
        return  # the decoder's gradient is that of the same matrix, and dense
    for loss in (BernoulliCrossEntropy(), SquaredError()):
        objective = Reconstruction(loss, KLDivergence(0.1, 2.0), NoPenalty() if columns else L2(0.1), columns=columns)
        given, expected = evaluate(objective, model(tied), ROWS), evaluate(objective, model(tied), DENSE)
        assert not expected.columns
        assert set(given.columns) == set(columns)
        assert given.value == pytest.approx(expected.value.item(), rel=1e-13)
        for name, gradient in given.dense_grads(model(tied).parameters).items():
            torch.testing.assert_close(gradient, expected.grads[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_sparse_and_dense_rows_are_fitted_alike(solver):
    arguments = {"random_state": 0, "solver": solver, "max_iter": 3, **DECODING}
    given, expected = (rf.SparseAutoencoder(K, **arguments).fit(rows) for rows in (ROWS, DENSE))
    for name in given.parameter_names:
        np.testing.assert_allclose(getattr(given, name), getattr(expected, name), rtol=0, atol=1e-12)
        assert getattr(given, name).flags.c_contiguous
    for one, other in zip(given.history_, expected.history_, strict=True):
        assert one == pytest.approx(other, rel=1e-12)
    assert rf.check_gradient(given, ROWS, max_entries=50) < 1e-8


def test_codes_of_sparse_rows_follow_from_the_weights(monkeypatch):
    made = [
        rf.BernoulliRBM(K, n_iter=1, random_state=0),
        rf.GaussianRBM(K, n_iter=1, random_state=0, learn_variance=True),
        rf.DeepBeliefNetwork([K, 3], max_iter=0, random_state=0),
        rf.SparseAutoencoder(K, max_iter=1, random_state=0),
    ]
    fitted = [estimator.fit(ROWS) for estimator in made]
    expected = [estimator.transform(DENSE) for estimator in fitted]
    monkeypatch.setattr(ArraySource, "rows", None)  # none is made dense
    for estimator, codes in zip(fitted, expected, strict=True):
        np.testing.assert_allclose(estimator.transform(ROWS), codes, rtol=0, atol=1e-12)
        np.testing.assert_allclose(estimator.codes_and_active(ROWS)[0], codes, rtol=0, atol=1e-12)
    rbm = fitted[0]
    by_hand = 1 / (1 + np.exp(-(ROWS @ rbm.components_.T + rbm.intercept_hidden_)))
    np.testing.assert_allclose(rbm.transform(ROWS), by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize("zeros", [None, 0.5])
def test_inputs_of_sparse_rows_are_dropped_where_there_are_any(zeros):
    objective = Reconstruction(SquaredError(), NoPenalty(), NoPenalty(), input_dropout=0.5, zeros=zeros)
    seen = []

    class Watched(Autoencoder):
        def hidden_input(self, x):
            seen.append(dense(x).numpy())
            return super().hidden_input(x)

    evaluate(objective, Watched(**vars(model())), ROWS)
    kept = seen[0] != 0
    assert 0.3 < kept.sum() / ROWS.nnz < 0.7
    np.testing.assert_allclose(seen[0][kept], 2 * DENSE[kept])


def test_partial_fit_on_sparse_rows_is_that_on_dense_ones():
    made = [rf.SparseAutoencoder(K, random_state=0, solver="sgd", **PLAIN) for _ in range(2)]
    for _ in range(3):
        given, expected = made[0].partial_fit(ROWS), made[1].partial_fit(DENSE)
    np.testing.assert_allclose(given.encoder_weight_, expected.encoder_weight_, rtol=0, atol=1e-12)


# Nothing dense --------------------------------------------------------------------------------------------------


def test_sampled_training_reads_no_dense_rows_but_those_of_the_record(monkeypatch):
    asked = []
    whole = ArraySource.rows

    def rows(self, index):
        asked.append(np.arange(self.shape[0])[index])
        return whole(self, index)

    monkeypatch.setattr(ArraySource, "rows", rows)
    estimator = rf.SparseAutoencoder(
        K, random_state=0, max_iter=3, batch_size=5, reconstruction_sampling=0.5, init_output="mean", **PLAIN
    ).fit(ROWS)
    assert len(asked) == 1
    estimator.partial_fit(ROWS)
    assert len(asked) == 1


# Reconstruction sampling ----------------------------------------------------------------------------------------


class Enumerated(Generator):
    """Draws the columns that it is told."""

    def __init__(self, first):
        super().__init__(0, "enumerated")
        self.first = first

    def permutation(self, n):
        return np.array([*self.first, *(k for k in range(n) if k not in self.first)])


#: Values alone in their columns, columns with several and columns with none.
FEW = np.array([[0.3, 0.0, 1.0, 0.5, 0, 0, 0, 0], [0.9, 0.2, 0.0, 0.4, 0, 0, 0, 0], [0.7, 0, 0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("loss", [SquaredError(), BernoulliCrossEntropy()])
def test_the_mean_over_all_draws_is_the_cost_at_all_columns(tied, loss):
    n_others = 6
    network = model(tied, FEW.shape[1])
    full = evaluate(Reconstruction(loss, L1Activity(0.1), NoPenalty()), network, FEW)
    objective = Reconstruction(loss, L1Activity(0.1), NoPenalty(), zeros=0.5)
    draws = [
        evaluate(objective, network, sp.csr_array(FEW), Enumerated(first))
        for first in itertools.combinations(range(n_others), 2)
    ]
    assert np.std([draw.value for draw in draws]) > 0.01  # which no two draws have in common
    assert np.mean([draw.value for draw in draws]) == pytest.approx(full.value.item(), rel=1e-12)
    for name, gradient in full.grads.items():
        mean = torch.stack([draw.grads[name] for draw in draws]).mean(dim=0)
        torch.testing.assert_close(mean, gradient, rtol=0, atol=1e-12)


def test_columns_are_drawn_from_those_without_several_values_and_all_alike():
    generator, rows = Generator(0, "draws"), torch_csr(ROWS[:15])
    held = (DENSE[:15] != 0).sum(axis=0)
    several, n = np.flatnonzero(held > 1), -(-int((held > 0).sum()) // 2)
    counts = np.zeros(D)
    for _ in range(400):
        outputs = outputs_of(rows, 0.5, generator)
        np.testing.assert_array_equal(outputs.columns[: len(several)], several)
        assert outputs.n_drawn == n
        drawn = outputs.columns[len(several) : len(several) + n]
        assert len(outputs.columns.unique()) == len(outputs.columns)
        counts[drawn] += 1
    assert not counts[several].any()
    np.testing.assert_array_equal(outputs.x, DENSE[:15, several])
    singles = outputs.singles
    columns = outputs.columns[-len(singles.x) :]
    np.testing.assert_array_equal(np.sort(columns), np.flatnonzero(held == 1))
    np.testing.assert_array_equal(singles.x, DENSE[singles.rows, columns])
    p = n / (D - len(several))
    assert outputs.weight == pytest.approx(1 / p)
    others = np.delete(counts, several)
    assert np.abs(others - 400 * p).max() < 5 * np.sqrt(400 * p * (1 - p))


def test_all_columns_drawn_are_all_columns_and_blocks_add_up(monkeypatch):
    full = evaluate(Reconstruction(SquaredError(), KLDivergence(0.1), NoPenalty()), model(), DENSE)
    for block in (100, 7):
        monkeypatch.setattr("rarefire.objectives.reconstruction.BLOCK", block)
        names = ("encoder_weight", "decoder_weight", "decoder_bias")
        objective = Reconstruction(SquaredError(), KLDivergence(0.1), NoPenalty(), zeros=1e3, columns=names)
        given = evaluate(objective, model(), ROWS)
        assert set(given.columns) == set(names)
        assert given.value == pytest.approx(full.value.item(), rel=1e-12)
        for name, gradient in given.dense_grads(model().parameters).items():
            torch.testing.assert_close(gradient, full.grads[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_dense_rows_are_sampled_like_sparse_ones(solver):
    arguments = {"random_state": 0, "max_iter": 3, "reconstruction_sampling": 0.3, "solver": solver, "batch_size": 8}
    given, expected = (rf.SparseAutoencoder(K, **arguments, **PLAIN).fit(rows) for rows in (ROWS, DENSE))
    for name in given.parameter_names:
        np.testing.assert_allclose(getattr(given, name), getattr(expected, name), rtol=0, atol=1e-12)


def test_costs_of_the_record_are_those_of_all_columns():
    arguments = {"random_state": 0, "max_iter": 2, "reconstruction_sampling": 0.3, "validation_fraction": 0.5}
    fitted = rf.SparseAutoencoder(K, **arguments, **PLAIN).fit(ROWS)
    held_out = DENSE[fitted.validation_indices_]
    assert fitted.history_[-1]["validation_cost"] == pytest.approx(-fitted.score(held_out), rel=1e-12)


def test_lbfgs_follows_no_sampled_value():
    with pytest.raises(InputError, match="reconstruction_sampling"):
        rf.SparseAutoencoder(K, solver="lbfgs", reconstruction_sampling=0.5).fit(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "rate"),
    # At a constant rate descent ends as far from the minimum as its gradients are noisy, and sampled ones are more so.
    [("adam", None), ("sgd", Linear(0.1, 0.0))],
    ids=["adam", "sgd"],
)
def test_sampling_costs_little_on_held_out_rows(solver, rate):
    rng = np.random.default_rng(0)
    topics = rng.gamma(0.1, size=(8, 1500)) / (np.arange(1500) + 10)
    topics /= topics.sum(axis=1, keepdims=True)
    rows = np.array([rng.random(1500) < 1 - np.exp(-30 * topics[rng.integers(8)]) for _ in range(1200)], dtype=float)
    costs = []
    for sampling in (None, 0.2):
        estimator = rf.SparseAutoencoder(
            16, activation=ReLU(), init_output="mean", solver=solver, max_iter=40, random_state=0, batch_size=20,
            learning_rate=rate, reconstruction_sampling=sampling, **PLAIN,
        )  # fmt: skip
        costs.append(-estimator.fit(sp.csr_array(rows[:1000])).score(rows[1000:]))
    assert costs[1] < 1.02 * costs[0]
    start = estimator.set_params(max_iter=0).fit(rows[:1000]).score(rows[1000:])
    assert costs[0] < -0.9 * start


# Steps by columns -----------------------------------------------------------------------------------------------


def parts_of(gradients):
    """Dense gradients as Loss, and those of the same columns alone."""
    touched = torch.from_numpy(np.flatnonzero(gradients["w"].any(axis=0)))
    weight, bias = (torch.from_numpy(gradients[name]) for name in ("w", "b"))
    columns = {"w": Columns(touched, weight.T[touched]), "b": Columns(touched, bias[touched])}
    return Loss({"w": weight, "b": bias}), Loss({}, columns=columns)


def gradients(n_steps):
    rng = np.random.default_rng(0)
    for _ in range(n_steps):
        touched = rng.random(6) < 0.5
        yield {"w": rng.normal(size=(3, 6)) * touched, "b": rng.normal(size=6) * touched}


def stepped(solver, which):
    parameters = {"w": columns_together(torch.ones(3, 6, dtype=torch.float64)), "b": torch.ones(6, dtype=torch.float64)}
    state = solver.initial(parameters)
    for gradient in gradients(5):
        loss = parts_of(gradient)[which]
        solver.step(lambda _, loss=loss: (loss, {}), parameters, state, 0.0)
    return parameters


def test_descent_by_columns_is_descent():
    given, expected = (stepped(SGD(0.3), which) for which in (1, 0))
    for name in given:
        torch.testing.assert_close(given[name], expected[name], rtol=0, atol=1e-15)


def test_adam_by_columns_is_adam_on_each_column_with_its_own_steps():
    given = stepped(Adam(0.3, columns=("w", "b")), 1)
    for name, value in given.items():
        for column in range(6):
            x = np.ones(3 if name == "w" else 1)
            m, v, t = 0 * x, 0 * x, 0
            for gradient in gradients(5):
                g = gradient[name][..., column]
                if not gradient["w"][:, column].any():
                    continue
                t += 1
                m, v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g**2
                x = x - 0.3 * (m / (1 - BETA1**t)) / (np.sqrt(v / (1 - BETA2**t)) + EPSILON)
            np.testing.assert_allclose(value[..., column], x if name == "w" else x[0], rtol=1e-12)


def test_the_sum_of_columns():
    parts = [
        Columns(torch.tensor([0, 4]), torch.tensor([1.0, 2.0])),
        Columns(torch.tensor([4, 2]), torch.tensor([3.0, 4.0])),
    ]
    total = Columns.total(parts)
    assert len(total.index) == 3
    found = torch.zeros(5)
    total.add_to(found)
    torch.testing.assert_close(found, torch.tensor([1.0, 0, 4, 0, 5]))


def test_a_fit_that_goes_on_has_the_bits_of_one_that_was_not_stopped(tmp_path):
    def made(**more):
        return rf.SparseAutoencoder(
            K, random_state=0, max_iter=4, batch_size=5, reconstruction_sampling=0.5, averaging=0.5, **more, **PLAIN
        )

    whole = made().fit(ROWS)
    stopped = made(checkpoint_dir=str(tmp_path / "run"))
    directory = RunDirectory(tmp_path / "run")
    split = stopped.split(N, 0)
    with directory.locked():
        directory.create({**stopped.spec(0), "data": source().spec(), "warm": False})
        calls = itertools.count()
        with pytest.raises(Interrupted):
            stopped.fit_source(source(), split, seed=0, directory=directory, should_stop=lambda: next(calls) == 10)
        stopped.fit_source(source(), split, seed=0, directory=directory)
    for name in whole.parameter_names:
        np.testing.assert_array_equal(getattr(stopped, name), getattr(whole, name))
