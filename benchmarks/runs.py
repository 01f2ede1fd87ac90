"""Training runs in this process."""

import json
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from benchmarks.setting import Setting
from mlic.config import compose
from mlic.models import FrozenBackbone
from mlic.training.run import run


@dataclass(frozen=True)
class FinishedRun:
    """Results of a run.

    Attributes:
        seconds: wall-clock seconds of each phase.
        results: content of metrics.json.
        folder: the run folder.
    """

    seconds: dict[str, float]
    results: dict[str, dict[str, Any]]
    folder: Path

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run folder."""
        return json.loads((self.folder / name).read_text())


class Interludes(L.Callback):
    """Measures something else after some epochs of a run while the clock of the run is stopped.

    The speed of a machine changes from minute to minute, so that measurements that are compared with a long run have to
    be made during the run.

    Attributes:
        seconds: total seconds of all interludes.
    """

    def __init__(self, action: Callable[[], object], epochs: Collection[int]) -> None:
        """Call `action` at the end of these epochs."""
        self.action, self.epochs, self.seconds = action, epochs, 0.0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Run the action; no worker processes run at this time, because they end with the epoch."""
        if trainer.current_epoch in self.epochs:
            start = time.perf_counter()
            self.action()
            self.seconds += time.perf_counter() - start


_given: list[Interludes] = []  # passed to the next run, because a config cannot contain objects


def given_interludes() -> Interludes:
    """Return the interludes of the next run; a target in its config."""
    return _given.pop()


def real_run(
    setting: Setting, name: str, *overrides: str, interludes: Interludes | None = None
) -> FinishedRun:
    """Train and test like `python -m mlic.train`, in a new folder `name` of the benchmark."""
    folder = setting.work / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    config = compose(*setting.overrides(*overrides), output=folder)
    if interludes is not None:
        _given.append(interludes)
        target = f"{given_interludes.__module__}.{given_interludes.__name__}"
        OmegaConf.update(config, "callbacks.interludes", {"_target_": target}, force_add=True)
    results = run(config)
    seconds = json.loads((folder / "status.json").read_text())["seconds"]
    if interludes is not None:
        seconds["fit"] -= interludes.seconds
    return FinishedRun(seconds, results, folder)


def store_in(folder: Path) -> str:
    """Return the override that stores features in a folder."""
    return f"features.dir='{folder}'"


def make_backbone(setting: Setting, *overrides: str) -> FrozenBackbone:
    """Return the network of a run in the precision selected for this processor."""
    config = compose(*setting.overrides(*overrides), output=setting.work / "unused")
    return instantiate(config.model.backbone).optimize_for(torch.device("cpu"))
