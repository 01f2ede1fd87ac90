"""The end of a sweep: a table of all its jobs, and a report over its runs."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from mlic.command_line import quote_paths
from mlic.errors import InputError
from mlic.escaping import escape_table, printable
from mlic.sweeps.places import SWEEP_FILE, RunPlaces

TABLE_FILE = "jobs.csv"
JOB_WIDTH = 80  # characters
INTERRUPTED_FROM = 128  # exit statuses above it say which signal ended a process


@contextmanager
def summarized() -> Iterator[None]:
    """Around Hydra's main: after a sweep shows and writes the table of its jobs, whatever ended it.

    With `compare`, and unless the sweep was interrupted, `mlic.compare` then writes its page.
    """
    try:
        yield
    finally:
        config, ending = RunPlaces.sweep, sys.exc_info()[1]
        if config is not None and (Path(config.hydra.sweep.dir) / SWEEP_FILE).is_file():
            code = ending.code if isinstance(ending, SystemExit) else int(ending is not None)
            interrupted = isinstance(code, int) and code > INTERRUPTED_FROM
            _summarize(config, compare=not interrupted and bool(config.compare))


def _summarize(config: DictConfig, *, compare: bool) -> None:
    from mlic.sweeps.table import sweep_table  # pandas takes long to import: not before `--help`

    folder = Path(config.hydra.sweep.dir)
    table = sweep_table(folder, config.hydra.job.config.override_dirname.exclude_keys)
    escape_table(table).to_csv(folder / TABLE_FILE, index=False)
    shown = table.drop(columns=["folder", "error"]).to_string(
        index=False, float_format="%.4f", na_rep="-", justify="left", max_colwidth=JOB_WIDTH
    )
    print(printable(f"\n{shown}\n\nsweep: {folder}"), flush=True)
    for job, state, error in zip(table["job"], table["state"], table["error"], strict=True):
        if error:
            print(printable(f"{state}: {job}: {error}"))
    if compare and "finished" in set(table["state"]):
        given = config.compare if OmegaConf.is_dict(config.compare) else {}
        print(f"report: {_compare(folder, {**(config.compare_options or {}), **given})}")


def _compare(sweep: Path, options: Mapping[str, Any]) -> Path | str:
    from mlic.compare import compare
    from mlic.config import compose

    overrides = quote_paths(
        [f"runs={sweep}", *(f"{key}={value}" for key, value in options.items())], ["runs"]
    )
    try:
        return compare(compose(*overrides, output=sweep / "compare", config_name="compare"))
    except (InputError, CompactHydraException) as error:
        return f"none ({error})"
