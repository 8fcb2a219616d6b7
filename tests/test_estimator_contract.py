"""What scikit-learn promises of an estimator, for every public one: found through the base class."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import get_tags

import rarefire as rf
from rarefire.component import find, members
from rarefire.estimators.base import SparseLearner
from rarefire.penalties import MeanActivity
from rarefire.preprocess import Step

_ = rf.BernoulliRBM, rf.DeepBeliefNetwork, rf.GaussianRBM, rf.SparseAutoencoder

pytestmark = [
    pytest.mark.filterwarnings("ignore:values of the data lie"),
    pytest.mark.filterwarnings("error:X (has|does not have) (valid )?feature names"),
]

ROOT = Path(__file__).resolve().parents[1]
ROWS = np.random.default_rng(0).random((60, 6))
#: Arguments that make fits short; all else is as a user finds it.
SHORT = {
    "BernoulliRBM": {"n_components": 4, "n_iter": 3},
    "GaussianRBM": {"n_components": 4, "n_iter": 3},
    "SparseAutoencoder": {"n_components": 4, "max_iter": 5},
    "DeepBeliefNetwork": {
        "machines": [("a", rf.BernoulliRBM(5, n_iter=2)), ("b", rf.BernoulliRBM(4, n_iter=2))],
        "max_iter": 2,
        "fine_tune": "mean",
    },
}
ALL = list(members(SparseLearner))
WITH_UPDATES = [cls for cls in ALL if hasattr(cls(), "partial_fit")]
EVERY = pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)


def short(cls, **arguments):
    return cls(**SHORT[cls.__name__], **{"random_state": 0, **arguments})


def test_every_public_estimator_is_here():
    assert set(SHORT) == {cls.__name__ for cls in ALL}
    assert set(SHORT) < set(rf.__all__)
    assert [cls.__name__ for cls in ALL if cls not in WITH_UPDATES] == ["DeepBeliefNetwork"]


# Tags ---------------------------------------------------------------------------------------------------------


@EVERY
def test_the_sparse_tag_is_true(cls):
    assert get_tags(cls()).input_tags.sparse
    X = np.where(ROWS > 0.6, ROWS, 0)
    dense, sparse = short(cls).fit(X), short(cls).fit(sp.csr_matrix(X))
    np.testing.assert_array_equal(dense.components_, sparse.components_)
    np.testing.assert_array_equal(dense.transform(X), sparse.transform(sp.csc_array(X)))


@pytest.mark.parametrize("cls", list(members(Step)), ids=lambda cls: cls.__name__)
def test_steps_say_that_sparse_rows_will_not_do(cls):
    assert not get_tags(cls()).input_tags.sparse
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        cls().fit(sp.csr_matrix(ROWS))


@EVERY
def test_tags_that_deny_are_true(cls):
    tags = get_tags(cls())
    assert tags.input_tags.two_d_array
    denied = [tags.input_tags.one_d_array, tags.input_tags.three_d_array, tags.input_tags.allow_nan]
    assert not any([*denied, tags.input_tags.string, tags.input_tags.categorical, tags.input_tags.positive_only])
    for X in (ROWS[0], ROWS[None], np.where(ROWS > 0.9, np.nan, ROWS), ROWS.astype(str)):
        with pytest.raises(ValueError, match=r"."):
            short(cls).fit(X)
    short(cls).fit(-ROWS)  # positive_only=False
    assert tags.requires_fit
    with pytest.raises(Exception, match="not fitted yet"):
        short(cls).transform(ROWS)
    assert not tags.target_tags.required
    short(cls).fit(ROWS, None)


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_preserved_types_are_those_of_the_tag(cls, dtype):
    assert get_tags(cls()).transformer_tags.preserves_dtype == ["float64", "float32"]
    X = ROWS.astype(dtype)
    fitted = short(cls).fit(X)
    codes = fitted.transform(X)
    assert codes.dtype == fitted.inverse_transform(codes).dtype == fitted.components_.dtype == dtype


# Same seed, same bits -------------------------------------------------------------------------------------------


@EVERY
def test_deterministic_as_the_tag_says(cls):
    assert not get_tags(cls()).non_deterministic
    one, other = short(cls).fit(ROWS), short(cls).fit(ROWS)
    np.testing.assert_array_equal(one.transform(ROWS), other.transform(ROWS))
    assert one.history_ == other.history_
    another = short(cls, random_state=1).fit(ROWS)
    assert (another.components_ != one.components_).any()


def digests():
    """What a fit, and what updates on chunks end with, of every estimator."""
    found = {cls.__name__: hashlib.sha256(short(cls).fit(ROWS).weights_bytes()).hexdigest() for cls in ALL}
    for cls in WITH_UPDATES:
        fitted = updated(cls)
        for start in range(0, len(ROWS), 20):
            fitted.partial_fit(ROWS[start : start + 20])
        found[f"{cls.__name__}, chunk by chunk"] = hashlib.sha256(fitted.weights_bytes()).hexdigest()
    return found


def updated(cls):
    return short(cls, **({"solver": "adam"} if cls is rf.SparseAutoencoder else {}))


def test_same_bits_in_every_process_in_fit_and_chunk_by_chunk():
    """Whatever the order of sets and of what ran before in the process."""
    code = "import json; from tests.test_estimator_contract import digests; print(json.dumps(digests()))"
    said = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        said.append(json.loads(run.stdout))
    assert len(said[0]) == len(ALL) + len(WITH_UPDATES)
    assert said[0] == said[1]
    if os.environ.get("OMP_NUM_THREADS") == "1":  # bits are promised for one number of threads
        assert said[0] == digests()


@pytest.mark.parametrize("cls", WITH_UPDATES, ids=lambda cls: cls.__name__)
def test_chunk_by_chunk_is_the_same_whatever_stands_between(cls, tmp_path):
    """Transforming, copying by way of a file, or drawing from other generators between updates changes nothing."""
    plain, disturbed = updated(cls), updated(cls)
    for index, start in enumerate(range(0, len(ROWS), 20)):
        plain.partial_fit(ROWS[start : start + 20])
        disturbed.partial_fit(ROWS[start : start + 20])
        disturbed.transform(ROWS)
        np.random.random(5)  # noqa: NPY002 (what other code does with the generator that all share)
        disturbed.save(tmp_path / str(index))
        disturbed = rf.load(tmp_path / str(index))
    assert plain.weights_bytes() == disturbed.weights_bytes()


@EVERY
def test_fits_in_parallel_processes_and_threads_are_those_alone(cls):
    alone = [short(cls, random_state=seed).fit(ROWS).transform(ROWS) for seed in range(3)]
    for backend in ("loky", "threading"):
        together = Parallel(n_jobs=2, backend=backend)(
            delayed(fit_and_transform)(cls, seed, backend == "loky") for seed in range(3)
        )
        for one, other in zip(alone, together, strict=True):
            # Processes may run on another number of threads, and sums then end in another order.
            np.testing.assert_allclose(one, other, rtol=1e-9 if backend == "loky" else 0, atol=0)


def fit_and_transform(cls, seed, anew):
    if anew:
        cls = find(SparseLearner, cls.__name__)
    return short(cls, random_state=seed).fit(ROWS).transform(ROWS)


# In the company of scikit-learn's own -----------------------------------------------------------------------------


@EVERY
def test_clones_are_equal_unfitted_and_their_own(cls):
    estimator = short(cls, penalty=MeanActivity(0.2)) if hasattr(cls(), "penalty") else short(cls)
    fitted = estimator.fit(ROWS)
    copy = clone(fitted)
    assert repr(copy.get_params()) == repr(fitted.get_params())
    assert not hasattr(copy, "components_")
    np.testing.assert_array_equal(copy.fit(ROWS).components_, fitted.components_)
    if hasattr(copy, "penalty"):
        copy.set_params(penalty__target=0.7)
        assert fitted.penalty.target == 0.2


@EVERY
def test_pandas_in_pandas_out_with_names(cls):
    frame = pd.DataFrame(ROWS, columns=list("abcdef"), index=range(100, 160))
    fitted = short(cls).set_output(transform="pandas").fit(frame)
    codes = fitted.transform(frame)
    names = [f"{cls.__name__.lower()}{index}" for index in range(4)]
    assert list(fitted.get_feature_names_out()) == list(codes.columns) == names
    assert list(codes.index) == list(frame.index)
    assert list(fitted.feature_names_in_) == list("abcdef")
    plain = short(cls).fit(ROWS).transform(ROWS)
    np.testing.assert_array_equal(codes.to_numpy(), plain)
    with pytest.raises(ValueError, match="names should match"):
        fitted.transform(frame[list("fedcba")])


@EVERY
def test_in_pipelines_and_unions(cls):
    pipeline = make_pipeline(MinMaxScaler(), short(cls)).fit(ROWS)
    scaled = MinMaxScaler().fit_transform(ROWS)
    alone = short(cls).fit(scaled)
    np.testing.assert_array_equal(pipeline.transform(ROWS), alone.transform(scaled))
    assert pipeline.get_feature_names_out().shape == (4,)
    union = FeatureUnion([("one", short(cls)), ("two", short(cls, random_state=1))], n_jobs=2).fit(scaled)
    both = union.transform(scaled)
    assert both.shape == (60, 8)
    np.testing.assert_allclose(both[:, :4], alone.transform(scaled), rtol=1e-9)
    assert len(set(union.get_feature_names_out())) == 8


@pytest.mark.parametrize("cls", [cls for cls in ALL if hasattr(cls(), "penalty")])
def test_grid_search_over_the_strength_of_a_penalty(cls):
    grid = {"penalty__strength": [0.01, 0.1, 1.0]}
    search = GridSearchCV(short(cls, penalty=MeanActivity(0.1)), grid, cv=2, n_jobs=2, error_score="raise").fit(ROWS)
    tried = [entry["penalty__strength"] for entry in search.cv_results_["params"]]
    assert tried == [0.01, 0.1, 1.0]
    # Each candidate was given its own strength: scores are those of fits by hand on the same folds.
    by_hand = []
    for strength in tried:
        scores = [
            short(cls, penalty=MeanActivity(0.1, strength)).fit(ROWS[rows]).score(ROWS[others])
            for rows, others in ((slice(30, 60), slice(0, 30)), (slice(0, 30), slice(30, 60)))
        ]
        by_hand.append(np.mean(scores))
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand, rtol=1e-6)
    assert len(set(by_hand)) == 3
    assert search.best_estimator_.penalty.strength == tried[int(np.argmax(by_hand))]
