"""Results go into folders that are new, empty, or hold earlier results of the same kind, and replace those whole."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from mlic.errors import InputError
from mlic.runs.folder import NEW, RunFolder, refuse_foreign_folder, replacing_together, write_atomically
from mlic.runs.lock import LOCK_FILE, locked_folder
from mlic.runs.reading import check_format, read_overrides, read_record
from mlic.runs.status import RunStatus


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_new_empty_and_own_folders_are_taken(tmp_path: Path):
    refuse_foreign_folder(tmp_path / "absent")
    for name in (".hydra", ".lock", "train.log", "slurm-7.out", "slurm-7.err"):
        (tmp_path / name).touch()
    refuse_foreign_folder(tmp_path)
    with RunStatus(RunFolder(tmp_path)):
        (tmp_path / "config.yaml").touch()
    refuse_foreign_folder(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"config.yaml": "a: 1", "metrics.json": "{}", "checkpoints/epoch=99.ckpt": "weights"},
        {"status.json": json.dumps({"state": "running", "error": None})},  # of another program
        {"status.json": "[", "notes.txt": "mine"},
    ],
)
def test_a_folder_of_something_else_is_refused(files: dict[str, str], tmp_path: Path):
    for name, text in files.items():
        write_atomically(tmp_path / name, text)
    with pytest.raises(InputError, match=r"^output: '.*' is not a run folder and not empty \(.*Choose"):
        refuse_foreign_folder(tmp_path)
    with pytest.raises(InputError, match="is not a report folder"):
        refuse_foreign_folder(tmp_path, mark="index.html", text="<h1>", kind="report folder")
    (tmp_path / "index.html").write_text("<h1>")
    refuse_foreign_folder(tmp_path, mark="index.html", text="<h1>", kind="report folder")


def test_a_failed_write_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, file = RunFolder(tmp_path), tmp_path / "metrics.json"
    folder.write_json("metrics.json", {"map": 0.5})
    before = content(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json("metrics.json", {"map": float("nan")})
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(file, "new")
    assert content(tmp_path) == before


def test_files_that_belong_together_come_together_and_others_stay(tmp_path: Path):
    write_atomically(tmp_path / "notes.txt", "mine")
    write_atomically(tmp_path / "tables" / "a.csv", "old")
    before = content(tmp_path)
    write_atomically(tmp_path / NEW / "left", "by a kill")
    with pytest.raises(OSError, match="full"), replacing_together(tmp_path) as new:  # noqa: PT012
        write_atomically(new / "tables" / "a.csv", "half")
        raise OSError("full")
    assert content(tmp_path) == before
    with replacing_together(tmp_path) as new:
        write_atomically(new / "tables" / "a.csv", "new")
        write_atomically(new / "index.html", "new")
        assert (tmp_path / "tables" / "a.csv").read_text() == "old"
    assert content(tmp_path) == {"notes.txt": "mine", "tables/a.csv": "new", "index.html": "new"}


def test_a_folder_is_held_by_one_process(tmp_path: Path, held_by_another: Callable[[Path], FileLock]):
    with locked_folder(tmp_path / "run"), locked_folder(str(tmp_path / "run")):
        assert (tmp_path / "run" / LOCK_FILE).is_file()
    with held_by_another(tmp_path / "run"), pytest.raises(InputError, match=r"run' is in use by another"):
        locked_folder(tmp_path / "run").__enter__()
    (tmp_path / "file").write_text("")
    for name, message in (("file", "File exists"), ("a" * 300, "File name too long")):
        with pytest.raises(InputError, match=message):
            locked_folder(tmp_path / name).__enter__()


def test_records_of_other_versions_and_broken_ones(tmp_path: Path):
    assert read_record(tmp_path, "status.json") == ({}, ["status.json is missing"])
    check_format(tmp_path)
    for text in ("[", "[]", "[" * 100_000):
        (tmp_path / "status.json").write_text(text)
        assert read_record(tmp_path, "status.json")[1][0].startswith("status.json cannot be read (")
    RunFolder(tmp_path).write_json("status.json", {"state": 3, "seconds": {"fit": 1}, "overrides": [3]})
    status, problems = read_record(tmp_path, "status.json")
    assert (
        status == {"seconds": {"fit": 1}}
        and problems[0] == "status.json: state has an unexpected form, and is ignored"
    )
    check_format(tmp_path)
    RunFolder(tmp_path).write_json("status.json", {"format": 2, "overrides": ["seed=2"]})
    assert read_overrides(tmp_path) == ["seed=2"]
    with pytest.raises(InputError, match=r"is a run folder of format 2, written by a newer version of mlic"):
        check_format(tmp_path)
