"""Limited-memory quasi-Newton steps on a deterministic objective."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rarefire.arguments import Rule, Whole
from rarefire.errors import InputError
from rarefire.solvers import Evaluate, Solver
from rarefire.types import Loss, Tensors

#: c₁ and c₂ of the strong Wolfe conditions: the share of the promised fall that a step must bring, and the share of
#: the slope that it may leave.
FALL, SLOPE = 1e-4, 0.9

#: δ of the approximate Wolfe condition.
DELTA = 0.1

#: Differences of the objective below this many units of rounding say nothing.
NOISE = 10.0

#: A value that is too high where the slope has changed by less than this share contradicts it: φ is straight there,
#: and must have fallen. As many such points tell how far rounding puts the values off.
STRAIGHT, CONTRADICTIONS = 0.1, 3

#: Trial points in one search, and steps without gain after which the rest is taken for rounding.
TRIALS, PATIENCE = 20, 50

#: Why there is no further step, by the state's ``status``.
REASONS = (
    "",
    "converged: the gradient is zero",
    "stopped: no lower point was found along the gradient, where values differ by rounding or have a kink or a jump",
    f"converged: for {PATIENCE} steps neither the objective nor its gradient has fallen by more than rounding",
)


@dataclass(frozen=True)
class Point:
    """A place on the line x + αp: α, φ(α) and φ'(α), and what was found there."""

    alpha: float
    value: float
    slope: float
    parameters: Tensors
    gradient: Tensor
    found: tuple[Loss, Tensors]

    @property
    def finite(self) -> bool:
        """Whether value and gradient are; a step that leads elsewhere was too long."""
        return math.isfinite(self.value) and bool(torch.isfinite(self.gradient).all())


class LBFGS(Solver):
    """Steps x ← x + αp with p = −H∇f; H, the inverse Hessian, is estimated from the last steps and their gradients.

    H follows from the pairs s = x₊ − x, y = ∇f₊ − ∇f by the two-loop recursion, begun at (s·y/y·y) I. The step's
    length α is searched until the strong Wolfe conditions hold,

        φ(α) ≤ φ(0) + c₁ α φ'(0)  and  |φ'(α)| ≤ c₂ |φ'(0)|,    φ(α) = f(x + αp), c₁ = 1e-4, c₂ = 0.9,

    or, where φ(α) and φ(0) differ by no more than rounding, Hager and Zhang's approximate condition, which asks
    slopes only, (2δ − 1) φ'(0) ≥ φ'(α) ≥ c₂ φ'(0) with δ = 0.1. Without it single precision would stop long before
    the minimum, near which a value changes with the square of the distance, a slope in proportion to it. Rounding is
    taken for ten units of it in the value, and for what is seen where values contradict slopes.

    A search that fails drops the pairs and is tried once more along −∇f. When that fails too the solver is finished,
    as it is after 50 steps without a fall of f by more than rounding or a smaller ‖∇f‖ than any before. No step ends
    more than rounding above the lowest value so far.

    Parameters
    ----------
    memory : int
        Pairs (s, y) kept, each of twice the parameters' size; on patches of photographs 20 got lower than 10.

    Notes
    -----
    For objectives that give the same value and gradient again at the same parameters: all rows in every step. Most
    steps cost one evaluation, as value and gradient of the last point are kept. Products of vectors are summed in
    float64, whatever the parameters' type.

    Sources: Nocedal and Wright, "Numerical optimization" (2006), Algorithms 7.4 and 7.5 and section 3.5; Hager and
    Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search" (2005), section 4.
    """

    full_batch: ClassVar[bool] = True
    pass_name: ClassVar[str] = "iteration"
    rules: ClassVar[dict[str, Rule]] = {"memory": Whole(1)}

    def __init__(self, memory: int = 20) -> None:
        self.memory = memory

    def initial(self, parameters: Tensors) -> Tensors:
        """No pairs, and no value known yet, which NaN stands for."""
        x = flat(parameters)
        history = x.new_zeros((self.memory, len(x)))
        number = torch.zeros((), dtype=torch.float64, device=x.device)
        return {
            "steps": history,
            "changes": history.clone(),
            "products": number.repeat(self.memory),
            "pairs": number.long(),
            "gradient": torch.zeros_like(x),
            "value": number + math.nan,
            "lowest": number + math.inf,
            "smallest": number + math.inf,
            "idle": number.long(),
            "noise": number.clone(),
            "status": number.long(),
        }

    def step(self, evaluate: Evaluate, parameters: Tensors, state: Tensors, progress: float) -> tuple[Loss, Tensors]:
        """One iteration; the loss is that of the parameters it ends with.

        Raises
        ------
        InputError
            If the objective has no value.
        """
        if state["value"].isnan():
            loss, objective_state = evaluate(parameters)
            value, gradient = value_of(loss), flat(loss.grads)
            if not (math.isfinite(value) and bool(torch.isfinite(gradient).all())):
                return loss, objective_state
            state["value"].fill_(value)
            state["lowest"].fill_(value)
            state["gradient"].copy_(gradient)

        gradient = state["gradient"].double()
        if not gradient.any():
            state["status"].fill_(1)
            return evaluate(parameters)
        steepest = -gradient, min(1.0, 1 / float(gradient.abs().sum()))
        directions = [(self.direction(state), 1.0), steepest] if state["pairs"] else [steepest]
        for p, first in directions:
            if (point := search(evaluate, parameters, state, p, first)) is not None:
                self.accept(point, parameters, state)
                return point.found
            state["pairs"].zero_()
        state["status"].fill_(2)
        return evaluate(parameters)

    def finished(self, state: Tensors) -> str:
        """Why no further step would change anything; empty while one may."""
        return REASONS[int(state["status"])]

    def direction(self, state: Tensors) -> Tensor:
        """−H∇f by the two-loop recursion, in float64 (Nocedal and Wright, Algorithm 7.4)."""
        pairs = int(state["pairs"])
        newest_first = [i % self.memory for i in range(pairs - 1, max(pairs - self.memory, 0) - 1, -1)]
        s, y, sy = state["steps"], state["changes"], state["products"]
        q = -state["gradient"].double()
        a = {}
        for i in newest_first:
            a[i] = dot(s[i], q) / sy[i]
            q -= a[i] * y[i].double()
        newest = newest_first[0]
        q *= sy[newest] / dot(y[newest], y[newest])
        for i in reversed(newest_first):
            q += (a[i] - dot(y[i], q) / sy[i]) * s[i].double()
        return q

    def accept(self, point: Point, parameters: Tensors, state: Tensors) -> None:
        """Move to a point, and remember the pair (s, y) if it speaks of a positive curvature."""
        # The step is what is left of αp after rounding to the parameters' type.
        s = flat(point.parameters).double() - flat(parameters).double()
        y = point.gradient - state["gradient"].double()
        sy = dot(s, y)
        # Both gradients are known to rounding only, and so is their difference.
        eps = torch.finfo(state["gradient"].dtype).eps
        if sy > eps * (norm(state["gradient"]) + norm(point.gradient)) * norm(s):
            i = int(state["pairs"]) % self.memory
            state["steps"][i] = s
            state["changes"][i] = y
            state["products"][i] = sy
            state["pairs"] += 1
        for name, value in point.parameters.items():
            parameters[name].copy_(value)
        state["gradient"].copy_(point.gradient)
        state["value"].fill_(point.value)
        lower = point.value < float(state["lowest"]) - rounding(state)
        if lower:
            state["lowest"].fill_(point.value)
        state["idle"] += 1
        if lower or norm(point.gradient) < state["smallest"]:
            state["idle"].zero_()
        state["smallest"].clamp_(max=float(norm(point.gradient)))
        state["status"].fill_(1 if not point.gradient.any() else 3 if state["idle"] >= PATIENCE else 0)


def search(evaluate: Evaluate, parameters: Tensors, state: Tensors, p: Tensor, first: float) -> Point | None:
    """A point on x + αp that meets the conditions, or at least lies lower; None where none is found.

    Between ``low``, where φ has fallen enough and still falls steeply, and ``high``, where it is too high or rises,
    there is a point that meets the strong Wolfe conditions (Moré and Thuente 1994, Theorem 2.1). Where values
    contradict slopes the search begins anew, with the rounding of values that ``state`` holds set to what was seen.
    """
    gradient = state["gradient"]
    start = Point(0.0, float(state["value"]), float(dot(gradient, p)), parameters, gradient, (Loss({}), {}))
    if not start.slope < 0:
        return None
    noise = rounding(state)
    ceiling = float(state["lowest"]) + noise
    look = line(evaluate, parameters, p)
    low, high, alpha, errors = start, None, first, []
    for _ in range(TRIALS):
        point = look(alpha)
        fallen = point.value <= start.value + FALL * alpha * start.slope
        level = abs(point.value - start.value) <= noise and point.value <= ceiling
        wolfe = fallen and abs(point.slope) <= -SLOPE * start.slope
        nearly = level and SLOPE * start.slope <= point.slope <= (2 * DELTA - 1) * start.slope
        if point.finite and (wolfe or nearly):
            return point
        if point.finite and (fallen or level) and point.slope < 0:
            low = point
        else:
            high = point
            if point.finite and abs(point.slope - start.slope) <= -STRAIGHT * start.slope:
                errors.append(point.value - start.value - alpha * start.slope)
        if len(errors) == CONTRADICTIONS:
            measured = min(2 * max(noise, *errors), math.sqrt(torch.finfo(gradient.dtype).eps) * abs(start.value))
            if measured <= noise:
                break
            state["noise"].fill_(measured)
            return search(evaluate, parameters, state, p, first)
        alpha = beyond(start, low) if high is None else between(low, high, noise)
    return low if low.value < start.value - noise else None


def line(evaluate: Evaluate, parameters: Tensors, p: Tensor) -> Callable[[float], Point]:
    """From α to the point x + αp."""
    names = sorted(parameters)
    pieces = dict(zip(names, p.split([parameters[name].numel() for name in names]), strict=True))

    def look(alpha: float) -> Point:
        moved = {
            name: (value.double() + alpha * pieces[name].view_as(value)).to(value.dtype)
            for name, value in parameters.items()
        }
        loss, objective_state = evaluate(moved)
        gradient = flat(loss.grads)
        return Point(alpha, value_of(loss), float(dot(gradient, p)), moved, gradient, (loss, objective_state))

    return look


def between(low: Point, high: Point, noise: float) -> float:
    """The next α inside the bracket: where the cubic through both values and slopes is lowest.

    Where the values differ by rounding only it is the zero of the straight line through both slopes, and the middle
    where ``high`` is not finite. A tenth of the bracket at either end is left out, so that it shrinks.
    """
    width = high.alpha - low.alpha
    share = 0.5
    if high.finite and high.slope > 0 and abs(high.value - low.value) <= noise:
        share = low.slope / (low.slope - high.slope)
    elif high.finite:
        # Nocedal and Wright, equation (3.59).
        d1 = low.slope + high.slope - 3 * (high.value - low.value) / width
        d2 = math.sqrt(max(d1 * d1 - low.slope * high.slope, 0.0))
        bottom = high.slope - low.slope + 2 * d2
        if 0 < bottom < math.inf:
            share = 1 - (high.slope + d2 - d1) / bottom
    return low.alpha + width * min(max(share, 0.1), 0.9)


def beyond(start: Point, low: Point) -> float:
    """The next α where φ still falls at the longest step: the zero of the line through both slopes, 2 to 10 times α."""
    bend = (low.slope - start.slope) / low.alpha
    further = low.alpha - low.slope / bend if bend > 0 else math.inf
    return min(max(further, 2 * low.alpha), 10 * low.alpha)


def rounding(state: Tensors) -> float:
    """How far a value may be off: ten units of rounding, or what was seen."""
    return max(float(state["noise"]), NOISE * torch.finfo(state["gradient"].dtype).eps * abs(float(state["value"])))


def value_of(loss: Loss) -> float:
    """The value that a line search compares."""
    if loss.value is None:
        raise InputError(
            "LBFGS needs an objective with a value, and this one has gradients only, as contrastive divergence does; "
            "use solver='adam'"
        )
    return float(loss.value)


def flat(tensors: Tensors) -> Tensor:
    """All entries in one vector, by name, as the order in a dictionary may change when a checkpoint is read."""
    return torch.cat([tensors[name].reshape(-1) for name in sorted(tensors)])


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ aᵢbᵢ, summed in float64."""
    return (a.double() * b.double()).sum()


def norm(a: Tensor) -> Tensor:
    """‖a‖, summed in float64."""
    return dot(a, a).sqrt()
