"""What trials train on and are chosen by: the run's train and val parts, or folds of both; never its test part."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from mlic.data import MultiLabelDataModule, class_weights, stratified_split
from mlic.errors import InputError
from mlic.models import Standardization, fit_standardization
from mlic.models.classifier import Batch


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows of the data module's table, and what follows from the training rows.

    Attributes:
        train: rows to train on.
        val: rows to score, none of them in train.
        class_weights: (C,) float32 from the training rows.
        standardization: fitted on the training rows.
    """

    train: np.ndarray
    val: np.ndarray
    class_weights: np.ndarray
    standardization: Standardization


def make_folds(datamodule: MultiLabelDataModule, number: int | None, views: int) -> list[Fold]:
    """One fold, the run's own train and val parts; or so many, iterative-stratified, of both parts together.

    Args:
        datamodule: after `setup`, with features.
        number: of folds, `tune.folds`; None for the run's parts.
        views: of the features.

    Raises:
        InputError: no val part and no folds, or an impossible number of folds.
    """
    split = datamodule.split
    if number is None:
        if not len(split.val):
            raise InputError(
                "tune chooses on val, and data.split.val is 0: set it, or choose by cross-validation with tune.folds=5."
            )
        return [_make_fold(datamodule, split.train, split.val, views)]
    rows = np.sort(np.concatenate([split.train, split.val]))
    if not 2 <= number <= len(rows):
        raise InputError(f"tune.folds={number}: expected from 2 to {len(rows)}, the images of train and val.")
    table, seed = datamodule.table.select(rows), datamodule.split_options["seed"]
    parts = [
        stratified_split(table, val=0, seed=seed, folds=number, fold=fold, on_missing="warn")
        for fold in range(number)
    ]
    return [_make_fold(datamodule, rows[part.train], rows[part.test], views) for part in parts]


def _make_fold(datamodule: MultiLabelDataModule, train: np.ndarray, val: np.ndarray, views: int) -> Fold:
    table = datamodule.table
    counts = table.labels[train].sum(axis=0, dtype=np.int64)
    weights = class_weights(counts, table.classes, **datamodule.weight_options)
    return Fold(train, val, weights, _standardization(datamodule.loader_of(train), views))


def _standardization(batches: Iterable[Batch], views: int) -> Standardization:
    rows = (features.flatten(0, 1) if views > 1 else features for features, _, _ in batches)
    flat = (batch.flatten(1).cpu() for batch in rows)
    first = next(flat)
    made = Standardization(first.shape[1])
    fit_standardization(made, chain([first], flat))
    return made
