"""Galleries: test photographs of a run with good and bad predictions, selected by rule."""

import numpy as np

from mlic.evaluation.errors import gallery_rows
from mlic.report.comparison import predictions_of
from mlic.report.reading import ReportedRun
from mlic.report.rules import predict_rule

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


def choose_rows(run: ReportedRun, *, count: int) -> dict[str, list[int]]:
    """Return the rows of the test images of each gallery, at the thresholds of `mlic.predict`.

    Args:
        run: a run with test predictions.
        count: maximum number of photographs per gallery.
    """
    predictions, threshold = predictions_of(run), predict_rule(run)
    chosen = gallery_rows(predictions, threshold, count=count)
    # images without labels have the lowest losses of all, but there is nothing to see
    labelled = np.flatnonzero(predictions.positives.any(axis=1))
    if len(labelled):
        best = gallery_rows(predictions.select(labelled), count=count)["lowest_loss"]
        chosen["lowest_loss"] = labelled[best]
    return {key: rows.tolist() for key, rows in chosen.items()}


def label_groups(run: ReportedRun, row: int) -> dict[str, list[tuple[str, float]]]:
    """Return labels with scores, the most confident first, of one test image at the thresholds of `mlic.predict`.

    Returns:
        Lists of `right`, `wrong`, `missed` (the lowest score first) and `unknown` labels (predicted, but nobody knows
        whether they are true).
    """
    test = predictions_of(run)
    scores, known, true = test.scores[row], test.known[row], test.positives[row]
    predicted = scores.astype(np.float64) > np.broadcast_to(predict_rule(run), test.scores.shape)[row]
    groups = {
        "right": predicted & true,
        "wrong": predicted & known & ~true,
        "missed": true & ~predicted,
        "unknown": predicted & ~known,
    }
    order = np.argsort(-scores, kind="stable")
    return {
        name: [
            (run.classes[column], float(scores[column]))
            for column in (order[::-1] if name == "missed" else order).tolist()
            if flags[column]
        ]
        for name, flags in groups.items()
    }


def describe(run: ReportedRun, row: int) -> str:
    """Return the file name and the labels of a test image, one line for each of `label_groups`."""
    lines = [str(predictions_of(run).file_names[row])]
    for name, labels in label_groups(run, row).items():
        if labels:
            lines.append(f"{name}: " + ", ".join(f"{label} {score:.2f}" for label, score in labels))
    return "\n".join(lines)


def map_label(run: ReportedRun, row: int) -> str | None:
    """Return the most confident wrong label (predicted or missed), else the most confident right one, or None."""
    groups = label_groups(run, row)
    wrong = groups["wrong"] + [(label, 1 - score) for label, score in groups["missed"]]
    labels = wrong or groups["right"]
    return max(labels, key=lambda item: item[1])[0] if labels else None
