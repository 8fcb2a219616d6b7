"""Learns features that rarely fire: Boltzmann machines and sparse autoencoders, from data to one HTML page.

Names load when they are first used, so that ``import rarefire`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rarefire import activations, errors, losses, penalties, preprocess, schedules, units
    from rarefire.estimators.autoencoder import SparseAutoencoder
    from rarefire.estimators.boltzmann import BernoulliRBM
    from rarefire.estimators.deep import DeepBeliefNetwork
    from rarefire.estimators.gaussian import GaussianRBM
    from rarefire.estimators.gradient import check_gradient
    from rarefire.estimators.load import load
    from rarefire.metrics.capacity import suggested_components
    from rarefire.notebook import Run
    from rarefire.resuming import resume

__version__ = "0.1.0"

_HOMES = {
    "BernoulliRBM": "rarefire.estimators.boltzmann",
    "DeepBeliefNetwork": "rarefire.estimators.deep",
    "GaussianRBM": "rarefire.estimators.gaussian",
    "Run": "rarefire.notebook",
    "SparseAutoencoder": "rarefire.estimators.autoencoder",
    "check_gradient": "rarefire.estimators.gradient",
    "load": "rarefire.estimators.load",
    "resume": "rarefire.resuming",
    "suggested_components": "rarefire.metrics.capacity",
}
_MODULES = ("activations", "errors", "losses", "penalties", "preprocess", "schedules", "units")

__all__ = [
    "BernoulliRBM",
    "DeepBeliefNetwork",
    "GaussianRBM",
    "Run",
    "SparseAutoencoder",
    "__version__",
    "activations",
    "check_gradient",
    "errors",
    "load",
    "losses",
    "penalties",
    "preprocess",
    "resume",
    "schedules",
    "suggested_components",
    "units",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"rarefire.{name}")
    raise AttributeError(f"module 'rarefire' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
