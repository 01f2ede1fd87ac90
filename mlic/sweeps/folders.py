"""Names of the folders that Hydra writes to: one a run, which the same command finds again."""

import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

import mlic.config  # noqa: F401  a job on another machine reads this file, which needs its resolver, first
from mlic.errors import InputError
from mlic.runs.folder import refuse_foreign_folder
from mlic.runs.lock import locked_folder
from mlic.runs.processes import find_processes, rank_of_process

SWEEP_FILE = "multirun.yaml"  # of Hydra's


class FolderNames(Callback):
    """Hydra's callback at the start of a run or sweep.

    Attributes:
        sweep: config of the sweep that this process began, None without one.
    """

    sweep: ClassVar[DictConfig | None] = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have train.log in the run folder that `output` or `resume` names, and refuse another program's folder."""
        if rank_of_process():
            _leave_folder_to_first(config)
            return
        written: Any = OmegaConf.to_container(config, resolve=False)
        if config.resume not in (None, "auto"):
            config.hydra.run.dir = str(config.resume)
        elif not str(written["output"]).startswith("${hydra:"):
            config.hydra.run.dir = str(config.output)
        # Hydra does so after this, and a folder may be named by the choices
        HydraConfig.instance().set_config(config)
        try:
            refuse_foreign_folder(config.hydra.run.dir)
            with locked_folder(config.hydra.run.dir):  # it can be made, and no other run writes there
                pass
        except InputError as error:  # Hydra makes a warning of any exception in a callback
            print(error, file=sys.stderr)
            raise SystemExit(1) from error

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Name the folders of jobs by what the sweep varies, and remember the sweep.

        `summarized` needs it: Hydra tells its callbacks nothing of an end with errors.
        """
        names, ignored = config.hydra.job.config.override_dirname, _ignored_keys(config.hydra)
        if config.resume is None:
            _refuse_another_sweep(config.hydra, set(names.exclude_keys))
        FolderNames.sweep = config
        names.exclude_keys = ignored
        # each job is composed anew, from these and its own
        config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys={ignored}")


def _ignored_keys(hydra: DictConfig) -> list[str]:
    """Return the keys that are left out of folder names: they have the same value in all jobs."""
    fixed, varied = _overrides(hydra)
    ignored = set(hydra.job.config.override_dirname.exclude_keys) - varied
    return sorted(ignored | fixed.keys() if varied else ignored)


def _overrides(hydra: DictConfig) -> tuple[dict[str, str], set[str]]:
    """The fixed overrides of a sweep by key, and the keys that vary; of one given twice, the last counts."""
    space = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    given = OverridesParser.create().parse_overrides([*space, *hydra.overrides.task])
    last = {override.key_or_group: override for override in given}
    varied = {key for key, override in last.items() if override.is_sweep_override()}
    return {key: str(last[key].input_line) for key in last.keys() - varied}, varied


def _refuse_another_sweep(hydra: DictConfig, unnamed: set[str]) -> None:
    """End the process: folders are named by what varies, so that a sweep with other settings would replace its runs."""
    file = Path(hydra.sweep.dir) / SWEEP_FILE
    if not file.is_file():
        return
    (here, varied), (there, varied_there) = _overrides(hydra), _overrides(OmegaConf.load(file).hydra)
    # what one of them varies is part of the names of its folders
    keys = {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)}
    if different := sorted(keys - unnamed - varied - varied_there):
        print(
            f"sweep: '{file.parent}' holds a sweep with other settings ({', '.join(different)}). Give this one another "
            "name.",
            file=sys.stderr,
        )
        raise SystemExit(1)


def _leave_folder_to_first(config: DictConfig) -> None:
    """Let only the first of several processes of a run write; the others show warnings and errors."""
    with open_dict(config.hydra):
        if find_processes().count > 1:  # else Lightning has named the folder of the first
            config.hydra.run.dir = "."
        logs = config.hydra.job_logging
        logs.handlers.pop("file", None)
        logs.root.handlers = ["console"]
        logs.root.level = "WARNING"
