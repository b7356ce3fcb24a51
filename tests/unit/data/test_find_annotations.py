"""Which annotations a channel holds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotated_channels import CocoChannel, write_image
from icemaker.data.annotations.channel import Channel, ReadAnnotations, quoted
from icemaker.data.annotations.read import read_annotations
from icemaker.errors import StopRequested, UserError

MakeCoco = Callable[..., CocoChannel]
MakeVoc = Callable[..., Path]


def read(path: Path, **options: Any) -> ReadAnnotations:
    return read_annotations(path, channel_name="training", **options)


@pytest.mark.parametrize("name", ["annotations.json", "mixed_annotations.json", "a/b/_annotations.coco.JSON"])
def test_the_only_coco_json_is_found(coco: MakeCoco, name: str) -> None:
    """Whatever its name and folder, among jsons that are none."""
    channel = coco(num_images=1)
    path = channel.write(name)
    (path / "labelme.json").write_text('{"shapes": [], "imagePath": "a.jpg"}')
    (path / "damaged.json").write_bytes(b"\xff{")
    (path / "._annotations.json").write_text('{"images": [], "annotations": []}')
    (path / ".ipynb_checkpoints").mkdir()
    (path / ".ipynb_checkpoints/copy.json").write_text('{"images": [], "annotations": []}')
    (path / "__MACOSX").mkdir()
    (path / "__MACOSX/copy.json").write_text('{"images": [], "annotations": []}')
    (path / "dead.json").symlink_to("nowhere")
    (path / "dead.xml").symlink_to("nowhere")
    found = read(path)
    assert (found.format, found.source) == ("coco", name)


def test_several_coco_jsons_are_listed(coco: MakeCoco) -> None:
    """None is preferred; the hyperparameter chooses."""
    channel = coco(num_images=1)
    for name in ("a.json", "c.json", "b.json"):
        path = channel.write(name)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value) == (
        "Channel 'training' has 3 COCO annotation files: 'a.json', 'b.json', 'c.json'. Set the hyperparameter "
        "'annotations' to one of them."
    )
    assert read(path, annotations="./b.json").source == "b.json"


def test_several_voc_folders_are_listed(voc: MakeVoc) -> None:
    """The channel itself is '.'."""
    voc(annotations="", images="")
    path = voc(annotations="more", images="more", stems="xy")
    with pytest.raises(UserError, match=r"has 2 folders of Pascal VOC annotations: '\.', 'more'. Set the"):
        read(path)
    assert len(read(path, annotations=".").table) == 4
    assert len(read(path, annotations="more").table) == 2


def test_two_formats_are_refused_unless_one_is_named(coco: MakeCoco, voc: MakeVoc) -> None:
    """COCO and Pascal VOC in one channel: the hyperparameter chooses the file or the folder."""
    coco(num_images=1).write()
    path = voc()
    with pytest.raises(
        UserError, match=r"has COCO annotations \('annotations.json'\) and Pascal VOC .* \('Annotations'\)"
    ):
        read(path)
    assert read(path, annotations="annotations.json").format == "coco"
    assert read(path, annotations="Annotations/").format == "voc"


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    """The channel, its folder and some of its names are told."""
    for index in range(12):
        write_image(tmp_path / f"{index:02d}.jpg")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/cvat.xml").write_text("<annotations/>")
    with pytest.raises(
        UserError, match=r"'training' has no annotations \(/.*COCO json.*VOC xml.*holds '00.jpg', .* 5 more"
    ):
        read(tmp_path)


@pytest.mark.parametrize("value", ["absent.json", "absent/"])
def test_a_named_file_must_be_there(coco: MakeCoco, value: str) -> None:
    """The value and the contents are told."""
    path = coco(num_images=1).write()
    with pytest.raises(UserError, match=rf"'annotations' has value '{value}', but channel 'training' has no such file"):
        read(path, annotations=value)


@pytest.mark.parametrize("value", ["../other.json", "/etc/passwd", "a/../../b"])
def test_a_named_file_is_inside_the_channel(coco: MakeCoco, value: str) -> None:
    """Nothing outside is read."""
    path = coco(num_images=1).write()
    with pytest.raises(UserError, match=r"Hyperparameter 'annotations' has value .* path inside channel 'training'"):
        read(path, annotations=value)


def test_a_named_folder_must_hold_xml_files(coco: MakeCoco) -> None:
    """A folder of images is no annotation."""
    channel = coco()
    channel.image("images/a.jpg")
    path = channel.write()
    with pytest.raises(UserError, match=r"'annotations' names folder 'images' of channel 'training', which holds no"):
        read(path, annotations="images")


def test_optional_settings_may_be_absent(coco: MakeCoco) -> None:
    """A validation channel may call its only json otherwise, and has no folder of the training's name."""
    channel = coco(num_images=1)
    path = channel.write("instances_val.json")
    options = {"annotations": "instances_train.json", "images": "train2017", "optional_settings": True}
    assert read(path, **options).source == "instances_val.json"
    channel.write("b.json")
    with pytest.raises(UserError, match=r"Keep one of them, or call one 'instances_train.json' as the hyperparameter"):
        read(path, **options)


def test_pascal_voc_has_no_masks(voc: MakeVoc) -> None:
    """Masks that are asked for are not there, and its boxes are read all the same."""
    table = read(voc(), with_masks=True).table
    assert table.mask_bytes is None
    assert len(table.boxes)


def test_an_empty_channel_names_the_channel(tmp_path: Path) -> None:
    """The path and the usual causes are told."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"Channel 'training' has no files \(/.*S3 URI and the role's read permission"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"Channel 'training' is not there \(/.*absent is no folder\)"):
        read(tmp_path / "absent")


def test_a_channel_that_cannot_be_listed_is_named(coco: MakeCoco, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions are told, not a traceback."""
    path = coco(num_images=1).write()

    def refuse(_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match=r"Channel 'training' cannot be listed: .*Permission denied"):
        read(path)


def test_links_in_a_circle_end(coco: MakeCoco) -> None:
    """A folder that links to one above it is listed once."""
    path = coco(num_images=1).write()
    (path / "again").symlink_to(path, target_is_directory=True)
    assert read(path).source == "annotations.json"


def test_a_linked_folder_of_images_is_listed(coco: MakeCoco, tmp_path: Path) -> None:
    """Local runs mount links."""
    channel = coco()
    channel.image("a.jpg", file="../elsewhere/a.jpg")
    channel.box(1)
    path = channel.write()
    (path / "images").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert read(path).table.path(0) == path / "images/a.jpg"


def test_searching_stops_when_asked(tmp_path: Path) -> None:
    """The stop request comes through."""
    (tmp_path / "a.json").write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(StopRequested):
        read(tmp_path, should_stop=lambda: True)


def test_a_channel_knows_its_contents(voc: MakeVoc) -> None:
    """Folders end in a slash."""
    assert Channel.scan(voc(), "training").contents() == "'Annotations/', 'JPEGImages/'"


def test_long_lists_are_cut() -> None:
    """The rest is counted."""
    assert quoted("abc") == "'a', 'b', 'c'"
    assert quoted(range(1005), limit=2) == "0, 1 and 1,003 more"
