"""List, verify and remove feature stores.

python -m mlic.features [--dir FOLDER] [list | verify | prune --days N]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mlic.features.maintenance import default_folder, find_stores, prune, show, verify
from mlic.runs.signals import ending_on_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 1 when `verify` found damage, else 0."""
    options = _parser().parse_args(arguments)
    root = Path(options.dir) if options.dir else default_folder()
    folders = find_stores(root)
    if not folders:
        print(f"no feature stores in '{root}'")
        return 0
    if options.command == "verify":
        return verify(folders)
    if options.command == "prune":
        return prune(folders, options.days)
    return show(folders)


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
