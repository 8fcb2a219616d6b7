"""Contrastive divergence, with fresh or persistent chains."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rarefire.data.batch import Batch
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.objectives import Objective
from rarefire.penalties import ActivityPenalty, NoPenalty, WeightPenalty
from rarefire.random import Generator
from rarefire.sampling import HalfStep, gibbs, half_step
from rarefire.types import Loss, Tensors


@dataclass(frozen=True)
class ContrastiveDivergence(Objective):
    """Gradient estimate ⟨h v⟩ of the chains minus ⟨h v⟩ of the data, each an average over its own rows.

    The positive phase is the batch. The negative phase runs ``gibbs_steps`` full steps from a sample of the
    hidden units: drawn anew for the batch (CD-k), or carried over in ``state["chains"]`` (persistent CD). Data
    and chains may differ in number, so each side is divided by its own.

    Parameters
    ----------
    gibbs_steps : int
        k.
    persistent : bool
        Whether chains go on from update to update.
    positive_hidden : {"mean", "sample"}
        What the positive statistics take: E[h|v], or the same sample that starts a fresh chain.
    chain_hidden, chain_visible : {"sample", "mean"}
        What each half-step inside the chain hands on.
    negative_hidden : {"mean", "sample"}
        What the negative statistics take from the last half-step up.
    penalty : ActivityPenalty
        Joins the positive phase before the one product that forms the weight gradient.
    weight_decay : WeightPenalty
        Added to the weight gradient.

    Notes
    -----
    Sources: Hinton (2002), Training products of experts by minimizing contrastive divergence; Tieleman (2008),
    Training restricted Boltzmann machines using approximations to the likelihood gradient.
    """

    gibbs_steps: int
    persistent: bool
    positive_hidden: HalfStep
    chain_hidden: HalfStep
    chain_visible: HalfStep
    negative_hidden: HalfStep
    penalty: ActivityPenalty
    weight_decay: WeightPenalty

    def evaluate(
        self, model: BoltzmannMachine, batch: Batch, state: Tensors, generator: Generator
    ) -> tuple[Loss, Tensors]:
        """The estimate for one batch, and the chains after it."""
        data = batch.whole
        seen = model.look(data)
        n = len(data)
        positive = half_step(model.hidden, seen.codes, self.positive_hidden, generator)
        if self.persistent:
            start = state["chains"]
        elif self.positive_hidden == self.chain_hidden:
            start = positive
        else:
            start = half_step(model.hidden, seen.codes, self.chain_hidden, generator)

        v, mean = gibbs(model, start, self.gibbs_steps, generator, visible=self.chain_visible, hidden=self.chain_hidden)
        m = len(v)
        negative = half_step(model.hidden, mean, self.negative_hidden, generator)
        if not self.persistent:
            state = {}
        elif self.negative_hidden == self.chain_hidden:
            state = {"chains": negative}
        else:
            state = {"chains": half_step(model.hidden, mean, self.chain_hidden, generator)}

        if not isinstance(self.penalty, NoPenalty):
            positive = positive - n * self.penalty.evaluate(seen)[1]
        weight = torch.addmm(negative.T @ v, positive.T, data, beta=1 / m, alpha=-1 / n)
        if not isinstance(self.weight_decay, NoPenalty):
            weight += self.weight_decay.gradient(model.weight)
        # Sums are subtracted before they are divided: for binary rows they are exact, even in float32.
        grads = {
            "weight": weight,
            "hidden_bias": (negative.sum(dim=0) * (n / m) - positive.sum(dim=0)) / n,
            "visible_bias": (v.sum(dim=0) * (n / m) - data.sum(dim=0)) / n,
        }
        return Loss(grads), state
