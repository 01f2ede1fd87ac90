import logging
from pathlib import Path

import pytest

from mlic.data import read_openimages
from mlic.errors import InputError

HUMAN = """ImageID,Source,LabelName,Confidence
b,verification,/m/cat,1
a,verification,/m/cat,0
a,crowdsource-verification,/m/dog,1
b,verification,/m/dog,1
b,crowdsource-verification,/m/dog,0
"""


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Human labels of the images a and b, with class names beside them."""
    (tmp_path / "class-descriptions.csv").write_text("/m/cat,Cat\n/m/dog,Dog\n/m/car,Car\n")
    file = tmp_path / "train-annotations-human-imagelabels.csv"
    file.write_text(HUMAN)
    return file


def test_what_nobody_looked_at_is_unknown(
    annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    table = read_openimages(annotations, tmp_path)
    assert table.classes == ("Cat", "Dog") and table.file_names.tolist() == ["a.jpg", "b.jpg"]
    assert table.labels.tolist() == [[0, 1], [1, -1]] and table.parts is None
    assert "1 labels are unknown, because the annotations contradict each other" in caplog.text
    only = read_openimages(annotations, tmp_path, classes=["Dog"], extension=".png")
    assert only.file_names.tolist() == ["a.png", "b.png"] and only.labels.tolist() == [[1], [-1]]


def test_machine_labels_have_a_threshold_and_give_way(annotations: Path, tmp_path: Path):
    machine = tmp_path / "train-annotations-machine-imagelabels.csv"
    lines = ["a,machine,/m/cat,0.9", "a,machine,/m/car,0.8", "b,machine,/m/car,0.6", "c,machine,/m/car,0.7"]
    machine.write_text("\n".join(["ImageID,Source,LabelName,Confidence", *lines]))
    both = [annotations, machine]
    with pytest.raises(InputError, match=r"data.reader.confidence=0.5"):
        read_openimages(both, tmp_path)
    table = read_openimages(both, tmp_path, confidence=0.7)
    assert table.classes == ("Car", "Cat", "Dog")
    assert table.labels.tolist() == [[1, 0, 1], [-1, 1, -1], [1, -1, -1]]


def test_files_of_parts_and_their_folders(annotations: Path, tmp_path: Path):
    validation = tmp_path / "validation-annotations-bbox.csv"
    validation.write_text("ImageID,Source,LabelName,Confidence,XMin\na,xclick,/m/cat,1,0.5\n")
    with pytest.raises(InputError, match=r"'a.jpg' is in two parts"):
        read_openimages([annotations, validation], tmp_path)
    for part in ("train", "validation"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.jpg").touch()
    table = read_openimages([annotations, validation], tmp_path)
    assert table.file_names.tolist() == ["train/a.jpg", "train/b.jpg", "validation/a.jpg"]
    assert table.parts is not None and table.parts.tolist() == ["train", "train", "val"]
    assert table.labels.tolist() == [[0, 1], [1, -1], [1, -1]]


def test_class_names(annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    descriptions = tmp_path / "class-descriptions.csv"
    descriptions.write_text("/m/cat,Pet\n/m/dog,pet\n")
    assert read_openimages(annotations, tmp_path).classes == ("Pet (/m/cat)", "pet (/m/dog)")
    other = tmp_path / "names.csv"
    other.write_text("LabelName,DisplayName\n/m/cat,Cat\n/m/dog,Dog\n")
    assert read_openimages(annotations, tmp_path, class_descriptions=other).classes == ("Cat", "Dog")
    other.write_text("/m/cat,Cat\n")
    with pytest.raises(InputError, match=r"no name for 1 of 2 labels, such as /m/dog"):
        read_openimages(annotations, tmp_path, class_descriptions=other)
    for file in tmp_path.glob("*descriptions.csv"):
        file.unlink()
    caplog.set_level(logging.WARNING)
    assert read_openimages(annotations, tmp_path).classes == ("/m/cat", "/m/dog")
    assert "classes keep their ids" in caplog.text
