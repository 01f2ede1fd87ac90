"""Training runs in this process."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate

from benchmarks.setting import Setting
from mlic.config import compose
from mlic.models import FrozenBackbone
from mlic.training.run import run


class FinishedRun(NamedTuple):
    """Results of a run.

    Attributes:
        seconds: wall-clock seconds of each phase.
        results: content of metrics.json.
    """

    seconds: dict[str, float]
    results: dict[str, dict[str, Any]]


def real_run(setting: Setting, name: str, *overrides: str) -> FinishedRun:
    """Train and test like `python -m mlic.train`, in a new folder `name` of the benchmark."""
    folder = setting.work / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    results = run(compose(*setting.overrides(*overrides), output=folder))
    return FinishedRun(json.loads((folder / "status.json").read_text())["seconds"], results)


def store_in(folder: Path) -> str:
    """Return the override that stores features in a folder."""
    return f"features.dir='{folder}'"


def make_backbone(setting: Setting, *overrides: str) -> FrozenBackbone:
    """Return the network of a run in the precision selected for this processor."""
    config = compose(*setting.overrides(*overrides), output=setting.work / "unused")
    return instantiate(config.model.backbone).optimize_for(torch.device("cpu"))
