"""The table of all jobs of a sweep."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mlic.errors import NO_WEIGHTS_KEY
from mlic.runs.folder import METRICS_FILE, STATUS_FILE, has_mark
from mlic.runs.reading import read_overrides, read_record
from mlic.sweeps.jobs import planned_jobs, shared_overrides

SHOWN_METRICS = (("val", "map"), ("loo", "map"), ("test", "map"))
NUMBERS = [*(f"{part} {name}" for part, name in SHOWN_METRICS), "seconds"]
NO_WEIGHTS = "no weights"  # state of a job whose weights are not found
COLUMNS = ["job", "state", *NUMBERS, "folder", "error"]


def sweep_table(sweep: Path, ignored: Sequence[str] = ()) -> pd.DataFrame:
    """Tabulate the jobs: `job` (overrides that differ), `state`, metrics, `seconds`, `folder`, `error` ("" without).

    Args:
        sweep: folder of the sweep.
        ignored: keys of overrides that do not distinguish jobs.

    Returns:
        Jobs in the order of the sweep; a job without a folder is `not begun`. For sweepers other than Hydra's basic
        one, only jobs with folders are listed.
    """

    def relevant(overrides: Sequence[str]) -> tuple[str, ...]:
        return tuple(item for item in overrides if re.split("[=@]", item.lstrip("+~"))[0] not in ignored)

    folders = {
        frozenset(relevant(read_overrides(file.parent))): file.parent
        for file in sorted(sweep.rglob(STATUS_FILE))
        if not has_mark(file.parent.parent)  # the folds of a cross-validation are no jobs
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
    (status, _), (metrics, _) = read_record(run, STATUS_FILE), read_record(run, METRICS_FILE)
    state, error = status.get("state", "unknown"), status.get("error") or {}
    if state == "failed" and error.get("key") == NO_WEIGHTS_KEY:
        state = NO_WEIGHTS
    if state == "interrupted":  # by a signal, whose exit status is no message
        error = {}
    return {
        "state": state,
        **{f"{part} {name}": metrics.get(part, {}).get(name) for part, name in SHOWN_METRICS},
        "seconds": round(sum(status.get("seconds", {}).values()), 1),
        "folder": run.name,
        "error": " ".join(str(error.get("message") or error.get("type") or "").split()),
    }
