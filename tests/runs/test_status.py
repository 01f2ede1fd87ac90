import errno
import json
from pathlib import Path

import pytest

from mlic.errors import InputError
from mlic.runs.folder import RunFolder, write_atomically
from mlic.runs.status import RunStatus


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def test_a_finished_run_has_the_seconds_of_its_phases(tmp_path: Path):
    with RunStatus(RunFolder(tmp_path / "run")) as run:
        assert status(tmp_path / "run")["state"] == "running"
        with run.phase("data"):
            pass
    content = status(tmp_path / "run")
    assert content["state"] == "finished"
    assert content["error"] is None
    assert content["seconds"]["data"] >= 0
    assert content["ended"] >= content["started"]


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("no such class"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_an_error_is_written_and_goes_on(tmp_path: Path, error: BaseException, state: str):
    with pytest.raises(type(error)), RunStatus(RunFolder(tmp_path)) as run, run.phase("fit"):
        raise error
    content = status(tmp_path)
    assert content["state"] == state
    assert content["error"]["type"] == type(error).__name__
    assert content["error"]["message"] == str(error)
    assert "test_status.py" in content["error"]["traceback"]
    assert "fit" in content["seconds"]


def test_other_processes_write_nothing(tmp_path: Path):
    with RunStatus(RunFolder(tmp_path), write=False):
        pass
    assert not (tmp_path / "status.json").exists()


def test_the_status_of_an_earlier_run_stays_until_the_new_one_begins(tmp_path: Path):
    with RunStatus(RunFolder(tmp_path)):
        pass
    before = (tmp_path / "status.json").read_bytes()
    with pytest.raises(SystemExit), RunStatus(RunFolder(tmp_path), write=False) as run, run.phase("data"):
        raise SystemExit(130)
    assert (tmp_path / "status.json").read_bytes() == before
    with RunStatus(RunFolder(tmp_path), write=False) as run:
        with run.phase("data"):
            pass
        run.begin()
        assert status(tmp_path)["state"] == "running" and "data" in status(tmp_path)["seconds"]
    assert status(tmp_path)["state"] == "finished"


def test_an_error_that_says_what_happened_is_not_explained_again(tmp_path: Path):
    with pytest.raises(InputError), RunStatus(RunFolder(tmp_path)):
        raise InputError("labels.csv cannot be read") from PermissionError(errno.EACCES, "Permission denied")
    assert status(tmp_path)["error"]["message"] == "labels.csv cannot be read"


def test_a_failed_write_keeps_the_former_file(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.write_json("metrics.json", {"map": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json("metrics.json", {"map": float("nan")})
    assert folder.read_json("metrics.json") == {"map": 0.5}
    write_atomically(tmp_path / "deep" / "er.txt", "ä")
    assert (tmp_path / "deep" / "er.txt").read_text(encoding="utf-8") == "ä"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []
