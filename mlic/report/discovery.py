"""Discovery of run folders, their short names, and jobs of sweeps without a run folder."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlic.command_line import PATH_KEYS
from mlic.errors import InputError
from mlic.report.reading import ReportedRun
from mlic.runs.folder import STATUS_FILE, TRIALS_FILE
from mlic.runs.reading import check_format
from mlic.sweeps.jobs import SWEEP_FILE, job_overrides, planned_jobs, shared_overrides

# not used in names of runs: the model always comes first, and paths are long
UNNAMED = frozenset({"model", "output", "sweep", "resume", "on_error", "compare", *PATH_KEYS} - {"init_from"})


@dataclass(frozen=True)
class MissingRun:
    """A requested run, or a job of a sweep, without a run folder."""

    name: str
    reason: str


def find_runs(places: str | Sequence[str]) -> tuple[list[Path], list[MissingRun]]:
    """Find run folders (folders with a status.json) at any depth.

    Args:
        places: a folder or glob, or a list of them.

    Returns:
        The sorted, unique run folders, and missing runs.

    Raises:
        InputError: no runs were found.
    """
    places = [places] if isinstance(places, str) else [str(place) for place in places]
    runs: dict[Path, Path] = {}
    missing: list[MissingRun] = []
    for place in places:
        folders = [Path(place)] if Path(place).exists() else [Path(name) for name in sorted(glob.glob(place))]
        found, sweeps = _walk(folders)
        if not found and not sweeps:
            reason = f"no {STATUS_FILE} in it or below" if folders else "no such folder"
            missing.append(MissingRun(place, reason))
        for path in found:
            try:
                check_format(path)
                runs[path.resolve()] = path
            except InputError as error:
                missing.append(MissingRun(str(path), str(error)))
        for sweep in sweeps:
            missing += _jobs_without_folder(sweep, found)
    if not runs:
        listed = "; ".join(f"{run.name}: {run.reason}" for run in missing)
        raise InputError(
            f"runs: no run folders found ({listed}). Expected folders of `mlic.train`, "
            "such as runs=outputs/sweeps."
        )
    return sorted(runs.values()), missing


def _walk(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the run folders and sweep folders in and below `folders`."""
    runs, sweeps = [], []
    for top in folders:
        for folder, below, files in os.walk(top):
            if TRIALS_FILE in files:  # a search, which has its best run below
                continue
            if STATUS_FILE in files:
                runs.append(Path(folder))
                below.clear()
            elif SWEEP_FILE in files:
                sweeps.append(Path(folder))
    return runs, sweeps


def _jobs_without_folder(sweep: Path, found: Sequence[Path]) -> list[MissingRun]:
    """Return the combinations of the sweep's overrides without a run folder."""
    done = {frozenset(job_overrides(folder)) for folder in found}
    try:
        jobs = planned_jobs(sweep)
    except Exception as error:  # a broken record of the sweep must not hide its runs
        return [MissingRun(str(sweep), f"{SWEEP_FILE} cannot be read, so jobs may be missing ({error})")]
    reason = f"no run folder in {sweep}: the job has not started, or its folder was removed"
    shared = shared_overrides(jobs)
    shown = [", ".join(item for item in job if item not in shared) or ", ".join(job) for job in jobs]
    return [
        MissingRun(name, reason) for name, job in zip(shown, jobs, strict=True) if frozenset(job) not in done
    ]


def name_runs(runs: Sequence[ReportedRun]) -> None:
    """Set a short unique name of each run: the model, then overrides that differ, then the folder."""
    for run in runs:
        run.name = str(run.model.get("name") or _override(run, "model") or run.path.name)
    for group in _namesakes(runs):
        shared = shared_overrides([run.overrides for run in group])
        for run in group:
            own = [item for item in run.overrides if item not in shared and _key(item) not in UNNAMED]
            run.name = " ".join([run.name, *own])
    for group in _namesakes(runs):
        parent = os.path.commonpath([run.path.resolve().parent for run in group])
        for run in group:
            run.name += f" ({os.path.relpath(run.path.resolve(), parent)})"


def _key(override: str) -> str:
    return override.partition("=")[0]


def _namesakes(runs: Sequence[ReportedRun]) -> list[list[ReportedRun]]:
    repeated = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    return [[run for run in runs if run.name == name] for name in repeated]


def _override(run: ReportedRun, key: str) -> str | None:
    values = [item.partition("=")[2] for item in run.overrides if item.startswith(f"{key}=")]
    return values[-1] if values else None
