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
from mlic.evaluation.metrics import evaluate_scores, metrics_table
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import CALIBRATED
from mlic.features.extraction import HASH_INDEX
from mlic.features.hashing import hash_files
from mlic.features.source import CachedFeatures
from mlic.inference.checkpoint import fingerprints, read_split
from mlic.inference.classifier import Classifier
from mlic.inference.labelled import LabelledSet
from mlic.inference.loading import build
from mlic.models.losses import check_loss
from mlic.runs import folder as layout
from mlic.runs.lock import locked_folder
from mlic.runs.reading import read_record
from mlic.runs.removed_settings import drop_removed

logger = logging.getLogger(__name__)

ON_BAD_IMAGE = ("error", "drop")
# readable images, their logits (N, C), and the reasons of the others
Scored = tuple[LabelTable, Tensor, dict[ImageReference, str]]


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """Result of evaluating a run on a labelled set.

    Attributes:
        predictions: scores and targets of the common classes.
        metrics: content of metrics.json: `<name>` at threshold 0.5, and `<name>_calibrated`.
        in_run: number of images of the set in each part of the run, by content; None if the run did not record it.
        selection: how the images chose the weights, in words; empty if it is certain that they chose nothing.
        bad_images: maps images left out to the reasons.
    """

    predictions: Predictions
    metrics: dict[str, dict[str, Any]]
    in_run: dict[str, int] | None
    selection: str
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
    thresholds: dict[str, Any] = {name: 0.5}
    stored = classifier.saved.thresholds
    if stored is not None and stored["fitted_on"] is not None:
        thresholds[f"{name}_{CALIBRATED}"] = classifier.choose_thresholds(CALIBRATED)[columns]
    arrays = (predictions.scores, predictions.targets, predictions.classes)
    loss = _loss(classifier, logits, table)
    metrics = {key: {"loss": loss, **evaluate_scores(*arrays, limits)} for key, limits in thresholds.items()}
    in_run = count_in_run(classifier, table, folder / HASH_INDEX)
    seen, selection = classifier.saved.seen, ""
    if in_run and (known := in_run["train"] + in_run["val"]):
        selection = f"{known} of {len(table)} images have the content of images that chose the weights"
    elif seen is None or not seen.is_whole:
        selection = "it is unknown whether the images chose the weights"
    return EvaluatedRun(predictions, metrics, in_run, selection, bad)


def run_features_dir(classifier: Classifier) -> Path:
    """Return the folder of the feature stores of a run if it exists, else that of the cache."""
    own = classifier.config["features"].get("dir")
    return Path(own) if own and Path(own).is_dir() else cache_dir() / "features"


def _score_cached(
    classifier: Classifier, table: LabelTable, folder: Path, on_bad_image: str, num_workers: int | None
) -> Scored:
    device = classifier.device
    features = CachedFeatures(
        classifier.backbone,
        directory=folder,
        dtype=classifier.config["features"]["dtype"],
        device=device,
        batch_size=classifier.batch_size,
        draft_size=classifier.draft_size,
        bits_stored=classifier.bits_stored,
        num_workers=num_workers,
        trainer={"accelerator": device.type, "devices": 1 if device.index is None else [device.index]},
    )
    bad = features.extract(table.paths())
    table = _without(table, bad, on_bad_image)
    dataset = features.dataset(table.paths(), table.labels)
    size = max(classifier.config["data"]["batch_size"], EVALUATION_BATCH)
    batches = [range(len(table))[start : start + size] for start in range(0, len(table), size)]
    return table, torch.cat([classifier.logits(dataset.__getitems__(rows)[0]) for rows in batches]), bad


def _score_live(
    classifier: Classifier, table: LabelTable, folder: Path, on_bad_image: str, num_workers: int | None
) -> Scored:
    batches = list(classifier.stream(table.paths(), num_workers=num_workers))
    errors = [error for batch in batches for error in batch.errors]
    bad = {path: error for path, error in zip(table.paths(), errors, strict=True) if error}
    logits = torch.cat([batch.logits for batch in batches])[torch.tensor([not error for error in errors])]
    return _without(table, bad, on_bad_image), logits, bad


def _without(table: LabelTable, bad: Mapping[ImageReference, str], on_bad_image: str) -> LabelTable:
    leave_out(bad, table, on_bad_image)
    return table.select(np.array([path not in bad for path in table.paths()])) if bad else table


def _loss(classifier: Classifier, logits: Tensor, table: LabelTable) -> float | None:
    """Compute the training loss over all images.

    Returns None if classes were left out, which would change the loss, or if the checkpoint has no class weights.
    """
    if classifier.saved.class_weights is None or tuple(table.classes) != classifier.classes:
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
    seen, split = classifier.saved.seen, read_split(classifier.saved)
    if seen is None:
        return None
    known = {"train": seen.train, "val": seen.val}
    if split is not None:
        known["test"] = fingerprints(split.loc[split["split"] == "test", "sha256"].to_numpy(str))
    own = fingerprints(hash_files(table.paths(), hash_index).digests)
    return {part: int(np.isin(own, images).sum()) for part, images in known.items()}


def write_evaluation(
    output: Path, classifier: Classifier, labelled: LabelledSet, evaluated: EvaluatedRun, part: str | None
) -> None:
    """Write predictions.parquet, evaluation.json and metrics.json, replacing all together, and log the metrics.

    `model`, `dataset` and `settings` in evaluation.json are what the page of `mlic.compare` shows, so that it needs the
    run no more.

    Raises:
        InputError: another process writes to the folder.
    """
    predictions, saved = evaluated.predictions, classifier.saved
    names = (layout.MODEL_FILE, layout.DATASET_FILE)
    model, trained = (read_record(saved.folder, name)[0] if saved.folder else {} for name in names)
    classes, images = list(predictions.classes), len(predictions)
    counts = dict(zip(classes, predictions.positives.sum(axis=0).tolist(), strict=True))
    folders = [str(path) for path in labelled.table.folders or [labelled.table.image_dir]]
    unknown, missing = list(labelled.unknown), list(labelled.missing)
    content = {
        "run": str(saved.folder or saved.checkpoint),
        "checkpoint": str(saved.checkpoint),
        "part": part,
        "data": labelled.source,
        "images": images,
        "images_in_run": evaluated.in_run,
        "precision": classifier.backbone.precision,
        "device": str(classifier.device),
        "bad_images": {str(path): reason for path, reason in evaluated.bad_images.items()},
        "classes": {"scored": classes, "unknown_to_the_run": unknown, "missing_in_the_data": missing},
        "thresholds": saved.thresholds,
        "model": model,
        "settings": dict(classifier.config),
        "dataset": {
            "classes": classes,
            "images": {"test": images},
            "counts": {"train": trained.get("counts", {}).get("train", {}), "test": counts},
            "source": {"images": folders, "bits_stored": classifier.bits_stored},
        },
    }
    with locked_folder(output), layout.replacing_together(output) as new:
        predictions.write_parquet(new / layout.EVALUATED_FILE)
        layout.RunFolder(new).write_json(layout.EVALUATION_FILE, content)
        layout.RunFolder(new).write_json(layout.METRICS_FILE, evaluated.metrics)
    (output / layout.GUARANTEES_FILE).unlink(missing_ok=True)  # of an earlier evaluation
    logger.info("%s", metrics_table(evaluated.metrics))
    if evaluated.selection:
        logger.warning("%s: metrics on these images may be too optimistic", evaluated.selection)
    logger.info("written to: %s", output)
