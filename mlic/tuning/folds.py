"""Rows to train and select trials on: the train and val parts of the run, or folds of both, but never test."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from mlic.data import MultiLabelDataModule, class_weights, stratified_split
from mlic.data.splitting import without_parts
from mlic.errors import InputError
from mlic.models import Standardization, fit_standardization
from mlic.models.classifier import Batch


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows of the table of the data module, and statistics of the training rows.

    Attributes:
        train: rows to train on.
        val: rows to score, disjoint from train.
        class_weights: float32 (C,), computed from the training rows.
        standardization: standardisation fitted on the training rows.
    """

    train: np.ndarray
    val: np.ndarray
    class_weights: np.ndarray
    standardization: Standardization


def make_folds(datamodule: MultiLabelDataModule, number: int | None) -> list[Fold]:
    """Return one fold, the train and val parts of the run, or stratified folds of both parts together.

    Args:
        datamodule: data module with features, after `setup`.
        number: number of folds, `tune.folds`; None for the parts of the run.

    Raises:
        InputError: there are neither a val part nor folds, or the number of folds is invalid.
    """
    split = datamodule.split
    if number is None:
        if not len(split.val):
            raise InputError(
                "tune selects on val, but data.split.val is 0: set it, or select by cross-validation with tune.folds=5."
            )
        return [_make_fold(datamodule, split.train, split.val)]
    rows = np.sort(np.concatenate([split.train, split.val]))
    if not 2 <= number <= len(rows):
        raise InputError(
            f"tune.folds={number}: expected from 2 to {len(rows)}, the number of train and val images."
        )
    table = without_parts(datamodule.table.select(rows))
    settings = replace(datamodule.split_settings, val=0, folds=number, on_missing="warn")
    parts = [stratified_split(table, replace(settings, fold=fold)) for fold in range(number)]
    return [_make_fold(datamodule, rows[part.train], rows[part.test]) for part in parts]


def _make_fold(datamodule: MultiLabelDataModule, train: np.ndarray, val: np.ndarray) -> Fold:
    table = datamodule.table
    weights = class_weights(table.select(train).counts(), table.classes, **datamodule.weight_options)
    return Fold(train, val, weights, _standardization(datamodule.loader_of(train)))


def _standardization(batches: Iterable[Batch]) -> Standardization:
    flat = (features.flatten(1).cpu() for features, _, _ in batches)
    first = next(flat)
    made = Standardization(first.shape[1])
    fit_standardization(made, chain([first], flat))
    return made
