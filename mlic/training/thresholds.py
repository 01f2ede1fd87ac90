"""Thresholds of a finished run, tuned on val and stored in the run folder and in the selected checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.thresholds import fit_thresholds
from mlic.models import MultiLabelClassifier
from mlic.models.classifier import CHECKPOINT_KEY
from mlic.runs.folder import THRESHOLDS_FILE, RunFolder, replacing

DEFAULT_THRESHOLD = 0.5


def tune_thresholds(model: MultiLabelClassifier) -> dict[str, Any]:
    """Tune thresholds on the scores of the val part, and compute the test metrics with those of each class.

    Args:
        model: model after `Trainer.test`; `test_calibrated`, in the layout of `test`, is added to `results` if there
            are a val and a test part.

    Returns:
        The content of thresholds.json: `common`, `per_class` by name, and `fitted_on`: "val", or None without
        a val part, in which case all are 0.5.
    """
    val, test = model.predictions.get("val"), model.predictions.get("test")
    if val is None:
        per_class = dict.fromkeys(model.classes, DEFAULT_THRESHOLD)
        return {"common": DEFAULT_THRESHOLD, "per_class": per_class, "fitted_on": None}
    fitted = fit_thresholds(val.scores, val.targets.numpy())
    if test is not None:
        calibrated = evaluate_scores(test.scores, test.targets.numpy(), model.classes, fitted.per_class)
        model.results["test_calibrated"] = {"loss": model.results["test"]["loss"], **calibrated}
    per_class = dict(zip(model.classes, fitted.per_class.tolist(), strict=True))
    return {"common": float(fitted.common), "per_class": per_class, "fitted_on": "val"}


def store_thresholds(
    folder: RunFolder,
    thresholds: dict[str, Any],
    *,
    checkpoint: str | Path | None,
    class_weights: np.ndarray,
    precision: str,
) -> None:
    """Write thresholds.json, and complete the selected checkpoint so that it can be used alone.

    The last checkpoint is unchanged, because thresholds belong to the weights whose scores they were tuned on.

    Args:
        folder: the run folder.
        thresholds: result of `tune_thresholds`.
        checkpoint: the selected checkpoint; None if the run has none.
        class_weights: class weights (C,) of the loss.
        precision: number format of the backbone.
    """
    folder.write_json(THRESHOLDS_FILE, thresholds)
    if checkpoint:
        info = {"thresholds": thresholds, "class_weights": class_weights.tolist(), "precision": precision}
        _complete(Path(checkpoint), info)


def _complete(path: Path, info: dict[str, Any]) -> None:
    """Add information to a checkpoint; the file is replaced atomically."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    checkpoint[CHECKPOINT_KEY] |= info
    with replacing(path) as file:
        torch.save(checkpoint, file)
