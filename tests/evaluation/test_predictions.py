"""Predictions survive the way through a file, and other files are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions

NAMES = ["grün.jpg", "a 'b' \"c\".png", "<script>alert(1)</script>.jpg", "sub/x:y.jpg"]
Simulate = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def predictions(simulate: Simulate, names: Callable[[int], list[str]]) -> Predictions:
    scores, targets = simulate(0, 4, 6)
    return Predictions(np.array(NAMES), scores, targets, tuple(names(6)))


def test_round_trip_keeps_every_bit(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "test.parquet"
    predictions.write_parquet(path)
    read = Predictions.read_parquet(path)
    assert read.file_names.tolist() == NAMES
    assert read.classes == predictions.classes
    assert np.array_equal(read.scores, predictions.scores)
    assert np.array_equal(read.targets, predictions.targets)
    assert (read.scores.dtype, read.targets.dtype) == (np.float32, np.int8)
    assert [file.name for file in path.parent.iterdir()] == ["test.parquet"]


def test_the_folds_of_a_cross_validation_are_kept(predictions: Predictions, tmp_path: Path) -> None:
    folded = replace(predictions, folds=np.array([1, 0, 0, 12]))
    folded.write_parquet(tmp_path / "test.parquet")
    read = Predictions.read_parquet(tmp_path / "test.parquet").select([3, 0])
    assert read.folds is not None and read.folds.tolist() == [12, 1]
    with pytest.raises(InputError, match=r"folds \(3,\) for 4 rows"):
        replace(predictions, folds=np.zeros(3))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(InputError, match=r"x\.parquet: no such file"):
        Predictions.read_parquet(path)
    path.write_text("file_name,score:a\n")
    with pytest.raises(InputError, match=r"x\.parquet: cannot be read as a parquet file"):
        Predictions.read_parquet(path)
    columns = {"file_name": ["a.jpg"], "score:a": [0.5], "score:b": [0.5], "target:b": [1], "target:a": [0]}
    for wrong in (columns, {"image": ["a.jpg"], "score:a": [0.1], "target:a": [0]}, {"file_name": ["a.jpg"]}):
        pd.DataFrame(wrong).to_parquet(path)
        with pytest.raises(InputError, match=r"x\.parquet: not a predictions file.*file_name"):
            Predictions.read_parquet(path)


@pytest.mark.parametrize(
    ("score", "target", "message"),
    [
        (np.nan, 1, "score of row 0, class 'a' is nan"),
        (0.5, 3, "target of row 0.*0, 1, or -1"),
        ("high", 1, "high"),
    ],
)
def test_bad_values_are_refused_with_the_file(
    tmp_path: Path, score: object, target: int, message: str
) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"file_name": ["a.jpg"], "score:a": [score], "target:a": [target]}).to_parquet(path)
    with pytest.raises(InputError, match=rf"x\.parquet: .*{message}"):
        Predictions.read_parquet(path)
