"""The recipe of two layers: its expectations against enumeration, and the experiment cut short."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import entr
from sklearn.datasets import load_digits

import rarefire as rf
from rarefire import recipes
from rarefire.artifact import RunDirectory
from rarefire.component import to_spec
from rarefire.data.synthetic import all_line_images
from rarefire.errors import InputError
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.models.deep import UnrolledNetwork
from rarefire.random import Generator
from rarefire.recipes.layers import Layers, copying, expected_cost
from rarefire.recipes.lines import exact_costs
from rarefire.runs import Watch
from rarefire.units import Bernoulli


def machine(n_hidden, n_visible, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    shapes = ((n_hidden, n_visible), (n_hidden,), (n_visible,))
    return BoltzmannMachine(*(torch.from_numpy(scale * rng.normal(size=s)) for s in shapes), Bernoulli(), Bernoulli())


def run(directory, source=None, **settings):
    spec = recipes.recipe_spec("layers", "faithful", source, list(settings.items()), 0, "cpu")
    place = RunDirectory(directory)
    with place.locked():
        place.create(spec)
        recipes.go_on(place, spec, Watch())
    return place, {entry["name"]: entry for entry in place.metrics()}


def handed_on(mean, stage):
    """What a stage hands on, with the probability of each: every state of binary units, or their means."""
    if stage == "m":
        return [(1.0, mean)]
    states = [np.array(state) for state in product((0.0, 1.0), repeat=len(mean))]
    return [(np.prod(np.where(state == 1, mean, 1 - mean)), state) for state in states]


def enumerated(lower, upper, v, stages):
    """The cost of one row through two machines, summed over all that can be handed on."""

    def up(m, state):
        return 1 / (1 + np.exp(-(m.weight.numpy() @ state + m.hidden_bias.numpy())))

    def down(m, state):
        return 1 / (1 + np.exp(-(m.weight.numpy().T @ state + m.visible_bias.numpy())))

    total = 0.0
    for p, h in handed_on(up(lower, v), stages[0]):
        for q, top in handed_on(up(upper, h), stages[1]):
            for r, back in handed_on(down(upper, top), stages[2]):
                z = down(lower, back)
                total += p * q * r * -(v * np.log(z) + (1 - v) * np.log(1 - z)).mean()
    return total


STAGES = ("mmm", "smm", "msm", "mms", "sms", "sss")


@pytest.mark.parametrize("stages", STAGES)
def test_expected_cost_is_the_sum_over_all_states(stages):
    lower, upper = machine(3, 4, seed=3, scale=3.0), machine(2, 3, seed=103, scale=3.0)
    rows = np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    p = np.array([0.3, 0.7])
    exact = {one: p @ [enumerated(lower, upper, row, one) for row in rows] for one in STAGES}
    # No two of them could be mistaken for each other.
    assert np.diff(sorted(exact.values())).min() > 0.01 * max(exact.values())
    copies = 20000
    v, weights = torch.from_numpy(rows).repeat(copies, 1), torch.from_numpy(p).repeat(copies) / copies
    found = expected_cost(UnrolledNetwork.of([lower, upper]), v, weights, stages, Generator(0, "test"))
    assert found == pytest.approx(exact[stages], rel=1e-9 if stages == "mmm" else 0.004)


def test_a_copying_layer_costs_nothing():
    lower = machine(12, 81, scale=1.0)
    images, probabilities = all_line_images()
    v, p = torch.from_numpy(images).double(), torch.from_numpy(probabilities)
    sampled, mean_field = exact_costs(lower, Generator(0, "test"))
    single, double = UnrolledNetwork.of([lower]), UnrolledNetwork.of([lower, copying(12)])
    assert expected_cost(single, v, p, "m", Generator(0, "test")) == pytest.approx(mean_field)
    assert expected_cost(single, v, p, "s", Generator(0, "test"), draws=100) == pytest.approx(sampled, rel=0.02)
    assert expected_cost(double, v, p, "sss", Generator(0, "test"), draws=100) == pytest.approx(sampled, rel=0.02)


def test_every_setting_differs_from_the_published_networks_as_it_says():
    recipe = Layers(repeats=2, seed=3)
    settings = recipe.settings()
    names = [setting.name for setting in settings]
    assert len(set(names)) == len(names) == 22
    assert len({setting.words for setting in settings}) == 22
    arms = dict(zip([arm.name for arm in recipe.arms()], recipe.arms(), strict=True))
    assert list(arms)[:3] == ["tuned-3", "tuned-4", "layer1-3"]
    published = arms["samples-3"].estimator
    protocol = recipes.lines.machine_of_source("faithful", 100, 3).set_params(validation_fraction=None)
    assert [to_spec(one) for one in published.machines] == [to_spec(protocol)] * 2
    plain = published.get_params(deep=False)
    for setting in settings:
        network = arms[f"{setting.name}-3"].estimator
        changed = {key for key, value in network.get_params(deep=False).items() if value != plain[key]}
        assert changed - {"machines"} == {key for key, value in setting.network.items() if value != plain[key]}
        first, *second = network.machines
        assert (to_spec(first) == to_spec(protocol)) is (setting.preset == "faithful")
        assert len(second) == (setting.second is not None)
        for one in second:
            changed = {key for key, value in one.get_params(deep=False).items() if value != protocol.get_params()[key]}
            assert changed == {key for key, value in setting.second.items() if value != protocol.get_params()[key]}
        assert network.validation_fraction == 0.1
    assert arms["once_300-3"].source.shape == (300, 81)
    assert arms["once_30000-3"].source.shape == (30000, 81)
    few = [setting.name for setting in Layers(ablation=False).settings()]
    assert few == ["tuned", "layer1", "samples", "probabilities", "size_10", "size_20", "size_50", "size_200"]


def test_lines_cut_short(tmp_path):
    settings = {"repeats": 1, "n_iter": 8, "tuning_epochs": 3, "n_samples": 200, "n_components": 6, "sizes": [4]}
    place, entries = run(tmp_path / "run", **settings)
    values = {name: entry["value"] for name, entry in entries.items()}
    for setting in Layers(n_samples=200, sizes=(4,)).settings():
        for cost in ("exact_cost", "exact_cost_mean_field", "cv_cost", "cv_cost_mean_field"):
            assert entries[f"{cost}_{setting.name}"]["explanation"].startswith(setting.words)
    for end in ("", "_mean_field"):
        tuned = entries[f"exact_cost{end}_tuned"]
        assert tuned["within"] is (tuned["value"] <= values[f"exact_cost{end}_layer1"])
        loss = values[f"exact_cost{end}_samples"] / values[f"exact_cost{end}_layer1"]
        assert values[f"loss{end}"] == pytest.approx(loss)
        assert entries[f"loss{end}"]["within"] is (loss >= 2)
        gain = values[f"exact_cost{end}_samples"] / values[f"exact_cost{end}_probabilities"]
        assert values[f"gain{end}"] == pytest.approx(gain)
    assert {"noise_smm", "noise_msm", "noise_mms", "identity_trained", "exact_cost_first_once_20"} <= set(values)
    images, p = all_line_images()
    assert values["offset_pixels"] == pytest.approx(((p @ images) ** 2).sum())
    alone, stacked = (rf.load(place.arm(f"{name}-0").path) for name in ("layer1", "samples"))
    np.testing.assert_array_equal(alone.machines_[0].components_, stacked.machines_[0].components_)
    mean = alone.machines_[0].transform(images.astype(float))
    left, whole = (-q * np.log(q) - (1 - q) * np.log(1 - q) for q in (mean, p @ mean))
    assert values["noise_share"] == pytest.approx(p @ left.sum(axis=1) / whole.sum(), rel=1e-5)
    assert values["offset_units"] == pytest.approx(((p @ mean) ** 2).sum(), rel=1e-5)
    assert values["floor"] == 0
    mirror = rf.load(place.arm("mirror-0").path)
    np.testing.assert_array_equal(mirror.encoder_weight_2_, mirror.encoder_weight_1_.T)
    assert rf.load(place.path).fine_tune == "sample"
    figures = {name for name, _ in place.figures()}
    assert {"sizes", "settings", "features-first", "features-samples", "features-tuned"} <= figures


def test_digits_cut_short(tmp_path):
    settings = {"repeats": 2, "n_iter": 3, "tuning_epochs": 3, "n_components": 6}
    place, entries = run(tmp_path / "run", source="digits", **settings)
    assert rf.load(place.path).n_features_in_ == 64
    networks = {name.removeprefix("cv_cost_mean_field_") for name in entries if name.startswith("cv_cost_mean_field_")}
    assert networks == {
        "tuned", "layer1", "samples", "probabilities", "tuned_mean", "layer1_tuned", "centred",
    }  # fmt: skip
    for name in networks:
        assert "median of 2 fits" in entries[f"exact_cost_{name}"]["explanation"]
        # Of the same held-out rows, one draw of the hidden units against several.
        assert entries[f"exact_cost_mean_field_{name}"]["value"] == pytest.approx(
            entries[f"cv_cost_mean_field_{name}"]["value"]
        )
        assert entries[f"exact_cost_{name}"]["value"] == pytest.approx(entries[f"cv_cost_{name}"]["value"], rel=0.05)
    assert "sizes" not in {name for name, _ in place.figures()}
    held_out = [rf.load(place.arm(f"layer1-{seed}").path).validation_indices_ for seed in (0, 1)]
    v = load_digits().data[np.array(held_out)] / 16
    floor = np.median((entr(v) + entr(1 - v)).mean(axis=(1, 2)))
    costs = {name: entries[f"exact_cost_{name}"]["value"] - floor for name in ("layer1", "samples", "probabilities")}
    assert min(costs.values()) > 0
    assert entries["floor"]["value"] == pytest.approx(floor)
    assert entries["loss"]["value"] == pytest.approx(costs["samples"] / costs["layer1"])
    assert entries["gain"]["value"] == pytest.approx(costs["samples"] / costs["probabilities"])
    assert "expected" not in entries["loss"]  # which was published of lines


def test_another_source_is_refused():
    with pytest.raises(InputError, match="source='faces' of layers must be one of 'lines', 'digits', None"):
        recipes.recipe_spec("layers", "faithful", "faces", [], 0, "cpu")
