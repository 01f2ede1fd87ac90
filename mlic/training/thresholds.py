"""Thresholds of a finished run: fitted on val, kept in the run folder and in the chosen checkpoint."""

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
    """Fit thresholds on the scores of the val part, and report test at those of each class beside 0.5.

    Args:
        model: after `Trainer.test`; `results` gains `test_calibrated`, in the layout of `test`, if there are
            a val and a test part.

    Returns:
        The content of thresholds.json: `common`, `per_class` by name, and `fitted_on`: "val", or None without
        a val part, where all are 0.5.
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
    """Write thresholds.json, and complete the chosen checkpoint so that it can be used by itself.

    The last checkpoint is left as it is: thresholds belong to the weights whose scores they were fitted on.

    Args:
        folder: of the run.
        thresholds: from `tune_thresholds`.
        checkpoint: the chosen one; None if the run kept none.
        class_weights: (C,) of the loss.
        precision: number format that the backbone computed in.
    """
    folder.write_json(THRESHOLDS_FILE, thresholds)
    if checkpoint:
        info = {"thresholds": thresholds, "class_weights": class_weights.tolist(), "precision": precision}
        _complete(Path(checkpoint), info)


def _complete(path: Path, info: dict[str, Any]) -> None:
    """Add to what a checkpoint says of itself; the file is replaced whole."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    checkpoint[CHECKPOINT_KEY] |= info
    with replacing(path) as file:
        torch.save(checkpoint, file)
