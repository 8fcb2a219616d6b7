"""Texts as bags of words: compared with scikit-learn's CountVectorizer and with counts made by hand."""

from __future__ import annotations

import csv
import gzip
import tracemalloc

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from rarefire.data.open import open_source
from rarefire.data.tables import load_csv, text_columns
from rarefire.data.text import bag_of_words, load_text
from rarefire.errors import InputError

DOCUMENTS = ["The cat, a CAT and the dog.", "a dog!", "snake_case and 42 naïve Ωμέγα", "", "? ! x", "it's the end"]


def everything(source):
    return source.rows(slice(0, source.shape[0]))


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_counts_by_hand():
    matrix, words = bag_of_words(["The cat and the dog.", "A dog", "12 dogs_x; DOG's"])
    assert words == ("12", "and", "cat", "dog", "dogs_x", "the")
    assert matrix.toarray().tolist() == [[0, 1, 1, 1, 0, 1], [0, 0, 0, 1, 0, 0], [1, 0, 0, 1, 1, 0]]
    assert matrix.dtype == np.uint8
    assert matrix.indices.dtype == np.int32


@pytest.mark.parametrize("limits", [{}, {"min_df": 2}, {"max_df": 0.3}, {"min_df": 2, "max_df": 0.5}])
def test_words_are_those_of_count_vectorizer(limits):
    vectorizer = CountVectorizer(binary=True, **limits)
    expected = vectorizer.fit_transform(DOCUMENTS)
    matrix, words = bag_of_words(iter(DOCUMENTS), **limits)
    assert words == tuple(vectorizer.get_feature_names_out())
    np.testing.assert_array_equal(matrix.toarray(), expected.toarray())
    assert matrix.has_canonical_format


def test_a_given_vocabulary_is_the_columns():
    vocabulary = ["the", "dog", "absent", "and"]
    expected = CountVectorizer(binary=True, vocabulary=vocabulary).transform(DOCUMENTS)
    matrix, words = bag_of_words(DOCUMENTS, vocabulary, min_df=5)
    assert words == tuple(vocabulary)
    np.testing.assert_array_equal(matrix.toarray(), expected.toarray())
    assert matrix.has_sorted_indices
    nothing, _ = bag_of_words(["unknown"], vocabulary)
    assert nothing.toarray().tolist() == [[0, 0, 0, 0]]


def test_a_word_that_is_repeated_more_often_than_a_byte_counts():
    assert bag_of_words(["word " * 256])[0].toarray().tolist() == [[1]]


@pytest.mark.parametrize(("n_documents", "least"), [(1, 1), (19, 1), (20, 2), (999, 2), (1000, 10), (5000, 10)])
def test_how_many_documents_a_word_must_be_in(n_documents, least):
    # The word "in03" is in the first three documents.
    documents = [" ".join(f"in{n:02}" for n in range(1, 13) if number < n) for number in range(n_documents)]
    _, words = bag_of_words(documents)
    assert words == tuple(f"in{n:02}" for n in range(least, 13))


def test_the_most_frequent_words_are_kept():
    documents = ["one two three", "two three four", "three four", "six five"]
    assert bag_of_words(documents, max_features=3)[1] == ("four", "three", "two")
    assert bag_of_words(documents, max_features=4)[1] == ("five", "four", "three", "two")


@pytest.mark.parametrize(
    ("documents", "options", "words"),
    [
        ([], {}, ["no documents"]),
        ([], {"vocabulary": ["a"]}, ["no documents"]),
        (["", "  ", "? x"], {}, ["no words in its 3 documents"]),
        (["one", "two"] * 5, {"min_df": 6}, ["6 or more of its 10 documents"]),
        (["one", "one"], {"max_df": 0.5}, ["at most 50% of them"]),
        ([f"only{i}" for i in range(20)], {}, ["2 or more of its 20 documents"]),
        (["one"], {"min_df": 0}, ["min_df=0"]),
        (["one"], {"max_df": 3}, ["max_df=3"]),
        (["one"], {"max_features": 0}, ["max_features=0"]),
        (["one"], {"vocabulary": []}, ["0 words is empty"]),
        (["one"], {"vocabulary": ["one", "one"]}, ["twice"]),
    ],
)
def test_documents_that_cannot_be_used(documents, options, words):
    refused(lambda: bag_of_words(documents, **options), *words)


# Text files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.txt", "x.TXT", "x.txt.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_is_a_document(tmp_path, name, end):
    content = end.join(["\ufeffred green", "", "naïve red", "  \t", "!", "green blue"])
    source = open_source(str(write(tmp_path / name, content)))
    assert source.description.name == name
    assert source.description.kind == "words"
    assert source.description.feature_names == ("blue", "green", "naïve", "red")
    assert everything(source).tolist() == [[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]
    assert source.dtype == np.float32
    assert "at least 1 of the documents; 1 documents have none" in source.description.notes


def test_a_text_in_the_words_of_another(tmp_path):
    first = load_text(write(tmp_path / "first.txt", "red green\nblue\n"))
    path = write(tmp_path / "new.txt", "green grey\ngrey\nred, blue\n")
    new = open_source(str(path), vocabulary=first.description.feature_names)
    assert new.description.feature_names == ("blue", "green", "red")
    assert everything(new).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert load_text(path).fingerprint == load_text(path).fingerprint != new.fingerprint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a first line\nnoir caf\u00e9\n".encode("latin-1"), ["line 2 is not in utf-8", "byte 0xe9 at place 9"]),
        ("as Windows saves it".encode("utf-16"), ["line 1 is not in utf-8"]),
        ("with no mark".encode("utf-16-le"), ["line 1 holds a NUL byte"]),
        (b"fine\n\x7fELF\x00\x01", ["line 2 holds a NUL byte"]),
        (b"\n \n\r\n", ["no documents"]),
        (b"\xef\xbb\xbf", ["no documents"]),
        (b"1 2 3\n", ["no words"]),
        (b"", ["is empty"]),
    ],
)
def test_text_that_cannot_be_used(tmp_path, content, words):
    refused(lambda: load_text(write(tmp_path / "x.txt", content)), str(tmp_path / "x.txt"), *words)
    if content:
        refused(lambda: load_text(write(tmp_path / "x.txt.gz", content)), "x.txt.gz", *words)


def test_broken_and_boundless_archives(tmp_path, monkeypatch):
    monkeypatch.setattr("rarefire.data.checks.ALWAYS_ALLOWED", 2**20)
    path = tmp_path / "x.txt.gz"
    write(path, "the same line\n" * 300_000)
    refused(lambda: load_text(path), "over 200 times its size")
    write(path, "x" * 4_000_000)
    tracemalloc.start()
    refused(lambda: load_text(path), "over 200 times its size")
    assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    tracemalloc.stop()
    path.write_bytes(write(path, "a line\n" * 99).read_bytes()[:-9])
    refused(lambda: load_text(path), "cannot be read as a text")
    path.write_bytes(b"no gzip")
    refused(lambda: load_text(path), "cannot be read as a text")


def test_memory_is_in_proportion_to_the_words_that_are_there(tmp_path):
    n_documents, n_words, length = 20_000, 5_000, 8
    numbers = np.random.default_rng(0).integers(0, n_words, (n_documents, length))
    path = write(tmp_path / "x.txt", "\n".join(" ".join(f"w{n}" for n in row) for row in numbers))
    tracemalloc.start()
    source = load_text(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert source.shape == (n_documents, n_words)
    dense = n_documents * n_words
    assert held < dense / 25
    assert peak < dense / 5
    assert source.array.nnz == len(np.unique(numbers + n_words * np.arange(n_documents)[:, None]))
    tracemalloc.start()
    _ = source.fingerprint
    # A batch is bounded however many rows there are: bytes and floats of four million values, twice at the most.
    assert tracemalloc.get_traced_memory()[1] < 2**22 * 12 < 4 * dense / 5
    tracemalloc.stop()


# A column of texts ------------------------------------------------------------------------------------------------


def write_table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_column_of_texts(tmp_path, packed):
    long = "green " * 40_000
    texts = ['a "red" house, and\nanother', "", long, "1984", "red, green"]
    path = write_table(tmp_path / "x.csv", [["id", "Plot"], *enumerate(texts)])
    if packed:
        path = write(tmp_path / "x.csv.gz", path.read_bytes())
    before = csv.field_size_limit()
    source = open_source(str(path), column="Plot")
    assert csv.field_size_limit() == before < len(long)
    assert source.description.name == path.name
    assert source.description.kind == "words"
    expected = CountVectorizer(binary=True).fit(texts)
    assert source.description.feature_names == tuple(expected.get_feature_names_out())
    np.testing.assert_array_equal(everything(source), expected.transform(texts).toarray())
    given = open_source(str(path), column="Plot", vocabulary=["red", "1984"])
    assert everything(given).tolist() == [[1, 0], [0, 0], [0, 0], [0, 1], [1, 0]]
    assert text_columns(path, ("Plot", "id")) == [(cell, str(number)) for number, cell in enumerate(texts)]
    np.testing.assert_array_equal(everything(open_source(str(path), column="id")).ravel(), range(5))
    refused(lambda: open_source(str(path), column="Plots"), "no column 'Plots'", "did you mean 'Plot'?")
    refused(lambda: open_source(str(path), column="id,Plot"), "line 3, column 'Plot'", "a column of texts on its own")
    refused(lambda: open_source(str(path), column="Plot,id"), "column 'Plot'", "a column of texts on its own")


def test_what_makes_a_column_one_of_texts(tmp_path):
    def table(*cells):
        return write_table(tmp_path / "x.csv", [["n", "t"], *((0, cell) for cell in cells)])

    titles = load_csv(table("2012", "Alien", "1984", "Blade Runner", "Heat"), "t")
    assert titles.description.feature_names == ("1984", "2012", "alien", "blade", "heat", "runner")
    assert load_csv(table("", "word", ""), "t").shape == (3, 1)
    assert load_csv(table(*["word"] * 100, *range(900)), "t").shape == (1000, 1)
    # A gap in a column of numbers does not make texts of them, and there is no line that could be meant.
    refused(lambda: load_csv(table("N/A", "1", "2"), "t"), "line 2, column 't'", "'N/A'")
    refused(lambda: load_csv(table("word", "1"), "t"), "line 2, column 't'", "'word'")
    refused(lambda: load_csv(table("", ""), "t"), "line 2, column 't'", "empty cell")
    refused(lambda: load_csv(table(*range(100), *["word"] * 900), "t"), "line 102, column 't'", "'word'")
    refused(lambda: load_csv(table(), "t"), "no rows")
    refused(lambda: load_csv(table("?", "x"), "t"), "x.csv has no words in its 2 documents")
    refused(lambda: load_csv(table("fine", "so\0so"), "t"), "line 3 holds a NUL byte")
    path = tmp_path / "x.csv"
    path.write_bytes(b'n,t\n0,"two\nlines"\n1,caf\xe9\n')
    refused(lambda: load_csv(path, "t"), "line 4 is not in utf-8")
    path.write_text('n,t\n0,"never closed\n1,word\n')
    refused(lambda: load_csv(path, "t"), "cannot be read as a CSV file")
    path.write_text("n,t\n0,one\n1,two,three\n")
    refused(lambda: load_csv(path, "t"), "line 3 has 3 cells")
