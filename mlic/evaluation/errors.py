"""Where a run goes wrong: which classes, which images, and which pairs of labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlic.evaluation.decisions import Decisions
from mlic.evaluation.metrics import ScoredImages
from mlic.evaluation.predictions import Predictions

FALSE_POSITIVE, FALSE_NEGATIVE = "false positive", "false negative"


def confusions(
    predictions: Predictions, threshold: float | np.ndarray = 0.5, *, top: int = 5
) -> pd.DataFrame:
    """For each class the classes that are predicted in its place.

    Among the images where a class is present but not predicted, how often is another one predicted that is
    absent? Some classes are falsely predicted everywhere; so pairs are ordered by how much more often this
    happens than over all images, and only those where it does are listed.

    Args:
        predictions: scores and targets.
        threshold: as for `evaluate_scores`.
        top: at most so many for each class.

    Returns:
        Columns class, confused_with, images (where it happens), share (of the images where the class is
        missed) and usual_share (of all images). In the order of the classes, strongest first.
    """
    decided = _decide(predictions, threshold)
    missed = decided.targets & ~decided.predicted
    false = decided.predicted & ~decided.targets
    together = missed.T.astype(np.float32) @ false.astype(np.float32)
    share = together / np.maximum(missed.sum(axis=0), 1)[:, None]
    usual = false.mean(axis=0)
    excess = np.where(together > 0, share - usual, 0)
    rows = []
    for index, name in enumerate(predictions.classes):
        order = np.argsort(-excess[index], kind="stable")[:top]
        for other in order[excess[index, order] > 0].tolist():
            count = int(together[index, other])
            rows.append(
                (name, predictions.classes[other], count, float(share[index, other]), float(usual[other]))
            )
    return pd.DataFrame(rows, columns=["class", "confused_with", "images", "share", "usual_share"])


def single_errors(predictions: Predictions, threshold: float | np.ndarray = 0.5) -> pd.DataFrame:
    """All wrong labels, the most confident first.

    Returns:
        Columns row, file_name, class, kind ("false positive" or "false negative"), score and confidence:
        the score of a false positive, 1 minus that of a false negative. Equal ones in the order of images,
        then classes.
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
    """Pairs of classes that share images.

    Args:
        targets: (N, C) of 0 and 1.
        classes: C names.

    Returns:
        Columns first, second, images (that carry both) and lift: how many times more than if the two were
        independent, images * N / (images of first * images of second). Most images first, then as the
        classes.
    """
    flags = np.asarray(targets).astype(np.float32)
    together = (flags.T @ flags).astype(np.int64)
    counts = np.diagonal(together)
    first, second = np.nonzero(np.triu(together, k=1))
    names, images = np.array(list(classes), dtype=object), together[first, second]
    frame = pd.DataFrame({"first": names[first], "second": names[second], "images": images})
    frame["lift"] = images * len(flags) / (counts[first] * counts[second])
    return frame.sort_values("images", ascending=False, kind="stable", ignore_index=True)


def ap_by_training_images(
    per_class: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int]
) -> pd.DataFrame:
    """Average precision of each class beside its number of training images, rarest first.

    Args:
        per_class: of `evaluate_scores`.
        counts: training images of each class; a class not in it has NaN.

    Returns:
        Columns class, training_images, ap (NaN where undefined), support.
    """
    frame = pd.DataFrame(
        {
            "class": list(per_class),
            "training_images": pd.Series([counts.get(name) for name in per_class], dtype=float),
            "ap": pd.Series([row["ap"] for row in per_class.values()], dtype=float),
            "support": [row["support"] for row in per_class.values()],
        }
    )
    return frame.sort_values(["training_images", "class"], ignore_index=True)


def image_losses(predictions: Predictions) -> np.ndarray:
    """Binary cross-entropy of each image, the mean over classes without weights: (N,) float64, in nats."""
    wrong = np.abs(predictions.scores.astype(np.float64) - predictions.targets)
    # a float32 score that rounded to 0 or 1 counts as the last number before it
    return -np.log1p(-np.minimum(wrong, 1 - np.finfo(np.float32).epsneg)).mean(axis=1)


def gallery_rows(
    predictions: Predictions, threshold: float | np.ndarray = 0.5, *, count: int = 8
) -> dict[str, np.ndarray]:
    """Rows of the images to show, by rule.

    Returns:
        `lowest_loss` and `highest_loss`: by `image_losses`, the most extreme first; `confident_errors`:
        images with the most confident of `single_errors`, each once. At most `count` each; equal ones in
        row order.
    """
    losses = image_losses(predictions)
    errors = single_errors(predictions, threshold)["row"].drop_duplicates()
    return {
        "lowest_loss": np.argsort(losses, kind="stable")[:count],
        "highest_loss": np.argsort(-losses, kind="stable")[:count],
        "confident_errors": errors.to_numpy()[:count],
    }


def _decide(predictions: Predictions, threshold: float | np.ndarray) -> Decisions:
    return ScoredImages(predictions.scores, predictions.targets, predictions.classes, threshold).decisions
