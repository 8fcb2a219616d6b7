"""Contrastive divergence, with fresh or persistent chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rarefire.data.batch import Batch
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.objectives import Objective
from rarefire.objectives.averages import Averages
from rarefire.parallel import Ranks
from rarefire.penalties import ActivityPenalty, NoPenalty, WeightPenalty
from rarefire.random import Generator
from rarefire.sampling import HalfStep, gibbs, half_step
from rarefire.types import Hidden, HiddenBias, Loss, Outer, Tensors, Visible, VisibleBias


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
    positive_visible : {"mean", "sample"}
        What the positive phase takes of the rows: their values, or a sample with these means, drawn anew each time.
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
    centring : float or None
        Factor ν by which the hidden offset λ ← (1 − ν)λ + ν⟨E[h|v]⟩ slides with every batch; None does not centre.

    Notes
    -----
    With centring the gradient is that of the weights of E = −(h − λ)·W(v − μ) − …, where v and h are taken about
    offsets near their means μ (of the training rows) and λ. In terms of the plain biases a and b, which are kept,
    it is G = ∂W − ∂b μᵀ − λ ∂aᵀ for the weights, then ∂b − G μ and ∂a − Gᵀλ for the biases, ∂ being the plain gradient.

    Sources: Hinton (2002), Training products of experts by minimizing contrastive divergence; Tieleman (2008),
    Training restricted Boltzmann machines using approximations to the likelihood gradient; Montavon and Müller
    (2012), Deep Boltzmann machines and the centering trick; Melchior, Fischer and Wiskott (2016), How to center deep
    Boltzmann machines, for the plain form of the centred gradient.
    """

    recordable: ClassVar[bool] = True

    gibbs_steps: int
    persistent: bool
    positive_hidden: HalfStep
    chain_hidden: HalfStep
    chain_visible: HalfStep
    negative_hidden: HalfStep
    penalty: ActivityPenalty
    weight_decay: WeightPenalty
    positive_visible: HalfStep = "mean"
    centring: float | None = None

    def evaluate(
        self, model: BoltzmannMachine, batch: Batch, state: Tensors, generator: Generator
    ) -> tuple[Loss, Tensors]:
        """The estimate for one batch, and the chains, running averages and offsets after it."""
        averages = Averages(self.penalty.averaging, state, batch.ranks)
        n = batch.n
        m = len(state["chains"]) if self.persistent else n
        own = batch.ranks.share(m)
        generator, of_chains = batch.stream(generator), batch.stream(generator, m)
        data = half_step(model.visible, batch.whole, self.positive_visible, generator)
        seen = model.look(data, average=averages, n_batch=n)
        positive = half_step(model.hidden, seen.codes, self.positive_hidden, generator)
        if self.persistent:
            start = state["chains"][own]
        elif self.positive_hidden == self.chain_hidden:
            start = positive
        else:
            start = half_step(model.hidden, seen.codes, self.chain_hidden, generator)

        v, mean = gibbs(model, start, self.gibbs_steps, of_chains, visible=self.chain_visible, hidden=self.chain_hidden)
        negative = half_step(model.hidden, mean, self.negative_hidden, of_chains)
        after = dict(state)
        if self.persistent:
            same = self.negative_hidden == self.chain_hidden
            chains = negative if same else half_step(model.hidden, mean, self.chain_hidden, of_chains)
            after["chains"] = chains if len(chains) == m else _replaced(state["chains"], own, chains)

        bias_pull = None
        if not isinstance(self.penalty, NoPenalty):
            pull = self.penalty.evaluate(seen)[1]
            after |= averages.after
            if self.penalty.biases_only:
                bias_pull = pull.sum(dim=0)
            else:
                positive = positive - n * pull
        statistic, chain_statistic = model.visible.statistic(data), model.visible.statistic(v)
        outer = Outer(((negative, chain_statistic, 1 / m), (positive, statistic, -1 / n)))
        # Where nothing but a step awaits the weight gradient, it is multiplied out into the weights.
        alone = batch.ranks.size == 1 and isinstance(self.weight_decay, NoPenalty)
        plain = alone and model.log_variance is None and self.centring is None
        # Sums are subtracted before they are divided: for binary rows they are exact, even in float32.
        sums = {
            "hidden_bias": (negative.sum(dim=0) * (n / m) - positive.sum(dim=0)) / n,
            "visible_bias": (chain_statistic.sum(dim=0) * (n / m) - statistic.sum(dim=0)) / n,
        }
        if not plain:
            sums["weight"] = outer.dense()
        if model.log_variance is not None:
            energies = [model.visible.energy(rows, model.visible_bias).sum(dim=0) for rows in (v, data)]
            sums["log_variance"] = energies[0] / m - energies[1] / n
        if self.centring is not None:
            sums["mean"] = seen.codes.sum(dim=0) / n
        if bias_pull is not None:
            sums["bias_pull"] = bias_pull
        if batch.watched:
            sums["cost"] = self._cost(model, data, seen.codes, generator) / n
        sums = batch.ranks.sum(sums)
        grads = {name: sums[name] for name in model.parameters if name in sums}
        if model.log_variance is not None:
            # ∂E/∂ln σ² = −(v − a)²/2σ² + (v/σ²)·Wᵀh, the second part of which the weight gradient holds.
            grads["log_variance"] = grads["log_variance"] - (model.weight * grads["weight"]).sum(dim=0)
        if not isinstance(self.weight_decay, NoPenalty):
            grads["weight"] += self.weight_decay.gradient(model.weight)
        if self.centring is not None:
            after["hidden_offset"] = state["hidden_offset"].lerp(sums["mean"], self.centring)
            _centre(grads, after["hidden_offset"], model.visible.statistic(state["visible_offset"]))
        if bias_pull is not None:
            grads["hidden_bias"] += sums["bias_pull"]
        strength = self.weight_decay.shrinkage
        loss = Loss(
            grads,
            {"cost": sums["cost"]} if batch.watched else {},
            shrinkage={"weight": strength} if strength else {},
            outer={"weight": outer} if plain else {},
        )
        return loss, after

    @staticmethod
    def _cost(model: BoltzmannMachine, v: Visible, mean: Hidden, generator: Generator) -> Tensor:
        """Sum over rows of the mean cost of a pixel, on the way down from a sample of the hidden units."""
        z = model.visible_input(model.hidden.sample(mean, generator))
        return model.visible.cost(v, z).sum(dtype=torch.float64) / v.shape[1]

    def whole(self, state: Tensors, ranks: Ranks) -> Tensors:
        """With all chains, of which each process runs its share."""
        return {**state, "chains": ranks.rows(state["chains"])} if self.persistent else state


def _replaced(whole: Hidden, own: slice, rows: Hidden) -> Hidden:
    changed = whole.clone()
    changed[own] = rows
    return changed


def _centre(grads: Tensors, hidden_offset: HiddenBias, visible_offset: VisibleBias) -> None:
    """Turn plain gradients into those of a machine whose units are taken about offsets, in place."""
    weight, hidden, visible = grads["weight"], grads["hidden_bias"], grads["visible_bias"]
    weight.addr_(hidden, visible_offset, alpha=-1).addr_(hidden_offset, visible, alpha=-1)
    grads["hidden_bias"] = hidden - weight @ visible_offset
    grads["visible_bias"] = visible - hidden_offset @ weight
