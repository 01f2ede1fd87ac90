import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mlic.report.reading import read_run

WriteRun = Callable[..., Path]
Made = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_a_whole_run_is_read_sorted_by_file_name(tmp_path: Path, write_run: WriteRun, made: Made):
    scores, targets = made(0, 5, 3)
    names = ["d.jpg", "a.jpg", "c.jpg", "e.jpg", "b.jpg"]
    limits = {"x": 0.25, "y": 0.5, "z": 0.75}
    run = read_run(write_run(tmp_path, scores, targets, "xyz", file_names=names, thresholds=limits))
    assert (run.state, run.notes) == ("finished", [])
    assert run.test is not None and run.test.file_names.tolist() == sorted(names)
    assert np.array_equal(run.test.scores[0], scores[1])
    assert run.thresholds is not None and run.thresholds.tolist() == [0.25, 0.5, 0.75]
    assert (run.find("status.seconds.fit"), run.find("status.seconds.nothing")) == (6, None)


def test_a_broken_file_is_a_note(tmp_path: Path, write_run: WriteRun, made: Made):
    whole = write_run(tmp_path / "run", *made(0, 5, 3), "xyz", thresholds={"x": 0.5})
    run = read_run(whole)
    assert (
        run.thresholds is None
        and "thresholds.json does not have the thresholds of all classes" in run.notes[0]
    )
    write_run(tmp_path / "logits", 5 * made(0, 5, 3)[0], made(0, 5, 3)[1], "xyz")
    assert "must be probabilities" in read_run(tmp_path / "logits").notes[0]
    for file in ("metrics.json", "epochs.csv", "predictions/test.parquet"):
        folder = Path(shutil.copytree(whole, tmp_path / file))
        (folder / file).write_bytes(b"")
        assert [note for note in read_run(folder).notes if note.startswith(f"{file} cannot be read")], file
    (whole / "status.json").write_text('{"state": "failed", "error": {"message": "no such file"}}')
    run = read_run(whole)
    assert run.state == "failed" and run.test is None and run.dataset == {} and run.model["name"] == "net"
    (whole / "status.json").write_text("[]")
    run = read_run(whole)
    assert run.state == "unknown"
    assert "status.json cannot be read (expected a JSON object)" in run.notes
