"""Adam against torch's own, step for step."""

from __future__ import annotations

import pytest
import torch

from rarefire.arguments import check
from rarefire.errors import InputError
from rarefire.schedules import Linear
from rarefire.solvers.adam import Adam
from rarefire.types import Loss

SHAPES = {"weight": (4, 3), "bias": (4,), "offset": ()}


def start(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()}


def cost(parameters):
    w, b, c = parameters["weight"], parameters["bias"], parameters["offset"]
    # Gradients of very different sizes, one of them nearly zero: there ε counts.
    return (w.sin() ** 2).sum() * 100 + ((b - 1) ** 4).sum() + 1e-9 * c + (w.sum(1) * b).sum()


def evaluate(parameters):
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    value = cost(leaves)
    return Loss(dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True)), {}, value.item()), {}


def by_torch(parameters, rates):
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    adam = torch.optim.Adam(leaves.values(), lr=1.0)
    for rate in rates:
        adam.param_groups[0]["lr"] = rate
        adam.zero_grad()
        cost(leaves).backward()
        adam.step()
    return {name: value.detach() for name, value in leaves.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [0.05, Linear(0.1, 0.0, when=0.25)])
def test_steps_are_torchs(dtype, rate):
    n, parameters = 40, start(dtype)
    solver = Adam(rate)
    state = solver.initial(parameters)
    rates = [rate if isinstance(rate, float) else rate.at(t / n) for t in range(n)]
    expected = by_torch(parameters, rates)
    for t in range(n):
        assert solver.settings(t / n) == {"learning_rate": rates[t]}
        solver.step(evaluate, parameters, state, t / n)
    for name, value in parameters.items():
        assert not torch.equal(value, start(dtype)[name])
        torch.testing.assert_close(value, expected[name], rtol=100 * torch.finfo(dtype).eps, atol=0)


def test_a_copied_state_goes_on_bit_for_bit():
    solver, parameters = Adam(Linear(0.1, 0.0)), start()
    state = solver.initial(parameters)
    shapes = {name: (value.shape, value.dtype) for name, value in state.items()}
    for t in range(20):
        if t == 7:
            copies = [{name: value.clone() for name, value in group.items()} for group in (parameters, state)]
        solver.step(evaluate, parameters, state, t / 20)
    for t in range(7, 20):
        solver.step(evaluate, *copies, t / 20)
    assert all(torch.equal(value, copies[0][name]) for name, value in parameters.items())
    assert all(torch.equal(value, copies[1][name]) for name, value in state.items())
    assert shapes == {name: (value.shape, value.dtype) for name, value in state.items()}


def test_the_loss_and_the_state_of_the_objective_are_those_of_the_one_evaluation():
    parameters, calls = start(), []
    loss = Loss({name: torch.ones_like(value) for name, value in parameters.items()}, {"a": 1.0})
    chains = {"chains": torch.ones(2)}

    def once(at):
        calls.append(at)
        return loss, chains

    solver = Adam()
    # The first step moves every entry by η, whatever the gradient's size.
    result = solver.step(once, parameters, solver.initial(parameters), 0.0)
    assert result[0] is loss
    assert result[1] is chains
    assert len(calls) == 1
    for name, value in start().items():
        torch.testing.assert_close(value - parameters[name], torch.full_like(value, 0.001))


def test_a_negative_learning_rate_is_refused():
    check(Adam(Linear()))
    with pytest.raises(InputError, match="learning_rate=-1"):
        check(Adam(-1.0))
