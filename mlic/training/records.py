"""Files of a run other than checkpoints: data set, model, predictions, metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from mlic.config import flatten
from mlic.data import MultiLabelDataModule
from mlic.data.split_settings import PARTS
from mlic.escaping import escape_table
from mlic.evaluation.predictions import Predictions
from mlic.models import Backbone, MultiLabelClassifier
from mlic.runs.folder import (
    DATASET_FILE,
    METRICS_FILE,
    MODEL_FILE,
    SPLIT_FILE,
    RunFolder,
    write_atomically,
)

PREDICTED_PARTS = ("val", "test")
LOGGED_SETTINGS = ("seed", "data", "model", "head", "loss", "optimizer", "scheduler")


def write_dataset(folder: RunFolder, datamodule: MultiLabelDataModule) -> None:
    """Write dataset.json and split.csv.

    split.csv contains the sha256 of each image file, so that a later evaluation can identify training images.

    Args:
        folder: the run folder.
        datamodule: data module with digests, after `setup`.
    """
    table, split = datamodule.table, datamodule.split
    folder.write_json(DATASET_FILE, describe_dataset(datamodule))
    digests = datamodule.digests.astype(str)
    frame = pd.DataFrame({"file_name": table.file_names, "split": split.names(len(table)), "sha256": digests})
    write_atomically(folder.path / SPLIT_FILE, escape_table(frame).to_csv(index=False))


def describe_dataset(datamodule: MultiLabelDataModule) -> dict[str, Any]:
    """Return the content of dataset.json."""
    table, split = datamodule.table, datamodule.split

    def by_class(values: np.ndarray, classes: Sequence[str] = table.classes) -> dict[str, Any]:
        return dict(zip(classes, values.tolist(), strict=True))

    rows = {part: getattr(split, part) for part in PARTS}
    return {
        "classes": list(table.classes),
        "images": {part: len(rows[part]) for part in PARTS},
        "counts": {
            **{part: by_class(table.labels[rows[part]].sum(axis=0, dtype=np.int64)) for part in PARTS},
            "before_curation": by_class(datamodule.full_table.counts(), datamodule.full_table.classes),
        },
        "class_weights": by_class(datamodule.class_weights.astype(float)),
        "curation": datamodule.curation.as_dict(),
        "bad_images": {str(path): reason for path, reason in datamodule.bad_images.items()},
        "split": {**datamodule.split_settings.as_dict(), "hash": datamodule.split_hash},
        "source": {
            "annotations": _places(datamodule.annotations),
            "images": _places(table.folders if len(table.folders) > 1 else table.image_dir),
            "bits_stored": datamodule.bits_stored,
        },
    }


def _places(paths: str | Path | Sequence[str | Path] | None) -> str | list[str] | None:
    if paths is None or isinstance(paths, str | Path):
        return None if paths is None else str(paths)
    return [str(path) for path in paths]


def write_model(folder: RunFolder, backbone: Backbone, head: nn.Module, name: str) -> None:
    """Write model.json, the description of the network for comparisons."""
    folder.write_json(
        MODEL_FILE,
        {
            "name": name,
            **backbone.identity,
            "weights_tag": backbone.weights_tag,
            "image_size": backbone.image_size,
            "feature_shape": list(backbone.feature_shape),
            "backbone_parameters": backbone.num_parameters,
            "head_parameters": sum(parameter.numel() for parameter in head.parameters()),
        },
    )


def write_results(
    folder: RunFolder,
    model: MultiLabelClassifier,
    datamodule: MultiLabelDataModule,
    config: DictConfig,
    loggers: Sequence[Logger],
) -> None:
    """Write metrics.json and predictions, and log the final metrics with the settings to TensorBoard."""
    for part in PREDICTED_PARTS:
        if part in model.predictions:
            collected = model.predictions[part]
            folder.predictions(part).parent.mkdir(exist_ok=True)
            Predictions(
                file_names=np.asarray(datamodule.table.file_names)[collected.rows],
                scores=collected.scores,
                targets=collected.targets.numpy().astype(np.uint8),
                classes=datamodule.table.classes,
            ).write_parquet(folder.predictions(part))
    folder.write_json(METRICS_FILE, model.results)
    final = {
        f"final/{part}_{name}": value
        for part, metrics in model.results.items()
        for name, value in metrics.items()
        if isinstance(value, float)
    }
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_logged(config), metrics=final)


def log_settings(config: DictConfig, loggers: Sequence[Logger]) -> None:
    """Log the settings before training begins."""
    for logger in loggers:
        logger.log_hyperparams(_logged(config))


def _logged(config: DictConfig) -> dict[str, Any]:
    """Return `{"head.dropout": 0.6, ...}`, because the hparams tab supports only plain values."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    settings = flatten({key: plain[key] for key in LOGGED_SETTINGS if plain.get(key) is not None})
    return {
        name: value if isinstance(value, int | float | bool) else str(value)
        for name, value in settings.items()
    }
