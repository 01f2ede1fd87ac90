"""Labels worth a look: images and labels ranked by how badly the labels fit cross-validated scores."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig

from mlic.data.splitting import stratified_folds
from mlic.data.table import LabelTable
from mlic.errors import InputError
from mlic.runs.folder import RunFolder, replacing_together
from mlic.training.run import prepare_features
from mlic.verification.cross_validation import cross_validated_scores
from mlic.verification.files import SEPARATOR
from mlic.verification.report import SUSPECT_IMAGES, SUSPECT_SHEET, SUSPECTS, write_table
from mlic.verification.sheets import write_sheet

logger = logging.getLogger(__name__)

LEAST_SCORE = 1e-4  # a score of exactly 0 would outweigh all other labels of an image
NAMED = 3  # classes named for each image
SHOWN, ON_SHEET = 5, 24
PLANTED = 30  # errors that are planted to test the rankings, at most a tenth of the images


def check_options(options: DictConfig) -> None:
    """Check the options `suspects` before any long work.

    Raises:
        InputError: an option is out of range.
    """
    for key, least in (("penalty", 1e-9), ("rows", 1), ("folds", 2)):
        if not options[key] >= least:
            raise InputError(f"suspects.{key}={options[key]}: expected a number of at least {least:g}.")


def write_suspects(config: DictConfig, folder: RunFolder) -> pd.DataFrame:
    """Rank all images and labels on the features of `model`; write two tables and a sheet of pictures.

    Args:
        config: composed from `conf/verify.yaml`.
        folder: output folder.

    Returns:
        The ranking of the images, see `Ranking`.

    Raises:
        InputError: no class has enough images, or settings are invalid.
    """
    options = config.suspects
    # unusable images were already reported
    config = config.copy()
    config.data.on_bad_image = "drop"
    datamodule, _ = prepare_features(config)
    datamodule.group_copies()  # a copy of an image in another fold would leak its labels
    table = _learnable(datamodule.table, options.folds)
    start = time.perf_counter()
    source: Any = datamodule.features
    rows = source.dataset(table.paths(), table.labels).rows
    features = rows.gather(torch.arange(len(table))).flatten(1).float().numpy()
    folds = stratified_folds(table, options.folds, config.seed)
    scores = cross_validated_scores(features, table.labels, folds, penalty=options.penalty)
    ranking = rank_suspects(table, scores, most=options.rows)
    found = [
        planted_errors_found(features, table, folds, penalty=options.penalty, kind=kind, seed=config.seed)
        for kind in ("exchanged", "flipped")
    ]
    with replacing_together(folder.path) as new:
        write_table(new / SUSPECTS, ranking.labels)
        write_table(new / SUSPECT_IMAGES, ranking.images)
        shown = ranking.images.head(ON_SHEET)
        paths, captions = table.paths(), map(_caption, shown.to_dict("records"))
        write_sheet(
            new / SUSPECT_SHEET,
            [(paths[row], caption) for row, caption in zip(shown.index.tolist(), captions, strict=True)],
            title="Images whose labels are worth a look",
            bits_stored=datamodule.bits_stored,
        )
    _log_ranking(folder, ranking, found, time.perf_counter() - start)
    return ranking.images


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
            "labels=suspect: %d of %d classes are left out, because fewer than suspects.folds=%d images have them "
            "(or do not have them): %s",
            *((~learnable).sum(), len(learnable), folds),
            ", ".join(name for name, usable in zip(table.classes, learnable, strict=True) if not usable),
        )
    return table.select_classes(learnable)


@dataclass(frozen=True, eq=False)
class Ranking:
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
    fit = _fit(given, known, scores)
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
            "quality": lowest.to_numpy(),
        },
        index=lowest.index,
    )
    order = np.argsort(fit, kind="stable")[:most]
    doubtful = known & (quality < 0.5)
    images = pd.DataFrame(
        {
            "rank": np.arange(1, len(order) + 1),
            "file_name": table.file_names[order],
            "labels": [SEPARATOR.join(table.classes[c] for c in np.flatnonzero(given[row])) for row in order],
            "fit": fit[order],
            "unexpected": [_names(table, doubtful[row] & given[row], quality[row]) for row in order],
            "expected": [_names(table, doubtful[row] & ~given[row], quality[row]) for row in order],
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


def _names(table: LabelTable, chosen: np.ndarray, quality: np.ndarray) -> str:
    columns = np.flatnonzero(chosen)
    return SEPARATOR.join(table.classes[column] for column in columns[np.argsort(quality[columns])][:NAMED])


def planted_errors_found(
    features: np.ndarray,
    table: LabelTable,
    folds: list[np.ndarray],
    *,
    penalty: float,
    kind: str,
    seed: int = 0,
) -> tuple[int, int, int]:
    """Plant errors in a copy of the labels, rank it, and count those among the first places.

    The share of real errors among them cannot be known without looking. This test shows how far the ranking can be
    trusted on these images.

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
    wrong = labels != table.labels
    changed = LabelTable.build(table.image_dir, table.file_names, labels, table.classes)
    scores = cross_validated_scores(features, labels, folds, penalty=penalty)
    ranking = rank_suspects(changed, scores, most=2 * planted)
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
    chosen = [
        random.choice(np.flatnonzero(labels == value), number - number // 2 if value else number // 2, False)
        for value in (0, 1)
    ]
    flat = labels.ravel()
    flat[chosen[0]], flat[chosen[1]] = 1, 0
    return labels


def _caption(row: dict[str, Any]) -> str:
    named = {key: row[key].replace(SEPARATOR, ", ") for key in ("labels", "unexpected", "expected")}
    named["labels"] = named["labels"] or "none"
    lines = [f"{key}: {names}" for key, names in named.items() if names]
    return "\n".join([f"{row['rank']}. {row['file_name']}", *lines])


def _log_ranking(
    folder: RunFolder, ranking: Ranking, found: list[tuple[int, int, int]], seconds: float
) -> None:
    shown = [_caption(row).replace("\n", "; ") for row in ranking.images.head(SHOWN).to_dict("records")]
    logger.info(
        "images whose labels are worth a look, the most doubtful first (%.1f s):\n  %s\n"
        "all in %s, with pictures in %s; single labels in %s",
        *(seconds, "\n  ".join(shown)),
        *(folder.path / SUSPECT_IMAGES, folder.path / SUSPECT_SHEET, folder.path / SUSPECTS),
    )
    logger.info(
        "test of these rankings: of %d images with exchanged labels, the first %d contain %d; of %d flipped labels, "
        "the first %d contain %d. How many errors are real is known only after a look.",
        *(*found[0], *found[1]),
    )
