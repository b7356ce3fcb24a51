"""One entry for all annotation formats: find out what a channel holds, and read it. Looks at no image."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from icemaker.data.annotations.channel import Channel, ReadAnnotations, quoted
from icemaker.data.annotations.coco import read_coco
from icemaker.data.annotations.lists import INDICES
from icemaker.data.annotations.voc import read_voc
from icemaker.data.parallel import map_files, never_stop
from icemaker.errors import UserError

# The root element of Pascal VOC; CVAT's <annotations> is another format.
_VOC_ROOT = re.compile(rb"<annotation[\s>]")
_SNIFFED = 5


def read_annotations(
    channel: Path,
    *,
    channel_name: str,
    annotations: str | None = None,
    images: str | None = None,
    with_masks: bool = False,
    optional_settings: bool = False,
    should_stop: Callable[[], bool] = never_stop,
) -> ReadAnnotations:
    """Read the COCO json or the Pascal VOC files of a channel.

    Args:
        channel: Folder of the channel.
        channel_name: Its name, for messages.
        annotations: The COCO json, or the folder of the xml files, relative to the channel; None finds it.
        images: Folder of the images, relative to the channel; None tries the usual places.
        with_masks: Read the segmentations as well, where a COCO file has any; Pascal VOC has none.
        optional_settings: Where ``annotations`` or ``images`` is not there, go on as if it had not been given.

    Raises:
        UserError: Nothing or more than one thing found, or the annotations are damaged.
        StopRequested: ``should_stop`` returned true.
    """
    held = Channel.scan(channel, channel_name)
    source = held.setting_path("annotations", annotations) if annotations is not None else None
    if optional_settings:
        if source is not None and source not in held.files and not held.has_folder(source):
            source = None  # a validation channel may hold instances_val.json where training has instances_train.json
        if images is not None and not held.has_folder(held.setting_path("images", images)):
            images = None
    if source is None:
        remedy = "Set the hyperparameter 'annotations' to one of them."
        if annotations is not None:
            remedy = f"Keep one of them, or call one {annotations!r} as the hyperparameter 'annotations' has it."
        source = _find(held, remedy, should_stop)
    elif source not in held.files and not held.has_folder(source):
        raise UserError(
            f"Hyperparameter 'annotations' has value {annotations!r}, but channel {channel_name!r} has no such file or "
            f"folder. It holds {held.contents()}."
        )
    if source in held.files:
        return read_coco(held, source, images=images, with_masks=with_masks, should_stop=should_stop)
    return read_voc(held, source, images=images, should_stop=should_stop)


def _find(channel: Channel, remedy: str, should_stop: Callable[[], bool]) -> str:
    coco = _coco_files(channel, should_stop)
    voc = [folder or "." for folder in _voc_folders(channel)]
    if len(coco) + len(voc) == 1:
        return "" if voc == ["."] else (coco + voc)[0]
    if coco and voc:
        raise UserError(
            f"Channel {channel.name!r} has COCO annotations ({quoted(coco)}) and Pascal VOC annotations "
            f"({quoted(voc)}). {remedy}"
        )
    if coco:
        raise UserError(
            f"Channel {channel.name!r} has {len(coco)} COCO annotation files: {quoted(coco, limit=10)}. {remedy}"
        )
    if voc:
        raise UserError(
            f"Channel {channel.name!r} has {len(voc)} folders of Pascal VOC annotations: {quoted(voc, limit=10)}. "
            f"{remedy}"
        )
    raise UserError(
        f"Channel {channel.name!r} has no annotations ({channel.path}). Looked for a COCO json (with 'images' and "
        f"'annotations') and for Pascal VOC xml files (with a root <annotation>). The channel holds "
        f"{channel.contents()}."
    )


def _coco_files(channel: Channel, should_stop: Callable[[], bool]) -> list[str]:
    """The jsons that look like COCO, by a search of their bytes: parsing is far slower."""

    def looks_like_coco(name: str) -> bool:
        try:
            data = (channel.path / name).read_bytes()
        except OSError:
            return False
        return b'"images"' in data and b'"annotations"' in data

    names = [name for name in channel.with_suffix(".json") if posixpath.basename(name) != INDICES]
    found = map_files(looks_like_coco, names, should_stop=should_stop)
    return [name for name, is_coco in zip(names, found, strict=True) if is_coco]


def _voc_folders(channel: Channel) -> list[str]:
    folders: dict[str, list[str]] = {}
    for name in channel.with_suffix(".xml"):
        folders.setdefault(posixpath.dirname(name), []).append(name)
    return [folder for folder, names in folders.items() if any(_is_voc(channel, name) for name in names[:_SNIFFED])]


def _is_voc(channel: Channel, name: str) -> bool:
    try:
        with (channel.path / name).open("rb") as file:
            return _VOC_ROOT.search(file.read(4096)) is not None
    except OSError:
        return False
