"""Checkpoints are replaced whole; the best and the last of one epoch are one file."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mlic.training import DurableCheckpoints
from mlic.training import checkpoint_io as module


def checkpoint(step: int) -> dict[str, Any]:
    return {"epoch": step, "global_step": step, "state_dict": {"weight": torch.full((1000,), float(step))}}


def step_of(path: Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def test_an_error_while_writing_leaves_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files, path = DurableCheckpoints(), tmp_path / "checkpoints" / "last.ckpt"
    files.save_checkpoint(checkpoint(1), path)

    def half(content: Any, file: Any) -> None:
        file.write(b"PK half")
        raise OSError("no space left on device")

    monkeypatch.setattr(module.torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        files.save_checkpoint(checkpoint(2), path)
    assert step_of(path) == 1
    assert list(path.parent.iterdir()) == [path]


def test_two_names_of_one_step_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files, best, last = DurableCheckpoints(), tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    for step in (1, 2):
        files.save_checkpoint(checkpoint(step), best)
        files.save_checkpoint(checkpoint(step), last)
        assert best.samefile(last) and step_of(best) == step
    files.save_checkpoint(checkpoint(3), last)
    assert (step_of(best), step_of(last)) == (2, 3)

    def refuse(*_: Any) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr("os.link", refuse)
    files.save_checkpoint(checkpoint(3), best)
    assert step_of(best) == 3 and not best.samefile(last)
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_checkpoint_of_a_moved_folder_names_its_new_place(tmp_path: Path):
    old, new = str(tmp_path / "old" / "checkpoints"), tmp_path / "new" / "checkpoints"
    score = torch.tensor(0.5)
    state = {
        "dirpath": old,
        "best_model_path": f"{old}/best.ckpt",
        "kth_best_model_path": f"{old}/best.ckpt",
        "last_model_path": "",
        "best_k_models": {f"{old}/best.ckpt": score},
    }
    files = DurableCheckpoints()
    files.save_checkpoint(
        {**checkpoint(1), "callbacks": {"ModelCheckpoint{}": state, "table": {"rows": ""}}}, new / "last.ckpt"
    )
    loaded = files.load_checkpoint(new / "last.ckpt", weights_only=True)["callbacks"]
    best = str(new / "best.ckpt")
    assert loaded["ModelCheckpoint{}"] == {
        "dirpath": str(new), "best_model_path": best, "kth_best_model_path": best, "last_model_path": "",
        "best_k_models": {best: score},
    }  # fmt: skip
    assert loaded["table"] == {"rows": ""}
