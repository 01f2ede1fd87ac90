import json
from pathlib import Path

from mlic.report.discovery import find_runs, name_runs
from mlic.report.reading import ReportedRun


def touch_run(folder: Path, overrides: list[str] | None = None) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / "status.json").write_text('{"state": "finished"}')
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides or []))
    return folder


def write_sweep(folder: Path, task: list[str], sweeper: str = "BasicSweeper") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = f"hydra._internal.core_plugins.basic_sweeper.{sweeper}"
    content = {"hydra": {"sweeper": {"_target_": target}, "overrides": {"task": task}}}
    (folder / "multirun.yaml").write_text(json.dumps(content))


def test_runs_are_found_at_any_depth_by_folder_glob_and_list(tmp_path: Path):
    one, two = touch_run(tmp_path / "s" / "a=1" / "deep"), touch_run(tmp_path / "s" / "b")
    (tmp_path / "s" / "compare").mkdir()
    assert find_runs(str(tmp_path / "s")) == ([one, two], [])
    assert find_runs(str(tmp_path / "s" / "*")) == ([one, two], [])
    assert find_runs([str(two), str(tmp_path)]) == ([one, two], [])
    assert find_runs(str(two)) == ([two], [])


def test_a_folder_that_is_absent_or_holds_no_run_is_missing(tmp_path: Path):
    run = touch_run(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    found, missing = find_runs([str(run), str(tmp_path / "gone"), str(tmp_path / "empty")])
    assert found == [run]
    assert [(item.name, item.reason) for item in missing] == [
        (str(tmp_path / "gone"), "there is no such folder"),
        (str(tmp_path / "empty"), "no status.json in it or below"),
    ]


def test_jobs_of_a_sweep_without_a_folder_are_missing(tmp_path: Path):
    write_sweep(tmp_path, ["model=a,b", "head.dropout=0.1,0.5", "seed=1"])
    touch_run(tmp_path / "1", ["model=a", "head.dropout=0.1", "seed=1"])
    touch_run(tmp_path / "2", ["model=b", "head.dropout=0.5", "seed=1"])
    found, missing = find_runs(str(tmp_path))
    assert len(found) == 2
    assert [item.name for item in missing] == ["model=a, head.dropout=0.5", "model=b, head.dropout=0.1"]
    assert "has not started" in missing[0].reason


def test_a_broken_sweep_file_hides_no_run(tmp_path: Path):
    write_sweep(tmp_path, ["model=a,,(b"])
    run = touch_run(tmp_path / "1", ["model=a"])
    found, missing = find_runs(str(tmp_path))
    assert found == [run]
    assert "multirun.yaml cannot be read" in missing[0].reason


def test_names_are_the_model_then_what_differs_then_the_folder(tmp_path: Path):
    runs = [
        ReportedRun(tmp_path / "1", model={"name": "vgg16"}),
        ReportedRun(tmp_path / "2", model={"name": "lite"}, overrides=["model=lite", "seed=1", "x=2"]),
        ReportedRun(tmp_path / "3", model={"name": "lite"}, overrides=["model=lite", "seed=2", "x=2"]),
        ReportedRun(tmp_path / "4", overrides=["model=failed"]),
        ReportedRun(tmp_path / "5" / "run"),
        ReportedRun(tmp_path / "6" / "run"),
    ]
    name_runs(runs)
    names = [run.name for run in runs]
    assert names == ["vgg16", "lite seed=1", "lite seed=2", "failed", "run (5/run)", "run (6/run)"]


def test_the_winner_of_a_search_is_a_run_and_the_search_is_not(tmp_path: Path):
    search = touch_run(tmp_path / "tuned")
    (search / "trials.csv").write_text("trial\n")
    winner = touch_run(search / "winner")
    assert find_runs(str(tmp_path)) == ([winner], [])
    assert find_runs(str(search)) == ([winner], [])


def test_places_are_no_part_of_a_name(tmp_path: Path):
    runs = []
    for name, settings in (("a", ["head.dropout=0.5"]), ("b", [])):
        run = ReportedRun(touch_run(tmp_path / name), model={"name": "net"})
        run.overrides = [f"output={name}", f"data.images='{name}'", *settings]
        runs.append(run)
    name_runs(runs)
    assert [run.name for run in runs] == ["net head.dropout=0.5", "net"]
