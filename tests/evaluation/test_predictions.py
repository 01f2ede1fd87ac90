"""Predictions survive the way through a file, and other files are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
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
    assert (read.scores.dtype, read.targets.dtype) == (np.float32, np.uint8)
    assert [file.name for file in path.parent.iterdir()] == ["test.parquet"]


def test_columns_are_those_of_the_contract(predictions: Predictions, tmp_path: Path) -> None:
    predictions.write_parquet(tmp_path / "test.parquet")
    frame = pd.read_parquet(tmp_path / "test.parquet")
    assert list(frame.columns[:3]) == ["file_name", "score:apple", "score:bär"]
    assert list(frame.columns[7:]) == [f"target:{name}" for name in predictions.classes]
    assert frame["score:score:e"].dtype == np.float32
    assert frame["target:<script>"].dtype == np.uint8


def test_a_failed_write_leaves_the_old_file_alone(
    predictions: Predictions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test.parquet"
    predictions.write_parquet(path)
    before = path.read_bytes()

    def fail(frame: pd.DataFrame, file: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        predictions.write_parquet(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_select_keeps_rows_together(predictions: Predictions) -> None:
    part = predictions.select([2, 0])
    assert part.file_names.tolist() == [NAMES[2], NAMES[0]]
    assert np.array_equal(part.scores, predictions.scores[[2, 0]])
    assert len(part) == 2


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(InputError, match=r"x\.parquet: there is no such file"):
        Predictions.read_parquet(path)
    path.write_text("file_name,score:a\n")
    with pytest.raises(InputError, match=r"x\.parquet: cannot be read as a parquet file"):
        Predictions.read_parquet(path)
    columns = {"file_name": ["a.jpg"], "score:a": [0.5], "score:b": [0.5], "target:b": [1], "target:a": [0]}
    for wrong in (columns, {"image": ["a.jpg"], "score:a": [0.1], "target:a": [0]}, {"file_name": ["a.jpg"]}):
        pd.DataFrame(wrong).to_parquet(path)
        with pytest.raises(InputError, match=r"x\.parquet: is no predictions file.*file_name"):
            Predictions.read_parquet(path)


@pytest.mark.parametrize(
    ("score", "target", "message"),
    [
        (np.nan, 1, "score of row 0, class 'a' is nan"),
        (0.5, 3, "target of row 0.*0 or 1"),
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


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="file names for 2 rows"):
        Predictions(np.array(["a"]), np.zeros((2, 1)), np.zeros((2, 1)), ("a",))


def test_metadata_that_pandas_did_not_write_are_told(tmp_path: Path):
    file = tmp_path / "test.parquet"
    table = pa.table({"file_name": ["a.jpg"], "score:cat": [0.5], "target:cat": [1]})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps({"columns": [{}]})}), file)
    with pytest.raises(InputError, match=r"test\.parquet: cannot be read as a parquet file \(KeyError"):
        Predictions.read_parquet(file)
