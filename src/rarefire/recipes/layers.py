"""Source 002, second half: a second layer above the lines, and why it "refuses to be as good as layer 1".

What the source leaves open, and what is taken here:

- both machines are trained by the protocol of the recipe ``lines``; the second on samples of the first one's hidden
  units ("their binary outputs"), drawn anew in every epoch;
- "run the output all the way back": up through both layers and down again, every hidden unit sampled, or every one at
  its probability (mean-field); the cost is that of the pixels' probabilities, as for one layer;
- beside the cost of held-out pictures stands its expectation over all 2,116 pictures of lines, which differs far less
  from seed to seed.

The source's question is answered by the ablation (docs/layers.md): each setting differs in one thing from two machines
trained greedily. What was to be chosen was chosen on an inner split of the training part: the centring's factor, and
the steps of the tunings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure

from rarefire import plots
from rarefire.arguments import Choice, Rule, Several, Whole
from rarefire.data.datasets import Digits
from rarefire.data.datasets import Lines as LineImages
from rarefire.data.source import Source
from rarefire.data.synthetic import all_line_images
from rarefire.estimators.boltzmann import BernoulliRBM
from rarefire.estimators.deep import DeepBeliefNetwork
from rarefire.estimators.layers import LayerSource
from rarefire.metrics import expected, median_of, metric
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.models.deep import UnrolledNetwork
from rarefire.penalties import L2, WeightPenalty
from rarefire.random import Generator
from rarefire.recipes import Arm, Recipe, grouped
from rarefire.recipes.lines import all_rows, machine_of_source
from rarefire.runs import Picture, Trained
from rarefire.schedules import Linear, Switch
from rarefire.units import Bernoulli

#: Draws of the hidden units for each picture, in expectations over them.
DRAWS = 50
COSTS = ("cost", "cost_mean_field", "cv_cost", "cv_cost_mean_field")
SAMPLED_OR_NOT = (("", "sampled"), ("_mean_field", "mean-field"))


@dataclass(frozen=True)
class Setting:
    """One row of the ablation: how it differs from two machines trained greedily, samples handed on.

    Parameters
    ----------
    name : str
        What its entries end in.
    words : str
        What it is.
    network : dict
        Arguments of the network.
    second : dict or None
        Arguments of the second machine; None is a single layer.
    preset : str
        Of the machines, as in the recipe ``lines``.
    n_samples : int or None
        Pictures, where they are not as many as for the others.
    """

    name: str
    words: str
    network: dict[str, Any] = field(default_factory=dict)
    second: dict[str, Any] | None = field(default_factory=dict)
    preset: str = "faithful"
    n_samples: int | None = None


class Layers(Recipe):
    """Two layers of units on the lines: what the second costs, why, and what cures it (source 002).

    Parameters
    ----------
    preset : str
        "faithful".
    seed : int
        The first seed.
    source : {"lines", "digits"} or None
        Pictures of lines, which None stands for, or scikit-learn's digits, with fewer settings.
    repeats : int
        Number of networks of each setting, each with pictures (or held-out digits) and a seed of its own.
    n_samples : int
        Pictures of lines, a tenth of them held out.
    n_components : int
        Hidden units of the first layer; and of the second, where a setting says nothing else.
    sizes : tuple of int
        Other sizes of the second layer.
    ablation : bool
        Whether the author's question is answered as well; else there are the source's own networks and the tuned one.
    n_iter, tuning_epochs : int
        Updates of each machine, and epochs of the tuning with samples.
    """

    rules: ClassVar[dict[str, Rule]] = {
        "seed": Whole(0),
        "source": Choice(("lines", "digits", None)),
        "repeats": Whole(1),
        "n_samples": Whole(200),
        "n_components": Whole(1),
        "sizes": Several(Whole(1)),
        "n_iter": Whole(1),
        "tuning_epochs": Whole(1),
    }
    name = "layers"
    title = "A second layer on the lines"
    document = "002"

    def __init__(
        self,
        preset: str = "faithful",
        seed: int = 0,
        source: str | None = None,
        repeats: int = 3,
        n_samples: int = 3000,
        n_components: int = 100,
        sizes: Sequence[int] = (10, 20, 50, 200),
        ablation: bool = True,
        n_iter: int = 2000,
        tuning_epochs: int = 300,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.source = source
        self.repeats = repeats
        self.n_samples = n_samples
        self.n_components = n_components
        self.sizes = sizes
        self.ablation = ablation
        self.n_iter = n_iter
        self.tuning_epochs = tuning_epochs

    # What is trained --------------------------------------------------------------------------------------------

    def settings(self) -> list[Setting]:
        """The tuned network, which is the run's own; the source's networks; then the ablation."""
        tuned = self._tuning("sample", 0.01, self.tuning_epochs)
        tuned_mean = self._tuning("mean", 0.003, self.tuning_epochs // 3)
        few, many = self.n_samples // 10, self.n_samples * 10
        own = [
            Setting("tuned", "samples, then tuned with noise", tuned),
            Setting("layer1", "layer 1 alone", second=None),
            Setting("samples", "samples handed on, as published"),
            Setting("probabilities", "probabilities handed on", {"hand_over": "mean"}),
        ]
        sizes = [
            Setting(f"size_{n}", f"{n} units in layer 2", second={"n_components": n})
            for n in self.sizes
            if n != self.n_components and not self._digits
        ]
        for_all = [
            Setting("tuned_mean", "samples, then tuned without noise", tuned_mean),
            Setting("layer1_tuned", "layer 1 alone, tuned with noise", tuned, None),
            Setting("centred", "layer 2 centred", second={"centring": 0.01}),
        ]
        for_lines = [
            Setting("tuned_probabilities", "probabilities, then tuned with noise", {"hand_over": "mean", **tuned}),
            Setting("up_down", "samples, then tuned by up-down", self._tuning("up-down", 0.003, self.tuning_epochs)),
            Setting("layer1_best", "layer 1 alone, best protocol", second=None, preset="best"),
            Setting("once", "samples drawn once", {"redraw": False}),
            Setting(f"once_{few}", f"drawn once, of {few:,} pictures", {"redraw": False}, n_samples=few),
            Setting(f"once_{many}", f"drawn once, of {many:,} pictures", {"redraw": False}, n_samples=many),
            Setting("mirror", "layer 1 upside down, untrained", {"init": "transpose"}, self._mirrored(0)),
            Setting(
                "mirror_trained", "layer 1 upside down, trained", {"init": "transpose"}, self._mirrored(self.n_iter)
            ),
            Setting("decay", "layer 2 with a tenth of the decay", second={"weight_decay": L2(1e-4)}),
            Setting("slow", "layer 2 at a tenth of the rate", second={"learning_rate": Switch(0.1, 0.3)}),
            Setting(
                "centred_decay",
                "layer 2 centred, a tenth of the decay",
                second={"centring": 0.01, "weight_decay": L2(1e-4)},
            ),
        ]
        if not self.ablation:
            return own + sizes
        return own + for_all + sizes if self._digits else own + for_all + for_lines + sizes

    @property
    def _digits(self) -> bool:
        return self.source == "digits"

    def _tuning(self, how: str, rate: float, epochs: int) -> dict[str, Any]:
        return {"fine_tune": how, "learning_rate": Linear(rate, 0.0), "max_iter": epochs}

    def _mirrored(self, n_iter: int) -> dict[str, Any]:
        return {"n_components": 81, "n_iter": n_iter}

    @property
    def _seeds(self) -> range:
        return range(self.seed, self.seed + self.repeats)

    def arms(self) -> list[Arm]:
        """Every setting with every seed."""
        return [
            Arm(f"{setting.name}-{seed}", self._rows(setting, seed), self._network(setting, seed))
            for setting in self.settings()
            for seed in self._seeds
        ]

    def _rows(self, setting: Setting, seed: int) -> Source:
        if self._digits:
            return Digits().open()
        return LineImages(n_samples=setting.n_samples or self.n_samples, seed=seed).open()

    def _machine(self, preset: str = "faithful") -> BernoulliRBM:
        # Which rows are held out is the network's to say.
        machine = machine_of_source(preset, self.n_components, self.seed)
        return machine.set_params(n_iter=self.n_iter, validation_fraction=None)

    def _network(self, setting: Setting, seed: int) -> DeepBeliefNetwork:
        machines = [self._machine(setting.preset)]
        if setting.second is not None:
            machines.append(self._machine(setting.preset).set_params(**setting.second))
        return DeepBeliefNetwork(machines, validation_fraction=0.1, random_state=seed, **setting.network)

    # What is measured -------------------------------------------------------------------------------------------

    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """Medians over seeds, those of each setting as ``..._NAME``, and what needs no training beside them."""
        groups = grouped(self.settings(), trained)
        entries: dict[str, dict[str, Any]] = {}
        for setting, fits in groups:
            for name, entry in median_of([self._measured(one, setting) for one in fits]).items():
                text = f"{setting.words}: {entry['explanation']}"
                entries[f"{name}_{setting.name}"] = {**entry, "name": f"{name}_{setting.name}", "explanation": text}
        samples = next(fits for setting, fits in groups if setting.name == "samples")
        entries["floor"] = median_of([self._floor(one) for one in samples])["floor"]
        self._judge(entries)
        entries |= median_of([self._ways(one) for one in samples])
        if self.ablation:
            entries |= median_of([self._handmade(one) for one in samples])
        return list(entries.values())

    def _judged(self, one: Trained) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows that costs are expected over, and their probabilities: all pictures of lines, or held-out digits."""
        if self._digits:
            v = all_rows(one.held_out or one.train)
            return v, torch.full((len(v),), 1 / len(v), dtype=torch.float64)
        images, probabilities = all_line_images()
        return torch.from_numpy(images).to(torch.float64), torch.from_numpy(probabilities)

    def _expected(self, one: Trained, network: UnrolledNetwork) -> tuple[float, float]:
        """Expected cost, sampled and mean-field."""
        v, p = self._judged(one)
        generator = Generator(one.estimator.seed_, "layers")
        stages = 2 * len(network.layers) - 1
        return (
            expected_cost(network, v, p, "s" * stages, generator),
            expected_cost(network, v, p, "m" * stages, generator),
        )

    @property
    def _over(self) -> str:
        return "held-out digits" if self._digits else "all 2,116 pictures"

    def _measured(self, one: Trained, setting: Setting) -> dict[str, dict[str, Any]]:
        measured = {entry["name"]: entry for entry in one.estimator.measure(one.train, one.held_out)}
        if one.held_out is not None:
            # Few rows, of which a single draw now and then misses a line: the mean of many says what to expect.
            network, v = one.estimator.fitted_model(torch.float64), all_rows(one.held_out)
            p = torch.full((len(v),), 1 / len(v), dtype=torch.float64)
            generator = Generator(one.estimator.seed_, "held out")
            cost = expected_cost(network, v, p, "s" * (2 * len(network.layers) - 1), generator)
            text = f"reconstruction cost of held-out rows, hidden units sampled, mean of {DRAWS} draws"
            measured["cv_cost"] = metric("cv_cost", cost, "nats per pixel", text)
        entries = [measured[name] for name in (*COSTS, "active_mean") if name in measured]
        costs = self._expected(one, one.estimator.fitted_model(torch.float64))
        for (end, words), cost in zip(SAMPLED_OR_NOT, costs, strict=True):
            entries.append(metric(f"exact_cost{end}", cost, "nats per pixel", f"expected over {self._over}, {words}"))
        if setting.n_samples is not None:  # whose first layer has other pictures too
            first = self._expected(one, UnrolledNetwork.of([one.estimator.machines_[0].fitted_model(torch.float64)]))
            entries.append(metric("exact_cost_first", first[0], "nats per pixel", "its first layer alone, sampled"))
        return {entry["name"]: entry for entry in entries}

    def _floor(self, one: Trained) -> dict[str, dict[str, Any]]:
        v, p = self._judged(one)
        text = "entropy of the grey values, below which no reconstruction costs; zero of black and white"
        return {"floor": metric("floor", p @ entropy(v).mean(dim=1), "nats per pixel", text)}

    def _judge(self, entries: dict[str, dict[str, Any]]) -> None:
        """Write the ratios that the source speaks of, and beside the entries what should come out."""
        floor = entries["floor"]["value"]
        for end, words in SAMPLED_OR_NOT:
            for name in (f"exact_cost{end}", f"cv_cost{end}"):
                single, tuned = entries[f"{name}_layer1"], entries[f"{name}_tuned"]
                met = tuned["value"] <= single["value"]
                entries[f"{name}_tuned"] = expected(tuned, "at or below layer 1 alone", met)
            single, double, means = (
                entries[f"exact_cost{end}_{name}"]["value"] - floor for name in ("layer1", "samples", "probabilities")
            )
            text = f"cost above the floor of two layers (samples handed on) over that of layer 1 alone, {words}"
            loss = metric(f"loss{end}", double / single, "", text)
            text = f"cost above the floor where samples are handed on over that where probabilities are, {words}"
            gain = metric(f"gain{end}", double / means, "", text)
            if not self._digits:  # which the source has not tried
                loss = expected(loss, "much higher than the first layer", loss["value"] >= 2)
                gain = expected(gain, "not significantly above 1", gain["value"] <= 1.25)
            entries |= {entry["name"]: entry for entry in (loss, gain)}

    def _ways(self, one: Trained) -> dict[str, dict[str, Any]]:
        """Where the cost of two layers comes from, and what the second one sees, in the network of samples."""
        v, p = self._judged(one)
        network: UnrolledNetwork = one.estimator.fitted_model(torch.float64)
        generator = Generator(one.estimator.seed_, "stages")
        entries = []
        for stages, where in (("smm", "layer 1 on the way up"), ("msm", "layer 2"), ("mms", "layer 1 on the way down")):
            cost = expected_cost(network, v, p, stages, generator)
            entries.append(metric(f"noise_{stages}", cost, "nats per pixel", f"samples handed on by {where} alone"))
        mean = network.up(v).means[0]
        share = p @ entropy(mean).sum(dim=1) / entropy(p @ mean).sum()
        text = "entropy of layer 1's units that is left when the picture is known, over that of its units one by one"
        entries.append(metric("noise_share", share, "share", text))
        for name, means, whose in (("pixels", p @ v, "the pixels"), ("units", p @ mean, "layer 1's units")):
            length = means.square().sum()
            entries.append(metric(f"offset_{name}", length, "", f"squared length of the vector of means of {whose}"))
        return {entry["name"]: entry for entry in entries}

    def _handmade(self, one: Trained) -> dict[str, dict[str, Any]]:
        """A second layer that copies the first: as it is made, and after a tenth of the protocol's updates."""
        below: BoltzmannMachine = one.estimator.machines_[0].fitted_model(torch.float64)
        copies = {
            "identity": (copying(len(below.hidden_bias)), "a second layer made to copy the first"),
            "identity_trained": (self._trained_on(one, L2(0.001)), "the same after a tenth of the protocol's updates"),
            "identity_without_decay": (self._trained_on(one, None), "the same, the updates without weight decay"),
        }
        entries = {}
        for name, (machine, words) in copies.items():
            costs = self._expected(one, UnrolledNetwork.of([below, machine]))
            for (end, how), cost in zip(SAMPLED_OR_NOT, costs, strict=True):
                entries[f"{name}{end}"] = metric(f"{name}{end}", cost, "nats per pixel", f"{words}, {how}")
        return entries

    def _trained_on(self, one: Trained, weight_decay: WeightPenalty | None) -> BoltzmannMachine:
        """The copying layer after a tenth of the protocol's updates."""
        seed = one.estimator.seed_
        lowest = one.estimator.machines_[0]
        start = copying(self.n_components)
        second = self._machine().set_params(
            n_iter=max(1, self.n_iter // 10), weight_decay=weight_decay, warm_start=True, device=one.estimator.device
        )
        for attribute, name in second.parameter_names.items():
            setattr(second, attribute, start.parameters[name].to(torch.float32).numpy())
        rows = LayerSource(one.train, [lowest.fitted_model()], "sample", seed)
        second.fit_source(rows, second.split(rows.shape[0], seed), seed=seed)
        return second.fitted_model(torch.float64)

    # What is drawn ----------------------------------------------------------------------------------------------

    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """Cost by size and by setting, and features of both layers."""
        groups = grouped(self.settings(), trained)
        found = {setting.name: fits[0].estimator for setting, fits in groups}
        shape = (8, 8) if self._digits else (9, 9)
        pictures = [
            Picture("settings", f"Cost of every network, expected over {self._over}", self._chart(groups)),
            Picture("features-first", "Features of layer 1", plots.grid(found["layer1"].components_, shape)),
        ]
        for name, words in (("samples", "two layers trained greedily"), ("tuned", "the tuned network")):
            features = found[name].components_
            order = np.argsort(-np.linalg.norm(features, axis=1), kind="stable")
            text = f"Features of layer 2, seen through layer 1, strongest first: {words}"
            pictures.append(Picture(f"features-{name}", text, plots.grid(features[order], shape)))
        if not self._digits:
            chart = self._by_size({entry["name"]: entry["value"] for entry in metrics})
            pictures.insert(0, Picture("sizes", "Cost through both layers by the size of the second (medians)", chart))
        return pictures

    def _by_size(self, values: dict[str, float]) -> Figure:
        figure, axes = plots.one_chart(6.4, 4.4)
        sizes = sorted({*self.sizes, self.n_components})
        names = ["samples" if n == self.n_components else f"size_{n}" for n in sizes]
        for part, whose, colour in (("cost", "training", plots.BLUE), ("cv_cost", "held out", plots.VERMILION)):
            for (end, words), style in zip(SAMPLED_OR_NOT, ("-", "--"), strict=True):
                costs = [values[f"{part}{end}_{name}"] for name in names]
                axes.plot(sizes, costs, style, marker="o", markersize=4, color=colour, label=f"{whose}, {words}")
        for (end, words), style in zip(SAMPLED_OR_NOT, ("-", "--"), strict=True):
            axes.axhline(
                values[f"cv_cost{end}_layer1"], linestyle=style, color="0.45", label=f"layer 1 alone, held out, {words}"
            )
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{n}" for n in sizes])
        axes.minorticks_off()
        plots.log_axis(axes, 100)
        axes.set_xlabel("units of layer 2")
        axes.set_ylabel("cost (nats per pixel)")
        axes.legend(frameon=False, fontsize=8)
        return figure

    def _chart(self, groups: Sequence[tuple[Setting, Sequence[Trained]]]) -> Figure:
        figure, axes = plots.one_chart(7.4, 1.2 + 0.25 * len(groups))
        drawn: list[float] = []
        for place, (setting, fits) in enumerate(groups):
            both = np.array([self._expected(one, one.estimator.fitted_model(torch.float64)) for one in fits])
            drawn.extend(both.ravel())
            marks = zip(both.T, SAMPLED_OR_NOT, ("o", "s"), (plots.BLUE, plots.VERMILION), strict=True)
            for costs, (_, words), marker, colour in marks:
                label = words if place == 0 else None
                axes.plot(costs, [place] * len(costs), marker, color=colour, markersize=4, alpha=0.8, label=label)
                if setting.name == "layer1":
                    axes.axvline(float(np.median(costs)), color=colour, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_yticks(range(len(groups)), [setting.words for setting, _ in groups], fontsize=8)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        narrow = max(drawn) < 10 * min(drawn)
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:.2g}" if narrow else "")
        axes.set_xlabel("cost (nats per pixel); dotted: layer 1 alone")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
        return figure


def expected_cost(
    network: UnrolledNetwork,
    v: torch.Tensor,
    p: torch.Tensor,
    stages: str,
    generator: Generator,
    draws: int = DRAWS,
) -> float:
    """Expected cost per pixel of rows, each with its probability, up through all layers and down again.

    Parameters
    ----------
    v : Tensor of shape (n, n_features)
        The rows.
    p : Tensor of shape (n,)
        Their probabilities.
    stages : str
        What is handed on at each stage, ``s`` for samples and ``m`` for means: by each layer on the way up, by the top
        once, then by each layer on the way down. "sms" samples the lower of two layers and takes means at the top.
    draws : int
        How often samples are drawn.
    """
    layers = [UnrolledNetwork([layer], network.visible) for layer in network.layers]
    streams = [generator if stage == "s" else None for stage in stages]
    draws = draws if "s" in stages else 1
    cost = torch.zeros(len(v), dtype=v.dtype)
    for _ in range(draws):
        state = v
        for layer, stream in zip(layers, streams, strict=False):
            state = layer.up(state, stream).states[-1]
        for layer, stream in zip(layers[:0:-1], streams[len(layers) :], strict=True):
            mean = network.hidden.mean(layer.down(state)[1])
            state = mean if stream is None else network.hidden.sample(mean, stream)
        cost += network.visible.cost(v, layers[0].down(state)[1]).mean(dim=1)
    return float(p @ cost / draws)


def copying(n: int, weight: float = 20.0) -> BoltzmannMachine:
    """A machine whose n hidden units copy its n visible ones, and back: σ(±10) either way."""
    bias = torch.full((n,), -weight / 2, dtype=torch.float64)
    return BoltzmannMachine(weight * torch.eye(n, dtype=torch.float64), bias, bias.clone(), Bernoulli(), Bernoulli())


def entropy(mean: torch.Tensor) -> torch.Tensor:
    """Entropy of binary units with these means, in nats, each."""
    return torch.special.entr(mean) + torch.special.entr(1 - mean)
