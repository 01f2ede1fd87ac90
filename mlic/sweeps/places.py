"""Where Hydra writes: one folder a run, which the same command finds again."""

import re
import sys
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from mlic.runs.folder import write_atomically
from mlic.runs.processes import find_processes, rank_of_process

HYDRA_DIR = ".hydra"
SWEEP_FILE = "multirun.yaml"  # of Hydra's
NAME_BYTES = 120  # file systems allow 255
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
        if not isinstance(output, str) or output.startswith("${hydra:"):
            return
        output = str(config.output if output == written["output"] else output)
        with open_dict(config.hydra):
            config.hydra.run.dir = output

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Name the folders of jobs by what the sweep varies, and remember the sweep.

        `summarized` needs it: Hydra tells its callbacks nothing of an end with errors.
        """
        names, ignored = config.hydra.job.config.override_dirname, _ignored_keys(config.hydra)
        _refuse_another_sweep(config, names.exclude_keys)
        RunPlaces.sweep = config
        names.exclude_keys = ignored
        # each job is composed anew, from these and its own
        config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys={ignored}")


def _ignored_keys(hydra: DictConfig) -> list[str]:
    """Keys that all jobs of a sweep have the same value of; but for the names of folders, where no other varies."""
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


def _refuse_another_sweep(config: DictConfig, shared: Collection[str]) -> None:
    """Folders are named by what varies: a sweep of that name with other settings would overwrite its runs."""
    file = Path(config.hydra.sweep.dir) / SWEEP_FILE
    if config.resume is not None or not file.is_file():
        return
    both = [_overrides(hydra) for hydra in (config.hydra, OmegaConf.load(file).hydra)]
    # what one of them varies stands in the names of its folders
    named = {*shared, *both[0][1], *both[1][1]}
    here, there = ({key: line for key, line in fixed.items() if key not in named} for fixed, _ in both)
    if here != there:
        differ = sorted({*here.items()} ^ {*there.items()})
        print(
            f"sweep: '{file.parent}' holds a sweep with other settings ({', '.join(line for _, line in differ)}). "
            "Give this one another name.",
            file=sys.stderr,
        )
        raise SystemExit(1)


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
