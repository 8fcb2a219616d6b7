"""Coherence of words: against counting by hand, and at the ends of the scale."""

from __future__ import annotations

from itertools import combinations
from math import isnan, log

import numpy as np
import pytest
import scipy.sparse as sp

from rarefire.metrics.coherence import npmi, top_words


def by_hand(words, documents):
    """The mean over pairs, from sets of words and Bouma's formula as it is printed."""
    n = len(documents)
    values = []
    for i, j in combinations(words, 2):
        has_i = sum(i in document for document in documents)
        has_j = sum(j in document for document in documents)
        both = sum(i in document and j in document for document in documents)
        if has_i == 0 or has_j == 0:
            continue
        if both == 0:
            values.append(-1.0)
        elif both == n:
            values.append(0.0)
        else:
            values.append(log((both / n) / (has_i / n * has_j / n)) / -log(both / n))
    return sum(values) / len(values) if values else float("nan")


def matrix_of(documents, n_words):
    return sp.csr_array([[word in document for word in range(n_words)] for document in documents], dtype=np.uint8)


def test_a_corpus_counted_by_hand():
    documents = [{0, 1, 2}, {0, 1}, {2}, {3}]
    # p(0) = p(1) = p(2) = 1/2, p(0, 1) = 1/2, p(0, 2) = p(1, 2) = 1/4: pairs count 1, 0, 0.
    # p(3) = 1/4 and word 3 is alone: pairs (0, 1), (0, 3), (1, 3) count 1, -1, -1.
    expected = [1 / 3, -1 / 3]
    np.testing.assert_allclose(npmi(np.array([[0, 1, 2], [0, 1, 3]]), matrix_of(documents, 4)), expected, atol=1e-15)


def test_random_corpora():
    rng = np.random.default_rng(0)
    present = rng.random((300, 30)) < rng.random(30) ** 2
    present[:, 7], present[:, 8] = False, True
    present[:, 9] = True
    documents = [set(np.flatnonzero(row)) for row in present]
    top = np.array([rng.permutation(30)[:6] for _ in range(40)])
    expected = [by_hand(words, documents) for words in top]
    assert {7, 8, 9} <= set(top.ravel())
    np.testing.assert_allclose(npmi(top, matrix_of(documents, 30)), expected, atol=1e-12)


@pytest.mark.parametrize("n", [4, 1000])
def test_the_ends_of_the_scale(n):
    half, other = np.arange(n) % 2 == 0, np.arange(n) // 2 % 2 == 0
    X = sp.csr_array(np.column_stack([half, half, ~half, other, np.ones(n), np.ones(n), np.zeros(n)]))
    together, independent, never, constant, both_constant, absent = npmi(
        np.array([[0, 1], [0, 3], [0, 2], [0, 4], [4, 5], [0, 6]]), X
    )
    assert together == pytest.approx(1, abs=1e-12)
    assert independent == pytest.approx(0, abs=1e-12)
    assert never == -1
    assert constant == pytest.approx(0, abs=1e-12)
    assert both_constant == 0
    assert isnan(absent)
    # The absent word is left out, and the pair that remains decides.
    assert npmi(np.array([[0, 6, 1]]), X)[0] == pytest.approx(1, abs=1e-12)


def test_values_and_stored_zeros_do_not_matter():
    present = np.random.default_rng(0).random((50, 8)) < 0.4
    top = np.array([[0, 1, 2], [5, 6, 7]])
    weighted = sp.csr_array(present * 7.5)
    stored = weighted.copy()
    stored.data[::3] = 0
    np.testing.assert_array_equal(npmi(top, weighted), npmi(top, matrix_of(map(np.flatnonzero, present), 8)))
    np.testing.assert_array_equal(npmi(top, stored), npmi(top, sp.csr_array(stored.toarray())))


@pytest.mark.parametrize(
    ("top", "n", "word"),
    [
        (np.zeros((3, 1), int), 4, "at least two words"),
        (np.zeros(3, int), 4, "at least two words"),
        (np.array([[0, 5]]), 4, "from 0 to 5"),
        (np.array([[-1, 2]]), 4, "from -1 to 2"),
        (np.array([[0, 1, 0]]), 4, "twice"),
        (np.array([[0, 1]]), 0, "no documents"),
    ],
)
def test_what_cannot_be_counted(top, n, word):
    with pytest.raises(ValueError, match=word):
        npmi(top, sp.csr_array((n, 5)))


def test_top_words():
    weights = np.array([[0.0, 3.0, -9.0, 1.0], [2.0, 2.0, 2.0, 5.0]], np.float32)
    assert top_words(weights, 3).tolist() == [[1, 3, 0], [3, 0, 1]]
    assert top_words(weights, 4)[0].tolist() == [1, 3, 0, 2]
    for n in (0, 5):
        with pytest.raises(ValueError, match=f"n={n}"):
            top_words(weights, n)
