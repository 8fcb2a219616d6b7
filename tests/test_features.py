"""The table of features against a direct computation over all rows."""

import numpy as np
import pytest
import scipy.sparse as sp

from rarefire.data.source import ArraySource, Description
from rarefire.features import FeatureTable, feature_table

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
    np.testing.assert_array_equal(other.example_rows.toarray(), t.example_rows.toarray())
    for name, value in vars(t).items():
        if name not in ("description", "example_rows"):
            np.testing.assert_array_equal(getattr(other, name), value)
        if name != "description":
            assert getattr(other, name).dtype == value.dtype


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
