from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlic.evaluation.thresholds import fit_thresholds
from mlic.report.reading import read_run

WriteRun = Callable[..., Path]
Made = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_a_whole_run_is_read_sorted_by_file_name(tmp_path: Path, write_run: WriteRun, made: Made):
    scores, targets = made(0, 5, 3)
    names = ["d.jpg", "a.jpg", "c.jpg", "e.jpg", "b.jpg"]
    run = read_run(
        write_run(
            tmp_path / "run",
            scores,
            targets,
            "xyz",
            file_names=names,
            thresholds={"x": 0.25, "y": 0.5, "z": 0.75},
        )
    )
    assert run.state == "finished"
    assert run.notes == []
    assert run.test is not None and run.test.file_names.tolist() == sorted(names)
    assert np.array_equal(run.test.scores[0], scores[1])
    assert run.thresholds is not None and run.thresholds.tolist() == [0.25, 0.5, 0.75]
    assert run.thresholds_from == "thresholds.json"
    assert run.seconds("fit") == 6
    assert run.seconds("nothing") is None


def test_without_stored_thresholds_they_are_tuned_on_val(tmp_path: Path, write_run: WriteRun, made: Made):
    val = made(1, 30, 3)
    run = read_run(write_run(tmp_path / "run", *made(0, 5, 3), "xyz", val=val))
    assert run.thresholds is not None
    assert np.array_equal(run.thresholds, fit_thresholds(*val).per_class)
    assert "val" in run.thresholds_from


def test_thresholds_that_lack_a_class_are_noted_and_not_used(tmp_path: Path, write_run: WriteRun, made: Made):
    run = read_run(write_run(tmp_path / "run", *made(0, 5, 3), "xyz", thresholds={"x": 0.5}))
    assert run.thresholds is None
    assert "thresholds.json has none for y, z" in run.notes


@pytest.mark.parametrize(
    ("file", "note"),
    [
        ("metrics.json", r"metrics.json cannot be read \(JSONDecodeError"),
        ("epochs.csv", "epochs.csv cannot be read"),
        ("predictions/test.parquet", "predictions/test.parquet cannot be read"),
    ],
)
def test_a_broken_file_is_a_note(tmp_path: Path, write_run: WriteRun, made: Made, file: str, note: str):
    folder = write_run(tmp_path / "run", *made(0, 5, 3), "xyz")
    (folder / file).write_bytes(b"")
    run = read_run(folder)
    assert any(note.split(" \\(")[0] in item for item in run.notes), run.notes


def test_of_a_failed_run_only_what_identifies_it_is_read(tmp_path: Path, write_run: WriteRun, made: Made):
    error = {"type": "InputError", "message": "no such file"}
    folder = write_run(tmp_path / "run", *made(0, 5, 3), "xyz", status={"state": "failed", "error": error})
    run = read_run(folder)
    assert run.state == "failed"
    assert run.status["error"] == error
    assert run.test is None and run.dataset == {} and run.model["name"] == "net"


def test_a_broken_status_is_an_unknown_state(tmp_path: Path):
    (tmp_path / "status.json").write_text("[]")
    run = read_run(tmp_path)
    assert run.state == "unknown"
    assert "status.json cannot be read (InputError: expected a JSON object)" in run.notes
