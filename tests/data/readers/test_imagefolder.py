import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlic.data import LabelTable, read_imagefolder
from mlic.errors import InputError

ROWS: list[Any] = [
    {"file_name": "b.jpg", "labels": ["cat", "dog"], "camera": "x"},
    {"file_name": "sub/a.jpg", "labels": [], "camera": None},
]


def write(file: Path, rows: list[Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def labels_of(table: LabelTable) -> dict[str, set[str]]:
    return {
        name: {label for label, bit in zip(table.classes, row, strict=True) if bit}
        for name, row in zip(table.file_names, table.labels, strict=True)
    }


def test_metadata_of_one_folder(tmp_path: Path):
    write(tmp_path / "metadata.jsonl", ROWS)
    table = read_imagefolder(tmp_path)
    assert labels_of(table) == {"b.jpg": {"cat", "dog"}, "sub/a.jpg": set()} and table.parts is None
    assert table.columns["camera"].tolist() == ["x", ""]


def test_metadata_of_parts(tmp_path: Path):
    for part, label in (("train", "cat"), ("validation", "dog"), ("test", "cat")):
        write(tmp_path / part / "metadata.jsonl", [{"file_name": "a.jpg", "tags": label}])
        (tmp_path / part / "a.jpg").touch()
    table = read_imagefolder(tmp_path)
    assert labels_of(table) == {"test/a.jpg": {"cat"}, "train/a.jpg": {"cat"}, "validation/a.jpg": {"dog"}}
    assert table.parts is not None and table.parts.tolist() == ["test", "train", "val"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders: cat/1.jpg is linked to dog/9.jpg and copied to pet/1.jpg; dog/1.jpg is another image."""
    folder = tmp_path / "photos"
    for name in ("cat/1.jpg", "dog/1.jpg", "dog/2.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "pet").mkdir()
    (folder / "dog" / "9.jpg").symlink_to("../cat/1.jpg")
    shutil.copy(folder / "cat/1.jpg", folder / "pet/1.jpg")
    os.link(folder / "dog/2.jpg", folder / "pet/2.jpg")
    (folder / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "dog" / "notes.txt").touch()
    return folder


def test_links_and_copies_have_several_classes(photos: Path):
    wanted = {
        "cat/1.jpg": {"cat", "dog", "pet"}, "dog/1.jpg": {"dog"}, "dog/2.jpg": {"dog", "pet"}, "dog/gone.jpg": {"dog"},
    }  # fmt: skip
    assert labels_of(read_imagefolder(photos)) == wanted
    by_name = labels_of(read_imagefolder(photos, same_image="name"))
    assert by_name["cat/1.jpg"] == {"cat", "dog", "pet"} and by_name["dog/9.jpg"] == {"dog"}


def test_class_folders_of_parts(photos: Path, tmp_path: Path):
    shutil.copytree(photos, tmp_path / "all" / "train", symlinks=True)
    (tmp_path / "all" / "notes").mkdir()
    (tmp_path / "all" / "notes" / "1.jpg").touch()
    with pytest.raises(InputError, match=r"found notes/1.jpg. Expected metadata"):
        read_imagefolder(tmp_path / "all")
    shutil.rmtree(tmp_path / "all" / "notes")
    assert read_imagefolder(tmp_path / "all").parts is None, "one part alone is none"
    shutil.copytree(photos / "cat", tmp_path / "all" / "valid" / "cat")
    table = read_imagefolder(tmp_path / "all")
    assert labels_of(table)["train/cat/1.jpg"] == {"cat", "dog", "pet"}
    assert labels_of(table)["valid/cat/1.jpg"] == {"cat"}, "each part has its own rows"
    assert table.parts is not None and set(table.parts) == {"train", "val"}


def test_folders_without_classes(photos: Path):
    for folder in (photos / "cat", photos / "none"):
        folder.mkdir(exist_ok=True)
        with pytest.raises(
            InputError, match=r"found 1.jpg. Expected metadata|found no images. Expected metadata"
        ):
            read_imagefolder(folder)
    for name in ("cat", "dog", "pet", "none"):
        shutil.rmtree(photos / name)
    (photos / "train").mkdir()
    (photos / "train" / "a.jpg").touch()
    with pytest.raises(InputError, match=r"found train/a.jpg. Expected metadata"):
        read_imagefolder(photos)
