"""Gradients of the likelihood, and the estimates of contrastive divergence, against enumeration."""

import dataclasses

import numpy as np
import pytest
import torch

from enumeration import gradient, joint, log_likelihood, machine, states
from rarefire.data.batch import Batch
from rarefire.losses import SquaredError
from rarefire.objectives import Objective
from rarefire.objectives.contrastive import ContrastiveDivergence
from rarefire.objectives.finetune import Unrolled, UpDown
from rarefire.objectives.reconstruction import Reconstruction
from rarefire.penalties import L2, MeanActivity, NoPenalty
from rarefire.random import Generator
from rarefire.schedules import Switch, value_at
from rarefire.solvers.adam import Adam
from rarefire.solvers.sgd import SGD
from rarefire.types import FEW_ROWS, Loss, Outer

ROWS = np.random.default_rng(0).integers(0, 2, size=(6, 4)).astype(float)
PCD = ContrastiveDivergence(
    gibbs_steps=1,
    persistent=True,
    positive_hidden="mean",
    chain_hidden="sample",
    chain_visible="sample",
    negative_hidden="mean",
    penalty=NoPenalty(),
    weight_decay=NoPenalty(),
)
CD = dataclasses.replace(PCD, persistent=False)


def mean_gradient(objective, m, rows, chains_of=None, draws=20_000):
    """Mean of the estimate over many draws, and its standard error, by tiling the batch and the chains."""
    total, square = {}, {}
    repeats = 40
    for repeat in range(repeats):
        copies = draws // repeats
        batch = torch.from_numpy(np.tile(rows, (copies, 1)))
        state = {} if chains_of is None else {"chains": chains_of(copies * len(rows), repeat)}
        loss, _ = objective.evaluate(m, Batch.of(batch), state, Generator(repeat, "test"))
        for name, g in loss.dense_grads(m.parameters).items():
            total[name] = total.get(name, 0) + g.numpy() / repeats
            square[name] = square.get(name, 0) + g.numpy() ** 2 / repeats
    error = {name: np.sqrt((square[name] - total[name] ** 2) / (repeats - 1)) for name in total}
    return total, error


def test_closed_form_gradient_agrees_with_finite_differences_of_the_exact_likelihood():
    m = machine(seed=2)
    closed = gradient(m, ROWS)
    step = 1e-5
    for name, tensor in m.parameters.items():
        numeric = np.zeros(tensor.shape)
        for index in np.ndindex(*tensor.shape):
            sides = []
            for sign in (1, -1):
                moved = {key: value.clone() for key, value in m.parameters.items()}
                moved[name][index] += sign * step
                sides.append(log_likelihood(m.with_parameters(moved), ROWS))
            numeric[index] = (sides[0] - sides[1]) / (2 * step)
        assert np.linalg.norm(numeric - closed[name]) / np.linalg.norm(numeric + closed[name]) < 1e-8


def test_chains_from_the_model_give_the_exact_gradient_on_average():
    m = machine(seed=2)
    p_h = joint(m).sum(axis=0)

    def chains(n, repeat):
        return torch.from_numpy(states(3)[np.random.default_rng(repeat).choice(8, size=n, p=p_h)])

    got, error = mean_gradient(PCD, m, ROWS, chains)
    for name, exact in gradient(m, ROWS).items():
        assert (np.abs(got[name] + exact) < 4.5 * error[name] + 1e-12).all()


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_mean_estimate_is_that_of_the_enumerated_transition(persistent, k):
    m = machine(seed=7)
    v, h = states(4), states(3)
    p = joint(m)
    up, down = p / p.sum(axis=1, keepdims=True), (p / p.sum(axis=0)).T  # P(h|v), P(v|h)
    index = ROWS.astype(int) @ [8, 4, 2, 1]
    start = np.full(8, 1 / 8) if persistent else up[index].mean(axis=0)
    p_v = start @ down
    for _ in range(k - 1):
        p_v = p_v @ up @ down
    objective = dataclasses.replace(PCD if persistent else CD, gibbs_steps=k)

    def chains(n, repeat):
        return torch.from_numpy(states(3)[np.random.default_rng(repeat).integers(8, size=n)])

    got, error = mean_gradient(objective, m, ROWS, chains if persistent else None)
    positive = np.einsum("nj,jk,nv->kv", up[index], h, ROWS) / len(ROWS)
    negative = np.einsum("v,vj,jk,vi->ki", p_v, up, h, v)
    assert (np.abs(got["weight"] - (negative - positive)) < 4.5 * error["weight"]).all()
    hidden = p_v @ up @ h - (up[index] @ h).mean(axis=0)
    assert (np.abs(got["hidden_bias"] - hidden) < 4.5 * error["hidden_bias"]).all()
    visible = p_v @ v - ROWS.mean(axis=0)
    assert (np.abs(got["visible_bias"] - visible) < 4.5 * error["visible_bias"]).all()


@pytest.mark.parametrize("positive", ["mean", "sample"])
@pytest.mark.parametrize("negative", ["mean", "sample"])
@pytest.mark.parametrize("persistent", [False, True])
def test_half_steps_of_the_statistics_change_the_noise_but_not_the_mean(positive, negative, persistent):
    m = machine(seed=7)
    objective = dataclasses.replace(CD, positive_hidden=positive, negative_hidden=negative, persistent=persistent)

    def chains(n, repeat):
        return torch.zeros(n, 3, dtype=torch.float64)

    args = (m, ROWS, chains if persistent else None)
    got, error = mean_gradient(objective, *args)
    reference, its_error = mean_gradient(dataclasses.replace(CD, persistent=persistent), *args)
    for name in got:
        assert (np.abs(got[name] - reference[name]) < 4.5 * np.hypot(error[name], its_error[name]) + 1e-12).all()
    if positive == "sample":
        assert (error["hidden_bias"] > its_error["hidden_bias"]).all()


def test_half_steps_are_what_their_names_say():
    m = machine(seed=1)
    batch = torch.from_numpy(ROWS)
    objective = dataclasses.replace(CD, chain_visible="mean", chain_hidden="mean", gibbs_steps=2)
    loss, state = objective.evaluate(m, Batch.of(batch), {}, Generator(0, "test"))
    h0 = m.hidden_mean(batch)
    v1 = m.visible_mean(h0)
    v2 = m.visible_mean(m.hidden_mean(v1))
    expected = (m.hidden_mean(v2).T @ v2 - h0.T @ batch) / len(batch)
    torch.testing.assert_close(loss.outer["weight"].dense(), expected)
    assert state == {}


@pytest.mark.parametrize("positive", ["mean", "sample"])
@pytest.mark.parametrize("negative", ["mean", "sample"])
@pytest.mark.parametrize("chain", ["mean", "sample"])
@pytest.mark.parametrize("persistent", [False, True])
def test_one_sample_serves_statistics_and_chain_where_both_ask_for_one(positive, negative, chain, persistent):
    """The two steps by hand, from the same random numbers: what is drawn, in which order, and what is kept."""
    m, batch = machine(seed=1), torch.from_numpy(ROWS)
    halves = {"positive_hidden": positive, "negative_hidden": negative, "chain_hidden": chain}
    objective = dataclasses.replace(CD, **halves, persistent=persistent, gibbs_steps=2)
    chains = torch.from_numpy(states(3)[:5])
    generator, own = Generator(0, "test"), Generator(0, "test")
    given = {"chains": chains} if persistent else {}
    loss, after = objective.evaluate(m, Batch.of(batch), given, generator)

    def draw(mean, how):
        return own.bernoulli(mean) if how == "sample" else mean

    data = draw(m.hidden_mean(batch), positive)
    h = chains if persistent else data if positive == chain else draw(m.hidden_mean(batch), chain)
    v = own.bernoulli(m.visible_mean(h))
    v = own.bernoulli(m.visible_mean(draw(m.hidden_mean(v), chain)))
    mean = m.hidden_mean(v)
    end = draw(mean, negative)
    torch.testing.assert_close(loss.outer["weight"].dense(), end.T @ v / len(v) - data.T @ batch / 6)
    torch.testing.assert_close(loss.grads["hidden_bias"], end.mean(dim=0) - data.mean(dim=0))
    torch.testing.assert_close(loss.grads["visible_bias"], v.mean(dim=0) - batch.mean(dim=0))
    assert set(after) == set(given)
    if persistent:
        torch.testing.assert_close(after["chains"], end if negative == chain else draw(mean, chain), rtol=0, atol=0)
    assert generator.state() == own.state()


def test_data_and_chains_are_divided_by_their_own_number():
    m = machine(seed=1)
    batch = torch.from_numpy(ROWS[:1])
    chains = torch.zeros(500, 3, dtype=torch.float64)
    loss, state = PCD.evaluate(m, Batch.of(batch), {"chains": chains}, Generator(0, "test"))
    assert state["chains"].shape == (500, 3)
    p = m.visible_mean(torch.zeros(1, 3, dtype=torch.float64))[0]
    gap = loss.grads["visible_bias"] - (p - batch[0])
    assert gap.abs().max() < 4.5 * 0.5 / np.sqrt(500)


def test_nothing_that_is_given_changes():
    m = machine()
    batch, chains = torch.from_numpy(ROWS), torch.ones(5, 3, dtype=torch.float64)
    before = [t.clone() for t in (batch, chains, *m.parameters.values())]
    objective = dataclasses.replace(PCD, penalty=MeanActivity(strength=3.0), weight_decay=L2(0.1))
    objective.evaluate(m, Batch.of(batch), {"chains": chains}, Generator(0, "test"))
    for now, then in zip((batch, chains, *m.parameters.values()), before, strict=True):
        assert torch.equal(now, then)


def test_penalty_and_decay_join_the_gradient():
    m = machine(seed=3)
    batch = torch.from_numpy(ROWS)
    plain, _ = CD.evaluate(m, Batch.of(batch), {}, Generator(0, "test"))
    penalty = MeanActivity(target=0.1, strength=2.0)
    both = dataclasses.replace(CD, penalty=penalty, weight_decay=L2(0.5))
    loss, _ = both.evaluate(m, Batch.of(batch), {}, Generator(0, "test"))

    parameters = {name: value.clone().requires_grad_() for name, value in m.parameters.items()}
    value, _ = penalty.evaluate(m.with_parameters(parameters).look(batch))
    (value + 0.25 * (parameters["weight"] ** 2).sum()).backward()
    for name in ("weight", "hidden_bias"):
        torch.testing.assert_close(
            loss.dense_grads(parameters)[name] - plain.dense_grads(parameters)[name], parameters[name].grad
        )
    torch.testing.assert_close(loss.grads["visible_bias"], plain.grads["visible_bias"])


@pytest.mark.parametrize(
    "objective",
    [CD, Reconstruction(SquaredError(), NoPenalty(), NoPenalty()), Unrolled(True, NoPenalty()), UpDown(1)],
    ids=lambda objective: type(objective).__name__,
)
def test_an_objective_is_not_changed_under_way(objective):
    for field in dataclasses.fields(objective):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(objective, field.name, None)


def test_what_cannot_be_evaluated_is_no_objective():
    with pytest.raises(TypeError, match="evaluate"):
        type("_Part", (Objective,), {})()


@pytest.mark.parametrize("n", [40, 100])  # put together, and one after the other
@pytest.mark.parametrize("momentum", [0.0, 0.5, Switch(0.0, 0.5)])
def test_a_step_along_factors_is_that_along_their_product(n, momentum):
    rng = np.random.default_rng(0)
    a, b, c, d = (rng.normal(size=(n, width)) for width in (3, 5, 3, 5))
    outer = Outer(tuple((torch.from_numpy(x), torch.from_numpy(y), s) for x, y, s in ((a, b, 0.3), (c, d, -0.2))))
    gradient = 0.3 * a.T @ b - 0.2 * c.T @ d
    np.testing.assert_allclose(outer.dense(), gradient, rtol=1e-12)
    assert (2 * n <= FEW_ROWS) == (n == 40)
    solver = SGD(0.1, momentum)
    w = rng.normal(size=(3, 5))
    parameters, u = {"w": torch.from_numpy(w.copy())}, 0.0
    state = solver.initial(parameters)
    for progress in (0.0, 0.6):
        solver.step(lambda _: (Loss({}, outer={"w": outer}), {}), parameters, state, progress)
        u = value_at(momentum, progress) * u + gradient
        w -= 0.1 * u
    np.testing.assert_allclose(parameters["w"], w, rtol=1e-12)


def test_adam_steps_along_factors_too():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(size=(6, width))) for width in (3, 5))
    outer, solver = Outer(((a, b, 0.3),)), Adam(0.1)
    moved = []
    for loss in (Loss({}, outer={"w": outer}), Loss({"w": 0.3 * a.T @ b})):
        parameters = {"w": torch.zeros(3, 5, dtype=torch.float64)}
        solver.step(lambda _, loss=loss: (loss, {}), parameters, solver.initial(parameters), 0.0)
        moved.append(parameters["w"])
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-12)
    np.testing.assert_allclose(moved[1], -0.1 * np.sign((a.T @ b).numpy()), rtol=1e-6)
