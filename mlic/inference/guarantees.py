"""guarantees.json: thresholds with a guarantee, made from the images of a run or of a labelled set, and read again."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlic.errors import InputError
from mlic.evaluation.guarantees import fit_guarantees, guarantee_table, share_without_question
from mlic.evaluation.predictions import Predictions
from mlic.runs.folder import GUARANTEES_FILE, RunFolder, refuse_foreign_folder

logger = logging.getLogger(__name__)

EXPECTED = "Expected the thresholds.json of a run, or a guarantees.json of this run (mlic.evaluate precision= recall=)."

# parts of a run with stored scores, the best first, and what they chose; the first chose nothing
STORED = {
    "calibration": "",
    "val": "val images chose the epoch and the thresholds",
    "loo": "leave-one-out scores chose the penalty and the thresholds",
}


def guarantee_stored(run: Path, output: Path | None, **options: Any) -> dict[str, Any]:
    """Guarantee from the scores of the run of images that were not trained on; see `write_guarantees`.

    Args:
        run: run folder, to which guarantees.json is written.
        output: another folder to which it is written.
        options: see `fit_guarantees`.

    Raises:
        InputError: the run has no such scores.
    """
    from mlic.inference.checkpoint import (
        find_checkpoint,
    )  # imports torch, for which mlic.predict need not wait

    checkpoint = find_checkpoint(run)
    files = {part: run / "predictions" / f"{part}.parquet" for part in STORED if run.is_dir()}
    part = next((part for part, file in files.items() if file.is_file()), None)
    if part is None:
        hint = "Set part=test, or a labelled set: data=csv data.annotations=... data.images=..."
        raise InputError(
            f"run: '{run}' has no scores of val, calibration or leave-one-out. {hint}", key="run"
        )
    folders = {run, output or run}
    if output is not None and output != run:
        refuse_foreign_folder(output, mark=GUARANTEES_FILE, text='"checkpoint"', kind="folder of guarantees")
    predictions = Predictions.read_parquet(files[part])
    return write_guarantees(folders, predictions, checkpoint, part, STORED[part], **options)


def write_guarantees(
    folders: set[Path], predictions: Predictions, checkpoint: Path, source: str, chosen: str, **options: Any
) -> dict[str, Any]:
    """Write guarantees.json: a promise if the images chose nothing, else an estimate.

    Args:
        folders: folders to write to.
        predictions: scores and labels.
        checkpoint: the checkpoint that gave the scores; the thresholds are for its scores only.
        source: part of the run, or labelled set.
        chosen: what the images chose in the run; empty for nothing.
        options: see `fit_guarantees`.

    Returns:
        The content.
    """
    found, without = fit_guarantees(predictions, **options), None
    if {"yes", "no"} <= found.keys():
        without = share_without_question(predictions.scores, found, predictions.classes)
    content = {
        "kind": "estimate" if chosen else "promise",
        "reason": chosen,
        "source": source,
        "images": len(predictions),
        "confidence": options.get("confidence", 0.9),
        "checkpoint": _digest(checkpoint),
        "images_without_question": without,
        **found,
    }
    for folder in folders:
        RunFolder(folder).write_json(GUARANTEES_FILE, content)
    table = guarantee_table(content).to_string(index=False, float_format="%.3f", na_rep="-", max_rows=40)
    reason = f" ({chosen}: a promise requires images that chose nothing)" if chosen else ""
    logger.info("%s from %d images of %s%s\n%s", content["kind"], len(predictions), source, reason, table)
    if without is not None:
        logger.info(
            "%.1f %% of these images need no look: all labels are answered with yes or no", 100 * without
        )
    logger.info("written to: %s", ", ".join(str(folder / GUARANTEES_FILE) for folder in folders))
    return content


def _digest(checkpoint: Path) -> str:
    with checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_thresholds(
    file: Path, classes: Sequence[str], checkpoint: Path, answer: str | None = None
) -> np.ndarray:
    """Return the thresholds float64 (C,) in a thresholds.json or guarantees.json.

    Args:
        file: the file.
        classes: C names.
        checkpoint: checkpoint that gives the scores; guarantees are for the scores of one checkpoint only.
        answer: `yes` or `no` of guarantees.json, above and up to whose threshold a label has this answer. Without a
            guarantee, the former is infinite and the latter -1, below all scores. Default: thresholds.json, or `yes`.

    Raises:
        InputError: the file cannot be read, has no such thresholds of all classes, or is of another checkpoint.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        is_tuned = answer is None and "per_class" in content
        found = content["per_class"] if is_tuned else content[answer or "yes"]["thresholds"]
        missing = -1.0 if answer == "no" else np.inf
        values = np.array([missing if found[name] is None else float(found[name]) for name in classes])
        if not (((values >= 0) & (values <= 1)) | (values == missing)).all():  # or NaN
            raise ValueError("a threshold must be a number from 0 to 1")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"thresholds: '{file}' cannot be used ({error!r}). {EXPECTED}") from error
    if not is_tuned and content.get("checkpoint") != _digest(checkpoint):
        raise InputError(f"thresholds: '{file}' is of another checkpoint than '{checkpoint}'. {EXPECTED}")
    return values
