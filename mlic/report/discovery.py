"""Discovery of run folders, their short names, and jobs of sweeps without a run folder."""

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlic.command_line import PATH_KEYS
from mlic.errors import InputError
from mlic.report.reading import ReportedRun
from mlic.runs.folder import EVALUATION_FILE, STATUS_FILE, TRIALS_FILE, WINNER
from mlic.runs.reading import check_format, read_overrides
from mlic.sweeps.jobs import SWEEP_FILE, planned_jobs, shared_overrides

# not used in names of runs
UNNAMED = frozenset({"output", "sweep", "resume", "on_error", "compare", *PATH_KEYS} - {"init_from"})
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d.*")  # how conf/train.yaml names runs


@dataclass(frozen=True)
class MissingRun:
    """A requested run, or a job of a sweep, without a run folder."""

    name: str
    reason: str


def find_runs(places: str | Sequence[str]) -> tuple[list[Path], list[MissingRun]]:
    """Find run folders (folders with a status.json) and folders of evaluations at any depth.

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
            if STATUS_FILE in files or EVALUATION_FILE in files:
                runs.append(Path(folder))
                below.clear()
            elif SWEEP_FILE in files:
                sweeps.append(Path(folder))
    return runs, sweeps


def _jobs_without_folder(sweep: Path, found: Sequence[Path]) -> list[MissingRun]:
    """Return the combinations of the sweep's overrides without a run folder."""
    done = {frozenset(read_overrides(folder)) for folder in found}
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
    """Set a short unique name of each run.

    A run is called by its folder. Jobs of a sweep and folders that are named by their time are called by the settings
    of their commands that differ between the runs, because nobody chose the names of their folders.
    """
    unnamed = [run for run in runs if _is_automatic(run.path)]
    jobs = [run.overrides for run in unnamed]
    shared = shared_overrides(jobs) if len(jobs) > 1 else {item for job in jobs for item in job}
    for run in runs:
        folder = run.path.resolve()
        run.name = folder.parent.name if folder.name == WINNER else folder.name
        if run in unnamed:
            own = [
                item for item in run.overrides if item not in shared and item.partition("=")[0] not in UNNAMED
            ]
            models = [item.removeprefix("model=") for item in own if item.startswith("model=")]
            words = [*models, *(item for item in own if not item.startswith("model="))]
            run.name = " ".join(words) or str(run.model.get("name") or run.name)
    for name in [name for name, count in Counter(run.name for run in runs).items() if count > 1]:
        group = [run for run in runs if run.name == name]
        parent = os.path.commonpath([run.path.resolve().parent for run in group])
        for run in group:
            run.name += f" ({os.path.relpath(run.path.resolve(), parent)})"


def _is_automatic(folder: Path) -> bool:
    """Return True if a command named the folder: a job of a sweep, or a run without `output`."""
    return (folder.parent / SWEEP_FILE).is_file() or bool(TIMESTAMP.fullmatch(folder.resolve().name))
