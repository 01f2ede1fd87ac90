"""Files of a run other than checkpoints: data set, model, thresholds, predictions, metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from mlic.config import flatten
from mlic.data import MultiLabelDataModule
from mlic.escaping import escape_table
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import fit_thresholds
from mlic.models import Backbone, MultiLabelClassifier
from mlic.models.interface import CHECKPOINT_KEY
from mlic.runs.folder import (
    DATASET_FILE,
    METRICS_FILE,
    MODEL_FILE,
    SPLIT_FILE,
    THRESHOLDS_FILE,
    RunFolder,
    replacing,
    write_atomically,
)
from mlic.training.closed_form import LEFT_OUT
from mlic.training.tensorboard import LAST

DEFAULT_THRESHOLD = 0.5
PREDICTED_PARTS = ("val", "test", "calibration", LEFT_OUT)
# Settings that TensorBoard shows beside the test metrics. It sorts them by name, and shows five of them at first.
HPARAMS = {
    "backbone": "model.name", "batch_size": "data.batch_size", "dropout": "head.dropout", "head": "head._target_",
    "hidden": "head.hidden", "loss": "loss._target_", "lr": "optimizer.lr", "optimizer": "optimizer._target_",
    "seed": "seed", "weight_decay": "optimizer.weight_decay",
}  # fmt: skip
TEST_METRICS = ("map", "auc_macro", "precision_micro", "recall_micro", "cf1", "of1")
LOGGED_SETTINGS = ("seed", "data", "model", "head", "loss", "optimizer", "scheduler")
WHOLE_TABLE, SHOWN_CLASSES = 20, 12  # larger tables are cut to their first and last classes


def dataset_table(datamodule: MultiLabelDataModule) -> str:
    """Format the images per part and, for each class (most frequent first), images per part and class weight."""
    table, split = datamodule.table, datamodule.split
    columns: dict[str, Any] = {part: table.select(getattr(split, part)).counts() for part in datamodule.parts}
    frame = pd.DataFrame({**columns, "weight": datamodule.class_weights}, index=list(table.classes))
    frame = frame.sort_values("train", ascending=False, kind="stable")
    parts = ", ".join(f"{len(rows)} {part}" for part, rows in split.parts().items())
    dropped = len(datamodule.full_table.classes) - len(table.classes)
    title = f"{len(table)} images ({parts}), {len(table.classes)} classes ({dropped} dropped as too rare)"
    if not table.known.all():
        title += f"; {1 - table.known.mean():.1%} of the labels are unknown"
    rows = SHOWN_CLASSES if len(frame) > WHOLE_TABLE else None
    return f"{title}\n{frame.to_string(float_format='%.3f', max_rows=rows, show_dimensions=False)}"


def write_dataset(
    folder: RunFolder, datamodule: MultiLabelDataModule, *, near_duplicates: dict[str, Any] | None = None
) -> None:
    """Write dataset.json and split.csv.

    split.csv contains the sha256 of each image file, so that a later evaluation can identify training images.

    Args:
        folder: the run folder.
        datamodule: data module with digests, after `setup`.
        near_duplicates: number of test images with a near duplicate in train, and the threshold; None if not counted.
    """
    table, split = datamodule.table, datamodule.split
    folder.write_json(DATASET_FILE, {**describe_dataset(datamodule), "near_duplicates": near_duplicates})
    digests = datamodule.digests.astype(str)
    frame = pd.DataFrame({"file_name": table.file_names, "split": split.names(), "sha256": digests})
    if datamodule.group_images is not None:
        frame["group"] = table.groups  # resuming checks the split without features
    write_atomically(folder.path / SPLIT_FILE, escape_table(frame).to_csv(index=False))


def describe_dataset(datamodule: MultiLabelDataModule) -> dict[str, Any]:
    """Return the content of dataset.json."""
    table, split = datamodule.table, datamodule.split

    def by_class(values: np.ndarray, classes: Sequence[str] = table.classes) -> dict[str, Any]:
        return dict(zip(classes, values.tolist(), strict=True))

    parts = {part: table.select(rows) for part, rows in split.parts().items()}
    known = {}
    if not table.known.all():
        known = {part: by_class(images.known.sum(axis=0)) for part, images in parts.items()}
    return {
        "classes": list(table.classes),
        "images": {part: len(images) for part, images in parts.items()},
        "counts": {
            **{part: by_class(images.counts()) for part, images in parts.items()},
            "before_curation": by_class(datamodule.full_table.counts(), datamodule.full_table.classes),
        },
        # images whose label is known, where it is not in all images
        **({"known": known} if known else {}),
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


def write_model(
    folder: RunFolder, backbone: Backbone, head: nn.Module, name: str, timing: dict[str, Any]
) -> None:
    """Write model.json, the description of the network for comparisons; see `CachedFeatures.timing`."""
    folder.write_json(
        MODEL_FILE,
        {
            "name": name,
            **backbone.identity,
            "weights_tag": backbone.weights_tag,
            "weights_license": backbone.weights_license,
            "image_size": backbone.image_size,
            "feature_shape": list(backbone.feature_shape),
            "backbone_parameters": backbone.num_parameters,
            "head_parameters": sum(parameter.numel() for parameter in head.parameters()),
            **timing,
        },
    )


def tune_thresholds(model: MultiLabelClassifier) -> dict[str, Any]:
    """Tune thresholds on val or leave-one-out scores, and compute the test metrics with those of each class.

    Args:
        model: model after `Trainer.test`; `test_calibrated`, in the layout of `test`, is added to `results` if there
            are thresholds and a test part.

    Returns:
        The content of thresholds.json: `common`, `per_class` by name, and `fitted_on`: "val", "loo", or None without
        such scores, in which case all are 0.5.
    """
    test = model.predictions.get("test")
    part = next((part for part in ("val", LEFT_OUT) if part in model.predictions), None)
    if part is None:
        per_class = dict.fromkeys(model.classes, DEFAULT_THRESHOLD)
        return {"common": DEFAULT_THRESHOLD, "per_class": per_class, "fitted_on": None}
    held_back = model.predictions[part]
    fitted = fit_thresholds(held_back.scores, held_back.targets.numpy())
    if test is not None:
        calibrated = evaluate_scores(test.scores, test.targets.numpy(), model.classes, fitted.per_class)
        model.results["test_calibrated"] = {"loss": model.results["test"]["loss"], **calibrated}
    per_class = dict(zip(model.classes, fitted.per_class.tolist(), strict=True))
    return {"common": float(fitted.common), "per_class": per_class, "fitted_on": part}


def complete_checkpoint(path: str | Path, **info: Any) -> None:
    """Add information to a checkpoint, so that it can be used without its run folder; it is replaced atomically.

    Only the selected checkpoint is completed. Thresholds belong to the weights whose scores they were tuned on.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    checkpoint[CHECKPOINT_KEY] |= info
    with replacing(Path(path)) as file:
        torch.save(checkpoint, file)


def write_results(
    folder: RunFolder,
    model: MultiLabelClassifier,
    thresholds: dict[str, Any],
    datamodule: MultiLabelDataModule,
    config: DictConfig,
    loggers: Sequence[Logger],
) -> None:
    """Write thresholds, predictions and metrics.json, and log the final metrics with the settings to TensorBoard."""
    folder.write_json(THRESHOLDS_FILE, thresholds)
    for part in PREDICTED_PARTS:
        if part in model.predictions:
            collected = model.predictions[part]
            folder.predictions(part).parent.mkdir(exist_ok=True)
            Predictions(
                file_names=np.asarray(datamodule.table.file_names)[collected.rows],
                scores=collected.scores,
                targets=collected.targets.numpy(),
                classes=datamodule.table.classes,
            ).write_parquet(folder.predictions(part))
    folder.write_json(METRICS_FILE, model.results)
    test = model.results.get("test", {})
    final = {f"{LAST}test/{name}": test[name] for name in TEST_METRICS if isinstance(test.get(name), float)}
    settings = _logged(config)
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            # TensorBoard shows the columns of one run for all, so that each run needs all of them
            chosen: dict[str, Any] = {"dropout": 0.0, "hidden": "[]", "weight_decay": 0.0}
            chosen |= {name: settings[key] for name, key in HPARAMS.items() if key in settings}
            for name in chosen:
                if HPARAMS[name].endswith("._target_"):  # the class without its package, for narrow columns
                    chosen[name] = chosen[name].rpartition(".")[2]
            logger.log_hyperparams(chosen, metrics=final)


def log_settings(config: DictConfig, loggers: Sequence[Logger]) -> None:
    """Log the settings before training begins; TensorBoard gets them with the test metrics."""
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_logged(config))


def _logged(config: DictConfig) -> dict[str, Any]:
    """Return `{"head.dropout": 0.6, ...}`, because the hparams tab supports only plain values."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    settings = flatten({key: plain[key] for key in LOGGED_SETTINGS if plain.get(key) is not None})
    return {
        name: value if isinstance(value, int | float | bool) else str(value)
        for name, value in settings.items()
    }
