"""Whether a run goes on where an earlier one of its folder was ended, and where that is."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mlic.config import flatten
from mlic.data import MultiLabelDataModule
from mlic.errors import InputError
from mlic.inference.checkpoint import load_checkpoint
from mlic.report.checking import FORMS, keep_fitting, load_plain_yaml
from mlic.runs.faults import KEPT
from mlic.runs.folder import STATUS_FILE, RunFolder, write_atomically
from mlic.training.devices import number_of_devices

SETTINGS_FILE, DATASET_FILE = "config.yaml", "dataset.json"
RESUMABLE = ("running", "interrupted")  # `running` is also the state that a kill leaves
# settings that change no result, or where things lie; labels and weights are checked by their digests. The number of
# processes is none of them: data.batch_size is that of one
WITHOUT_EFFECT = (
    "output", "resume", "sweep", "on_error", "compare", "objective", "logger", "data.annotations", "data.images",
    "data.num_workers", "features.dir", "features.batch_size", "features.num_workers", "features.shard_mb",
    "features.shard_seconds", "callbacks.progress", "trainer.accelerator", "trainer.strategy", "trainer.plugins",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
)  # fmt: skip
SHOWN_DIFFERENCES = 10
ANEW = "Set another output, or resume=null to begin anew."


@dataclass(frozen=True)
class EarlierRun:
    """What is left of a run with the same settings.

    Attributes:
        results: content of metrics.json if it is finished.
        checkpoint: of its last finished epoch, if it was ended after one.
        step: optimizer steps until then.
        seconds: of each phase until then.
    """

    results: dict[str, dict[str, Any]] | None = None
    checkpoint: Path | None = None
    step: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def with_output(config: DictConfig) -> DictConfig:
    """The config, with the output that `resume=<run folder>` says."""
    if config.resume in (None, "auto"):
        return config
    if not (Path(config.resume) / STATUS_FILE).is_file():
        raise InputError(
            f"resume: '{config.resume}' is no run folder (it has no {STATUS_FILE}). Expected auto or a run folder."
        )
    return OmegaConf.merge(config, {"output": str(config.resume)})  # pyright: ignore[reportReturnType]


def find_earlier_run(config: DictConfig) -> EarlierRun:
    """Look at what is in the run folder.

    Args:
        config: of the new run. With `resume` null nothing is taken over, nor after a failure but the machine's.

    Raises:
        InputError: the run there has other settings or data, or does not tell, or a file of it is broken.
    """
    folder = Path(config.output)
    if config.resume is None or not (folder / STATUS_FILE).is_file():
        return EarlierRun()
    _check_settings(config, folder)
    run = RunFolder(folder)
    status = _read(run, STATUS_FILE)
    state = status.get("state")
    if state == "finished":
        _check_data(config, run)
        return EarlierRun(results=_read(run, "metrics.json"))
    last = run.checkpoints / "last.ckpt"
    if not (state in RESUMABLE or _ended_by_machine(status)) or not last.is_file():
        return EarlierRun()
    return EarlierRun(checkpoint=last, step=_step_of(last), seconds=status.get("seconds", {}))


def begin(config: DictConfig, folder: RunFolder, earlier: EarlierRun) -> None:
    """Make the folder ready to go on in; without a checkpoint empty it, and write config.yaml.

    The file holds all settings, resolved, with paths in the run folder relative to it.
    """
    folder.remove_unfinished()
    if earlier.checkpoint is None:
        folder.clear()
        write_atomically(folder.path / SETTINGS_FILE, OmegaConf.to_yaml(_settings(config)))


def _read(run: RunFolder, name: str) -> dict[str, Any]:
    try:
        content = run.read_json(name)
        wrong = keep_fitting(content, FORMS[name]) if isinstance(content, dict) else ["it is no JSON object"]
    except (OSError, ValueError, RecursionError) as error:
        wrong = [str(error)]
    if wrong:
        raise InputError(f"resume: '{run.path / name}' cannot be used: {wrong[0]}. {ANEW}")
    return content


def _ended_by_machine(status: Mapping[str, Any]) -> bool:
    """Failed by what a user was told to put right and to go on from, such as a full disk."""
    return str((status.get("error") or {}).get("message", "")).endswith(KEPT)


def _check_data(config: DictConfig, run: RunFolder) -> None:
    """Refuse to take the results of other labels for these; where there is a checkpoint it is compared by itself."""
    described = _read(run, DATASET_FILE)
    there = described.get("split", {}).get("hash")
    datamodule: MultiLabelDataModule = instantiate(config.data)
    folder = described.get("source", {}).get("images") or ""
    datamodule.read_labels(os.path.relpath(path, folder) for path in described.get("bad_images") or {})
    if datamodule.split_hash != there:
        raise InputError(
            f"resume: '{run.path}' is a finished run on other data: its file names, labels or classes are not those of "
            f"data.annotations and data.images now (split {str(there)[:12]}... there, {datamodule.split_hash[:12]}... "
            f"here). {ANEW}"
        )


def _step_of(checkpoint: Path) -> int:
    try:
        return int(load_checkpoint(checkpoint, mmap=True)["global_step"])
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"resume: there is no step to go on from. {error} {ANEW}") from error


def _settings(config: DictConfig) -> DictConfig:
    placed = OmegaConf.merge(config, {"output": "."})
    return OmegaConf.create(OmegaConf.to_container(placed, resolve=True))  # pyright: ignore[reportReturnType]


def _check_settings(config: DictConfig, folder: Path) -> None:
    file = folder / SETTINGS_FILE
    if not file.is_file():
        raise InputError(f"resume: '{folder}' has no {SETTINGS_FILE} to compare its settings with. {ANEW}")
    try:
        there = flatten(load_plain_yaml(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"resume: '{file}' cannot be used: {error}. {ANEW}") from error
    here = flatten(load_plain_yaml(OmegaConf.to_yaml(_settings(config))))
    absent = "absent"
    for settings in (there, here):
        settings["trainer.devices"] = number_of_devices(settings.get("trainer.devices"))
        settings.setdefault("trainer.num_nodes", 1)
    differences = [
        f"{key}: {there.get(key, absent)} there, {here.get(key, absent)} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key, absent) != here.get(key, absent) and not _is_without_effect(key)
    ]
    if differences:
        raise InputError(
            f"resume: '{folder}' is a run of other settings ({'; '.join(differences[:SHOWN_DIFFERENCES])}). Give the "
            "same settings, or set another output, or resume=null to begin anew."
        )


def _is_without_effect(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in WITHOUT_EFFECT)
