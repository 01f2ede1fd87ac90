"""Which jobs a sweep has, from what Hydra wrote into its folder."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

SWEEP_FILE = "multirun.yaml"
OVERRIDES_FILE = Path(".hydra", "overrides.yaml")


def planned_jobs(sweep: Path) -> list[tuple[str, ...]]:
    """Overrides of each job, in the order in which they run.

    Empty for sweepers that choose their jobs as they go. What is wrong with a broken multirun.yaml is raised.
    """
    config = OmegaConf.load(sweep / SWEEP_FILE)
    if not str(OmegaConf.select(config, "hydra.sweeper._target_")).endswith(".BasicSweeper"):
        return []
    return list(
        dict.fromkeys(_combinations([str(item) for item in OmegaConf.select(config, "hydra.overrides.task")]))
    )


def read_overrides(run: Path) -> list[str]:
    """Overrides of the command that made a run folder; empty if Hydra did not make it."""
    file = run / OVERRIDES_FILE
    return [str(item) for item in OmegaConf.load(file)] if file.is_file() else []


def shared_overrides(jobs: Sequence[Sequence[str]]) -> set[str]:
    """What all jobs have in common; nothing for a single one."""
    return set.intersection(*(set(job) for job in jobs)) if len(jobs) > 1 else set()


def _combinations(task: Sequence[str]) -> list[tuple[str, ...]]:
    """What Hydra's basic sweeper makes of the overrides of a multirun: of one given twice, the last."""
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(list(task)):
        key = override.get_key_element()
        if override.is_sweep_override():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    return list(product(*choices.values()))
