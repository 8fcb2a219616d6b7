"""The table of features against a direct computation over all rows."""

import numpy as np
import pytest
import scipy.sparse as sp

from rarefire.data.source import ArraySource, Description
from rarefire.features import FeatureTable, _Survey, feature_table

RNG = np.random.default_rng(0)
X = RNG.random((2600, 6)).astype(np.float32)
W = RNG.normal(size=(4, 6)).astype(np.float32)
UNIT = W / np.linalg.norm(W, axis=1, keepdims=True)


def encode(rows):
    codes = rows @ W.T
    return codes, codes > 1


def table(n_examples=5):
    return feature_table(W, UNIT, encode, ArraySource(X, Description("x", "image", (2, 3))), n_examples)


def test_strongest_examples_over_several_batches():
    t, codes = table(), X @ W.T
    for unit in range(4):
        expected = np.argsort(-codes[:, unit], kind="stable")[:5]
        np.testing.assert_array_equal(t.example_rows[t.example_index[unit]].toarray(), X[expected])
        np.testing.assert_allclose(t.example_codes[unit], codes[expected, unit], rtol=1e-6)


def test_statistics():
    t, codes = table(), X @ W.T
    np.testing.assert_allclose(t.mean_code, codes.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(t.share_active, (codes > 1).mean(axis=0))
    np.testing.assert_allclose(t.norm, np.linalg.norm(W, axis=1), rtol=1e-6)
    assert not (t.dead & t.always_on).any()


def test_fewer_rows_than_examples_and_ties():
    source = ArraySource(np.ones((3, 6), np.float32), Description("ones"))
    t = feature_table(W, UNIT, encode, source, 9)
    assert t.example_index.shape == (4, 3)
    assert t.example_rows.shape == (3, 6)


def test_it_survives_the_disk(tmp_path):
    t = table()
    other = read(t, tmp_path)
    assert other.description == t.description
    other.check()
    for name, value in vars(t).items():
        if name != "description":
            there = getattr(other, name)
            assert there.dtype == value.dtype
            dense = [one.toarray() if sp.issparse(one) else one for one in (there, value)]
            np.testing.assert_array_equal(*dense)


def read(t, folder):
    path = folder / "features.safetensors"
    path.write_bytes(t.to_bytes())
    return FeatureTable.read(path)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_scaled_components_are_their_own_optimal_inputs(factor):
    source = ArraySource(X, Description("x"))
    components = (factor * W).astype(np.float32)
    components[2] = 0
    optimal = np.where(components.any(axis=1, keepdims=True), UNIT, 0)
    assert not feature_table(components, optimal, encode, source).untied
    turned = optimal.copy()
    turned[0] = -turned[0]
    assert feature_table(components, turned, encode, source).untied
    # A unit whose decoder row has died, but that an input excites still.
    assert feature_table(components, UNIT, encode, source).untied


def words_table(n_units=20, n_words=50_000, n_documents=400, per_document=100):
    """Documents of a hundred words each out of fifty thousand; more examples than a batch has rows."""
    rng = np.random.default_rng(1)
    documents = sp.random_array((n_documents, n_words), density=per_document / n_words, format="csr", rng=rng)
    documents.data[:] = 1
    weights = rng.standard_normal((n_units, n_words)).astype(np.float32)
    names = tuple(f"word{i}" for i in range(n_words))

    def encode_documents(rows):
        codes = np.maximum(rows @ weights.T, 0)
        return codes, codes > 0

    source = ArraySource(documents.astype(np.float32), Description("texts", "words", feature_names=names))
    optimal = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    return feature_table(weights, optimal, encode_documents, source), documents, weights


def test_examples_of_sparse_rows_take_no_space_for_what_they_have_not(tmp_path):
    t, documents, weights = words_table()
    distinct = t.example_rows.shape[0]
    assert distinct > 83  # rows of a batch
    stored = len(t.to_bytes()) - t.components.nbytes - t.optimal.nbytes - len(str(t.description.to_json()))
    assert stored < 16 * t.example_rows.nnz + 20_000 < 0.05 * 4 * distinct * 50_000
    codes = np.asarray(documents @ weights.T)
    other = read(t, tmp_path)
    for unit in range(len(weights)):
        expected = np.argsort(-codes[:, unit], kind="stable")[:9]
        np.testing.assert_array_equal(
            other.example_rows[other.example_index[unit]].toarray(), documents[expected].toarray()
        )


def test_examples_between_the_strongest_and_the_threshold():
    t, codes = table(), X @ W.T
    for unit in range(4):
        active = np.flatnonzero(codes[:, unit] > 1)
        order = active[np.argsort(-codes[active, unit], kind="stable")]
        middle = (len(order) - 3) // 2
        for name, expected in (("median", order[middle : middle + 3]), ("threshold", order[-3:])):
            index = getattr(t, f"{name}_index")[unit][: len(expected)]
            np.testing.assert_array_equal(t.example_sources[index], expected)
            np.testing.assert_array_equal(t.example_rows[index].toarray(), X[expected])
            np.testing.assert_allclose(getattr(t, f"{name}_codes")[unit][: len(expected)], codes[expected, unit], 1e-6)
    np.testing.assert_array_equal(t.example_rows.toarray(), X[t.example_sources])


def test_a_dead_unit_has_no_example_between():
    def silent(rows):
        codes, active = encode(rows)
        active[:, 1] = False
        return codes, active

    t = feature_table(W, UNIT, silent, ArraySource(X, Description("x")))
    assert (t.median_index[1] == -1).all()
    assert (t.threshold_index[1] == -1).all()
    assert (t.median_index[0] >= 0).all()
    t.check()


def test_histograms():
    t, codes = table(), (X @ W.T).astype(np.float32)
    assert t.n_surveyed == len(X)
    np.testing.assert_array_equal(t.active_histogram, np.bincount((codes > 1).sum(axis=1), minlength=5))
    for unit in range(4):
        np.testing.assert_allclose(t.code_range[unit], [codes[:, unit].min(), codes[:, unit].max()], rtol=1e-6)
        whole, _ = np.histogram(codes[:, unit], bins=30)
        # Values at the edge of a bin may fall to either side.
        assert np.abs(t.histogram[unit].sum(axis=0) - whole).sum() <= 4
        assert t.histogram[unit, 1].sum() == (codes[:, unit] > 1).sum()


def test_a_survey_of_some_rows_is_spread_over_all(monkeypatch):
    monkeypatch.setattr("rarefire.features.SURVEYED_VALUES", 4 * 500)
    t, codes = table(), X @ W.T
    assert t.n_surveyed == 500
    np.testing.assert_allclose(
        t.active_histogram / 500, np.bincount((codes > 1).sum(axis=1), minlength=5) / 2600, atol=0.07
    )
    # What only takes sums is over all rows still.
    np.testing.assert_allclose(t.share_active, (codes > 1).mean(axis=0))
    for unit in range(4):
        places = t.example_sources[t.threshold_index[unit][t.threshold_index[unit] >= 0]]
        np.testing.assert_allclose(t.threshold_codes[unit][: len(places)], codes[places, unit], rtol=1e-6)
        assert (codes[places, unit] > 1).all()


def test_relatives():
    t, codes = table(), X @ W.T
    correlation, cosine = np.corrcoef(codes.T), UNIT @ UNIT.T
    active = codes > 1
    for unit in range(4):
        others = [one for one in range(4) if one != unit]
        by_correlation = sorted(others, key=lambda one: -correlation[unit, one])
        assert t.together_index[unit].tolist() == by_correlation
        np.testing.assert_allclose(t.together_correlation[unit], correlation[unit, by_correlation], atol=1e-5)
        own = active[:, unit]
        share = [(active[:, one] & own).sum() / max(1, own.sum()) for one in by_correlation]
        np.testing.assert_allclose(t.together_share[unit], share, rtol=1e-5)
        by_cosine = sorted(others, key=lambda one: -cosine[unit, one])
        assert t.alike_index[unit].tolist() == by_cosine
        np.testing.assert_allclose(t.alike_cosine[unit], cosine[unit, by_cosine], atol=1e-6)


def test_one_unit_has_no_relatives():
    t = feature_table(
        W[:1], UNIT[:1], lambda rows: (rows @ W[:1].T, rows @ W[:1].T > 1), ArraySource(X, Description("x"))
    )
    assert t.alike_index.shape == t.together_index.shape == (1, 0)
    t.check()


def test_edges_and_words_that_belong_together():
    assert np.isnan(table().gabor_fit).all()  # 2 by 3 pixels are too few
    y, x = np.mgrid[:8, :8] - 3.5
    wave = (np.exp(-(x**2 + y**2) / 8) * np.sin(1.5 * x)).ravel()
    noise = RNG.normal(size=64)
    filters = np.stack([wave, noise]).astype(np.float32)
    source = ArraySource(RNG.random((50, 64)).astype(np.float32), Description("x", "image", (8, 8)))
    t = feature_table(filters, filters, lambda rows: (rows @ filters.T, rows @ filters.T > 0), source)
    assert t.gabor_fit[0] > 0.9 > 0.6 > t.gabor_fit[1]
    assert t.edge_like.tolist() == [True, False]
    assert np.isnan(t.npmi).all()
    assert np.isfinite(words_table()[0].npmi).any()


def test_codes_too_small_for_single_precision_to_divide():
    def faint(rows):
        codes = (rows @ W.T * 1e-39).astype(np.float32)
        return codes, codes > 0

    t = feature_table(W, UNIT, faint, ArraySource(X, Description("x")))
    t.check()
    assert (t.histogram.sum(axis=(1, 2)) == len(X)).all()


def test_units_active_with_codes_of_either_sign():
    def both(rows):
        codes = np.where(np.abs(rows @ W.T) > 0.3, rows @ W.T, 0)
        return codes, codes != 0

    t, codes = feature_table(W, UNIT, both, ArraySource(X, Description("x"))), both(X)[0]
    for unit in range(4):
        sizes = np.sort(np.abs(codes[codes[:, unit] != 0, unit]))
        np.testing.assert_allclose(np.sort(np.abs(t.threshold_codes[unit])), sizes[:3], rtol=1e-6)


def test_units_whose_code_never_changes_go_with_nothing():
    def constant(rows):
        codes = np.tile(np.float32([0.1, 0.7, 1 / 3, 0.9]), (len(rows), 1))
        codes[:, 0] = rows[:, 0]
        return codes, codes > 0.5

    t = feature_table(W, UNIT, constant, ArraySource(X, Description("x")))
    assert (t.together_correlation == 0).all()


@pytest.mark.parametrize("n_surveyed", [1, 40, 49, 50])
def test_no_row_is_surveyed_twice(monkeypatch, n_surveyed):
    monkeypatch.setattr("rarefire.features.SURVEYED_VALUES", 4 * n_surveyed)
    survey = _Survey(4, 50)
    assert len(np.unique(survey.rows)) == n_surveyed
    assert survey.rows.min() >= 0
    assert survey.rows.max() < 50


def test_coherence_is_that_of_either_direction():
    components = np.stack([W[0], -3 * W[0], W[1]])
    t = feature_table(
        components,
        components,
        lambda rows: (rows @ components.T, rows @ components.T > 1),
        ArraySource(X, Description("x")),
    )
    cosine = abs(UNIT[0] @ UNIT[1])
    np.testing.assert_allclose(t.coherence, [1, 1, cosine], atol=1e-6)
