import json
from pathlib import Path
from typing import Any

import pytest

from mlic.data import read_labelstudio
from mlic.errors import InputError


def task(image: str, *labels: list[Any], kind: str = "choices", **more: Any) -> dict[str, Any]:
    """A task with an annotation for each list of labels."""
    results = [
        {"from_name": "objects", "to_name": "image", "type": kind, "value": {kind: names, "x": 1.5}}
        for names in labels
    ]
    annotations = [{"result": [result], "was_cancelled": False, "completed_by": 1} for result in results]
    return {"id": 1, "annotations": annotations, "data": {"image": image, "note": "text"}, **more}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """The file of the export, beside images in the folder `photos`."""
    for name in ("0a1b2c3d-a.jpg", "b.jpg", "sub/c.jpg", "d.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    return tmp_path / "project.json"


def read(export: Path, content: Any, **options: Any) -> dict[str, set[str]]:
    export.write_text(json.dumps(content))
    table = read_labelstudio(export, export.parent / "photos", **options)
    return {
        name: {label for label, bit in zip(table.classes, row, strict=True) if bit}
        for name, row in zip(table.file_names, table.labels, strict=True)
    }


def test_choices_boxes_and_masks_at_all_kinds_of_names(export: Path):
    tasks = [
        task("/data/upload/1/0a1b2c3d-a.jpg", ["cat", "dog"]),
        task("/data/upload/1/00000000-b.jpg", ["cat"], kind="brushlabels"),
        task("/data/local-files/?d=set/sub%5Cc.jpg", ["dog"], kind="rectanglelabels"),
        task("s3://bucket/set/d.jpg?signature=x", []),
    ]
    wanted = {"0a1b2c3d-a.jpg": {"cat", "dog"}, "b.jpg": {"cat"}, "sub/c.jpg": {"dog"}, "d.jpg": set()}
    assert read(export, tasks) == wanted
    older = [{**entry, "completions": entry.pop("annotations")} for entry in tasks]
    assert read(export, older, controls=["objects"]) == wanted
    with pytest.raises(InputError, match="no image has a label"):
        read(export, tasks, controls=["other"])


def test_tasks_that_nobody_finished_are_left_out(export: Path):
    cancelled = task("d.jpg", ["dog"])
    cancelled["annotations"][0]["was_cancelled"] = True
    predicted = task("sub/c.jpg", predictions=[{"result": []}])
    assert read(export, [task("b.jpg", ["cat"]), cancelled, predicted]) == {"b.jpg": {"cat"}}


def test_annotators_who_differ(export: Path):
    tasks = [task("b.jpg", ["cat"], ["dog"]), task("d.jpg", ["cat"], ["cat"])]
    with pytest.raises(InputError, match=r"annotations of 'b.jpg' differ"):
        read(export, tasks)
    assert read(export, tasks, annotators="union") == {"b.jpg": {"cat", "dog"}, "d.jpg": {"cat"}}


def test_json_min(export: Path):
    rows = [
        {"image": "/data/upload/1/b.jpg", "id": 1, "choice": {"choices": ["cat", "dog"]}, "annotator": 1},
        {"image": "/data/upload/1/d.jpg", "id": 2, "choice": "cat", "created_at": "2024-01-01T00:00:00Z"},
        {
            "image": "c.jpg",
            "id": 3,
            "box": [{"rectanglelabels": ["bird"], "x": 1}, {"rectanglelabels": ["cat"]}],
        },
    ]
    wanted = {"b.jpg": {"cat", "dog"}, "d.jpg": {"cat"}, "c.jpg": {"bird", "cat"}}
    assert read(export, rows) == wanted
    rows[0]["weather"] = "sunny"
    with pytest.raises(InputError, match=r"the texts under weather may be choices.*controls=\[choice\]"):
        read(export, rows)
    assert read(export, rows, controls=["choice", "box"]) == wanted
    assert read(export, rows, controls=["weather", "choice"])["b.jpg"] == {"cat", "dog", "sunny"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "Expected a JSON or JSON-MIN export"),
        ([3], "Expected a JSON or JSON-MIN export"),
        ([task("b.jpg", ["cat"], annotations=[{"result": {}}])], r"'result' is not a list"),
        ([task("b.jpg", [3])], "the class 3 is not a text"),
        ([task("/data/local-files/?d=../../etc/a.jpg", ["cat"])], "leaves the image folder"),
        ([task("http://[/a.jpg", ["cat"])], "no key names an image file"),
        ([task("s3://one/b.jpg", ["cat"]), task("s3://two/b.jpg", ["dog"])], "would both be 'b.jpg'"),
    ],
)
def test_exports_that_cannot_be_used(content: Any, message: str, export: Path):
    with pytest.raises(InputError, match=message) as refusal:
        read(export, content)
    assert len(str(refusal.value)) < 1000


def test_other_image_keys_and_taxonomies(export: Path):
    tasks = [task("b.jpg", ["cat"], data={"one": "b.jpg", "two": "d.jpg"})]
    tasks[0]["annotations"][0]["result"].append({"type": "taxonomy", "value": {"taxonomy": [["pet", "dog"]]}})
    assert read(export, tasks, image_key="two") == {"d.jpg": {"cat", "dog"}}
