"""Deep belief networks: gradients, expectations and samples against sums over all states; layers against machines."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

import rarefire as rf
from enumeration import joint, states
from rarefire.artifact import RunDirectory
from rarefire.component import from_spec, to_spec
from rarefire.data.batch import Batch
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError
from rarefire.estimators.layers import LayerSource
from rarefire.models.boltzmann import BoltzmannMachine
from rarefire.models.deep import UnrolledNetwork
from rarefire.objectives.contrastive import ContrastiveDivergence
from rarefire.objectives.finetune import Unrolled, UpDown
from rarefire.penalties import L1, L2, NoPenalty
from rarefire.random import Generator
from rarefire.schedules import Linear
from rarefire.settings import apply, parse_pairs
from rarefire.units import Bernoulli, Gaussian

DIGITS = load_digits().data / 16
BINARY = (np.random.default_rng(0).random((60, 6)) < 0.3).astype(float)
NORMAL = np.random.default_rng(1).normal(size=(60, 6))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def quick(machines=(4, 3), n_iter=2, **arguments):
    """A network of a moment: small machines, few epochs."""
    built = [rf.BernoulliRBM(m, n_iter=n_iter) if isinstance(m, int) else m for m in machines]
    return rf.DeepBeliefNetwork(built, **{"random_state": 0, "max_iter": 2, "batch_size": 20, **arguments})


def bars(n=500, seed=0):
    """Rows of 4×2 pixels: each column of pixels is all on or all off."""
    return np.repeat(np.random.default_rng(seed).random((n, 4)) < [0.5, 0.3, 0.2, 0.6], 2, axis=1).astype(float)


def random_network(*sizes, visible=None, tied=False, seed=0):
    """Sizes from the rows up; every parameter differs from every other, or the two ways share theirs."""
    rng = np.random.default_rng(seed)
    parameters = {}
    for k, (below, above) in enumerate(itertools.pairwise(sizes), 1):
        shapes = {"encoder_weight": (above, below), "encoder_bias": above}
        shapes |= {"decoder_weight": (above, below), "decoder_bias": below}
        parameters |= {f"{name}_{k}": torch.from_numpy(rng.normal(size=shape)) for name, shape in shapes.items()}
        if tied or k == len(sizes) - 1:
            parameters[f"decoder_weight_{k}"] = parameters[f"encoder_weight_{k}"].clone()
    return UnrolledNetwork.from_parameters(parameters, visible or Bernoulli())


def rows_for(network, n=5):
    below = network.layers[0].encoder_weight.shape[1]
    generator = Generator(1, "rows")
    if isinstance(network.visible, Gaussian):
        return generator.normal((n, below), torch.float64)
    return generator.uniform((n, below), torch.float64)


SIZES = pytest.mark.parametrize("sizes", [(4, 3), (4, 3, 2), (4, 3, 5, 2)], ids=["1 layer", "2 layers", "3 layers"])
LAWS = pytest.mark.parametrize(
    "visible",
    [Bernoulli(), Gaussian(), Gaussian(torch.tensor([0.3, 1.0, 2.0, 0.7], dtype=torch.float64))],
    ids=["Bernoulli", "Gaussian", "Gaussian of learnt variance"],
)

# The unrolled network -------------------------------------------------------------------------------------------


def straight_through(mean, generator):
    """A sample forward, the mean backward; the mean itself without a generator."""
    return mean if generator is None else mean + (generator.bernoulli(mean.detach()) - mean).detach()


def written_out(parameters, v, visible, decay, generator=None):
    """The objective once more, for autograd."""
    n_layers, state = len(parameters) // 4, v
    for k in range(1, n_layers + 1):
        z = state @ parameters[f"encoder_weight_{k}"].T + parameters[f"encoder_bias_{k}"]
        state = straight_through(torch.sigmoid(z), generator)
    for k in range(n_layers, 0, -1):
        z = state @ parameters[f"decoder_weight_{k}"] + parameters[f"decoder_bias_{k}"]
        if k > 1:
            state = straight_through(torch.sigmoid(z), generator)
    if isinstance(visible, Gaussian):
        cost = F.mse_loss(z, v, reduction="sum") / 2
    else:
        cost = F.binary_cross_entropy_with_logits(z, v, reduction="sum")
    weights = [p for name, p in parameters.items() if "weight" in name]
    return cost / len(v) + decay / 2 * sum((w**2).sum() for w in weights)


@SIZES
@LAWS
@pytest.mark.parametrize("noise", [False, True], ids=["means", "samples"])
def test_gradient_of_the_unrolled_network_is_autograds(sizes, visible, noise):
    network = random_network(*sizes, visible=visible)
    v = rows_for(network)
    loss, state = Unrolled(noise, L2(0.3)).evaluate(network, Batch.of(v), {}, Generator(7, "noise"))
    given = {name: t.clone().requires_grad_() for name, t in network.parameters.items()}
    value = written_out(given, v, visible, 0.3, Generator(7, "noise") if noise else None)
    value.backward()
    assert loss.value == pytest.approx(value.item(), rel=1e-12)
    parts = float(loss.terms["cost"]) * v.shape[1] + float(loss.terms["weight_decay"])
    assert loss.value == pytest.approx(parts, rel=1e-12)
    assert state == {}
    assert set(loss.grads) == set(given)
    for name, parameter in given.items():
        assert parameter.grad.norm() > 1e-5
        torch.testing.assert_close(loss.grads[name], parameter.grad, rtol=1e-10, atol=1e-12)


@SIZES
@LAWS
def test_gradient_of_the_unrolled_network_agrees_with_finite_differences(sizes, visible):
    network, step = random_network(*sizes, visible=visible), 1e-3
    batch, objective = Batch.of(rows_for(network)), Unrolled(False, L2(0.3))
    exact = objective.evaluate(network, batch, {}, Generator(0))[0].grads
    for name, tensor in network.parameters.items():
        numeric = torch.zeros_like(tensor)
        for index in np.ndindex(*tensor.shape):
            values = []
            for k in (-2, -1, 1, 2):
                moved = {key: t.clone() for key, t in network.parameters.items()}
                moved[name][index] += k * step
                values.append(objective.evaluate(network.with_parameters(moved), batch, {}, Generator(0))[0].value)
            numeric[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert (numeric - exact[name]).norm() / (numeric + exact[name]).norm() < 1e-8, name


def test_l1_that_is_followed_by_a_proximal_step_gives_exact_zeros_in_every_matrix_and_no_bias():
    deep = quick(fine_tune="mean", weight_decay=L1(2.0, proximal=True), solver="sgd", learning_rate=0.1, max_iter=20)
    deep.fit(BINARY)
    for name in deep.parameter_names:
        assert (getattr(deep, name) == 0).all() == ("weight" in name), name


def sampled_cost(deep, rows, draws=20):
    """Mean over draws of the cost in nats per pixel, by its definition, and its standard error."""
    costs = []
    for _ in range(draws):
        p = np.clip(deep.reconstruct(rows, hidden="sample"), 1e-12, 1 - 1e-12)
        costs.append(-(rows * np.log(p) + (1 - rows) * np.log(1 - p)).mean())
    return np.mean(costs), np.std(costs) / np.sqrt(draws)


@pytest.fixture(scope="module")
def greedy():
    """Two machines on bars, not tuned."""
    return quick((8, 6), n_iter=20, max_iter=100).fit(bars())


def tuned(greedy, **arguments):
    """A copy that is tuned together."""
    deep = clone(greedy).set_params(**arguments)
    deep.fit(bars()[:20])  # what it has learnt here is replaced at once
    deep.machines_ = greedy.machines_
    return deep.tune(bars())


def test_tuning_by_samples_lowers_the_sampled_cost_and_below_tuning_by_means(greedy):
    fresh = bars(300, seed=1)
    before, _ = sampled_cost(greedy, fresh)
    by_samples, error = sampled_cost(tuned(greedy, fine_tune="sample", learning_rate=0.01), fresh)
    by_means, other = sampled_cost(tuned(greedy, fine_tune="mean", learning_rate=0.01), fresh)
    assert by_samples < 0.7 * before
    assert by_samples < by_means - 4 * np.hypot(error, other)


def test_tuning_by_means_lowers_the_mean_field_cost(greedy):
    fresh = bars(300, seed=1)
    assert tuned(greedy, fine_tune="mean", learning_rate=0.01).score(fresh) > 0.5 * greedy.score(fresh)


# Up and down ----------------------------------------------------------------------------------------------------


def binary_law(inputs):
    """P(state | input) for every input and every state: (inputs, units) to (inputs, 2**units)."""
    p = sigmoid(inputs)[:, None, :]
    s = states(inputs.shape[1])
    return np.where(s == 1, p, 1 - p).prod(axis=2)


def expected_up_down(network, rows, gibbs_steps):
    """The expectation of every gradient, by sums over all states of hidden units, and of visibles or by quadrature."""
    layers = [tuple(t.numpy() for t in layer) for layer in network.layers]
    n_layers = len(layers)
    wake = [rows, *(states(len(b)) for _, b, _, _ in layers)]
    p = np.full(len(rows), 1 / len(rows))
    grads = {}
    for k, (E, b, D, c) in enumerate(layers, 1):
        pairs = p[:, None] * binary_law(wake[k - 1] @ E.T + b)
        if k < n_layers:
            mean = wake[k] @ D + c
            mean = mean if k == 1 and isinstance(network.visible, Gaussian) else sigmoid(mean)
            delta = pairs[:, :, None] * (mean[None] - wake[k - 1][:, None])
            grads[f"decoder_weight_{k}"] = np.einsum("ijk,jh->hk", delta, wake[k])
            grads[f"decoder_bias_{k}"] = delta.sum(axis=(0, 1))
        else:
            below, mean = p, sigmoid(wake[k - 1] @ E.T + b)
        p = pairs.sum(axis=0)
    E, b, D, c = layers[-1]
    down, up = binary_law(wake[-1] @ D + c), binary_law(wake[-2] @ D.T + b)
    dreamt = p @ down
    for _ in range(gibbs_steps - 1):
        dreamt = dreamt @ up @ down
    up_mean = sigmoid(wake[-2] @ D.T + b)
    weight = np.einsum("i,ih,iv->hv", dreamt, up_mean, wake[-2]) - np.einsum("i,ih,iv->hv", below, mean, wake[-2])
    grads |= {f"encoder_weight_{n_layers}": weight, f"decoder_weight_{n_layers}": weight}
    grads[f"encoder_bias_{n_layers}"] = dreamt @ up_mean - below @ mean
    grads[f"decoder_bias_{n_layers}"] = dreamt @ wake[-2] - below @ wake[-2]
    for k in range(n_layers - 1, 0, -1):
        E, b, D, c = layers[k - 1]
        inputs = wake[k] @ D + c
        if k == 1 and isinstance(network.visible, Gaussian):  # of one unit
            nodes, weights = np.polynomial.hermite_e.hermegauss(60)
            v = inputs + np.sqrt(network.visible.variance.numpy()) * nodes  # (states, nodes)
            pairs, v = dreamt[:, None] * weights / weights.sum(), v[:, :, None]
        else:
            pairs = dreamt[:, None] * binary_law(inputs)
            v = np.broadcast_to(states(inputs.shape[1]), (*pairs.shape, inputs.shape[1]))
        delta = pairs[:, :, None] * (sigmoid(v @ E.T + b) - wake[k][:, None])
        grads[f"encoder_weight_{k}"] = np.einsum("ijh,ijv->hv", delta, v)
        grads[f"encoder_bias_{k}"] = delta.sum(axis=(0, 1))
        dreamt = pairs.sum(axis=0)
    return grads


@pytest.mark.parametrize("gibbs_steps", [1, 3])
@pytest.mark.parametrize(
    ("sizes", "visible"),
    [
        ((3, 2, 2), Bernoulli()),
        ((2, 3, 2, 2), Bernoulli()),
        ((1, 2, 2), Gaussian(torch.tensor([0.3], dtype=torch.float64))),
    ],
    ids=["2 layers", "3 layers", "Gaussian"],
)
def test_gradients_of_up_down_are_those_of_the_delta_rules_on_average(sizes, visible, gibbs_steps):
    network = random_network(*sizes, visible=visible, seed=3)
    rows = np.random.default_rng(2).integers(0, 2, size=(3, sizes[0])).astype(float)
    repeats, copies = 60, 500
    batch = Batch.of(torch.from_numpy(np.tile(rows, (copies, 1))))
    draws = [UpDown(gibbs_steps).evaluate(network, batch, {}, Generator(r, "test"))[0].grads for r in range(repeats)]
    expected = expected_up_down(network, rows, gibbs_steps)
    assert set(draws[0]) == set(expected)
    for name, exact in expected.items():
        got = np.array([grads[name].numpy() for grads in draws])
        error = got.std(axis=0, ddof=1) / np.sqrt(repeats)
        assert (np.abs(got.mean(axis=0) - exact) < 4.5 * error + 1e-12).all(), name


@pytest.mark.parametrize(
    "solver",
    [{"solver": "adam"}, {"solver": "sgd", "learning_rate": Linear(), "momentum": 0.5}, {"averaging": 0.5}],
    ids=["adam", "sgd", "averaged"],
)
def test_the_highest_machine_stays_one_while_the_ways_below_part(solver):
    deep = quick((4, 5, 3), fine_tune="up-down", gibbs_steps=2, **solver).fit(BINARY)
    np.testing.assert_array_equal(deep.encoder_weight_3_, deep.decoder_weight_3_)
    assert not np.array_equal(deep.encoder_weight_3_, deep.machines_[2].components_)
    for k in (1, 2):
        assert np.abs(getattr(deep, f"encoder_weight_{k}_") - getattr(deep, f"decoder_weight_{k}_")).max() > 1e-5


def wake_log_joint(deep, rows):
    """E of ln p(v, h) = ln p(v|h) + ln P(h) over wake states h, and ln p(v), means over rows, of two layers."""
    top = joint(deep.fitted_model(torch.float64).top())  # P(h1, h2)
    h = states(len(deep.encoder_bias_1_))
    p = sigmoid(h @ deep.decoder_weight_1_ + deep.decoder_bias_1_)
    log_joint = rows @ np.log(p).T + (1 - rows) @ np.log(1 - p).T + np.log(top.sum(axis=1))
    wake = binary_law(rows @ deep.encoder_weight_1_.T + deep.encoder_bias_1_)
    return (wake * log_joint).sum(axis=1).mean(), np.log(np.exp(log_joint).sum(axis=1)).mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_up_down_makes_wake_states_and_rows_more_likely(seed):
    rows = bars()
    before = quick((8, 6), n_iter=20, random_state=seed, batch_size=100).fit(rows)
    after = clone(before).set_params(fine_tune="up-down", solver="sgd", learning_rate=0.05, max_iter=400).fit(rows)
    (joint_before, rows_before), (joint_after, rows_after) = wake_log_joint(before, rows), wake_log_joint(after, rows)
    assert joint_after > joint_before + 0.4
    assert rows_after > rows_before + 0.3


# Layer by layer -------------------------------------------------------------------------------------------------


def machine_arrays(machine):
    return [
        getattr(machine, name) for name in (*machine.parameter_names, *machine._more_arrays(machine.n_features_in_))
    ]


@pytest.mark.parametrize(
    ("lowest", "rows"),
    [
        (rf.BernoulliRBM(4, n_iter=3), BINARY),
        (rf.BernoulliRBM(4, n_iter=3, persistent=False, momentum=0.5, weight_decay=L2(0.01)), BINARY.astype("f4")),
        (rf.GaussianRBM(4, n_iter=3, learn_variance=True), NORMAL),
    ],
    ids=["PCD", "CD", "Gaussian"],
)
def test_the_first_layer_is_the_machine_alone(lowest, rows):
    deep = quick([lowest, 3], random_state=7).fit(rows)
    alone = clone(lowest).set_params(random_state=7).fit(rows)
    for ours, theirs in zip(machine_arrays(deep.machines_[0]), machine_arrays(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert deep.machines_[0].history_ == alone.history_
    assert not hasattr(lowest, "components_")


def test_the_second_layer_is_a_machine_alone_on_what_it_is_handed():
    deep = quick((4, 3), n_iter=5, hand_over="mean").fit(BINARY)
    first, second = deep.machines_
    assert second.random_state != first.random_state
    alone = clone(second).fit(sigmoid(BINARY @ first.components_.T + first.intercept_hidden_))
    for ours, theirs in zip(machine_arrays(second), machine_arrays(alone), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_every_layer_holds_out_the_same_rows():
    """Rows that are held out change no weight of any layer, nor of the tuned network."""
    fits = []
    for value in (0.0, 1.0):
        rows = BINARY.copy()
        if fits:
            rows[fits[0].validation_indices_] = value
        fits.append(quick(hand_over="mean", fine_tune="mean", validation_fraction=0.2).fit(rows))
    one, other = fits
    for name in one.parameter_names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for k in (0, 1):
        np.testing.assert_array_equal(one.machines_[k].validation_indices_, one.validation_indices_)
        histories = [deep.machines_[k].history_[-1]["validation_cost"] for deep in fits]
        assert histories[0] != histories[1]


def layer_source(rows, n_machines=1, hand_over="sample", seed=5, epoch=0):
    sizes = [rows.shape[1], 3, 2][: n_machines + 1]
    network = random_network(*sizes, tied=True, seed=4)
    machines = [
        BoltzmannMachine(layer.encoder_weight, layer.encoder_bias, layer.decoder_bias, Bernoulli(), Bernoulli())
        for layer in network.layers
    ]
    return LayerSource(ArraySource(rows, Description("rows")), machines, hand_over, seed, epoch)


def test_handed_samples_are_a_function_of_seed_epoch_and_rows():
    some = np.array([3, 50, 7])
    source = layer_source(BINARY)
    first = source.rows(some)
    source.rows(slice(0, 20))  # looking elsewhere changes nothing
    np.testing.assert_array_equal(source.rows(some), first)
    np.testing.assert_array_equal(layer_source(BINARY).rows(some), first)
    np.testing.assert_array_equal(source.at_epoch(2).rows(slice(None)), source.at_epoch(2).rows(np.arange(60)))
    np.testing.assert_array_equal(source.at_epoch(2).rows(slice(None)), layer_source(BINARY, epoch=2).rows(slice(None)))
    train = source.subset(np.arange(0, 60, 2))
    draws = [source.at_epoch(epoch).rows(slice(None)) for epoch in range(3)]
    for i, one in enumerate(draws):
        assert set(np.unique(one)) == {0.0, 1.0}
        for other in [*draws[:i], layer_source(BINARY, seed=6).rows(slice(None))]:
            assert 0.05 < (one != other).mean() < 0.95
    assert not np.array_equal(train.at_epoch(0).rows(slice(None)), train.at_epoch(1).rows(slice(None)))
    # Batches of an epoch share no noise.
    alike = layer_source(np.tile(BINARY[:1], (60, 1)))
    batches = [alike.rows(np.arange(start, start + 20)) for start in (0, 20, 40)]
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(batches, 2))


@pytest.mark.parametrize("n_machines", [1, 2])
def test_handed_samples_have_the_law_of_samples_all_the_way_up(n_machines):
    n, row = 40_000, np.array([1.0, 0, 1, 1, 0, 0])
    source = layer_source(np.tile(row, (n, 1)), n_machines)
    law = np.ones(1)
    state = row[None]
    for machine in source.machines:
        law = law @ binary_law(state @ machine.weight.numpy().T + machine.hidden_bias.numpy())
        state = states(len(machine.hidden_bias))
    for epoch in (0, 1):
        drawn = source.at_epoch(epoch).rows(slice(None)).astype(int) @ (2 ** np.arange(state.shape[1])[::-1])
        shares = np.bincount(drawn, minlength=len(state)) / n
        assert (np.abs(shares - law) < 4.5 * np.sqrt(law * (1 - law) / n)).all()


def test_handed_means_are_nested_sigmoids_in_every_epoch():
    source = layer_source(BINARY, 2, "mean")
    expected = BINARY
    for machine in source.machines:
        expected = sigmoid(expected @ machine.weight.numpy().T + machine.hidden_bias.numpy())
    for epoch in (0, 3):
        np.testing.assert_allclose(source.at_epoch(epoch).rows(slice(5, 9)), expected[5:9])


@pytest.mark.parametrize("validation_fraction", [None, 0.2])
@pytest.mark.parametrize("redraw", [True, False])
def test_samples_are_drawn_anew_in_every_epoch_or_once(monkeypatch, redraw, validation_fraction):
    """What the second machine is presented with, as its objective sees it."""
    presented, order = [], []
    evaluate = ContrastiveDivergence.evaluate

    def watched(self, model, batch, state, generator):
        if model.weight.shape == (3, 4):
            presented.append(batch.whole.numpy())
            order.append(batch.index)
        return evaluate(self, model, batch, state, generator)

    monkeypatch.setattr(ContrastiveDivergence, "evaluate", watched)
    upper = rf.BernoulliRBM(3, n_iter=3, batch_size=None)
    deep = quick([4, upper], redraw=redraw, validation_fraction=validation_fraction).fit(BINARY)
    train = np.setdiff1d(np.arange(60), deep.validation_indices_)
    assert [rows.shape for rows in presented] == [(len(train), 4)] * 3
    assert all(set(np.unique(rows)) == {0.0, 1.0} for rows in presented)
    back = [rows[np.argsort(index)] for rows, index in zip(presented, order, strict=True)]
    for one, other in itertools.combinations(back, 2):
        assert np.array_equal(one, other) != redraw
    if redraw:
        source = LayerSource(ArraySource(BINARY, Description("")), [deep.machines_[0].fitted_model()], "sample", 0)
        for epoch, (rows, index) in enumerate(zip(presented, order, strict=True)):
            np.testing.assert_array_equal(rows, source.at_epoch(epoch).rows(train[index]))


def test_samples_drawn_once_are_an_array_that_a_machine_alone_learns():
    deep = quick((4, 3), n_iter=5, redraw=False).fit(BINARY)
    first, second = deep.machines_
    rows = LayerSource(ArraySource(BINARY, Description("")), [first.fitted_model()], "sample", 0).kept().array
    alone = clone(second).fit(rows)
    for ours, theirs in zip(machine_arrays(second), machine_arrays(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    anew = quick((4, 3), n_iter=5).fit(BINARY)
    assert not np.array_equal(anew.machines_[1].components_, second.components_)


def exact_law(deep):
    """P(v) over all v of two layers: the highest machine's P(h) times the way down, by enumeration."""
    h = joint(deep.fitted_model(torch.float64).top()).sum(axis=1)
    return h @ binary_law(states(len(h).bit_length() - 1) @ deep.decoder_weight_1_ + deep.decoder_bias_1_)


def test_a_mirrored_machine_begins_as_good_a_model_as_the_one_below():
    rows = bars(200)
    deep = quick([rf.BernoulliRBM(5, n_iter=30), rf.BernoulliRBM(8, n_iter=0)], init="transpose").fit(rows)
    first, second = deep.machines_
    np.testing.assert_array_equal(second.components_, first.components_.T)
    np.testing.assert_allclose(exact_law(deep), joint(first.fitted_model(torch.float64)).sum(axis=1), rtol=1e-9)
    W, b, a = first.components_, first.intercept_hidden_, first.intercept_visible_
    once = sigmoid(sigmoid(rows @ W.T + b) @ W + a)
    np.testing.assert_allclose(deep.transform(rows), once)
    np.testing.assert_allclose(deep.reconstruct(rows), sigmoid(sigmoid(once @ W.T + b) @ W + a))


def test_a_mirrored_machine_learns_from_there():
    rows = bars(200)
    mirrored, far = (
        quick([rf.BernoulliRBM(5, n_iter=30), rf.BernoulliRBM(8, n_iter=1)], init=init).fit(rows).machines_[1]
        for init in ("transpose", "random")
    )
    start = quick([rf.BernoulliRBM(5, n_iter=30)]).fit(rows).machines_[0].components_.T
    assert 0 < np.abs(mirrored.components_ - start).max() < 0.5 < np.abs(far.components_ - start).max()
    assert mirrored.warm_start is False


def test_machines_that_cannot_be_mirrored_are_refused_before_anything_is_written(tmp_path):
    deep = quick((4, 5), init="transpose", checkpoint_dir=str(tmp_path / "run"))
    message = "begins layer2 as the machine below upside down, which has 6 visible units, but layer2 has 5 components"
    with pytest.raises(InputError, match=message):
        deep.fit(BINARY)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"layer3 .* has 4 visible units, but layer3 has 5"):
        quick((4, 6, 5), init="transpose").fit(BINARY)
    quick((4, 6, 4), init="transpose").fit(BINARY)


# Up, down, and samples ------------------------------------------------------------------------------------------

TUNINGS = pytest.mark.parametrize("fine_tune", [None, "mean", "sample", "up-down"])


@TUNINGS
def test_transform_and_its_inverse_go_through_all_layers(fine_tune):
    deep = quick((5, 4, 3), fine_tune=fine_tune, learning_rate=0.05).fit(BINARY)
    up = BINARY
    for k in (1, 2, 3):
        up = sigmoid(up @ getattr(deep, f"encoder_weight_{k}_").T + getattr(deep, f"encoder_bias_{k}_"))
    np.testing.assert_allclose(deep.transform(BINARY), up)
    down = up
    for k in (3, 2, 1):
        down = sigmoid(down @ getattr(deep, f"decoder_weight_{k}_") + getattr(deep, f"decoder_bias_{k}_"))
    np.testing.assert_allclose(deep.inverse_transform(up), down)
    np.testing.assert_allclose(deep.reconstruct(BINARY), down)
    scores = (BINARY * np.log(down) + (1 - BINARY) * np.log(1 - down)).mean(axis=1)
    np.testing.assert_allclose(deep.score_samples(BINARY), scores)
    products = deep.decoder_weight_3_ @ deep.decoder_weight_2_ @ deep.decoder_weight_1_
    np.testing.assert_allclose(deep.components_, products)
    ups = deep.encoder_weight_3_ @ deep.encoder_weight_2_ @ deep.encoder_weight_1_
    np.testing.assert_allclose(deep.optimal_inputs(), ups / np.linalg.norm(ups, axis=1, keepdims=True))
    for k, machine in enumerate(deep.machines_, 1):
        same = np.array_equal(getattr(deep, f"encoder_weight_{k}_"), machine.components_)
        assert same == (fine_tune is None)


def test_gaussian_rows_go_up_by_their_variance_and_come_down_as_means():
    lowest = rf.GaussianRBM(5, n_iter=20, learning_rate=0.02, learn_variance=True)
    deep = quick([lowest, 4], fine_tune="mean", max_iter=0).fit(NORMAL * [0.5, 1, 2, 1, 1, 1])
    first, second = deep.machines_
    variance = np.exp(first.log_variance_)
    assert np.abs(variance - 1).max() > 0.1
    h = sigmoid(NORMAL / variance @ first.components_.T + first.intercept_hidden_)
    top = sigmoid(h @ second.components_.T + second.intercept_hidden_)
    np.testing.assert_allclose(deep.transform(NORMAL), top)
    down = sigmoid(top @ second.components_ + second.intercept_visible_)
    means = down @ first.components_ + first.intercept_visible_
    np.testing.assert_allclose(deep.inverse_transform(top), means)
    np.testing.assert_allclose(deep.score_samples(NORMAL), -((NORMAL - means) ** 2).mean(axis=1) / 2)


def strong(n_features, *sizes, seed=0):
    """A network that is not tuned, with weights that make its law far from independent pixels."""
    deep = quick(sizes, n_iter=0).fit(np.eye(n_features))
    rng = np.random.default_rng(seed)
    for k in range(1, len(sizes) + 1):
        weight = 2 * rng.normal(size=getattr(deep, f"encoder_weight_{k}_").shape)
        setattr(deep, f"encoder_weight_{k}_", weight)
        setattr(deep, f"decoder_weight_{k}_", weight)
        for way in ("encoder", "decoder"):
            setattr(deep, f"{way}_bias_{k}_", rng.normal(size=getattr(deep, f"{way}_bias_{k}_").shape))
    return deep


def test_samples_of_a_network_have_its_law():
    deep = strong(4, 3, 2)
    exact = exact_law(deep)
    draws = deep.sample(40_000, gibbs_steps=100)
    index = draws.astype(int) @ [8, 4, 2, 1]
    shares = np.bincount(index, minlength=16) / len(draws)
    assert np.abs(shares - exact).sum() / 2 < 0.015
    # Which the same pixels do not have where they know nothing of one another.
    independent = np.prod(np.where(states(4) == 1, draws.mean(axis=0), 1 - draws.mean(axis=0)), axis=1)
    assert np.abs(independent - exact).sum() / 2 > 0.06


def test_samples_of_one_machine_have_its_law():
    deep = strong(4, 3)
    machine = BoltzmannMachine(
        *(torch.from_numpy(getattr(deep, f"{name}_1_")) for name in ("encoder_weight", "encoder_bias", "decoder_bias")),
        Bernoulli(),
        Bernoulli(),
    )
    exact = joint(machine).sum(axis=1)
    shares = np.bincount(deep.sample(40_000, gibbs_steps=100).astype(int) @ [8, 4, 2, 1], minlength=16) / 40_000
    assert np.abs(shares - exact).sum() / 2 < 0.015


@TUNINGS
def test_samples_are_rows_of_zeros_and_ones(fine_tune):
    draws = quick(fine_tune=fine_tune).fit(BINARY.astype("f4")).sample(50, gibbs_steps=3)
    assert draws.shape == (50, 6)
    assert draws.dtype == np.float32
    assert set(np.unique(draws)) == {0.0, 1.0}


def test_samples_follow_the_seed_and_one_another():
    one, other = (quick().fit(BINARY) for _ in range(2))
    first = one.sample(20, gibbs_steps=2)
    np.testing.assert_array_equal(other.sample(20, gibbs_steps=2), first)
    assert not np.array_equal(one.sample(20, gibbs_steps=2), first)
    with pytest.raises(InputError, match="gibbs_steps=0 must be a whole number of at least 1"):
        one.sample(gibbs_steps=0)
    with pytest.raises(InputError, match="n_samples=0 must be a whole number of at least 1"):
        one.sample(0)


@pytest.mark.parametrize("fine_tune", [None, "sample", "up-down"])
def test_samples_of_gaussian_rows_have_the_learnt_noise(fine_tune):
    rows = NORMAL[:, :3] * [0.5, 1, 2]
    lowest = rf.GaussianRBM(2, n_iter=30, learning_rate=0.02, learn_variance=True)
    deep = quick([lowest, 2], fine_tune=fine_tune).fit(rows)
    variance = np.exp(deep.machines_[0].log_variance_)
    assert variance[0] < 0.7
    assert variance[2] > 1.3
    deep.decoder_weight_1_ = np.array([[3.0, 0, 1], [0, -2, 1]])
    n = 40_000
    draws = deep.sample(n, gibbs_steps=5)
    # Whatever the law of the hidden units: v is a mixture of four normals of the learnt variance.
    means = states(2) @ deep.decoder_weight_1_ + deep.decoder_bias_1_
    shares = np.array([1.0])
    if fine_tune != "sample":
        shares = joint(deep.fitted_model(torch.float64).top()).sum(axis=1)
        np.testing.assert_allclose(draws.mean(axis=0), shares @ means, atol=4.5 * draws.std() / np.sqrt(n))
        spread = shares @ means**2 - (shares @ means) ** 2
        np.testing.assert_allclose(draws.var(axis=0), variance + spread, rtol=0.05)
    # The noise alone, where no weight leads down.
    deep.decoder_weight_1_ = np.zeros((2, 3))
    draws = deep.sample(n, gibbs_steps=2)
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=4.5 * np.sqrt(2 / n))
    np.testing.assert_allclose(draws.mean(axis=0), deep.decoder_bias_1_, atol=4.5 * np.sqrt(variance.max() / n))


# Scikit-learn's ways --------------------------------------------------------------------------------------------


def test_machines_are_given_by_number_by_name_or_not_at_all():
    assert [(name, m.n_components) for name, m in rf.DeepBeliefNetwork().named] == [("layer1", 100), ("layer2", 100)]
    deep = rf.DeepBeliefNetwork([7, rf.BernoulliRBM(5), ("top", 3)])
    assert [(name, m.n_components) for name, m in deep.named] == [("layer1", 7), ("layer2", 5), ("top", 3)]
    written = from_spec(json.loads(json.dumps(to_spec(deep))))
    assert isinstance(written.machines, tuple)
    assert [(name, m.n_components) for name, m in written.named] == [("layer1", 7), ("layer2", 5), ("top", 3)]
    assert written.fit(BINARY[:10]).transform(BINARY).shape == (60, 3)
    assert deep.get_params()["layer2__n_components"] == 5
    assert rf.DeepBeliefNetwork().get_params()["layer2__learning_rate"] == rf.BernoulliRBM().learning_rate


@pytest.mark.parametrize("machines", [None, [7, 5], (7, ("layer2", 5)), [rf.BernoulliRBM(7), rf.BernoulliRBM(5)]])
def test_arguments_of_machines_are_set_by_name(machines):
    deep = clone(rf.DeepBeliefNetwork(machines))
    assert deep.set_params(layer1__n_iter=3, layer2__n_components=4, fine_tune="mean") is deep
    (_, first), (_, second) = deep.named
    assert (first.n_iter, second.n_components, deep.fine_tune) == (3, 4, "mean")
    deep.set_params(layer2=rf.BernoulliRBM(2))
    assert deep.named[1][1].n_components == 2
    assert deep.named[0][1].n_iter == 3
    deep.set_params(machines=[6], layer1__n_iter=1)
    assert [(name, m.n_components, m.n_iter) for name, m in deep.named] == [("layer1", 6, 1)]
    with pytest.raises(ValueError, match="Invalid parameter 'layer2'"):
        deep.set_params(layer2__n_iter=1)
    copy = clone(deep)
    copy.set_params(layer1__n_iter=9)
    assert deep.named[0][1].n_iter == 1


def test_settings_as_the_command_line_gives_them():
    pairs = ["machines=[7, 5]", "layer1__n_iter=3", "layer2__learning_rate=Linear", "layer2__learning_rate__last=0.01"]
    deep = apply(rf.DeepBeliefNetwork(), parse_pairs([*pairs, "weight_decay=L2", "fine_tune=sample"]))
    assert [(m.n_components, m.n_iter) for _, m in deep.named] == [(7, 3), (5, 10)]
    assert deep.named[1][1].learning_rate == Linear(last=0.01)
    assert (deep.weight_decay, deep.fine_tune) == (L2(), "sample")
    with pytest.raises(InputError, match=r"has no argument 'layer3'; did you mean 'layer[12]'"):
        apply(deep, parse_pairs(["layer3__n_iter=1"]))
    with pytest.raises(InputError, match="has no argument 'n_itr'; did you mean 'n_iter'"):
        apply(deep, parse_pairs(["layer1__n_itr=1"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"machines": []}, r"machines=\[\] must be a list of machines, \(name, machine\) pairs or numbers of units"),
        ({"machines": 5}, "machines=5 must be a list of machines"),
        ({"machines": "large"}, "machines='large' must be a list"),
        ({"machines": [4, 0]}, "machines holds 0; it may hold BernoulliRBM, GaussianRBM and whole numbers"),
        ({"machines": [4, 2.5]}, "machines holds 2.5"),
        ({"machines": [4, True]}, "machines holds True"),
        ({"machines": [4, rf.SparseAutoencoder(3)]}, "machines holds SparseAutoencoder"),
        ({"machines": [rf.BernoulliRBM]}, "machines holds <class"),
        ({"machines": [("low", 4), ("low", 3)]}, "a machine cannot be called 'low'"),
        ({"machines": [("layer2", 4), 3]}, "a machine cannot be called 'layer2'"),
        ({"machines": [("a__b", 4)]}, "cannot be called 'a__b'; give each a word of its own, without '__'"),
        ({"machines": [("../up", 4)]}, "cannot be called '../up'"),
        ({"machines": [(3, 4)]}, "cannot be called 3"),
        ({"machines": [("max_iter", 4)]}, "cannot be called 'max_iter', which is an argument"),
        ({"machines": [4, rf.GaussianRBM(3)]}, "layer2 is a GaussianRBM, but what it learns are binary units"),
        ({"machines": [4, rf.BernoulliRBM(3, n_iter=-1)]}, "n_iter=-1 of BernoulliRBM must be"),
        ({"machines": [rf.BernoulliRBM(3, early_stopping=True)]}, "early_stopping=True of layer1 belongs to the whole"),
        ({"machines": [rf.BernoulliRBM(3, validation_fraction=0.1)]}, "validation_fraction=0.1 of layer1 belongs"),
        ({"machines": [rf.BernoulliRBM(3, warm_start=True)]}, "warm_start=True of layer1 has no meaning"),
        ({"machines": [rf.BernoulliRBM(3, checkpoint_dir="x")]}, "checkpoint_dir='x' of layer1 belongs"),
        ({"hand_over": "probability"}, "hand_over='probability' of DeepBeliefNetwork must be one of"),
        ({"fine_tune": "both"}, "fine_tune='both' of DeepBeliefNetwork must be one of"),
        ({"init": "mirror"}, "init='mirror'"),
        ({"redraw": "no"}, "redraw='no' of DeepBeliefNetwork must be true or false"),
        ({"solver": "lbfgs"}, "solver='lbfgs'"),
        ({"momentum": 0.5}, "momentum=0.5 belongs to solver='sgd', not to 'adam'; leave it at 0"),
        ({"fine_tune": "up-down", "weight_decay": L2()}, "takes no decay, but weight_decay=L2"),
        ({"fine_tune": "up-down", "machines": [4]}, "of one machine is contrastive divergence"),
        ({"early_stopping": True, "validation_fraction": 0.0, "fine_tune": "mean"}, "needs held-out rows"),
        ({"early_stopping": True}, "early_stopping=True belongs to fine-tuning"),
        ({"gibbs_steps": 3, "fine_tune": "mean"}, "gibbs_steps=3 belongs to fine_tune='up-down'"),
        ({"hand_over": "mean", "redraw": False}, "redraw=False belongs to hand_over='sample'"),
        ({"init": "transpose", "machines": [6]}, "init='transpose' is for machines above the first"),
        ({"random_state": -1}, "random_state=-1 must be"),
        ({"device": "toaster"}, "device 'toaster' is not available"),
    ],
)
def test_arguments_that_cannot_be(tmp_path, arguments, message):
    path = tmp_path / "run"
    with pytest.raises(InputError, match=message) as caught:
        rf.DeepBeliefNetwork(**{"machines": [4, 3], "checkpoint_dir": str(path), **arguments}).fit(BINARY)
    assert str(caught.value).count(". ") == 0
    assert not path.exists()


def test_grid_search_reaches_the_machines():
    deep = rf.DeepBeliefNetwork([("lower", rf.BernoulliRBM(2, n_iter=5)), ("upper", 6)], random_state=0)
    grid = {"lower__n_components": [1, 12], "upper__n_iter": [5]}
    search = GridSearchCV(deep, grid, cv=2).fit(DIGITS[:300])
    assert search.best_params_ == {"lower__n_components": 12, "upper__n_iter": 5}
    assert search.best_estimator_.machines_[0].components_.shape == (12, 64)
    assert deep.machines[0][1].n_components == 2


def test_pipelines_and_frames():
    target = load_digits().target[:600]
    lower = rf.BernoulliRBM(40, n_iter=15, learning_rate=0.05)
    deep = rf.DeepBeliefNetwork([lower, rf.BernoulliRBM(30, n_iter=15, learning_rate=0.05)], random_state=0)
    steps = [("scale", MinMaxScaler()), ("deep", deep), ("classify", LogisticRegression(max_iter=500))]
    pipeline = Pipeline(steps).set_params(deep__layer1__n_components=50).fit(DIGITS[:600], target)
    assert pipeline.score(DIGITS[:600], target) > 0.6
    assert pipeline["deep"].machines_[0].components_.shape == (50, 64)
    frame = pd.DataFrame(BINARY, columns=list("abcdef"))
    framed = quick().set_output(transform="pandas").fit(frame)
    assert list(framed.transform(frame).columns) == [f"deepbeliefnetwork{k}" for k in range(3)]
    assert list(framed.feature_names_in_) == list("abcdef")
    np.testing.assert_array_equal(framed.transform(frame).to_numpy(), quick().fit(BINARY).transform(BINARY))


def test_fit_changes_no_argument_and_clone_is_equal():
    for machines in ([rf.BernoulliRBM(4, n_iter=1), ("top", 3)], [4, 3]):
        deep = rf.DeepBeliefNetwork(machines, fine_tune="mean", max_iter=1, init="random")
        before = repr(deep.get_params())
        deep.fit(BINARY)
        assert repr(deep.get_params()) == before
        assert repr(clone(deep).get_params()) == before


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_float_types_are_kept(dtype):
    deep = quick(fine_tune="sample").fit(BINARY.astype(dtype))
    held = [getattr(deep, name) for name in deep.parameter_names]
    held += [array for machine in deep.machines_ for array in machine_arrays(machine)]
    codes = deep.transform(BINARY.astype(dtype))
    for array in (*held, codes, deep.inverse_transform(codes), deep.sample(3, gibbs_steps=1), deep.components_):
        assert array.dtype == np.dtype(dtype)
    tensor = deep.transform(torch.from_numpy(BINARY.astype(dtype)))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), codes)


def test_to_torch_is_the_same_function_and_has_gradients():
    deep = quick(fine_tune="mean").fit(BINARY)
    module = deep.to_torch()
    rows = torch.from_numpy(BINARY)
    np.testing.assert_allclose(module(rows).detach().numpy(), deep.transform(BINARY))
    np.testing.assert_allclose(module.decode(module(rows)).detach().numpy(), deep.reconstruct(BINARY))
    module.decode(module(rows)).sum().backward()
    assert set(module.state_dict()) == set(deep.parameter_names.values())
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_there_is_no_partial_fit():
    assert not hasattr(quick(), "partial_fit")
    assert not hasattr(quick().fit(BINARY), "partial_fit")


def same(one, other):
    """All that two fitted networks hold, their machines too, is equal bit for bit."""
    assert one.parameter_names == other.parameter_names
    for name in (*one.parameter_names, "validation_indices_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for attribute in ("history_", "n_iter_", "stop_reason_", "seed_", "n_features_in_"):
        assert getattr(one, attribute) == getattr(other, attribute)
    assert len(one.machines_) == len(other.machines_)
    for mine, theirs in zip(one.machines_, other.machines_, strict=True):
        assert mine.history_ == theirs.history_
        for ours, others in zip(machine_arrays(mine), machine_arrays(theirs), strict=True):
            np.testing.assert_array_equal(ours, others)


@pytest.mark.parametrize("seed", [0, None, "state"])
@pytest.mark.parametrize("fine_tune", ["mean", "sample", "up-down"])
def test_tune_after_fit_is_fit_with_tuning(fine_tune, seed):
    given = np.random.RandomState(4) if seed == "state" else seed
    arguments = {"validation_fraction": 0.2, "averaging": 0.5}
    later = quick(random_state=given, **arguments).fit(BINARY)
    assert later.history_ == []
    assert later.n_iter_ == 4
    at_once = quick(random_state=later.seed_, fine_tune=fine_tune, **arguments).fit(BINARY)
    same(later.set_params(fine_tune=fine_tune).tune(BINARY), at_once)
    assert later.n_iter_ == 6
    same(later.tune(BINARY), at_once)  # which begins where greedy training ended


def test_tune_needs_a_fit_and_a_way():
    with pytest.raises(InputError, match="fine_tune=None leaves the machines as they are; set it to one of"):
        quick().fit(BINARY).tune(BINARY)
    with pytest.raises(Exception, match="not fitted"):
        quick(fine_tune="mean").tune(BINARY)


def test_early_stopping_keeps_the_best_of_the_tuning():
    arguments = {"fine_tune": "mean", "learning_rate": 0.1, "random_state": 1}
    rule = {"early_stopping": True, "n_iter_no_change": 4, "tol": 1e-3, "max_iter": 300}
    deep = quick((8, 6), **arguments, **rule).fit(BINARY)
    costs = [record["validation_cost_mean_field"] for record in deep.history_]  # what tuning by means follows
    assert len(costs) < 300
    best, at = np.inf, 0
    for epoch, cost in enumerate(costs, start=1):
        if cost < best - 1e-3:
            best, at = cost, epoch
    assert len(costs) == at + 4
    shorter = quick((8, 6), **arguments, max_iter=at, validation_fraction=0.1).fit(BINARY)
    for name in deep.parameter_names:
        np.testing.assert_array_equal(getattr(deep, name), getattr(shorter, name))


def test_history_and_metrics_are_of_the_whole_way(greedy):
    deep = tuned(greedy, fine_tune="sample", validation_fraction=0.2)
    held_out, record = bars()[deep.validation_indices_], deep.history_[-1]
    p = deep.reconstruct(held_out)
    expected = -(held_out * np.log(p) + (1 - held_out) * np.log(1 - p)).mean()
    assert record["validation_cost_mean_field"] == pytest.approx(expected)
    draws = [sampled_cost(deep, held_out, 1)[0] for _ in range(30)]
    assert abs(record["validation_cost"] - np.mean(draws)) < 5 * np.std(draws)
    metrics = {entry["name"]: entry["value"] for entry in deep.measure(deep.source_of(held_out), None)}
    assert abs(metrics["cost"] - np.mean(draws)) < 5 * np.std(draws)
    assert metrics["cost_mean_field"] == pytest.approx(expected)
    # The value that is followed: per row, with samples, as the mean over the epoch's updates.
    assert record["objective"] / 8 == pytest.approx(record["cost"])
    assert record["cost"] == pytest.approx(record["validation_cost"], rel=0.2)


def test_a_second_fit_does_not_remember_the_first():
    used = quick((4, 5, 3)).fit(BINARY[:30]).set_params(machines=quick().machines).fit(BINARY)
    same(used, quick().fit(BINARY))
    assert used.transform(BINARY).shape == (60, 3)


def test_what_is_fitted_does_not_change_with_arguments_that_are_set_later():
    deep = quick().fit(BINARY)
    codes = deep.transform(BINARY)
    np.testing.assert_array_equal(deep.set_params(machines=[9]).transform(BINARY), codes)
    assert deep.sample(2, gibbs_steps=1).shape == (2, 6)


# Runs -----------------------------------------------------------------------------------------------------------

CONFIGURATIONS = {
    "samples, tuned by means": (lambda **a: quick(n_iter=3, fine_tune="mean", max_iter=4, **a), BINARY),
    "mirrored, up-down": (
        lambda **a: quick((4, 6), n_iter=3, init="transpose", fine_tune="up-down", max_iter=4, **a),
        BINARY.astype("f4"),
    ),
    "Gaussian, drawn once, tuned by samples": (
        lambda **a: quick(
            [rf.GaussianRBM(4, n_iter=3, learn_variance=True), ("top", rf.BernoulliRBM(3, n_iter=3, centring=0.1))],
            redraw=False,
            fine_tune="sample",
            solver="sgd",
            momentum=0.5,
            averaging=0.5,
            max_iter=4,
            **a,
        ),
        NORMAL,
    ),
    "means, held out, no tuning": (lambda **a: quick(n_iter=3, hand_over="mean", validation_fraction=0.2, **a), BINARY),
}
EVERY = pytest.mark.parametrize("name", CONFIGURATIONS)


@EVERY
def test_save_and_load(tmp_path, name):
    make, rows = CONFIGURATIONS[name]
    deep = make().fit(rows)
    deep.save(tmp_path / "run")
    other = rf.load(tmp_path / "run")
    same(other, deep)
    assert other.get_params(deep=False).keys() == deep.get_params(deep=False).keys()
    assert repr([m.get_params() for _, m in other.named]) == repr([m.get_params() for _, m in deep.named])
    np.testing.assert_array_equal(other.transform(rows), deep.transform(rows))
    np.testing.assert_array_equal(other.sample(5, gibbs_steps=2), deep.sample(5, gibbs_steps=2))
    np.testing.assert_array_equal(other.machines_[0].transform(rows), deep.machines_[0].transform(rows))
    same(other.set_params(fine_tune="mean").tune(rows), deep.set_params(fine_tune="mean").tune(rows))
    with pytest.raises(InputError, match="holds a finished run"):
        deep.save(tmp_path / "run")


@EVERY
def test_a_run_on_disk_is_what_fit_gives(tmp_path, name):
    make, rows = CONFIGURATIONS[name]
    deep = make(checkpoint_dir=str(tmp_path / "run")).fit(rows)
    same(deep, make().fit(rows))
    same(rf.load(tmp_path / "run"), deep)
    with pytest.raises(InputError, match=r"is a part of the run .*run; go on with that by rarefire\.resume"):
        rf.resume(tmp_path / "run/layers/layer1")


def stop_after(n):
    """A question that is answered yes after so many batches, of all layers together."""
    asked = iter(range(n))
    return lambda: next(asked, None) is None


def files_of(run):
    names = ("weights.safetensors", "history.jsonl")
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.name in names}


#: Where a run is stopped, and the layers that are begun by then. A machine has three epochs of six batches, or of five
#: where rows are held out; the tuning four of three.
STOPS = [(7, [1]), (14, [1]), (24, [1, 2]), (35, [1, 2]), (40, [1, 2, "together"]), (47, [1, 2, "together"])]


@pytest.mark.parametrize(
    ("name", "batch", "begun"),
    [
        (name, batch, begun)
        for name in CONFIGURATIONS
        for batch, begun in STOPS
        if batch < 30 or "no tuning" not in name
    ],
)
def test_an_interrupted_run_goes_on(tmp_path, monkeypatch, name, batch, begun):
    make, rows = CONFIGURATIONS[name]
    alone = make(checkpoint_dir=str(tmp_path / "alone")).fit(rows)
    stopped = make(checkpoint_dir=str(tmp_path / "stopped"))
    fit_source, should_stop = rf.DeepBeliefNetwork.fit_source, stop_after(batch)
    with monkeypatch.context() as patch:
        patch.setattr(
            rf.DeepBeliefNetwork,
            "fit_source",
            lambda self, *a, **k: fit_source(self, *a, **{**k, "should_stop": should_stop}),
        )
        with pytest.raises(KeyboardInterrupt, match=r"go on with rarefire\.resume"):
            stopped.fit(rows)
    run = tmp_path / "stopped"
    layers = [run / "layers" / layer for layer, _ in stopped.named]
    assert [place.is_dir() for place in layers] == [k in begun for k in (1, 2)]
    where = run if "together" in begun else layers[len(begun) - 1]
    assert [p.parent.parent for p in run.rglob("state.safetensors")] == [where]
    with pytest.raises(InputError, match="unfinished run"):
        rf.load(run)
    resumed = rf.resume(run, rows)
    same(resumed, alone)
    assert files_of(run) == files_of(tmp_path / "alone")
    assert len(files_of(run)) == (6 if alone.history_ else 5)
    assert not list(run.rglob("checkpoint"))
    same(rf.resume(run, rows), alone)


class Killed(BaseException):
    """As sudden as a kill: nothing that catches errors sees it."""


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", ["layers/layer1", "layers/layer2", ""], ids=["layer 1", "layer 2", "the network"])
@EVERY
def test_a_run_killed_where_a_part_is_finished_goes_on(tmp_path, monkeypatch, name, at, written):
    """Just before or after the weights of a layer, or of the network, are written."""
    make, rows = CONFIGURATIONS[name]
    make(checkpoint_dir=str(tmp_path / "alone")).fit(rows)
    at = at.replace("layer2", "top") if "Gaussian" in name else at
    run = tmp_path / "killed"
    finish = RunDirectory.finish

    def dies(self, weights):
        if self.path == run / at:
            if written:
                self.write("weights.safetensors", weights)
            raise Killed
        finish(self, weights)

    with monkeypatch.context() as patch:
        patch.setattr("rarefire.artifact.RunDirectory.finish", dies)
        with pytest.raises(Killed):
            make(checkpoint_dir=str(run)).fit(rows)
    rf.resume(run, rows)
    assert files_of(run) == files_of(tmp_path / "alone")
    assert not list(run.rglob("checkpoint"))


def test_objectives_change_nothing_that_they_are_given():
    network = random_network(4, 3, 2)
    before = {name: t.clone() for name, t in network.parameters.items()}
    batch = Batch.of(rows_for(network))
    for objective in (Unrolled(True, L2(0.1)), Unrolled(False, NoPenalty()), UpDown(2)):
        objective.evaluate(network, batch, {}, Generator(0))
    for name, tensor in network.parameters.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_network_shares_no_memory_with_the_machines_it_begins_from():
    deep = quick(fine_tune="mean", learning_rate=0.1)
    deep.fit(BINARY)
    greedy = quick().fit(BINARY)
    for mine, theirs in zip(deep.machines_, greedy.machines_, strict=True):
        for ours, others in zip(machine_arrays(mine), machine_arrays(theirs), strict=True):
            np.testing.assert_array_equal(ours, others)


def test_machines_are_chosen_by_name():
    network = apply(rf.DeepBeliefNetwork(), parse_pairs(["layer1=GaussianRBM", "layer1__n_components=5"]))
    assert isinstance(network.named[0][1], rf.GaussianRBM)
    assert [machine.n_components for _, machine in network.named] == [5, 100]
    with pytest.raises(InputError, match="GaussianRBM"):
        rf.DeepBeliefNetwork(["GausianRBM"]).fit(NORMAL)


def test_what_is_not_set_is_not_shared_between_layers():
    network = rf.DeepBeliefNetwork().set_params(layer1__n_components=7)
    assert [machine.n_components for _, machine in network.named] == [7, 100]


def test_a_mirror_of_real_values_is_refused():
    with pytest.raises(InputError, match="transpose"):
        quick([rf.GaussianRBM(4), 6], init="transpose").fit(NORMAL)


def test_a_network_whose_machines_were_changed_is_not_saved(tmp_path):
    network = quick().fit(BINARY)
    network.set_params(machines=[4, 3, 2])
    with pytest.raises(InputError, match="2 machines, and has 3 now"):
        network.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_are_written_after_the_machines(tmp_path, monkeypatch):
    network, order = quick().fit(BINARY), []
    finish = RunDirectory.finish
    monkeypatch.setattr(
        RunDirectory, "finish", lambda self, weights: (order.append(self.path.name), finish(self, weights))
    )
    network.save(tmp_path / "run")
    assert order == ["layer1", "layer2", "run"]
