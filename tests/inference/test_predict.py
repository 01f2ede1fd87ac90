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


Predict = Callable[..., dict[str, str]]


@pytest.fixture
def run_predict(command_config: Command, tiny_images: Path, tmp_path: Path) -> Predict:
    """A function (overrides, output=..., run=...) -> broken images; by default of the small images, to `tmp_path`."""

    def run(*overrides: str, output: str | Path = tmp_path, **given: Path) -> dict[str, str]:
        return predict(command_config("predict", f"images={tiny_images}", *overrides, output=output, **given))

    return run


def read_table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "predictions.csv", keep_default_na=False)


def test_rows_are_those_of_python(run_predict: Predict, tiny_run: Path, tiny_images: Path, tmp_path: Path):
    assert run_predict("batch_size=16", output=tmp_path / "new" / "predictions.csv") == {}
    expected = Classifier.load(tiny_run, device="cpu").predict(tiny_images, num_workers=0)
    table = read_table(tmp_path / "new")
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=0, atol=5.1e-5)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"predictions.csv", "index.html"}


def test_each_photograph_of_a_folder_has_a_row(
    run_predict: Predict,
    tiny_images: Path,
    heic_photo: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    folder = tmp_path / "photos"
    folder.mkdir()
    good = (tiny_images / "shapes_00.jpg").read_bytes()
    for name, content in {"a.jpg": good, "b.HEIC": heic_photo, "c.CR3": b"raw", "notes.txt": b"x"}.items():
        (folder / name).write_bytes(content)
    assert list(run_predict(f"images={folder}")) == ["c.CR3"]
    assert read_table(tmp_path)["file_name"].tolist() == ["a.jpg", "b.HEIC", "c.CR3"]
    monkeypatch.setattr("mlic.data.images.HEIF_READER", "not_installed_heif")
    bad = run_predict(f"images={folder}")
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


def test_settings_that_cannot_be_used_leave_the_old_file(run_predict: Predict, tmp_path: Path):
    file = tmp_path / "predictions.csv"
    file.write_text(OLD)
    for override, message in (
        ("thresholds=best", "thresholds: must be calibrated, common, a number"),
        ("thresholds={cat: 0.5}", "thresholds: the run has no class 'cat'"),
        ("thresholds={circle: 2}", "a number from 0 to 1, .*got '2'"),
        ("thresholds=none.json", r"'none\.json' cannot be used .*Expected the thresholds\.json"),
        ("images=[]", "images: the list is empty"),
        ("rank=doubt", "rank: must be one of informative, got 'doubt'"),
    ):
        with pytest.raises(InputError, match=message):
            run_predict(override)
    for output in (file / "below.csv", "/dev/null", "/dev/fd/1.csv"):
        with pytest.raises(InputError, match=rf"output: '{output}.*' cannot be written \("):
            run_predict(output=output)
    assert file.read_text() == OLD and list(tmp_path.iterdir()) == [file]


def test_a_signal_leaves_the_old_file_and_no_other(
    command_config: Command, tiny_images: Path, tmp_path: Path, interrupt: Callable[..., None]
):
    output = tmp_path / "predictions.csv"
    output.write_text(OLD)
    config = command_config("predict", f"images={tiny_images}", output=output)
    interrupt(predict, config, predicting, "append_rows")
    assert output.read_text() == OLD and list(tmp_path.iterdir()) == [output]


def test_files_of_something_else_are_refused_before_the_run_is_read(run_predict: Predict, tmp_path: Path):
    given = {"output": tmp_path / "labels.csv", "run": tmp_path / "absent"}
    for content in ("file_name,labels\na.jpg,cat\n", "notes", "file_name,labels,error"):
        given["output"].write_text(content)
        with pytest.raises(InputError, match=r"output: '.*labels\.csv' was not written by mlic\.predict"):
            run_predict(**given)
        assert given["output"].read_text() == content
    (tmp_path / "index.html").write_text("<!doctype html><title>mine</title>")
    with pytest.raises(InputError, match=r"index\.html' was not written by mlic\.predict"):
        run_predict()
    run_predict(output=tmp_path / "other.csv")
    names = {"index.html", "labels.csv", "other.csv", "other.html"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("run", ["tiny_run", "live_run"])
def test_rank_is_the_order_of_table_page_and_tasks_with_copies_apart(
    run: str, run_predict: Predict, tiny_images: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    folder, output = Path(shutil.copytree(tiny_images, tmp_path / "photos")), tmp_path / "out"
    (folder / "cut.jpg").write_bytes(b"cut")
    options = (f"images={folder}", "rank=informative", "batch_size=7", "write=labelstudio")

    def ranked() -> list[str]:
        assert list(run_predict(*options, output=output, run=request.getfixturevalue(run))) == ["cut.jpg"]
        table = read_table(output)
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


def test_answers_are_those_of_the_guarantees(
    run_predict: Predict, command_config: Command, tiny_run: Path, tmp_path: Path, make_run: Any
):
    run = make_run("trainer.max_epochs=1", "data.split.calibration=0.2")
    ask = ("ask=true", "page=false", "write=fiftyone")
    with pytest.raises(InputError, match=r"guarantees\.json' cannot be used"):
        run_predict(*ask, run=run)
    levels = ("precision=0.3", "recall=0.6", "confidence=0.5")
    content = evaluate(command_config("evaluate", *levels, output=run, run=run))
    assert (content["kind"], content["source"], content["reason"]) == ("promise", "calibration", "")
    copy = Path(shutil.copytree(tiny_run, tmp_path / "copy"))
    estimate = evaluate(command_config("evaluate", "precision=0.3", output=copy, run=copy))
    assert estimate["kind"] == "estimate" and estimate["source"] == "val"
    assert json.loads((run / "guarantees.json").read_text()) == content
    run_predict(*ask, run=run)
    assert len(json.loads((tmp_path / "fiftyone.json").read_text())["labels"]) == 60
    table = read_table(tmp_path)
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
    with pytest.raises(InputError, match="is of another checkpoint"):
        run_predict(*ask, f"thresholds='{run}/guarantees.json'")
