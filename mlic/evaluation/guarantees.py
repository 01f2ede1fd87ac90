"""Thresholds with a guarantee: of the labels above, a share is right; of the labels missed below, at most a share.

A threshold that reaches a precision on some images reaches it on new ones only half of the time. Here thresholds are
tested on images that chose nothing, by "Learn then Test" (Angelopoulos, Bates, Candès, Jordan and Lei, 2021): from the
threshold that surely fulfils the wish towards those that are more useful, each is accepted if the hypothesis that it
does *not* fulfil it has a small p-value. A false acceptance then has at most the probability 1 - confidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions

PRECISION, RECALL = "precision", "recall"
SECTIONS = {PRECISION: "yes", RECALL: "no"}  # names in guarantees.json
STARTS, GROWTH = 3, 1.05


@dataclass(frozen=True)
class Guarantee:
    """The threshold of a class, or of all labels together.

    Attributes:
        threshold: labels with a score above are predicted; None if no threshold can be guaranteed.
        positives: known positive labels in the calibration images.
        labels: labels above the threshold in the calibration images.
        observed: precision or recall there; None without a threshold.
        reason: why there is no threshold; empty if there is one.
    """

    threshold: float | None
    positives: int
    labels: int = 0
    observed: float | None = None
    reason: str = ""


def find_threshold(
    scores: np.ndarray, targets: np.ndarray, kind: str, level: float, confidence: float = 0.9
) -> Guarantee:
    """Find the most useful threshold whose precision or recall is at least `level`.

    Of one class, the p-values are binomial and exact. Labels of one image depend on each other, so that those of
    several classes together take the larger of the binomial p-value and one of the normal approximation with the
    variance between images.

    Args:
        scores: scores (N, C) of images that chose nothing.
        targets: 1, 0 and -1 (unknown), of the same shape.
        kind: `precision`, for the lowest threshold, or `recall`, for the highest.
        level: least precision or recall.
        confidence: least probability that new images reach `level`.
    """
    positives, risk = int((targets == 1).sum()), 1 - confidence
    shares = STARTS if kind == PRECISION else 1
    # the p-value of as many right labels, without a wrong one, is level ** needed
    needed = int(np.ceil(np.log(risk / shares) / np.log(level)))
    if positives < needed:
        reason = f"{positives} positives; at least {needed} are needed"
        return Guarantee(None, positives, reason=reason)
    found = _candidates(scores, targets, kind, level)
    accepted = _last_accepted(found, needed, risk) if kind == PRECISION else _first_accepted(found, risk)
    if accepted is None:
        return Guarantee(None, positives, reason=f"no threshold surely has a {kind} of {level:g}")
    chosen = found.iloc[accepted]
    total = chosen["labels"] if kind == PRECISION else positives
    observed = float(chosen["hits"] / total)
    return Guarantee(float(chosen["threshold"]), positives, int(chosen["labels"]), observed)


def _candidates(scores: np.ndarray, targets: np.ndarray, kind: str, level: float) -> pd.DataFrame:
    """Return thresholds from the highest to the lowest, with labels and hits (right labels) above, and p-values."""
    from scipy.stats import binom  # takes a second, which predictions need not wait for

    known = targets != -1
    order = np.argsort(-scores[known], kind="stable")
    image, hit = np.nonzero(known)[0][order], targets[known][order] == 1
    score = scores[known][order].astype(np.float64)
    labels, hits = np.arange(1, len(score) + 1), np.cumsum(hit)
    p_value = binom.sf(hits - 1, labels if kind == PRECISION else hits[-1], level)
    if scores.shape[1] > 1:
        p_value = np.maximum(p_value, _between_images(hit, image, len(scores), kind, level))
    threshold = np.append(score[1:], 0.0)
    candidates = pd.DataFrame({"threshold": threshold, "labels": labels, "hits": hits, "p_value": p_value})
    return candidates.loc[np.flatnonzero(threshold < score)]  # ends of equal scores


def _between_images(hit: np.ndarray, image: np.ndarray, images: int, kind: str, level: float) -> np.ndarray:
    """Return the p-value of each number of labels above, if the sums of the images are independent.

    The sum of an image is its right labels minus `level` times its labels (precision) or its positives (recall). On
    average it is at most 0 if the hypothesis holds.
    """
    from scipy.stats import norm  # takes a second, which predictions need not wait for

    gain = hit - level if kind == PRECISION else hit.astype(np.float64)
    start = np.zeros(images) if kind == PRECISION else -level * np.bincount(image, hit, images)
    after = (
        pd.Series(gain).groupby(image).cumsum().to_numpy() + start[image]
    )  # sum of the image with this label
    total = np.cumsum(gain) + start.sum()
    squares, cubes = (
        np.cumsum(after**power - (after - gain) ** power) + (start**power).sum() for power in (2, 3)
    )
    deviation = np.sqrt(np.maximum(squares - total**2 / images, 1e-12))
    # the correction for skewness of Johnson (1978), because few images miss many labels; and one label less, because
    # counts are discrete. Without them, recall 0.9 at a confidence of 0.9 was reached in 894 of 1,000 draws
    statistic = (total - 1) / deviation
    skewness = cubes / deviation**3
    return norm.sf(statistic + skewness / 6 * (1 + 2 * statistic**2))


def _last_accepted(found: pd.DataFrame, needed: int, risk: float) -> int | None:
    """Return the lowest accepted threshold, from the highest on that can be accepted.

    A wrong label among the first ones would end the search, so that it begins at three numbers of labels, each with a
    third of the risk. An accepted threshold hands its risk to the next one (the fallback procedure: Wiens, 2003).
    """
    labels, p_values = found["labels"].to_numpy(), found["p_value"].to_numpy()
    starts = [needed * 2**number for number in range(STARTS)]
    accepted, available, wanted = None, 0.0, float(needed)
    while (place := int(np.searchsorted(labels, wanted))) < len(labels):
        while starts and wanted >= starts[0]:
            available += risk / STARTS
            del starts[0]
        if p_values[place] <= available:
            accepted = place
        elif starts:
            available = 0.0
        else:
            break
        following = max(wanted * GROWTH, labels[place] + 1)
        wanted = min(following, starts[0]) if starts else following
    return accepted


def _first_accepted(found: pd.DataFrame, risk: float) -> int | None:
    """Return the highest threshold that is accepted with all below it."""
    refused = np.flatnonzero(found["p_value"] > risk)
    place = int(refused[-1]) + 1 if len(refused) else 0
    return place if place < len(found) else None


def fit_guarantees(
    predictions: Predictions,
    *,
    precision: float | None = None,
    recall: float | None = None,
    confidence: float = 0.9,
    per_class: bool = True,
) -> dict[str, Any]:
    """Return `yes` (for `precision`) and `no` (for `recall`) of guarantees.json.

    Each has the level, the threshold of each class (None where it cannot be guaranteed) and the `Guarantee` of each
    class, or of `all` labels together. A guarantee of each class is one for this class: of ten, one may fail at a
    confidence of 0.9.

    Raises:
        InputError: a level or the confidence is not between 0 and 1.
    """
    for name, value in ((PRECISION, precision), (RECALL, recall), ("confidence", confidence)):
        if value is not None and not 0 < value < 1:
            raise InputError(f"{name}={value}: expected a number between 0 and 1.", key=name)
    scores, targets, classes = predictions.scores, predictions.targets, predictions.classes
    groups: dict[str, Any] = {"all": slice(None)}
    if per_class:
        groups = {name: [column] for column, name in enumerate(classes)}
    made = {}
    for kind, level in ((PRECISION, precision), (RECALL, recall)):
        if level is not None:
            found = {
                name: find_threshold(scores[:, columns], targets[:, columns], kind, level, confidence)
                for name, columns in groups.items()
            }
            made[SECTIONS[kind]] = {
                kind: level,
                "thresholds": {name: found[name if per_class else "all"].threshold for name in classes},
                "classes": {name: asdict(guarantee) for name, guarantee in found.items()},
            }
    return made


def guarantee_table(content: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table of guarantees.json for people: one row for each class, and precision or recall."""
    rows = [
        {"class": name, "at least": f"{kind} {content[section][kind]:g}", **own}
        for kind, section in SECTIONS.items()
        if section in content
        for name, own in content[section]["classes"].items()
    ]
    return pd.DataFrame(rows).sort_values("positives", ascending=False, kind="stable", ignore_index=True)


def decide(scores: np.ndarray, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    """Return the answers "yes", "ask" and "no" (N, C): above `yes`, in between, and not above `no`, thresholds (C,).

    Scores that are NaN have the answer "".
    """
    known = ~np.isnan(scores)
    return np.select([known & (scores > yes), known & (scores > no), known], ["yes", "ask", "no"], "")


def share_without_question(
    scores: np.ndarray, guarantees: Mapping[str, Any], classes: Sequence[str]
) -> float:
    """Return the share of the images (N, C) of which no label has to be asked; see `decide` and `fit_guarantees`."""

    def limits(section: str, absent: float) -> np.ndarray:
        found = guarantees[section]["thresholds"]
        return np.array([absent if found[name] is None else found[name] for name in classes])

    answers = decide(scores, limits("yes", np.inf), limits("no", -np.inf))
    return float((answers != "ask").all(axis=1).mean())
