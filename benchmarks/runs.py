"""Real training runs, in this process."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from benchmarks.setting import Setting
from mlic.config import compose
from mlic.models import FrozenBackbone
from mlic.training.run import run


@dataclass(frozen=True)
class FinishedRun:
    """What a run left.

    Attributes:
        seconds: wall clock of each phase.
        results: content of metrics.json.
        folder: the run folder.
    """

    seconds: dict[str, float]
    results: dict[str, dict[str, Any]]
    folder: Path

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run folder."""
        return json.loads((self.folder / name).read_text())


def real_run(setting: Setting, name: str, *overrides: str) -> FinishedRun:
    """Train and test as `python -m mlic.train` does, in a new folder `name` of the benchmark's own."""
    folder = setting.work / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    results = run(compose(*setting.overrides(*overrides), output=folder))
    seconds = json.loads((folder / "status.json").read_text())["seconds"]
    return FinishedRun(seconds, results, folder)


def store_in(folder: Path) -> str:
    """The override that keeps features there."""
    return f"features.dir='{folder}'"


def make_backbone(setting: Setting, *overrides: str) -> FrozenBackbone:
    """The network of a run, in the precision chosen for this processor."""
    config = compose(*setting.overrides(*overrides), output=setting.work / "unused")
    return instantiate(config.model.backbone).optimize_for(torch.device("cpu"))
