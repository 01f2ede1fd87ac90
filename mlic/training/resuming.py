"""Resuming: deciding whether a run continues an earlier run in its folder, and from which checkpoint."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mlic.config import WITHOUT_EFFECT, flatten
from mlic.data import MultiLabelDataModule, cache_dir
from mlic.errors import InputError
from mlic.escaping import restore_cell
from mlic.features.extraction import HASH_INDEX
from mlic.features.hashing import hash_files
from mlic.inference.checkpoint import load_checkpoint
from mlic.runs.folder import (
    DATASET_FILE,
    EPOCHS_FILE,
    METRICS_FILE,
    SETTINGS_FILE,
    SPLIT_FILE,
    STATUS_FILE,
    RunFolder,
    has_mark,
    refuse_foreign_folder,
    refuse_other_kind,
    write_atomically,
)
from mlic.runs.reading import check_format, load_plain_yaml, read_record
from mlic.training.devices import count_devices

logger = logging.getLogger(__name__)

SHOWN_DIFFERENCES = 10
SHOWN_IMAGES = 3
ANEW = "Set another output, or resume=null to start again."


@dataclass(frozen=True)
class EarlierRun:
    """The state of an earlier run with the same settings.

    Attributes:
        results: content of metrics.json if the run is finished.
        checkpoint: checkpoint of the last finished epoch, if there is one.
        step: number of optimizer steps until then.
        seconds: seconds of each phase until then.
        refused: reason why the run cannot be continued although it has finished epochs; None without such epochs.
    """

    results: dict[str, dict[str, Any]] | None = None
    checkpoint: Path | None = None
    step: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    refused: str | None = None


def with_output(config: DictConfig) -> DictConfig:
    """Return the config with the output set by `resume=<run folder>`."""
    if config.resume in (None, "auto"):
        return config
    if not has_mark(config.resume):
        raise InputError(
            f"resume: '{config.resume}' is not a run folder (it has no {STATUS_FILE} of mlic.train). Expected auto or "
            "a run folder."
        )
    return OmegaConf.merge(config, {"output": str(config.resume)})  # pyright: ignore[reportReturnType]


def find_earlier_run(config: DictConfig) -> EarlierRun:
    """Find an earlier run in the run folder, without changing anything.

    Args:
        config: config of the new run. With `resume` null, earlier runs are ignored; otherwise an unfinished run is
            continued from its last checkpoint, however it ended.

    Raises:
        InputError: the folder is not a run folder, or is of a newer version; or the settings, labels or images of the
            earlier run differ or are unknown.
    """
    refuse_foreign_folder(config.output)
    check_format(Path(config.output))
    refuse_other_kind(config.output, "run")
    if config.resume is None or not has_mark(config.output):
        return EarlierRun()
    run = RunFolder(config.output)
    if not run.has_results():  # it ended before its checks were finished
        return EarlierRun()
    _check_settings(config, run.path)
    status = read_earlier(run.path, STATUS_FILE)
    if status.get("state") == "finished" and (run.path / METRICS_FILE).is_file():
        _check_data(config, run)
        return EarlierRun(results=read_earlier(run.path, METRICS_FILE))
    last, best = run.last_checkpoint, run.best_checkpoint
    # the checkpoint that is tested at the end may be that of an earlier epoch
    needed = [last, best] if "checkpoint" in (config.get("callbacks") or {}) else [last]
    if missing := [path for path in needed if not path.is_file()]:
        has_epochs = (run.path / EPOCHS_FILE).is_file() or any(run.checkpoints.glob("*.ckpt"))
        return EarlierRun(refused=f"there is no '{missing[0]}' to continue from." if has_epochs else None)
    try:
        checkpoints = [load_checkpoint(path, mmap=True) for path in needed]
        step = int(checkpoints[0]["global_step"])
    except (InputError, KeyError, TypeError, ValueError) as error:
        return EarlierRun(refused=f"its checkpoints cannot be used: {error}")
    _check_data(config, run)
    return EarlierRun(checkpoint=last, step=step, seconds=status.get("seconds", {}))


def prepare_folder(config: DictConfig, folder: RunFolder, earlier: EarlierRun) -> None:
    """Prepare the folder for continuing; without a checkpoint, clear it and write config.yaml.

    Epochs that cannot be continued are moved aside. config.yaml contains all resolved settings; paths in the run folder
    are relative to it.
    """
    folder.remove_unfinished()
    if earlier.checkpoint is not None:
        return
    if earlier.refused:
        place = folder.set_aside()
        logger.warning(
            "resume: %s The run starts again; the earlier results are now in '%s'.", earlier.refused, place
        )
    folder.clear()
    write_atomically(folder.path / SETTINGS_FILE, _settings(config))


def hash_index(config: DictConfig) -> Path:
    """Return the index of image digests, which live training also uses; see `mlic.features.hash_files`."""
    return features_dir(config) / HASH_INDEX


def features_dir(config: DictConfig) -> Path:
    """Return the folder of all stores."""
    return Path(config.features.get("dir") or cache_dir() / "features")


def read_earlier(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file of an earlier run that this one continues or skips.

    Raises:
        InputError: the file is missing or broken.
    """
    content, problems = read_record(folder, name)
    if problems:
        raise InputError(f"resume: '{folder}' cannot be used: {problems[0]}. {ANEW}")
    return content


def _check_data(config: DictConfig, run: RunFolder) -> None:
    """Check that the earlier run used the same labels and images."""
    described = read_earlier(run.path, DATASET_FILE)
    file = run.path / SPLIT_FILE
    try:
        split = pd.read_csv(file, dtype=str, na_filter=False)
        names, digests = split["file_name"].map(restore_cell).tolist(), split["sha256"].to_numpy(str)
    except (OSError, ValueError, KeyError) as error:  # most errors of pandas are ValueErrors
        raise InputError(f"resume: '{file}' cannot be used: {error}. {ANEW}") from error
    datamodule: MultiLabelDataModule = instantiate(config.data)
    recorded = described.get("source", {}).get("images") or ""
    folders = [recorded] if isinstance(recorded, str) else recorded
    datamodule.hash_images = lambda paths: hash_files(paths, hash_index(config)).digests
    datamodule.read_labels(_name_in(folders, path) for path in described.get("bad_images") or {})
    has_same_names = names == list(datamodule.table.file_names)
    if has_same_names and "group" in split:
        # near duplicates, whose features may not be stored any more
        datamodule.table = datamodule.table.join_groups(split["group"].to_numpy(str))
    datamodule.group_copies()
    changed = np.asarray(names)[datamodule.digests.astype(str) != digests] if has_same_names else []
    if len(changed):
        raise InputError(
            f"resume: '{run.path}' is a run on different images: {len(changed)} of {len(names)} have changed or are "
            f"missing, such as {', '.join(changed[:SHOWN_IMAGES])}. {ANEW}"
        )
    if datamodule.split_hash != described.get("split", {}).get("hash"):
        raise InputError(
            f"resume: '{run.path}' is a run on different data: its file names, labels or classes differ from those of "
            f"data.annotations and data.images. {ANEW}"
        )


def _name_in(folders: Sequence[str], path: str) -> str:
    """Return the file name of an image of the earlier run, relative to the one of its folders that holds it."""
    names = [os.path.relpath(path, folder) for folder in folders]
    return next((name for name in names if not name.startswith("..")), names[0])


def _settings(config: DictConfig) -> str:
    """Return the content of config.yaml: all resolved settings, with paths relative to the run folder."""
    placed = OmegaConf.merge(config, {"output": "."})
    return OmegaConf.to_yaml(placed, resolve=True)


def _check_settings(config: DictConfig, folder: Path) -> None:
    try:
        there = flatten(load_plain_yaml((folder / SETTINGS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"resume: '{folder / SETTINGS_FILE}' cannot be used: {error}. {ANEW}") from error
    here = _flat_settings(config)
    for settings in (there, here):
        # the choice of devices does not affect results
        settings["trainer.devices"] = count_devices(settings.get("trainer.devices"))
        settings.setdefault("trainer.num_nodes", 1)  # only trainer=ddp has it
    differences = [
        f"{key}: {there.get(key, 'absent')} there, {here.get(key, 'absent')} here"
        for key in sorted(there.keys() | here.keys())
        # settings that only one version has count as null
        if there.get(key) != here.get(key) and not _is_in(WITHOUT_EFFECT, key)
    ]
    if differences:
        raise InputError(
            f"resume: '{folder}' is a run with different settings ({'; '.join(differences[:SHOWN_DIFFERENCES])}). Use "
            f"the same settings. {ANEW}"
        )


def comparable_settings(config: DictConfig, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings that affect results by full name, except those of `without`."""
    ignored = (*WITHOUT_EFFECT, "trainer.devices", *without)
    return {key: value for key, value in _flat_settings(config).items() if not _is_in(ignored, key)}


def _flat_settings(config: DictConfig) -> dict[str, Any]:
    return flatten(load_plain_yaml(_settings(config)))


def _is_in(names: Sequence[str], key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)
