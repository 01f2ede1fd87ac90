"""Predictions survive the way through a file, and other files are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("folds", [None, np.array([1, 0, 0, 12])])
def test_round_trip_keeps_every_bit(folds: Any, predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "test.parquet"
    replace(predictions, folds=folds).write_parquet(path)
    read = Predictions.read_parquet(path)
    assert read.file_names.tolist() == NAMES and read.classes == predictions.classes
    assert np.array_equal(read.scores, predictions.scores) and np.array_equal(
        read.targets, predictions.targets
    )
    assert (read.scores.dtype, read.targets.dtype) == (np.float32, np.int8)
    assert (None if read.folds is None else read.folds.tolist()) == (
        None if folds is None else folds.tolist()
    )
    assert [file.name for file in path.parent.iterdir()] == ["test.parquet"]
    with pytest.raises(InputError, match=r"folds \(3,\) for 4 rows"):
        replace(predictions, folds=np.zeros(3))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"file_name": ["a"], "score:a": [0.5], "score:b": [0.5], "target:b": [1], "target:a": [0]},
            "not a predictions file",
        ),
        ({"image": ["a.jpg"], "score:a": [0.1], "target:a": [0]}, "not a predictions file"),
        ({"file_name": ["a.jpg"]}, "not a predictions file"),
        ({"file_name": ["a.jpg"], "score:a": [np.nan], "target:a": [1]}, "score of row 0, class 'a' is nan"),
        ({"file_name": ["a.jpg"], "score:a": [0.5], "target:a": [3]}, "target of row 0.*0, 1, or -1"),
        ({"file_name": ["a.jpg"], "score:a": ["high"], "target:a": [1]}, "high"),
        (None, "Parquet"),
    ],
)
def test_other_files_are_refused_with_their_name(columns: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(InputError, match=r"x\.parquet: cannot be read.*FileNotFound"):
        Predictions.read_parquet(path)
    path.write_text("file_name,score:a\n")
    if columns is not None:
        pd.DataFrame(columns).to_parquet(path)
    with pytest.raises(InputError, match=rf"x\.parquet: .*{message}"):
        Predictions.read_parquet(path)
