"""List, verify and remove feature stores.

python -m mlic.features [--dir FOLDER] [list | verify | prune --days N]
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mlic.errors import InputError
from mlic.escaping import printable
from mlic.features.store import DESCRIPTION, LAST_USED, FeatureStore, remove_store
from mlic.runs.signals import ending_on_signals

SECONDS_A_DAY = 86_400


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 1 when `verify` found damage, else 0."""
    options = _parser().parse_args(arguments)
    root = Path(options.dir) if options.dir else default_folder()
    folders = sorted(path.parent for path in root.glob(f"*/{DESCRIPTION}"))
    if not folders:
        print(f"no feature stores in '{root}'")
        return 0
    if options.command == "verify":
        return verify(folders)
    if options.command == "prune":
        return prune(folders, options.days)
    return show(folders)


def default_folder() -> Path:
    """Where features lie unless `features.dir` says otherwise."""
    from mlic.data.cache import cache_dir

    return cache_dir() / "features"


def show(folders: Sequence[Path]) -> int:
    """Print rows, size and last use of each store."""
    print(f"{'rows':>10} {'MB':>10} {'days unused':>12}  store")
    for folder in folders:
        try:
            rows = str(FeatureStore.at(folder).num_rows)
        except InputError:
            rows = "other format"
        print(
            f"{rows:>10} {size_of(folder) / 1e6:>10.1f} {days_unused(folder):>12.1f}  {printable(str(folder))}"
        )
    return 0


def verify(folders: Sequence[Path]) -> int:
    """Read and check every row of each store; the good rows of damaged shards are kept."""
    num_damaged = 0
    for folder in folders:
        try:
            store = FeatureStore.at(folder)
        except InputError as error:
            print(error)
            continue
        damaged = store.verify()
        num_damaged += len(damaged)
        print(f"{printable(str(folder))}: {store.num_rows} rows good, {len(damaged)} shards damaged")
        for error in damaged:
            print(f"  {error}")
    return 1 if num_damaged else 0


def prune(folders: Sequence[Path], days: float) -> int:
    """Remove the stores that were not used for so many days, and are not in use now."""
    old = [folder for folder in folders if days_unused(folder) >= days]
    if not old:
        print(f"none of {len(folders)} stores was unused for {days:g} days")
    for folder in old:
        size = size_of(folder)
        try:
            remove_store(folder)
        except InputError:
            print(f"in use, left alone: {printable(str(folder))}")
        else:
            print(f"removed {size / 1e6:.1f} MB: {printable(str(folder))}")
    return 0


def size_of(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def days_unused(folder: Path) -> float:
    """Days since a store was last read or added to."""
    marker = folder / LAST_USED
    used = marker if marker.exists() else folder / DESCRIPTION
    return (time.time() - used.stat().st_mtime) / SECONDS_A_DAY


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mlic.features", description="Look after the stores of features."
    )
    parser.add_argument(
        "--dir", help="folder of the stores (features.dir); by default in the user's cache folder"
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="rows, size and last use of each store (the default)")
    commands.add_parser("verify", help="read and check every row; exit status 1 when some are damaged")
    remove = commands.add_parser(
        "prune", help="remove the stores that were not used for some days, nor are now"
    )
    remove.add_argument("--days", type=float, required=True, help="remove what was not used for so many days")
    return parser


if __name__ == "__main__":
    with ending_on_signals():
        sys.exit(main())
