"""Where Hydra writes: one folder a run, which the same command finds again."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from mlic.runs.folder import write_atomically
from mlic.runs.processes import find_processes, rank_of_process

HYDRA_DIR = ".hydra"
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


def hydra_subdir(folder: str) -> str | None:
    """Where Hydra writes the settings of a job; nowhere in a folder that has them, which may be of an earlier run.

    Args:
        folder: of the job.
    """
    return None if (Path(folder) / HYDRA_DIR).exists() else HYDRA_DIR


def record_command(config: DictConfig, folder: Path) -> None:
    """Write the files that Hydra did not write into a folder of an earlier run, whose place a new run takes now.

    Args:
        config: of the new run.
        folder: of the run; without Hydra, or where that has another folder, nothing is written.
    """
    if (
        not HydraConfig.initialized()
        or Path(HydraConfig.get().runtime.output_dir).resolve() != folder.resolve()
    ):
        return
    hydra = HydraConfig.instance().cfg
    contents = {"config": config, "hydra": hydra, "overrides": HydraConfig.get().overrides.task}
    for name, content in contents.items():
        write_atomically(folder / HYDRA_DIR / f"{name}.yaml", OmegaConf.to_yaml(content))


# for conf/train.yaml; here, because a job that another machine takes over reads this file before its settings
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
OmegaConf.register_new_resolver("hydra_subdir", hydra_subdir, replace=True)


class RunPlaces(Callback):
    """Hydra's callback at the start of a run or sweep.

    Attributes:
        sweep: config of the sweep that this process began, None without one.
    """

    sweep: ClassVar[DictConfig | None] = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have `.hydra` and train.log in the run folder that `output` or `resume` names."""
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
