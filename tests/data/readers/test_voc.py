import logging
from pathlib import Path

import pytest

from mlic.data import read_voc
from mlic.errors import InputError


def write(folder: Path, name: str, objects: str, file_name: str | None = None) -> None:
    """An annotation of these objects, such as "dog cat"; capital letters make one a difficult one."""
    parts = [
        f"<object><name>{label.lower()}</name><difficult>{int(label.isupper())}</difficult></object>"
        for label in objects.split()
    ]
    text = f"<annotation><filename>{file_name or f'{name}.jpg'}</filename>{''.join(parts)}</annotation>"
    (folder / f"{name}.xml").write_text(text)


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Of four images; c has no object."""
    folder = tmp_path / "Annotations"
    folder.mkdir()
    for name, objects in (("b", "dog CAT"), ("a", "PERSON"), ("c", ""), ("d", "CAT cat")):
        write(folder, name, objects)
    return folder


def test_objects_become_labels(annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    table = read_voc(annotations, tmp_path)
    assert table.classes == ("cat", "dog", "person")
    assert table.file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert table.labels.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert "of 5 objects 3 are difficult (keep)" in caplog.text
    assert "1 images have no label (keep)" in caplog.text


def test_difficult_objects_and_images_without_any_are_dropped_by_option(annotations: Path, tmp_path: Path):
    easy = read_voc(annotations, tmp_path, difficult="drop")
    assert easy.labels.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert easy.classes == ("cat", "dog", "person")
    both = read_voc(annotations, tmp_path, difficult="drop", unannotated="drop")
    assert both.file_names.tolist() == ["b.jpg", "d.jpg"]


def test_bad_labels_places_and_options_are_refused(annotations: Path, tmp_path: Path):
    cases: list[tuple[str, Path, dict]] = [
        ("data.annotations must be a folder", tmp_path / "none", {}),
        ("no XML files in this folder", tmp_path, {}),
        ("data.reader.difficult", annotations, {"difficult": "no"}),
        ("b.xml: label 'cat' is not one of the 2 classes", annotations, {"classes": ["dog", "person"]}),
    ]
    for message, folder, options in cases:
        with pytest.raises(InputError, match=message):
            read_voc(folder, tmp_path, **options)
    write(annotations, "e", "dog", file_name="a.jpg")
    with pytest.raises(InputError, match=r"e.xml: the labels of 'a.jpg' differ from those in .*a.xml"):
        read_voc(annotations, tmp_path)
    for file in annotations.glob("*.xml"):
        write(annotations, file.stem, "")
    with pytest.raises(InputError, match="no image has a label"):
        read_voc(annotations, tmp_path)
