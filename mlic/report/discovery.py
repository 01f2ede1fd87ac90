"""Run folders under folders and globs, names that tell them apart, and the jobs of a sweep that left none."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mlic.errors import InputError
from mlic.report.reading import ReportedRun
from mlic.runs.status import STATUS_FILE

SWEEP_FILE = "multirun.yaml"
OVERRIDES_FILE = Path(".hydra", "overrides.yaml")


@dataclass(frozen=True)
class MissingRun:
    """A run that was asked for or belongs to a sweep, and has no run folder."""

    name: str
    reason: str


def find_runs(places: str | Sequence[str]) -> tuple[list[Path], list[MissingRun]]:
    """Find run folders: any with a status.json, at any depth.

    Args:
        places: folders or globs; one, or a list of them.

    Returns:
        Folders by their path, each once; and what should be there and is not.

    Raises:
        InputError: nothing was found at all.
    """
    places = [places] if isinstance(places, str) else [str(place) for place in places]
    runs: dict[Path, Path] = {}
    missing: list[MissingRun] = []
    for place in places:
        folders = [Path(place)] if Path(place).exists() else [Path(name) for name in sorted(glob.glob(place))]
        found, sweeps = _walk(folders)
        if not found and not sweeps:
            reason = f"no {STATUS_FILE} in it or below" if folders else "there is no such folder"
            missing.append(MissingRun(place, reason))
        runs |= {path.resolve(): path for path in found}
        for sweep in sweeps:
            missing += _jobs_without_folder(sweep, found)
    if not runs:
        listed = "; ".join(f"{run.name}: {run.reason}" for run in missing)
        raise InputError(
            f"runs: no run folder found ({listed}). Expected folders of `mlic.train`, "
            "such as runs=outputs/sweeps."
        )
    return sorted(runs.values()), missing


def _walk(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Run folders and sweep folders in and below `folders`."""
    runs, sweeps = [], []
    for top in folders:
        for folder, below, files in os.walk(top):
            if STATUS_FILE in files:
                runs.append(Path(folder))
                below.clear()
            elif SWEEP_FILE in files:
                sweeps.append(Path(folder))
    return runs, sweeps


def _jobs_without_folder(sweep: Path, found: Sequence[Path]) -> list[MissingRun]:
    """Combinations of the sweep's overrides that no run folder has."""
    done = {frozenset(_overrides(folder / OVERRIDES_FILE)) for folder in found}
    try:
        config = OmegaConf.load(sweep / SWEEP_FILE)
        if not str(OmegaConf.select(config, "hydra.sweeper._target_")).endswith(".BasicSweeper"):
            return []  # other sweepers choose their jobs as they go
        task = [str(item) for item in OmegaConf.select(config, "hydra.overrides.task")]
        jobs = _combinations(task)
    except Exception as error:  # a broken record of the sweep hides no run
        return [MissingRun(str(sweep), f"{SWEEP_FILE} cannot be read, so jobs may be missing ({error})")]
    reason = f"no run folder in {sweep}: the job has not started, or its folder was taken away"
    shown = [", ".join(item for item in job if item not in _shared(jobs)) or ", ".join(job) for job in jobs]
    return [
        MissingRun(name, reason) for name, job in zip(shown, jobs, strict=True) if frozenset(job) not in done
    ]


def _combinations(task: Sequence[str]) -> list[tuple[str, ...]]:
    """What Hydra's basic sweeper makes of the overrides of a multirun."""
    choices = []
    for override in OverridesParser.create().parse_overrides(list(task)):
        key = override.get_key_element()
        if override.is_sweep_override():
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([f"{key}={override.get_value_element_as_str()}"])
    return list(product(*choices))


def _shared(jobs: Sequence[Sequence[str]]) -> set[str]:
    return set.intersection(*(set(job) for job in jobs)) if len(jobs) > 1 else set()


def _overrides(file: Path) -> list[str]:
    return [str(item) for item in OmegaConf.load(file)] if file.is_file() else []


def name_runs(runs: Sequence[ReportedRun]) -> None:
    """Give each run a short unique name: the model, then overrides that differ, then the folder."""
    for run in runs:
        run.name = str(run.model.get("name") or _override(run, "model") or run.path.name)
    for group in _namesakes(runs):
        shared = _shared([run.overrides for run in group])
        for run in group:
            own = [item for item in run.overrides if item not in shared and not item.startswith("model=")]
            run.name = " ".join([run.name, *own])
    for group in _namesakes(runs):
        parent = os.path.commonpath([run.path.resolve().parent for run in group])
        for run in group:
            run.name += f" ({os.path.relpath(run.path.resolve(), parent)})"


def _namesakes(runs: Sequence[ReportedRun]) -> list[list[ReportedRun]]:
    repeated = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    return [[run for run in runs if run.name == name] for name in repeated]


def _override(run: ReportedRun, key: str) -> str | None:
    values = [item.partition("=")[2] for item in run.overrides if item.startswith(f"{key}=")]
    return values[-1] if values else None
