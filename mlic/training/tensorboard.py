"""TensorBoard: the logger of a run, and files beside its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

LAST = "z_"  # TensorBoard sorts groups by name: the curves of train and val come before the others


class RunLogger(TensorBoardLogger):
    """Writes to the run folder itself, so that TensorBoard calls the run by its folder."""

    def __init__(self, save_dir: str, **options: Any) -> None:
        """Write to `save_dir`; `options` are those of `TensorBoardLogger`."""
        # without default_hp_metric=False the tab of the settings would show a metric of -1
        super().__init__(save_dir, **{"name": "", "version": "", "default_hp_metric": False, **options})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics without the number of the epoch, which TensorBoard would show before all curves."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged; the settings are in config.yaml and need no second file."""
        self.experiment.flush()


def write_summaries(
    folder: Path,
    suffix: str,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    figures: Mapping[str, Figure],
) -> None:
    """Write precision-recall curves and figures to a file of their own, and replace the earlier file.

    Args:
        folder: folder of the event files.
        suffix: ending of the file.
        curves: scores (n,) in [0, 1] and bool targets (n,) by tag.
        figures: figures by tag; they are closed.
    """
    for earlier in folder.glob(f"events.*{suffix}"):
        earlier.unlink()
    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for tag, (scores, targets) in curves.items():
            writer.add_pr_curve(tag, targets, scores)
        for tag, figure in figures.items():
            writer.add_figure(tag, figure)
