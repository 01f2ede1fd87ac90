"""Where Hydra writes: one folder a run, which the same command finds again."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from mlic.runs.processes import find_processes, rank_of_process
from mlic.runs.status import STATUS_FILE

NAME_BYTES = 200  # file systems allow 255
DIGEST_DIGITS = 8
PARENTS = re.compile(r"(?<=[='\"\[])[^=,'\"\[\]]*/(?=[^/,'\"\]])")  # all of a path but its last part


def folder_name(overrides: str) -> str:
    """The name of a job's folder: its overrides, as one name that a file system takes.

    Of a path the last part alone is kept, other slashes become underscores, and long names are cut; a digest then
    keeps apart what would be the same.

    Args:
        overrides: joined by commas, such as `model=vgg16,seed=1`.
    """
    short = PARENTS.sub("", overrides).replace("/", "_")
    name = short.encode()[:NAME_BYTES].decode(errors="ignore").strip()
    if name == overrides and name.strip("."):
        return name
    return f"{name or 'defaults'}-{sha256(overrides.encode()).hexdigest()[:DIGEST_DIGITS]}"


# for conf/train.yaml; here, because a job that another machine takes over reads this file before its settings
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


class RunPlaces(Callback):
    """Hydra's callback at the start of a run or sweep.

    Attributes:
        sweep: config of the sweep that this process began, None without one.
    """

    sweep: ClassVar[DictConfig | None] = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have `.hydra` and train.log in the run folder that `output` or `resume` names.

        A run that is resumed keeps the `.hydra` it began with.
        """
        written = OmegaConf.to_container(config, resolve=False)
        assert isinstance(written, dict)
        if rank_of_process():
            _leave_folder_to_first(config)
        output = written["output"] if config.resume in (None, "auto") else config.resume
        if str(output).startswith("${hydra:"):
            return
        output = str(config.output if output == written["output"] else output)
        with open_dict(config.hydra):
            config.hydra.run.dir = output
            if config.resume is not None and (Path(output) / STATUS_FILE).is_file():
                config.hydra.output_subdir = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the sweep for `summarized`: Hydra tells its callbacks nothing of an end with errors."""
        RunPlaces.sweep = config


def _leave_folder_to_first(config: DictConfig) -> None:
    """Of several processes of one run the first alone writes; the others show what goes wrong."""
    with open_dict(config.hydra):
        config.hydra.output_subdir = None
        if find_processes().count > 1:  # else Lightning has named the folder of the first
            config.hydra.run.dir = "."
        logs = config.hydra.job_logging
        logs.handlers.pop("file", None)
        logs.root.handlers = ["console"]
        logs.root.level = "WARNING"
