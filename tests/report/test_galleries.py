import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.report.error_lists import confusion_table, error_browser, error_table
from mlic.report.galleries import build_galleries
from mlic.report.gallery_figures import label_lines
from mlic.report.reading import ReportedRun, read_run
from mlic.report.thumbnails import Thumbnails

SCORES = np.array([[0.9, 0.1], [0.2, 0.95], [0.6, 0.7], [0.01, 0.02]], dtype=np.float32)
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
def run(tmp_path: Path, folder: Path, write_run: Callable[..., Path]) -> ReportedRun:
    found = read_run(write_run(tmp_path / "run", SCORES, TARGETS, "ab", file_names=NAMES, images=folder))
    found.name = "net"
    return found


def opened(content: bytes | None) -> Image.Image:
    assert content is not None
    return Image.open(io.BytesIO(content))


def test_photographs_are_chosen_by_rule_and_labels_say_what_was_wrong(run: ReportedRun):
    found = {item.key: item.photographs for item in build_galleries(run, Thumbnails([], 64), count=2)}
    # 3.jpg has the lowest loss of all, but no label
    assert [item.file_name for item in found["lowest_loss"]] == ["0.jpg", "2.jpg"]
    assert [item.file_name for item in found["highest_loss"]] == ["1.jpg", "2.jpg"]
    assert [item.file_name for item in found["confident_errors"]] == ["1.jpg"]
    worst = found["highest_loss"][0]
    assert worst.loss == pytest.approx(-(np.log(0.2) + np.log(0.05)) / 2, abs=1e-5)
    assert [(label.name, label.good) for label in (*worst.true, *worst.predicted)] == [
        ("a", False),
        ("b", False),
    ]
    assert [words for _, words in label_lines(worst)] == ["wrong: b 0.95", "missed: a 0.20"]


def test_a_predicted_label_of_unknown_truth_is_neither_right_nor_wrong(
    tmp_path: Path, folder: Path, write_run: Callable[..., Path]
):
    targets = np.array([[1, -1], [1, 0], [-1, 1], [-1, -1]], dtype=np.int8)
    scores = np.array([[0.9, 0.7], [0.8, 0.1], [0.4, 0.7], [0.9, 0.9]], dtype=np.float32)
    run = read_run(write_run(tmp_path / "run", scores, targets, "ab", file_names=NAMES, images=folder))
    found = {item.key: item.photographs for item in build_galleries(run, Thumbnails([], 64), count=4)}
    assert found["confident_errors"] == []
    best = {item.file_name: item for item in found["lowest_loss"]}
    assert sorted(best) == NAMES[:3]  # nothing is known of the last
    assert [words for _, words in label_lines(best["0.jpg"])] == ["found: a 0.90", "unknown: b 0.70"]
    assert best["0.jpg"].loss == pytest.approx(-np.log(0.9))


def test_thumbnails_are_small_and_gaps_where_no_picture_of_the_folder_is(folder: Path):
    small = Thumbnails([folder], 64)
    address = small.data_uri("1.jpg")
    assert address is not None and address.startswith("data:image/jpeg;base64,")
    assert opened(base64.b64decode(address.partition(",")[2])).size == (64, 32)
    (folder / "text.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0")
    outside = folder.parent / "outside.jpg"
    Image.new("RGB", (8, 8)).save(outside)
    for name in ("3.jpg", "text.jpg", "../outside.jpg", str(outside)):
        assert small.jpeg(name) is None, name
    assert small.available and not Thumbnails([Path("/nowhere")], 64).available


def test_errors_of_a_class_with_their_photographs(run: ReportedRun, folder: Path):
    small = {"net": Thumbnails([folder], 64)}
    errors, confused = error_table([run], per_class=4), confusion_table([run])
    assert errors[["class", "kind"]].to_numpy().tolist() == [["b", "false positive"], ["a", "false negative"]]
    content = error_browser([run], errors, confused, small, max_images=10)
    assert content["runs"] == ["net"] and content["classes"] == ["a", "b"]
    (wrong,), (missed,) = content["errors"]["b"], content["errors"]["a"]
    assert wrong == {"run": 0, "positive": True, "file": "1.jpg", "score": 0.95, "true": ["a"], "image": 0}
    assert (missed["positive"], missed["file"], missed["score"]) == (False, "1.jpg", 0.2)
    assert len(content["images"]) == 1
    (confusion,) = content["confused"]["a"]
    assert (confusion["with"], confusion["images"]) == ("b", 1)
    assert error_browser([run], errors, confused, small, max_images=0)["images"] == []
