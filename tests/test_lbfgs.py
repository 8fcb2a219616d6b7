"""L-BFGS against SciPy's, the conditions it promises, and single against double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_digits

from rarefire.arguments import check
from rarefire.checkpoint import TrainState
from rarefire.errors import InputError
from rarefire.random import Generator
from rarefire.solvers.lbfgs import LBFGS, Point, between
from rarefire.types import Loss

F32, F64 = torch.float32, torch.float64


def rosenbrock(p):
    x = p["x"]
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def quadratic(n=60, condition=1e4):
    """½x'Ax − Σx + 3; in single precision A's products drown the last thousandth of it in rounding."""
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=F64, generator=torch.Generator().manual_seed(0)))
    a = q @ torch.diag(torch.logspace(0, math.log10(condition), n, dtype=F64)) @ q.T
    return lambda p: 0.5 * p["x"] @ (a.to(p["x"].dtype) @ p["x"]) - p["x"].sum() + 3


def autoencoder(n_hidden=12, dtype=F64):
    """A sparse autoencoder's cost on digits: sigmoid units, KL divergence, weight decay."""
    data = torch.from_numpy(load_digits().data[:600] / 16).to(dtype)

    def cost(p):
        codes = torch.sigmoid(data @ p["encode"].T + p["b"])
        x_hat = torch.sigmoid(codes @ p["decode"] + p["c"])
        rate, rho = codes.mean(0), 0.05
        kl = (rho * (rho / rate).log() + (1 - rho) * ((1 - rho) / (1 - rate)).log()).sum()
        decay = (p["encode"] ** 2).sum() + (p["decode"] ** 2).sum()
        return 0.5 * ((x_hat - data) ** 2).sum() / len(data) + 3 * kl + 0.5e-4 * decay

    generator = torch.Generator().manual_seed(1)
    weights = {
        name: 0.5 * torch.rand(n_hidden, 64, dtype=F64, generator=generator) - 0.25 for name in ("encode", "decode")
    }
    start = {"encode": weights["encode"], "b": torch.zeros(n_hidden), "decode": weights["decode"], "c": torch.zeros(64)}
    return cost, {name: value.to(dtype) for name, value in start.items()}


def point(*values, dtype=F64):
    return {"x": torch.tensor(values, dtype=dtype)}


class Counting:
    """A cost as an objective that counts its evaluations, and says where each was made."""

    def __init__(self, cost):
        self.cost, self.calls = cost, 0

    def __call__(self, parameters):
        self.calls += 1
        leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        value = self.cost(leaves)
        grads = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))
        return Loss(grads, {}, value.item()), {name: value.clone() for name, value in parameters.items()}


def largest(loss):
    return max(float(gradient.abs().max()) for gradient in loss.grads.values())


def copied(tensors):
    return {name: value.clone() for name, value in tensors.items()}


def fit(cost, parameters, n, memory=20, tol=0.0):
    """Up to n iterations, on a copy: the parameters, the losses, the objective, and why it was finished."""
    objective, solver, parameters = Counting(cost), LBFGS(memory), copied(parameters)
    state, losses = solver.initial(parameters), []
    for _ in range(n):
        losses.append(solver.step(objective, parameters, state, 0.0)[0])
        if largest(losses[-1]) <= tol or solver.finished(state):
            break
    return parameters, losses, objective, solver.finished(state)


def by_scipy(cost, x, memory, tol):
    def value_and_gradient(x):
        loss, _ = Counting(cost)({"x": torch.from_numpy(x)})
        return loss.value, loss.grads["x"].numpy()

    options = {"maxcor": memory, "maxiter": 5000, "maxfun": 10000, "ftol": 0, "gtol": tol}
    return minimize(value_and_gradient, x, jac=True, method="L-BFGS-B", options=options)


@pytest.mark.parametrize("memory", [5, 20])
@pytest.mark.parametrize(
    ("cost", "start"),
    [*((rosenbrock, np.tile([-1.2, 1.0], n // 2)) for n in (2, 10, 50)), (quadratic(), np.zeros(60))],
    ids=["rosenbrock2", "rosenbrock10", "rosenbrock50", "quadratic"],
)
def test_it_finds_scipys_minimum_at_scipys_price(cost, start, memory):
    theirs = by_scipy(cost, start, memory, 1e-6)
    ours, losses, objective, _ = fit(cost, point(*start), 5000, memory, 1e-6)
    assert losses[-1].value == pytest.approx(theirs.fun, abs=1e-10)
    np.testing.assert_allclose(ours["x"], theirs.x, atol=1e-4)
    assert len(losses) <= 1.5 * theirs.nit
    assert objective.calls <= 1.5 * theirs.nfev


@pytest.mark.parametrize("name", ["rosenbrock", "autoencoder"])
def test_every_step_keeps_the_strong_wolfe_conditions(name):
    cost, parameters = (rosenbrock, point(*[-1.2, 1.0] * 5)) if name == "rosenbrock" else autoencoder()
    objective, solver = Counting(cost), LBFGS()
    state, steps = solver.initial(parameters), 0
    for _ in range(80):
        before, start = objective(parameters)[0], copied(parameters)
        after, _ = solver.step(objective, parameters, state, 0.0)
        # With s = αp both conditions hold no α: the slopes are g·s/α.
        slopes = [
            sum(float((loss.grads[k] * (parameters[k] - start[k])).sum()) for k in start) for loss in (before, after)
        ]
        if abs(after.value - before.value) > 1e-12 * abs(before.value):
            assert after.value <= before.value + 1e-4 * slopes[0]
            assert abs(slopes[1]) <= 0.9 * abs(slopes[0]) * (1 + 1e-9)
            steps += 1
    assert steps > 60
    # Most steps take the first length that is tried.
    assert objective.calls - 80 <= 1.5 * 80


def test_a_fall_too_small_for_its_step_is_refused():
    # The first trial, a step of length 1, falls by a tenth of c₁|φ'(0)| and halves the slope.
    solver, parameters = LBFGS(), point(0.0)
    wave = Counting(lambda p: (-(2 * math.pi * p["x"]).sin() * (1 - p["x"] / 2) - 2e-5 * math.pi * p["x"]).sum())
    at_one, _ = wave(point(1.0))
    assert -6.4e-5 < at_one.value < -6.2e-5
    loss, _ = solver.step(wave, parameters, solver.initial(parameters), 0.0)
    assert 0 < parameters["x"].item() < 1
    assert loss.value < -0.1


def test_directions_are_those_of_the_dense_bfgs_update():
    # Nocedal and Wright, equation (6.17), from γI, over the pairs that the memory of 4 still holds.
    objective, solver, parameters = Counting(rosenbrock), LBFGS(memory=4), point(*[-1.2, 1.0] * 3)
    state, pairs = solver.initial(parameters), []
    for _ in range(11):
        before, start = objective(parameters)[0], copied(parameters)
        after, _ = solver.step(objective, parameters, state, 0.0)
        pairs.append((parameters["x"] - start["x"], after.grads["x"] - before.grads["x"]))
    assert state["pairs"] == 11
    s, y = pairs[-1]
    h = torch.eye(6, dtype=F64) * (s @ y) / (y @ y)
    for s, y in pairs[-4:]:
        v = torch.eye(6, dtype=F64) - torch.outer(s, y) / (s @ y)
        h = v @ h @ v.T + torch.outer(s, s) / (s @ y)
    torch.testing.assert_close(solver.direction(state), -h @ after.grads["x"])


@pytest.mark.parametrize("n", [7, 60])
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(n, tmp_path):
    cost, parameters = autoencoder(dtype=F32)
    solver, objective = LBFGS(memory=10), Counting(cost)
    state = solver.initial(parameters)
    for _ in range(n):
        solver.step(objective, parameters, state, 0.0)
    generator = Generator(0, "sample").state()
    (tmp_path / "state").write_bytes(TrainState(parameters, state, generator=generator).to_bytes())
    resumed = TrainState.read(tmp_path / "state", torch.device("cpu"))
    resumed.check_like(TrainState(parameters, solver.initial(parameters)), "state")
    for _ in range(20):
        loss, _ = solver.step(objective, parameters, state, 0.0)
        again, _ = solver.step(objective, resumed.parameters, resumed.solver, 0.0)
        assert loss.value == again.value
    assert all(torch.equal(parameters[name], value) for name, value in resumed.parameters.items())
    assert all(torch.equal(state[name], value) for name, value in resumed.solver.items())


def test_single_precision_reaches_the_minimum_of_an_autoencoder():
    reached = {}
    for dtype in (F32, F64):
        cost, start = autoencoder(dtype=dtype)
        parameters, losses, objective, _ = fit(cost, start, 150)
        exact, _ = autoencoder()
        reached[dtype] = float(exact({name: value.double() for name, value in parameters.items()}))
        assert len(losses) == 150
        assert objective.calls <= 1.2 * 150
    assert reached[F32] == pytest.approx(reached[F64], rel=0.01)


def test_single_precision_goes_on_where_values_say_nothing():
    # Rounding of values is a thousand times that of one sum here; slopes alone lead to the minimum.
    cost = quadratic()
    lowest = by_scipy(cost, np.zeros(60), 20, 1e-9).fun
    parameters, losses, _, reason = fit(cost, point(*[0.0] * 60, dtype=F32), 2000)
    value = float(cost({"x": parameters["x"].double()}))
    assert value - lowest < 1e-6
    rounding = max(loss.value for loss in losses[-20:]) - min(loss.value for loss in losses[-20:])
    assert value - lowest < 0.1 * rounding
    assert reason.startswith("converged: ")


def test_a_step_too_long_is_halved():
    # −log is no number left of zero; the first Newton-like steps lead there.
    a = torch.tensor([1.0, 10.0, 1000.0], dtype=F64)
    barrier = lambda p: (a * p["x"] - p["x"].log()).sum()  # noqa: E731
    parameters, losses, _, _ = fit(barrier, point(3.0, 2.0, 1.0), 100, tol=1e-8)
    torch.testing.assert_close(parameters["x"], 1 / a)
    assert all(math.isfinite(loss.value) for loss in losses)


@pytest.mark.parametrize("value", [1e300, 1e30, 0.0, -1e300])
@pytest.mark.parametrize("slope", [1e300, 1e-300, 0.0, -1e-300, -1.0, -1e300])
def test_the_next_length_lies_in_the_bracket_whatever_was_found(value, slope):
    low = Point(1.0, 0.0, -1.0, {}, torch.zeros(1), (Loss({}), {}))
    for alpha in (1.0 + 1e-15, 3.0):
        high = Point(alpha, value, slope, {}, torch.zeros(1), (Loss({}), {}))
        assert 1.0 <= between(low, high, 1e-16) <= alpha


def test_a_start_that_is_not_finite_is_given_back_as_it_is():
    solver, objective, parameters = LBFGS(), Counting(lambda p: p["x"].log().sum()), point(-1.0, 2.0)
    state = solver.initial(parameters)
    loss, _ = solver.step(objective, parameters, state, 0.0)
    assert math.isnan(loss.value)
    assert objective.calls == 1
    assert parameters["x"].tolist() == [-1.0, 2.0]


def test_at_a_minimum_it_is_finished():
    parameters, losses, _, reason = fit(lambda p: (p["x"] ** 2).sum(), point(0.0, 0.0), 5)
    assert reason == "converged: the gradient is zero"
    assert len(losses) == 1
    assert not parameters["x"].any()
    *_, reason = fit(rosenbrock, point(-1.2, 1.0, -1.2, 1.0, -1.2, dtype=F32), 500)
    assert reason


def test_the_state_says_that_it_goes_on():
    parameters, solver = point(-1.2, 1.0), LBFGS()
    state = solver.initial(parameters)
    assert solver.finished(state) == ""
    solver.step(Counting(rosenbrock), parameters, state, 0.0)
    assert solver.finished(state) == ""


@pytest.mark.parametrize("dtype", [F32, F64])
def test_gradients_of_another_function_move_nothing(dtype):
    class Uphill(Counting):
        def __call__(self, parameters):
            loss, at = super().__call__(parameters)
            return Loss({name: -value for name, value in loss.grads.items()}, {}, loss.value), at

    solver, objective, parameters = LBFGS(), Uphill(rosenbrock), point(-1.2, 1.0, 0.5, dtype=dtype)
    start, state = copied(parameters), solver.initial(parameters)
    for _ in range(10):
        solver.step(objective, parameters, state, 0.0)
    assert "no lower point was found along the gradient" in solver.finished(state)
    # Where slopes contradict values the values are taken for rough, but never further than √ε.
    rise = rosenbrock(parameters) / rosenbrock(start) - 1
    assert rise <= 2 * math.sqrt(torch.finfo(dtype).eps)


def test_values_fall_but_for_rounding():
    cost, start = autoencoder(dtype=F32)
    _, losses, _, _ = fit(cost, start, 150)
    values = np.array([loss.value for loss in losses])
    assert (values <= np.minimum.accumulate(values) * (1 + 1e-5)).all()
    assert values[-1] < 0.5 * values[0]


def test_from_beside_a_maximum_it_finds_a_minimum():
    parameters, losses, _, _ = fit(lambda p: (p["x"].cos() + 1e-3 * p["x"] ** 2).sum(), point(0.2, -0.1), 100, tol=1e-9)
    assert largest(losses[-1]) <= 1e-9
    assert (-parameters["x"].cos() + 2e-3 > 0).all()


def test_a_step_without_curvature_leaves_no_pair():
    solver, parameters, objective = (
        LBFGS(),
        point(0.0, 0.0),
        Counting(lambda p: (p["x"] * p["x"].new_tensor([1, 2])).sum()),
    )
    state, values = solver.initial(parameters), []
    for _ in range(5):
        values.append(solver.step(objective, parameters, state, 0.0)[0].value)
        assert state["pairs"] == 0
    assert values == sorted(values, reverse=True)
    assert values[-1] < -1e6


def test_the_order_of_the_parameters_does_not_matter():
    cost, start = autoencoder(dtype=F32)
    one, *_ = fit(cost, start, 25)
    other, *_ = fit(cost, dict(reversed(start.items())), 25)
    assert list(one) != list(other)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_loss_and_objective_state_are_those_of_the_point_kept():
    cost, parameters = autoencoder()
    solver, objective = LBFGS(), Counting(cost)
    state = solver.initial(parameters)
    for _ in range(15):
        loss, at = solver.step(objective, parameters, state, 0.0)
        assert all(torch.equal(at[name], value) for name, value in parameters.items())
        assert loss.value == cost(parameters).item() == state["value"]


def test_an_objective_without_a_value_is_refused():
    parameters = point(1.0)
    with pytest.raises(InputError, match="needs an objective with a value"):
        LBFGS().step(lambda p: (Loss(p), {}), parameters, LBFGS().initial(parameters), 0.0)


def test_arguments():
    check(LBFGS(memory=1))
    with pytest.raises(InputError, match="memory=0"):
        check(LBFGS(memory=0))
