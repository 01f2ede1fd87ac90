"""How often a precision or recall that was promised is reached, for common and rare classes."""

import numpy as np

from benchmarks.rows import Row
from benchmarks.setting import Setting
from mlic.config import compose
from mlic.evaluation.guarantees import PRECISION, RECALL, find_threshold
from mlic.evaluation.predictions import Predictions
from mlic.train import train

LEVEL, CONFIDENCE = 0.9, 0.9
COMMON, RARE = 80, 40  # positives of a class, at least and at most
POSITIVES = (5, 20, 100)


def promises(setting: Setting) -> list[Row]:
    """Draw calibration images from out-of-fold scores, and compare the promise with all images."""
    output = setting.work / "folds"
    train(compose(*setting.overrides("data.split.folds=5", "head=ridge"), output=output))
    predictions = Predictions.read_parquet(output / "predictions" / "test.parquet")
    return measure_promises(predictions, setting.choose(1000, 3))


def measure_promises(predictions: Predictions, draws: int) -> list[Row]:
    """Return a row for each kind and group of classes, and for each number of positives of the most common class."""
    positives = predictions.positives.sum(axis=0)
    columns = np.arange(len(positives))[:, None]
    groups = {
        "all labels together": [np.arange(len(positives))],
        f"classes with at least {COMMON} positives": [*columns[positives >= COMMON]],
        f"classes with at most {RARE} positives": [*columns[positives <= RARE]],
    }
    images = len(predictions)
    rows = [
        _row(f"{kind} {LEVEL:g}, {name}", predictions, chosen, kind, images, draws)
        for kind in (PRECISION, RECALL)
        for name, chosen in groups.items()
        if chosen
    ]
    most = int(np.argmax(positives))
    for kind in (PRECISION, RECALL):
        for number in POSITIVES:
            name = f"{kind} {LEVEL:g}, about {number} positives of {predictions.classes[most]}"
            size = round(number / positives[most] * images)
            rows.append(_row(name, predictions, [columns[most]], kind, size, draws))
    return rows


def _row(
    name: str, predictions: Predictions, groups: list[np.ndarray], kind: str, images: int, draws: int
) -> Row:
    """Return how often the level is reached where it was promised, or nothing was promised."""
    generator = np.random.default_rng(0)
    held = promised = 0
    for _ in range(draws):
        drawn = generator.integers(0, len(predictions), images)
        for columns in groups:
            scores, targets = predictions.scores[:, columns], predictions.targets[:, columns]
            found = find_threshold(scores[drawn], targets[drawn], kind, LEVEL, CONFIDENCE)
            if found.threshold is None:
                held += 1
                continue
            above, positive = scores > found.threshold, targets == 1
            hits, total = (above & positive).sum(), (above if kind == PRECISION else positive).sum()
            held += bool(hits >= LEVEL * total)
            promised += 1
    number = draws * len(groups)
    return Row(
        name,
        held / number,
        target=f">= {CONFIDENCE}",
        detail=f"promised in {promised / number:.1%} of {number:,} cases, and not kept in {1 - held / number:.1%}",
    )
