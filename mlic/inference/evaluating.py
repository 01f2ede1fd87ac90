"""Evaluation of a run on labelled images, computed as in training."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlic.data import LabelTable, cache_dir
from mlic.data.bad_images import leave_out
from mlic.data.datamodule import EVALUATION_BATCH
from mlic.data.images import ImageReference
from mlic.errors import check_choice
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import CALIBRATED
from mlic.features.extraction import HASH_INDEX
from mlic.features.hashing import hash_files
from mlic.features.source import CachedFeatures
from mlic.inference.building import build
from mlic.inference.classifier import Classifier
from mlic.inference.labelled import LabelledSet, read_split
from mlic.inference.seen import fingerprints, images_seen
from mlic.models.losses import check_loss
from mlic.runs.removed_settings import drop_removed

logger = logging.getLogger(__name__)

ON_BAD_IMAGE = ("error", "drop")


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """Result of evaluating a run on a labelled set.

    Attributes:
        predictions: scores and targets of the common classes.
        metrics: content of metrics.json: `<name>` at threshold 0.5, and `<name>_calibrated`.
        in_run: number of images of the set in each part of the run, by content; None if the run did not record it.
        bad_images: maps images left out to the reasons.
    """

    predictions: Predictions
    metrics: dict[str, dict[str, Any]]
    in_run: dict[str, int] | None
    bad_images: dict[ImageReference, str]


def evaluate_run(
    classifier: Classifier,
    labelled: LabelledSet,
    *,
    name: str = "all",
    on_bad_image: str = "error",
    features_dir: str | Path | None = None,
    num_workers: int | None = None,
) -> EvaluatedRun:
    """Evaluate a run; on the test part of the run the metrics are exactly those of training.

    To this end, features are read from the same store (or are computed and added to it), and passed to the head in
    batches of the same size in the order of file names.

    Args:
        classifier: the run.
        labelled: the labelled set.
        name: key of the metrics.
        on_bad_image: `error`, or `drop` to leave out unreadable images.
        features_dir: folder of the feature stores. Default: that of the run if it exists, else that of the cache.
        num_workers: number of processes that decode images.

    Raises:
        InputError: images cannot be used.
    """
    check_choice("data.on_bad_image", on_bad_image, ON_BAD_IMAGE)
    folder = Path(features_dir) if features_dir else run_features_dir(classifier)
    score = _score_cached if classifier.is_cached else _score_live
    table, logits, bad = score(classifier, labelled.table, folder, on_bad_image, num_workers)
    scores = torch.sigmoid(logits).numpy()
    columns = [classifier.classes.index(scored) for scored in table.classes]
    predictions = Predictions(table.file_names, scores[:, columns], table.labels, table.classes)
    loss = _loss(classifier, logits[:, columns], table)
    metrics = {name: {"loss": loss, **_evaluate(predictions, 0.5)}}
    stored = classifier.saved.thresholds
    if stored is not None and stored["fitted_on"] is not None:
        thresholds = classifier.choose_thresholds(CALIBRATED)[columns]
        metrics[f"{name}_{CALIBRATED}"] = {"loss": loss, **_evaluate(predictions, thresholds)}
    return EvaluatedRun(predictions, metrics, count_in_run(classifier, table, folder / HASH_INDEX), bad)


def _evaluate(predictions: Predictions, threshold: float | np.ndarray) -> dict[str, Any]:
    return evaluate_scores(predictions.scores, predictions.targets, predictions.classes, threshold)


def run_features_dir(classifier: Classifier) -> Path:
    """Return the folder of the feature stores of a run if it exists, else that of the cache."""
    own = classifier.config["features"].get("dir")
    return Path(own) if own and Path(own).is_dir() else cache_dir() / "features"


def _score_cached(
    classifier: Classifier, table: LabelTable, folder: Path, on_bad_image: str, num_workers: int | None
) -> tuple[LabelTable, Tensor, dict[ImageReference, str]]:
    """Return readable images, their logits (N, C), and unreadable images with the reasons."""
    options = classifier.config["features"]
    index = classifier.device.index
    features = CachedFeatures(
        classifier.backbone,
        directory=folder,
        dtype=options["dtype"],
        device=classifier.device,
        batch_size=options["batch_size"],
        draft_size=classifier.draft_size,
        bits_stored=classifier.bits_stored,
        num_workers=num_workers,
        trainer={"accelerator": classifier.device.type, "devices": 1 if index is None else [index]},
    )
    bad = features.extract(table.paths())
    table = _without(table, bad, on_bad_image)
    dataset = features.dataset(table.paths(), table.labels)
    size = max(classifier.config["data"]["batch_size"], EVALUATION_BATCH)
    rows = range(len(table))
    logits = [
        classifier.logits(dataset.__getitems__(rows[start : start + size])[0])
        for start in range(0, len(table), size)
    ]
    return table, torch.cat(logits), bad


def _score_live(
    classifier: Classifier, table: LabelTable, folder: Path, on_bad_image: str, num_workers: int | None
) -> tuple[LabelTable, Tensor, dict[ImageReference, str]]:
    paths = table.paths()
    batches = list(classifier.stream(paths, num_workers=num_workers))
    errors = [error for batch in batches for error in batch.errors]
    bad = {path: error for path, error in zip(paths, errors, strict=True) if error}
    good = torch.tensor([not error for error in errors])
    return _without(table, bad, on_bad_image), torch.cat([batch.logits for batch in batches])[good], bad


def _without(table: LabelTable, bad: Mapping[ImageReference, str], on_bad_image: str) -> LabelTable:
    leave_out(bad, table, on_bad_image)
    return table.select(np.array([path not in bad for path in table.paths()])) if bad else table


def _loss(classifier: Classifier, logits: Tensor, table: LabelTable) -> float | None:
    """Compute the training loss over all images.

    Returns None if classes were left out, which would change the loss, or if the checkpoint has no class weights.
    """
    if classifier.saved.class_weights is None or set(table.classes) != set(classifier.classes):
        return None
    weights = np.array(classifier.saved.class_weights, dtype=np.float32)
    loss = build(drop_removed(classifier.config["loss"], "loss"), weights, packages=classifier.packages)
    check_loss(loss, table.labels)
    # contiguous by row, as in training, because the memory layout determines the order of summation
    targets = torch.from_numpy(np.ascontiguousarray(table.labels, dtype=np.float32))
    return loss(logits.contiguous(), targets).item()


def count_in_run(
    classifier: Classifier, table: LabelTable, hash_index: Path | None = None
) -> dict[str, int] | None:
    """Count the images with the same bytes as an image in each part of the run; None if the run did not record them.

    Train and val include the images of the runs that this one started from. Test is missing if only the checkpoint is
    available.
    """
    seen, split = images_seen(classifier.saved), read_split(classifier.saved)
    if seen is None:
        return None
    known = {"train": seen.train, "val": seen.val}
    if split is not None:
        known["test"] = fingerprints(split.loc[split["split"] == "test", "sha256"].to_numpy(str))
    own = fingerprints(hash_files(table.paths(), hash_index).digests)
    return {part: int(np.isin(own, images).sum()) for part, images in known.items()}
