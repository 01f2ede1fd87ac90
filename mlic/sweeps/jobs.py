"""The jobs of a sweep, read from the file that Hydra writes to its folder."""

from collections.abc import Sequence
from itertools import islice, product
from math import prod
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from mlic.runs.reading import load_plain_yaml
from mlic.sweeps.folders import SWEEP_FILE

MAX_JOBS = 100_000


def planned_jobs(sweep: Path) -> list[tuple[str, ...]]:
    """Return the overrides of each job in order.

    The result is empty for sweepers that choose jobs adaptively. A broken multirun.yaml raises an error.
    """
    record = load_plain_yaml((sweep / SWEEP_FILE).read_text(encoding="utf-8"))["hydra"]
    if not str(record["sweeper"]["_target_"]).endswith(".BasicSweeper"):
        return []
    space = [f"{key}={values}" for key, values in (record["sweeper"].get("params") or {}).items()]
    return list(dict.fromkeys(_combinations([*space, *(str(item) for item in record["overrides"]["task"])])))


def shared_overrides(jobs: Sequence[Sequence[str]]) -> set[str]:
    """Return the overrides that all jobs have in common; none for a single job."""
    return set.intersection(*(set(job) for job in jobs)) if len(jobs) > 1 else set()


def _combinations(task: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the jobs of Hydra's basic sweeper; the last of repeated overrides counts.

    Raises:
        ValueError: there are too many jobs.
    """
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(list(task)):
        key = override.get_key_element()
        if override.is_sweep_override():
            values = islice(override.sweep_string_iterator(), MAX_JOBS + 1)
            choices[key] = [f"{key}={value}" for value in values]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    if prod(map(len, choices.values())) > MAX_JOBS:
        raise ValueError(f"more than {MAX_JOBS} jobs")
    return list(product(*choices.values()))
