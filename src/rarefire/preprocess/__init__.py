"""Preparation of rows before a model sees them: steps that are fitted on training rows and saved with the run.

Each step is a scikit-learn transformer, and is also fitted on a source without reading it whole.
"""

from __future__ import annotations

from rarefire.component import members
from rarefire.preprocess.scaling import Binarise, ClipRescale, RemoveMean, Rescale, Standardise
from rarefire.preprocess.step import PreparedSource, SameColumns, Step, fit_steps, prepared
from rarefire.preprocess.whitening import OneOverFWhitening, PCAWhitening, ZCAWhitening

__all__ = [
    "Binarise",
    "ClipRescale",
    "OneOverFWhitening",
    "PCAWhitening",
    "PreparedSource",
    "RemoveMean",
    "Rescale",
    "SameColumns",
    "Standardise",
    "Step",
    "ZCAWhitening",
    "fit_steps",
    "prepared",
]

# A run names its steps by where they are imported from, so that moving them between our files breaks no saved run.
for _step in members(Step):
    _step.__module__ = __name__
