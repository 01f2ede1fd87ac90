import json
from pathlib import Path

from mlic.report.discovery import find_runs, name_runs
from mlic.report.reading import ReportedRun


def touch_run(folder: Path, overrides: list[str] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"state": "finished", "overrides": overrides or []}))
    return folder


def write_sweep(folder: Path, task: list[str]) -> None:
    sweeper = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    folder.mkdir(exist_ok=True)
    content = {"hydra": {"sweeper": sweeper, "overrides": {"task": task}}}
    (folder / "multirun.yaml").write_text(json.dumps(content))


def test_runs_are_found_at_any_depth_by_folder_glob_and_list(tmp_path: Path):
    one, two = touch_run(tmp_path / "s" / "a=1" / "deep"), touch_run(tmp_path / "s" / "b")
    (tmp_path / "s" / "compare").mkdir()
    for places in (str(tmp_path / "s"), str(tmp_path / "s" / "*"), [str(two), str(tmp_path / "s")]):
        assert find_runs(places) == ([one, two], [])
    assert find_runs(str(two)) == ([two], [])
    # the winner of a search is a run, the search is not
    search = touch_run(tmp_path / "tuned")
    (search / "trials.csv").write_text("trial\n")
    winner = touch_run(search / "winner")
    assert find_runs(str(search)) == ([winner], [])
    found, missing = find_runs([str(two), str(tmp_path / "gone"), str(tmp_path / "s" / "compare")])
    assert found == [two]
    assert [(Path(item.name).name, item.reason) for item in missing] == [
        ("gone", "no such folder"), ("compare", "no status.json in it or below")
    ]  # fmt: skip


def test_jobs_of_a_sweep_without_a_folder_are_missing(tmp_path: Path):
    write_sweep(tmp_path, ["model=a,b", "head.dropout=0.1,0.5", "seed=1"])
    one = touch_run(tmp_path / "1", ["model=a", "head.dropout=0.1", "seed=1"])
    two = touch_run(tmp_path / "2", ["model=b", "head.dropout=0.5", "seed=1"])
    found, missing = find_runs(str(tmp_path))
    assert found == [one, two]
    assert [item.name for item in missing] == ["model=a, head.dropout=0.5", "model=b, head.dropout=0.1"]
    assert "has not started" in missing[0].reason
    write_sweep(tmp_path, ["model=a,,(b"])  # a broken record hides no run
    found, missing = find_runs(str(tmp_path))
    assert found == [one, two] and "multirun.yaml cannot be read" in missing[0].reason


def test_a_run_is_called_by_its_folder_or_by_what_differs(tmp_path: Path):
    def made(place: str, *overrides: str, model: str = "") -> ReportedRun:
        return ReportedRun(tmp_path / place, overrides=list(overrides), model={"name": model})

    write_sweep(tmp_path / "sweep", ["model=a,b"])
    runs = [
        made("best", "experiment=best", model="lite"),
        made("tuned/winner"),
        made("5/run"),
        made("6/run"),
        made("sweep/x", "model=a", "seed=1", "output=2", model="a"),
        made("sweep/y", "model=b", "seed=1", "data.images='b'", model="b"),
        made("2026-11-29_12-56-07_lite_csv", "model=b", "seed=2", "head.dropout=0.1", model="b"),
    ]
    name_runs(runs)
    names = [run.name for run in runs]  # paths are no part of them
    assert names == [
        "best", "tuned", "run (5/run)", "run (6/run)", "a seed=1", "b seed=1", "b seed=2 head.dropout=0.1"
    ]  # fmt: skip
    name_runs(runs[-1:])
    assert runs[-1].name == "b"
