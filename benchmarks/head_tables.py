"""Tables of `benchmarks.heads`: the figures of each candidate, and paired differences."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from benchmarks.head_candidates import FEATURES, Fitted
from benchmarks.setting import describe_machine, load_average
from mlic.data import LabelTable
from mlic.evaluation.bootstrap import LEVEL, RESAMPLES, resample_weights
from mlic.evaluation.calibration import expected_calibration_error
from mlic.evaluation.metrics import ScoredImages, evaluate_scores

Key = tuple[int, int]  # seed and fold

BASE, MAPS = "lite2", "maps of lite2"
LARGEST = "lite0 + lite1 + lite2, 352 and 448 px"
RIDGE, BLEND, DENSE, REPORT = "ridge, power 0.5", "blend", "dense 1024", "report's head"
SAME_FEATURES = (BASE, "lite0 + lite1 + lite2", "lite0")
COMMON_HEADS = (RIDGE, BLEND, "ridge, power 1", "logistic regression", DENSE, "linear", REPORT)
CURVE_HEADS = (DENSE, "logistic regression", RIDGE)
IMAGE_STEPS = tuple(name for name in FEATURES if name.startswith(f"{BASE}, "))


@dataclass(frozen=True)
class Candidate:
    """A head on some features, trained on a number of images; None for the whole training part."""

    features: str
    head: str
    images: int | None = None

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return "_".join(re.sub(r"\W+", "_", str(value)) for value in (self.features, self.head, self.images))


def all_candidates(curve: Sequence[int]) -> Iterator[Candidate]:
    """Yield all candidates, the most important and fastest first.

    Args:
        curve: numbers of training images at which the first heads are compared.
    """
    for features in SAME_FEATURES:
        yield from (Candidate(features, head) for head in COMMON_HEADS)
    yield from (Candidate(features, RIDGE) for features in IMAGE_STEPS)
    yield Candidate(BASE, "linear, 150 epochs")
    yield from (Candidate(BASE, head, images) for images in curve for head in CURVE_HEADS)
    yield from (Candidate(LARGEST, head) for head in (RIDGE, BLEND))
    yield from (Candidate(MAPS, head) for head in ("residual attention", "attention"))


class Scores:
    """The mAP of a candidate in each fold, also on resamples of all images, and its other figures."""

    def __init__(self, table: LabelTable, weights: np.ndarray, results: Mapping[Key, Fitted]) -> None:
        """Compute all; `weights` float32 (N, R) are how often each image of the table is drawn."""
        self.maps: dict[Key, float] = {}
        self.resampled: dict[Key, np.ndarray] = {}
        scores, decisions, targets = [], [], []
        for key, fitted in results.items():
            probabilities = expit(fitted.logits)
            images = ScoredImages(fitted.logits, table.labels[fitted.rows], table.classes)
            self.maps[key] = float(images.summarise(names=["map"])[0]["map"][0])
            self.resampled[key] = images.summarise(weights[fitted.rows], ["map"])[0]["map"]
            scores.append(probabilities)
            decisions.append(probabilities > fitted.thresholds)
            targets.append(table.labels[fitted.rows])
        self.seconds = min(
            float(fitted.seconds) for fitted in results.values()
        )  # least disturbed by other programs
        pooled, self.targets = np.concatenate(scores), np.concatenate(targets)
        decided = evaluate_scores(np.concatenate(decisions).astype(float), self.targets, table.classes)
        self.f1_micro, self.f1_macro = decided["f1_micro"], decided["f1_macro"]
        clipped = pooled.clip(1e-7, 1 - 1e-7)
        self.log_loss = float(-np.log(np.where(self.targets == 1, clipped, 1 - clipped)).mean())
        self.calibration_error = expected_calibration_error(pooled, self.targets)

    def mean(self) -> str:
        """Return mean and standard deviation over folds and seeds."""
        values = np.array(list(self.maps.values()))
        return f"{values.mean():.4f} ± {values.std():.3f}"

    def minus(self, other: "Scores") -> str:
        """Return the mean difference over folds and seeds, with its interval (centred percentiles)."""
        keys = [key for key in self.maps if key in other.maps]
        if not keys:
            return ""
        difference = np.mean([self.maps[key] - other.maps[key] for key in keys])
        resampled = np.mean([self.resampled[key] - other.resampled[key] for key in keys], axis=0)
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - resampled.mean()
        return f"{difference:+.4f} ({difference + low:+.4f} to {difference + high:+.4f})"


class Tables:
    """The tables of all results that are there."""

    def __init__(
        self, table: LabelTable, results: Mapping[Candidate, Mapping[Key, Fitted]], *, fits: int
    ) -> None:
        """Compute the figures of all results; a candidate has `fits` of them when it is complete."""
        self.table, self.fits = table, fits
        # drawn once for all images, so that folds of both seeds count an image equally often
        weights = np.concatenate(list(resample_weights(len(table), RESAMPLES, 0)), axis=1)
        self.scores = {
            candidate: Scores(table, weights, found) for candidate, found in results.items() if found
        }

    def minus(self, candidate: Candidate, features: str, head: str) -> str:
        """Return the difference to another candidate, or nothing where one is missing."""
        other = Candidate(features, head)
        if candidate == other or other not in self.scores:
            return ""
        return self.scores[candidate].minus(self.scores[other])

    def heads(self) -> list[Candidate]:
        """Return the candidates with the whole training part, by features."""
        whole = [candidate for candidate in self.scores if candidate.images is None]
        order = list(FEATURES)
        several = [candidate for candidate in whole if candidate.features not in IMAGE_STEPS]
        return sorted(several, key=lambda candidate: order.index(candidate.features))

    def figures(self) -> str:
        """Tabulate the figures of each head."""
        columns = (
            "features",
            "head",
            "mAP ± sd",
            "F1 micro / macro",
            "log loss",
            "calibration error",
            "seconds",
        )
        rows = []
        for candidate in self.heads():
            own = self.scores[candidate]
            f1 = f"{own.f1_micro:.3f} / {own.f1_macro:.3f}"
            errors = (f"{own.log_loss:.4f}", f"{own.calibration_error:.4f}", f"{own.seconds:.1f}")
            rows.append((candidate.features, candidate.head, own.mean(), f1, *errors))
        return _markdown(columns, rows)

    def differences(self) -> str:
        """Tabulate the differences of mAP between heads on the same features, and to today's best."""
        others = (REPORT, DENSE, RIDGE)
        columns = ("features", "head", *(f"minus {other}" for other in others), f"minus {DENSE} on {BASE}")
        rows = []
        for candidate in self.heads():
            same = (self.minus(candidate, candidate.features, other) for other in others)
            rows.append((candidate.features, candidate.head, *same, self.minus(candidate, BASE, DENSE)))
        return _markdown(columns, rows)

    def images(self) -> str:
        """Compare steps of the images, each with ridge."""
        rows = []
        for features in (BASE, *IMAGE_STEPS):
            candidate = Candidate(features, RIDGE)
            if own := self.scores.get(candidate):
                rows.append((features, own.mean(), self.minus(candidate, BASE, RIDGE)))
        return _markdown(("features", "mAP ± sd", f"minus {BASE}"), rows)

    def curve(self) -> str:
        """Compare the first heads on fewer images."""
        rows = []
        for images in sorted({candidate.images for candidate in self.scores if candidate.images is not None}):
            own = [self.scores.get(Candidate(BASE, head, images)) for head in CURVE_HEADS]
            difference = own[2].minus(own[0]) if own[0] and own[2] else ""
            rows.append((str(images), *(scores.mean() if scores else "" for scores in own), difference))
        return _markdown(("training images", *CURVE_HEADS, f"{RIDGE} minus {DENSE}"), rows)

    def markdown(self) -> str:
        """Return all tables."""
        machine = describe_machine()
        unfinished = [
            f"{candidate.folder} ({len(scores.maps)} of {self.fits})"
            for candidate, scores in self.scores.items()
            if len(scores.maps) < self.fits
        ]
        facts = (
            f"{len(self.table)} images, {len(self.table.classes)} classes, {self.fits} fits of each candidate. "
            f"{machine['date'][:10]}, {machine['processor']}, {machine['torch_threads']} thread, "
            f"load {load_average()[1]}. Intervals are of 95 %."
        )
        if unfinished:
            facts += f" Not all fits are there: {', '.join(unfinished)}."
        tables = (self.figures(), self.differences(), self.images(), self.curve())
        return "\n\n".join((facts, *tables)) + "\n"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
