"""The data of the photographs of a page, whose script decides which labels are right at any threshold."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlic.data.images import FULL_BITS
from mlic.evaluation.errors import image_losses
from mlic.evaluation.metrics import ScoredImages
from mlic.evaluation.predictions import Predictions
from mlic.report.class_figures import FEW_IMAGES
from mlic.report.comparison import predictions_of
from mlic.report.reading import ReportedRun
from mlic.report.rules import count_outcomes, count_steps, predict_rule, rules_of
from mlic.report.thumbnails import ImageFolders, PhotographPool, image_folders

SHOWN = 12  # photographs of each outcome, class and run
LEVELS = 1 << 16  # of a score of the page, uint16

Rows = Mapping[str, Mapping[str, Sequence[int]]]


def source_of(run: ReportedRun) -> ImageFolders:
    """Return the folders of the photographs of a run."""
    return ImageFolders(
        image_folders(run.dataset), run.dataset.get("source", {}).get("bits_stored", FULL_BITS)
    )


def photograph_data(runs: Sequence[ReportedRun], galleries: Rows, maps: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of galleries and errors as plain JSON types.

    Photographs are chosen until the page is full: those of the galleries, then the most confident right, wrong and
    missed label of each class and run, then the second most confident, and so on. Runs share them.

    Args:
        runs: runs with test predictions.
        galleries: results of `choose_rows` by run.
        maps: activation maps by run: (`data:` address, label) by row.

    Returns:
        `files` and `images` (`data:` addresses or null); `start` (index of the run with the highest mAP, and its worst
        class of at least 10 test images); and `runs`, see `_run_data`.
    """
    pool, sources = PhotographPool(), {run.name: source_of(run) for run in runs}
    for run, row in _by_importance(runs, galleries):
        pool.add(sources[run.name], str(predictions_of(run).file_names[row]))
    content = [
        _run_data(run, galleries.get(run.name, {}), maps.get(run.name, {}), sources[run.name], pool)
        for run in runs
    ]
    return {"files": pool.names, "images": pool.addresses, "runs": content, "start": _start(runs)}


def _by_importance(runs: Sequence[ReportedRun], galleries: Rows) -> list[tuple[ReportedRun, int]]:
    ordered = [(run, row) for run in runs for rows in galleries.get(run.name, {}).values() for row in rows]
    ranks = {run.name: rank_rows(predictions_of(run), predict_rule(run)) for run in runs}
    return ordered + [(run, row) for rank in range(SHOWN) for run in runs for row in ranks[run.name][rank]]


def rank_rows(predictions: Predictions, threshold: float | np.ndarray) -> list[list[int]]:
    """Return rows by rank: first those of the most confident wrong, missed and right label of each class, and so on."""
    decided = ScoredImages(predictions.scores, predictions.targets, predictions.classes, threshold).decisions
    predicted, true = decided.predicted, decided.targets
    ranks: list[list[int]] = [[] for _ in range(SHOWN)]
    for flags, sign in ((predicted & ~true, -1), (true & ~predicted, 1), (predicted & true, -1)):
        for column, scores in enumerate(predictions.scores.T):
            rows = np.flatnonzero(flags[:, column])
            order = np.argsort(sign * scores[rows], kind="stable")[:SHOWN]
            for rank, row in zip(ranks, rows[order].tolist(), strict=False):
                rank.append(row)
    return ranks


def _run_data(
    run: ReportedRun,
    galleries: Mapping[str, Sequence[int]],
    maps: Mapping[int, tuple[str, str]],
    source: ImageFolders,
    pool: PhotographPool,
) -> dict[str, Any]:
    """Return the data of one run.

    Returns:
        `name`; `classes`; `photos`, the index of each photograph in the pool; their `scores` (uint16, the score times
        65536 rounded down) and `labels` (uint8; 2 is unknown), arrays (photographs, classes) in base64; `losses`;
        `folds`, the place of each photograph in the thresholds; `thresholds` by rule, a list of thresholds of all
        classes for each fold; `counts` by rule, see `count_outcomes`; `steps`, see `count_steps`; `positives`, test
        images of each class; `galleries` and `maps` by position of the photograph.
    """
    test, rules = predictions_of(run), rules_of(run)
    found = {row: pool.find(source, str(name)) for row, name in enumerate(test.file_names)}
    found = {row: index for row, index in found.items() if index is not None}
    rows, place = np.array(list(found), dtype=np.int64), {row: number for number, row in enumerate(found)}
    fold_of = np.zeros(len(test)) if test.folds is None else test.folds
    _, first, folds = np.unique(fold_of, return_index=True, return_inverse=True)
    scores = np.clip(test.scores[rows].astype(np.float64) * LEVELS, 0, LEVELS - 1)
    labels = np.where(test.known, test.positives, 2)[rows]
    losses = image_losses(test)[rows]
    return {
        "name": run.name,
        "classes": list(run.classes),
        "photos": list(found.values()),
        "scores": _encode(scores.astype("<u2")),
        "labels": _encode(labels.astype(np.uint8)),
        "losses": [None if np.isnan(loss) else round(loss, 3) for loss in losses.tolist()],
        "folds": folds[rows].tolist(),
        "thresholds": {
            name: np.broadcast_to(values, test.scores.shape)[first].tolist() for name, values in rules.items()
        },
        "counts": {name: count_outcomes(run, values) for name, values in rules.items()},
        "steps": count_steps(run),
        "positives": test.positives.sum(axis=0).tolist(),
        "galleries": {
            key: [place[row] for row in chosen_rows if row in place] for key, chosen_rows in galleries.items()
        },
        "maps": {place[row]: item for row, item in maps.items() if row in place},
    }


def _encode(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _start(runs: Sequence[ReportedRun]) -> dict[str, Any]:
    """Return the run with the highest test mAP and its class with the lowest average precision, of those to judge."""
    if not runs:
        return {"run": 0, "class": ""}
    scores = [run.metrics.get("test", {}).get("map") or 0.0 for run in runs]
    best = int(np.argmax(scores))
    per_class = runs[best].metrics.get("test", {}).get("per_class", {})
    known = {name: row for name, row in per_class.items() if row.get("ap") is not None}
    enough = {name: row for name, row in known.items() if (row.get("support") or 0) >= FEW_IMAGES} or known
    return {
        "run": best,
        "class": min(enough, key=lambda name: enough[name]["ap"], default=runs[best].classes[0]),
    }
