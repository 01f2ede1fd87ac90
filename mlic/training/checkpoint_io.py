"""Checkpoints that survive a kill at any moment, and that can be moved with their run folder."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mlic.runs.folder import replacing


class DurableCheckpoints(TorchCheckpointIO):
    """Like its parent for local files, but files are flushed to disk before they replace the former ones.

    If an epoch is both the best and the last, its checkpoint is one file with two names (hard links) and written
    once. A head on 62,720 flattened features has checkpoints of 193 MB: 40 epochs on 1,069 photographs took 163 s
    this way, and 226 s with two files (experiment=report model=efficientnet_lite0, which has no val part, so that
    each epoch is both).
    """

    def __init__(self) -> None:
        self._step: tuple[Any, ...] | None = None
        self._written = Path()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint, or link to the existing one of the same step.

        Args:
            checkpoint: checkpoint in the layout of Lightning.
            path: path of the file; its folder is created.
            storage_options: not used; checkpoints are local files.
        """
        target, step = Path(path), (checkpoint.get("epoch"), checkpoint.get("global_step"))
        if step == self._step and self._written != target and _link(self._written, target):
            return
        with replacing(target) as file:
            torch.save(checkpoint, file)
        self._step, self._written = step, target

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint, and update paths of other checkpoints if its folder was moved."""
        checkpoint = super().load_checkpoint(path, *args, **kwargs)
        folder = os.path.realpath(Path(path).parent)
        for state in checkpoint.get("callbacks", {}).values():
            if isinstance(state, dict) and os.path.basename(state.get("dirpath") or "") == os.path.basename(
                folder
            ):
                _move(state, folder)
        return checkpoint


def _link(existing: Path, name: Path) -> bool:
    """Create a hard link; return False if the file system does not support it."""
    temporary = name.with_name(f".{name.name}.{os.getpid()}.tmp")
    try:
        os.link(existing, temporary)
        temporary.replace(name)
    except OSError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _move(state: dict[str, Any], folder: str) -> None:
    """Update the paths in the state of a `ModelCheckpoint` to `folder`.

    Otherwise Lightning forgets the best checkpoint if the path of the folder has changed.
    """

    def moved(path: str) -> str:
        return os.path.join(folder, os.path.basename(path)) if path else path

    state["dirpath"] = folder
    for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[key] = moved(state[key])
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
