"""Annotated images -> samples and batches of a detector, as numpy arrays.

A sample is a function of (seed, epoch, index) alone: neither the worker that makes it nor what was made before
changes it. Knows nothing of torch.
"""

import hashlib
from collections.abc import Sequence
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from icemaker.data.annotations.table import AnnotationTable
from icemaker.data.images import UndecodableImageError, read_image
from icemaker.tasks.detection.augmentation import MIN_SIDE_PX, compose
from icemaker.tasks.detection.prediction import fit, fitted_size, pad, scale_of
from icemaker.tasks.detection.settings import DetectionSettings

_NO_BOXES = np.zeros((0, 4), np.float32)
_NO_LABELS = np.zeros(0, np.int64)


class Sample(TypedDict):
    """One image and its objects."""

    index: int  #: of the image in its table
    problem: str | None  #: why the image cannot be decoded; another one stands in, or `image` is None
    image: NDArray[np.uint8] | None  #: (img_size, img_size, 3), RGB
    boxes: NDArray[np.float32]  #: (N, 4), xyxy in pixels of the square
    labels: NDArray[np.int64]  #: (N,), 1..C
    masks: NDArray[np.uint8] | None  #: (N, img_size, img_size), 0 or 1


class Batch(TypedDict):
    """Images of one size with their objects, one image after the other."""

    indices: NDArray[np.int64]  #: (B,), of the images in their table
    images: NDArray[np.uint8]  #: (B, img_size, img_size, 3), RGB
    counts: NDArray[np.int64]  #: (B,), objects of each image
    boxes: NDArray[np.float32]  #: (sum of counts, 4), xyxy in pixels of the square
    labels: NDArray[np.int64]  #: (sum of counts,), 1..C
    masks: NDArray[np.uint8] | None  #: (sum of counts, img_size, img_size)
    problems: list[tuple[int, str]]  #: (index, reason) of each image that could not be decoded


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """A 32-bit seed for the augmentation of one sample in one epoch."""
    digest = hashlib.blake2b(f"{seed} {epoch} {index}".encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "little")


class DetectionDataset:
    """Samples of a table. Training samples are asked for by (epoch, index), validation samples by index."""

    def __init__(self, table: AnnotationTable, settings: DetectionSettings, *, training: bool, with_masks: bool):
        self.table = table
        self.seed = settings.seed
        self.img_size = settings.img_size
        self.with_masks = with_masks
        self.pipeline = compose(settings.augmentation, settings.img_size) if training else None

    def __len__(self) -> int:
        return len(self.table)

    def batch_bytes(self, batch_size: int) -> int:
        """The most that a batch can take, in bytes: all its images as full of objects as the fullest."""
        objects = int(np.diff(self.table.box_offsets).max(initial=0))
        mask_bytes = self.img_size**2 if self.with_masks else 0
        return batch_size * (3 * self.img_size**2 + objects * (4 * 4 + 8 + mask_bytes))

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        try:
            return self._load(epoch, index)
        except UndecodableImageError as error:
            problem = str(error)
        # A training batch keeps its size: the next image that can be decoded stands in.
        for step in range(1, len(self) if self.pipeline else 0):
            try:
                return {**self._load(epoch, (index + step) % len(self)), "index": index, "problem": problem}
            except UndecodableImageError:
                continue
        return Sample(index=index, problem=problem, image=None, boxes=_NO_BOXES, labels=_NO_LABELS, masks=None)

    def _load(self, epoch: int, index: int) -> Sample:
        table = self.table
        size = int(table.widths[index]), int(table.heights[index])
        image = fit(read_image(table.path(index), size=size, longest_side=self.img_size), size, self.img_size)
        objects = table.box_slice(index)
        # A crowd is a region of many objects: nothing to learn a box from.
        rows = np.arange(objects.start, objects.stop)[~table.is_crowd[objects]]
        boxes = table.boxes[rows] * np.array(scale_of(size, self.img_size) * 2, np.float32)
        labels = table.labels[rows].astype(np.int64)
        masks = [self._fitted_mask(int(row), size) for row in rows] if self.with_masks else None
        if self.pipeline is not None and min(image.shape[:2]) >= MIN_SIDE_PX:
            arguments = {"image": image, "bboxes": boxes, "box_indices": np.arange(len(rows))}
            if masks:  # albumentations refuses an empty list
                arguments["masks"] = masks
            self.pipeline.set_random_seed(sample_seed(self.seed, epoch, index))
            out = self.pipeline(**arguments)
            image = out["image"]
            boxes = np.asarray(out["bboxes"], np.float32).reshape(-1, 4)
            kept = np.asarray(out["box_indices"], np.int64)  # albumentations hands labels back as floats
            labels = labels[kept]
            masks = [out["masks"][row] for row in kept] if masks else masks
        return Sample(
            index=index,
            problem=None,
            image=pad(image, self.img_size),
            boxes=boxes,
            labels=labels,
            masks=None if masks is None else self._squares(masks),
        )

    def _fitted_mask(self, row: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        mask = coco_mask.decode(self.table.mask_rle(row))
        return cv2.resize(mask, fitted_size(size, self.img_size), interpolation=cv2.INTER_NEAREST)

    def _squares(self, masks: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        squares = np.zeros((len(masks), self.img_size, self.img_size), np.uint8)
        for square, mask in zip(squares, masks, strict=True):
            square[: mask.shape[0], : mask.shape[1]] = mask
        return squares


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples together; an image that cannot be decoded, and for which none stands in, is left out."""
    kept = [sample for sample in samples if sample["image"] is not None]
    images = [sample["image"] for sample in samples if sample["image"] is not None]
    masks = [sample["masks"] for sample in kept if sample["masks"] is not None]
    return Batch(
        indices=np.array([sample["index"] for sample in kept], np.int64),
        images=np.stack(images) if images else np.zeros((0, 1, 1, 3), np.uint8),
        counts=np.array([len(sample["boxes"]) for sample in kept], np.int64),
        boxes=np.concatenate([_NO_BOXES, *(sample["boxes"] for sample in kept)]),
        labels=np.concatenate([_NO_LABELS, *(sample["labels"] for sample in kept)]),
        masks=np.concatenate(masks) if masks else None,
        problems=[(sample["index"], sample["problem"]) for sample in samples if sample["problem"] is not None],
    )
