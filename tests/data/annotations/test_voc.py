import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlic.data import read_voc
from mlic.errors import InputError


def write(folder: Path, name: str, objects: Sequence[tuple[str, int]], file_name: str | None = None) -> Path:
    parts = [f"<object><name>{label}</name><difficult>{hard}</difficult></object>" for label, hard in objects]
    file = folder / f"{name}.xml"
    filename = file_name if file_name is not None else f"{name}.jpg"
    file.write_text(f"<annotation><filename>{filename}</filename>{''.join(parts)}</annotation>")
    return file


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """b: a dog and a difficult cat; a: a difficult person; c: nothing; d: a difficult cat and another."""
    folder = tmp_path / "Annotations"
    folder.mkdir()
    write(folder, "b", [("dog", 0), ("cat", 1)])
    write(folder, "a", [("person", 1)])
    write(folder, "c", [])
    write(folder, "d", [("cat", 1), ("cat", 0)])
    return folder


def test_objects_become_labels(annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        table = read_voc(annotations, tmp_path)
    assert table.classes == ("cat", "dog", "person")
    assert table.file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert table.labels.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert (
        "4 images kept, 3 classes; of 5 objects 3 are difficult (keep); 1 images have none (keep)"
        in caplog.text
    )


def test_difficult_objects_and_images_without_any_are_dropped_by_option(annotations: Path, tmp_path: Path):
    easy = read_voc(annotations, tmp_path, difficult="drop")
    assert easy.labels.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert easy.classes == ("cat", "dog", "person")
    both = read_voc(annotations, tmp_path, difficult="drop", unannotated="drop")
    assert both.file_names.tolist() == ["b.jpg", "d.jpg"]


def test_malformed_files_are_refused_by_name(annotations: Path, tmp_path: Path):
    file = annotations / "b.xml"
    file.write_text("<annotation>\n<filename>b.jpg</filename>")
    with pytest.raises(InputError, match=r"b.xml, line 2, column \d+: not valid XML"):
        read_voc(annotations, tmp_path)
    file.write_text("<annotation></annotation>")
    with pytest.raises(InputError, match=r"b.xml: expected <annotation> with a <filename>"):
        read_voc(annotations, tmp_path)
    file.write_text("<annotation><filename>b.jpg</filename><object/></annotation>")
    with pytest.raises(InputError, match=r"b.xml: object 1 has no <name>"):
        read_voc(annotations, tmp_path)


def test_bad_labels_and_names_are_refused(annotations: Path, tmp_path: Path):
    message = r"b.xml: label 'cat' is not one of the 2 classes: dog, person.*data.reader.classes"
    with pytest.raises(InputError, match=message):
        read_voc(annotations, tmp_path, classes=["dog", "person"])
    write(annotations, "e", [("dog", 0)], file_name="a.jpg")
    with pytest.raises(InputError, match=r"e.xml: 'a.jpg' is listed with other labels than in .*a.xml"):
        read_voc(annotations, tmp_path)
    write(annotations, "e", [("dog", 0)], file_name="../e.jpg")
    with pytest.raises(InputError, match=r"e.xml: '../e.jpg' leaves the image folder"):
        read_voc(annotations, tmp_path)


def test_places_and_options_are_checked(annotations: Path, tmp_path: Path):
    with pytest.raises(
        InputError, match=r"none: no such folder. data.annotations must be a folder of VOC XML"
    ):
        read_voc(tmp_path / "none", tmp_path)
    with pytest.raises(InputError, match="no XML file in this folder"):
        read_voc(tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"data.reader.difficult: must be one of keep, drop"):
        read_voc(annotations, tmp_path, difficult="no")
    for file in annotations.glob("*.xml"):
        write(annotations, file.stem, [])
    with pytest.raises(InputError, match="no image has an object"):
        read_voc(annotations, tmp_path)
