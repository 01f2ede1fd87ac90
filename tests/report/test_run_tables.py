from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlic.evaluation.metrics import evaluate_scores
from mlic.report.discovery import MissingRun
from mlic.report.reading import ReportedRun, read_run
from mlic.report.reference import REFERENCES
from mlic.report.run_tables import data_table, state_table, time_table, training_table

WriteRun = Callable[..., Path]
Made = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def runs(tmp_path: Path, write_run: WriteRun, made: Made) -> list[ReportedRun]:
    found = []
    for seed, name in enumerate(("one", "two")):
        found.append(read_run(write_run(tmp_path / name, *made(seed, 20, 3), "xyz", name=name)))
        found[-1].name = name
    return found


def test_training_figures_are_those_of_metrics_json(runs: list[ReportedRun], made: Made):
    table = training_table(runs, REFERENCES["report"])
    frame = table.frame.set_index("run")
    expected = evaluate_scores(*made(1, 20, 3), "xyz")
    for metric in ("map", "auc_macro", "auc_micro", "precision_micro", "recall_micro"):
        assert frame.loc["two", metric] == pytest.approx(expected[metric])
    assert frame.loc["one", "loss_unknown"] == 0.25
    assert frame.loc["InceptionV3 (original report)", "auc_micro"] == 0.989
    assert not any(cell.mark for line in table.lines() for cell in line), "the best on train overfits most"


def test_times_by_hand(runs: list[ReportedRun]):
    frame = time_table(runs, REFERENCES["report"]).frame.set_index("run")
    names = ["epochs", "seconds_an_epoch", "extraction", "total"]
    assert frame.loc["one", names].tolist() == [3, 6 / 3, 8, 0.5 + 0.25 + 8 + 6 + 0.125]
    assert frame.loc["ResNet152V2 (original report)", "seconds_an_epoch"] == 87


def test_data_names_classes_without_a_test_image(tmp_path: Path, write_run: WriteRun, made: Made):
    scores, targets = made(0, 20, 3)
    targets[:, 1] = 0
    run = read_run(write_run(tmp_path / "run", scores, targets, "xyz"))
    row = data_table([run]).frame.iloc[0]
    assert (row["undefined"], row["split"]) == ("y", "01234567")
    assert row["labels_an_image"] == pytest.approx(targets.sum() / 20)
    names = ["images_train", "images_val", "images_test", "classes", "classes_dropped"]
    assert row[names].tolist() == [100, 10, 20, 3, 1]


def test_runs_that_did_not_finish_are_listed_with_their_error():
    error = {"type": "InputError", "message": "labels.csv: there is no such file"}
    killed = {"type": "KeyboardInterrupt", "message": ""}
    runs = [
        ReportedRun(Path("a"), "a", {"state": "failed", "error": error}),
        ReportedRun(Path("b"), "b", {"state": "interrupted", "error": killed}),
        ReportedRun(Path("c"), "c", {"state": "running", "started": "today"}),
        ReportedRun(Path("d"), "d", notes=["status.json cannot be read"]),
    ]
    frame = state_table(runs, [MissingRun("e", "there is no such folder")]).frame.set_index("run")
    assert frame["state"].tolist() == ["failed", "interrupted", "running", "unknown", "missing"]
    assert frame.loc["a", "error"] == "InputError: labels.csv: there is no such file"
    assert "killed; started today" in str(frame.loc["c", "error"])
    assert frame.loc[["d", "e"], "error"].tolist() == [
        "status.json cannot be read",
        "there is no such folder",
    ]
