"""All jobs of a sweep: what became of each."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mlic.report.checking import FORMS, keep_fitting
from mlic.runs.status import STATUS_FILE
from mlic.sweeps.jobs import planned_jobs, read_overrides, shared_overrides

SHOWN_METRICS = (("val", "map"), ("test", "map"))
NUMBERS = [*(f"{part} {name}" for part, name in SHOWN_METRICS), "seconds"]
COLUMNS = ["job", "state", *NUMBERS, "folder", "error"]


def sweep_table(sweep: Path, ignored: Sequence[str] = ()) -> pd.DataFrame:
    """One row a job: `job` (the overrides that differ), `state`, metrics, `seconds`, `folder`, `error` ("" without).

    Args:
        sweep: folder of the sweep.
        ignored: keys of overrides that tell no jobs apart.

    Returns:
        Jobs in the order of the sweep; a job that has no folder is `not begun`. Other sweepers than Hydra's basic one
        have the jobs that there are folders of.
    """

    def relevant(overrides: Sequence[str]) -> tuple[str, ...]:
        return tuple(item for item in overrides if re.split("[=@]", item.lstrip("+~"))[0] not in ignored)

    folders = {
        frozenset(relevant(read_overrides(file.parent))): file.parent
        for file in sorted(sweep.rglob(STATUS_FILE))
    }
    jobs = [relevant(job) for job in planned_jobs(sweep)] or [tuple(sorted(job)) for job in folders]
    shared = shared_overrides(jobs)
    rows = [
        {"job": ",".join(item for item in job if item not in shared) or ",".join(job) or "defaults"}
        | _row(folders.get(frozenset(job)))
        for job in dict.fromkeys(jobs)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(NUMBERS, float))  # None becomes NaN


def _row(run: Path | None) -> dict[str, Any]:
    nothing = {f"{part} {name}": None for part, name in SHOWN_METRICS}
    if run is None:
        return {"state": "not begun", **nothing, "seconds": None, "folder": "", "error": ""}
    status, metrics = _read(run / STATUS_FILE), _read(run / "metrics.json")
    error = status.get("error") or {}
    return {
        "state": status.get("state", "unknown"),
        **{f"{part} {name}": metrics.get(part, {}).get(name) for part, name in SHOWN_METRICS},
        "seconds": round(sum(status.get("seconds", {}).values()), 1),
        "folder": run.name,
        "error": " ".join(str(error.get("message") or error.get("type") or "").split()),
    }


def _read(file: Path) -> dict[str, Any]:
    """A JSON file of a run; {} where there is none, or something else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    keep_fitting(content, FORMS[file.name])
    return content
