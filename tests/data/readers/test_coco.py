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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crowd": "no"}, "data.reader.crowd"),
        ({"unannotated": "no"}, "data.reader.unannotated"),
        ({"annotations": "none.json"}, "data.annotations must be a COCO instances JSON"),
    ],
)
def test_options_and_places_are_checked(options: dict, message: str, instances: Path, tmp_path: Path):
    annotations = tmp_path / options.pop("annotations", instances)
    with pytest.raises(InputError, match=message):
        read_coco(annotations, tmp_path, **options)


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
