#!/usr/bin/env python3
"""Draw a small detection data set: circles, squares and triangles on textured ground, with hard negatives.

usage: local_test/draw_shapes.py FOLDER [--training 600] [--validation 60] [--size 128] [--seed 1]

Makes FOLDER/training and FOLDER/validation, each with annotations.json (COCO, boxes and polygons) and images/.
The same arguments give the same files. Shapes overlap, turn, leave the picture and differ in size and colour;
crosses, rings, stars and lines are drawn too but not annotated, and one picture in ten holds nothing else.
It knows nothing of Icemaker: the annotations are written straight from the geometry.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # (N, 2), x and y in pixels; pixel 0 covers [0, 1)
Image = NDArray[np.uint8]  # (height, width, 3), BGR

CLASS_NAMES = ("circle", "square", "triangle")
DISTRACTORS = ("cross", "ring", "star", "line")
NEGATIVE_SHARE = 0.1  # of the pictures: distractors only
MIN_VISIBLE_SHARE = 0.7  # of a shape's area, inside the picture and not covered by later shapes
SUBPIXEL_BITS = 4  # OpenCV's fixed-point coordinates: 1/16 pixel


def outline(kind: str, radius: float) -> Polygon:
    """Make the corners of a shape around (0, 0) that fits a circle of this radius."""
    corners = {"circle": 36, "square": 4, "triangle": 3, "star": 10}
    if kind in corners:
        count = corners[kind]
        # A triangle points up, a square stands on a side.
        angles = np.arange(count) * 2 * math.pi / count + (math.pi / 4 if kind == "square" else -math.pi / 2)
        radii = np.full(count, radius)
        if kind == "star":
            radii[1::2] *= 0.4
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    arm = 0.22 * radius
    if kind == "line":
        return np.array([[-radius, -arm / 2], [radius, -arm / 2], [radius, arm / 2], [-radius, arm / 2]])
    if kind == "cross":
        quarter = np.array([[arm, arm], [arm, radius], [-arm, radius]])
        turn = np.array([[0.0, -1.0], [1.0, 0.0]])
        return np.concatenate([quarter @ np.linalg.matrix_power(turn.T, k) for k in range(4)])
    raise ValueError(f"No outline for {kind!r}.")


def place(polygon: Polygon, rng: np.random.Generator, width: int, height: int) -> Polygon:
    """Tilt a shape by up to 25 degrees and move it to a random place; its centre stays inside the picture."""
    angle = math.radians(rng.uniform(-25, 25))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = rng.uniform((6, 6), (width - 6, height - 6))
    return polygon @ turn + centre


def fill(canvas: NDArray[Any], polygons: list[Polygon], colour: Any, line_type: int = cv2.LINE_AA) -> None:
    """Fill polygons; a second one inside the first is a hole. Half a pixel off: OpenCV counts from pixel centres."""
    points = [np.round((polygon - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32) for polygon in polygons]
    cv2.fillPoly(canvas, points, colour, lineType=line_type, shift=SUBPIXEL_BITS)


def draw_ground(rng: np.random.Generator, width: int, height: int) -> Image:
    """Make textured ground in dull colours: blotches of three sizes, stripes in one direction, and grain."""
    ground = np.zeros((height, width, 1), np.float32)
    for cells, strength in ((3, 24), (10, 15), (40, 8)):
        blotches = rng.normal(0, strength, (cells, cells)).astype(np.float32)
        ground[..., 0] += cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    angle, wavelength = rng.uniform(0, math.pi), rng.uniform(6, 30)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    stripes = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / wavelength)
    ground[..., 0] += rng.uniform(0, 12) * stripes
    tint = rng.uniform(70, 190) + rng.uniform(-20, 20, 3)
    return np.clip(ground + tint + rng.normal(0, 5, (height, width, 3)), 0, 255).astype(np.uint8)


def choose_colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a bright colour of any hue, BGR; it says nothing of the shape."""
    hsv = np.array([[[rng.uniform(0, 180), rng.uniform(140, 255), rng.uniform(130, 255)]]], np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0], np.float64)


def paint(image: Image, polygons: list[Polygon], rng: np.random.Generator) -> None:
    """Paint a shape in one colour, shaded from one side to the other, with a darker rim now and then."""
    colour = choose_colour(rng)
    height, width = image.shape[:2]
    cover = np.zeros((height, width), np.uint8)
    fill(cover, polygons, 255)
    y, x = np.mgrid[:height, :width]
    angle = rng.uniform(0, 2 * math.pi)
    shade = rng.uniform(0, 0.5) * ((x - polygons[0][:, 0].mean()) * math.cos(angle) + (y - polygons[0][:, 1].mean()))
    paint_layer = np.clip(colour + shade[..., None] + rng.normal(0, 4, image.shape), 0, 255)
    alpha = cover[..., None] / 255.0
    image[:] = np.round(image * (1 - alpha) + paint_layer * alpha).astype(np.uint8)
    if rng.random() < 0.3:
        points = np.round((polygons[0] - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        rim = tuple(float(value) for value in colour * 0.5)
        cv2.polylines(image, [points], True, rim, 1, cv2.LINE_AA, SUBPIXEL_BITS)


def cover_of(polygons: list[Polygon], width: int, height: int) -> NDArray[np.bool_]:
    """Make the mask of the pixels that a shape covers."""
    mask = np.zeros((height, width), np.uint8)
    fill(mask, polygons, 1, cv2.LINE_8)
    return mask.astype(bool)


def draw_picture(
    rng: np.random.Generator, width: int, height: int, *, is_negative: bool
) -> tuple[Image, list[tuple[int, Polygon]]]:
    """Draw one picture.

    Returns:
        The picture, and for each annotated shape its category id (from 1) and its outline inside the picture.
    """
    image = draw_ground(rng, width, height)
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    num_distractors = rng.integers(1, 3) if is_negative else rng.integers(0, 2)
    kinds = [DISTRACTORS[i] for i in rng.integers(0, len(DISTRACTORS), num_distractors)]
    if not is_negative:
        kinds += [CLASS_NAMES[i] for i in rng.integers(0, len(CLASS_NAMES), rng.integers(1, 5))]
    rng.shuffle(kinds)
    shapes: list[tuple[int, Polygon]] = []
    visible: list[tuple[NDArray[np.bool_], float]] = []  # what is still seen of each shape, and its whole area
    for kind in kinds:
        radius = min(width, height) * rng.uniform(0.15, 0.3)
        polygons = [place(outline("circle" if kind == "ring" else kind, radius), rng, width, height)]
        if kind == "ring":
            centre = polygons[0].mean(axis=0)
            polygons.append((polygons[0] - centre) * rng.uniform(0.5, 0.75) + centre)
        cover = cover_of(polygons, width, height)
        if any((seen & ~cover).sum() < MIN_VISIBLE_SHARE * area for seen, area in visible):
            continue
        if kind in CLASS_NAMES:
            area = cv2.contourArea(polygons[0].astype(np.float32))
            clipped = cv2.intersectConvexConvex(polygons[0].astype(np.float32), frame)[1]
            if clipped is None or cover.sum() < MIN_VISIBLE_SHARE * area:
                continue
            shapes.append((CLASS_NAMES.index(kind) + 1, clipped.reshape(-1, 2).astype(np.float64)))
        visible = [(seen & ~cover, area) for seen, area in visible]
        if kind in CLASS_NAMES:
            visible.append((cover, area))
        paint(image, polygons, rng)
    return image, shapes


def annotation(annotation_id: int, image_id: int, category_id: int, polygon: Polygon) -> dict[str, Any]:
    """Write one shape as COCO does: box as x, y, width, height."""
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [round(float(v), 2) for v in (*low, *(high - low))],
        "area": round(float(cv2.contourArea(polygon.astype(np.float32))), 2),
        "iscrowd": 0,
        "segmentation": [[round(float(v), 2) for v in polygon.reshape(-1)]],
    }


def draw_split(folder: Path, count: int, size: int, rng: np.random.Generator) -> None:
    """Draw the pictures of one split and write its annotations."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, count + 1):
        width, height = (int(side) for side in rng.choice((size, size * 5 // 6), 2))
        is_negative = image_id % round(1 / NEGATIVE_SHARE) == 0
        picture, shapes = draw_picture(rng, width, height, is_negative=is_negative)
        file_name = f"images/{image_id:04d}.jpg"
        cv2.imwrite(str(folder / file_name), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for category_id, polygon in shapes:
            annotations.append(annotation(len(annotations) + 1, image_id, category_id, polygon))
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASS_NAMES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="ascii")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a small detection data set.")
    parser.add_argument("folder", type=Path, help="where training/ and validation/ are made")
    parser.add_argument("--training", type=int, default=600, help="pictures to train on")
    parser.add_argument("--validation", type=int, default=60, help="pictures to validate on")
    parser.add_argument("--size", type=int, default=128, help="longer side of a picture, in pixels")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for number, (name, count) in enumerate((("training", options.training), ("validation", options.validation))):
        draw_split(options.folder / name, count, options.size, np.random.default_rng((options.seed, number)))


if __name__ == "__main__":
    main()
