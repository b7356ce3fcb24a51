"""The fields of a COCO json, checked and turned into arrays: what is damaged is named. Knows no files but the json.

Columns are taken with list comprehensions and converted in bulk; only when that fails is the culprit looked for.
"""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Hashable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icemaker.data.annotations.boxes import LARGEST
from icemaker.data.annotations.channel import quoted
from icemaker.errors import UserError

Row = dict[str, Any]

EXPECTED = "A COCO json is an object with the lists 'images', 'annotations' and 'categories'."


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """json.loads makes millions of objects and no cycle; collecting in between takes as long as parsing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def parse(path: Path, where: str) -> Row:
    """The object in a json file.

    Args:
        where: The file, for messages.

    Raises:
        UserError: It cannot be read, or is no JSON object.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}.") from error
    if not data.strip():
        raise UserError(f"{where} is empty. {EXPECTED}")
    try:
        with _collector_paused():
            document = json.loads(data)
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text ({error.reason} at byte {error.start:,}). {EXPECTED}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON: {error}. {EXPECTED}") from error
    if not isinstance(document, dict):
        raise UserError(f"{where} has a {type(document).__name__} at its top level. {EXPECTED}")
    return document


def section(document: Row, key: str, where: str) -> list[Row]:
    """The list ``key`` of objects.

    Raises:
        UserError: It is not there, or holds something else.
    """
    rows = document.get(key)
    if not isinstance(rows, list):
        found = f"its keys are {quoted(document, limit=8)}" if rows is None else f"{key!r} is a {type(rows).__name__}"
        raise UserError(f"{where} has no list {key!r} ({found}). {EXPECTED}")
    if not set(map(type, rows)) <= {dict}:
        number = next(i for i, row in enumerate(rows) if type(row) is not dict)
        raise UserError(f"Entry {number} of {key!r} in {where} is {shown(rows[number])}, not an object. {EXPECTED}")
    return rows


def column(rows: list[Row], key: str, name: str, where: str) -> list[Any]:
    """The values of ``key`` in every row of the list ``name``.

    Raises:
        UserError: A row has none.
    """
    try:
        return [row[key] for row in rows]
    except KeyError:
        number = next(i for i, row in enumerate(rows) if key not in row)
        raise UserError(
            f"Entry {number} of {name!r} in {where} (id {shown(rows[number].get('id'))}) has no {key!r}."
        ) from None


def ids(rows: list[Row], name: str, where: str) -> list[int | str]:
    """The ids of the list ``name``, as dictionary keys; 1.0 is 1.

    Raises:
        UserError: An id is neither a whole number nor a text.
    """
    values = column(rows, "id", name, where)
    if set(map(type, values)) <= {int, str}:
        return values
    for number, value in enumerate(values):
        if type(value) not in (int, str) and not (type(value) is float and value.is_integer()):
            raise UserError(
                f"Entry {number} of {name!r} in {where} has id {shown(value)}. An id is a whole number or a text."
            )
    return [value if type(value) is str else int(value) for value in values]


def look_up(values: list[Any], rows: Mapping[int | str, int]) -> NDArray[np.int64]:
    """Row of each id, -1 where unknown; 7 and "7" are the same id unless both are listed."""
    try:
        return np.array([rows[value] for value in values], np.int64)
    except (KeyError, TypeError):
        texts = {str(key): row for key, row in rows.items()}
    return np.array([_row_of(value, rows, texts) for value in values], np.int64)


def _row_of(value: Any, rows: Mapping[int | str, int], texts: Mapping[str, int]) -> int:
    if not isinstance(value, Hashable):
        return -1
    row = rows.get(value)  # type: ignore[call-overload]
    return texts.get(str(value), -1) if row is None else row


def boxes_xywh(annotations: list[Row], where: str) -> NDArray[np.float64]:
    """x, y, width, height in pixels: (M, 4), finite.

    Raises:
        UserError: A bbox is not four finite numbers.
    """
    values = column(annotations, "bbox", "annotations", where)
    # An integer of hundreds of digits overflows.
    with contextlib.suppress(OverflowError):
        if set(map(type, values)) <= {list} and set(map(len, values)) <= {4}:
            flat = list(chain.from_iterable(values))
            if set(map(type, flat)) <= {int, float}:
                array = np.array(flat, np.float64).reshape(-1, 4)
                if np.isfinite(array).all():
                    return array
    number = next(i for i, box in enumerate(values) if not _is_box(box))
    raise UserError(
        f"Annotation {shown(annotations[number].get('id'))} in {where} has bbox {shown(values[number])}. "
        "A bbox is [x, y, width, height]: four finite numbers, in pixels."
    )


def _is_box(box: Any) -> bool:
    if type(box) is not list or len(box) != 4:
        return False
    try:
        return all(type(value) in (int, float) and bool(np.isfinite(float(value))) for value in box)
    except OverflowError:
        return False


def crowds(annotations: list[Row], where: str) -> NDArray[np.bool_]:
    """bool, (M,): iscrowd; false where it is not said.

    Raises:
        UserError: A value is neither a number nor absent.
    """
    values = [annotation.get("iscrowd") or 0 for annotation in annotations]
    if not set(map(type, values)) <= {int, bool, float}:
        number = next(i for i, value in enumerate(values) if type(value) not in (int, bool, float))
        raise UserError(
            f"Annotation {shown(annotations[number].get('id'))} in {where} has iscrowd {shown(values[number])}. "
            "Allowed are 0 and 1."
        )
    return np.array(values, dtype=bool)


def object_areas(annotations: list[Row], xywh: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32, (M,), square pixels: of the annotation, or of the box where that says nothing usable."""
    said = numbers([annotation.get("area") for annotation in annotations])
    sides = np.clip(xywh[:, 2:], 0, LARGEST)
    usable = np.isfinite(said) & (said > 0) & (said < LARGEST**2)
    return np.where(usable, said, sides[:, 0] * sides[:, 1]).astype(np.float32)


def numbers(values: list[Any]) -> NDArray[np.float64]:
    """Numbers, NaN for whatever is none."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        array = np.array(values, np.float64)
        if array.ndim == 1:
            return array
    usable = (type(value) in (int, float) and abs(value) < 1e300 for value in values)
    return np.array([value if use else np.nan for value, use in zip(values, usable, strict=True)], np.float64)


def shown(value: Any, length: int = 120) -> str:
    """``repr`` of a value out of the data, cut for a message."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."
