import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from mlic.command_line import ending_in_order
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.runs.folder import RunFolder

Command = Callable[..., DictConfig]


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def labels_file(folder: Path, rows: dict[str, str]) -> Path:
    file = folder / "labels.csv"
    file.write_text(
        "\n".join(["file_name,labels", *(f"{name},{labels}" for name, labels in rows.items())]) + "\n"
    )
    return file


@pytest.fixture
def on_csv(command_config: Command, tiny_images: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """A function (file name -> labels, overrides) -> config of an evaluation on these; output is tmp_path / "out"."""

    def make(
        rows: dict[str, str], *overrides: str, images: Path = tiny_images, run: Path | None = None
    ) -> DictConfig:
        places = (f"data.annotations={labels_file(tmp_path, rows)}", f"data.images={images}")
        given = {} if run is None else {"run": run}
        return command_config("evaluate", "data=csv", *places, *overrides, output=tmp_path / "out", **given)

    return make


@pytest.fixture
def all_rows(tiny_labels: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: "|".join(labels) for name, labels in tiny_labels.items()}


def assert_as_in_training(metrics: dict, run: Path, output: Path, key: str = "test") -> None:
    trained = read_json(run / "metrics.json")
    assert metrics[key] == trained["test"]
    assert metrics[f"{key}_calibrated"] == trained["test_calibrated"]
    ours, theirs = (
        Predictions.read_parquet(file)
        for file in (output / "predictions.parquet", run / "predictions" / "test.parquet")
    )
    assert ours.file_names.tolist() == theirs.file_names.tolist()
    assert ours.scores.tobytes() == theirs.scores.tobytes()
    assert ours.targets.tobytes() == theirs.targets.tobytes()


@pytest.mark.parametrize("overrides", [(), ("features=live",)])
def test_the_runs_own_test_part_is_scored_bit_for_bit(
    overrides: tuple[str, ...], make_run: Callable[..., Path], command_config: Command, tmp_path: Path
):
    run, output = make_run(*overrides), tmp_path / "out"
    metrics = evaluate(command_config("evaluate", "part=test", output=output, run=run))
    assert list(metrics) == ["test", "test_calibrated"]
    assert read_json(output / "metrics.json") == metrics
    assert_as_in_training(metrics, run, output)


def test_test_images_given_as_a_new_set_are_scored_bit_for_bit(
    on_csv: Command, all_rows: dict[str, str], tiny_run: Path, tiny_images: Path, tmp_path: Path
):
    split = pd.read_csv(tiny_run / "split.csv")
    names = split.loc[split["split"] == "test", "file_name"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in names:
        shutil.copy(tiny_images / name, elsewhere / name)
    # no feature of the run at hand: all are computed again
    options = (f"features.dir={tmp_path / 'store'}",)
    metrics = evaluate(on_csv({name: all_rows[name] for name in names[::-1]}, *options, images=elsewhere))
    assert_as_in_training(metrics, tiny_run, tmp_path / "out", key="all")
    assert read_json(tmp_path / "out" / "evaluation.json")["images_in_run"] == {
        "train": 0,
        "val": 0,
        "test": len(names),
    }


def test_images_of_the_training_part_are_counted_by_content(
    on_csv: Command,
    all_rows: dict[str, str],
    tiny_images: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("INFO")
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for name in all_rows:
        shutil.copy(tiny_images / name, renamed / f"new_{name}")
    evaluate(on_csv({f"new_{name}": labels for name, labels in all_rows.items()}, images=renamed))
    counted = read_json(tmp_path / "out" / "evaluation.json")["images_in_run"]
    assert sum(counted.values()) == 60
    assert counted["train"] > 30
    assert f"{counted['train']} of 60 images were in the training part of this run" in caplog.text


def test_classes_are_matched_by_name(
    on_csv: Command, all_rows: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    without_cross = {name: labels.replace("cross", "zebra") for name, labels in all_rows.items()}
    metrics = evaluate(on_csv(without_cross))
    assert list(metrics["all"]["per_class"]) == ["circle", "square", "triangle"]
    assert metrics["all"]["loss"] is None
    classes = read_json(tmp_path / "out" / "evaluation.json")["classes"]
    assert classes["unknown_to_the_run"] == ["zebra"]
    assert classes["missing_in_the_data"] == ["cross"]
    assert "1 classes that the run does not know are left out: zebra" in caplog.text
    assert "1 classes of the run are not in the set, left out (see missing_classes): cross" in caplog.text
    saved = Predictions.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert saved.classes == ("circle", "square", "triangle")
    assert metrics["all"]["map"] == evaluate_scores(saved.scores, saved.targets, saved.classes)["map"]

    counted = evaluate(on_csv(without_cross, "missing_classes=absent"))["all"]
    assert counted["undefined"]["positives"] == ["cross"]
    assert counted["per_class"]["circle"] == metrics["all"]["per_class"]["circle"]
    assert counted["loss"] > 0
    with pytest.raises(InputError, match="missing_classes: must be one of ignore, absent"):
        evaluate(on_csv(without_cross, "missing_classes=guess"))
    with pytest.raises(
        InputError, match=r"no class in common: the run knows circle, cross.*the set has zebra"
    ):
        evaluate(on_csv(dict.fromkeys(all_rows, "zebra")))


@pytest.mark.parametrize("features", ["cached", "live"])
def test_bad_images_are_all_named_or_left_out(
    features: str,
    make_run: Callable[..., Path],
    tiny_run: Path,
    on_csv: Command,
    all_rows: dict[str, str],
    tiny_images: Path,
    tmp_path: Path,
):
    run = tiny_run if features == "cached" else make_run("features=live", "trainer.max_epochs=1")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_images, broken)
    (broken / "shapes_03.jpg").write_bytes(b"")
    (broken / "shapes_07.jpg").unlink()
    with pytest.raises(
        InputError, match=r"(?s)2 images cannot be used.*_03.*0 bytes.*_07.*data\.on_bad_image=drop"
    ):
        evaluate(on_csv(all_rows, images=broken, run=run))
    assert not (tmp_path / "out").exists()
    metrics = evaluate(on_csv(all_rows, "data.on_bad_image=drop", images=broken, run=run))
    saved = Predictions.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert len(saved) == 58 and "shapes_03.jpg" not in saved.file_names
    assert sum(row["support"] for row in metrics["all"]["per_class"].values()) == saved.targets.sum()
    assert len(read_json(tmp_path / "out" / "evaluation.json")["bad_images"]) == 2
    with pytest.raises(InputError, match=r"\d+ of \d+ images cannot be used"):
        evaluate(on_csv({"shapes_03.jpg": "circle"}, "data.on_bad_image=drop", images=broken, run=run))
    with pytest.raises(InputError, match=r"data\.on_bad_image: must be one of error, drop"):
        evaluate(on_csv(all_rows, "data.on_bad_image=skip", run=run))


def test_what_to_evaluate_on_has_to_be_said(command_config: Command, tiny_run: Path, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"say what to evaluate on: data=csv .* or part=test"):
        evaluate(command_config("evaluate", output=out))
    with pytest.raises(InputError, match="part: must be one of train, val, test"):
        evaluate(command_config("evaluate", "part=holdout", output=out))
    alone = Path(shutil.copy(tiny_run / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt"))
    with pytest.raises(
        InputError, match=r"part=test needs the run folder with its split\.csv, and '.*alone\.ckpt'"
    ):
        evaluate(command_config("evaluate", "part=test", output=out, run=alone))
    before = (tiny_run / "metrics.json").read_bytes()
    with pytest.raises(InputError, match=r"output: '.*' is not a folder of an evaluation and not empty"):
        evaluate(command_config("evaluate", "part=test", output=tiny_run))
    assert (tiny_run / "metrics.json").read_bytes() == before
    assert not out.exists()


def test_an_earlier_evaluation_stays_whole_until_the_new_one_is(
    command_config: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output = tmp_path / "out"
    config = command_config("evaluate", "part=test", output=output)
    evaluate(config)
    before = {path: path.read_bytes() for path in output.iterdir()}
    write_json = RunFolder.write_json

    def interrupted(self: RunFolder, name: str, content: dict) -> None:
        write_json(self, name, content)
        signal.raise_signal(signal.SIGTERM)

    config.part = "val"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_json", interrupted)
        with pytest.raises(SystemExit) as ended:
            ending_in_order()(evaluate)(config)
    assert ended.value.code == 143
    assert {path: path.read_bytes() for path in output.iterdir()} == before
    evaluate(config)
    assert list(read_json(output / "metrics.json")) == ["val", "val_calibrated"]
    assert {path.name for path in output.iterdir()} == {path.name for path in before}


@pytest.mark.parametrize("name", ["evaluation.json", "metrics.json", "notes.txt"])
def test_a_folder_of_something_else_is_refused_before_the_run_is_read(
    name: str, command_config: Command, tmp_path: Path
):
    (tmp_path / name).write_text("{}")
    config = command_config("evaluate", "part=test", output=tmp_path, run=tmp_path / "absent")
    with pytest.raises(InputError, match=rf"is not a folder of an evaluation and not empty \({name}\)"):
        evaluate(config)
    config.output = tmp_path / name
    with pytest.raises(InputError, match=r"output: '.*' is a file\. Expected the name of a folder"):
        evaluate(config)
    assert (tmp_path / name).read_text() == "{}"


def test_a_part_needs_its_images_in_the_annotations(on_csv: Command, all_rows: dict[str, str]):
    some = dict(list(all_rows.items())[:20])
    with pytest.raises(
        InputError, match=r"part=test: \d+ of \d+ images of that part are not in the annotations: sh"
    ):
        evaluate(on_csv(some, "part=test"))
    train_only = evaluate(on_csv(all_rows, "part=train"))
    assert list(train_only) == ["train", "train_calibrated"]


def test_a_checkpoint_by_itself_is_evaluated(
    on_csv: Command,
    all_rows: dict[str, str],
    tiny_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    alone = Path(shutil.copy(tiny_run / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt"))
    metrics = evaluate(on_csv(all_rows, run=alone))
    assert list(metrics) == ["all"]  # thresholds and class weights are in the chosen checkpoint
    assert metrics["all"]["loss"] is None
    split = pd.read_csv(tiny_run / "split.csv")["split"]
    counted = read_json(tmp_path / "out" / "evaluation.json")["images_in_run"]
    assert counted == {part: (split == part).sum() for part in ("train", "val")}
    assert f"{counted['train']} of 60 images were in the training part of this run" in caplog.text
    content = torch.load(alone, weights_only=True)
    del content["mlic"]["seen"]  # of a version that did not record it
    torch.save(content, alone)
    evaluate(on_csv(all_rows, run=alone))
    assert read_json(tmp_path / "out" / "evaluation.json")["images_in_run"] is None
    assert "whether the run was trained on any of these 60 images is unknown" in caplog.text
    assert np.isfinite(metrics["all"]["map"])
