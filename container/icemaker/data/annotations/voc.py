"""Pascal VOC xml files -> table. Looks at no image.

Coordinates are taken as they stand, as IceVision takes them: xmin, ymin, xmax, ymax.
"""

from __future__ import annotations

import math
import os
import posixpath
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from icemaker.data.annotations.boxes import LARGEST
from icemaker.data.annotations.channel import Channel, ReadAnnotations, image_folders
from icemaker.data.annotations.lists import read_image_sets, read_indices
from icemaker.data.annotations.table import AnnotationTable, encode_names
from icemaker.data.image_files import IMAGE_SUFFIXES
from icemaker.data.parallel import map_files, never_stop
from icemaker.errors import UserError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _Image(NamedTuple):
    """One xml: what it says of its image, and its objects."""

    file_name: str
    width: int
    height: int
    names: list[str]
    corners: list[float]  # four for each name
    num_difficult: int


def read_voc(
    channel: Channel,
    folder: str,
    *,
    images: str | None = None,
    should_stop: Callable[[], bool] = never_stop,
) -> ReadAnnotations:
    """Read the xml files of one folder.

    An image is known by the name of its xml without ".xml"; ``<filename>`` counts only where no image has that name.
    Classes are sorted by name. Without ``images``, files are looked up in the folder JPEGImages or images beside the
    folder of the xml files, in that folder itself, then in the same folders of the channel.

    Args:
        folder: Of the xml files, relative to the channel.
        images: Folder of the images, relative to the channel.

    Raises:
        UserError: A file is damaged; the text names it.
        StopRequested: ``should_stop`` returned true.
    """
    xmls = [name for name in channel.with_suffix(".xml") if posixpath.dirname(name) == folder]
    if not xmls:
        raise UserError(
            f"Hyperparameter 'annotations' names folder {folder or '.'!r} of channel {channel.name!r}, which holds no "
            "xml files. Name a COCO json, or the folder of the Pascal VOC xml files."
        )
    stems = [posixpath.splitext(posixpath.basename(name))[0] for name in xmls]
    parent = posixpath.dirname(folder)
    folders = _image_folders(channel, folder, images)

    def read(name: str) -> _Image:
        where = f"{name!r} of channel {channel.name!r}"
        try:
            with open(os.path.join(channel.path, name), "rb") as file:
                data = file.read()
        except OSError as error:
            raise UserError(f"{where} cannot be read: {error.strerror}.") from error
        return _parse(data, where)

    parsed = map_files(read, xmls, should_stop=should_stop)
    names = _image_names(channel, folders, xmls, stems, [image.file_name for image in parsed])
    class_names = tuple(sorted({name for image in parsed for name in image.names}))
    label_of = {name: label for label, name in enumerate(class_names, start=1)}
    labels = np.array([label_of[name] for image in parsed for name in image.names], np.int32)
    corners = np.array([value for image in parsed for value in image.corners], np.float64).reshape(-1, 4)
    boxes = np.clip(corners, -LARGEST, LARGEST)
    offsets = np.zeros(len(parsed) + 1, np.int64)
    np.cumsum([len(image.names) for image in parsed], out=offsets[1:])
    path_bytes, path_offsets = encode_names(names)
    table = AnnotationTable(
        class_names=class_names,
        root=str(channel.path),
        path_bytes=path_bytes,
        path_offsets=path_offsets,
        image_ids=np.arange(1, len(parsed) + 1),
        widths=np.array([image.width for image in parsed], np.int32),
        heights=np.array([image.height for image in parsed], np.int32),
        box_offsets=offsets,
        boxes=boxes.astype(np.float32),
        labels=labels,
        is_crowd=np.zeros(len(labels), bool),
        areas=np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1).astype(np.float32),
    )
    counts = {"difficult_objects": sum(image.num_difficult for image in parsed)}
    rows = {stem: row for row, stem in enumerate(stems)}
    lists = read_indices(channel, folder, rows)
    image_sets, warnings = read_image_sets(channel, list(dict.fromkeys([parent, folder, ""])), rows)
    if lists is not None and image_sets is not None:
        raise UserError(
            f"Channel {channel.name!r} has two splits, {lists.source!r} and {image_sets.source!r}. Remove one of them."
        )
    return ReadAnnotations(
        channel=channel,
        table=table,
        format="voc",
        source=folder or ".",
        lists=lists or image_sets,
        counts={key: count for key, count in counts.items() if count},
        warnings=tuple(warnings),
        searched=tuple(name or "." for name in folders),
    )


def _image_folders(channel: Channel, folder: str, images: str | None) -> list[str]:
    if images is not None:
        return image_folders(channel, folder, [], images)
    parent = posixpath.dirname(folder)
    found = image_folders(channel, parent, ["JPEGImages", "images"], None)
    # Not the parent first: beside Annotations it rarely holds images itself.
    return list(dict.fromkeys([name for name in found if name not in (parent, "")] + [folder, parent, ""]))


def _image_names(channel: Channel, folders: list[str], xmls: list[str], stems: list[str], said: list[str]) -> list[str]:
    """The image of each xml, relative to the channel; where none is found, the name it should have."""
    of_stem = {posixpath.splitext(name)[0]: name for name in reversed(channel.with_suffix(*IMAGE_SUFFIXES))}
    names: list[str] = []
    xml_of: dict[str, str] = {}
    for xml, stem, file_name in zip(xmls, stems, said, strict=True):
        file_name = posixpath.basename(file_name.replace("\\", "/"))
        found = channel.find(file_name, folders) if posixpath.splitext(file_name)[0] == stem else None
        if found is None:
            paths = (f"{folder}/{stem}" if folder else stem for folder in folders)
            found = next((of_stem[path] for path in paths if path in of_stem), None)
        if found is None and file_name:
            found = channel.find(file_name, folders)
        if found is None:
            found = f"{folders[0]}/{stem}.jpg" if folders[0] else f"{stem}.jpg"
        other = xml_of.setdefault(found, xml)
        if other != xml:
            raise UserError(
                f"{other!r} and {xml!r} of channel {channel.name!r} both mean image {found!r}. "
                "Give each xml the name of its image."
            )
        names.append(found)
    return names


def _parse(data: bytes, where: str) -> _Image:
    plain = data.replace(b"\0", b"")  # so that a declaration in UTF-16 is found too
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise UserError(
            f"{where} has a document type declaration (<!DOCTYPE or <!ENTITY>), which is not allowed. Remove it."
        )
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 (expat's attacks need the declarations refused above)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise UserError(f"{where} is not valid XML: {error}. Correct or remove the file.") from error
    if root.tag != "annotation":
        raise UserError(
            f"{where} has the root element <{root.tag}>; Pascal VOC has <annotation>. Remove the file, or set the "
            "hyperparameter 'annotations' to the folder of the Pascal VOC files."
        )
    names: list[str] = []
    corners: list[float] = []
    num_difficult = 0
    # Children by tag, not find() for each: that halves the time, and VOC has thousands of these files.
    for number, item in enumerate(root.iterfind("object"), start=1):
        children = {child.tag: child for child in item}
        name = _text(children.get("name"))
        if not name:
            raise UserError(f"Object {number} in {where} has no <name>. Every object needs the name of its class.")
        if "bndbox" not in children:
            raise UserError(f"Object {number} ({name!r}) in {where} has no <bndbox>. Every object needs a box.")
        texts = {child.tag: child.text for child in children["bndbox"]}
        for corner in _CORNERS:
            try:
                value = float(texts[corner] or "")
            except (KeyError, ValueError):
                value = math.nan
            if not math.isfinite(value):
                raise UserError(
                    f"Object {number} ({name!r}) in {where} has {corner} {texts.get(corner)!r}. "
                    "It must be a finite number."
                )
            corners.append(value)
        names.append(name)
        num_difficult += _text(children.get("difficult")) == "1"
    width, height = (_size(root.findtext(f"size/{key}")) for key in ("width", "height"))
    return _Image(_text(root.find("filename")), width, height, names, corners, num_difficult)


def _text(element: ElementTree.Element | None) -> str:
    return (element.text or "").strip() if element is not None else ""


def _size(text: str | None) -> int:
    """Pixels; 0 when not said. The image's own header decides in the end."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0
    return int(value) if 1 <= value < 1 << 31 else 0
