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
from mlic.report.thumbnails import Thumbnails, image_folder

WriteRun = Callable[..., Path]
Made = Callable[..., tuple[np.ndarray, np.ndarray]]

SCORES = np.array([[0.9, 0.1], [0.2, 0.95], [0.6, 0.7], [0.01, 0.02]], dtype=np.float32)
TARGETS = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], dtype=np.uint8)
NAMES = ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


@pytest.fixture
def run(tmp_path: Path, write_run: WriteRun) -> ReportedRun:
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate(NAMES[:3]):
        Image.new("RGB", (400, 200), (80 * number, 10, 10)).save(images / name)
    found = read_run(write_run(tmp_path / "run", SCORES, TARGETS, "ab", file_names=NAMES, images=images))
    found.name = "net"
    return found


def test_photographs_are_chosen_by_rule(run: ReportedRun):
    found = {item.key: item.photographs for item in build_galleries(run, Thumbnails(None, 64), count=2)}
    # 3.jpg has the lowest loss of all, but no label
    assert [item.file_name for item in found["lowest_loss"]] == ["0.jpg", "2.jpg"]
    assert [item.file_name for item in found["highest_loss"]] == ["1.jpg", "2.jpg"]
    assert [item.file_name for item in found["confident_errors"]] == ["1.jpg"]
    assert found["highest_loss"][0].loss == pytest.approx(-(np.log(0.2) + np.log(0.05)) / 2, abs=1e-5)


def test_labels_say_what_was_found_wrong_and_missed(run: ReportedRun):
    (worst,) = build_galleries(run, Thumbnails(None, 64), count=1)[1].photographs
    assert [(label.name, label.good) for label in worst.true] == [("a", False)]
    assert [(label.name, label.good) for label in worst.predicted] == [("b", False)]
    assert worst.predicted[0].score == pytest.approx(0.95)
    assert [words for _, words in label_lines(worst)] == ["wrong: b 0.95", "missed: a 0.20"]


def test_thumbnails_are_small_jpegs_and_gaps_where_a_file_is_absent(run: ReportedRun):
    small = Thumbnails(image_folder(run.dataset), 64)
    assert small.available
    address = small.data_uri("1.jpg")
    assert address is not None and address.startswith("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        assert image.size == (64, 32)
    assert small.data_uri("3.jpg") is None
    assert small.data_uri("../run/status.json") is None
    assert not Thumbnails(Path("/nowhere"), 64).available


def test_files_that_are_no_pictures_or_outside_the_folder_are_gaps(run: ReportedRun, tmp_path: Path):
    folder = image_folder(run.dataset)
    assert folder is not None
    (folder / "text.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0")
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.jpg")
    small = Thumbnails(folder, 64)
    assert small.jpeg("text.jpg") is None
    assert small.jpeg("../outside.jpg") is None
    assert small.jpeg(str(tmp_path / "outside.jpg")) is None


def test_thumbnails_are_read_as_training_reads_images(run: ReportedRun, heic_photo: bytes):
    folder = image_folder(run.dataset)
    assert folder is not None
    (folder / "photo.heic").write_bytes(heic_photo)
    Image.fromarray(np.full((32, 48), 3000, dtype=np.uint16)).save(folder / "deep.png")
    small = Thumbnails(folder, 32, 12)
    for name, size, colour in (
        ("photo.heic", (24, 32), (230, 120, 20)),
        ("deep.png", (32, 21), (187, 187, 187)),
    ):
        content = small.jpeg(name)
        assert content is not None
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == size
            np.testing.assert_allclose(np.asarray(image)[-2, 2], colour, atol=8)
    assert Thumbnails(folder, 32, 10**9).jpeg("deep.png") is None, "a sender's number"


def test_errors_of_a_class_with_their_photographs(run: ReportedRun):
    small = Thumbnails(image_folder(run.dataset), 64)
    errors, confused = error_table([run], per_class=4), confusion_table([run])
    assert errors[["class", "kind"]].to_numpy().tolist() == [["b", "false positive"], ["a", "false negative"]]
    content = error_browser([run], errors, confused, {"net": small}, max_images=10)
    assert content["runs"] == ["net"] and content["classes"] == ["a", "b"]
    assert content["errors"]["b"] == [
        {"run": 0, "positive": True, "file": "1.jpg", "score": 0.95, "true": ["a"], "image": 0}
    ]
    assert content["errors"]["a"][0] | {"image": 0} == {
        "run": 0, "positive": False, "file": "1.jpg", "score": 0.2, "true": ["a"], "image": 0
    }  # fmt: skip
    assert len(content["images"]) == 1
    assert content["confused"]["a"] == [{"run": 0, "with": "b", "images": 1, "share": round(1 / 3, 3)}] or (
        content["confused"]["a"][0]["share"] == 1
    )
    assert error_browser([run], errors, confused, {"net": small}, max_images=0)["images"] == []
