"""One small trained run that the tests of this folder share; they copy it where they change it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from mlic.config import compose
from mlic.train import train

TINY_RUN = (
    "data=csv", "data.split.test=0.2", "data.split.val=0.2", "data.num_workers=0", "data.batch_size=8",
    "model=timm", "model.backbone.name=test_efficientnet", "model.backbone.pretrained=false",
    "model.backbone.precision=float32", "model.recipe.hidden=[16]", "trainer=cpu", "trainer.max_epochs=2",
)  # fmt: skip


@pytest.fixture(scope="session")
def make_run(tiny_csv: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function (overrides) -> folder of a run on the 60 small images, with a random network."""

    def make(*overrides: str) -> Path:
        annotations, images = tiny_csv
        folder = tmp_path_factory.mktemp("runs") / "model=tiny,run"
        places = (f"data.annotations={annotations}", f"data.images={images}")
        workers = () if "features=live" in overrides else ("features.num_workers=0",)
        train(compose(*TINY_RUN, *places, *workers, *overrides, output=folder))
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_run(make_run: Callable[..., Path]) -> Path:
    """A run on cached features; do not write to it."""
    return make_run()


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
