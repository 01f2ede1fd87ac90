"""A whole report, from folders to files."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlic.command_line import ending_in_order
from mlic.compare import compare
from mlic.config import compose
from mlic.errors import InputError
from mlic.report.figure_files import EmbeddedFigure, FigureFiles
from mlic.report.galleries import build_galleries
from mlic.report.reading import ReportedRun, read_run
from mlic.report.report import ReportOptions, choose_drawn, write_report
from mlic.report.report_figures import choose_classes
from mlic.report.thumbnails import Thumbnails

pytestmark = pytest.mark.xdist_group("report")  # the page is made once

WriteRun = Callable[..., Path]
Made = Callable[..., tuple[np.ndarray, np.ndarray]]

ODD_FILE = "<img src=x onerror=alert(1)> \"ü\" & 'q'.jpg"
IMAGES = 24


class Reader(HTMLParser):
    """Collects tags and texts as a browser sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.fixture(scope="module")
def sweep(
    tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun, made: Made, odd_classes: tuple[str, ...]
) -> Path:
    """Two finished runs with odd names and photographs, a failed one, and one without test predictions."""
    folder = tmp_path_factory.mktemp("sweep")
    images = folder / "images"
    images.mkdir()
    names = [ODD_FILE, *(f"{row:02d}.jpg" for row in range(1, IMAGES))]
    for name in names:
        Image.new("RGB", (40, 30), "teal").save(images / name)
    targets = np.hstack([made(0, IMAGES, 3)[1], np.zeros((IMAGES, 1), dtype=np.uint8)])
    places = (images, folder / "gone")
    for seed, name in enumerate(("<b>one</b>", "two")):
        scores = np.hstack([made(0, IMAGES, 3)[0] ** (1 + seed), np.full((IMAGES, 1), 0.1, dtype=np.float32)])
        scores[0] = 1 - targets[0]
        write_run(
            folder / f"run{seed}", scores, targets, odd_classes,
            name=name, file_names=names, images=places[seed], val=(scores, targets),
        )  # fmt: skip
    error = {"type": "InputError", "message": "labels.csv: <i>no such file</i>"}
    write_run(
        folder / "failed",
        scores,
        targets,
        odd_classes,
        name="broken",
        status={"state": "failed", "error": error},
    )
    without = write_run(folder / "untested", scores, targets, odd_classes, name="untested")
    (without / "predictions" / "test.parquet").unlink()
    return folder


@pytest.fixture(scope="module")
def report(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("report") / "out"
    options = [f"runs='{sweep}'", "reference=report", "resamples=20", "gallery_images=3"]
    assert compare(compose(*options, output=output, config_name="compare")) == output / "index.html"
    return output


@pytest.fixture(scope="module")
def page(report: Path) -> Reader:
    reader = Reader()
    reader.feed((report / "index.html").read_text(encoding="utf-8"))
    return reader


@pytest.mark.slow
def test_every_table_is_a_csv_and_every_figure_png_and_svg(report: Path):
    tables = {path.stem for path in (report / "tables").iterdir()}
    assert tables == {
        "models", "training", "test", "times", "pairs", "calibration", "classes", "data", "not_finished",
        "errors", "confusions", "class_metrics", "co_occurrence",
    }  # fmt: skip
    png, svg = ({path.stem for path in (report / "figures").glob(f"*.{end}")} for end in ("png", "svg"))
    assert png == svg
    assert {
        "training_loss",
        "test_map",
        "pr_micro",
        "pr_macro",
        "roc_micro",
        "roc_macro",
        "reliability",
    } <= png
    assert {"average_precision", "average_precision_by_training_images", "labels", "co_occurrence"} <= png
    assert {"pr_class_1", "roc_class_1", "training_run_1", "training_run_2"} <= png
    test = pd.read_csv(report / "tables" / "test.csv")
    assert test["run"].tolist()[:2] == ["<b>one</b>", "two"]
    assert len(test) == 2 + 4


@pytest.mark.slow
def test_odd_names_show_as_themselves(page: Reader, report: Path, odd_classes: tuple[str, ...]):
    for name in (*odd_classes, "<b>one</b>", "InputError: labels.csv: <i>no such file</i>"):
        assert name in page.texts
    assert any(text.startswith(ODD_FILE) for text in page.texts)
    alternatives = [values.get("alt") for tag, values in page.tags if tag == "img"]
    assert ODD_FILE in alternatives
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 2
    assert "i" not in tags
    assert not any(name.startswith("on") for _, values in page.tags for name in values)
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in markdown
    assert "<script" not in markdown and "bär $x^2$" not in markdown


@pytest.mark.slow
def test_the_page_needs_nothing_from_outside(page: Reader):
    sources = [values["src"] for tag, values in page.tags if tag == "img"]
    assert len(sources) > 20
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    links = [values.get("href") or "" for tag, values in page.tags if tag == "a"]
    assert links and all(link.startswith(("#", "tables/")) for link in links)
    assert not any(tag in ("link", "iframe", "object") for tag, _ in page.tags)
    policy = [
        values["content"]
        for tag, values in page.tags
        if values.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy and "default-src 'none'" in str(policy[0])


@pytest.mark.slow
def test_links_and_sections_meet(page: Reader, report: Path):
    anchors = {values["id"] for _, values in page.tags if "id" in values}
    for tag, values in page.tags:
        link = values.get("href") or ""
        if tag == "a" and link.startswith("#"):
            assert link[1:] in anchors
        elif tag == "a":
            assert (report / link).is_file()


@pytest.mark.slow
def test_runs_that_did_not_finish_or_lack_files_are_named(page: Reader, report: Path):
    frame = pd.read_csv(report / "tables" / "not_finished.csv")
    assert frame[["run", "state"]].to_numpy().tolist() == [["broken", "failed"]]
    assert "predictions/test.parquet is missing" in page.texts
    assert any("1 unfinished" in text for text in page.texts)
    assert set(pd.read_csv(report / "tables" / "models.csv")["run"]) == {"<b>one</b>", "two", "untested"}


@pytest.mark.slow
def test_a_report_over_failed_runs_alone(tmp_path: Path, write_run: WriteRun, made: Made):
    write_run(tmp_path / "run", *made(0, 12, 2), "xy", status={"state": "interrupted"})
    text = write_report(ReportOptions(str(tmp_path), tmp_path / "out", resamples=5)).read_text(
        encoding="utf-8"
    )
    assert "No run has finished." in text and "interrupted" in text
    assert "Table 1" not in text


@pytest.mark.slow
def test_tensorboard_gets_curves_and_galleries_once(tmp_path: Path, write_run: WriteRun, made: Made):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from mlic.report.tensorboard_export import export_run

    folder = write_run(tmp_path / "run", *made(0, 12, 2), ("x", "bär"))
    run, small = read_run(folder), Thumbnails(None, 64)
    for _ in range(2):
        export_run(run, build_galleries(run, small, count=2), small)
    (file,) = (folder / "tensorboard").iterdir()
    events = EventAccumulator(str(file)).Reload()
    assert events.Tags()["tensors"] == ["test/x", "test/bär"]
    assert events.Tags()["images"] == ["test/lowest_loss", "test/highest_loss", "test/confident_errors"]


def test_comparing_imports_neither_torch_nor_lightning_nor_timm():
    code = (
        "import sys; import mlic.compare, mlic.report.report; "
        "print([name for name in ('torch', 'lightning', 'timm', 'torchvision') if name in sys.modules])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "keras"}, "reference: 'keras' is unknown. Choices are report"),
        ({"resamples": 1}, "resamples: 1 is too small; expected 2 or more"),
        ({"gallery_images": 0}, "gallery_images: 0 is too small"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, change: dict, message: str):
    with pytest.raises(InputError, match=message):
        ReportOptions("runs", tmp_path, **change)


@pytest.mark.parametrize("name", ["status.json", "index.html"])
def test_a_folder_of_something_else_is_no_place_for_a_report(name: str, tmp_path: Path):
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=rf"is not a folder of a report and not empty \({name}\)"):
        ReportOptions("runs", tmp_path)


def test_an_earlier_report_stays_whole_until_the_new_one_is(
    tmp_path: Path, write_run: WriteRun, made: Made, monkeypatch: pytest.MonkeyPatch
):
    output = tmp_path / "out"
    write_run(tmp_path / "runs" / "one", *made(0, IMAGES, 3), ("a", "b", "c"))
    config = compose(f"runs='{tmp_path / 'runs'}'", "resamples=2", output=output, config_name="compare")
    with monkeypatch.context() as patch:
        patch.setattr(FigureFiles, "save", lambda *_: [])  # they take long, and are not what this is about
        compare(config)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert output / "index.html" in before
    save = FigureFiles.save

    def interrupted(self: FigureFiles, *arguments: Any) -> list[EmbeddedFigure]:
        saved = save(self, *arguments)
        assert list(self.folder.iterdir())
        signal.raise_signal(signal.SIGTERM)
        return saved

    write_run(tmp_path / "runs" / "two", *made(1, IMAGES, 3), ("a", "b", "c"))
    with monkeypatch.context() as patch:
        patch.setattr(FigureFiles, "save", interrupted)
        with pytest.raises(SystemExit) as ended:
            ending_in_order()(compare)(config)
    assert ended.value.code == 143
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    with monkeypatch.context() as patch:
        patch.setattr(FigureFiles, "save", lambda *_: [])
        compare(config)
    assert all(path.read_bytes() != before[path] for path in (output / "index.html", output / "report.md"))


def test_without_runs_the_error_says_what_to_give(tmp_path: Path):
    with pytest.raises(InputError, match="runs must be given"):
        compare(compose(output=tmp_path / "out", config_name="compare"))


def test_classes_with_curves_of_their_own():
    metrics = {
        "run": {
            name: {"ap": value} for name, value in {"a": 0.1, "b": 0.9, "c": 0.5, "d": None, "e": 0.4}.items()
        }
    }
    assert choose_classes([], metrics) == ["b", "e", "a"]
    assert choose_classes(["d"], metrics) == ["d"]
    assert choose_classes([], {}) == []
    with pytest.raises(InputError, match=r"classes: no run has z\. Choices are a, b, c, d, e"):
        choose_classes(["a", "z"], metrics)


def test_the_best_runs_on_val_are_drawn():
    values = ((0.2, None), (0.9, None), (None, 0.5), (None, None))
    runs = [
        ReportedRun(Path(str(place)), metrics={"val": {"map": val}, "test": {"map": test}})
        for place, (val, test) in enumerate(values)
    ]
    assert [run.path.name for run in choose_drawn(runs, 2)] == ["1", "2"]
    assert [run.path.name for run in choose_drawn(runs, 9)] == ["0", "1", "2", "3"]
