"""The cross-validation of the recommended recipe: its folds, its table, and one small run of it."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.ablation import main, make_folds
from benchmarks.ablation_steps import REFERENCE, REPORT, STEPS
from mlic.config import compose
from mlic.data import stratified_split
from mlic.settings import check_settings

TINY = (
    "model.backbone.name=test_efficientnet", "model.backbone.pretrained=false", "model.backbone.image_size=64",
    "model.backbone.precision=float32", "trainer.max_epochs=2",
)  # fmt: skip


def test_choosing_among_steps_sees_no_test_image(tiny_csv: tuple[Path, Path], tmp_path: Path):
    """With `--inner` every run lies within the training images of a fold, in all of its parts."""
    outer = make_folds(tiny_csv[0].parent, tmp_path, folds=3, inner=0, min_images=5)
    inner = make_folds(tiny_csv[0].parent, tmp_path, folds=3, inner=2, min_images=5)
    assert len(outer) == 3 and len(inner) == 6
    for place, fold in enumerate(inner):
        judged = outer[place // 2]
        rows = stratified_split(judged.table, val=0, folds=3, fold=judged.fold).test
        test_names = set(judged.table.file_names[rows])
        assert not test_names & set(fold.table.file_names)
        assert not test_names & set(pd.read_csv(fold.annotations)["file_name"])
        assert len(test_names) + len(fold.table) == 60
        assert fold.overrides()[-3:] == ["data.split.fold=" + str(place % 2), *judged.overrides()[-2:]]


def test_all_steps_compose(tmp_path: Path):
    for step in STEPS.values():
        places = ("data=csv", "data.annotations=a", "data.images=b", "trainer=cpu")
        check_settings(compose(*places, *step, output=tmp_path), "train")


@pytest.mark.slow
def test_a_small_ablation_runs_and_goes_on_where_it_was(
    tiny_csv: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "data"
    shutil.copytree(tiny_csv[1], data / "images")
    # the report's head counts persons by half
    (data / "labels.csv").write_text(tiny_csv[0].read_text().replace("circle", "person"))
    arguments = [
        "--data", str(data), "--out", str(tmp_path / "out"), "--folds", "2", "--min-images", "5",
        "--steps", "experiment=best", "--override", *TINY,
    ]  # fmt: skip
    assert main(arguments) == 0
    table = (tmp_path / "out" / "ablation.md").read_text()
    assert table in capsys.readouterr().out
    steps = [row.split("|")[1].strip() for row in table.splitlines()[2:]]
    assert steps == [REFERENCE, REPORT, "experiment=best"]
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("test.parquet")}
    assert len(finished) == 6
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
