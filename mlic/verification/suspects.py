"""Labels worth a look: images and labels ranked by how badly the labels fit cross-validated scores."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from sklearn.linear_model import LogisticRegression, Ridge

from mlic.data.datamodule import MultiLabelDataModule
from mlic.data.splitting import stratified_folds
from mlic.data.table import UNKNOWN, LabelTable
from mlic.errors import InputError
from mlic.verification.findings import SEPARATOR, class_names

logger = logging.getLogger(__name__)

LEAST_SCORE = 1e-4  # a score of exactly 0 would outweigh all other labels of an image
NAMED = 3  # classes named for each image
WEAK_PENALTY = 1e3  # `C` of the calibration, whose two parameters need almost no penalty
PLANTED = 30  # errors that are planted to test the rankings, at most a tenth of the images


def find_suspects(datamodule: MultiLabelDataModule, options: DictConfig, seed: int) -> "Ranking":
    """Rank all images and labels on their features, and log a test of the rankings.

    Args:
        datamodule: images with features, see `read_features`.
        options: `suspects` of `conf/verify.yaml`.
        seed: seed of the folds.

    Raises:
        InputError: no class has enough images.
    """
    table, penalty = _learnable(datamodule.table, options.folds), options.penalty
    source: Any = datamodule.features
    rows = source.dataset(table.paths(), table.labels).rows
    features = rows.gather(torch.arange(len(table))).flatten(1).float().numpy()
    folds = stratified_folds(table, options.folds, seed)
    scores = cross_validated_scores(features, table.labels, folds, penalty=penalty)
    ranking = rank_suspects(table, scores, most=options.rows)
    for kind in ("exchanged", "flipped"):
        # the share of real errors cannot be known without looking; this shows how far the ranking can be trusted
        planted, first, found = planted_errors_found(features, table, folds, penalty, kind, seed)
        logger.info(
            "test with planted errors: of %d %s, the first %d contain %d", planted, kind, first, found
        )
    return ranking


def _learnable(table: LabelTable, folds: int) -> LabelTable:
    """Keep the classes of which every training part can have an image with and one without the class."""
    absent = (table.labels == 0).sum(axis=0)
    learnable = (table.counts() >= folds) & (absent >= folds)
    if not learnable.any():
        raise InputError(
            f"labels=suspect: no class has at least suspects.folds={folds} images with and as many without it. "
            "Use more images or fewer folds."
        )
    if not learnable.all():
        logger.warning(
            "labels=suspect leaves out classes which fewer than suspects.folds=%d images have or do not have: %s",
            folds,
            class_names(table, ~learnable).replace(SEPARATOR, ", "),
        )
    return table.select_classes(learnable)


def cross_validated_scores(
    features: np.ndarray, labels: np.ndarray, folds: Sequence[np.ndarray], *, penalty: float
) -> np.ndarray:
    """Score each fold with a ridge regression fitted on the other folds, and calibrate the scores of each class.

    A ridge regression solves all classes at once. On 1,069 photographs with 76 classes and 1,280 features it took 0.4 s
    where one logistic regression per class took 5 s, and found as many planted errors (`benchmarks/suspects.py`).

    Args:
        features: float32 (N, F).
        labels: (N, C) of 1, 0 and -1 (unknown).
        folds: row numbers, each row in one fold.
        penalty: `alpha` of scikit-learn's `Ridge`.

    Returns:
        Probabilities, float32 (N, C).
    """
    features = _standardize(features)
    scores = np.empty(labels.shape, dtype=np.float32)
    for fold in folds:
        others = np.setdiff1d(np.arange(len(labels)), fold)
        for columns, known in _classes_by_known_rows(labels[others] != UNKNOWN):
            rows = others[known]
            model = Ridge(alpha=penalty).fit(features[rows], labels[np.ix_(rows, columns)])
            scores[np.ix_(fold, columns)] = model.predict(features[fold]).reshape(len(fold), -1)
    for column in range(labels.shape[1]):
        scores[:, column] = _calibrate(scores[:, column], labels[:, column])
    return scores


def _standardize(features: np.ndarray) -> np.ndarray:
    # the root makes the long-tailed activations of a ReLU network more even, which linear models profit from
    features = np.sign(features) * np.sqrt(np.abs(features))
    features -= features.mean(axis=0)
    return features / (features.std(axis=0) + 1e-6)


def _classes_by_known_rows(known: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield groups of classes (column numbers) whose labels are known for the same rows, and these rows (a mask)."""
    if known.all():
        yield np.arange(known.shape[1]), known[:, 0]
        return
    patterns, pattern_of = np.unique(known, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        yield np.flatnonzero(pattern_of.ravel() == number), pattern


def _calibrate(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    known = labels != UNKNOWN
    scaled = (scores / (scores.std() + 1e-12))[:, None]
    model = LogisticRegression(C=WEAK_PENALTY).fit(scaled[known], labels[known])
    return model.predict_proba(scaled)[:, 1]


class Ranking(NamedTuple):
    """Rankings of labels and images, the most doubtful first.

    Attributes:
        labels: one row per known label: `rank`, `file_name`, `class`, `given` (0 or 1), `score`, `quality`; the index
            is the position in the flattened labels of the table.
        images: one row per image: `rank`, `file_name`, `labels`, `fit`, `unexpected` (labels given with low scores),
            `expected` (labels not given with high scores); the index is the row of the table.
    """

    labels: pd.DataFrame
    images: pd.DataFrame


def rank_suspects(table: LabelTable, scores: np.ndarray, *, most: int) -> Ranking:
    """Rank labels by their quality, and images by the fit of their labels.

    The quality of a label is its self-confidence: the score if the image has the class, else 1 minus the score
    (Northcutt et al., Confident Learning, 2021).

    The fit of an image is the logarithm of the probability of its labels given the image, minus that of the same labels
    given nothing but the frequencies of the classes: the pointwise mutual information of image and labels. It is
    negative for labels that fit an average image better. Frequent labels and images with many labels do not change it
    by themselves, as they change the sum of the losses.

    Args:
        table: N images, C classes.
        scores: out-of-sample probabilities (N, C).
        most: maximum number of labels, and of images, to list.
    """
    given, known = table.positives, table.known
    scores = scores.astype(np.float64)
    quality = np.where(given, scores, 1 - scores)
    # sorts the few lowest of what may be millions of values
    lowest = pd.Series(np.where(known, quality, np.nan).ravel()).dropna().nsmallest(most)
    rows, columns = np.unravel_index(lowest.index.to_numpy(), quality.shape)
    labels = pd.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "file_name": table.file_names[rows],
            "class": np.array(table.classes, dtype=object)[columns],
            "given": table.labels[rows, columns],
            "score": scores[rows, columns],
            "quality": lowest,
        }
    )
    fit = _fit(given, known, scores)
    order = np.argsort(fit, kind="stable")[:most]

    def worst(row: int, chosen: np.ndarray) -> str:
        columns = np.flatnonzero(chosen[row] & known[row] & (quality[row] < 0.5))
        return class_names(table, columns[np.argsort(quality[row, columns])][:NAMED])

    images = pd.DataFrame(
        {
            "rank": np.arange(1, len(order) + 1),
            "file_name": table.file_names[order],
            "labels": [class_names(table, given[row]) for row in order],
            "fit": fit[order],
            "unexpected": [worst(row, given) for row in order],
            "expected": [worst(row, ~given) for row in order],
        },
        index=order,
    )
    return Ranking(labels, images)


def _fit(given: np.ndarray, known: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the pointwise mutual information of each image and its labels in nats, (N,)."""
    probability = scores.clip(LEAST_SCORE, 1 - LEAST_SCORE)
    frequency = given.sum(axis=0) / known.sum(axis=0)
    gain = np.where(given, np.log(probability / frequency), np.log((1 - probability) / (1 - frequency)))
    return np.where(known, gain, 0).sum(axis=1)


def planted_errors_found(
    features: np.ndarray, table: LabelTable, folds: list[np.ndarray], penalty: float, kind: str, seed: int
) -> tuple[int, int, int]:
    """Plant errors in a copy of the labels, rank it, and count those among the first places.

    Args:
        features: float32 (N, F).
        table: N images.
        folds: see `cross_validated_scores`.
        penalty: see `cross_validated_scores`.
        kind: see `plant_errors`.
        seed: seed of the choice.

    Returns:
        The numbers of planted errors, of first places (twice as many), and of planted errors found there.
    """
    planted = max(2, min(PLANTED, len(table) // 10))
    labels = plant_errors(table.labels, kind, planted, np.random.default_rng(seed))
    scores = cross_validated_scores(features, labels, folds, penalty=penalty)
    ranking = rank_suspects(replace(table, labels=labels), scores, most=2 * planted)
    wrong = labels != table.labels
    if kind == "exchanged":
        wrong, ranked = wrong.any(axis=1), ranking.images.index
    else:
        wrong, ranked = wrong.ravel(), ranking.labels.index
    return int(wrong.sum()), len(ranked), int(wrong[ranked].sum())


def plant_errors(labels: np.ndarray, kind: str, number: int, random: np.random.Generator) -> np.ndarray:
    """Return a copy of labels (N, C) with planted errors.

    Args:
        labels: labels (N, C) of 1, 0 and -1.
        kind: `exchanged`: exchange the labels of `number` images; `flipped`: flip `number` labels, half of them 1.
        number: number of errors.
        random: generator that chooses them.
    """
    labels = labels.copy()
    if kind == "exchanged":
        rows = random.choice(len(labels), number, replace=False)
        labels[rows] = labels[np.roll(rows, 1)]
        return labels
    zeros, ones = (np.flatnonzero(labels == value) for value in (0, 1))
    zeros = random.choice(zeros, number // 2, replace=False)
    ones = random.choice(ones, number - number // 2, replace=False)
    labels.ravel()[zeros], labels.ravel()[ones] = 1, 0
    return labels
