"""What a solver that takes all rows in every iteration has no use for."""

from __future__ import annotations

from typing import Any

from rarefire.errors import InputError


def check_full_batch(estimator: Any, parts: dict[str, Any]) -> None:
    """Refuse what solver="lbfgs" cannot be given: values drawn at random, batches, a gradient of no value.

    Raises
    ------
    InputError
        For the first argument that it cannot.
    """
    random = "follows a value that must not be random"
    for name, free, why in (
        ("learning_rate", None, "finds its own step"),
        ("averaging", None, "never goes up, so that its last parameters are its best"),
        ("dropout", 0, random),
        ("input_dropout", 0, random),
        ("reconstruction_sampling", None, random),
        ("precision", "full", "compares values that must be exact"),
    ):
        if getattr(estimator, name) != free:
            raise InputError(
                f"solver='lbfgs' {why}, so {name}={getattr(estimator, name)!r} has no meaning; leave it at {free!r}, "
                "or use solver='adam'"
            )
    if estimator.batch_size not in ("auto", None):
        raise InputError(
            f"solver='lbfgs' takes all rows in every iteration, so batch_size={estimator.batch_size} has no meaning; "
            "leave it at 'auto', or use solver='adam'"
        )
    if parts["penalty_"].averaging is not None:
        raise InputError(
            f"solver='lbfgs' takes all rows in every iteration, so a running average over batches "
            f"({parts['penalty_']!r}) has no meaning; set averaging=None, or use solver='adam'"
        )
    for part, why in (
        (None if parts["penalty_"].exact else parts["penalty_"], "adds to the gradient what no value has"),
        (parts["weight_decay_"] if parts["weight_decay_"].shrinkage else None, "is followed by proximal steps"),
    ):
        if part is not None:
            raise InputError(f"solver='lbfgs' needs the gradient of its value, but {part!r} {why}; use 'adam'")
