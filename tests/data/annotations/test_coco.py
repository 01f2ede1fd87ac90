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


def test_counts_are_logged(write: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        read_coco(write(content()), tmp_path, crowd="drop", unannotated="drop")
    assert (
        "2 images kept, 2 classes; of 5 annotations 2 are crowd regions (drop); 2 images have none (drop)"
        in caplog.text
    )


def test_coco_and_csv_give_the_same_table(tiny_coco: tuple[Path, Path], tiny_csv: tuple[Path, Path]):
    coco, csv = read_coco(*tiny_coco), read_csv(*tiny_csv)
    assert coco.classes == csv.classes
    np.testing.assert_array_equal(coco.file_names, csv.file_names)
    np.testing.assert_array_equal(coco.labels, csv.labels)


def test_ids_may_be_strings_and_an_entry_may_be_repeated(write: Callable[..., Path], tmp_path: Path):
    value = content()
    for image in value["images"]:
        image["id"] = f"i{image['id']}"
    for annotation in value["annotations"]:
        annotation["image_id"] = f"i{annotation['image_id']}"
    value["images"].append(dict(value["images"][0]))
    assert read_coco(write(value), tmp_path).labels.tolist() == [[1, 0], [1, 1], [0, 1], [0, 0]]


def test_a_file_without_annotations_reads(write: Callable[..., Path], tmp_path: Path):
    table = read_coco(write({**content(), "annotations": []}), tmp_path)
    assert table.labels.shape == (4, 2)
    assert not table.labels.any()


def with_entry(section: str, entry: Any) -> dict[str, Any]:
    value = content()
    value[section].append(entry)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"images": [\n{"id": 1,', "line 2, column 10: not valid JSON"),
        ([1], "no list 'images'"),
        ({"images": [], "annotations": []}, "no list 'categories'"),
        ({**content(), "images": []}, "'images' is empty"),
        (with_entry("annotations", 7), r"annotations\[5\]: expected an object"),
        (
            with_entry("annotations", {"image_id": 1, "category_id": 12}),
            r"annotations\[5\]: category_id 12 is not in",
        ),
        (
            with_entry("annotations", {"image_id": 77, "category_id": 1}),
            r"annotations\[5\]: image_id 77 is not in",
        ),
        (
            with_entry("annotations", {"image_id": "1", "category_id": 1}),
            r"annotations\[5\]: image_id '1' is not in",
        ),
        (
            with_entry("annotations", {"category_id": 1}),
            r"annotations\[5\]: 'image_id' is None, expected a number",
        ),
        (
            with_entry("annotations", {"image_id": [1], "category_id": 1}),
            r"annotations\[5\]: 'image_id' is \[1\]",
        ),
        (with_entry("images", {"id": 9}), r"images\[4\]: 'file_name' is None, expected a string"),
        (with_entry("images", {"id": 9, "file_name": 3}), r"images\[4\]: the image's file name is 3"),
        (
            with_entry("images", {"id": 9, "file_name": "../x.jpg"}),
            r"images\[4\]: '../x.jpg' leaves the image folder",
        ),
        (
            with_entry("images", {"id": 1, "file_name": "x.jpg"}),
            r"images\[4\]: id 1 was given to 'a.jpg' before",
        ),
        (
            with_entry("images", {"id": 9, "file_name": "a.jpg"}),
            "image id 9: 'a.jpg' is listed with other labels",
        ),
        (with_entry("categories", {"id": 90, "name": "dog"}), r"categories\[2\]: id 90 is there twice"),
        (with_entry("categories", {"id": 91, "name": "cat"}), r"categories\[2\]: name 'cat' is there twice"),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(
    write: Callable[..., Path], tmp_path: Path, value: Any, message: str
):
    with pytest.raises(InputError, match=message) as refusal:
        read_coco(write(value), tmp_path)
    assert "instances.json" in str(refusal.value)


def test_options_and_places_are_checked(write: Callable[..., Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"data.reader.crowd: 'no' is none of keep, drop"):
        read_coco(write(content()), tmp_path, crowd="no")
    with pytest.raises(InputError, match=r"data.reader.unannotated: 'no' is none of keep, drop"):
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
