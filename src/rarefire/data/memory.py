"""Rows in memory, from whatever a user hands over: arrays, lists, frames, sparse matrices and tensors.

What a conversion to floats would change without a word (large integers, texts, dates, masks) is refused.
"""

from __future__ import annotations

import datetime
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, validate_data

from rarefire.data.checks import LARGEST_EXACT, unusable
from rarefire.data.source import Source, batch_rows
from rarefire.errors import InputError
from rarefire.types import Visible

_NO_NUMBERS = {"U": "texts", "S": "texts", "T": "texts", "M": "dates", "m": "durations", "V": "records"}
_NO_NUMBER = (
    str,
    bytes,
    bytearray,
    memoryview,
    complex,
    datetime.date,
    datetime.timedelta,
    np.datetime64,
    np.timedelta64,
)


def validated(X: Any, estimator: Any = None, *, reset: bool = False, sparse: bool = True) -> Any:
    """Rows as floats, with scikit-learn's checks done, and nothing lost on the way.

    Parameters
    ----------
    X : array-like, frame, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_columns)
        The rows.
    estimator : estimator, optional
        Whose ``n_features_in_`` and ``feature_names_in_`` the rows set (``reset``) or must agree with.
    sparse : bool
        Whether sparse rows will do.

    Returns
    -------
    rows : ndarray or CSR matrix
        float64 or float32. An array of bytes, booleans, half precision or 16-bit integers is passed on as it is, to
        be widened a batch at a time, so that a memory map stays on disk.

    Raises
    ------
    InputError
        If a value is not finite, is no number, or is an integer beyond 2**53; the message names row and column.
    ValueError, TypeError
        What scikit-learn raises on wrong shapes and names.
    """
    X = _array_of(X)
    _check_exact(X)
    if sp.issparse(X) and X.dtype.kind in "iu":
        X = X.astype(np.float64)  # before entries that stand there twice are summed, which may exceed a narrow type
    small = isinstance(X, np.ndarray) and X.dtype.kind in "buif" and X.dtype.itemsize <= 2
    options: dict[str, Any] = {
        "accept_sparse": "csr" if sparse else False,
        "dtype": None if small else (np.float64, np.float32),
        "ensure_all_finite": False,
    }
    columns = getattr(X, "columns", None)
    rows = check_array(X, **options) if estimator is None else validate_data(estimator, X, reset=reset, **options)
    _check_finite(rows, columns)
    return rows


def tensor_rows(X: torch.Tensor, n_columns: int) -> Visible:
    """The rows of a dense tensor as floats, where they are: float32 where that holds the type exactly, else float64.

    Raises
    ------
    InputError
        If it has another shape, or values that are not finite, complex, or integers beyond 2**53.
    """
    if X.ndim != 2 or X.shape[1] != n_columns or len(X) == 0:
        raise InputError(f"X is a tensor of shape {tuple(X.shape)}; expected (n_samples, {n_columns})")
    X = X.detach()
    if X.is_complex():
        raise InputError(_COMPLEX)
    floating = X.is_floating_point()
    if not floating and X.dtype.itemsize == 8:
        _check_exact(X.cpu().numpy())
    wide = X.dtype == torch.float64 if floating else X.dtype.itemsize >= 4
    rows = X.to(torch.float64 if wide else torch.float32)
    if not bool(torch.isfinite(rows).all()):
        _check_finite(rows.cpu().numpy(), None)
    return rows


_COMPLEX = "Complex data not supported: X holds complex numbers; give their parts, or their magnitudes, as columns"


def is_sparse(X: Any) -> bool:
    """Whether this is a tensor of torch in one of its sparse layouts."""
    return isinstance(X, torch.Tensor) and X.layout is not torch.strided


def _array_of(X: Any) -> Any:
    """Tensors and lists as arrays, or CSR matrices, of the type that they have; anything else as it is."""
    if isinstance(X, torch.Tensor):
        # NumPy knows the types of torch but for some narrow floats, which float32 holds.
        narrow = X.is_floating_point() and X.dtype not in (torch.float16, torch.float32, torch.float64)
        X = X.detach().cpu().to(torch.float32 if narrow else X.dtype)
        try:
            return _csr_of(X) if is_sparse(X) else X.resolve_conj().resolve_neg().numpy()
        except (RuntimeError, TypeError):
            raise InputError(f"X is a tensor of a kind ({X.layout}) that cannot be read; give X.to_dense()") from None
    if isinstance(X, np.ndarray) or sp.issparse(X) or hasattr(X, "columns"):
        return X
    try:
        array = np.asarray(X)
        if array.dtype.kind == "f":
            _check_values(np.asarray(X, dtype=object))  # whose integers NumPy may have rounded
        return array
    except InputError:
        raise
    except ValueError:
        return X  # rows of different lengths, of which scikit-learn has more to say


def _csr_of(X: torch.Tensor) -> sp.csr_matrix:
    if X.ndim != 2:
        raise InputError(f"X is a tensor of shape {tuple(X.shape)}; expected (n_samples, n_columns)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch's CSR tensors are young
        rows = X.to_sparse_csr()
    parts = (rows.values().numpy(), rows.col_indices().numpy(), rows.crow_indices().numpy())
    return sp.csr_matrix(parts, shape=tuple(rows.shape))


def _check_exact(X: Any) -> None:
    """Refuse what a conversion to floats would change: masks, texts, dates, large integers."""
    if np.ma.is_masked(X):
        raise InputError(
            f"X is a masked array with {np.ma.count_masked(X)} masked values, which have no meaning here; "
            "fill them (X.filled(0)) or drop their rows"
        )
    if sp.issparse(X):
        if hasattr(X, "check_format"):
            try:
                X.check_format()
            except ValueError as error:
                raise InputError(f"X is a broken sparse matrix ({error}); build it anew from its entries") from None
        if X.dtype.kind in "iu" and X.dtype.itemsize == 8:
            entries = X.tocoo()
            if len(bad := np.flatnonzero(unusable(entries.data))):
                raise _inexact(entries.data[bad[0]], int(entries.coords[0][bad[0]]), int(entries.coords[1][bad[0]]))
        else:
            _check_values(np.empty(0, X.dtype))  # whose type alone says what there is to say
    elif hasattr(X, "columns") and hasattr(X, "dtypes"):
        for name in X.columns:
            if (fill := getattr(X[name].dtype, "fill_value", 0)) != 0:
                raise InputError(
                    f"column {name!r} of X is sparse with {fill} where nothing is stored, which must be 0; give "
                    "X.sparse.to_dense()"
                )
            _check_values(np.asarray(X[name]), name)
    elif isinstance(X, np.ndarray) or hasattr(X, "__array__"):
        _check_values(np.asarray(X))


def _check_values(values: NDArray[Any], name: Any = None) -> None:
    kind = values.dtype.kind
    where = "X" if name is None else f"column {name!r} of X"
    if kind in _NO_NUMBERS:
        raise InputError(
            f"{where} holds {_NO_NUMBERS[kind]} ({values.dtype}), no numbers; convert them or leave them out"
        )
    if kind == "c":
        raise InputError(_COMPLEX)
    if kind == "f" and values.dtype.itemsize > 8:
        raise InputError(
            f"{where} is of type {values.dtype}, wider than 64 bits; convert it with astype(numpy.float64)"
        )
    if kind == "O":
        bad = np.array([_is_changed(value) for value in values.ravel()], dtype=bool).reshape(values.shape)
    elif kind in "iu" and values.dtype.itemsize == 8:
        bad = unusable(values)
    else:
        return
    if bad.any():
        place = np.argwhere(bad)[0]
        column = (place[1] if len(place) > 1 else 0) if name is None else name
        raise _inexact(values[tuple(place)], int(place[0]) if len(place) else 0, column)


def _is_changed(value: Any) -> bool:
    """Whether an entry of an object array is no number, or an integer that floats would round."""
    if isinstance(value, (float, np.floating, bool, np.bool_)):
        return False
    if isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim == 0:
        return _is_changed(value.item())
    if isinstance(value, (int, np.integer, Fraction, Decimal)):
        number: Any = value
        return number == number and abs(number) > LARGEST_EXACT  # which NaN is not
    return _is_no_number(value)


def _is_no_number(value: Any) -> bool:
    """Whether it is one of the usual things that are none; of others scikit-learn has more to say."""
    return isinstance(value, _NO_NUMBER) or type(value).__module__.split(".")[0] == "pandas"  # NA, periods, intervals


def _inexact(value: Any, row: int, column: Any) -> InputError:
    fault = (
        "is no number; convert it or leave its column out"
        if _is_no_number(value)
        else "is an integer too large to be held exactly; save the values as floats"
    )
    text = str(value) if len(str(value)) <= 40 else f"{str(value)[:40]}..."
    return InputError(f"X: the value {text!r} at row {row}, column {column} (counted from 0) {fault}")


def _check_finite(rows: Any, columns: Any) -> None:
    values = rows.data if sp.issparse(rows) else rows
    if values.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        # No second array of the size of the first; a sum that is too large for its type is followed by a closer look.
        if np.isfinite(np.sum(values, dtype=np.promote_types(values.dtype, np.float32))):
            return
    if sp.issparse(rows):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            row = int(np.searchsorted(rows.indptr, bad[0], side="right")) - 1
            raise _not_finite(values[bad[0]], row, int(rows.indices[bad[0]]), columns)
        return
    size = batch_rows(rows.shape[1])
    for start in range(0, len(rows), size):
        bad_mask = ~np.isfinite(rows[start : start + size])
        if bad_mask.any():
            row, column = (int(i) for i in np.argwhere(bad_mask)[0])
            raise _not_finite(rows[start + row, column], start + row, column, columns)


def _not_finite(value: Any, row: int, column: int, columns: Any) -> InputError:
    what = "NaN" if np.isnan(value) else "infinity"
    name = column if columns is None else columns[column]
    return InputError(f"X contains {what} at row {row}, column {name} (counted from 0); replace it or drop the row")


def check_narrowing(source: Source) -> None:
    """See that float64 rows may become float32: none overflows, and no whole number is rounded.

    Raises
    ------
    InputError
        If a value is beyond the range of float32, or an integer beyond 2**24 that it does not hold.
    """
    for batch in source.any_batches():
        rows = batch.data if sp.issparse(batch) else batch
        with np.errstate(over="ignore"):
            narrow = rows.astype(np.float32)
        lost = np.isinf(narrow) | ((rows == np.rint(rows)) & (narrow != rows))
        if lost.any():
            raise InputError(
                f"X holds {rows[lost][0]}, which float32, the type of the fitted weights, cannot hold; "
                "give float64 rows from the first call on"
            )
