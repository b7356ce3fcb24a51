"""The split that a data set carries with it: indices.json, or ImageSets/Main of Pascal VOC. Knows no images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icemaker.data.annotations.channel import Channel, SplitLists, quoted
from icemaker.errors import UserError

INDICES = "indices.json"
_REMEDY = "Correct the file or remove it; without it the images are split by 'validation_fraction'."


def read_indices(channel: Channel, folder: str, rows: Mapping[Any, int]) -> SplitLists | None:
    """The split in indices.json, ``{"train": [image ids], "val": [image ids]}``; None if there is no such file.

    Args:
        folder: Where the annotations lie, relative to the channel; looked into after the channel itself.
        rows: Image id -> row of the table.

    Raises:
        UserError: The file is damaged, a list is empty, an id is unknown, or stands in both lists.
    """
    source = channel.find(INDICES, ["", folder])
    if source is None:
        return None
    where = f"{source!r} of channel {channel.name!r}"
    try:
        document: Any = json.loads((channel.path / source).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{where} is not readable JSON: {error}. {_REMEDY}") from error
    train, validation = (document.get(key) if isinstance(document, dict) else None for key in ("train", "val"))
    if not isinstance(train, list) or not isinstance(validation, list):
        raise UserError(f'{where} is not {{"train": [image ids], "val": [image ids]}}. {_REMEDY}')
    texts = {str(key): row for key, row in rows.items()}
    found = [
        _rows(ids, rows, texts, f"List {key!r} of {where}") for key, ids in (("train", train), ("val", validation))
    ]
    return _disjoint(found[0], found[1], source, where)


def read_image_sets(
    channel: Channel, folders: Iterable[str], rows: Mapping[Any, int]
) -> tuple[SplitLists | None, list[str]]:
    """The split in ImageSets/Main/train.txt and val.txt (a stem a line), None unless both are there; and warnings.

    Args:
        folders: Where ImageSets may lie, relative to the channel.
        rows: Stem of the xml -> row of the table.

    Raises:
        UserError: A list is empty, an id is unknown, or stands in both lists.
    """
    for folder in folders:
        base = f"{folder}/ImageSets/Main" if folder else "ImageSets/Main"
        present = [key for key in ("train", "val") if f"{base}/{key}.txt" in channel.files]
        if present:
            break
    else:
        return None, []
    where = f"{base!r} of channel {channel.name!r}"
    if len(present) == 1:
        absent = "val" if present == ["train"] else "train"
        return None, [f"{where} has {present[0]}.txt but no {absent}.txt, so it splits nothing: all images are used."]
    found = []
    for key in present:
        text = (channel.path / base / f"{key}.txt").read_bytes().decode("utf-8-sig", "surrogateescape")
        stems = [_stem(line.strip(), rows) for line in text.splitlines() if line.strip()]
        found.append(_rows(stems, rows, {}, f"{key}.txt in {where}"))
    return _disjoint(found[0], found[1], base, where), []


def _stem(line: str, rows: Mapping[Any, int]) -> str:
    """The known stem that a line means: some tools write the suffix of the image, or 1 and -1 after the stem."""
    for candidate in (line, line.rsplit(".", 1)[0], line.rsplit(maxsplit=1)[0]):
        if candidate in rows:
            return candidate
    return line


def _rows(ids: list[Any], rows: Mapping[Any, int], texts: Mapping[str, int], where: str) -> NDArray[np.int64]:
    if not ids:
        raise UserError(f"{where} is empty. {_REMEDY}")
    found: list[int] = []
    unknown: list[Any] = []
    for key in ids:
        row = rows.get(key) if isinstance(key, (int, float, str)) else None
        row = texts.get(str(key)) if row is None else row
        if row is None:
            unknown.append(key)
        else:
            found.append(row)
    if unknown:
        raise UserError(
            f"{where} names {len(unknown):,} images that the annotations do not have: {quoted(unknown)}. {_REMEDY}"
        )
    return np.unique(np.array(found, np.int64))


def _disjoint(train: NDArray[np.int64], validation: NDArray[np.int64], source: str, where: str) -> SplitLists:
    both = np.intersect1d(train, validation)
    if len(both):
        raise UserError(f"{where} has {len(both):,} images in both lists, training and validation. {_REMEDY}")
    return SplitLists(train, validation, source)
