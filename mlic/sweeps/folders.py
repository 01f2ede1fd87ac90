"""Names of the folders of Hydra: one per run, the same for the same command."""

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

SWEEP_FILE = "multirun.yaml"  # written by Hydra


class FolderNames(Callback):
    """Callback of Hydra at the start of a run or sweep.

    Attributes:
        sweep: config of the sweep started by this process, or None.
    """

    sweep: ClassVar[DictConfig | None] = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write train.log to the run folder of `output` or `resume`, and refuse folders of other programs."""
        if rank_of_process():
            _leave_folder_to_first(config)
            return
        written: Any = OmegaConf.to_container(config, resolve=False)
        if config.resume not in (None, "auto"):
            config.hydra.run.dir = str(config.resume)
        elif not str(written["output"]).startswith("${hydra:"):
            config.hydra.run.dir = str(config.output)
        # Hydra does this after the callback, but the name of the folder may depend on the choices
        HydraConfig.instance().set_config(config)
        try:
            refuse_foreign_folder(config.hydra.run.dir)
            with locked_folder(
                config.hydra.run.dir
            ):  # checks that it can be created and is not in use by another run
                pass
        except InputError as error:  # Hydra turns any exception in a callback into a warning
            print(error, file=sys.stderr)
            raise SystemExit(1) from error

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Name the folders of jobs by the varied settings, and store the sweep.

        `summarized` uses it, because Hydra does not notify its callbacks of an end with errors.
        """
        names, ignored = config.hydra.job.config.override_dirname, _ignored_keys(config.hydra)
        if config.resume is None:
            _refuse_another_sweep(config.hydra, set(names.exclude_keys))
        FolderNames.sweep = config
        names.exclude_keys = ignored
        # each job is composed again from these and its own overrides
        config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys={ignored}")


def _ignored_keys(hydra: DictConfig) -> list[str]:
    """Return the keys that are not used in folder names, because all jobs have the same value."""
    fixed, varied = _overrides(hydra)
    ignored = set(hydra.job.config.override_dirname.exclude_keys) - varied
    return sorted(ignored | fixed.keys() if varied else ignored)


def _overrides(hydra: DictConfig) -> tuple[dict[str, str], set[str]]:
    """Return the fixed overrides of a sweep by key, and the varied keys; the last of repeated overrides counts."""
    space = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    given = OverridesParser.create().parse_overrides([*space, *hydra.overrides.task])
    last = {override.key_or_group: override for override in given}
    varied = {key for key, override in last.items() if override.is_sweep_override()}
    return {key: str(last[key].input_line) for key in last.keys() - varied}, varied


def _refuse_another_sweep(hydra: DictConfig, unnamed: set[str]) -> None:
    """Refuse other settings, because folders are named by varied settings and runs would be replaced; exit."""
    file = Path(hydra.sweep.dir) / SWEEP_FILE
    if not file.is_file():
        return
    (here, varied), (there, varied_there) = _overrides(hydra), _overrides(OmegaConf.load(file).hydra)
    # settings varied by either sweep are part of the names of folders
    keys = {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)}
    if different := sorted(keys - unnamed - varied - varied_there):
        print(
            f"sweep: '{file.parent}' has a sweep with other settings ({', '.join(different)}). Give this one another "
            "name.",
            file=sys.stderr,
        )
        raise SystemExit(1)


def _leave_folder_to_first(config: DictConfig) -> None:
    """Let only the first of several processes of a run log to the folder; others log warnings and errors."""
    with open_dict(config.hydra):
        if find_processes().count > 1:  # otherwise Lightning has passed the folder of the first process
            config.hydra.run.dir = "."
        logs = config.hydra.job_logging
        logs.handlers.pop("file", None)
        logs.root.handlers = ["console"]
        logs.root.level = "WARNING"
