"""Predicted labels are read back by mlic's readers and by exiftool, and never as annotations by default."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mlic.data import read_fiftyone, read_labelstudio
from mlic.data.table import LabelTable
from mlic.errors import InputError
from mlic.inference.prelabels import PreLabels

NAMES = ("a.jpg", "sub/b & c.jpg", "d.jpg", "broken.jpg")
CLASSES = ("cat", "<dog> & co", "bird")
SCORES = np.array([[0.9, 0.8, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.1], [np.nan] * 3])
EXPECTED = {"a.jpg": {"cat", CLASSES[1]}, "sub/b & c.jpg": {CLASSES[1]}, "d.jpg": set()}


def write(kind: str, folder: Path) -> Path:
    for name in NAMES:
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(b"photograph")
    labels = PreLabels(kind, folder / "out", NAMES)
    labels.append(NAMES[:3], SCORES[:3], np.full(3, 0.5), CLASSES)
    labels.append(NAMES[3:], SCORES[3:], np.full(3, 0.5), CLASSES)
    return labels.write()


def labels_of(table: LabelTable) -> dict[str, set[str]]:
    rows = zip(table.file_names, table.positives, strict=True)
    return {name: {table.classes[column] for column in np.flatnonzero(row)} for name, row in rows}


@pytest.mark.parametrize(
    ("kind", "reader", "refusal"),
    [
        ("labelstudio", read_labelstudio, "no image has a label"),
        ("fiftyone", read_fiftyone, "are predictions of a model.*data.reader.predictions=true"),
    ],
)
def test_they_are_read_back_only_where_asked(kind: str, reader, refusal: str, tmp_path: Path):
    file = write(kind, tmp_path)
    assert labels_of(reader(file, tmp_path / "photos", predictions=True)) == EXPECTED
    with pytest.raises(InputError, match=refusal):
        reader(file, tmp_path / "photos")
    assert write(kind, tmp_path) == file, "its own file is replaced"
    file.write_text('{"mine": 1}')
    with pytest.raises(InputError, match=r"was not written by mlic\.predict"):
        write(kind, tmp_path)


def test_fiftyone_annotations_in_all_forms(tmp_path: Path):
    write("fiftyone", tmp_path)
    file = tmp_path / "labels.json"
    labels = {"a": [0, "bird"], "sub/b & c": {"label": "cat"}, "d": None}
    file.write_text(json.dumps({"classes": ["cat"], "labels": labels}))
    found = labels_of(read_fiftyone(file, tmp_path / "photos"))
    assert found == {"a.jpg": {"cat", "bird"}, "sub/b & c.jpg": {"cat"}, "d.jpg": set()}
    for wrong, message in (
        ({"a": 3}, "class names or numbers"),
        ({"../a": "cat"}, "0 images in data.images have this name"),
        ([1], "labels.json of FiftyOne"),
    ):
        file.write_text(json.dumps({"classes": ["cat"], "labels": wrong}))
        with pytest.raises(InputError, match=message):
            read_fiftyone(file, tmp_path / "photos")


def test_sidecars_are_read_by_exiftool(tmp_path: Path):
    folder = write("xmp", tmp_path)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.xmp"))
    assert files == ["a.jpg.xmp", "d.jpg.xmp", "sub/b & c.jpg.xmp"]
    assert all((tmp_path / "photos" / name).read_bytes() == b"photograph" for name in NAMES)
    with pytest.raises(InputError, match="is not a name inside"):
        PreLabels("xmp", tmp_path, ["../a.jpg"])
    exiftool = shutil.which("exiftool")
    if exiftool is None:
        pytest.skip("no exiftool")
    command = [exiftool, "-json", "-Subject", folder / "a.jpg.xmp", folder / "d.jpg.xmp"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found[0]["Subject"] == ["cat", CLASSES[1]] and not found[1].get("Subject")
