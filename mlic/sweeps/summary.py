"""The end of a sweep: a table of all jobs, and a report of the runs."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mlic.escaping import escape_table, printable
from mlic.sweeps.folders import SWEEP_FILE, FolderNames

TABLE_FILE = "jobs.csv"
JOB_WIDTH = 80  # characters
INTERRUPTED_FROM = 128  # higher exit statuses show the signal that ended a process


Compare = Callable[[Path, Mapping[str, Any]], Path | str]


@contextmanager
def summarized(compare: Compare) -> Iterator[None]:
    """Print and write the table of jobs after a sweep, however it ended; a context manager around Hydra's main.

    Args:
        compare: called with the folder of the sweep and the options of `compare` and `compare_options` if the config
            requests a report and the sweep was not interrupted; returns the page, or the reason why there is none.
    """
    try:
        yield
    finally:
        config, ending = FolderNames.sweep, sys.exc_info()[1]
        if config is not None and (Path(config.hydra.sweep.dir) / SWEEP_FILE).is_file():
            code = ending.code if isinstance(ending, SystemExit) else int(ending is not None)
            interrupted = isinstance(code, int) and code > INTERRUPTED_FROM
            _summarize(config, compare if config.compare and not interrupted else None)


def _summarize(config: DictConfig, compare: Compare | None) -> None:
    # imports pandas, which is slow and not needed by --help
    from mlic.sweeps.table import NO_WEIGHTS, sweep_table

    folder = Path(config.hydra.sweep.dir)
    table = sweep_table(folder, config.hydra.job.config.override_dirname.exclude_keys)
    escape_table(table).to_csv(folder / TABLE_FILE, index=False)
    shown = (
        table.drop(columns=["folder", "error"])
        .dropna(axis=1, how="all")
        .to_string(index=False, float_format="%.4f", na_rep="-", justify="left", max_colwidth=JOB_WIDTH)
    )
    print(printable(f"\n{shown}\n\nsweep: {folder}"), flush=True)
    # the first error of networks without weights stands for all of them
    for state, jobs in table[table["error"] != ""].groupby("state", sort=False):
        shown = jobs.head(1).assign(job=", ".join(jobs["job"])) if state == NO_WEIGHTS else jobs
        for job, error in zip(shown["job"], shown["error"], strict=True):
            print(printable(f"{state}: {job}\n  {error}"))
    if compare is not None and "finished" in set(table["state"]):
        given = config.compare if OmegaConf.is_dict(config.compare) else {}
        print(f"report: {compare(folder, {**(config.compare_options or {}), **given})}")
