"""Cross-validation: a run for each fold, one after another, and the result of their joined out-of-fold predictions."""

import gc
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mlic.data import MultiLabelDataModule
from mlic.data.parts import column_values, fold_numbers, read_annotations
from mlic.data.split_settings import PARTS, SplitSettings
from mlic.data.splitting import stratified_split
from mlic.errors import InputError
from mlic.escaping import escape_table, restore_cell
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.runs.folder import (
    DATASET_FILE,
    FOLD,
    METRICS_FILE,
    MODEL_FILE,
    SPLIT_FILE,
    STATUS_FILE,
    THRESHOLDS_FILE,
    RunFolder,
    fold_folders,
    refuse_foreign_folder,
    refuse_other_kind,
    write_atomically,
)
from mlic.runs.lock import one_at_a_time
from mlic.runs.processes import rank_of_process
from mlic.runs.reading import check_format
from mlic.runs.status import RunStatus
from mlic.runs.system_errors import translated_errors
from mlic.training.devices import check_shared_output
from mlic.training.resuming import ANEW, EarlierRun, prepare_folder, read_earlier, with_output
from mlic.training.run import Results, run

logger = logging.getLogger(__name__)

MEAN, DEVIATION = "folds_mean", "folds_sd"
SHOWN = ("map", "auc_macro", "cf1", "of1")


def is_cross_validation(config: DictConfig) -> bool:
    """Return True if a config asks for all folds: `data.split.folds` is set, but `data.split.fold` is null."""
    split = config.data.get("split") or {}
    return split.get("folds") is not None and split.get("fold") is None


@translated_errors()
@one_at_a_time
def cross_validate(config: DictConfig) -> Results:
    """Train and test a run for each fold, and write the result of all to the folder above them.

    The runs are ordinary ones in `<output>/fold_<number>`. With `resume`, finished ones are skipped, and interrupted
    ones are continued. An error of a fold ends the cross-validation.

    Args:
        config: config composed from `conf/train.yaml` for which `is_cross_validation` holds.

    Returns:
        The content of metrics.json: metrics of the predictions of all images, each by the run of the fold that tests
        on it (`test`, `test_calibrated`); test metrics of the folds (`fold_<number>`), their mean and standard
        deviation (`folds_mean`, `folds_sd`); means over the folds of the other parts (`train`, `val`). Empty in all
        processes but the first.

    Raises:
        InputError: see `run`; or the folder has a run, a search, or other folds.
    """
    config = with_output(config)
    check_shared_output(config)
    refuse_foreign_folder(config.output)
    check_format(Path(config.output))
    refuse_other_kind(config.output, "cross-validation")
    folder, is_first, has_begun = RunFolder(config.output), not rank_of_process(), False
    with RunStatus(folder, write=is_first and not folder.has_results()) as status:
        numbers = _find_folds(config)
        runs = {number: folder.path / f"{FOLD}{number}" for number in numbers}
        if others := set(fold_folders(folder.path)) - set(runs.values()):
            raise InputError(
                f"output: '{folder.path}' has folds of another cross-validation, such as {min(others).name}. Choose "
                "another output."
            )

        def begin(datamodule: MultiLabelDataModule) -> None:
            nonlocal has_begun
            if not has_begun:
                _check_folds(datamodule, numbers)
                status.start()
                prepare_folder(config, folder, EarlierRun())
                has_begun = True

        for place, (number, own) in enumerate(runs.items(), start=1):
            logger.info("fold %d, run %d of %d", number, place, len(runs))
            run(_config_of_fold(config, number, own), begin)
            gc.collect()  # trainer and module refer to each other, and hold the features of the fold
        if not is_first:
            return {}
        if not has_begun and read_earlier(folder.path, STATUS_FILE).get("state") == "finished":
            logger.info("already finished, skipped: %s", folder.path)
            return read_earlier(folder.path, METRICS_FILE)
        status.start()
        status.content["seconds"] = _seconds(runs)
        status.content["machine"] = read_earlier(next(iter(runs.values())), STATUS_FILE).get("machine")
        with status.phase("records"):
            results = _write_results(folder, runs)
    logger.info("%s", _results_table(results))
    logger.info("run folder: %s", folder.path)
    return results


def _find_folds(config: DictConfig) -> list[int]:
    """Return the numbers of the folds: from 0, or those in the column that gives them."""
    settings = SplitSettings.of(config.data.split)
    assert settings.folds is not None
    if settings.column is None:
        return list(range(max(settings.folds, 1)))  # the first run refuses fewer than 2 folds
    table = read_annotations(instantiate(config.data.reader), config.data, settings)
    values = column_values(table, settings.column, "data.split.column")
    return np.unique(fold_numbers(values, settings)).tolist()


def _check_folds(datamodule: MultiLabelDataModule, numbers: Sequence[int]) -> None:
    """Split into all folds before the first is trained, because a class may be missing only in the last of them."""
    settings = datamodule.split_settings
    if settings.on_missing == "error" and datamodule.table.parts is None:
        for number in numbers:
            stratified_split(datamodule.table, replace(settings, fold=number))


def _config_of_fold(config: DictConfig, number: int, folder: Path) -> DictConfig:
    own = {
        "output": str(folder),
        "resume": None if config.resume is None else "auto",
        "data": {"split": {"fold": number}},
    }
    return OmegaConf.merge(config, own)  # pyright: ignore[reportReturnType]


def _seconds(runs: Mapping[int, Path]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for own in runs.values():
        total.update(read_earlier(own, STATUS_FILE)["seconds"])
    return {phase: round(seconds, 3) for phase, seconds in total.items()}


def _write_results(folder: RunFolder, runs: Mapping[int, Path]) -> Results:
    predictions = join_folds(
        {number: Predictions.read_parquet(RunFolder(own).predictions("test")) for number, own in runs.items()}
    )
    folder.predictions("test").parent.mkdir(exist_ok=True)
    predictions.write_parquet(folder.predictions("test"))
    stored = {number: read_earlier(own, THRESHOLDS_FILE) for number, own in runs.items()}
    thresholds = {
        "fitted_on": stored[next(iter(stored))]["fitted_on"],
        "folds": {str(number): each["per_class"] for number, each in stored.items()},
    }
    folder.write_json(THRESHOLDS_FILE, thresholds)
    first = next(iter(runs.values()))
    folder.write_json(DATASET_FILE, _describe_dataset(read_earlier(first, DATASET_FILE)))
    folder.write_json(MODEL_FILE, read_earlier(first, MODEL_FILE))
    write_atomically(folder.path / SPLIT_FILE, escape_table(_join_splits(runs)).to_csv(index=False))
    metrics = {number: read_earlier(own, METRICS_FILE) for number, own in runs.items()}
    results = _summarise(metrics, predictions, thresholds["folds"])
    folder.write_json(METRICS_FILE, results)
    return results


def join_folds(folds: Mapping[int, Predictions]) -> Predictions:
    """Join the test predictions of the folds by number, sorted by file name.

    Raises:
        InputError: an image is in several folds, or the folds have different classes.
    """
    names = np.concatenate([fold.file_names for fold in folds.values()])
    classes = {fold.classes for fold in folds.values()}
    if len(set(names)) < len(names) or len(classes) > 1:
        raise InputError(f"resume: the folds were run on different images or classes. {ANEW}")
    joined = Predictions(
        names,
        np.concatenate([fold.scores for fold in folds.values()]),
        np.concatenate([fold.targets for fold in folds.values()]),
        classes.pop(),
        folds=np.repeat(list(folds), [len(fold) for fold in folds.values()]),
    )
    return joined.select(np.argsort(names.astype(str), kind="stable"))


def _summarise(
    metrics: Mapping[int, Results], predictions: Predictions, thresholds: Mapping[str, Mapping[str, float]]
) -> Results:
    """Return the content of metrics.json."""
    whole = (predictions.scores, predictions.targets, predictions.classes)
    assert predictions.folds is not None
    # decisions of different folds can be counted together, because each fold has its own thresholds
    per_image = np.array(
        [[thresholds[str(fold)][name] for name in predictions.classes] for fold in predictions.folds.tolist()]
    )
    folds, first = list(metrics.values()), next(iter(metrics.values()))
    others = [part for part in first if not part.startswith("test")]
    mean = _over_folds(np.mean, folds, "test")
    results: Results = {part: _over_folds(np.mean, folds, part) for part in others}
    results["test"] = {"loss": mean["loss"], **evaluate_scores(*whole)}
    if "test_calibrated" in first:
        results["test_calibrated"] = {"loss": mean["loss"], **evaluate_scores(*whole, per_image)}
    results |= {MEAN: mean, DEVIATION: _over_folds(partial(np.std, ddof=1), folds, "test")}
    return {**results, **{f"{FOLD}{number}": _averages(own["test"]) for number, own in metrics.items()}}


def _averages(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics of a part without those of its classes."""
    return {name: value for name, value in metrics.items() if not isinstance(value, dict)}


def _over_folds(
    statistic: Callable[[list[Any]], np.floating], folds: Sequence[Results], part: str
) -> dict[str, float | None]:
    """Return a statistic over the folds of each metric; None if it is undefined in a fold."""
    table = {name: [fold[part][name] for fold in folds] for name in _averages(folds[0][part])}
    return {name: None if None in values else float(statistic(values)) for name, values in table.items()}


def _describe_dataset(first: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of dataset.json: train and val of the first fold, whose parts together are tested."""

    def with_all(counts: Mapping[str, Any]) -> dict[str, Any]:
        parts = [pd.Series(counts[part]) for part in PARTS if part in counts]
        return {**counts, "test": sum(parts[1:], parts[0]).to_dict()}

    split = first["split"]
    return {
        **{key: first[key] for key in ("classes", "class_weights", "curation", "bad_images", "source")},
        "images": {**first["images"], "test": sum(first["images"].values())},
        **{key: with_all(first[key]) for key in ("counts", "known") if key in first},
        "split": {**split, "fold": None, "hash": sha256(f"all folds {split['hash']}".encode()).hexdigest()},
    }


def _join_splits(runs: Mapping[int, Path]) -> pd.DataFrame:
    """Return the fold in which each image is tested, with the other columns of split.csv."""
    tested = []
    for number, own in runs.items():
        split = pd.read_csv(own / SPLIT_FILE, dtype=str, na_filter=False)
        rows = split[split["split"] == "test"].drop(columns="split")
        rows.insert(1, "fold", number)
        tested.append(rows)
    joined = pd.concat(tested)
    joined["file_name"] = joined["file_name"].map(restore_cell)
    return joined.sort_values("file_name")


def _results_table(results: Results) -> str:
    rows = [*(name for name in results if name.startswith(FOLD)), MEAN, DEVIATION, "test"]
    frame = pd.DataFrame({name: {key: results[name].get(key) for key in SHOWN} for name in rows}).T
    return (
        "test metrics of each fold at threshold 0.5, their mean and standard deviation, and (test) those of the "
        f"predictions of all images together\n{frame.astype(float).to_string(float_format='%.4f', na_rep='-')}"
    )
