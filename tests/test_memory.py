"""Rows in memory of every kind: trained on as the plain floats that they stand for, or refused in a sentence."""

from __future__ import annotations

import collections
import datetime
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rarefire as rf
from rarefire.component import members
from rarefire.data.memory import check_narrowing, tensor_rows, validated
from rarefire.data.source import ArraySource, Description
from rarefire.errors import InputError
from rarefire.preprocess import Step

_ = rf.BernoulliRBM, rf.DeepBeliefNetwork, rf.GaussianRBM, rf.SparseAutoencoder

ROWS = (np.random.default_rng(0).random((12, 5)) > 0.5).astype(np.float64)


def unsorted(rows):
    matrix = sp.csr_matrix(rows)
    for row in range(len(rows)):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        matrix.indices[part] = matrix.indices[part][::-1].copy()
        matrix.data[part] = matrix.data[part][::-1].copy()
    matrix.has_sorted_indices = False
    assert (np.diff(matrix.indices[: matrix.indptr[1]]) < 0).all()
    return matrix


def duplicated(rows):
    """Each value as a sum of three entries at one place, which is what CSR says of several."""
    once = sp.coo_matrix(rows)
    indptr = np.concatenate([[0], np.cumsum(3 * (rows != 0).sum(axis=1))])
    data = (once.data[:, None] * [0.5, 0.25, 0.25]).ravel()
    return sp.csr_matrix((data, np.repeat(once.col, 3), indptr), shape=rows.shape)


def read_only(rows):
    rows = rows.copy()
    rows.setflags(write=False)
    return rows


def mapped(rows, folder):
    np.save(folder / "rows.npy", rows)
    return np.load(folder / "rows.npy", mmap_mode="r")


#: How the same rows may come, and the type of the weights that they give.
SAME = {
    "booleans": (lambda x, folder: x.astype(bool), np.float32),
    "signed bytes": (lambda x, folder: x.astype("i1"), np.float32),
    "integers": (lambda x, folder: x.astype("i8"), np.float64),
    "unsigned integers": (lambda x, folder: x.astype("u8"), np.float64),
    "half precision": (lambda x, folder: x.astype("f2"), np.float32),
    "float32": (lambda x, folder: x.astype("f4"), np.float32),
    "big-endian floats": (lambda x, folder: x.astype(">f8"), np.float64),
    "big-endian half": (lambda x, folder: x.astype(">f2"), np.float32),
    "big-endian 16-bit integers": (lambda x, folder: x.astype(">i2"), np.float32),
    "Fortran order": (lambda x, folder: np.asfortranarray(x), np.float64),
    "backwards": (lambda x, folder: x[::-1, ::-1].copy()[::-1, ::-1], np.float64),
    "backwards in float32": (lambda x, folder: x.astype("f4")[::-1, ::-1].copy()[::-1, ::-1], np.float32),
    "backwards in bytes": (lambda x, folder: x.astype("i1")[::-1, ::-1].copy()[::-1, ::-1], np.float32),
    "every second": (lambda x, folder: np.repeat(np.repeat(x, 2, 0), 2, 1)[::2, ::2], np.float64),
    "read-only": (lambda x, folder: read_only(x), np.float64),
    "read-only map": (mapped, np.float64),
    "read-only map of bytes": (lambda x, folder: mapped(x.astype("u1"), folder), np.float32),
    "lists": (lambda x, folder: x.tolist(), np.float64),
    "tuples of integers": (lambda x, folder: tuple(map(tuple, x.astype(int))), np.float64),
    "objects": (lambda x, folder: x.astype(object), np.float64),
    "objects of many types": (
        lambda x, folder: np.array(
            [[int(a), float(b), bool(c), np.int8(d), np.float32(e)] for a, b, c, d, e in x], "O"
        ),
        np.float64,
    ),
    "a mask that masks nothing": (lambda x, folder: np.ma.masked_array(x, np.zeros(x.shape, bool)), np.float64),
    **{
        name: (lambda x, folder, name=name: sp.csr_matrix(x).asformat(name), np.float64)
        for name in ("csr", "csc", "coo", "lil", "dok", "dia", "bsr")
    },
    "sparse array": (lambda x, folder: sp.csr_array(x), np.float64),
    "sparse booleans": (lambda x, folder: sp.csr_matrix(x.astype(bool)), np.float64),
    "sparse integers": (lambda x, folder: sp.csc_matrix(x.astype("i8")), np.float64),
    "sparse float32": (lambda x, folder: sp.csr_matrix(x.astype("f4")), np.float32),
    "unsorted indices": (lambda x, folder: unsorted(x), np.float64),
    "duplicate indices": (lambda x, folder: duplicated(x), np.float64),
    "frame": (lambda x, folder: pd.DataFrame(x, columns=list("abcde")), np.float64),
    "frame of many types": (
        lambda x, folder: pd.DataFrame(x, columns=list("abcde")).astype(
            {"a": bool, "b": "int8", "c": "Int64", "d": "float32"}
        ),
        np.float64,
    ),
    "sparse frame": (
        lambda x, folder: pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(x), columns=list("abcde")),
        np.float64,
    ),
    **{
        str(kind): (lambda x, folder, kind=kind: torch.from_numpy(x).to(kind), weights)
        for kind, weights in {
            torch.float64: np.float64,
            torch.float32: np.float32,
            torch.float16: np.float32,
            torch.bfloat16: np.float32,
            torch.int64: np.float64,
            torch.uint8: np.float32,
            torch.bool: np.float32,
        }.items()
    },
    "tensor with gradient": (lambda x, folder: torch.from_numpy(x).requires_grad_(), np.float64),
    "transposed tensor": (lambda x, folder: torch.from_numpy(x.T.copy()).T, np.float64),
    "sparse tensor": (lambda x, folder: torch.from_numpy(x).to_sparse(), np.float64),
    "sparse tensor of integers": (lambda x, folder: torch.from_numpy(x).long().to_sparse(), np.float64),
}

FAMILIES = {
    "autoencoder": lambda: rf.SparseAutoencoder(
        n_components=3, solver="adam", max_iter=2, batch_size=5, random_state=0
    ),
    "machine": lambda: rf.BernoulliRBM(n_components=3, n_iter=2, batch_size=5, random_state=0),
    "real": lambda: rf.GaussianRBM(n_components=3, n_iter=2, batch_size=5, learning_rate=1e-4, random_state=0),
}


@pytest.fixture(scope="module")
def plain():
    """What each family learns from plain arrays."""
    return {
        (name, kind): make().fit(ROWS.astype(kind))
        for name, make in FAMILIES.items()
        for kind in (np.float64, np.float32)
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.filterwarnings("ignore:Sparse (CSR|invariant):UserWarning")
@pytest.mark.filterwarnings("ignore:values of the data")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SAME)
def test_the_same_rows_give_the_same_machine(plain, family, name, tmp_path):
    make, kind = SAME[name]
    X = make(ROWS, tmp_path)
    fitted, expected = FAMILIES[family]().fit(X), plain[family, kind]
    np.testing.assert_array_equal(fitted.components_, expected.components_)
    assert fitted.components_.dtype == kind
    codes = fitted.transform(X)
    np.testing.assert_array_equal(np.asarray(codes), expected.transform(ROWS.astype(kind)))


@pytest.mark.parametrize("name", SAME)
def test_fitting_leaves_rows_as_they_were(name, tmp_path):
    make, _ = SAME[name]
    X, again = make(ROWS, tmp_path), make(ROWS, tmp_path)
    FAMILIES["autoencoder"]().fit(X).transform(X)
    if sp.issparse(X):
        assert (again != X).nnz == 0
        if X.format == "csr":
            np.testing.assert_array_equal(X.indices, again.indices)
            np.testing.assert_array_equal(X.data, again.data)
    elif isinstance(X, torch.Tensor):
        assert torch.equal(X.to_dense() if X.is_sparse else X, again.to_dense() if again.is_sparse else again)
    else:
        np.testing.assert_array_equal(np.asarray(X), np.asarray(again))


BIG = 2**53 + 1
TIME = datetime.datetime(2020, 1, 1)

REFUSED = {
    "texts": (np.array([["1", "0"]]), "X holds texts (<U1), no numbers; convert them or leave them out"),
    "bytes": (np.array([[b"1", b"0"]]), "X holds texts (|S1), no numbers"),
    "strings": (np.array([["1", "0"]], dtype=np.dtypes.StringDType()), "X holds texts"),
    "dates": (np.zeros((3, 2), "M8[D]"), "X holds dates (datetime64[D])"),
    "durations": (np.zeros((3, 2), "m8[s]"), "X holds durations (timedelta64[s])"),
    "records": (np.zeros(3, [("a", "f4"), ("b", "f4")]), "X holds records"),
    "complex": (np.ones((3, 2), complex), "Complex data not supported: X holds complex numbers"),
    "sparse complex": (sp.csr_matrix(np.ones((3, 2), complex)), "Complex data not supported"),
    "complex tensor": (torch.ones((3, 2), dtype=torch.complex64), "Complex data not supported"),
    "wide floats": (np.ones((3, 2), np.longdouble), "wider than 64 bits; convert it with astype(numpy.float64)"),
    "sparse wide floats": (sp.csr_matrix(np.ones((3, 2), np.longdouble)), "wider than 64 bits"),
    "numbers as texts": (np.array([[1.0, "0"]], object), "X: the value '0' at row 0, column 1 (counted from 0) is no"),
    "dates as objects": (np.array([[1.0, TIME]], object), "at row 0, column 1 (counted from 0) is no number"),
    "large integers": (np.array([[1, 2], [3, BIG]]), f"X: the value '{BIG}' at row 1, column 1 (counted from 0) is an"),
    "large negative": (np.array([[1, 2], [-BIG, 1]]), f"X: the value '-{BIG}' at row 1, column 0"),
    "largest": (np.array([[2**64 - 1, 2]], dtype="u8"), f"X: the value '{2**64 - 1}' at row 0, column 0"),
    "large in a list": ([[1, 2], [BIG, 1]], f"X: the value '{BIG}' at row 1, column 0"),
    "large as object": (np.array([[1, BIG]], object), f"X: the value '{BIG}' at row 0, column 1"),
    "beyond all floats": ([[1, 10**400]], "is an integer too large to be held exactly; save the values as floats"),
    "large beside fractions": ([[0.5, 2], [BIG, 1]], f"X: the value '{BIG}' at row 1, column 0"),
    "large in a queue": (collections.deque([[1, 2], [BIG, 1]]), f"X: the value '{BIG}' at row 1, column 0"),
    "texts in a queue": (collections.deque([["1", "0"]]), "X holds texts (<U1)"),
    "large decimal": (np.array([[1.0, Decimal(BIG)]], object), f"X: the value '{BIG}' at row 0, column 1"),
    "large fraction": (np.array([[1.0, Fraction(BIG)]], object), f"X: the value '{BIG}' at row 0, column 1"),
    "arrays in an array": (
        np.array([[1.0, torch.tensor(BIG)], [1.0, 2.0]], object),
        f"X: the value 'tensor({BIG})' at row 0, column 1",
    ),
    "bytes as numbers": (
        np.array([[1.0, bytearray(b"1")]], object),
        "at row 0, column 1 (counted from 0) is no number",
    ),
    "complex objects": (np.array([[1.0, 1j]], object), "at row 0, column 1 (counted from 0) is no number"),
    "large unsigned tensor": (torch.tensor([[1, 2**63 + 1]], dtype=torch.uint64), "at row 0, column 1"),
    "blocks": (torch.eye(4).to_sparse_bsr((2, 2)), "X is a tensor of a kind (torch.sparse_bsr) that cannot be read"),
    "sparse large": (sp.csr_matrix([[0, 1], [BIG, 0]]), f"X: the value '{BIG}' at row 1, column 0"),
    "sparse large by columns": (sp.csc_matrix([[0, 1], [BIG, 0]]), f"X: the value '{BIG}' at row 1, column 0"),
    "large tensor": (torch.tensor([[1, BIG]]), f"X: the value '{BIG}' at row 0, column 1"),
    "large sparse tensor": (torch.tensor([[1, BIG]]).to_sparse(), f"X: the value '{BIG}' at row 0, column 1"),
    "large in a frame": (pd.DataFrame({"a": [0.5], "b": [BIG]}), f"X: the value '{BIG}' at row 0, column b"),
    "large and nullable": (
        pd.DataFrame({"b": pd.array([BIG], dtype="Int64")}),
        f"the value '{BIG}' at row 0, column b",
    ),
    "a frame of words": (pd.DataFrame({"a": [0.5], "b": ["x"]}), "X: the value 'x' at row 0, column b"),
    "categories": (pd.DataFrame({"b": pd.Categorical(["x"])}), "X: the value 'x' at row 0, column b"),
    "a frame of dates": (pd.DataFrame({"when": [TIME]}), "column 'when' of X holds dates"),
    "missing in a frame": (
        pd.DataFrame({"a": [1.0, 2.0], "b": pd.array([1, None], dtype="Int64")}),
        "X contains NaN at row 1, column b (counted from 0); replace it or drop the row",
    ),
    "missing as an object": (pd.DataFrame({"a": np.array([1, pd.NA], object)}), "the value '<NA>' at row 1, column a"),
    "periods": (
        pd.DataFrame({"a": [0.5], "p": pd.period_range("2020", periods=1)}),
        "the value '2020-01-01' at row 0, column p (counted from 0) is no number; convert it",
    ),
    "intervals": (pd.DataFrame({"i": pd.interval_range(0, 1)}), "the value '(0, 1]' at row 0, column i"),
    "sparse with another fill": (
        pd.DataFrame({"a": pd.arrays.SparseArray([1.0, np.nan]), "b": pd.arrays.SparseArray([0.0, 1.0])}),
        "column 'a' of X is sparse with nan where nothing is stored, which must be 0; give X.sparse.to_dense()",
    ),
    "None": (np.array([[1.0, None]], object), "X contains NaN at row 0, column 1"),
    "NaN": (np.array([[1.0, 2.0], [np.nan, 0]]), "X contains NaN at row 1, column 0"),
    "infinity": (np.array([[1.0, 2.0], [0, -np.inf]]), "X contains infinity at row 1, column 1"),
    "half NaN": (np.array([[1.0, 2.0], [np.nan, 0]], "f2"), "X contains NaN at row 1, column 0"),
    "sparse NaN": (sp.csr_matrix([[0, 1.0], [0, np.nan]]), "X contains NaN at row 1, column 1"),
    "NaN in a tensor": (torch.tensor([[0, 1.0], [0, np.nan]]), "X contains NaN at row 1, column 1"),
    "mask": (
        np.ma.masked_array([[1.0, 2.0]], [[True, False]]),
        "X is a masked array with 1 masked values, which have no meaning here; fill them (X.filled(0)) or drop",
    ),
}


@pytest.mark.parametrize("kind", ["i1", "u1", "i4"])
@pytest.mark.parametrize("form", [sp.coo_array, sp.csr_array])
def test_entries_that_stand_twice_are_summed_beyond_their_type(form, kind):
    largest = np.iinfo(kind).max
    entries = sp.coo_array(([largest, largest, 1], ([0, 0, 1], [0, 0, 1])), shape=(2, 2), dtype=kind)
    if form is sp.csr_array:
        entries = sp.csr_array((entries.data, [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    np.testing.assert_array_equal(validated(entries).toarray(), [[2.0 * largest, 0], [0, 1]])


@pytest.mark.parametrize("name", REFUSED)
def test_what_floats_would_change_is_refused_with_its_place(name):
    X, message = REFUSED[name]
    fitted = FAMILIES["autoencoder"]().fit(np.eye(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "X has feature names")  # the fitted one has none
        for use in (FAMILIES["autoencoder"]().fit, FAMILIES["autoencoder"]().partial_fit, fitted.transform):
            with pytest.raises(InputError) as error:
                use(X)
            assert message in str(error.value)
            assert "\n" not in str(error.value)
            assert "; " in str(error.value)


@pytest.mark.parametrize("cls", list(members(Step)), ids=lambda cls: cls.__name__)
def test_steps_refuse_the_same(cls):
    for name in ("texts", "large integers", "mask", "infinity"):
        X, message = REFUSED[name]
        with pytest.raises(InputError) as error:
            cls().fit(X)
        assert message in str(error.value)


@pytest.mark.parametrize("shape", [(1, 5), (12, 1), (1, 1), (300, 2)])
@pytest.mark.parametrize("value", [0, 1, None])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore:values of the data")
def test_one_row_one_column_and_constant_columns(shape, value, family):
    X = np.full(shape, float(value)) if value is not None else (np.random.default_rng(1).random(shape) > 0.5) * 1.0
    fitted = FAMILIES[family]().fit(X)
    assert np.isfinite(fitted.transform(X)).all()
    assert np.isfinite(fitted.components_).all()


NUMBERS = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)),
    st.sampled_from([1, -1, 2]),
    st.booleans(),
    st.sampled_from(["array", "object", "csr", "list"]),
)
def test_any_numbers_come_out_as_they_are_or_are_refused(array, step, fortran, form):
    """Python's own numbers are the judge: what is kept equals each of them exactly."""
    array = (np.asfortranarray(array) if fortran else array)[::step, ::step]
    numbers = array.tolist()
    lost = any(isinstance(v, int) and int(float(v)) != v for row in numbers for v in row)
    unusable = any(isinstance(v, int) and abs(v) > 2**53 for row in numbers for v in row)
    infinite = not all(np.isfinite(float(v)) for row in numbers for v in row)
    assert unusable or not lost
    X = {"array": array, "object": array.astype(object), "list": numbers}.get(form)
    if form == "csr":
        if array.dtype.kind == "f" and array.dtype.itemsize == 2:
            return  # SciPy has no sparse matrix of these
        X = sp.csr_matrix(array.astype(array.dtype.newbyteorder("=")))
    if unusable or infinite:
        with pytest.raises(InputError, match=r"too large to be held exactly|contains (NaN|infinity)"):
            validated(X)
        return
    rows = validated(X)
    rows = rows.toarray() if sp.issparse(rows) else rows
    assert rows.tolist() == numbers


@pytest.mark.parametrize("index", [77_000, -5000])
def test_a_broken_sparse_matrix_is_refused(index):
    """It would be read beyond its memory."""
    matrix = sp.csr_matrix(np.eye(200))
    matrix.indices[0] = index
    with pytest.raises(InputError, match=r"X is a broken sparse matrix \(.*\); build it anew from its entries"):
        FAMILIES["real"]().fit(matrix)


def test_updates_in_float32_refuse_what_it_does_not_hold():
    first = np.eye(2, dtype=np.float32)
    for value, text in ((2**24 + 1, "16777217"), (1e300, "1e+300")):
        fitted = FAMILIES["autoencoder"]().partial_fit(first)
        before = fitted.components_.copy()
        with pytest.raises(InputError) as error:
            fitted.partial_fit(np.array([[0.0, value]]))
        assert f"X holds {text}" in str(error.value)
        assert "cannot hold; give float64 rows from the first call on" in str(error.value)
        np.testing.assert_array_equal(fitted.components_, before)
    check_narrowing(ArraySource(np.array([[0.1, 2.0**24, 2.0**30]]), Description("array")))


def test_tensors_are_answered_where_and_as_precisely_as_they_are():
    assert tensor_rows(torch.tensor([[2**24 + 1]]), 1).tolist() == [[2.0**24 + 1]]
    assert tensor_rows(torch.tensor([[2**24 + 1]], dtype=torch.int32), 1).tolist() == [[2.0**24 + 1]]
    assert tensor_rows(torch.tensor([[2**24 + 1]], dtype=torch.uint32), 1).tolist() == [[2.0**24 + 1]]
    assert tensor_rows(torch.tensor([[3]], dtype=torch.int16), 1).dtype == torch.float32
    with pytest.raises(InputError, match=r"shape \(1, 2\); expected \(n_samples, 3\)"):
        tensor_rows(torch.ones(1, 2), 3)
