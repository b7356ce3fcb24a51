"""Random changes of a training image and its boxes, by albumentations. A preset is a list of its transforms.

Knows nothing of files; the pipeline is composed once a worker and seeded before each sample by the dataset.
"""

import albumentations
import cv2

from icemaker.tasks.detection.prediction import FILL

#: A crop of a thinner image may come out empty, which albumentations 2.0.8 answers with an error.
MIN_SIDE_PX = 16


def compose(preset: str, img_size: int) -> albumentations.Compose:
    """The pipeline of a preset, for images of `img_size` and at least `MIN_SIDE_PX`; boxes are xyxy in pixels.

    Boxes of which less than a tenth remains visible, or less than a square pixel, go.
    """
    return albumentations.Compose(
        _transforms(preset, img_size),
        bbox_params=albumentations.BboxParams(
            format="pascal_voc",
            label_fields=["box_indices"],
            min_visibility=0.1,
            min_area=1,
            clip=True,
            filter_invalid_bboxes=True,
        ),
    )


def _transforms(preset: str, img_size: int) -> list[albumentations.BasicTransform]:
    colour = [
        albumentations.RGBShift(r_shift_limit=10, g_shift_limit=10, b_shift_limit=10, p=0.5),
        albumentations.RandomBrightnessContrast(p=0.5),
    ]
    if preset == "none":
        return []
    if preset == "light":
        return [albumentations.HorizontalFlip(p=0.5), *colour]
    if preset == "any_orientation":
        return [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.VerticalFlip(p=0.5),
            albumentations.RandomRotate90(p=0.5),
            *colour,
        ]
    assert preset == "default", preset
    return [
        albumentations.HorizontalFlip(p=0.5),
        albumentations.Affine(
            translate_percent=(-0.0625, 0.0625),
            scale=(0.9, 1.1),
            rotate=(-15, 15),
            interpolation=cv2.INTER_LINEAR,
            border_mode=cv2.BORDER_CONSTANT,
            fill=FILL,
            p=0.5,
        ),
        *colour,
        albumentations.Blur(blur_limit=(3, 3), p=0.5),
        albumentations.RandomSizedBBoxSafeCrop(height=img_size, width=img_size, p=0.5),
    ]
