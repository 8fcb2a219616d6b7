"""Texts as binary bags of words: one row a document, one column a word, in memory only where a word is."""

from __future__ import annotations

import gzip
import io
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rarefire.data.checks import check_expansion, reading
from rarefire.data.origins import DocumentOrigin, Provenance
from rarefire.data.source import ArraySource, Description, Source
from rarefire.errors import InputError

_WORD = re.compile(r"\b\w\w+\b")

#: Words that are kept at the most: weights are dense, and each word costs one for every unit.
MAX_FEATURES = 20_000

#: From so many documents on, a word must be in so many of them to be kept.
LEAST_DOCUMENTS = ((1000, 10), (20, 2), (0, 1))


def bag_of_words(
    documents: Iterable[str],
    vocabulary: Sequence[str] | None = None,
    *,
    min_df: int | None = None,
    max_df: float = 1.0,
    max_features: int = MAX_FEATURES,
    where: str | Path = "the text",
) -> tuple[sp.csr_array, tuple[str, ...]]:
    """Which document has which word.

    Documents are cut up as scikit-learn's ``CountVectorizer`` does it by default: in lower case, a word being
    two letters, digits or underscores or more. They are gone through once and not kept; memory is in proportion
    to the number of distinct words over all documents.

    Parameters
    ----------
    documents : iterable of str
        An empty one, and one without a known word, is a row of zeros.
    vocabulary : sequence of str, optional
        The words of the columns, in this order; all other words are left out. The three limits below then
        do not apply. When left out, the words are chosen from all the documents.
    min_df : int, optional
        How many documents a word must be in, at the least; when left out 10 from 1,000 documents on, 2 from 20
        on, and 1 below.
    max_df : float
        The share of documents that a word may be in, at the most. No word is too frequent by default: what
        nearly all documents have is left to a model's visible biases.
    max_features : int
        How many words are kept, the most frequent ones; of equally frequent ones the first in the alphabet.
    where : str or Path
        What messages call the documents.

    Returns
    -------
    matrix : csr_array of shape (n_documents, n_words), uint8
        1 where a document has the word.
    words : tuple of str
        The columns, in alphabetical order (that of code points) where they were chosen here.

    Raises
    ------
    InputError
        If there are no documents, no words in them, or none that the limits leave; if a limit cannot be, or
        ``vocabulary`` is empty or names a word twice.

    Examples
    --------
    >>> matrix, words = bag_of_words(["A cat and a dog.", "The dog!"])
    >>> words
    ('and', 'cat', 'dog', 'the')
    >>> matrix.toarray().tolist()
    [[1, 1, 1, 0], [0, 0, 1, 1]]
    """
    if (min_df is not None and min_df < 1) or not 0 < max_df <= 1 or max_features < 1:
        raise InputError(
            f"min_df={min_df}, max_df={max_df}, max_features={max_features} cannot all be; give whole numbers of "
            "documents and of words, both at least 1, and a share above 0 and up to 1"
        )
    place = {word: number for number, word in enumerate(vocabulary or ())}
    if vocabulary is not None and not 0 < len(vocabulary) == len(place):
        raise InputError(f"the vocabulary of {len(vocabulary)} words is empty or names a word twice; name each once")
    columns, ends = array("i"), array("q", [0])
    for document in documents:
        if vocabulary is None:
            columns.extend({place.setdefault(word, len(place)) for word in _words(document)})
        else:
            columns.extend({place[word] for word in _words(document) if word in place})
        ends.append(len(columns))
    n_documents = len(ends) - 1
    if n_documents == 0:
        raise InputError(f"{where} has no documents; give at least one")
    if not place:
        raise InputError(
            f"{where} has no words in its {n_documents} documents (a word is two letters or digits or more); "
            "give text that has some"
        )
    # One byte a value and, where they fit, four an index: SciPy takes the wider of the two types for both.
    starts = np.asarray(ends, np.int32 if len(columns) < 2**31 else np.int64)
    values = np.ones(len(columns), np.uint8)
    matrix = sp.csr_array((values, np.asarray(columns), starts), shape=(n_documents, len(place)))
    words = list(place)
    if vocabulary is None:
        least = least_documents(n_documents) if min_df is None else min_df
        n_with = np.bincount(matrix.indices, minlength=len(words))
        kept = sorted(np.flatnonzero((n_with >= least) & (n_with <= max_df * n_documents)), key=words.__getitem__)
        if not kept:
            most = "" if max_df == 1 else f" and in at most {max_df:.0%} of them"
            raise InputError(
                f"{where} has no word that is in {least} or more of its {n_documents} documents{most}; "
                "give more of them, or longer ones"
            )
        if len(kept) > max_features:
            frequent = sorted(kept, key=lambda word: -n_with[word])[:max_features]
            kept = sorted(frequent, key=words.__getitem__)
        matrix, words = matrix[:, np.asarray(kept, matrix.indices.dtype)], [words[word] for word in kept]
    matrix.sort_indices()
    return matrix, tuple(words)


def _words(document: str) -> Iterator[str]:
    # One at a time: a long document has many, and most of them stand in it more than once.
    return (match[0] for match in _WORD.finditer(document.lower()))


def least_documents(n_documents: int) -> int:
    """How many of so many documents a word must be in: 10 from 1,000 on, 2 from 20 on, and 1 below."""
    return next(least for enough, least in LEAST_DOCUMENTS if n_documents >= enough)


class DocumentProvenance(Provenance):
    """That of rows which are documents; they are gone through again when they are asked for.

    Parameters
    ----------
    documents : callable
        Gives the documents, in the order of the rows.
    titles : callable
        Gives what each is called, or None.
    matrix : csr_array of shape (n_documents, n_words)
        Which document has which word, by which a document is known again.
    words : tuple of str
        The columns.
    where : str or Path
        What messages call the documents.
    """

    def __init__(
        self,
        documents: Callable[[], Iterable[str]],
        titles: Callable[[], Sequence[str] | None],
        matrix: sp.csr_array,
        words: Sequence[str],
        where: str | Path,
    ) -> None:
        self.documents = documents
        self.titles = titles
        self.matrix = matrix
        self.words = words
        self.where = where

    def origins(self, index: NDArray[np.int64]) -> list[DocumentOrigin]:
        """The text of each row, seen to have the words of the row."""
        wanted = np.unique(index).tolist()
        if not wanted:
            return []
        titles, place = self.titles(), {word: number for number, word in enumerate(self.words)}
        found: dict[int, DocumentOrigin] = {}
        remaining = iter(wanted)
        row = next(remaining)
        for number, document in enumerate(islice(self.documents(), wanted[-1] + 1)):
            if number != row:
                continue
            known = {place[word] for word in _words(document) if word in place}
            first, last = self.matrix.indptr[row : row + 2]
            if known != set(self.matrix.indices[first:last].tolist()):
                raise self._changed(f"its document {row} (counted from 0) has other words")
            found[row] = DocumentOrigin.of(document, titles[row] if titles else None)
            row = next(remaining, -1)
        if len(found) < len(wanted):
            raise self._changed(f"it has no document {row} (counted from 0)")
        return [found[number] for number in np.asarray(index).tolist()]

    def _changed(self, how: str) -> InputError:
        return InputError(
            f"{self.where} has changed since it was opened: {how}; put it back as it was, or open it again"
        )


def text_source(
    documents: Callable[[], Iterable[str]],
    where: str | Path,
    vocabulary: Sequence[str] | None = None,
    titles: Callable[[], Sequence[str] | None] = lambda: None,
) -> Source:
    """Documents as rows of zeros and ones, float32 when read; see :func:`bag_of_words`.

    Parameters
    ----------
    documents : callable
        Gives the documents, in a fixed order: now, and again whenever it is asked where rows come from.
    where : str or Path
        A dataset's name or a path.
    vocabulary : sequence of str, optional
        The words of the columns; chosen from the documents when left out.
    titles : callable
        Gives what each document is called, or None.
    """
    matrix, words = bag_of_words(documents(), vocabulary, where=where)
    notes = "1 where a document has the word, 0 elsewhere; "
    if vocabulary is None:
        notes += f"words of at least {least_documents(matrix.shape[0])} of the documents"
        notes += f", the {MAX_FEATURES} most frequent" if len(words) == MAX_FEATURES else ""
    else:
        notes += "the words were given"
    if n_empty := int((np.diff(matrix.indptr) == 0).sum()):
        notes += f"; {n_empty} documents have none of them"
    provenance = DocumentProvenance(documents, titles, matrix, words, where)
    description = Description(Path(where).name, "words", feature_names=words, notes=notes)
    return ArraySource(matrix, description, provenance=provenance)


def load_text(path: Path | str, vocabulary: Sequence[str] | None = None) -> Source:
    """A text file in UTF-8, plain or gzipped, as a bag of words: each line is a document, blank lines are not.

    Parameters
    ----------
    path : Path or str
        ``.txt`` or ``.txt.gz``.
    vocabulary : sequence of str, optional
        The words of the columns, as a run that the text is to be encoded with has them; chosen from all of
        the file's documents when left out (:func:`bag_of_words` says how).

    Raises
    ------
    InputError
        If a line is not UTF-8 or holds a NUL byte (the message names it), if the file would take memory out of
        proportion, if it has no documents, or no word in enough of them.
    """
    path = Path(path)
    with reading(path, "a text"):
        return text_source(partial(text_documents, path), path, vocabulary)


def text_documents(path: Path) -> Iterator[str]:
    """The lines of a text file that are not blank; see :func:`load_text`."""
    with reading(path, "a text"), text_lines(path) as lines:
        yield from (line for line in lines if line.strip())


@contextmanager
def text_lines(path: Path) -> Iterator[Iterator[str]]:
    """Open a file in UTF-8, plain or gzipped, and go through its lines, which keep their ends.

    Lines end as Python's universal newlines do. A byte order mark is taken off.

    Raises
    ------
    InputError
        If a line is not UTF-8, or a gzipped file would take memory out of proportion.
    """
    packed = path.suffix.lower() == ".gz"
    with io.BufferedReader(_Bounded(gzip.open(path), path)) if packed else path.open("rb") as stream:
        yield _decoded(path, stream)


def _decoded(path: Path, stream: Iterable[bytes]) -> Iterator[str]:
    # Line by line: a text stream decodes in blocks and could not say in which line it fails.
    number = 0
    for piece in stream:
        for line in piece.splitlines(keepends=True):
            number += 1
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path} cannot be read as text: its line {number} is not in utf-8 (byte 0x{line[error.start]:02x} "
                    f"at place {error.start + 1}); save the file in that encoding"
                ) from None
            if "\0" in text:
                raise InputError(
                    f"{path} cannot be read as text: its line {number} holds a NUL byte; save the file as plain "
                    "text in utf-8"
                )
            yield text


class _Bounded(io.RawIOBase):
    """An unpacking stream that stops where :func:`check_expansion` does."""

    def __init__(self, stream: gzip.GzipFile, path: Path) -> None:
        self.stream, self.path, self.count = stream, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.stream.read(len(buffer))
        self.count += len(piece)
        # A letter takes up to four bytes, and a number of one digit, with its comma, eight.
        check_expansion(self.path, 4 * self.count)
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self.stream.close()
        super().close()
