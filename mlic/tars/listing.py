"""The tar shards that a user means: files, a folder, a pattern, braces, addresses."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from mlic.addresses import open_address
from mlic.data.file_names import leaves_folder
from mlic.errors import InputError

EXPECTED = (
    "data.images must be tar shards: a folder of .tar files, a file, a pattern (train-*.tar, "
    "'train-{000..099}.tar'), an address (s3://, https://), or a list of these"
)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_IDENTITY = (  # what file systems tell of a file's content, by the names they have for it
    "size", "mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "created", "generation", "md5Hash",
)  # fmt: skip
MOST_SHARDS = 1_000_000
FILE_ENDINGS = (".tar", ".gz", ".tgz", ".zst", ".bz2", ".xz")


@dataclass(frozen=True)
class ShardFile:
    """One tar shard.

    Attributes:
        url: absolute path, or address with its protocol.
        name: relative to the folder of all shards, with `/` between folders.
        state: what the file system tells of its content: size, and time of change or tag.
    """

    url: str
    name: str
    state: dict[str, str]


def list_shards(places: str | Path | Iterable[str | Path]) -> tuple[str, list[ShardFile]]:
    """Find the shards.

    Args:
        places: a file, folder, pattern or address, or several of these. `{000..099}` and `{a,b}` are expanded.

    Returns:
        The folder of all shards (the one given, else what their addresses have in common), and the shards in order
        of their names.

    Raises:
        InputError: something is not there, cannot be reached, or no shard is found.
    """
    given = [os.fspath(place) for place in ([places] if isinstance(places, str | Path) else places)]
    entries = [entry for text in given for entry in expand_braces(text)]
    states: dict[str, dict[str, str]] = {}
    folders: list[list[str]] = []
    for entry in entries:
        parents, found = _find(entry)
        folders += map(_parts, parents)
        states |= found
    if not states:
        raise InputError(f"data.images: the list of tar shards is empty. {EXPECTED}.")
    # zip ends with the shortest of them
    levels = takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
    root = [level[0] for level in levels]
    names = {url: "/".join(_parts(url)[len(root) :]) for url in states}
    outside = [name for name in names.values() if leaves_folder(name)]  # a server may list anything
    if outside:
        raise InputError(f"data.images: the shard '{outside[0]}' leads out of its folder. {EXPECTED}.")
    by_name = {name: ShardFile(url, name, states[url]) for url, name in names.items()}
    if len(by_name) < len(names):
        raise InputError("data.images: two addresses differ only behind '?' or '#'; give each shard once.")
    return "/".join(root), [by_name[name] for name in sorted(by_name)]


def expand_braces(text: str) -> list[str]:
    """`a-{08..10}.tar` -> a-08.tar, a-09.tar, a-10.tar; `{a,b}` -> a, b; as shells and WebDataset do it."""
    found = _BRACES.search(text)
    if found is None:
        return [text]
    limits = _RANGE.fullmatch(found[1])
    if limits:
        first, last = int(limits[1]), int(limits[2])
        if abs(last - first) >= MOST_SHARDS:
            raise InputError(f"data.images: '{text}' stands for more than {MOST_SHARDS:,} shards.")
        step = 1 if last >= first else -1
        choices = [f"{number:0{len(limits[1])}d}" for number in range(first, last + step, step)]
    elif "," in found[1]:
        choices = found[1].split(",")
    else:
        raise InputError(f"data.images: '{found[0]}' in '{text}'; expected {{000..099}} or {{a,b}}.")
    return [
        whole
        for choice in choices
        for whole in expand_braces(text[: found.start()] + choice + text[found.end() :])
    ]


def _find(entry: str) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Folders, and address -> state of the shards that one entry stands for."""
    if entry.startswith("pipe:"):
        raise InputError(f"data.images: '{entry}': commands are not run. {EXPECTED}.")
    try:
        system, path = open_address(entry)
        if isinstance(system, LocalFileSystem):
            path = os.path.abspath(path)
        folders, paths = _paths(system, path)
        if not paths:
            raise InputError(f"data.images: no tar shard in '{entry}'. {EXPECTED}.")
        states = {_address(system, name): _state(system.info(name)) for name in paths}
        return [_address(system, folder) for folder in folders], states
    except FileNotFoundError:
        raise InputError(f"data.images: there is no '{entry}'. {EXPECTED}.") from None
    except InputError:
        raise
    except Exception as error:  # each protocol has errors of its own
        raise InputError(
            f"data.images: '{entry}' cannot be reached ({type(error).__name__}: {error}). {EXPECTED}."
        ) from error


def _paths(system: Any, path: str) -> tuple[list[str], list[str]]:
    """Folders and shards. An address that ends like a shard is not asked whether it is a folder: servers lie."""
    is_pattern = "*" in path or "[" in path
    if is_pattern and not (isinstance(system, LocalFileSystem) and os.path.exists(path)):
        found = [name for name in map(str, system.glob(path)) if name.endswith(".tar")]
        return [_parent(name) for name in found], found
    if not _without_query(path).endswith(FILE_ENDINGS) and system.isdir(path):
        path = path.rstrip("/")
        names = sorted(map(str, system.ls(path, detail=False)))
        found = [name for name in names if name.endswith(".tar")]
        packed = [name for name in names if ".tar." in name or name.endswith(".tgz")]
        if packed and not found:
            raise InputError(refuse_compressed(packed[0]))
        return [path], found
    return [_parent(path)], [path]


def refuse_compressed(place: str) -> str:
    """Why, and what to do."""
    return (
        f"{place}: a compressed tar, of which no single image can be read. Unpack the compression (gunzip, unzstd, "
        "...) and give the .tar; JPEGs do not become smaller by it."
    )


def _parent(path: str) -> str:
    return path.rpartition("/")[0] + "/"


def _address(system: Any, path: str) -> str:
    return path if isinstance(system, LocalFileSystem) else system.unstrip_protocol(path)


def _without_query(url: str) -> str:
    return re.split("[?#]", url)[0] if url.startswith(("http://", "https://")) else url


def _parts(url: str) -> list[str]:
    return [part for part in _without_query(url).split("/") if part]


def _state(info: dict[str, Any]) -> dict[str, str]:
    return {key: str(info[key]) for key in _IDENTITY if info.get(key) is not None}
