"""Runs on 60 small images with a tiny random network."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from mlic.config import compose

TINY_RUN = (
    "data=csv", "data.split.test=0.2", "data.split.val=0.2", "data.num_workers=0", "data.batch_size=8",
    "model=timm", "model.backbone.name=test_efficientnet", "model.backbone.pretrained=false",
    "model.backbone.precision=float32", "model.recipe.hidden=[16]", "model.recipe.dropout=0.2",
    "features.num_workers=0", "trainer=cpu", "trainer.max_epochs=3",
)  # fmt: skip


@pytest.fixture
def tiny_config(tiny_csv: tuple[Path, Path], tmp_path: Path) -> Callable[..., DictConfig]:
    """Overrides -> composed config of a run that takes a second; its folder is `tmp_path / "run"`."""

    def make(*overrides: str, output: Path = tmp_path / "run") -> DictConfig:
        annotations, images = tiny_csv
        places = (
            f"data.annotations={annotations}",
            f"data.images={images}",
            f"features.dir={tmp_path / 'store'}",
        )
        live = "features=live" in overrides
        base = [item for item in (*TINY_RUN, *places) if not (live and item.startswith("features."))]
        return compose(*base, *overrides, output=output)

    return make
