import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig
from PIL import Image

from mlic.errors import InputError
from mlic.escaping import restore_cell
from mlic.evaluate import evaluate
from mlic.evaluation.predictions import Predictions
from mlic.inference import Classifier, predicting
from mlic.predict import predict

Command = Callable[..., DictConfig]
OLD = "file_name,labels,error,score_circle\n"


def test_rows_are_those_of_python(command_config: Command, tiny_run: Path, tiny_images: Path, tmp_path: Path):
    output = tmp_path / "new" / "predictions.csv"
    assert predict(command_config("predict", f"images={tiny_images}", "batch_size=16", output=output)) == {}
    table = pd.read_csv(output, keep_default_na=False)
    paths = sorted(tiny_images.iterdir())
    expected = Classifier.load(tiny_run, device="cpu").predict(paths, num_workers=0)
    assert table["file_name"].tolist() == [path.name for path in paths]
    ours, theirs = (each.drop(columns="file_name") for each in (table, expected))
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, rtol=0, atol=5.1e-5)
    assert {path.name for path in output.parent.iterdir()} == {"predictions.csv", "index.html"}


def test_each_photograph_of_a_folder_has_a_row(
    command_config: Command,
    tiny_images: Path,
    heic_photo: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    folder, output = tmp_path / "photos", tmp_path / "predictions.csv"
    folder.mkdir()
    good = (tiny_images / "shapes_00.jpg").read_bytes()
    for name, content in {"a.jpg": good, "b.HEIC": heic_photo, "c.CR3": b"raw", "notes.txt": b"x"}.items():
        (folder / name).write_bytes(content)
    config = command_config("predict", f"images={folder}", output=output)
    assert list(predict(config)) == ["c.CR3"]
    assert pd.read_csv(output)["file_name"].tolist() == ["a.jpg", "b.HEIC", "c.CR3"]
    monkeypatch.setattr("mlic.data.images.HEIF_READER", "not_installed_heif")
    bad = predict(config)
    assert list(bad) == ["b.HEIC", "c.CR3"] and "mlic[heif]" in bad["b.HEIC"]


@pytest.mark.parametrize("features", ["cached", "live"])
def test_bits_stored_of_the_run_are_those_of_new_photographs(
    features: str, make_run: Callable[..., Path], command_config: Command, tmp_path: Path
):
    greys = np.linspace(0, 4095, 64 * 64).astype(np.uint16).reshape(64, 64)
    same = ((greys.astype(np.int64) * 255 + 2047) // 4095).astype(np.uint8)
    files = [tmp_path / "deep.png", tmp_path / "same.png"]
    for pixels, file in zip((greys, same), files, strict=True):
        Image.fromarray(pixels).save(file)
    run = make_run(f"features={features}", "data.bits_stored=12", "trainer.max_epochs=1")
    classifier = Classifier.load(run, device="cpu")
    scores = classifier.predict(files, num_workers=0).filter(like="score:").to_numpy()
    np.testing.assert_array_equal(scores[0], scores[1])
    labels, output = tmp_path / "labels.csv", tmp_path / "out"
    labels.write_text("file_name,labels\ndeep.png,circle\nsame.png,square\n")
    data = ("data=csv", f"data.annotations={labels}", f"data.images={tmp_path}")
    evaluate(command_config("evaluate", *data, f"features.dir={tmp_path / 'store'}", output=output, run=run))
    evaluated = Predictions.read_parquet(output / "predictions.parquet")
    columns = [classifier.classes.index(name) for name in evaluated.classes]
    np.testing.assert_allclose(evaluated.scores, scores[:, columns], rtol=1e-5)


@pytest.mark.slow
def test_broken_images_are_rows_and_the_status_is_1(
    tiny_images: Path, tiny_run: Path, run_server: Any, tmp_path: Path
):
    folder, output = tmp_path / "Fotos, März=2", tmp_path / "predictions.csv"  # not in Hydra's grammar
    folder.mkdir()
    for number, name in enumerate(("a b.jpg", "'ü'.jpg", "cut.jpg")):
        (folder / name).write_bytes((tiny_images / f"shapes_0{number}.jpg").read_bytes())
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:200])
    (folder / "empty.jpg").touch()
    options = (f"run={tiny_run}", f"images={folder}", f"output={output}", "device=cpu", "num_workers=0")
    assert run_server.run(*options, folder=tmp_path, command="predict") == 1
    shown = (tmp_path / "command.log").read_text()
    assert "2 images scored" in shown and "2 of 4 images could not be used" in shown
    assert "Traceback" not in shown
    table = pd.read_csv(output, keep_default_na=False).set_index("file_name").rename(index=restore_cell)
    assert list(table.index) == ["'ü'.jpg", "a b.jpg", "cut.jpg", "empty.jpg"]
    assert table["error"].astype(bool).tolist() == [False, False, True, True]


def test_settings_that_cannot_be_used_leave_the_old_file(
    command_config: Command, tiny_images: Path, tmp_path: Path
):
    file = tmp_path / "predictions.csv"
    file.write_text(OLD)
    for override, output, message in (
        ("thresholds=best", file, "thresholds: must be calibrated, common, a number"),
        ("thresholds={cat: 0.5}", file, "thresholds: the run has no class 'cat'"),
        ("thresholds={circle: 2}", file, "a threshold must be a number from 0 to 1, got '2'"),
        ("thresholds=none.json", file, r"'none\.json' cannot be used .*Expected the thresholds\.json"),
        ("images=[]", file, "images: the list is empty"),
        (
            "top_k=null",
            file / "below.csv",
            r"output: '.*' cannot be written \((File exists|Not a directory)\)",
        ),
        ("rank=doubt", file, "rank: must be one of informative, got 'doubt'"),
        ("top_k=null", "/dev/null", "output: '/dev/null/predictions.csv' cannot be written"),
        ("top_k=null", "/dev/fd/1.csv", "output: '/dev/fd/1.csv' cannot be written"),
    ):
        with pytest.raises(InputError, match=message):
            predict(command_config("predict", f"images={tiny_images}", override, output=output))
    assert file.read_text() == OLD and list(tmp_path.iterdir()) == [file]


def test_a_signal_leaves_the_old_file_and_no_other(
    command_config: Command, tiny_images: Path, tmp_path: Path, interrupt: Callable[..., None]
):
    output = tmp_path / "predictions.csv"
    output.write_text(OLD)
    config = command_config("predict", f"images={tiny_images}", output=output)
    interrupt(predict, config, predicting, "append_rows")
    assert output.read_text() == OLD
    assert list(tmp_path.iterdir()) == [output]


def test_a_file_of_something_else_is_refused_before_the_run_is_read(
    command_config: Command, tiny_images: Path, tmp_path: Path
):
    output = tmp_path / "labels.csv"
    config = command_config("predict", f"images={tiny_images}", output=output, run=tmp_path / "absent")
    for content in ("file_name,labels\na.jpg,cat\n", "notes", "file_name,labels,error"):
        output.write_text(content)
        with pytest.raises(InputError, match=r"output: '.*labels\.csv' was not written by mlic\.predict"):
            predict(config)
        assert output.read_text() == content


def test_thresholds_are_those_of_the_setting(
    command_config: Command, tiny_run: Path, tiny_images: Path, tmp_path: Path
):
    own = json.loads((tiny_run / "thresholds.json").read_text())
    classes = list(own["per_class"])
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"common": 0.2, "per_class": dict.fromkeys(classes, 0.2)}))
    images = f"images=[{tiny_images}/shapes_00.jpg,{tiny_images}/shapes_01.jpg,{tiny_images}/shapes_02.jpg]"
    for setting, expected in (
        ("calibrated", own["per_class"]),
        ("common", dict.fromkeys(classes, own["common"])),
        ("0.3", dict.fromkeys(classes, 0.3)),
        ("{circle: 0.9}", {**own["per_class"], "circle": 0.9}),
        (str(other), dict.fromkeys(classes, 0.2)),
    ):
        predict(
            command_config("predict", images, f"thresholds={setting}", "page=false", output=tmp_path / "out")
        )
        table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
        for row in table.to_dict("records"):
            predicted = {name for name in classes if row[f"score:{name}"] > expected[name]}
            assert set(filter(None, row["labels"].split("|"))) == predicted


@pytest.mark.parametrize("run", ["tiny_run", "live_run"])
def test_rank_is_the_order_of_table_page_and_tasks_with_copies_apart(
    run: str, command_config: Command, tiny_images: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    folder, output = Path(shutil.copytree(tiny_images, tmp_path / "photos")), tmp_path / "out"
    (folder / "cut.jpg").write_bytes(b"cut")
    options = (f"images={folder}", "rank=informative", "batch_size=7", "write=labelstudio")
    config = command_config("predict", *options, output=output, run=request.getfixturevalue(run))

    def ranked() -> list[str]:
        assert list(predict(config)) == ["cut.jpg"]
        table = pd.read_csv(output / "predictions.csv", keep_default_na=False)
        assert table["rank"].tolist() == list(range(1, len(table) + 1))
        return table["file_name"].tolist()

    names = ranked()
    assert names == ranked() and names[-1] == "cut.jpg"
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    tasks = json.loads((output / "labelstudio.json").read_text())
    assert [task["data"]["image"].rpartition("=")[2] for task in tasks] == names[:-1]
    assert re.findall(r'<p class="name">(.*?)</p>', (output / "index.html").read_text()) == names
    shutil.copyfile(folder / names[0], folder / "copy.jpg")
    again = ranked()
    first, second = sorted([again.index("copy.jpg"), again.index(names[0])])
    assert first == 0 and second > len(again) / 2


def test_the_page_of_another_program_is_refused(command_config: Command, tiny_images: Path, tmp_path: Path):
    (tmp_path / "index.html").write_text("<!doctype html><title>mine</title>")
    with pytest.raises(InputError, match=r"index\.html' was not written by mlic\.predict"):
        predict(command_config("predict", f"images={tiny_images}", output=tmp_path / "predictions.csv"))
    assert list(tmp_path.iterdir()) == [tmp_path / "index.html"]
    image = f"images={tiny_images}/shapes_00.jpg"
    predict(command_config("predict", image, output=tmp_path / "other.csv"))
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "other.csv", "other.html"}


def test_answers_are_those_of_the_guarantees(
    command_config: Command, tiny_run: Path, tiny_images: Path, tmp_path: Path, make_run: Any
):
    run = make_run("trainer.max_epochs=1", "data.split.calibration=0.2")
    ask = ("ask=true", f"images={tiny_images}", "page=false")
    with pytest.raises(InputError, match=r"guarantees\.json' cannot be used"):
        predict(command_config("predict", *ask, output=tmp_path / "out", run=run))
    levels = ("precision=0.3", "recall=0.6", "confidence=0.5")
    content = evaluate(command_config("evaluate", *levels, output=run, run=run))
    assert (content["kind"], content["source"], content["reason"]) == ("promise", "calibration", "")
    copy = Path(shutil.copytree(tiny_run, tmp_path / "copy"))
    estimate = evaluate(command_config("evaluate", "precision=0.3", output=copy, run=copy))
    assert estimate["kind"] == "estimate" and estimate["source"] == "val"
    assert json.loads((run / "guarantees.json").read_text()) == content
    predict(command_config("predict", *ask, "write=fiftyone", output=tmp_path / "out", run=run))
    assert len(json.loads((tmp_path / "out" / "fiftyone.json").read_text())["labels"]) == 60
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    seen = set()
    for name in content["yes"]["thresholds"]:
        yes, no = (content[key]["thresholds"][name] for key in ("yes", "no"))
        yes, no = (np.inf if yes is None else yes), (-1 if no is None else no)
        score, answer = table[f"score:{name}"].to_numpy(), table[f"answer:{name}"].to_numpy()
        near = (np.abs(score - yes) < 1e-4) | (np.abs(score - no) < 1e-4)  # rounded
        expected = np.where(score > yes, "yes", np.where(score > min(no, yes), "ask", "no"))
        assert ((answer == expected) | near).all()
        asked = [name in cell.split("|") for cell in table["ask"]]
        assert asked == (answer == "ask").tolist()
        seen |= set(answer)
    assert len(seen) > 1
    # test images chose nothing
    evaluate(command_config("evaluate", "part=test", *levels, output=tmp_path / "test", run=run))
    promised = json.loads((tmp_path / "test" / "guarantees.json").read_text())
    assert promised["kind"] == "promise" and promised["images"] == 12
    other = f"thresholds='{run}/guarantees.json'"
    with pytest.raises(InputError, match="is of another checkpoint"):
        predict(command_config("predict", *ask, other, output=tmp_path / "out"))
