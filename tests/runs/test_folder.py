"""Results go into folders that are new, empty, or hold earlier results of the same kind."""

import json
from pathlib import Path

import pytest

from mlic.errors import InputError
from mlic.runs.folder import RunFolder, refuse_foreign_folder
from mlic.runs.status import RunStatus


def test_new_empty_and_own_folders_are_taken(tmp_path: Path):
    refuse_foreign_folder(tmp_path / "absent")
    refuse_foreign_folder(tmp_path)
    for name in (".hydra", ".lock", "train.log", "slurm-7.out", "slurm-7.err"):
        (tmp_path / name).touch()
    refuse_foreign_folder(tmp_path)
    with RunStatus(RunFolder(tmp_path)):
        (tmp_path / "config.yaml").touch()
    refuse_foreign_folder(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {
            "config.yaml": "a: 1",
            "metrics.json": "{}",
            "split.csv": "a",
            "checkpoints/epoch=99.ckpt": "weights",
        },
        {"status.json": json.dumps({"state": "running", "error": None})},  # of another program
        {"status.json": "[", "notes.txt": "mine"},
    ],
)
def test_a_folder_of_something_else_is_refused(files: dict[str, str], tmp_path: Path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(
        InputError, match=r"^output: '.*' is not a run folder and not empty \(.*Choose another"
    ):
        refuse_foreign_folder(tmp_path)
    with pytest.raises(InputError, match="is not a report folder"):
        refuse_foreign_folder(tmp_path, mark="index.html", text="<h1>", kind="report folder")


def test_the_mark_is_named_by_its_command(tmp_path: Path):
    (tmp_path / "index.html").write_text("<title>Comparison of runs</title>")
    refuse_foreign_folder(tmp_path, mark="index.html", text="<title>Comparison", kind="report folder")
    with pytest.raises(InputError, match=r"index\.html"):
        refuse_foreign_folder(tmp_path)
