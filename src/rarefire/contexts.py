"""Where the examples of a table come from, for the page: parts of photographs, or documents; as plain JSON."""

from __future__ import annotations

import base64
import binascii
import io
import struct
import warnings
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rarefire.data.origins import DocumentOrigin, Origin, PictureOrigin
from rarefire.data.source import Source
from rarefire.errors import InputError

#: Photographs that are kept, those with most examples first.
N_PHOTOGRAPHS = 40
#: Pixels of their longer side, and how well they are kept.
LONGEST_SIDE, QUALITY = 480, 75
#: Characters of all documents together, and of each at the least; where there are too many, the last have none.
N_CHARACTERS, LEAST_CHARACTERS = 4_000_000, 300

#: What Pillow and base64 raise of damaged data.
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, struct.error, binascii.Error)

WHOLE = (0.0, 0.0, 1.0, 1.0)


def contexts_of(source: Source, places: NDArray[np.int64]) -> dict[str, Any]:
    """Where rows come from.

    Parameters
    ----------
    source : Source
        The rows that ``places`` count.
    places : ndarray of int of shape (n_rows,)
        Which rows.

    Returns
    -------
    dict
        ``rows``: for each one either ``name`` and ``box`` (top, left, height, width, in shares) with ``photograph``, a
        place in the other list or None, or ``text``, ``cut`` and ``title``; None for those that would be too much.
        ``photographs``: ``name`` and ``jpeg``, in base64. Both are empty where nothing is known, or a file has gone
        since the run began, of which it warns.
    """
    try:
        origins = source.origins(places[: N_CHARACTERS // LEAST_CHARACTERS])
        if origins is None:
            return {"rows": [], "photographs": []}
        pictures = Counter(
            origin.photograph for origin in origins if isinstance(origin, PictureOrigin) and origin.box != WHOLE
        )
        names = {origin.photograph: origin.name for origin in origins if isinstance(origin, PictureOrigin)}
        kept = sorted(number for number, _ in pictures.most_common(N_PHOTOGRAPHS))
        photographs = [
            {"name": names[number], "jpeg": _jpeg(source.photograph(number, LONGEST_SIDE))} for number in kept
        ]
    except InputError as error:
        warnings.warn(f"the page does not show where examples come from: {error}", UserWarning, stacklevel=2)
        return {"rows": [], "photographs": []}
    longest = max(LEAST_CHARACTERS, N_CHARACTERS // max(1, len(origins)))
    place = {number: index for index, number in enumerate(kept)}
    rows: list[dict[str, Any] | None] = [_row(origin, place, longest) for origin in origins]
    return {"rows": rows + [None] * (len(places) - len(rows)), "photographs": photographs}


def _row(origin: Origin, place: dict[int, int], longest: int) -> dict[str, Any]:
    if isinstance(origin, DocumentOrigin):
        shown = DocumentOrigin.of(origin.text, origin.title, longest)
        return {"text": shown.text, "cut": origin.cut or shown.cut, "title": origin.title}
    return {"name": origin.name, "box": list(origin.box), "photograph": place.get(origin.photograph)}


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    return base64.b64encode(stream.getvalue()).decode()


def check_contexts(contexts: dict[str, Any], n_rows: int) -> None:
    """See that contexts are of so many rows, or of none.

    Raises
    ------
    ValueError
        If they are not, or say something else than :func:`contexts_of` does.
    """
    rows, photographs = contexts.get("rows"), contexts.get("photographs")
    if not isinstance(rows, list) or not isinstance(photographs, list) or len(rows) not in (0, n_rows):
        raise ValueError(f"it is not on {n_rows} examples")
    for photograph in photographs:
        _check_photograph(photograph)
    for row in rows:
        if not (row is None or _is_part(row, len(photographs)) or _is_document(row)):
            raise ValueError("an entry is neither a part of a photograph nor a document")


def _check_photograph(photograph: Any) -> None:
    try:
        if set(photograph) != {"name", "jpeg"} or not isinstance(photograph["name"], str):
            raise ValueError("a photograph has no name")
        with Image.open(io.BytesIO(base64.b64decode(photograph["jpeg"], validate=True)), formats=["JPEG"]) as image:
            if max(image.size) > LONGEST_SIDE:
                raise ValueError(f"it is of {image.size} pixels")
            image.load()
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise ValueError(f"a photograph is damaged ({error})") from None


def _is_part(row: Any, n_photographs: int) -> bool:
    if not isinstance(row, dict) or set(row) != {"name", "box", "photograph"}:
        return False
    box, number = row["box"], row["photograph"]
    known = number is None or (type(number) is int and 0 <= number < n_photographs)
    shares = isinstance(box, list) and len(box) == 4 and all(type(x) in (int, float) and 0 <= x <= 1 for x in box)
    return isinstance(row["name"], str) and known and shares


def _is_document(row: Any) -> bool:
    if not isinstance(row, dict) or set(row) != {"text", "cut", "title"}:
        return False
    return isinstance(row["text"], str) and isinstance(row["cut"], bool) and isinstance(row["title"], str | None)
