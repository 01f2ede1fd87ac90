from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlic.evaluation.metrics import evaluate_scores
from mlic.report.discovery import MissingRun
from mlic.report.reading import ReportedRun
from mlic.report.reference import REFERENCES
from mlic.report.run_tables import data_table, loss_names, state_table, time_table, training_table

Made = Callable[..., tuple[np.ndarray, np.ndarray]]
ReadRun = Callable[..., ReportedRun]


def test_training_time_and_data_are_those_of_the_run(read: ReadRun, made: Made):
    runs = [read(name, *made(seed, 20, 3), "xyz") for seed, name in enumerate(("one", "two"))]
    table = training_table(runs, REFERENCES["report"]["training"])
    frame = table.frame.set_index("run")
    expected = evaluate_scores(*made(1, 20, 3), "xyz")
    for metric in ("map", "auc_macro", "auc_micro", "precision_micro", "recall_micro"):
        assert frame.loc["two", metric] == pytest.approx(expected[metric])
    assert frame.loc["one", "loss_unknown"] == 0.25
    assert frame.loc["InceptionV3 (original report)", "auc_micro"] == 0.989
    assert not any(cell.mark for line in table.lines() for cell in line), "the best on train overfits most"
    frame = time_table(runs, REFERENCES["report"]["times"]).frame.set_index("run")
    names = ["epochs", "seconds_an_epoch", "extraction", "total"]
    assert frame.loc["one", names].tolist() == [3, 6 / 3, 8, 0.5 + 0.25 + 8 + 6 + 0.125]
    assert frame.loc["ResNet152V2 (original report)", "seconds_an_epoch"] == 87
    scores, targets = made(0, 20, 3)
    targets[:, 1] = 0
    row = data_table([read("run", scores, targets, "xyz")]).frame.iloc[0]
    assert (row["undefined"], row["split"]) == ("y", "01234567")
    assert row["labels_an_image"] == pytest.approx(targets.sum() / 20)
    names = ["images_train", "images_val", "images_test", "classes", "classes_dropped"]
    assert row[names].tolist() == [100, 10, 20, 3, 1]


def test_losses_that_cannot_be_compared_have_names_of_their_own():
    def made(name: str, loss: str, **settings: object) -> ReportedRun:
        return ReportedRun(Path(name), name, settings={"loss._target_": f"mlic.models.{loss}", **settings})

    weights = {"data.class_weights.scheme": "none"}
    runs = [made("a", "BCE"), made("b", "Focal"), made("c", "BCE", **weights), made("d", "BCE", seed=1)]
    assert loss_names(runs) == {"a": "BCE", "b": "Focal", "c": "BCE 2", "d": "BCE"}
    table = training_table(runs)
    assert [name for name in table.frame if "loss" in name] == ["loss_BCE", "loss_Focal", "loss_BCE 2"]


def test_runs_that_did_not_finish_are_listed_with_their_error():
    error = {"type": "InputError", "message": "labels.csv: there is no such file"}
    runs = [
        ReportedRun(Path("a"), "a", {"state": "failed", "error": error}),
        ReportedRun(Path("c"), "c", {"state": "running", "started": "today"}),
        ReportedRun(Path("d"), "d", notes=["status.json cannot be read"]),
    ]
    frame = state_table(runs, [MissingRun("e", "there is no such folder")]).frame.set_index("run")
    assert frame["state"].tolist() == ["failed", "running", "unknown", "missing"]
    assert frame["error"].tolist() == [
        "InputError: labels.csv: there is no such file",
        "still running, or killed; started today",
        "status.json cannot be read",
        "there is no such folder",
    ]
