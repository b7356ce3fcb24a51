"""The annotation table of detection: arrays only, immutable, readable from disk without a copy.

It does not know where the annotations came from nor what an image holds; paths are names under one root.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1

# Field -> dtype and trailing shape. Little-endian, so that the fingerprint is the same on every machine.
_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {
    "path_bytes": ("|u1", ()),
    "path_offsets": ("<i8", ()),
    "image_ids": ("<i8", ()),
    "widths": ("<i4", ()),
    "heights": ("<i4", ()),
    "box_offsets": ("<i8", ()),
    "boxes": ("<f4", (4,)),
    "labels": ("<i4", ()),
    "is_crowd": ("|b1", ()),
    "areas": ("<f4", ()),
}
_MASK_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {"mask_bytes": ("|u1", ()), "mask_offsets": ("<i8", ())}


@dataclass(frozen=True, eq=False)
class AnnotationTable:
    """N images with M boxes of C classes; every array is read-only.

    Attributes:
        class_names: Label k in 1..C is ``class_names[k - 1]``; 0 is the background.
        root: Absolute folder of the images; not part of the fingerprint.
        path_bytes: uint8, the UTF-8 file names of all images one after the other, relative to ``root``.
        path_offsets: int64, (N + 1,); name i is ``path_bytes[path_offsets[i]:path_offsets[i + 1]]``.
        image_ids: int64, (N,), unique.
        widths, heights: int32, (N,), upright pixels (after EXIF); 0 while unknown.
        box_offsets: int64, (N + 1,); the boxes of image i are rows ``box_offsets[i]:box_offsets[i + 1]``.
        boxes: float32, (M, 4), x1, y1, x2, y2 in upright pixels of the original image, half-open.
        labels: int32, (M,), 1..C.
        is_crowd: bool, (M,).
        areas: float32, (M,), square pixels of the object (its mask where the annotations say so, else its box).
        mask_bytes: uint8, COCO's compressed run-length counts of all boxes one after the other, or None.
        mask_offsets: int64, (M + 1,), or None.
        folder: Where the table was loaded from; such a table pickles as this path.
    """

    class_names: tuple[str, ...]
    root: str
    path_bytes: NDArray[np.uint8]
    path_offsets: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    box_offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    is_crowd: NDArray[np.bool_]
    areas: NDArray[np.float32]
    mask_bytes: NDArray[np.uint8] | None = None
    mask_offsets: NDArray[np.int64] | None = None
    folder: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, (dtype, tail) in self._columns().items():
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype).view()
            assert array.ndim == 1 + len(tail) and array.shape[1:] == tail, f"{name} has shape {array.shape}"
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        images, boxes = len(self.image_ids), len(self.boxes)
        assert len(self.path_offsets) == len(self.box_offsets) == images + 1, "offsets do not match the images"
        assert len(self.widths) == len(self.heights) == images, "sizes do not match the images"
        assert len(self.labels) == len(self.is_crowd) == len(self.areas) == boxes, "columns do not match the boxes"
        assert self.box_offsets[-1] == boxes and self.path_offsets[-1] == len(self.path_bytes), "offsets end elsewhere"
        assert (self.mask_bytes is None) == (self.mask_offsets is None), "one mask array without the other"
        assert self.mask_offsets is None or len(self.mask_offsets) == boxes + 1, "masks do not match the boxes"

    def _columns(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        return _ARRAYS if self.mask_bytes is None else _ARRAYS | _MASK_ARRAYS

    def __len__(self) -> int:
        return len(self.image_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is not None:
            return AnnotationTable.load, (self.folder,)
        columns = {name: getattr(self, name) for name in self._columns()}
        return _rebuild, (self.class_names, self.root, columns)

    def name(self, index: int) -> str:
        """File name of image ``index``, relative to the root, with forward slashes."""
        start, stop = self.path_offsets[index], self.path_offsets[index + 1]
        return self.path_bytes[start:stop].tobytes().decode("utf-8", "surrogateescape")

    def names(self) -> list[str]:
        """File names of all images, in order."""
        data, offsets = self.path_bytes.tobytes(), self.path_offsets.tolist()
        return [data[start:stop].decode("utf-8", "surrogateescape") for start, stop in itertools.pairwise(offsets)]

    def paths(self) -> list[str]:
        """Absolute paths of all images, in order; as text, because 20,000 Path objects cost more than their headers."""
        return [os.path.join(self.root, name) for name in self.names()]

    def path(self, index: int) -> Path:
        """Absolute path of image ``index``."""
        return Path(self.root, self.name(index))

    def box_slice(self, index: int) -> slice:
        """The rows of ``boxes``, ``labels``, ``is_crowd`` and ``areas`` that belong to image ``index``."""
        return slice(int(self.box_offsets[index]), int(self.box_offsets[index + 1]))

    def box_images(self) -> NDArray[np.int64]:
        """Index of the image of each box: int64, (M,), ascending."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.box_offsets))

    def mask_rle(self, box: int) -> dict[str, Any]:
        """Mask of box row ``box`` as pycocotools takes it: size (height, width) and compressed counts."""
        assert self.mask_bytes is not None and self.mask_offsets is not None, "the table was read without masks"
        image = int(np.searchsorted(self.box_offsets, box, side="right")) - 1
        counts = self.mask_bytes[self.mask_offsets[box] : self.mask_offsets[box + 1]].tobytes()
        return {"size": [int(self.heights[image]), int(self.widths[image])], "counts": counts}

    def select(self, indices: Sequence[int] | NDArray[Any]) -> AnnotationTable:
        """A table of the images ``indices`` (or of a boolean mask over the images), in that order."""
        rows = np.asarray(indices)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        path_offsets, path_rows = _gather(self.path_offsets, rows)
        box_offsets, box_rows = _gather(self.box_offsets, rows)
        return AnnotationTable(
            class_names=self.class_names,
            root=self.root,
            path_bytes=self.path_bytes[path_rows],
            path_offsets=path_offsets,
            image_ids=self.image_ids[rows],
            widths=self.widths[rows],
            heights=self.heights[rows],
            box_offsets=box_offsets,
            **self._box_columns(box_rows),
        )

    def select_boxes(self, keep: NDArray[np.bool_]) -> AnnotationTable:
        """A table of the same images with only the boxes where ``keep``, bool (M,), is true."""
        before = np.concatenate([[0], np.cumsum(keep)])
        return self.replace(box_offsets=before[self.box_offsets], **self._box_columns(np.flatnonzero(keep)))

    def replace(self, **columns: Any) -> AnnotationTable:
        """A table with some fields exchanged."""
        fields = {name: getattr(self, name) for name in ("class_names", "root", *_ARRAYS, *_MASK_ARRAYS)}
        return AnnotationTable(**(fields | columns))

    def _box_columns(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in ("boxes", "labels", "is_crowd", "areas")}
        if self.mask_bytes is not None and self.mask_offsets is not None:
            # Joined slices, not an index array of eight bytes for each byte of the masks.
            offsets, data = self.mask_offsets, self.mask_bytes.data
            joined = b"".join([data[offsets[row] : offsets[row + 1]] for row in rows])
            columns["mask_bytes"] = np.frombuffer(joined, np.uint8)
            columns["mask_offsets"] = np.concatenate([[0], np.cumsum(np.diff(offsets)[rows])])
        return columns

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the classes, file names and annotations; the same wherever the images are mounted."""
        digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, list(self.class_names)]).encode())
        for name in self._columns():
            array = getattr(self, name)
            digest.update(f"{name}{array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write the table as ``folder``, replacing what is there; a reader sees all of it or none."""
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            new = staging / "new"
            new.mkdir()
            for name in self._columns():
                np.save(new / f"{name}.npy", getattr(self, name), allow_pickle=False)
            description = {
                "schema_version": SCHEMA_VERSION,
                "class_names": self.class_names,
                "root": self.root,
                "arrays": list(self._columns()),
                "fingerprint": self.fingerprint,
            }
            (new / "table.json").write_text(json.dumps(description), encoding="utf-8")
            if folder.exists():
                os.replace(folder, staging / "old")
            os.replace(new, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @staticmethod
    def load(folder: Path | str) -> AnnotationTable:
        """Map the table written by ``save``; nothing is read until it is used.

        Raises:
            ValueError: The table was written by another version of this module.
        """
        folder = Path(folder)
        description = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        if description["schema_version"] != SCHEMA_VERSION:
            raise ValueError(
                f"Annotation table {str(folder)!r} has schema_version {description['schema_version']!r}; "
                f"this version reads {SCHEMA_VERSION}. Delete the folder, and it is made anew."
            )
        arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in description["arrays"]}
        table = AnnotationTable(
            class_names=tuple(description["class_names"]),
            root=description["root"],
            folder=str(folder.absolute()),
            # Plain views of the maps: indexing numpy's memmap class costs several times more.
            **{name: array.view(np.ndarray) for name, array in arrays.items()},
        )
        table.__dict__["fingerprint"] = description["fingerprint"]
        return table


def _rebuild(class_names: tuple[str, ...], root: str, columns: dict[str, Any]) -> AnnotationTable:
    return AnnotationTable(class_names=class_names, root=root, **columns)


def _gather(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and flat positions of the runs ``rows``: [0, 2, 3], [1, 0] -> [0, 1, 3], [2, 0, 1]."""
    lengths = np.diff(offsets)[rows]
    new = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    return new, np.arange(new[-1], dtype=np.int64) + np.repeat(offsets[rows] - new[:-1], lengths)


def encode_names(names: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """``path_bytes`` and ``path_offsets`` of file names."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(name) for name in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def group_by_image(images: NDArray[np.int64], num_images: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``box_offsets`` and the order of the boxes, given the image index of each box in any order."""
    offsets = np.zeros(num_images + 1, np.int64)
    np.cumsum(np.bincount(images, minlength=num_images), out=offsets[1:])
    return offsets, np.argsort(images, kind="stable")
