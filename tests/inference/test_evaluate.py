import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from mlic.data import LabelTable
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.inference.labelled import match_classes
from mlic.report.comparison import compare_runs
from mlic.report.discovery import find_runs, name_runs
from mlic.report.reading import read_run
from mlic.runs.folder import RunFolder

Command = Callable[..., DictConfig]
Evaluate = Callable[..., dict]


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture
def all_rows(tiny_labels: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: "|".join(labels) for name, labels in tiny_labels.items()}


@pytest.fixture
def on_csv(
    command_config: Command, tiny_images: Path, tmp_path: Path, all_rows: dict[str, str]
) -> Callable[..., dict]:
    """A function (overrides, file name -> labels) -> metrics; by default of all images, with output `out`."""

    def make(
        *overrides: str, rows: dict[str, str] = all_rows, images: Path = tiny_images, **given: Path
    ) -> dict:
        file = tmp_path / "labels.csv"
        pd.Series(rows, name="labels").rename_axis("file_name").to_csv(file)
        places = (f"data.annotations={file}", f"data.images={images}")
        config = command_config("evaluate", "data=csv", *places, *overrides, output=tmp_path / "out", **given)
        return evaluate(config)

    return make


def assert_as_in_training(metrics: dict, run: Path, output: Path, key: str = "test") -> None:
    trained = read_json(run / "metrics.json")
    assert metrics == {key: trained["test"], f"{key}_calibrated": trained["test_calibrated"]}
    files = (output / "predictions.parquet", run / "predictions" / "test.parquet")
    ours, theirs = (Predictions.read_parquet(file) for file in files)
    for name in ("file_names", "scores", "targets"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("name", ["tiny_run", "live_run"])
def test_the_runs_own_test_part_is_scored_bit_for_bit(
    name: str, request: pytest.FixtureRequest, command_config: Command, tmp_path: Path
):
    run = request.getfixturevalue(name)
    metrics = evaluate(command_config("evaluate", "part=test", output=tmp_path, run=run))
    assert read_json(tmp_path / "metrics.json") == metrics
    assert_as_in_training(metrics, run, tmp_path)


def test_test_images_given_as_a_new_set_are_scored_bit_for_bit(
    on_csv: Evaluate, all_rows: dict[str, str], tiny_run: Path, tiny_images: Path, tmp_path: Path
):
    names = pd.read_csv(tiny_run / "split.csv").query("split == 'test'")["file_name"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in names:
        shutil.copy(tiny_images / name, elsewhere / name)
    # no feature of the run at hand: all are computed again
    store, rows = f"features.dir={tmp_path / 'store'}", {name: all_rows[name] for name in names[::-1]}
    metrics = on_csv(store, rows=rows, images=elsewhere)
    assert_as_in_training(metrics, tiny_run, tmp_path / "out", key="all")
    counted = read_json(tmp_path / "out" / "evaluation.json")["images_in_run"]
    assert counted == {"train": 0, "val": 0, "test": len(names)}


def test_classes_are_matched_by_name(on_csv: Evaluate, all_rows: dict[str, str], tmp_path: Path):
    without_cross = {name: labels.replace("cross", "zebra") for name, labels in all_rows.items()}
    metrics = on_csv(rows=without_cross)
    assert list(metrics["all"]["per_class"]) == ["circle", "square", "triangle"]
    assert metrics["all"]["loss"] is None
    classes = read_json(tmp_path / "out" / "evaluation.json")["classes"]
    assert (classes["unknown_to_the_run"], classes["missing_in_the_data"]) == (["zebra"], ["cross"])
    saved = Predictions.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert saved.classes == ("circle", "square", "triangle")
    assert metrics["all"]["map"] == evaluate_scores(saved.scores, saved.targets, saved.classes)["map"]

    counted = on_csv("missing_classes=absent", rows=without_cross)["all"]
    assert counted["undefined"]["positives"] == ["cross"] and counted["loss"] > 0
    assert counted["per_class"]["circle"] == metrics["all"]["per_class"]["circle"]
    renamed = on_csv("class_map={zebra: cross}", "report=true", rows=without_cross)
    assert renamed["all"] == on_csv()["all"]
    for override, message in (
        ("class_map={okapi: cross}", "class_map: okapi: not classes of the data"),
        ("missing_classes=guess", "missing_classes: must be one of ignore, absent"),
        ("class_map={zebra: okapi}", "class_map: okapi: not classes of the run"),
    ):
        with pytest.raises(InputError, match=message):
            on_csv(override, rows=without_cross)
    with pytest.raises(InputError, match=r"no common classes: the run has circle, cross.*the set has zebra"):
        on_csv(rows=dict.fromkeys(all_rows, "zebra"))


def test_several_classes_may_become_one():
    labels = np.array([[1, 0, 0], [0, 0, -1], [0, 0, 0], [-1, 1, 1]], dtype=np.int8)
    table = LabelTable.build("photos", list("abcd"), labels, ("cup", "mug", "dog"))
    merged, *_ = match_classes(table, ("dog",), {"cup": "dog", "mug": "dog"})
    assert (merged.classes, merged.labels.tolist()) == (("dog",), [[1], [-1], [0], [1]])


def test_evaluations_of_one_set_are_compared(on_csv: Evaluate, tmp_path: Path):
    expected = on_csv()["all"]
    for name in ("one", "two"):
        shutil.copytree(tmp_path / "out", tmp_path / "sets" / name)
    runs = [read_run(path) for path in find_runs(str(tmp_path / "sets"))[0]]
    name_runs(runs)
    comparison = compare_runs(runs, resamples=2)
    assert comparison.groups == [["one", "two"]]
    interval = comparison.interval("two", "0.5", "map")
    assert interval is not None and interval.estimate == expected["map"]
    assert runs[0].settings["loss._target_"].endswith("BCE") and runs[0].dataset["counts"]["train"]
    assert any("images of the set were training images" in note for note in runs[0].notes)


def test_bad_images_are_all_named_or_left_out(on_csv: Evaluate, tiny_images: Path, tmp_path: Path):
    broken, drop = Path(shutil.copytree(tiny_images, tmp_path / "broken")), "data.on_bad_image=drop"
    (broken / "shapes_03.jpg").write_bytes(b"")
    (broken / "shapes_07.jpg").unlink()
    named = r"(?s)2 images cannot be used.*_03.*0 bytes.*_07.*data\.on_bad_image=drop"
    with pytest.raises(InputError, match=named):
        on_csv(images=broken)
    with pytest.raises(InputError, match=r"\d+ images cannot be used, of \d+"):
        on_csv(drop, rows={"shapes_03.jpg": "circle"}, images=broken)
    assert not (tmp_path / "out").exists()
    metrics = on_csv(drop, images=broken)
    saved = Predictions.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert len(saved) == 58 and "shapes_03.jpg" not in saved.file_names
    assert sum(row["support"] for row in metrics["all"]["per_class"].values()) == saved.targets.sum()
    assert len(read_json(tmp_path / "out" / "evaluation.json")["bad_images"]) == 2


def test_what_to_evaluate_on_has_to_be_said(
    on_csv: Evaluate, all_rows: dict[str, str], command_config: Command, tiny_run: Path, tmp_path: Path
):
    alone = Path(shutil.copy(tiny_run / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt"))
    for overrides, run, message in (
        ([], tiny_run, r"no data to evaluate on. Set data=csv .* or part=test"),
        (["part=holdout"], tiny_run, "part: must be one of train, val, test"),
        (["part=test"], alone, r"part=test requires split\.csv, but '.*alone\.ckpt'"),
        (["precision=0.5"], alone, "has no scores of val"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(command_config("evaluate", *overrides, output=tmp_path / "out", run=run))
    with pytest.raises(InputError, match=r"part=test: the run has 12 .* 7 are not in the annotations: sh"):
        on_csv("part=test", rows=dict(list(all_rows.items())[:20]))
    assert not (tmp_path / "out").exists()
    assert list(on_csv("part=train")) == ["train", "train_calibrated"]


def test_an_earlier_evaluation_stays_whole_until_the_new_one_is(
    command_config: Command,
    tmp_path: Path,
    contents: Callable[[Path], dict[Path, bytes]],
    interrupt: Callable[..., None],
):
    config = command_config("evaluate", "part=test", output=tmp_path)
    evaluate(config)
    before = contents(tmp_path)
    config.part = "val"
    interrupt(evaluate, config, RunFolder, "write_json")
    assert contents(tmp_path) == before
    evaluate(config)
    assert list(read_json(tmp_path / "metrics.json")) == ["val", "val_calibrated"]
    assert contents(tmp_path).keys() == before.keys()


def test_a_folder_of_something_else_is_refused_before_the_run_is_read(
    command_config: Command, tiny_run: Path, tmp_path: Path
):
    config = command_config("evaluate", "part=test", output=tiny_run, run=tmp_path / "absent")
    with pytest.raises(InputError, match=r"output: '.*' is not a folder of an evaluation and not empty"):
        evaluate(config)
    file = tmp_path / "metrics.json"
    file.write_text("{}")
    config.output = str(file)
    with pytest.raises(InputError, match=r"output: '.*' is a file\. Expected the name of a folder"):
        evaluate(config)
    assert file.read_text() == "{}"


def test_a_checkpoint_by_itself_is_evaluated(
    on_csv: Evaluate,
    all_rows: dict[str, str],
    tiny_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    def written(name: str) -> dict:
        return read_json(tmp_path / "out" / name)

    alone = Path(shutil.copy(tiny_run / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt"))
    metrics = on_csv(run=alone)
    assert list(metrics) == ["all"]  # thresholds and class weights are in the chosen checkpoint
    assert metrics["all"]["loss"] is None and np.isfinite(metrics["all"]["map"])
    split = pd.read_csv(tiny_run / "split.csv")
    counts = split["split"].value_counts()
    assert written("evaluation.json")["images_in_run"] == {part: counts[part] for part in ("train", "val")}
    assert (
        f"{counts['train'] + counts['val']} of 60 images have the content of images that chose" in caplog.text
    )

    tested = {name: all_rows[name] for name in split.loc[split["split"] == "test", "file_name"]}
    on_csv("precision=0.5", rows=tested, run=alone)
    assert written("guarantees.json")["kind"] == "promise"
    content = torch.load(alone, weights_only=True)
    content["mlic"]["seen"]["is_whole"] = False  # it started from a run that did not record its images
    torch.save(content, alone)
    on_csv("precision=0.5", rows=tested, run=alone)
    assert written("guarantees.json")["kind"] == "estimate"
    assert "it is unknown whether the images chose the weights" in caplog.text
    del content["mlic"]["seen"]  # of a version that did not record it
    torch.save(content, alone)
    on_csv(rows=tested, run=alone)
    assert written("evaluation.json")["images_in_run"] is None
