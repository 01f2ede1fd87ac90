"""Listing, verification and removal of feature stores."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mlic.data.cache import cache_dir
from mlic.errors import InputError, check_choice
from mlic.escaping import printable
from mlic.features.store import DESCRIPTION, LAST_USED, FeatureStore, remove_store, size_of

SECONDS_A_DAY = 86_400
ACTIONS = ("list", "verify", "prune")


def manage_stores(action: str, root: Path, days: float | None = None) -> bool:
    """List, verify or prune all stores in a folder, and print the results.

    Args:
        action: one of ACTIONS.
        root: folder of the stores.
        days: for `prune`; stores that were not used for this number of days are removed.

    Returns:
        False if `verify` found damage.

    Raises:
        InputError: the action is unknown, or `prune` is used without days.
    """
    check_choice("action", action, ACTIONS)
    if action == "prune" and days is None:
        raise InputError("days: must be given with action=prune, such as days=30.")
    folders = sorted(path.parent for path in root.glob(f"*/{DESCRIPTION}") if _describes_store(path))
    if not folders:
        print(f"no feature stores in '{printable(str(root))}'")
    elif action == "verify":
        return sum(map(_verify, folders)) == 0
    elif days is not None and action == "prune":
        _prune(folders, days)
    else:
        _show(folders)
    return True


def default_folder() -> Path:
    """Return the folder of all stores unless `features.dir` names another."""
    return cache_dir() / "features"


def _describes_store(path: Path) -> bool:
    """Return False for files of other programs named store.json."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(description, dict) and "format_version" in description


def _show(folders: Sequence[Path]) -> None:
    """Print rows, size, seconds per image and last use of each store."""
    print(f"{'rows':>10} {'MB':>10} {'s/image':>8} {'days unused':>12}  store")
    for folder in folders:
        rows, seconds = "other format", ""
        with suppress(InputError):
            store = FeatureStore.at(folder)
            store.refresh(check_rows=False)
            rows = str(store.num_rows)
            seconds = "" if store.seconds_per_row is None else f"{store.seconds_per_row:.4f}"
        size, unused = size_of(folder) / 1e6, _days_unused(folder)
        print(f"{rows:>10} {size:>10.1f} {seconds:>8} {unused:>12.1f}  {printable(folder.name)}")
    print(f"stores in {printable(str(folders[0].parent))}")


def _verify(folder: Path) -> int:
    """Read every row of a store, set damaged shards aside, and return their number."""
    try:
        store = FeatureStore.at(folder)
    except InputError as error:
        print(error)
        return 0
    problems = store.refresh()
    print(f"{printable(str(folder))}: {store.num_rows} rows, {len(problems)} damaged shards set aside")
    for problem in problems:
        print(f"  {printable(problem)}")
    return len(problems)


def _prune(folders: Sequence[Path], days: float) -> None:
    """Remove the stores that were not used for a number of days and are not in use."""
    old = [folder for folder in folders if _days_unused(folder) >= days]
    print(f"{len(old)} of {len(folders)} stores were not used for {days:g} days")
    for folder in old:
        size = size_of(folder)
        try:
            remove_store(folder)
        except InputError:
            print(f"in use, not removed: {printable(str(folder))}")
        else:
            print(f"removed {size / 1e6:.1f} MB: {printable(str(folder))}")


def _days_unused(folder: Path) -> float:
    """Return the days since a store was last read or added to."""
    marker = folder / LAST_USED
    used = marker if marker.exists() else folder / DESCRIPTION
    return (time.time() - used.stat().st_mtime) / SECONDS_A_DAY
