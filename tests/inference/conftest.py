"""Changed copies of the small run's checkpoint, and configs of the commands that read it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from mlic.config import compose


@pytest.fixture
def changed_checkpoint(tiny_run: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], Any]], Path]:
    """A function (change) -> file of the run's checkpoint, after `change` was called on its content."""

    def make(change: Callable[[dict[str, Any]], Any]) -> Path:
        content = torch.load(tiny_run / "checkpoints" / "best.ckpt", weights_only=True)
        change(content)
        file = tmp_path / "changed.ckpt"
        torch.save(content, file)
        return file

    return make


@pytest.fixture(scope="session")
def command_config(tiny_run: Path) -> Callable[..., DictConfig]:
    """A function (name of the command, overrides, output) -> its config for the small run."""

    def make(name: str, *overrides: str, output: Path, run: Path = tiny_run) -> DictConfig:
        return compose(
            f"run='{run}'", "num_workers=0", "device=cpu", *overrides, output=output, config_name=name
        )

    return make


@pytest.fixture(scope="session")
def live_run(make_run: Callable[..., Path]) -> Path:
    """A run whose backbone sees the images in every epoch; do not write to it."""
    return make_run("features=live", "trainer.max_epochs=1")
