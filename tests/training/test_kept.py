"""What lies in a folder stays as it is until a run has passed all checks; a folder of something else is refused."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from mlic.data import MultiLabelDataModule
from mlic.errors import InputError
from mlic.runs.folder import RunFolder
from mlic.runs.reading import read_record
from mlic.train import train

MakeConfig = Callable[..., DictConfig]
FOREIGN = (
    "config.yaml",
    "metrics.json",
    "split.csv",
    "checkpoints/epoch=99.ckpt",
    "train.log",
)


def content_of(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """Path -> digest of each file, and the empty folders."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
        if path.name not in but
    }


@pytest.fixture
def mistakes(tiny_csv: tuple[Path, Path], tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """Overrides that end in an error, by what is wrong with them."""
    shutil.copytree(tiny_csv[1], tmp_path / "images")
    broken = tmp_path / "images" / "shapes_07.jpg"
    broken.write_bytes(broken.read_bytes()[:200] + b"\xff\xd9")  # with an end: only its decoding tells
    images = f"data.images={tmp_path / 'images'}"
    return {  # one of each stage of the preparation
        "annotations": ("data.annotations=lables.csv",),
        "network": ("model.backbone.name=nope",),
        "setting": ("+epochs=3",),
        "broken image": (images,),
        "option of the head": ("+head.width=3",),
        "value of the scheduler": ("scheduler=cosine", "scheduler.warmup=2"),
        "value of the trainer": ("trainer.precision=nope",),
        "kind of a value of the trainer": ("trainer.log_every_n_steps=abc",),
        "folder of the checkpoints": ("callbacks.checkpoint.dirpath=/proc/x",),
        "no epochs": ("trainer.max_epochs=0",),
        "start": ("init_from=absent",),
    }


def test_a_command_that_fails_leaves_a_finished_run_as_it_was(
    mistakes: dict[str, tuple[str, ...]], tiny_config: MakeConfig, tmp_path: Path
):
    train(tiny_config("trainer.max_epochs=1"))
    before = content_of(tmp_path / "run")
    for name, overrides in mistakes.items():
        failed = False
        try:
            train(tiny_config(*overrides))
        except Exception:  # of Lightning and Hydra too
            failed = True
        assert failed and content_of(tmp_path / "run") == before, name
    train(tiny_config("seed=1", "trainer.max_epochs=1"))
    after = content_of(tmp_path / "run")
    assert after["metrics.json"] != before["metrics.json"] and not set(before) - set(after) - {
        name for name in before if "tfevents" in name
    }


def test_an_interrupted_preparation_leaves_a_run_as_it_was(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train(tiny_config("trainer.max_epochs=1"))
    (tmp_path / "run" / "metrics.json").unlink()  # not finished
    before = content_of(tmp_path / "run")

    def interrupted(*_: Any) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(MultiLabelDataModule, "setup", interrupted)
    for resume in ("auto", "null"):
        with pytest.raises(SystemExit):
            train(tiny_config("trainer.max_epochs=1", f"resume={resume}"))
        assert content_of(tmp_path / "run") == before


def make_foreign(folder: Path) -> dict[str, str]:
    for name in FOREIGN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} of another project")
    return content_of(folder)


@pytest.mark.parametrize("resume", ["auto", "null"])
def test_a_folder_that_holds_something_else_is_refused(resume: str, tiny_config: MakeConfig, tmp_path: Path):
    make_foreign(tmp_path / "foreign")
    search = tmp_path / "search"
    search.mkdir()
    RunFolder(search).write_json("status.json", {"state": "finished", "error": None, "seconds": {}})
    (search / "trials.csv").write_text("trial,score\n")
    for folder, reason in (
        ("foreign", "not a run folder and not empty"),
        ("search", "the folder of a search"),
    ):
        before = content_of(tmp_path / folder)
        with pytest.raises(InputError, match=rf"^output: '.*{folder}' is {reason}"):
            train(tiny_config(f"resume={resume}", output=tmp_path / folder))
        assert content_of(tmp_path / folder, but=(".lock",)) == before


def test_a_run_that_was_killed_in_its_preparation_is_begun_by_resume(tiny_config: MakeConfig, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.write_json("status.json", {"state": "running", "error": None, "seconds": {}})
    train(tiny_config("resume=auto", "trainer.max_epochs=1"))
    assert read_record(folder.path, "status.json")[0]["state"] == "finished"


@pytest.mark.slow
def test_the_command_line_leaves_what_is_there(
    run_server: Any, tiny_overrides: Callable[..., list[str]], tmp_path: Path
):
    """Hydra writes its settings and a log before the command runs."""
    foreign = make_foreign(tmp_path / "foreign")
    assert run_server.run(*tiny_overrides(f"output={tmp_path / 'foreign'}"), folder=tmp_path) == 1
    assert "is not a run folder and not empty" in (tmp_path / "command.log").read_text()
    assert content_of(tmp_path / "foreign") == foreign

    run = tmp_path / "run"
    assert run_server.run(*tiny_overrides(f"output={run}"), folder=tmp_path) == 0
    before = content_of(run, but=("train.log",))
    for typo in ("data.annotations=lables.csv", "on_error=nope"):
        assert run_server.run(*tiny_overrides(typo, f"output={run}"), folder=tmp_path) == 1
        assert content_of(run, but=("train.log",)) == before, typo
    assert "lables.csv" in (run / "train.log").read_text()
    assert run_server.run(*tiny_overrides("seed=1", f"output={run}"), folder=tmp_path) == 0
    assert "seed=1" in json.loads((run / "status.json").read_text())["overrides"]
    assert "seed: 1" in (run / "config.yaml").read_text()
