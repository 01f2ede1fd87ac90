import json
import logging
from pathlib import Path

import numpy as np
import pytest

from mlic.data import LabelTable, curate, read_coco, read_csv
from mlic.errors import InputError


def assert_equal(one: LabelTable, other: LabelTable) -> None:
    assert one.classes == other.classes
    np.testing.assert_array_equal(one.file_names, other.file_names)
    np.testing.assert_array_equal(one.labels, other.labels)


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    """Category ids with a gap; image 3 has a crowd region alone, image 4 nothing."""
    annotations = [
        (1, 90, {"iscrowd": 0}),
        (1, 90, {}),
        (2, 1, {}),
        (2, 90, {"iscrowd": 1}),
        (3, 1, {"iscrowd": 1}),
    ]
    content = {
        "images": [{"id": i, "file_name": f"{name}.jpg"} for i, name in [(2, "b"), (1, "a"), (3, "c"), (4, "d")]],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "cat"}],
        "annotations": [{"image_id": i, "category_id": c, **crowd} for i, c, crowd in annotations],
    }  # fmt: skip
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    return file


def test_labels_lie_at_their_image_and_class(instances: Path, tmp_path: Path):
    table = read_coco(instances, tmp_path)
    assert table.classes == ("cat", "person")
    assert table.file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert table.labels.tolist() == [[1, 0], [1, 1], [0, 1], [0, 0]]


def test_crowds_and_unannotated_images_are_dropped_by_option(instances: Path, tmp_path: Path):
    table = read_coco(instances, tmp_path, crowd="drop")
    assert table.labels.tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    table = read_coco(instances, tmp_path, unannotated="drop")
    assert table.file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    both = read_coco(instances, tmp_path, crowd="drop", unannotated="drop")
    assert both.file_names.tolist() == ["a.jpg", "b.jpg"]
    assert both.classes == ("cat", "person")


def test_coco_and_csv_give_the_same_table(tiny_coco: tuple[Path, Path], tiny_csv: tuple[Path, Path]):
    assert_equal(read_coco(*tiny_coco), read_csv(*tiny_csv))


def test_real_photographs_read_alike_from_both_formats(coco_data: Path, caplog: pytest.LogCaptureFixture):
    images = coco_data / "images"
    csv = read_csv(coco_data / "labels.csv", images)
    assert_equal(csv, read_coco(coco_data / "instances.json", images))
    assert csv.labels.shape == (1069, 80)
    assert (~csv.labels.any(axis=1)).sum() == 3
    assert len(curate(csv, min_images_per_class=22)[0].classes) == 56
    # the labels of the whole set were made of these annotations
    caplog.set_level(logging.INFO)
    original = read_coco(coco_data / "instances_original.json", images)
    without = read_coco(coco_data / "instances_original.json", images, crowd="drop")
    assert "of 1170 annotations 14 are crowd regions" in caplog.text
    assert len(original) == len(without) == 127 and (without.labels <= original.labels).all()
    rows = np.isin(csv.file_names, original.file_names)
    np.testing.assert_array_equal(csv.labels[rows], original.labels)


def write_instances(file: Path, rows: dict[str, str], classes: dict[int, str]) -> None:
    """Annotate each file name with one category."""
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(rows)],
        "categories": [{"id": number, "name": name} for number, name in classes.items()],
        "annotations": [
            {"image_id": number, "category_id": next(key for key, name in classes.items() if name == label)}
            for number, label in enumerate(rows.values())
        ],
    }
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


def test_several_files_give_parts_and_unite_categories_by_name(tmp_path: Path):
    train, val = (tmp_path / "annotations" / f"instances_{name}.json" for name in ("train2017", "val2017"))
    write_instances(train, {"a.jpg": "cat", "b.jpg": "dog"}, {1: "cat", 2: "dog"})
    write_instances(val, {"a.jpg": "dog"}, {1: "dog", 2: "bird"})
    with pytest.raises(InputError, match=r"val2017.json, 'a.jpg': the labels of 'a.jpg' differ"):
        read_coco([train, val], tmp_path)
    for name in ("train2017", "val2017"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    table = read_coco(str(tmp_path / "annotations" / "*.json"), tmp_path)
    assert table.classes == ("bird", "cat", "dog")
    assert table.file_names.tolist() == ["train2017/a.jpg", "train2017/b.jpg", "val2017/a.jpg"]
    assert table.labels.tolist() == [[-1, 1, 0], [-1, 0, 1], [0, -1, 1]], (
        "what a file does not list is unknown"
    )
    assert table.parts is not None and table.parts.tolist() == ["train", "train", "test"]
    write_instances(val, {}, {1: "dog"})
    with pytest.raises(InputError, match=r"val2017.json, images: the list is empty"):
        read_coco([train, val], tmp_path)
    write_instances(val, {"c.jpg": "dog"}, {1: "dog"})
    with pytest.raises(InputError, match=r"'a.jpg' is in .*train2017"):
        read_coco([train, val], [tmp_path / "train2017", tmp_path / "val2017"])


def test_folders_in_the_names_give_parts(tmp_path: Path):
    names = {"train2017/a.jpg": "cat", "valid/a.jpg": "cat", "test/a.jpg": "cat"}
    write_instances(tmp_path / "all.json", names, {1: "cat"})
    table = read_coco(tmp_path / "all.json", tmp_path)
    assert table.parts is not None and table.parts.tolist() == ["test", "train", "val"]
    write_instances(tmp_path / "all.json", {**names, "a.jpg": "cat"}, {1: "cat"})
    assert read_coco(tmp_path / "all.json", tmp_path).parts is None
