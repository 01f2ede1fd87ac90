"""Images in tar shards under paths of their own, so that all else may treat them as files.

The path of such an image is `<cache>/webdataset/tar-index-<16 digits>/<shard>/<name in the shard>`; in the folder of
the shard lies its index. Nothing else of the path exists. An index names an address, so that one in any other place,
which a sender may have put there, is not read.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from mlic.addresses import open_address
from mlic.data.cache import cache_dir
from mlic.errors import InputError
from mlic.tars.index import INDEX_FILE, Member, ShardIndex, load_index

_INDEX_FOLDER = re.compile(r"/tar-index-[0-9a-f]{16}/")
ATTEMPTS = 4
PAUSE_SECONDS = 1.0
# A request takes about as long as this many bytes; more than so many are not held.
GAP_BYTES, MOST_BYTES = 1 << 18, 1 << 28

_indexes: dict[str, tuple[tuple[int, int], ShardIndex]] = {}
_ahead: dict[tuple[str, int], bytes] = {}


def _indexes_folder() -> Path:
    return cache_dir() / "webdataset"


def index_folder(root: str) -> Path:
    """The folder in the cache for the indexes of all shards below `root`, a folder or address."""
    return _indexes_folder() / f"tar-index-{hashlib.sha256(root.encode()).hexdigest()[:16]}"


def is_member(path: str | Path) -> bool:
    """Whether a path is that of an image in a shard, by its form alone."""
    return _start_of_shard(os.fspath(path)) is not None


def _start_of_shard(text: str) -> int | None:
    """Position of the slash behind the folder of indexes; None where the path leads elsewhere."""
    found = _INDEX_FOLDER.search(text)
    if found is None or "/../" in text:
        return None
    parent, cache = text[: found.start()], str(_indexes_folder())
    # a caller may have resolved the path, and the cache may lie behind a link
    return found.end() - 1 if parent == cache or parent == os.path.realpath(cache) else None


def find_member(path: str | Path) -> Member | None:
    """The image that a path stands for; None where it is no such path, or there is no such image."""
    text = os.fspath(path)
    start = _start_of_shard(text)
    if start is None:
        return None
    while start > 0 and (end := text.find("/", start + 1)) > 0:
        index = _index_in(text[:end])
        if index is not None:
            return index.find(text[end + 1 :])
        start = end
    return None


def _index_in(folder: str) -> ShardIndex | None:
    """Kept in memory while its file stays the same; workers forked later share it."""
    try:
        status = os.stat(f"{folder}/{INDEX_FILE}")
    except OSError:
        return None
    state = (status.st_ino, status.st_mtime_ns)
    if folder not in _indexes or _indexes[folder][0] != state:
        index = load_index(folder, labels=False)
        if index is None:
            return None
        _indexes[folder] = (state, index)
    return _indexes[folder][1]


def read_member(member: Member) -> bytes:
    """The bytes of an image, compared with their digest in the index.

    Raises:
        InputError: the shard cannot be read, or has changed.
    """
    content = _ahead.pop((member.url, member.offset), None)
    if content is None:
        content = _read_range(member.url, member.offset, member.size)
    if hashlib.sha256(content).hexdigest() != member.digest:
        raise InputError(
            f"{member.url}: '{member.name}' is no longer what it was when the shard was indexed. Start again: a "
            "changed shard is indexed anew."
        )
    return content


def read_ahead(paths: Iterable[str | Path]) -> None:
    """Fetch the images of remote shards that will be read next, neighbours in one request."""
    members = [member for path in paths if (member := find_member(path)) is not None and "://" in member.url]
    members.sort(key=lambda member: (member.url, member.offset))
    _ahead.clear()
    total = 0
    for run in _runs(members):
        first, last = run[0], run[-1]
        total += last.offset + last.size - first.offset
        if total > MOST_BYTES:
            break
        content = _read_range(first.url, first.offset, last.offset + last.size - first.offset)
        for member in run:
            start = member.offset - first.offset
            _ahead[member.url, member.offset] = content[start : start + member.size]


def _runs(members: list[Member]) -> list[list[Member]]:
    """Members in order, as stretches without large gaps."""
    runs = [[member] for member in members[:1]]
    for before, member in pairwise(members):
        if member.url == before.url and member.offset - before.offset - before.size <= GAP_BYTES:
            runs[-1].append(member)
        else:
            runs.append([member])
    return runs


def _read_range(url: str, offset: int, size: int) -> bytes:
    try:
        content = _read_file(url, offset, size) if "://" not in url else _request(url, offset, size)
    except InputError:
        raise
    except Exception as error:  # each protocol has errors of its own
        raise InputError(
            f"{url}: the shard cannot be read ({type(error).__name__}: {error}). Start again when it can; nothing "
            "that was computed is lost."
        ) from error
    if len(content) > size:
        raise InputError(
            f"{url}: the server sends {len(content)} bytes where {size} were asked for: it knows no range requests. "
            "Use another server, or download the shards."
        )
    if len(content) < size:
        raise InputError(
            f"{url}: the shard has become shorter. Start again: a changed shard is indexed anew."
        )
    return content


def _read_file(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        return file.read(size)


def _request(url: str, offset: int, size: int) -> bytes:
    """Some protocols repeat requests by themselves, HTTP does not."""
    # anew each time, which is cheap: connections do not survive a fork
    system, path = open_address(url)
    for attempt in range(ATTEMPTS):
        try:
            return system.cat_file(path, start=offset, end=offset + size)
        except FileNotFoundError:
            raise
        except Exception:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_SECONDS * 2**attempt)
    raise AssertionError("unreachable")
