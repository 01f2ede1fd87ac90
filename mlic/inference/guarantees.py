"""guarantees.json: thresholds with a guarantee, made from the images of a run or of a labelled set, and read again."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from mlic.errors import InputError
from mlic.evaluation.guarantees import fit_guarantees, guarantee_table, share_without_question
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import resolve_thresholds
from mlic.runs.folder import GUARANTEES_FILE, RunFolder

logger = logging.getLogger(__name__)

# parts of a run with stored scores, the best first, and what they chose; the first chose nothing
STORED = {
    "calibration": "",
    "val": "val images chose the epoch and the thresholds",
    "loo": "leave-one-out scores chose the penalty and the thresholds",
}


def guarantee_stored(run: str | Path, checkpoint: Path, **options: Any) -> dict[str, Any]:
    """Return the content of guarantees.json from the scores of the run of images that were not trained on.

    Args:
        run: run folder.
        checkpoint: its checkpoint.
        options: see `fit_guarantees`.

    Raises:
        InputError: the run has no such scores.
    """
    files = {part: Path(run) / "predictions" / f"{part}.parquet" for part in STORED}
    part = next((part for part, file in files.items() if file.is_file()), None)
    if part is None:
        raise InputError(
            f"run: '{run}' has no scores of val, calibration or leave-one-out. Set part=test, or a labelled set: "
            "data=csv data.annotations=... data.images=..."
        )
    return guarantee(Predictions.read_parquet(files[part]), checkpoint, part, STORED[part], **options)


def guarantee(
    predictions: Predictions, checkpoint: Path, source: str, chosen: str, **options: Any
) -> dict[str, Any]:
    """Return the content of guarantees.json: a promise if the images chose nothing, else an estimate.

    Args:
        predictions: scores and labels.
        checkpoint: the checkpoint that gave the scores; the thresholds are for its scores only.
        source: part of the run, or labelled set.
        chosen: what the images chose in the run; empty for nothing.
        options: see `fit_guarantees`.
    """
    found = fit_guarantees(predictions, **options)
    without = None
    if {"yes", "no"} <= found.keys():
        without = share_without_question(predictions.scores, found, predictions.classes)
    return {
        "kind": "estimate" if chosen else "promise",
        "reason": chosen,
        "source": source,
        "images": len(predictions),
        "confidence": options.get("confidence", 0.9),
        "checkpoint": digest(checkpoint),
        "images_without_question": without,
        **found,
    }


def log_guarantees(content: dict[str, Any], file: Path) -> None:
    """Log the thresholds of each class, and the classes without one."""
    reason = (
        f" ({content['reason']}: a promise requires images that chose nothing)" if content["reason"] else ""
    )
    table = guarantee_table(content)
    absent = int(np.sum(table["threshold"].isna()))
    logger.info(
        "%s from %d images of %s, with confidence %g%s\n%s",
        *(content["kind"], content["images"], content["source"], content["confidence"], reason),
        table.to_string(index=False, float_format="%.3f", na_rep="-", max_rows=40),
    )
    if absent:
        logger.info(
            "cannot %s in %d of %d rows; see the column 'reason'", content["kind"], absent, len(table)
        )
    if content["images_without_question"] is not None:
        share = content["images_without_question"]
        logger.info(
            "%.1f %% of these images need no look: every label is answered with yes or no", 100 * share
        )
    logger.info("written to: %s", file)


def digest(checkpoint: Path) -> str:
    """Return the sha256 of a file."""
    with checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_other_checkpoint(file: Path, checkpoint: Path) -> None:
    """Check that the guarantees in a file, if it holds any, are those of a checkpoint.

    Raises:
        InputError: they are of another checkpoint, whose scores mean something else.
    """
    content = _read(file)
    if "per_class" not in content and content.get("checkpoint") != digest(checkpoint):
        raise InputError(
            f"thresholds: '{file}' is of another checkpoint than '{checkpoint}', and its thresholds are not for these "
            "scores. Make it for this run with mlic.evaluate precision=... or recall=..."
        )


def answer_thresholds(
    file: Path, classes: tuple[str, ...], checkpoint: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return the thresholds (C,) of the answers yes and no from guarantees.json.

    Labels above the first are answered with yes, those not above the second with no. Without a guarantee, the former
    is infinite and the latter below all scores, so that somebody is asked.

    Raises:
        InputError: the file is missing, of another checkpoint, or has no guarantee for one of the answers.
    """
    refuse_other_checkpoint(file, checkpoint)
    content = _read(file)
    if not {"yes", "no"} <= content.keys():
        raise InputError(
            f"ask=true: '{file}' must have a guarantee for yes and one for no. Make it with "
            "mlic.evaluate run=... precision=0.9 recall=0.9."
        )
    yes = resolve_thresholds(str(file), classes, None)
    found = content["no"].get("thresholds", {}) if isinstance(content["no"], dict) else {}
    no = [found.get(name) for name in classes]
    if not all(value is None or (isinstance(value, float | int) and 0 <= value <= 1) for value in no):
        raise InputError(f"'{file}': thresholds of 'no' must be numbers from 0 to 1, or null.")
    lower = np.array([-1.0 if value is None else value for value in no], dtype=np.float64)
    return yes, np.minimum(lower, yes)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"thresholds: '{file}' cannot be used ({error}). Expected the thresholds.json of a run, or a "
            "guarantees.json of mlic.evaluate with precision= or recall=."
        ) from error
    return content if isinstance(content, dict) else {}


def write_guarantees(folder: Path, content: dict[str, Any]) -> None:
    """Write guarantees.json."""
    RunFolder(folder).write_json(GUARANTEES_FILE, content)
    log_guarantees(content, folder / GUARANTEES_FILE)
