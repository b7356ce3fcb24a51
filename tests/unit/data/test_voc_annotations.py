"""Reading Pascal VOC: what comes in, and what is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotated_channels import voc_xml, write_image
from icemaker.data.annotations.channel import ReadAnnotations
from icemaker.data.annotations.read import read_annotations
from icemaker.errors import StopRequested, UserError

MakeVoc = Callable[..., Path]


def read(path: Path, **options: Any) -> ReadAnnotations:
    return read_annotations(path, channel_name="training", **options)


def test_coordinates_are_taken_as_they_stand(voc: MakeVoc) -> None:
    """xmin, ymin, xmax, ymax become the box; classes are sorted by name."""
    found = read(voc())
    table = found.table
    assert found.format == "voc"
    assert found.source == "Annotations"
    assert table.class_names == ("cat", "dog")
    assert table.names() == [f"JPEGImages/{stem}.jpg" for stem in "abcd"]
    assert table.boxes[table.box_slice(1)].tolist() == [[1, 2, 11, 12], [5, 5, 30, 40]]
    assert table.labels[table.box_slice(1)].tolist() == [1, 2]
    assert table.areas[table.box_slice(1)].tolist() == [100, 875]
    assert table.image_ids.tolist() == [1, 2, 3, 4]
    assert not table.is_crowd.any()
    assert (table.widths[0], table.heights[0]) == (64, 48)


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("Annotations", "JPEGImages"), ("", ""), ("data", "data"), ("Annotations", "images"), ("Annotations", ""),
        ("VOC2012/Annotations", "VOC2012/JPEGImages"), ("xml", "images"), ("set/xml", "images"),
    ],
)  # fmt: skip
def test_the_usual_layouts_are_found(voc: MakeVoc, annotations: str, images: str) -> None:
    """Folders of VOC, or images beside their xml files."""
    path = voc(annotations=annotations, images=images)
    assert all(Path(file).is_file() for file in read(path).table.paths())


def test_the_images_setting_is_the_only_place(voc: MakeVoc) -> None:
    """With the hyperparameter 'images' nothing else is looked at; a missing folder is an error."""
    path = voc(images="photos")
    assert read(path, images="photos").table.name(0) == "photos/a.jpg"
    assert not Path(read(path).table.paths()[0]).is_file()
    with pytest.raises(UserError, match=r"Hyperparameter 'images' has value 'pics'.*holds 'Annotations/', 'photos/'"):
        read(path, images="pics")


def test_an_image_is_known_by_its_xml(voc: MakeVoc) -> None:
    """A wrong or repeated <filename> does not matter where an image has the name of the xml."""
    path = voc()
    for stem in "abcd":
        xml = path / f"Annotations/{stem}.xml"
        xml.write_text(voc_xml([("cat", (1, 2, 3, 4))], filename="a.jpg"))
    (path / "JPEGImages/b.jpg").rename(path / "JPEGImages/b.PNG")
    assert read(path).table.names() == [f"JPEGImages/{name}" for name in ("a.jpg", "b.PNG", "c.jpg", "d.jpg")]


def test_the_filename_counts_where_no_image_has_the_name_of_the_xml(voc: MakeVoc) -> None:
    """Folders in it do not matter; without <filename> the image is missing."""
    path = voc(stems="a")
    write_image(path / "JPEGImages/photo.jpg")
    (path / "Annotations/x.xml").write_text(voc_xml([("cat", (1, 2, 3, 4))], filename="C:\\me\\photo.jpg"))
    (path / "Annotations/y.xml").write_text(voc_xml([("cat", (1, 2, 3, 4))]))
    assert read(path).table.names() == ["JPEGImages/a.jpg", "JPEGImages/photo.jpg", "JPEGImages/y.jpg"]


def test_the_filename_chooses_between_two_images_of_one_name(voc: MakeVoc) -> None:
    """a.jpg and a.png: the xml says which."""
    path = voc(stems="a")
    write_image(path / "JPEGImages/a.png")
    assert read(path).table.name(0) == "JPEGImages/a.jpg"
    (path / "Annotations/a.xml").write_text(voc_xml([("cat", (1, 2, 3, 4))], filename="a.png"))
    assert read(path).table.name(0) == "JPEGImages/a.png"


def test_two_xmls_of_one_image_are_refused(voc: MakeVoc) -> None:
    """IceVision would merge them; both are named."""
    path = voc(stems="a")
    (path / "Annotations/x.xml").write_text(voc_xml([("cat", (1, 2, 3, 4))], filename="a.jpg"))
    with pytest.raises(
        UserError, match=r"'Annotations/a.xml' and 'Annotations/x.xml' .* mean image 'JPEGImages/a.jpg'"
    ):
        read(path)


def test_unusual_but_valid_files_are_read(voc: MakeVoc) -> None:
    """Float coordinates, spaces, parts with their own boxes, no objects, no size, other encodings."""
    path = voc(stems="abcde")
    folder = path / "Annotations"
    box = "<bndbox><ymax> 9.5 </ymax><xmin>1.25</xmin><ymin>2</ymin><xmax>1e1</xmax></bndbox>"
    part = "<part><name>head</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></part>"
    (folder / "a.xml").write_text(f"<annotation><object>{part}<name> cat\n</name>{box}</object></annotation>")
    (folder / "b.xml").write_text("<annotation/>")
    text = f'<?xml version="1.0" encoding="utf-16"?><annotation><object><name>\u732b</name>{box}</object></annotation>'
    (folder / "c.xml").write_bytes(text.encode("utf-16"))
    size = "<size><width>wide</width><height>-3</height></size>"
    (folder / "d.xml").write_text(
        f"<annotation>{size}<object><name>cat</name><difficult>1</difficult>{box}</object></annotation>"
    )
    (folder / "e.xml").write_bytes(
        b'<?xml version="1.0" encoding="iso-8859-1"?><annotation><size><width>6.4e1</width></size></annotation>'
    )
    found = read(path)
    table = found.table
    assert table.class_names == ("cat", "\u732b")
    assert table.boxes[0].tolist() == [1.25, 2, 10, 9.5]
    assert table.box_offsets.tolist() == [0, 1, 1, 2, 3, 3]
    assert table.widths.tolist() == [0, 0, 0, 0, 64]
    assert table.heights.tolist() == [0, 0, 0, 0, 0]
    assert found.counts == {"difficult_objects": 1}


OBJECT = "<object><name>cat</name>{}</object>"
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>4</ymax></bndbox>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is not valid XML: no element found"),
        ("<annotation>", r"is not valid XML: no element found"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', r"is not valid XML: .*unknown encoding"),
        ("<annotation><object>" + BOX.format(3) + "</object></annotation>", r"Object 1 in .* has no <name>"),
        ("<annotation><object><name> </name></object></annotation>", r"Object 1 in .* has no <name>"),
        ("<annotation>" + OBJECT.format("") + "</annotation>", r"Object 1 \('cat'\) in .* has no <bndbox>"),
        (
            "<annotation>" + OBJECT.format(BOX.format("")) + "</annotation>",
            r"has xmax None. It must be a finite number",
        ),
        ("<annotation>" + OBJECT.format(BOX.format("wide")) + "</annotation>", r"has xmax 'wide'"),
        ("<annotation>" + OBJECT.format(BOX.format("nan")) + "</annotation>", r"has xmax 'nan'"),
        ("<annotation>" + OBJECT.format("<bndbox><xmin>1</xmin></bndbox>") + "</annotation>", r"has ymin None"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", r"has a document type declaration"),
        (
            '<?xml version="1.0"?><!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
            r"has a document type declaration",
        ),
    ],
)
def test_damaged_files_are_named(voc: MakeVoc, text: str, message: str) -> None:
    """The error names the file and what is missing."""
    path = voc()
    (path / "Annotations/b.xml").write_text(text)
    with pytest.raises(UserError, match=rf"(?=.*'Annotations/b.xml' of channel 'training').*{message}"):
        read(path)


def test_a_declaration_in_utf16_is_found(voc: MakeVoc) -> None:
    """Entities cannot hide behind another encoding."""
    path = voc()
    (path / "Annotations/b.xml").write_bytes("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>".encode("utf-16"))
    with pytest.raises(UserError, match="document type declaration"):
        read(path)


def test_another_root_element_is_refused(voc: MakeVoc) -> None:
    """An xml of another kind among those of VOC is named."""
    path = voc()
    (path / "Annotations/b.xml").write_text("<annotations/>")
    with pytest.raises(UserError, match=r"'Annotations/b.xml' .* has the root element <annotations>; Pascal VOC"):
        read(path)


def test_an_unreadable_file_is_named(voc: MakeVoc) -> None:
    """A link to nowhere, for example."""
    path = voc()
    (path / "Annotations/b.xml").unlink()
    (path / "Annotations/b.xml").symlink_to(path / "nowhere")
    with pytest.raises(UserError, match=r"'Annotations/b.xml' of channel 'training' cannot be read: No such file"):
        read(path)


def test_the_first_damaged_file_of_many_is_named(voc: MakeVoc) -> None:
    """Threads read them, and yet the error is always the same."""
    path = voc(stems="a")
    for index in range(300):
        text = "damaged" if index in (150, 299) else voc_xml([("cat", (1, 2, 3, 4))])
        (path / f"Annotations/{index:03d}.xml").write_text(text)
    with pytest.raises(UserError, match=r"'Annotations/150.xml'"):
        read(path)


def test_reading_stops_when_asked(voc: MakeVoc) -> None:
    """The stop request comes through."""
    with pytest.raises(StopRequested):
        read(voc(), should_stop=lambda: True)


def test_image_sets_are_the_split(voc: MakeVoc) -> None:
    """train.txt and val.txt name stems; suffixes, flags, blank lines and Windows line ends do not matter."""
    path = voc(stems="abcde")
    (path / "ImageSets/Main").mkdir(parents=True)
    (path / "ImageSets/Main/train.txt").write_text("a\r\n\r\nc.jpg\r\n")
    (path / "ImageSets/Main/val.txt").write_text("\ufeffd  1\n", encoding="utf-8")
    (path / "ImageSets/Main/test.txt").write_text("nothing\n")
    lists = read(path).lists
    assert lists is not None
    assert (lists.train.tolist(), lists.validation.tolist()) == ([0, 2], [3])
    assert lists.source == "ImageSets/Main"


def test_one_list_alone_is_no_split(voc: MakeVoc) -> None:
    """train.txt without val.txt splits nothing, and is told."""
    path = voc()
    (path / "ImageSets/Main").mkdir(parents=True)
    (path / "ImageSets/Main/train.txt").write_text("a\n")
    found = read(path)
    assert found.lists is None
    assert "has train.txt but no val.txt" in found.warnings[0]


def test_indices_json_takes_stems(voc: MakeVoc) -> None:
    """For Pascal VOC the id of an image is the name of its xml."""
    path = voc()
    (path / "indices.json").write_text('{"train": ["a", "b"], "val": ["d"]}')
    lists = read(path).lists
    assert lists is not None
    assert (lists.train.tolist(), lists.validation.tolist()) == ([0, 1], [3])


def test_two_splits_are_refused(voc: MakeVoc) -> None:
    """indices.json and ImageSets could contradict each other."""
    path = voc()
    (path / "indices.json").write_text('{"train": ["a", "b"], "val": ["d"]}')
    (path / "ImageSets/Main").mkdir(parents=True)
    for name in ("train", "val"):
        (path / f"ImageSets/Main/{name}.txt").write_text("a\n" if name == "train" else "b\n")
    with pytest.raises(UserError, match=r"has two splits, 'indices.json' and 'ImageSets/Main'. Remove one"):
        read(path)


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ("a\nzebra\n", "b\n", r"train.txt in 'ImageSets/Main' .* names 1 images .*: 'zebra'"),
        ("a\n", "\n", r"val.txt in 'ImageSets/Main' of channel 'training' is empty"),
        ("a\nb\n", "b\n", r"has 1 images in both lists"),
    ],
)
def test_damaged_image_sets_are_refused(voc: MakeVoc, train: str, val: str, message: str) -> None:
    """Unknown, repeated and no images."""
    path = voc()
    (path / "ImageSets/Main").mkdir(parents=True)
    (path / "ImageSets/Main/train.txt").write_text(train)
    (path / "ImageSets/Main/val.txt").write_text(val)
    with pytest.raises(UserError, match=message):
        read(path)
