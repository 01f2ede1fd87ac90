"""Error analysis: confused classes, wrong labels, co-occurring classes, and images with extreme losses.

Unknown labels are never errors, and rates are taken over images whose label is known.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mlic.evaluation.decisions import Decisions
from mlic.evaluation.metrics import ScoredImages
from mlic.evaluation.predictions import Predictions

FALSE_POSITIVE, FALSE_NEGATIVE = "false positive", "false negative"


def confusions(
    predictions: Predictions, threshold: float | np.ndarray = 0.5, *, top: int = 5
) -> pd.DataFrame:
    """Find the classes that are predicted in place of each class.

    Counts how often an absent class is predicted on the images where a class is present but not predicted. Some classes
    are falsely predicted everywhere. Pairs are therefore sorted by the excess over the rate on all images, and only
    pairs with a positive excess are listed.

    Args:
        predictions: scores and targets.
        threshold: see `evaluate_scores`.
        top: maximum number of rows per class.

    Returns:
        Columns class, confused_with, images (number of cases), share (of the images where the class is missed) and
        usual_share (of all images whose label is known), sorted by class and then by excess.
    """
    decided = _decide(predictions, threshold)
    missed = decided.targets & ~decided.predicted
    false = decided.predicted & ~decided.targets
    together = missed.T.astype(np.float32) @ false.astype(np.float32)
    share = together / np.maximum(missed.sum(axis=0), 1)[:, None]
    usual = false.sum(axis=0) / np.maximum(predictions.known.sum(axis=0), 1)
    excess = np.where(together > 0, share - usual, 0)
    order, names = np.argsort(-excess, axis=1, kind="stable")[:, :top], predictions.classes
    rows = [
        (names[row], names[other], int(together[row, other]), share[row, other], usual[other])
        for row, others in enumerate(order)
        for other in others
        if excess[row, other] > 0
    ]
    return pd.DataFrame(rows, columns=["class", "confused_with", "images", "share", "usual_share"])


def single_errors(predictions: Predictions, threshold: float | np.ndarray = 0.5) -> pd.DataFrame:
    """List all wrong labels, the most confident first.

    Returns:
        Columns row, file_name, class, kind ("false positive" or "false negative"), score and confidence (the score of a
        false positive, 1 minus that of a false negative). Ties are in the order of images, then classes.
    """
    decided = _decide(predictions, threshold)
    rows, columns = np.nonzero(decided.predicted != decided.targets)
    positive = decided.predicted[rows, columns]
    scores = predictions.scores[rows, columns]
    frame = pd.DataFrame(
        {
            "row": rows,
            "file_name": predictions.file_names[rows],
            "class": np.array(predictions.classes, dtype=object)[columns],
            "kind": np.where(positive, FALSE_POSITIVE, FALSE_NEGATIVE),
            "score": scores,
            "confidence": np.where(positive, scores, 1 - scores),
        }
    )
    return frame.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def co_occurrence(targets: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """List pairs of classes that occur together.

    Args:
        targets: targets (N, C) of 1, 0 and -1 (unknown).
        classes: C names.

    Returns:
        Columns first, second, images (with both classes) and lift (the ratio to the number expected if the two were
        independent, images * N / (images of first * images of second), where N and the numbers of images are counted
        among images with known labels of both). Most images first, then in the order of classes.
    """
    positive, known = ((np.asarray(targets) >= least).astype(np.float32) for least in (1, 0))
    together, one, either = (
        (first.T @ second).astype(np.int64)
        for first, second in ((positive, positive), (positive, known), (known, known))
    )
    first, second = np.nonzero(np.triu(together, k=1))
    names, images = np.array(list(classes), dtype=object), together[first, second]
    frame = pd.DataFrame({"first": names[first], "second": names[second], "images": images})
    frame["lift"] = images * either[first, second] / (one[first, second] * one[second, first])
    return frame.sort_values("images", ascending=False, kind="stable", ignore_index=True)


def image_losses(predictions: Predictions) -> np.ndarray:
    """Compute the binary cross-entropy of each image, float64 (N,), in nats.

    It is the unweighted mean over the classes whose label is known; NaN for an image without a known label.
    """
    wrong = np.abs(predictions.scores.astype(np.float64) - predictions.positives)
    # scores that were rounded to 0 or 1 in float32 are replaced by the adjacent numbers
    losses = -np.log1p(-np.minimum(wrong, 1 - np.finfo(np.float32).epsneg))
    known = predictions.known
    count = known.sum(axis=1)
    total = np.where(known, losses, 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def gallery_rows(
    predictions: Predictions, threshold: float | np.ndarray = 0.5, *, count: int = 8
) -> dict[str, np.ndarray]:
    """Select the images of galleries, by rule.

    Returns:
        Row numbers, at most `count` each: `lowest_loss` and `highest_loss` by `image_losses`, the most extreme first;
        `confident_errors`, the images with the most confident of `single_errors`, each image once. Ties are in row
        order.
    """
    losses = image_losses(predictions)
    judged = np.flatnonzero(~np.isnan(losses))
    errors = single_errors(predictions, threshold)["row"].drop_duplicates()
    return {
        "lowest_loss": judged[np.argsort(losses[judged], kind="stable")[:count]],
        "highest_loss": judged[np.argsort(-losses[judged], kind="stable")[:count]],
        "confident_errors": errors.to_numpy()[:count],
    }


def _decide(predictions: Predictions, threshold: float | np.ndarray) -> Decisions:
    return ScoredImages(predictions.scores, predictions.targets, predictions.classes, threshold).decisions
