"""List, verify and remove feature stores."""

import time
from collections.abc import Sequence
from pathlib import Path

from mlic.data.cache import cache_dir
from mlic.errors import InputError
from mlic.escaping import printable
from mlic.features.store import DESCRIPTION, LAST_USED, FeatureStore, remove_store

SECONDS_A_DAY = 86_400


def find_stores(root: Path) -> list[Path]:
    """Return the folders of all stores in `root`, sorted."""
    return sorted(path.parent for path in root.glob(f"*/{DESCRIPTION}"))


def default_folder() -> Path:
    """Return the folder of all stores unless `features.dir` names another."""
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
