"""The indexes of tar shards: made where they are missing, and what they list."""

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from mlic.data.tar_scan import LabelSource, ShardScan, index_key
from mlic.errors import InputError
from mlic.tars.index import ShardIndex, load_index
from mlic.tars.listing import ShardFile, list_shards
from mlic.tars.members import index_folder

logger = logging.getLogger(__name__)

PROBLEMS_SHOWN = 20
MOST_THREADS = 8

Places = str | Path | Iterable[str | Path]


def image_names(images: Places) -> tuple[Path, list[str]]:
    """Folder and file names of the images in tar shards, labels aside; broken ones are logged.

    Raises:
        InputError: shards that cannot be used.
    """
    folder, shards = index_shards(images, LabelSource("none", ""))
    refuse_problems(folder, shards, "drop")
    return folder, [name for shard in shards for name in names_in(shard, load_shard(folder, shard))]


def index_shards(images: Places, source: LabelSource) -> tuple[Path, list[ShardFile]]:
    """Make the indexes that are missing; returns their folder, and the shards.

    Raises:
        InputError: shards that are not there or cannot be read.
    """
    root, shards = list_shards(images)
    folder = index_folder(f"{root} {source.member} {source.key}")
    folder.mkdir(parents=True, exist_ok=True)
    # several processes of one training would read the same shards
    with FileLock(folder / ".lock"), ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
        jobs = threads.map(lambda shard: _make_index(folder, shard, source), shards)
        made = sum(tqdm(jobs, "reading shards", len(shards), leave=False, disable=None))
    logger.info("%d tar shards, %d of them read; their index is in '%s'", len(shards), made, folder)
    return folder, shards


def _make_index(folder: Path, shard: ShardFile, source: LabelSource) -> bool:
    """Whether there was none."""
    known = load_index(folder / shard.name, labels=True)
    if known is None or known.key != index_key(shard, source):
        ShardScan(shard, source).run().save(folder / shard.name)
        return True
    if known.url != shard.url:  # signed anew, or mounted elsewhere
        replace(known, url=shard.url).save(folder / shard.name)
    return False


def load_shard(folder: Path, shard: ShardFile, *, labels: bool = False) -> ShardIndex:
    """The index of a shard that `index_shards` was given, without its labels unless asked."""
    index = load_index(folder / shard.name, labels=labels)
    if index is None:
        raise InputError(f"{folder / shard.name}: the index was just made and is gone. Is the disk full?")
    return index


def names_in(shard: ShardFile, index: ShardIndex) -> list[str]:
    """File names of its images: `<shard>/<name in the shard>`."""
    return [f"{shard.name}/{index.names[row].decode()}" for row in range(len(index))]


def refuse_problems(folder: Path, shards: Sequence[ShardFile], on_bad_sample: str) -> None:
    """Raise (`error`) or log (`drop`) what is wrong with members of the shards.

    Raises:
        InputError: lists the members.
    """
    lines: list[str] = []
    total = 0
    for shard in shards:
        index = load_shard(folder, shard)
        total += index.num_problems
        if len(lines) < PROBLEMS_SHOWN:
            lines += [
                f"  {shard.url}: {member or 'the shard'}: {problem}" for member, problem in index.problems
            ]
    if not total:
        return
    more = [f"  and {total - PROBLEMS_SHOWN} more"] if total > PROBLEMS_SHOWN else []
    listing = "\n".join(lines[:PROBLEMS_SHOWN] + more)
    if on_bad_sample == "error":
        raise InputError(
            f"{total} members of the tar shards cannot be used:\n{listing}\n"
            "Repair them, or leave their samples out with data.on_bad_image=drop."
        )
    logger.warning(
        "%d members of the tar shards cannot be used; their samples are left out:\n%s", total, listing
    )
