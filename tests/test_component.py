"""Components as JSON, lookup by name, settings as text."""

import math

import numpy as np
import pytest

import rarefire as rf
from rarefire.component import find, from_spec, nearest, to_spec
from rarefire.errors import InputError
from rarefire.estimators.base import SparseLearner
from rarefire.penalties import L2, MeanActivity, Penalty
from rarefire.schedules import Switch
from rarefire.settings import apply, parse_pairs, parse_value


def test_an_estimator_with_components_survives_json():
    estimator = rf.BernoulliRBM(learning_rate=Switch(0.1, 0.3), penalty=MeanActivity(0.02), weight_decay=L2(1e-3))
    other = from_spec(to_spec(estimator), SparseLearner)
    assert other.get_params() == estimator.get_params()


def test_numbers_that_json_cannot_hold():
    for number in (math.inf, -math.inf):
        assert from_spec(to_spec(number)) == number
    assert math.isnan(from_spec(to_spec(math.nan)))
    assert to_spec(np.float32(0.5)) == 0.5
    assert to_spec((1, np.int64(2))) == [1, 2]


def test_what_cannot_be_written_is_refused():
    with pytest.raises(InputError, match="type set cannot be saved"):
        to_spec({1})


@pytest.mark.parametrize("path", ["os.system", "sklearn.decomposition._pca.PCA", "rarefirex.penalties.L2"])
def test_classes_from_elsewhere_are_not_built(path):
    with pytest.raises(InputError, match="not part of rarefire"):
        from_spec({"class": path, "arguments": {}})


def test_unknown_classes_and_arguments_are_named():
    with pytest.raises(InputError, match="this version of rarefire has no component of that name"):
        from_spec({"class": "rarefire.penalties.L3", "arguments": {}})
    with pytest.raises(InputError, match="no argument 'strenght'"):
        from_spec({"class": "rarefire.penalties.L2", "arguments": {"strenght": 1}})


def test_lookup_names_the_nearest():
    assert find(Penalty, "meanactivity") is MeanActivity
    with pytest.raises(InputError, match="did you mean 'MeanActivity'"):
        find(Penalty, "MeanActivty")
    assert nearest("zzzzzz", ["L2"]) == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1e-3", 1e-3), ("none", None), ("True", True), ("L2", "L2"), ("[1, 2]", [1, 2]), ("a b", "a b")],
)
def test_values_as_text(text, value):
    assert parse_value(text) == value


def test_settings_choose_a_component_and_then_its_arguments():
    pairs = parse_pairs(["penalty=MeanActivity", "penalty__target=0.02", "learning_rate=Switch", "n_iter=3"])
    estimator = apply(rf.BernoulliRBM(), pairs)
    assert estimator.penalty == MeanActivity(target=0.02)
    assert estimator.learning_rate == Switch()
    assert estimator.n_iter == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_componets=3", "did you mean 'n_components'"),
        ("penalty__target=0.1", "choose one first with --set penalty=NAME"),
        ("random_state=3", "use --seed"),
        ("n_components", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("weight_decay=L3", "did you mean 'L"),
    ],
)
def test_settings_that_cannot_be(text, message):
    with pytest.raises(InputError, match=message):
        apply(rf.BernoulliRBM(), parse_pairs([text]))


def test_a_class_that_no_module_names_is_not_saved(monkeypatch):
    class Local(L2):
        pass

    with pytest.raises(
        InputError, match=r"Local cannot be saved .*<locals>.Local; put it at the top level of a module"
    ):
        to_spec(rf.BernoulliRBM(weight_decay=Local()))
    monkeypatch.setattr(L2, "__module__", "__main__")
    with pytest.raises(InputError, match=r"no other program finds __main__\.L2; put it at the top level of a module"):
        to_spec(L2())


@pytest.mark.parametrize(
    "path",
    [
        "rarefire.penalties.L2.__init__",
        "rarefire.penalties.L2.__class__",
        "rarefire.penalties.Tensor",
        "rarefire.penalties.check_suits",
        "rarefire.penalties.ActivityPenalty",
        "rarefire.estimators.base.SparseLearner",
        "rarefire.preprocess.whitening._CovarianceWhitening",
        "rarefire..penalties.L2",
        "rarefire.",
    ],
)
def test_only_public_concrete_members_are_built(path):
    with pytest.raises(InputError, match="this version of rarefire has no component of that name"):
        from_spec({"class": path, "arguments": {}})
    with pytest.raises(InputError, match="this version of rarefire has no estimator of that name"):
        from_spec(to_spec(L2()), SparseLearner)


@pytest.mark.parametrize("spec", [{}, {"arguments": {}}, {"float": "0.5"}, {"float": []}, {"float": {"class": "x"}}])
def test_objects_that_are_no_components(spec):
    with pytest.raises(InputError, match=r"made again|make the run again"):
        from_spec(spec)
