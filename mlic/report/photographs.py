"""Photographs of the page: galleries of good and bad predictions by rule, and the data of the errors of each class.

The script of the page decides which labels are right at any threshold.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlic.data.images import FULL_BITS
from mlic.evaluation.bootstrap import FREQUENT
from mlic.evaluation.errors import gallery_rows, image_losses
from mlic.evaluation.predictions import Predictions
from mlic.report.comparison import predict_rule, predictions_of, rules_of
from mlic.report.reading import ReportedRun
from mlic.report.thumbnails import ImageFolders, PhotographPool, image_folders

GALLERIES = {
    "lowest_loss": (
        "Best: lowest loss",
        "test images with labels that have the lowest binary cross-entropy (mean over classes)",
    ),
    "highest_loss": ("Worst: highest loss", "test images with the highest binary cross-entropy"),
    "confident_errors": (
        "Most confident single errors",
        "test images with the most confident wrong labels, each image once",
    ),
}
SHOWN = 12  # photographs of each outcome, class and run
LEVELS = 1 << 16  # of a score of the page, uint16
STEPS = np.arange(1, 100) / 100  # thresholds of the slider

Rows = Mapping[str, Sequence[int]]


def source_of(run: ReportedRun) -> ImageFolders:
    """Return the folders of the photographs of a run."""
    bits_stored = run.dataset.get("source", {}).get("bits_stored", FULL_BITS)
    return ImageFolders(image_folders(run.dataset), bits_stored)


def choose_rows(run: ReportedRun, *, count: int) -> dict[str, list[int]]:
    """Return the rows of the test images of each gallery, at the thresholds of `mlic.predict`.

    Args:
        run: a run with test predictions.
        count: maximum number of photographs per gallery.
    """
    predictions = predictions_of(run)
    chosen = gallery_rows(predictions, predict_rule(run), count=count)
    # images without labels have the lowest losses of all, but there is nothing to see
    labelled = np.flatnonzero(predictions.positives.any(axis=1))
    if len(labelled):
        chosen["lowest_loss"] = labelled[
            gallery_rows(predictions.select(labelled), count=count)["lowest_loss"]
        ]
    return {key: rows.tolist() for key, rows in chosen.items()}


def label_groups(run: ReportedRun, row: int) -> dict[str, dict[str, float]]:
    """Return labels with scores, the most confident first, of one test image at the thresholds of `mlic.predict`.

    Returns:
        Scores by label of `right`, `wrong`, `missed` and `unknown` labels (predicted, but nobody knows whether they are
        true).
    """
    test = predictions_of(run)
    scores, known, true = test.scores[row], test.known[row], test.positives[row]
    predicted = scores.astype(np.float64) > np.broadcast_to(predict_rule(run), test.scores.shape)[row]
    kinds = {
        "right": predicted & true,
        "wrong": predicted & known & ~true,
        "missed": true & ~predicted,
        "unknown": predicted & ~known,
    }
    order = np.argsort(-scores, kind="stable").tolist()
    return {
        kind: {run.classes[column]: float(scores[column]) for column in order if flags[column]}
        for kind, flags in kinds.items()
    }


def describe(run: ReportedRun, row: int) -> str:
    """Return the file name and the labels of a test image, one line for each of `label_groups`."""
    lines = [
        f"{kind}: " + ", ".join(f"{label} {score:.2f}" for label, score in labels.items())
        for kind, labels in label_groups(run, row).items()
        if labels
    ]
    return "\n".join([str(predictions_of(run).file_names[row]), *lines])


def map_label(run: ReportedRun, row: int) -> str | None:
    """Return the most confident wrong label (predicted or missed), else the most confident right one, or None."""
    groups = label_groups(run, row)
    wrong = groups["wrong"] | {label: 1 - score for label, score in groups["missed"].items()}
    labels = wrong or groups["right"]
    return max(labels, key=lambda label: labels[label], default=None)


def photograph_data(
    runs: Sequence[ReportedRun], galleries: Mapping[str, Rows], maps: Mapping[str, Any], metrics: pd.DataFrame
) -> dict[str, Any]:
    """Return the data of galleries and errors as plain JSON types.

    Photographs are chosen until the page is full: those of the galleries, then the most confident right, wrong and
    missed label of each class and run, then the second most confident, and so on. Runs share them.

    Args:
        runs: runs with test predictions.
        galleries: results of `choose_rows` by run.
        maps: activation maps by run: (`data:` address, label) by row.
        metrics: rows of `class_metrics` at one threshold.

    Returns:
        `files` and `images` (`data:` addresses or null); `start` (index of the run with the highest mAP, and its worst
        class of at least 10 test images); and `runs`, see `_run_data`.
    """
    pool, sources = PhotographPool(), {run.name: source_of(run) for run in runs}
    chosen = [(run, row) for run in runs for rows in galleries[run.name].values() for row in rows]
    ranks = {run.name: rank_rows(predictions_of(run), predict_rule(run)) for run in runs}
    chosen += [(run, row) for rank in range(SHOWN) for run in runs for row in ranks[run.name][rank]]
    for run, row in chosen:
        pool.add(sources[run.name], str(predictions_of(run).file_names[row]))
    content = [
        _run_data(run, galleries[run.name], maps.get(run.name, {}), sources[run.name], pool) for run in runs
    ]
    return {"files": pool.names, "images": pool.addresses, "runs": content, "start": _start(runs, metrics)}


def rank_rows(predictions: Predictions, threshold: float | np.ndarray) -> list[list[int]]:
    """Return rows by rank: first those of the most confident wrong, missed and right label of each class, and so on."""
    predicted, true = _decide(predictions, threshold), predictions.positives
    ranks: list[list[int]] = [[] for _ in range(SHOWN)]
    for flags, sign in ((predicted & ~true, -1), (true & ~predicted, 1), (predicted & true, -1)):
        for column, scores in enumerate(predictions.scores.T):
            rows = np.flatnonzero(flags[:, column])
            order = np.argsort(sign * scores[rows], kind="stable")[:SHOWN]
            for rank, row in zip(ranks, rows[order].tolist(), strict=False):
                rank.append(row)
    return ranks


def _decide(predictions: Predictions, threshold: float | np.ndarray) -> np.ndarray:
    """Return the labels predicted, bool (N, C), without those that are unknown."""
    return (predictions.scores.astype(np.float64) > threshold) & predictions.known


def count_labels(predictions: Predictions, threshold: float | np.ndarray) -> dict[str, list[int]]:
    """Count right (`tp`) and wrong (`fp`) labels of each class."""
    predicted, true = _decide(predictions, threshold), predictions.positives
    return {"tp": (predicted & true).sum(axis=0).tolist(), "fp": (predicted & ~true).sum(axis=0).tolist()}


def _run_data(
    run: ReportedRun,
    galleries: Rows,
    maps: Mapping[int, tuple[str, str]],
    source: ImageFolders,
    pool: PhotographPool,
) -> dict[str, Any]:
    """Return the data of one run.

    Returns:
        `name`; `classes`; `photos`, the index of each photograph in the pool; their `scores` (uint16, the score times
        65536 rounded down) and `labels` (uint8; 2 is unknown), arrays (photographs, classes) in base64; `losses`;
        `folds`, the place of each photograph in the thresholds; `thresholds` by rule, a list of thresholds of all
        classes for each fold; `counts` by rule and `steps` by threshold, see `count_labels`; `positives`, test images
        of each class; `galleries` and `maps` by position of the photograph.
    """
    test, rules = predictions_of(run), rules_of(run)
    indices = {row: pool.find(source, str(name)) for row, name in enumerate(test.file_names)}
    found = {row: index for row, index in indices.items() if index is not None}
    rows, place = np.array(list(found), dtype=np.int64), {row: number for number, row in enumerate(found)}
    fold_of = np.zeros(len(test)) if test.folds is None else test.folds
    _, first, folds = np.unique(fold_of, return_index=True, return_inverse=True)
    scores = np.minimum(test.scores[rows].astype(np.float64) * LEVELS, LEVELS - 1)
    losses = image_losses(test)[rows].round(3)
    thresholds = {name: np.broadcast_to(values, test.scores.shape)[first] for name, values in rules.items()}
    return {
        "name": run.name,
        "classes": list(run.classes),
        "photos": list(found.values()),
        "scores": _encode(scores.astype("<u2")),
        "labels": _encode(np.where(test.known, test.positives, 2)[rows].astype(np.uint8)),
        "losses": [None if np.isnan(loss) else loss for loss in losses.tolist()],
        "folds": folds[rows].tolist(),
        "thresholds": {name: values.tolist() for name, values in thresholds.items()},
        "counts": {name: count_labels(test, values) for name, values in rules.items()},
        "steps": [count_labels(test, step) for step in STEPS],
        "positives": test.positives.sum(axis=0).tolist(),
        "galleries": {key: [place[row] for row in own if row in place] for key, own in galleries.items()},
        "maps": {place[row]: item for row, item in maps.items() if row in place},
    }


def _encode(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _start(runs: Sequence[ReportedRun], metrics: pd.DataFrame) -> dict[str, Any]:
    """Return the run with the highest test mAP and its class with the lowest average precision, of those to judge."""
    defined = metrics.dropna(subset="ap").sort_values("ap")
    if defined.empty:
        return {"run": 0, "class": ""}
    means = {run.name: defined.query("run == @run.name")["ap"].mean() for run in runs}
    best = max(means, key=lambda name: means[name])
    own = defined.query("run == @best")
    enough = own.query(f"support >= {FREQUENT}")
    return {"run": list(means).index(best), "class": (own if enough.empty else enough)["class"].iloc[0]}
