"""The rows that trials train on and are scored on: the parts of the run, or folds of train and val, but never test."""

from copy import copy

import numpy as np

from mlic.data import MultiLabelDataModule, Split, class_weights
from mlic.data.splitting import stratified_folds
from mlic.errors import InputError


def make_folds(datamodule: MultiLabelDataModule, number: int | None) -> list[MultiLabelDataModule]:
    """Return the data module itself, or one per fold whose val part is the fold and whose train part the other folds.

    Args:
        datamodule: data module with features, after `setup`.
        number: number of stratified folds of train and val together, `tune.folds`; None for the parts of the run.

    Raises:
        InputError: the number of folds is out of range.
    """
    if number is None:
        return [datamodule]
    split = datamodule.split
    rows = np.sort(np.concatenate([split.train, split.val]))
    if not 2 <= number <= len(rows):
        raise InputError(
            f"tune.folds={number}: expected from 2 to {len(rows)}, the number of train and val images.",
            key="tune.folds",
        )
    table = datamodule.table.select(rows)
    folds = stratified_folds(table, number, datamodule.split_settings.seed)
    return [_with_split(datamodule, np.delete(rows, fold), rows[fold]) for fold in folds]


def _with_split(datamodule: MultiLabelDataModule, train: np.ndarray, val: np.ndarray) -> MultiLabelDataModule:
    """Return a data module of the same features with other parts, and the class weights of its training rows."""
    made, table = copy(datamodule), datamodule.table
    made.split = Split(train, val, np.array([], dtype=np.int64))
    made.class_weights = class_weights(
        table.select(train).counts(), table.classes, **datamodule.weight_options
    )
    return made
