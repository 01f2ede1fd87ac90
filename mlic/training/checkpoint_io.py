"""Checkpoints that a kill at any moment leaves whole, and that a moved run folder takes along."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mlic.runs.folder import replacing


class DurableCheckpoints(TorchCheckpointIO):
    """Equivalent to its parent for local files, which are flushed to the disk before they replace the former ones.

    The best and the last checkpoint of an epoch that is both are one file with two names (hard links), written once.
    """

    def __init__(self) -> None:
        """Nothing is written yet."""
        self._step: tuple[Any, ...] | None = None
        self._written = Path()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint, or name the one of the same step once more.

        Args:
            checkpoint: of Lightning's layout.
            path: of the file; its folder is made.
            storage_options: for remote files only.

        Raises:
            TypeError: there are storage options.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are local files here, without storage_options")
        target, step = Path(path), (checkpoint.get("epoch"), checkpoint.get("global_step"))
        if step == self._step and self._written != target and _link(self._written, target):
            return
        with replacing(target) as file:
            torch.save(checkpoint, file)
        self._step, self._written = step, target

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint; places of other checkpoints of its folder are where that folder is now."""
        checkpoint = super().load_checkpoint(path, *args, **kwargs)
        folder = os.path.realpath(Path(path).parent)
        for state in checkpoint.get("callbacks", {}).values():
            if isinstance(state, dict) and os.path.basename(state.get("dirpath") or "") == os.path.basename(
                folder
            ):
                _move(state, folder)
        return checkpoint


def _link(existing: Path, name: Path) -> bool:
    """Give a file a further name, in the place of what had it; False where the file system has no hard links."""
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
    """Let the state of a `ModelCheckpoint` name the files of `folder`: with other names it would begin anew."""

    def moved(path: str) -> str:
        return os.path.join(folder, os.path.basename(path)) if path else path

    state["dirpath"] = folder
    for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[key] = moved(state[key])
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
