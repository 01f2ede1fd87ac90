"""Measure speed and memory: `python -m benchmarks [NAME ...]`; prints a table, writes bench.json."""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.cached_live import cached_against_live
from benchmarks.engines import engines
from benchmarks.extraction import extraction_bound
from benchmarks.gpu import gpu
from benchmarks.groups import groups
from benchmarks.labelling import labelling
from benchmarks.labels import labels
from benchmarks.near_duplicates import near_duplicates
from benchmarks.promises import promises
from benchmarks.ridge import ridge
from benchmarks.rows import Row, as_table
from benchmarks.setting import Setting, describe_machine, load_average
from benchmarks.suspects import suspects
from benchmarks.training import head_training
from benchmarks.tuning import tuning
from benchmarks.webdataset import tar_shards

BENCHMARKS: dict[str, Callable[[Setting], list[Row]]] = {
    "head": head_training,
    "bound": extraction_bound,
    "live": cached_against_live,
    "engines": engines,
    "labels": labels,
    "groups": groups,
    "gpu": gpu,
    "duplicates": near_duplicates,
    "shards": tar_shards,
    "suspects": suspects,
    "promises": promises,
    "labelling": labelling,
    "ridge": ridge,
    "tuning": tuning,
}
DEFAULT_DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "coco"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks; return 1 if one of them failed to run, else 0, whatever was measured."""
    options = _parser().parse_args(arguments)
    if not (options.data / "labels.csv").is_file():
        print(f"no labels.csv in '{options.data}'; set --data to a folder with labels.csv and images/")
        return 2
    _quieten()
    before, start = load_average(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mlic-benchmarks-") as folder:
        os.environ["MLIC_CACHE"] = folder
        setting = Setting(options.data.resolve(), Path(folder), options.quick)
        rows = {name: _measure(name, setting) for name in options.names or BENCHMARKS}
    result = {
        "machine": {**describe_machine(), "load_before": before, "load_after": load_average()},
        "seconds": round(time.perf_counter() - start, 1),
        "quick": options.quick,
        "rows": [{"benchmark": name, **row.as_dict()} for name, several in rows.items() for row in several],
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(as_table([row for several in rows.values() for row in several]))
    print(
        f"\nload of the machine {before[0]} before, {load_average()[0]} after; all figures in {options.out}"
    )
    return int(any(row.measured is None for several in rows.values() for row in several))


def _measure(name: str, setting: Setting) -> list[Row]:
    """Run one benchmark; an error becomes a row, so that the others still run."""
    print(f"{name} ...", file=sys.stderr, end=" ", flush=True)
    start = time.perf_counter()
    try:
        rows = BENCHMARKS[name](setting)
    except Exception as error:
        logging.getLogger(__name__).exception("%s", name)
        rows = [Row(name, None, detail=f"failed: {type(error).__name__}: {error}")]
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return rows


def _quieten() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "mlic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure speed and memory, as ratios within one run."
    )
    parser.add_argument(
        "names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="file to write")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("MLIC_TEST_DATA", DEFAULT_DATA)),
        help="folder with labels.csv and images/",
    )
    parser.add_argument(
        "--quick", action="store_true", help="show that it works, on a tiny network; measures nothing"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
