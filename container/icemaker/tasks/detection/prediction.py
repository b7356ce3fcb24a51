"""What goes into a detector and what comes out: the one definition of training, validation and serving.

numpy and OpenCV only, so that a server without torch uses the same code.
"""

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

#: RGB of the ground that fills what an image leaves of its square: ImageNet's mean colour.
FILL = (124, 116, 104)
#: Mean and standard deviation of the pixel values, RGB, 0 to 255 (ImageNet's).
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Prediction:
    """The boxes found in one image, best first, in pixels of the original image."""

    boxes: NDArray[np.float32]  #: (N, 4), xyxy, half-open
    labels: NDArray[np.int64]  #: (N,), 1..C
    scores: NDArray[np.float32]  #: (N,), 0 to 1
    masks: NDArray[np.uint8] | None = None  #: (N, h, w), 0 to 255, each over the whole image at some resolution

    def above(self, threshold: float) -> "Prediction":
        """The boxes that score at least `threshold`."""
        keep = self.scores >= threshold
        masks = None if self.masks is None else self.masks[keep]
        return Prediction(self.boxes[keep], self.labels[keep], self.scores[keep], masks)

    def mask(self, row: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask of one object, (height, width), in an image of `size` (width, height).

        One at a time, as a hundred masks of a large photograph would take a gigabyte.
        """
        assert self.masks is not None
        return np.asarray(cv2.resize(self.masks[row], size, interpolation=cv2.INTER_LINEAR) >= 128)


def fitted_size(size: tuple[int, int], img_size: int) -> tuple[int, int]:
    """Width and height to which an image of `size` is resized, so that its longest side has `img_size` pixels."""
    scale = img_size / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def fit(image: NDArray[np.uint8], size: tuple[int, int], img_size: int) -> NDArray[np.uint8]:
    """Resize an image, which may have been decoded smaller than its `size`, to its `fitted_size`."""
    new_size = fitted_size(size, img_size)
    if new_size == image.shape[1::-1]:
        return image
    # Linear interpolation looks at four pixels: below a half it would skip some, and averaging takes over.
    shrinks = max(new_size) < 0.5 * max(image.shape[:2])
    resized = cv2.resize(image, new_size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return cast(NDArray[np.uint8], resized)


def pad(image: NDArray[np.uint8], img_size: int) -> NDArray[np.uint8]:
    """Fill the square of `img_size` to the right and below."""
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, img_size - height, 0, img_size - width, cv2.BORDER_CONSTANT, value=FILL)
    return cast(NDArray[np.uint8], padded)


def preprocess(image: NDArray[np.uint8], size: tuple[int, int], img_size: int) -> NDArray[np.uint8]:
    """Fit an image into the square that the detector sees.

    Args:
        image: uint8, (height, width, 3), RGB, perhaps decoded smaller than it is.
        size: Width and height of the original image in pixels.
        img_size: Side of the square in pixels.

    Returns:
        uint8, (img_size, img_size, 3), RGB, the image at the top left. Normalising is left to the device.
    """
    return pad(fit(image, size, img_size), img_size)


def scale_of(size: tuple[int, int], img_size: int) -> tuple[float, float]:
    """Pixels of the square per original pixel, in x and in y, for an image of `size` (width, height)."""
    fitted_width, fitted_height = fitted_size(size, img_size)
    return fitted_width / size[0], fitted_height / size[1]


def postprocess(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    *,
    size: tuple[int, int],
    img_size: int,
    score_threshold: float,
    detections_per_image: int,
    masks: NDArray[np.float32] | None = None,
) -> Prediction:
    """Map what the network found back to the original image.

    Args:
        boxes: (N, 4) xyxy in pixels of the square.
        size: Width and height of the original image in pixels.
        masks: (N, img_size, img_size), 0 to 1.

    Returns:
        Boxes of at least `score_threshold` and some area, inside the image, best first.
    """
    width, height = size
    scale_x, scale_y = scale_of(size, img_size)
    scaled = boxes / np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    boxes = np.clip(scaled, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)
    keep = (scores >= score_threshold) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order = np.flatnonzero(keep)
    order = order[np.argsort(-scores[order], kind="stable")][:detections_per_image]
    if masks is None:
        return Prediction(boxes[order], labels[order], scores[order])
    fitted_width, fitted_height = fitted_size(size, img_size)
    covering = np.round(masks[order, :fitted_height, :fitted_width] * 255).astype(np.uint8)
    return Prediction(boxes[order], labels[order], scores[order], covering)
