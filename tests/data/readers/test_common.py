"""Several annotation files and image folders."""

import os
from pathlib import Path

import numpy as np
import pytest

from mlic.data import LabelTable
from mlic.data.bad_images import explain_missing, leave_out
from mlic.data.readers.common import safe_file_names
from mlic.data.readers.folders import (
    annotation_files,
    image_folders,
    locate_images,
    parts_of_files,
    subfolder_of,
)
from mlic.errors import InputError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """`images_1/images/a.jpg`, `images_2/images/b.jpg` and `images_2/images/inner/c.jpg`."""
    for name in ("images_1/images/a.jpg", "images_2/images/b.jpg", "images_2/images/inner/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_names_are_searched_in_all_folders(photos: Path):
    folders = image_folders(str(photos / "images_*" / "images"))
    assert folders == image_folders([photos / "images_1/images", photos / "images_2/images"])
    names = ["a.jpg", "b.jpg", "inner/c.jpg", "missing.jpg"]
    folder, references = locate_images(folders, names)
    table = LabelTable.build(folder, names, np.ones((4, 1)), ["cat"], references=references)
    assert table.image_dir == photos and table.folders == tuple(folders)
    assert list(table.file_names) == names
    found = [os.path.relpath(str(path), photos).split("/images/") for path in table.paths()]
    assert found == [
        ["images_1", names[0]],
        ["images_2", names[1]],
        ["images_2", names[2]],
        ["images_1", names[3]],
    ]
    assert locate_images(folders[:1], names) == (folders[0], None)
    bad = {table.paths()[3]: "no such file"}
    with pytest.raises(InputError, match=r"images_1/images/missing.jpg: no such file"):
        leave_out(bad, table, "error")
    assert "Set data.reader.extension=.jpg." in str(explain_missing(folders, ["a", "b"]))


def test_a_name_in_two_folders_is_refused(photos: Path):
    (photos / "images_2/images/a.jpg").touch()
    folders = image_folders(str(photos / "images_*/images"))
    with pytest.raises(
        InputError,
        match=r"'a.jpg' is in .*images_1.images' and in .*images_2",
    ):
        locate_images(folders, ["a.jpg", "b.jpg"])
    assert locate_images(folders, ["b.jpg"])[1], "only annotated names count"


def test_a_path_that_exists_is_not_a_pattern(tmp_path: Path):
    for name in ("a[1]", "a1"):
        (tmp_path / name).mkdir()
    assert image_folders(tmp_path / "a[1]") == [tmp_path / "a[1]"]
    for paths in ([], [str(tmp_path / "b*")], str(tmp_path / "nowhere")):
        with pytest.raises(InputError, match=r"no such folder"):
            image_folders(paths)
        with pytest.raises(InputError, match=r"no such file"):
            annotation_files(paths)


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (["instances_train2017.json", "instances_val2017.json"], ["train", "val"]),
        (["train/_classes.csv", "valid/_classes.csv", "test/_classes.csv"], ["train", "val", "test"]),
        (["validation-labels.csv", "train-labels.csv"], ["val", "train"]),
        (["train_a.csv", "train_b.csv"], ["", ""]),
        (["train.csv", "more.csv"], ["", ""]),
        (["trainval.csv", "train_val.csv"], ["", ""]),
    ],
)
def test_parts_of_files(files: list[str], parts: list[str]):
    assert parts_of_files([Path(file) for file in files]) == parts


def test_names_relative_to_a_folder_of_the_part(photos: Path):
    folder, file = [photos / "images_2"], photos / "annotations" / "instances_images.json"
    assert subfolder_of(file, folder, ["b.jpg", "missing.jpg"]) == "images/"
    assert subfolder_of(photos / "images_2/images/_classes.csv", folder, ["b.jpg"]) == "images/"
    assert subfolder_of(file, folder, ["images/b.jpg"]) == ""
    assert subfolder_of(photos / "x_...json", [photos / "images_1"], ["images_2/images/b.jpg"]) == "", (
        "not '..'"
    )
    assert subfolder_of(file, folder, ["n" * 300]) == ""
    (photos / "images_2/b.jpg").touch()
    with pytest.raises(InputError, match="are in both"):
        subfolder_of(file, folder, ["b.jpg"])


def test_an_extension_is_appended_or_replaces_that_of_an_image():
    names = safe_file_names(["a", "b.png", "c.2", "d/./e.JPG"], str, ".jpg")
    assert names == ["a.jpg", "b.jpg", "c.2.jpg", "d/e.jpg"]
