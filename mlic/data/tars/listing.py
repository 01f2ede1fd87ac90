"""Listing of tar shards given as files, folders, patterns, braces or addresses."""

import os
import re
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from mlic.addresses import open_address
from mlic.data.file_names import leaves_folder
from mlic.errors import InputError

EXPECTED = (
    "data.images must be tar shards: a folder of .tar files, a file, a pattern (train-*.tar, "
    "'train-{000..099}.tar'), an address (s3://, https://), or a list of these"
)
UNPACK = (
    "a compressed tar, from which single images cannot be read. Decompress it (gunzip, unzstd, ...) and use "
    "the .tar; compression does not make JPEGs smaller."
)
MOST_SHARDS = 1_000_000
FILE_ENDINGS = (".tar", ".gz", ".tgz", ".zst", ".bz2", ".xz")
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*))\}")
_STATE = (  # the fields of fsspec's file systems that change with the content of a file
    "size", "mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "created", "generation", "md5Hash",
)  # fmt: skip

ShardPaths = str | Path | Iterable[str | Path]


class Shard(NamedTuple):
    """One tar shard.

    Attributes:
        url: absolute path, or address with protocol.
        name: path relative to the folder of all shards, with `/` as separator.
        state: size, and modification time or tag, as reported by the file system.
    """

    url: str
    name: str
    state: dict[str, str]


def list_shards(paths: ShardPaths) -> tuple[str, list[Shard]]:
    """List the shards.

    Args:
        paths: a file, folder, pattern or address, or several of these. `{000..099}` and `{a,b}` are expanded.

    Returns:
        The folder of all shards (the given one, else the common part of their addresses), and the shards
        sorted by name.

    Raises:
        InputError: an entry does not exist or cannot be reached, or there are no shards.
    """
    given = [paths] if isinstance(paths, str | Path) else paths
    folders: list[list[str]] = []
    states: dict[str, dict[str, str]] = {}
    for entry in (entry for place in given for entry in expand_braces(os.fspath(place))):
        found_folders, found_states = _find(entry)
        folders += map(_parts, found_folders)
        states |= found_states
    if not states:
        raise InputError(f"data.images: the list of tar shards is empty. {EXPECTED}.")
    common = takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
    depth = len(list(common))
    shards = sorted(
        (Shard(url, "/".join(_parts(url)[depth:]), state) for url, state in states.items()),
        key=lambda shard: shard.name,
    )
    for shard, following in zip(shards, [*shards[1:], None], strict=True):
        if leaves_folder(shard.name):  # a server may list arbitrary names
            raise InputError(f"data.images: the shard '{shard.name}' leads out of its folder. {EXPECTED}.")
        if following is not None and shard.name == following.name:
            raise InputError("data.images: two addresses differ only after '?' or '#'; list each shard once.")
    return _without_query(shards[0].url).removesuffix(shards[0].name).rstrip("/"), shards


def expand_braces(text: str) -> list[str]:
    """Expand `a-{08..10}.tar` to a-08.tar, a-09.tar, a-10.tar and `{a,b}` to a, b, like shells do."""
    found = _BRACES.search(text)
    if found is None:
        return [text]
    if found[3] is None:
        first, last = int(found[1]), int(found[2])
        if abs(last - first) >= MOST_SHARDS:
            raise InputError(f"data.images: '{text}' stands for more than {MOST_SHARDS:,} shards.")
        step = 1 if last >= first else -1
        choices = [f"{number:0{len(found[1])}d}" for number in range(first, last + step, step)]
    elif "," in found[3]:
        choices = found[3].split(",")
    else:
        raise InputError(f"data.images: '{found[0]}' in '{text}'; expected {{000..099}} or {{a,b}}.")
    start, end = text[: found.start()], text[found.end() :]
    return [whole for choice in choices for whole in expand_braces(start + choice + end)]


def _find(entry: str) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the folders of one entry, and the states of its shards by address."""
    if entry.startswith("pipe:"):
        raise InputError(f"data.images: '{entry}': commands are not supported. {EXPECTED}.")
    try:
        system, path = open_address(entry)
        is_local = isinstance(system, LocalFileSystem)
        folders, paths = _expand(system, os.path.abspath(path) if is_local else path)
        if not paths:
            raise InputError(f"data.images: no tar shards in '{entry}'. {EXPECTED}.")
        address = str if is_local else system.unstrip_protocol
        infos = {address(name): system.info(name) for name in paths}
    except FileNotFoundError:
        raise InputError(f"data.images: '{entry}' does not exist. {EXPECTED}.") from None
    except InputError:
        raise
    except Exception as error:  # each protocol has its own errors
        raise InputError(
            f"data.images: '{entry}' cannot be reached ({type(error).__name__}: {error}). {EXPECTED}."
        ) from error
    states = {
        url: {key: str(info[key]) for key in _STATE if info.get(key) is not None}
        for url, info in infos.items()
    }
    return [address(folder) for folder in folders], states


def _expand(system: Any, path: str) -> tuple[list[str], list[str]]:
    """Return the folders and shards of one path."""
    is_pattern = ("*" in path or "[" in path) and not (
        isinstance(system, LocalFileSystem) and os.path.exists(path)
    )
    if is_pattern:
        found = [name for name in map(str, system.glob(path)) if name.endswith(".tar")]
        return [_parent(name) for name in found], found
    # some servers report any path as a folder, so decide by the extension
    if _without_query(path).endswith(FILE_ENDINGS) or not system.isdir(path):
        return [_parent(path)], [path]
    names = sorted(map(str, system.ls(path.rstrip("/"), detail=False)))
    found = [name for name in names if name.endswith(".tar")]
    packed = [name for name in names if ".tar." in name or name.endswith(".tgz")]
    if packed and not found:
        raise InputError(f"{packed[0]}: {UNPACK}")
    return [path], found


def _parent(path: str) -> str:
    return path.rpartition("/")[0] + "/"


def _without_query(url: str) -> str:
    return re.split("[?#]", url)[0] if url.startswith(("http://", "https://")) else url


def _parts(url: str) -> list[str]:
    return [part for part in _without_query(url).split("/") if part]
