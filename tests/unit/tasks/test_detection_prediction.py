"""Into the square and back to original pixels."""

import numpy as np
import pytest

from icemaker.tasks.detection.prediction import FILL, Prediction, fitted_size, postprocess, preprocess, scale_of


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (64, 64), (1281, 961), (1000, 3)])
def test_longest_side_fills_the_square_and_the_rest_is_imagenets_mean(size: tuple[int, int]) -> None:
    """The aspect ratio is kept, and the padding has the mean colour, not black."""
    image = np.full((size[1], size[0], 3), 7, np.uint8)
    square = preprocess(image, size, 128)
    width, height = fitted_size(size, 128)
    assert square.shape == (128, 128, 3)
    assert max(width, height) == 128
    assert (square[:height, :width] == 7).all()
    outside = np.ones((128, 128), bool)
    outside[:height, :width] = False
    assert (square[outside] == FILL).all()


def test_an_image_decoded_smaller_lands_at_the_same_place() -> None:
    """A half-size decode of an odd-sized image fits into the same rectangle."""
    size = (1281, 961)
    assert preprocess(np.zeros((481, 641, 3), np.uint8), size, 512).shape == (512, 512, 3)
    assert fitted_size(size, 512) == (512, 384)


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (1281, 961)])
def test_boxes_come_back_to_original_pixels(size: tuple[int, int]) -> None:
    """Scaling a box into the square and back is the identity."""
    box = np.array([[10, 20, 60, 70]], np.float32)
    scaled = box * np.array(scale_of(size, 128) * 2, np.float32)
    found = postprocess(
        scaled, np.array([1]), np.array([0.9], np.float32),
        size=size, img_size=128, score_threshold=0, detections_per_image=10,
    )  # fmt: skip
    np.testing.assert_allclose(found.boxes, box, atol=1e-3)


def test_boxes_are_clipped_sorted_filtered_and_limited() -> None:
    """Best first; outside parts, empty boxes, weak boxes and the surplus go."""
    boxes = np.array([[-5, -5, 10, 10], [0, 0, 50, 50], [120, 0, 127, 5], [3, 3, 3, 9], [1, 1, 2, 2]], np.float32)
    scores = np.array([0.5, 0.9, 0.8, 0.7, 0.01], np.float32)
    found = postprocess(
        boxes, np.arange(5), scores, size=(64, 128), img_size=128, score_threshold=0.05, detections_per_image=10
    )
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])  # the third lies in the padding
    assert found.boxes.tolist() == [[0, 0, 50, 50], [0, 0, 10, 10]]
    assert len(found.above(0.6).boxes) == 1


def test_masks_come_back_to_original_pixels() -> None:
    """A mask of the square becomes one of the image's size."""
    masks = np.zeros((1, 128, 128), np.float32)
    masks[0, :32, :64] = 1  # the upper left quarter of a 200 x 100 image
    found = postprocess(
        np.array([[0, 0, 64, 32]], np.float32), np.array([1]), np.array([1], np.float32),
        size=(200, 100), img_size=128, score_threshold=0, detections_per_image=5, masks=masks,
    )  # fmt: skip
    assert found.masks is not None
    mask = found.mask(0, (200, 100))
    assert mask.shape == (100, 200)
    assert mask[:49, :99].all()
    assert not mask[51:].any()
    assert not mask[:, 101:].any()
    assert isinstance(found, Prediction)
