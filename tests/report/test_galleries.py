import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.report.photographs import choose_rows, describe, map_label, photograph_data
from mlic.report.reading import ReportedRun
from mlic.report.score_tables import class_metrics
from mlic.report.thumbnails import ImageFolders, PhotographPool

SCORES = np.array([[0.9, 0.1], [0.2, 0.95], [0.6, 0.7], [0.01, 0.02]], dtype=np.float32)
ReadRun = Callable[..., ReportedRun]

TARGETS = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], dtype=np.uint8)
NAMES = ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs of the first three names."""
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate(NAMES[:3]):
        Image.new("RGB", (400, 200), (80 * number, 10, 10)).save(images / name)
    return images


@pytest.fixture
def run(folder: Path, read: ReadRun) -> ReportedRun:
    found = read("net", SCORES, TARGETS, "ab", file_names=NAMES, images=folder)
    found.thresholds = None
    return found


def test_photographs_are_chosen_by_rule_and_labels_say_what_was_wrong(run: ReportedRun):
    # 3.jpg has the lowest loss of all, but no label
    assert choose_rows(run, count=2) == {
        "lowest_loss": [0, 2],
        "highest_loss": [1, 2],
        "confident_errors": [1],
    }
    assert describe(run, 1).splitlines() == ["1.jpg", "wrong: b 0.95", "missed: a 0.20"]
    assert map_label(run, 1) == "b" and map_label(run, 3) is None
    run.thresholds = np.array([0.1, 0.96])  # the rule of mlic.predict
    assert describe(run, 1).splitlines() == ["1.jpg", "right: a 0.20"]
    assert choose_rows(run, count=2)["confident_errors"] == [2]


def test_a_predicted_label_of_unknown_truth_is_neither_right_nor_wrong(folder: Path, read: ReadRun):
    targets = np.array([[1, -1], [1, 0], [-1, 1], [-1, -1]], dtype=np.int8)
    scores = np.array([[0.9, 0.7], [0.8, 0.1], [0.4, 0.7], [0.9, 0.9]], dtype=np.float32)
    run = read("net", scores, targets, "ab", file_names=NAMES, images=folder, thresholds={"a": 0.5, "b": 0.5})
    found = choose_rows(run, count=4)
    assert found["confident_errors"] == []
    assert sorted(found["lowest_loss"]) == [0, 1, 2]  # nothing is known of the last
    assert describe(run, 0).splitlines() == ["0.jpg", "right: a 0.90", "unknown: b 0.70"]


def test_thumbnails_are_small_and_gaps_where_no_picture_of_the_folder_is(folder: Path):
    source, pool = ImageFolders([folder]), PhotographPool()
    image = source.thumbnail("1.jpg")
    assert image is not None and image.size == (192, 96)
    (folder / "text.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0")
    outside = folder.parent / "outside.jpg"
    Image.new("RGB", (8, 8)).save(outside)
    for name in ("3.jpg", "text.jpg", "../outside.jpg", str(outside)):
        assert source.thumbnail(name) is None, name
    assert source.available and not ImageFolders([Path("/nowhere")]).available
    # one copy in the page for all runs with this folder
    assert [pool.add(ImageFolders([folder]), name) for name in ("1.jpg", "3.jpg", "1.jpg")] == [0, 1, 0]
    assert str(pool.addresses[0]).startswith("data:image/webp;base64,") and pool.addresses[1] is None


def test_data_of_the_photographs_is_what_the_tables_say(run: ReportedRun):
    run.thresholds, run.common_threshold = np.array([0.1, 0.5]), 0.15
    half = class_metrics([run]).query("threshold == '0.5'")
    data = photograph_data([run], {"net": choose_rows(run, count=2)}, {"net": {1: ("data:", "b")}}, half)
    assert data["files"] == ["0.jpg", "2.jpg", "1.jpg"] and data["start"] == {"run": 0, "class": "b"}
    (own,) = data["runs"]
    assert own["photos"] == [0, 2, 1] and own["maps"] == {1: ("data:", "b")}
    scores = np.frombuffer(base64.b64decode(own["scores"]), "<u2").reshape(3, 2) / 65536
    np.testing.assert_allclose(scores, SCORES[:3], atol=2e-5)
    assert list(base64.b64decode(own["labels"])) == TARGETS[:3].ravel().tolist()
    assert own["thresholds"] == {"own": [[0.1, 0.5]], "common": [[0.15, 0.15]], "half": [[0.5, 0.5]]}
    low, half = {"tp": [3, 1], "fp": [0, 1]}, {"tp": [2, 1], "fp": [0, 1]}
    assert own["counts"] == {"own": low, "common": low, "half": half} and own["steps"][49] == half
