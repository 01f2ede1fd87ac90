"""Output of an evaluation: files and log messages."""

import logging
from pathlib import Path
from typing import Any

from mlic.evaluation.metrics_table import metrics_table
from mlic.inference.classifier import Classifier
from mlic.inference.evaluating import EvaluatedRun
from mlic.inference.labelled import LabelledSet
from mlic.runs.folder import (
    DATASET_FILE,
    EVALUATED_FILE,
    EVALUATION_FILE,
    METRICS_FILE,
    MODEL_FILE,
    RunFolder,
    replacing_together,
)
from mlic.runs.lock import locked_folder
from mlic.runs.reading import read_record

logger = logging.getLogger(__name__)


def describe(
    classifier: Classifier, labelled: LabelledSet, evaluated: EvaluatedRun, part: str | None
) -> dict[str, Any]:
    """Return the content of evaluation.json: run, labelled set, and overlap with the training images.

    `model`, `dataset` and `settings` are what the page of `mlic.compare` shows, so that it needs the run no more.
    """
    predictions, folder = evaluated.predictions, classifier.saved.folder
    records = {name: read_record(folder, name)[0] if folder else {} for name in (MODEL_FILE, DATASET_FILE)}
    counts = predictions.positives.sum(axis=0).tolist()
    return {
        "run": str(classifier.saved.folder or classifier.saved.checkpoint),
        "checkpoint": str(classifier.saved.checkpoint),
        "part": part,
        "data": labelled.source,
        "images": len(evaluated.predictions),
        "bad_images": {str(path): reason for path, reason in evaluated.bad_images.items()},
        "classes": {
            "scored": list(evaluated.predictions.classes),
            "unknown_to_the_run": list(labelled.unknown),
            "missing_in_the_data": list(labelled.missing),
        },
        "images_in_run": evaluated.in_run,
        "thresholds": classifier.saved.thresholds,
        "model": records[MODEL_FILE],
        "settings": dict(classifier.config),
        "dataset": {
            "classes": list(predictions.classes),
            "images": {"test": len(predictions)},
            "counts": {
                "train": records[DATASET_FILE].get("counts", {}).get("train", {}),
                "test": dict(zip(predictions.classes, counts, strict=True)),
            },
            "source": {
                "images": [str(path) for path in labelled.table.folders or [labelled.table.image_dir]],
                "bits_stored": classifier.bits_stored,
            },
        },
        "precision": classifier.backbone.precision,
        "device": str(classifier.device),
    }


def write(output: Path, evaluated: EvaluatedRun, description: dict[str, Any]) -> None:
    """Write predictions.parquet, evaluation.json and metrics.json, replacing all three together.

    Raises:
        InputError: another process writes to the folder.
    """
    with locked_folder(output), replacing_together(output) as new:
        folder = RunFolder(new)
        evaluated.predictions.write_parquet(folder.path / EVALUATED_FILE)
        folder.write_json(EVALUATION_FILE, description)
        folder.write_json(METRICS_FILE, evaluated.metrics)


def log_evaluation(output: Path, evaluated: EvaluatedRun) -> None:
    """Log the metrics and the overlap with the training images of the run."""
    logger.info("%s", metrics_table(evaluated.metrics))
    total, in_run, known = len(evaluated.predictions), evaluated.in_run, evaluated.predictions.known
    if not known.all():
        logger.info("%d of %d labels are unknown and take no part in the metrics", (~known).sum(), known.size)
    if in_run is None:
        logger.warning(
            "it is unknown whether the run was trained on any of these %d images: neither its checkpoint nor "
            "a split.csv records its images",
            total,
        )
    elif in_run["train"]:
        logger.warning(
            "%d of %d images have the same content as training images of this run, or of a run that it started from: "
            "metrics on them are too optimistic",
            in_run["train"],
            total,
        )
    else:
        logger.info("none of the %d images has the same content as a training image of this run", total)
    logger.info("written to: %s", output)
