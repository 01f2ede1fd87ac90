"""Whole sweeps, by the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

Sweep = Callable[..., list[str]]
Fingerprint = Callable[[Path], dict[str, str]]


@pytest.fixture
def sweep(tiny_arguments: tuple[str, ...], tmp_path: Path) -> Sweep:
    """Command line of a sweep in `tmp_path / "outputs" / "sweeps" / name`."""

    def make(name: str, *overrides: str) -> list[str]:
        shared = (*tiny_arguments, f"features.dir={tmp_path / 'store'}", "trainer.max_epochs=4")
        return ["-m", *shared, f"sweep={name}", "resume=auto", *overrides]

    return make


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "jobs.csv", keep_default_na=False).set_index("job")


def folders_of(folder: Path) -> dict[str, Path]:
    names: dict[str, str] = table_of(folder)["folder"].to_dict()  # pyright: ignore[reportAssignmentType]
    return {job: folder / name for job, name in names.items() if name}


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def test_a_failing_job_takes_no_other_along(run_server: Any, sweep: Sweep, tmp_path: Path):
    place = tmp_path / "outputs" / "sweeps" / "first"
    jobs = "head.dropout=-1,0,0.5"
    assert run_server.run(*sweep("first", jobs, "on_error=stop"), folder=tmp_path, log="stop.log") == 1
    assert table_of(place)["state"].tolist() == ["failed", "not begun", "not begun"]
    assert run_server.run(*sweep("first", jobs), folder=tmp_path, log="all.log") == 1
    table, folders = table_of(place), folders_of(place)
    assert table.index.tolist() == ["head.dropout=-1", "head.dropout=0", "head.dropout=0.5"]
    assert table["state"].tolist() == ["failed", "finished", "finished"]
    assert table["error"].tolist() == ["head.dropout=-1: expected a number in [0, 1).", "", ""]
    metrics = metrics_of(folders["head.dropout=0"])
    assert float(table.loc["head.dropout=0", "test map"]) == metrics["test"]["map"]
    log = (folders["head.dropout=-1"] / "train.log").read_text()
    assert "Traceback (most" in log and "InputError: head.dropout=-1: expected a number in [0, 1)." in log
    assert "Traceback" not in (folders["head.dropout=0"] / "train.log").read_text()
    shown = (tmp_path / "all.log").read_text()
    assert "failed    " in shown and "sweep: outputs/sweeps/first" in shown
    written = [file.stat().st_mtime_ns for file in sorted(place.glob("*/metrics.json"))]
    assert run_server.run(*sweep("first", jobs), folder=tmp_path, log="again.log") == 1
    assert (tmp_path / "again.log").read_text().count("already finished, skipped") == 2
    assert [file.stat().st_mtime_ns for file in sorted(place.glob("*/metrics.json"))] == written


def test_a_comparison_of_networks_skips_those_without_weights(
    run_server: Any, tiny_csv: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    command = [
        "experiment=small", "hydra.sweeper.params.model='mobilenetv4_m,efficientnet_lite0'", "sweep=networks",
        "data=csv", f"data.annotations={tiny_csv[0]}", f"data.images={tiny_csv[1]}", "data.split.on_missing=warn",
        f"features.dir={tmp_path / 'store'}", "model.backbone.image_size=64", "trainer=cpu",
    ]  # fmt: skip
    assert run_server.run(*command, folder=tmp_path) == 0, (tmp_path / "command.log").read_text()
    place = tmp_path / "outputs" / "sweeps" / "networks"
    assert table_of(place)["state"].to_dict() == {
        "model=mobilenetv4_m": "no weights", "model=efficientnet_lite0": "finished"
    }  # fmt: skip
    assert (place / "compare" / "index.html").stat().st_size > 100_000
    assert "no weights: model=mobilenetv4_m\n" in (tmp_path / "command.log").read_text()


@pytest.mark.long
def test_jobs_of_one_process_give_what_each_gives_alone(
    run_server: Any, sweep: Sweep, fingerprint: Fingerprint, tmp_path: Path
):
    networks = ("test_efficientnet", "test_resnet")
    names = f"model.backbone.name={','.join(networks)}"
    command = sweep("both", names, "head=dense,csra", "compare=true")
    assert run_server.run(*command, folder=tmp_path) == 0, (tmp_path / "command.log").read_text()
    place = tmp_path / "outputs" / "sweeps" / "both"
    assert len(folders_of(place)) == 4 and set(table_of(place)["state"]) == {"finished"}
    for job, folder in folders_of(place).items():
        network, head = (item.partition("=")[2] for item in job.split(","))
        alone = sweep("x", f"model.backbone.name={network}", f"head={head}")[1:]
        output = tmp_path / f"{network}-{head}"
        assert run_server.run(*alone, f"output={output}", folder=tmp_path) == 0
        assert fingerprint(output) == fingerprint(folder)
        assert (output / "train.log").is_file()
    page = place / "compare" / "index.html"
    assert page.stat().st_size > 100_000
    assert f"report: {page.relative_to(tmp_path)}" in (tmp_path / "command.log").read_text()


def test_a_sweep_by_the_protocol_of_the_report_ends_with_its_page(
    run_server: Any, sweep: Sweep, tmp_path: Path
):
    names = "model.backbone.name=test_efficientnet,test_resnet"
    settings = ("data.split.val=0", "~data.class_weights.scale.person", "experiment=report")
    assert run_server.run(*sweep("report", names, *settings), folder=tmp_path) == 0
    place = tmp_path / "outputs" / "sweeps" / "report"
    assert set(table_of(place)["state"]) == {"finished"}
    assert (place / "compare" / "index.html").stat().st_size > 100_000
    assert "report: outputs/sweeps/report/compare/index.html" in (tmp_path / "command.log").read_text()
    shown = pd.read_csv(place / "compare" / "tables" / "test.csv")
    assert len(shown) == 2 + 1 + 4  # chance, and the four models of the original report
    for folder in folders_of(place).values():
        model = json.loads((folder / "model.json").read_text())
        assert len(model["feature_shape"]) == 1 and model["feature_shape"][0] > 1000  # flattened
        assert metrics_of(folder).keys() == {"train", "test"}
