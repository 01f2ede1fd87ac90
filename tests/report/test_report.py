"""A whole report, from folders to files."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlic.compare import compare
from mlic.config import compose
from mlic.errors import InputError
from mlic.report.photographs import GALLERIES, choose_rows
from mlic.report.reading import read_run
from mlic.report.report import ReportOptions, write_report
from mlic.report.tables import Table

pytestmark = pytest.mark.xdist_group("report")  # the page is made once

WriteRun = Callable[..., Path]
Made = Callable[..., tuple[np.ndarray, np.ndarray]]


class Page(HTMLParser):
    """Collects tags and texts as a browser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def values(self, tag: str, attribute: str) -> list[str]:
        """What an attribute is in all tags that have it."""
        return [own[attribute] or "" for name, own in self.tags if name == tag and attribute in own]


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page((report / "index.html").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_table_is_a_csv_and_every_figure_png_and_svg(report: Path):
    assert {path.stem for path in (report / "tables").iterdir()} == {
        "models", "training", "test", "times", "pairs", "calibration", "classes", "data", "not_finished",
        "overview", "settings", "differences", "weakest", "errors", "confusions", "class_metrics", "co_occurrence",
        "answers",
    }  # fmt: skip
    png, svg = ({path.stem for path in (report / "figures").glob(f"*.{end}")} for end in ("png", "svg"))
    assert png == svg
    assert png > {"training_loss", "test_map", "pr_micro", "roc_class_1", "training_run_2", "co_occurrence"}
    test = pd.read_csv(report / "tables" / "test.csv")
    assert {*test["run"][:2]} == {"two", "<b>one"}
    assert len(test) == 2 + 1 + 4


@pytest.mark.slow
def test_odd_names_show_as_themselves_and_the_page_needs_nothing_from_outside(
    page: Page, report: Path, odd_classes: tuple[str, ...]
):
    for name in (*odd_classes, "<b>one", "InputError: labels.csv: <i>no such file</i>"):
        assert name in page.texts
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 2 and "i" not in tags
    assert not any(name.startswith("on") for _, values in page.tags for name in values)
    assert not page.values("img", "src"), "the script inserts the photographs"
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object"}
    policies = [own["content"] for _, own in page.tags if own.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policies)
    references = page.values("use", "href") + page.values("image", "href")
    assert references and all(each.startswith(("#", "data:image/png;base64,")) for each in references)
    links, anchors = page.values("a", "href"), {own.get("id") for _, own in page.tags}
    assert all(link[1:] in anchors for link in links if link.startswith("#"))
    files = [link for link in links if not link.startswith("#")]
    assert files and all(link.startswith("tables/") and (report / link).is_file() for link in files)


@pytest.mark.slow
def test_runs_that_did_not_finish_or_lack_files_are_named(
    page: Page, report: Path, tmp_path: Path, write_run: WriteRun, made: Made
):
    frame = pd.read_csv(report / "tables" / "not_finished.csv")
    assert frame[["run", "state"]].to_numpy().tolist() == [["broken", "failed"]]
    assert "predictions/test.parquet is missing" in page.texts
    assert any("1 unfinished" in text for text in page.texts)
    assert set(pd.read_csv(report / "tables" / "models.csv")["run"]) == {"<b>one", "two", "untested"}
    # a report over them alone
    write_run(tmp_path / "run", *made(0, 12, 2), "xy", status={"state": "interrupted"})
    text = write_report(ReportOptions(str(tmp_path), tmp_path / "out", resamples=5)).read_text("utf-8")
    assert "No run has finished." in text and "interrupted" in text and "Table 1" not in text


@pytest.mark.slow
def test_tensorboard_gets_curves_and_galleries_once(tmp_path: Path, write_run: WriteRun, made: Made):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from mlic.report.extras import export_run

    folder = write_run(tmp_path / "run", *made(0, 12, 2), ("x", "bär"))
    run = read_run(folder)
    for _ in range(2):
        export_run(run, choose_rows(run, count=2))
    (file,) = folder.glob("events.*")
    events = EventAccumulator(str(file)).Reload()
    assert events.Tags()["tensors"] == ["test/x", "test/bär"]
    assert events.Tags()["images"] == [f"z_galleries/{name}" for name in GALLERIES]


def test_what_cannot_be_reported_is_refused_before_any_work(tmp_path: Path):
    with pytest.raises(InputError, match=r"reference: must be one of .*'keras'"):
        ReportOptions("runs", tmp_path, reference="keras")
    with pytest.raises(InputError, match="resamples=1: expected a number of at least 2"):
        ReportOptions("runs", tmp_path, resamples=1)
    with pytest.raises(InputError, match="runs must be given"):
        compare(compose(output=tmp_path / "out", config_name="compare"))
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(InputError, match=r"is not a folder of a report and not empty \(index\.html\)"):
        ReportOptions("runs", tmp_path)


@pytest.mark.usefixtures("without_figures")
def test_an_earlier_report_stays_whole_until_the_new_one_is(
    tmp_path: Path,
    write_run: WriteRun,
    made: Made,
    monkeypatch: pytest.MonkeyPatch,
    contents: Callable[[Path], dict[Path, bytes]],
    interrupt: Callable[..., None],
):
    output = tmp_path / "out"
    config = compose(f"runs='{tmp_path / 'runs'}'", "resamples=2", output=output, config_name="compare")
    write_run(tmp_path / "runs" / "one", *made(0, 24, 3), "abc")
    compare(config)
    before = contents(output)
    write_run(tmp_path / "runs" / "two", *made(1, 24, 3), "abc")
    interrupt(compare, config, Table, "write_csv")
    assert contents(output) == before
    compare(config)
    after = contents(output)
    assert after[output / "index.html"] != before[output / "index.html"]
