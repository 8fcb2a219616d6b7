"""The table of features against a direct computation over all rows."""

import numpy as np

from rarefire.data.source import ArraySource, Description
from rarefire.features import FeatureTable, feature_table

RNG = np.random.default_rng(0)
X = RNG.random((2600, 6)).astype(np.float32)
W = RNG.normal(size=(4, 6)).astype(np.float32)


def encode(rows):
    codes = rows @ W.T
    return codes, codes > 1


def table(n_examples=5):
    return feature_table(W, encode, ArraySource(X, Description("x", "image", (2, 3))), n_examples)


def test_strongest_examples_over_several_batches():
    t, codes = table(), X @ W.T
    for unit in range(4):
        expected = np.argsort(-codes[:, unit], kind="stable")[:5]
        np.testing.assert_array_equal(t.example_rows[t.example_index[unit]], X[expected])
        np.testing.assert_allclose(t.example_codes[unit], codes[expected, unit], rtol=1e-6)


def test_statistics():
    t, codes = table(), X @ W.T
    np.testing.assert_allclose(t.mean_code, codes.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(t.share_active, (codes > 1).mean(axis=0))
    np.testing.assert_allclose(t.norm, np.linalg.norm(W, axis=1), rtol=1e-6)
    assert not (t.dead & t.always_on).any()


def test_fewer_rows_than_examples_and_ties():
    source = ArraySource(np.ones((3, 6), np.float32), Description("ones"))
    t = feature_table(W, encode, source, 9)
    assert t.example_index.shape == (4, 3)
    assert t.example_rows.shape == (3, 6)


def test_it_survives_the_disk(tmp_path):
    t = table()
    path = tmp_path / "features.safetensors"
    path.write_bytes(t.to_bytes())
    other = FeatureTable.read(path)
    assert other.description == t.description
    for name, value in vars(t).items():
        if name != "description":
            np.testing.assert_array_equal(getattr(other, name), value)
            assert getattr(other, name).dtype == value.dtype
