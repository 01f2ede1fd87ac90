"""Heads that are fitted in closed form, wholly or in part: any head with a method `fit_closed_form`."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from mlic.data import MultiLabelDataModule
from mlic.errors import InputError
from mlic.escaping import escape_table
from mlic.evaluation.calibration import to_logits
from mlic.features.source import CachedFeatures
from mlic.models import MultiLabelClassifier
from mlic.models.ridge import ClosedFormFit, Gather
from mlic.models.scores import CollectedScores
from mlic.runs.folder import NEIGHBOURS_FILE, PENALTIES_FILE, RunFolder, write_atomically
from mlic.training.tensorboard import LAST

logger = logging.getLogger(__name__)

# what the leave-one-out scores choose: its setting, and the file of the candidates
CANDIDATES = {
    "penalty": ("head.penalties", PENALTIES_FILE),
    "neighbours": ("head.neighbours", NEIGHBOURS_FILE),
}
LEFT_OUT = "loo"  # name of the leave-one-out scores of the training images among the parts of a run


def is_closed_form(head: nn.Module) -> bool:
    """Return True if the head, or a part of it, is fitted in closed form before the first epoch."""
    return hasattr(head, "fit_closed_form")


def needs_epochs(head: nn.Module) -> bool:
    """Return True if the head has weights that are trained by gradients."""
    return not is_closed_form(head) or any(parameter.requires_grad for parameter in head.parameters())


def check_closed_form(
    model: MultiLabelClassifier, datamodule: MultiLabelDataModule, init_from: str | None
) -> None:
    """Refuse settings without meaning for a head without epochs.

    Raises:
        InputError: `init_from` is set, images are augmented, or the backbone is trained.
    """
    if init_from is not None:
        raise InputError("init_from has no effect on a head in closed form. Remove it.", key="init_from")
    if datamodule.augmentation is not None:
        raise InputError("a head in closed form is fitted on images that do not change: set features=cached.")
    if model.backbone is not None and model.backbone.trained_stages:
        raise InputError(
            "a head in closed form cannot train a backbone: set model.backbone.unfreeze=0.",
            key="model.backbone.unfreeze",
        )


def fit_closed_form(
    model: MultiLabelClassifier, datamodule: MultiLabelDataModule, device: torch.device
) -> ClosedFormFit:
    """Fit the head of a model on the training part.

    Args:
        model: model whose head is fitted; `results` and `predictions` get the leave-one-out scores as `loo`.
        datamodule: data module after `setup`.
        device: device to compute on.

    Returns:
        The result of the head's `fit_closed_form`.

    Raises:
        InputError: the head cannot be fitted on these data.
    """
    head: Any = model.to(device).head
    table, rows = datamodule.table, datamodule.split.train
    groups = None if table.groups is None else np.unique(table.groups[rows], return_inverse=True)[1]
    labels = table.labels[rows]
    fit = head.fit_closed_form(_gather(model, datamodule, device), labels, groups, seed=datamodule.seed)
    left_out = CollectedScores(
        rows, torch.from_numpy(to_logits(fit.scores)).float(), torch.from_numpy(labels.astype(np.float32))
    )
    model.predictions[LEFT_OUT], model.results[LEFT_OUT] = left_out, model.evaluate(left_out)
    return fit


def _gather(model: MultiLabelClassifier, datamodule: MultiLabelDataModule, device: torch.device) -> Gather:
    rows = torch.from_numpy(datamodule.split.train)
    if isinstance(datamodule.features, CachedFeatures):
        stored = datamodule.features.rows
        return lambda wanted: stored.gather(rows[wanted])
    # a live backbone processes the training part once
    with torch.no_grad():
        batches = [model.features(batch[0].to(device)).cpu() for batch in datamodule.loader("train")]
    features = torch.cat(batches)
    return lambda wanted: features[wanted]


def save_closed_form(trainer: L.Trainer, folder: RunFolder) -> Path | None:
    """Write the checkpoint of a fitted head after `Trainer.test`; None if checkpoints are turned off."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint):
        return None
    path = Path(callback.dirpath or folder.checkpoints) / folder.best_checkpoint.name
    trainer.save_checkpoint(path)
    return path


def write_candidates(folder: RunFolder, trainer: L.Trainer, fit: ClosedFormFit) -> None:
    """Write penalties.csv or neighbours.csv and log the curve, one step per candidate, in increasing order."""
    curve = pd.DataFrame(fit.curve).rename(
        columns=lambda name: name if name == fit.setting else f"{LEFT_OUT}/{name}"
    )
    key, file = CANDIDATES[fit.setting]
    write_atomically(folder.path / file, escape_table(curve).to_csv(index=False))
    # LAST: after the curves of train and val of other runs
    logged = pd.DataFrame(fit.curve).add_prefix(f"{LAST}{LEFT_OUT}/").astype(float)
    for step, row in enumerate(logged.to_dict("records")):
        for sink in trainer.loggers:
            sink.log_metrics(row, step=step)
    first, last = curve[fit.setting].iloc[[0, -1]]
    at_end = len(curve) > 1 and fit.chosen in (first, last)
    logger.info(
        "%s %.4g chosen among %d by leave-one-out%s",
        *(
            fit.setting,
            fit.chosen,
            len(curve),
            f", at the end of the candidates: extend {key}" if at_end else "",
        ),
    )
