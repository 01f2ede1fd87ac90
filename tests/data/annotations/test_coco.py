import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlic.data import curate, read_coco, read_csv
from mlic.errors import InputError


def content() -> dict[str, Any]:
    """Category ids with a gap; image 3 has a crowd region alone, image 4 nothing."""
    return {
        "images": [
            {"id": i, "file_name": f"{name}.jpg"} for i, name in [(2, "b"), (1, "a"), (3, "c"), (4, "d")]
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 90, "iscrowd": 0},
            {"image_id": 1, "category_id": 90},
            {"image_id": 2, "category_id": 1, "iscrowd": 0},
            {"image_id": 2, "category_id": 90, "iscrowd": 1},
            {"image_id": 3, "category_id": 1, "iscrowd": 1},
        ],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """A function content -> JSON file."""

    def write(value: Any) -> Path:
        file = tmp_path / "instances.json"
        file.write_text(value if isinstance(value, str) else json.dumps(value))
        return file

    return write


def test_labels_lie_at_their_image_and_class(write: Callable[..., Path], tmp_path: Path):
    table = read_coco(write(content()), tmp_path)
    assert table.classes == ("cat", "person")
    assert table.file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert table.labels.tolist() == [[1, 0], [1, 1], [0, 1], [0, 0]]


def test_crowds_and_unannotated_images_are_dropped_by_option(write: Callable[..., Path], tmp_path: Path):
    file = write(content())
    assert read_coco(file, tmp_path, crowd="drop").labels.tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert read_coco(file, tmp_path, unannotated="drop").file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    both = read_coco(file, tmp_path, crowd="drop", unannotated="drop")
    assert both.file_names.tolist() == ["a.jpg", "b.jpg"]
    assert both.classes == ("cat", "person")


def test_coco_and_csv_give_the_same_table(tiny_coco: tuple[Path, Path], tiny_csv: tuple[Path, Path]):
    coco, csv = read_coco(*tiny_coco), read_csv(*tiny_csv)
    assert coco.classes == csv.classes
    np.testing.assert_array_equal(coco.file_names, csv.file_names)
    np.testing.assert_array_equal(coco.labels, csv.labels)


def test_options_and_places_are_checked(write: Callable[..., Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"data.reader.crowd: must be one of keep, drop"):
        read_coco(write(content()), tmp_path, crowd="no")
    with pytest.raises(InputError, match=r"data.reader.unannotated: must be one of keep, drop"):
        read_coco(write(content()), tmp_path, unannotated="no")
    with pytest.raises(InputError, match=r"no such file. data.annotations must be a COCO instances JSON"):
        read_coco(tmp_path / "none.json", tmp_path)
    picture = tmp_path / "picture.json"
    picture.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match="not a JSON text file"):
        read_coco(picture, tmp_path)


def test_real_photographs_read_alike_from_both_formats(coco_data: Path):
    csv = read_csv(coco_data / "labels.csv", coco_data / "images")
    coco = read_coco(coco_data / "instances.json", coco_data / "images")
    assert csv.classes == coco.classes
    np.testing.assert_array_equal(csv.file_names, coco.file_names)
    np.testing.assert_array_equal(csv.labels, coco.labels)
    assert csv.labels.shape == (1069, 80)
    assert (~csv.labels.any(axis=1)).sum() == 3
    assert len(curate(csv, min_images_per_class=22)[0].classes) == 56


def test_original_annotations_agree_with_and_without_crowds(
    coco_data: Path, caplog: pytest.LogCaptureFixture
):
    file, images = coco_data / "instances_original.json", coco_data / "images"
    with caplog.at_level(logging.INFO):
        with_crowds = read_coco(file, images)
        without = read_coco(file, images, crowd="drop")
    assert "of 1170 annotations 14 are crowd regions" in caplog.text
    assert len(with_crowds) == len(without) == 127
    assert (without.labels <= with_crowds.labels).all()
    # the labels of the whole set were made of the same annotations
    everything = read_csv(coco_data / "labels.csv", images)
    rows = np.isin(everything.file_names, with_crowds.file_names)
    np.testing.assert_array_equal(everything.labels[rows], with_crowds.labels)
