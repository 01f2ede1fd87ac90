"""Labels that are probably wrong, ranked by cleanlab's label quality from cross-validated scores."""

import logging
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from mlic.data.splitting import stratified_folds
from mlic.data.table import LabelTable
from mlic.errors import InputError
from mlic.runs.folder import RunFolder, replacing_together
from mlic.verification.report import SUSPECT_IMAGES, SUSPECTS, write_table

logger = logging.getLogger(__name__)

SEPARATOR = "|"
SHOWN = 5


def check_options(options: DictConfig) -> None:
    """Check the options `suspects` before any long work.

    Raises:
        InputError: an option is out of range, or cleanlab is not installed.
    """
    for key, least in (("strength", 1e-9), ("rows", 1), ("folds", 2)):
        if not options[key] >= least:
            raise InputError(f"suspects.{key}={options[key]}: expected a number of at least {least:g}.")
    if find_spec("cleanlab") is None:
        raise InputError(
            "labels=suspect requires cleanlab, which is not installed: pip install 'mlic[verify]'."
        )


def write_suspects(config: DictConfig, folder: RunFolder) -> None:
    """Score all images by cross-validation on the features of `model`; write suspects.csv and suspect_images.csv.

    Args:
        config: composed from `conf/verify.yaml`.
        folder: output folder.

    Raises:
        InputError: no class has enough images, or settings are invalid.
    """
    from mlic.training.run import prepare_features
    from mlic.verification.cross_validation import cross_validated_scores

    options = config.suspects
    # unusable images were already reported
    config = config.copy()
    config.data.on_bad_image = "drop"
    datamodule, device = prepare_features(config)
    datamodule.group_copies()  # a copy of an image in another fold would leak its labels
    table = _learnable(datamodule.table, options.folds)
    start = time.perf_counter()
    features: Any = datamodule.features
    scores = cross_validated_scores(
        features.dataset(table.paths(), table.labels).rows,
        table.labels,
        stratified_folds(table, options.folds, config.seed),
        strength=options.strength,
        device=device,
    )
    ranking = rank_suspects(table, scores, most=options.rows)
    with replacing_together(folder.path) as new:
        write_table(new / SUSPECTS, ranking.labels)
        write_table(new / SUSPECT_IMAGES, ranking.images)
    _log_ranking(folder, table, ranking, time.perf_counter() - start)


def _learnable(table: LabelTable, folds: int) -> LabelTable:
    """Keep the classes of which every training part can have an image with and one without the class."""
    counts = table.counts()
    learnable = (counts >= folds) & (counts <= len(table) - folds)
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
    """Rankings of labels and images, the worst first.

    Attributes:
        labels: one row per label: `rank`, `file_name`, `class`, `given` (0 or 1), `score`, `quality`, `likely_wrong`
            (0 or 1), `image_rank`, `image_quality`.
        images: one row per image: `rank`, `file_name`, `labels`, `quality`, `likely_wrong` (classes with likely wrong
            labels).
        wrong_labels, wrong_images: number of likely wrong labels, and of images with such labels.
    """

    labels: pd.DataFrame
    images: pd.DataFrame
    wrong_labels: int
    wrong_images: int


def rank_suspects(table: LabelTable, scores: np.ndarray, *, most: int) -> Ranking:
    """Rank labels and images by cleanlab's label quality.

    The quality of a label is its self-confidence: the score if the image has the class, else 1 minus the score. The
    quality of an image is cleanlab's exponential moving average over its labels, in which the worst label has the
    largest weight (Thyagarajan et al., Identifying Incorrect Annotations in Multi-Label Classification Data, 2022).
    `likely_wrong` is the result of cleanlab's confident learning, which estimates from the scores how many labels of a
    class are wrong (Northcutt et al., Confident Learning, 2021).

    Args:
        table: N images, C classes.
        scores: out-of-sample probabilities (N, C).
        most: maximum number of labels, and of images, to list.
    """
    from cleanlab.multilabel_classification import get_label_quality_scores
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    given = [np.flatnonzero(row).tolist() for row in table.labels]
    scores = scores.astype(np.float64)
    quality = get_label_quality_scores_per_class(given, scores)
    image_quality = get_label_quality_scores(given, scores)
    wrong = np.asarray(find_multilabel_issues_per_class(given, scores, n_jobs=1)).astype(bool)
    image_order = np.argsort(image_quality, kind="stable")
    rows, columns = np.unravel_index(_worst(quality.ravel(), most), quality.shape)
    image_rank = np.empty(len(table), dtype=np.int64)
    image_rank[image_order] = np.arange(1, len(table) + 1)
    labels = pd.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "file_name": table.file_names[rows],
            "class": np.array(table.classes, dtype=object)[columns],
            "given": table.labels[rows, columns],
            "score": scores[rows, columns],
            "quality": quality[rows, columns],
            "likely_wrong": wrong[rows, columns].astype(np.uint8),
            "image_rank": image_rank[rows],
            "image_quality": image_quality[rows],
        }
    )
    images = _image_rows(table, wrong, image_quality, image_order[:most])
    return Ranking(labels, images, int(wrong.sum()), int(wrong.any(axis=1).sum()))


def _worst(quality: np.ndarray, most: int) -> np.ndarray:
    """Return the indices of the `most` lowest values in ascending order, without sorting millions of values."""
    chosen = np.arange(len(quality))
    if most < len(quality):
        limit = np.partition(quality, most - 1)[most - 1]
        chosen = np.flatnonzero(quality <= limit)
    return chosen[np.argsort(quality[chosen], kind="stable")][:most]


def _image_rows(table: LabelTable, wrong: np.ndarray, quality: np.ndarray, order: np.ndarray) -> pd.DataFrame:
    def names(matrix: np.ndarray) -> list[str]:
        return [
            SEPARATOR.join(table.classes[column] for column in np.flatnonzero(row)) for row in matrix[order]
        ]

    return pd.DataFrame(
        {
            "rank": np.arange(1, len(order) + 1),
            "file_name": table.file_names[order],
            "labels": names(table.labels),
            "quality": quality[order],
            "likely_wrong": names(wrong),
        }
    )


def _log_ranking(folder: RunFolder, table: LabelTable, ranking: Ranking, seconds: float) -> None:
    shown = ranking.labels.head(SHOWN).to_dict("records")
    lines = [
        f"  {row['file_name']!r} labelled {'' if row['given'] else 'not '}{row['class']}, score {row['score']:.3f}"
        for row in shown
    ]
    logger.info(
        "%d of %d labels are likely wrong, on %d of %d images (%.1f s); the most suspect:\n%s\nranked in %s and %s",
        *(
            ranking.wrong_labels,
            table.labels.size,
            ranking.wrong_images,
            len(table),
            seconds,
            "\n".join(lines),
        ),
        *(folder.path / SUSPECTS, folder.path / SUSPECT_IMAGES),
    )
