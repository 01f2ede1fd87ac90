"""Runs on 60 small images with a tiny random network."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from mlic.config import compose


@pytest.fixture
def tiny_config(tiny_arguments: tuple[str, ...], tmp_path: Path) -> Callable[..., DictConfig]:
    """Overrides -> composed config of a run that takes a second; its folder is `tmp_path / "run"`."""

    def make(*overrides: str, output: Path = tmp_path / "run") -> DictConfig:
        cached = ("features.num_workers=0", f"features.dir={tmp_path / 'store'}")
        live = any(item in overrides for item in ("features=live", "features=augmented"))
        return compose(
            *tiny_arguments, "trainer.max_epochs=3", *(() if live else cached), *overrides, output=output
        )

    return make
