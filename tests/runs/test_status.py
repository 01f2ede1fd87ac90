import json
from pathlib import Path

import pytest

from mlic.runs.folder import RunFolder
from mlic.runs.status import RunStatus


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("no such class"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_an_error_is_written_and_goes_on(tmp_path: Path, error: BaseException, state: str):
    with pytest.raises(type(error)), RunStatus(RunFolder(tmp_path)) as run, run.phase("fit"):
        raise error
    content = status(tmp_path)
    assert content["state"] == state and "fit" in content["seconds"]
    assert content["error"]["type"] == type(error).__name__
    assert content["error"]["message"] == str(error)
    assert "test_status.py" in content["error"]["traceback"]


def test_the_status_of_an_earlier_run_stays_until_the_new_one_starts(tmp_path: Path):
    with RunStatus(RunFolder(tmp_path)):
        pass
    before = (tmp_path / "status.json").read_bytes()
    with pytest.raises(SystemExit), RunStatus(RunFolder(tmp_path), write=False) as run, run.phase("data"):
        raise SystemExit(130)
    assert (tmp_path / "status.json").read_bytes() == before
    with RunStatus(RunFolder(tmp_path), write=False) as run:
        with run.phase("data"):
            pass
        run.start()
        assert status(tmp_path)["state"] == "running" and "data" in status(tmp_path)["seconds"]
    assert status(tmp_path)["state"] == "finished"
