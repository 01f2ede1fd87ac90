"""Cross-validation: each image is tested once, the folds are joined to one run, and no command mistakes it for one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig

from mlic.compare import compare
from mlic.config import compose
from mlic.errors import InputError
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.inference import Classifier
from mlic.report.comparison import HALF, compare_runs
from mlic.report.discovery import find_runs, name_runs
from mlic.report.reading import read_run
from mlic.runs import status
from mlic.train import train
from mlic.training import folds as folds_module
from mlic.training import run as run_module

pytestmark = pytest.mark.xdist_group("folds")  # the run is made once

MakeConfig = Callable[..., DictConfig]
FOLDS = 3


@pytest.fixture(scope="session")
def folded(make_run: Callable[..., Path]) -> Path:
    """A cross-validation over three folds; do not write to it."""
    return make_run(f"data.split.folds={FOLDS}")


def record(folder: Path, name: str = "metrics.json") -> dict:
    return json.loads((folder / name).read_text())


@pytest.mark.slow
def test_each_image_is_tested_once_by_the_run_of_its_fold(
    folded: Path, tiny_labels: dict[str, tuple[str, ...]]
):
    joined = Predictions.read_parquet(folded / "predictions" / "test.parquet")
    assert joined.file_names.tolist() == sorted(tiny_labels)
    split = pd.read_csv(folded / "split.csv")
    assert joined.folds is not None and split["fold"].tolist() == joined.folds.tolist()
    for fold in range(FOLDS):
        own = Predictions.read_parquet(folded / f"fold_{fold}" / "predictions" / "test.parquet")
        part = joined.select(joined.folds == fold)
        assert own.file_names.tolist() == part.file_names.tolist()
        np.testing.assert_array_equal(own.scores, part.scores)
        np.testing.assert_array_equal(own.targets, part.targets)
    dataset = record(folded, "dataset.json")
    assert dataset["images"] == {"train": 28, "val": 12, "test": 60}
    assert dataset["counts"]["test"] == {
        name: sum(name in labels for labels in tiny_labels.values()) for name in joined.classes
    }


@pytest.mark.slow
def test_metrics_are_those_of_the_joined_predictions_and_the_means_of_the_folds(folded: Path):
    joined = Predictions.read_parquet(folded / "predictions" / "test.parquet")
    metrics, own = record(folded), [record(folded / f"fold_{fold}") for fold in range(FOLDS)]
    whole = (joined.scores, joined.targets, joined.classes)
    assert metrics["test"] == {"loss": metrics["folds_mean"]["loss"], **evaluate_scores(*whole)}
    values = [each["test"]["map"] for each in own]
    assert [metrics[f"fold_{fold}"]["map"] for fold in range(FOLDS)] == values
    assert metrics["folds_mean"]["map"] == pytest.approx(np.mean(values))
    assert metrics["folds_sd"]["map"] == pytest.approx(np.std(values, ddof=1))
    assert metrics["val"]["map"] == pytest.approx(np.mean([each["val"]["map"] for each in own]))
    # the decisions of the folds, counted together
    run = read_run(folded)
    assert run.test is not None and run.thresholds is not None and run.notes == []
    assert metrics["test_calibrated"]["of1"] == evaluate_scores(*whole, run.thresholds)["of1"]
    correct = sum(
        (part["recall"] or 0) * part["support"]
        for each in own
        for part in each["test_calibrated"]["per_class"].values()
    )
    assert metrics["test_calibrated"]["recall_micro"] * joined.positives.sum() == pytest.approx(correct)
    # the comparison computes both mAPs again, with intervals
    name_runs([run])
    compared = compare_runs([run], resamples=20)
    for metric, value in (("map", metrics["test"]["map"]), ("map_folds", metrics["folds_mean"]["map"])):
        interval = compared.interval(run.name, HALF, metric)
        assert interval is not None and interval.estimate == pytest.approx(value)
        assert interval.low < interval.estimate < interval.high


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_a_comparison_shows_one_run_and_pairs_it_with_the_same_folds(
    folded: Path, make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    same = make_run(f"data.split.folds={FOLDS}", "model.recipe.hidden=[8]")
    other = make_run(f"data.split.folds={FOLDS}", "data.split.seed=1")
    runs = [str(folded), str(same), str(other)]
    assert find_runs(runs)[0] == sorted([folded, same, other])
    assert find_runs(str(folded / "fold_*"))[0] == [folded / f"fold_{fold}" for fold in range(FOLDS)]
    page = compare(compose(f"runs={runs}", "resamples=20", output=tmp_path / "out", config_name="compare"))
    text = page.read_text("utf-8")
    assert "over all images pooled" in text and "as mean of the folds" in text
    tested = pd.read_csv(tmp_path / "out" / "tables" / "test.csv").query("run != 'chance'")
    assert len(tested) == 3
    assert np.isfinite(tested[["map_folds_low", "of1_calibrated"]].to_numpy(float)).all()
    pairs = pd.read_csv(tmp_path / "out" / "tables" / "pairs.csv")
    assert pairs["metric"].tolist().count("mAP, mean of folds") == 1
    refused = [text for text in pairs["verdict"] if text.startswith("not compared: different folds: ")]
    assert len(refused) == 2 and "of 60 images were tested in another fold" in refused[0]


@pytest.mark.slow
def test_a_cross_validation_goes_on_with_the_folds_that_are_missing(
    folded: Path,
    tiny_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    interrupt: Callable[..., None],
    tmp_path: Path,
):
    config = tiny_config(f"data.split.folds={FOLDS}", "trainer.max_epochs=2", "resume=auto")
    folder, shown = tmp_path / "run", []
    # not caplog: Hydra may have disabled this logger in an earlier test of the process
    monkeypatch.setattr(status.logger, "warning", lambda text, *values: shown.append(text % values))
    interrupt(train, config, run_module, "write_results")
    assert record(folder, "status.json")["state"] == "interrupted"
    assert [record(path, "status.json")["state"] for path in folder.glob("fold_*")] == ["interrupted"]
    assert len(shown) == 1 and f"resume=auto output='{folder}'" in shown[0]
    train(config)
    assert record(folder) == record(folded)
    # ended after the last fold, while the whole was written
    ended = record(folder, "status.json")
    (folder / "status.json").write_text(json.dumps({**ended, "state": "interrupted"}, indent=2))
    train(config)
    assert record(folder, "status.json")["state"] == "finished"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}
    assert train(config) == record(folder)  # skipped
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()} == before
    # started again, it does not show the earlier result beside new folds
    config.resume = None
    monkeypatch.setattr(folds_module, "_write_results", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(config)
    assert not (folder / "metrics.json").exists() and record(folder, "status.json")["state"] == "failed"


@pytest.mark.slow
def test_folds_of_a_column_are_used_as_they_are(
    tiny_csv: tuple[Path, Path], tiny_config: MakeConfig, tmp_path: Path
):
    table = pd.read_csv(tiny_csv[0])
    table["part"] = [f"fold {2 + row // 10 % 2}" for row in range(len(table))]
    table.to_csv(tmp_path / "labels.csv", index=False)
    train(
        tiny_config(
            f"data.annotations={tmp_path / 'labels.csv'}", "data.split.column=part", "data.split.folds=2",
            "data.split.val=0", "trainer.max_epochs=1",
        )
    )  # fmt: skip
    split = pd.read_csv(tmp_path / "run" / "split.csv").set_index("file_name")["fold"]
    assert split.to_dict() == {
        name: int(part[-1]) for name, part in zip(table["file_name"], table["part"], strict=True)
    }
    metrics = record(tmp_path / "run")
    assert metrics.keys() == {"train", "test", "folds_mean", "folds_sd", "fold_2", "fold_3"}


@pytest.mark.slow
def test_errors_leave_a_finished_cross_validation_as_it_is(
    folded: Path, tiny_config: MakeConfig, tmp_path: Path, contents: Callable[[Path], dict[Path, bytes]]
):
    folder = shutil.copytree(folded, tmp_path / "run")
    before = contents(folder)
    other = tmp_path / "other"
    for output, overrides, message in (
        (
            folder,
            ["data.split.folds=3", "data.split.fold=0"],
            "is the folder of a cross-validation, not of a run",
        ),
        (folder, [], "is the folder of a cross-validation, not of a run"),
        (other, ["data.split.folds=0"], r"data\.split\.folds=0.*: expected 2 to 60 folds"),
        (folder, ["data.split.folds=2"], "folds of another cross-validation, such as fold_2"),
        (folder, ["data.split.folds=3", "optimizer.lr=nope"], r"optimizer\.lr: must be float"),
        (folder, ["data.split.folds=3", "resume=auto", "optimizer.lr=0.5"], "a run with different settings"),
        (other, ["data.split.folds=3", f"init_from={folder}"], "is a cross-validation, which has one head"),
        (other, [f"data.split.keep={folder}"], "is a cross-validation; expected one run"),
        (folder / "fold_0", ["data.split.folds=3"], "is the folder of a run, not of a cross-validation"),
    ):
        with pytest.raises(InputError, match=message):
            train(tiny_config(*overrides, output=output))
        after = contents(folder)
        assert {path: after[path] for path in before} == before, message
    with pytest.raises(InputError, match=r"is a cross-validation, .* such as '.*fold_0'"):
        Classifier.load(folded)


def test_a_class_that_is_too_rare_for_a_later_fold_is_found_before_training(
    tiny_csv: tuple[Path, Path], tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # a rare class is in train and test of the first fold, but not in test of all others
    table = pd.read_csv(tiny_csv[0], keep_default_na=False)
    found = []
    monkeypatch.setattr(run_module, "prepare_folder", lambda *_: found.append(1))
    for first in (0, 14, 28, 42):
        labels = table["labels"].copy()
        labels[first : first + 3] = [f"{text}|rare".strip("|") for text in labels[first : first + 3]]
        table.assign(labels=labels).to_csv(tmp_path / "labels.csv", index=False)
        config = tiny_config(
            f"data.annotations={tmp_path / 'labels.csv'}", "data.split.folds=5", "data.split.val=0"
        )
        with pytest.raises(InputError, match=r"'rare' .* is not in test"):
            train(config)
    assert not found
