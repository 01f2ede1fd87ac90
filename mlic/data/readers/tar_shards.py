"""Tar shards in the layout of WebDataset: listing of shards, and an index of their images and labels."""

import hashlib
import io
import json
import logging
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path
from posixpath import normpath
from typing import Any

from filelock import FileLock
from fsspec.implementations.local import LocalFileSystem
from tqdm import tqdm

from mlic.addresses import open_address
from mlic.data.cache import cache_dir
from mlic.data.file_names import leaves_folder
from mlic.data.images import image_suffixes, quick_check, reads_heif
from mlic.data.tar_images import TarImage
from mlic.errors import InputError
from mlic.runs.folder import write_atomically

logger = logging.getLogger(__name__)

VERSION = 2  # of the index files
EXPECTED = (
    "data.images must be tar shards: a folder of .tar files, a file, a pattern (train-*.tar, "
    "'train-{000..099}.tar'), an address (s3://, https://), or a list of these. Decompress .tar.gz and similar files"
)
LABEL_MEMBERS = ("json", "cls", "txt", "labels")
MAX_SHARDS, MAX_LABEL_BYTES, MAX_IMAGE_BYTES, MAX_PADDING_BYTES = 1_000_000, 1 << 22, 1 << 30, 1 << 20
PROBLEMS_SHOWN = 20
MAX_THREADS = 8
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")

ShardPaths = str | Path | Iterable[str | Path]
# images with their labels (a text, a list of names or numbers, or None), sorted by name; and the problems of the shard
ShardIndex = tuple[list[tuple[TarImage, Any]], list[str]]


def read_shards(
    paths: ShardPaths, *, on_bad_sample: str = "drop", label_member: str = "none", label_key: str = ""
) -> tuple[str, dict[str, tuple[TarImage, Any]]]:
    """List the images in tar shards.

    New and changed shards are read from start to end; indexes of the others are in the cache folder.

    Args:
        paths: see `list_shards`.
        on_bad_sample: `error`, or `drop` to leave out and log broken and incomplete samples.
        label_member: extension of the members with labels; `auto` takes the one present, `none` reads no labels.
        label_key: key of the labels in a JSON object.

    Returns:
        The folder of all shards; and, by `<shard>/<name in the shard>`, sorted, each image with its labels: a text, a
        list of class names, or None.

    Raises:
        InputError: shards are missing or cannot be read, or, with `error`, samples cannot be used.
    """
    root, shards = list_shards(paths)
    _cache_folder().mkdir(parents=True, exist_ok=True)
    # the lock keeps several processes of one training from reading the same shards
    with FileLock(_cache_folder() / ".lock"), ThreadPoolExecutor(MAX_THREADS) as threads:
        jobs = threads.map(lambda url: _index(url, label_member, label_key), shards)
        indexes = list(tqdm(jobs, "reading shards", len(shards), leave=False, disable=None))
    named = list(zip(shards.values(), indexes, strict=True))
    problems = [f"  {shard}/{problem}" for shard, (_, problems) in named for problem in problems]
    if problems:
        listing = "\n".join(problems[:PROBLEMS_SHOWN])
        message = f"{len(problems)} problems of tar shards in {root}, such as:\n{listing}"
        if on_bad_sample == "error":
            raise InputError(f"{message}\nRepair them, or leave the samples out with data.on_bad_image=drop.")
        logger.warning("%s\nThe samples are left out.", message)
    return root, {
        f"{shard}/{image.name}": (image, own) for shard, (found, _) in named for image, own in found
    }


def find_indexed(path: Path) -> TarImage | None:
    """Find an image of a local shard that was indexed before; only the index in the cache folder is read.

    Args:
        path: `<shard>/<name in the shard>`.
    """
    for shard in filter(Path.is_file, path.parents):
        for file in _cache_folder().glob(f"{_digest(str(shard))}-*.json"):
            samples, _ = _load(file, str(shard)) or ([], [])
            for image, _ in samples:
                if image.name == path.relative_to(shard).as_posix():
                    return image
    return None


def list_shards(paths: ShardPaths) -> tuple[str, dict[str, str]]:
    """List the shards.

    Args:
        paths: a file, folder, pattern or address, or several of these. `{000..099}` and `{a,b}` are expanded.

    Returns:
        The folder that contains all shards; and the names of the shards in it by absolute path or address, sorted.

    Raises:
        InputError: a folder does not exist or cannot be reached, or there are no shards.
    """
    given = [paths] if isinstance(paths, str | Path) else paths
    entries = [*islice((text for entry in given for text in expand_braces(os.fspath(entry))), MAX_SHARDS + 1)]
    if len(entries) > MAX_SHARDS:
        raise InputError(f"data.images: '{entries[0]}' and more: over {MAX_SHARDS:,} shards.")
    parts = {url: _without_query(url).split("/") for entry in entries for url in _find(entry)}
    if not parts:
        raise InputError(f"data.images: the list of tar shards is empty. {EXPECTED}.")
    levels = zip(*(names[:-1] for names in parts.values()), strict=False)
    common = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]
    shards = {url: "/".join(names[len(common) :]) for url, names in parts.items()}
    if any(map(leaves_folder, shards.values())):  # a server may list any names
        raise InputError(f"data.images: one of the shards leads out of its folder: {', '.join(shards)}.")
    return "/".join(common), dict(sorted(shards.items(), key=lambda item: item[1]))


def expand_braces(text: str) -> Iterator[str]:
    """Expand `a-{08..10}.tar` to a-08.tar, a-09.tar, a-10.tar and `{a,b}` to a, b, like shells do."""
    found = _BRACES.search(text)
    if found is None:
        yield text
        return
    first, last, names = found.groups()
    numbers = range(int(first or 0), int(last or 0) + 1)
    for choice in names.split(",") if names else (f"{number:0{len(first)}d}" for number in numbers):
        yield from expand_braces(text[: found.start()] + choice + text[found.end() :])


def _find(entry: str) -> list[str]:
    """Return absolute paths or addresses of the shards of one entry."""
    with _input_errors(f"data.images: '{entry}'"):
        system, path = open_address(entry)
        is_local = isinstance(system, LocalFileSystem)
        path = os.path.abspath(path) if is_local else path
        if re.search(r"[*\[]", path) and not system.exists(path):
            found = system.glob(path)
        elif _is_shard(path):  # some servers report any path as a folder, so ask for no other
            found = [path]
        else:
            found = system.ls(path.rstrip("/"), detail=False)
        shards = [name for name in map(str, found) if _is_shard(name)]
        if not shards:
            raise InputError(f"data.images: no tar shards in '{entry}'. {EXPECTED}.")
        return shards if is_local else [system.unstrip_protocol(name) for name in shards]


def _is_shard(path: str) -> bool:
    return _without_query(path).endswith(".tar")


@contextmanager
def _input_errors(place: str) -> Iterator[None]:
    """Turn the errors of file systems, of which each protocol has its own, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{place} cannot be read ({type(error).__name__}: {error}). {EXPECTED}.") from error


def _without_query(url: str) -> str:
    """Return an address without what follows `?`, such as a signature."""
    return re.split("[?#]", url)[0] if url.startswith(("http://", "https://")) else url


def _cache_folder() -> Path:
    return cache_dir() / "webdataset"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _index(url: str, label_member: str, label_key: str) -> ShardIndex:
    """Return the index from the cache, else read the shard.

    Reading a shard takes 5 s per GB on a local disk and as long as a download on a server, because the digests of all
    images are needed; loading the index takes 0.1 s.
    """
    with _input_errors(f"{url}: the shard"):
        system, path = open_address(url)
        # size, and time or tag, of the shard, without its address, whose signature may change with each request
        state = {key: str(value) for key, value in system.info(path).items() if key not in ("name", "url")}
        # with support for HEIC, fewer images are defective
        identity = json.dumps([VERSION, state, label_member, label_key, reads_heif()], sort_keys=True)
        # several links may lead to one shard
        place = _without_query(url) if "://" in url else os.path.realpath(url)
        file = _cache_folder() / f"{_digest(place)}-{_digest(identity)}.json"
        index = _load(file, url)
        if index is None:
            with system.open(path, "rb") as stream:
                index = _scan(stream, url, label_member, label_key)
            samples = [(image[1:], labels) for image, labels in index[0]]
            write_atomically(file, json.dumps([samples, index[1]]), durable=False)
        return index


def _load(file: Path, url: str) -> ShardIndex | None:
    """Load an index; None if it is missing or broken."""
    try:
        samples, problems = json.loads(file.read_bytes())
        return [(TarImage(url, *image), labels) for image, labels in samples], problems
    except (OSError, ValueError, TypeError):
        return None


def _scan(stream: Any, url: str, label_member: str, label_key: str) -> ShardIndex:
    """Read a shard from start to end."""
    label_members = {"auto": LABEL_MEMBERS, "none": ()}.get(label_member, (label_member,))
    images: dict[str, TarImage] = {}
    labels: dict[str, str | list[str]] = {}
    bad: dict[str, str] = {}
    name, rest = "", []
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = normpath(member.name)
                stem, _, ending = name[name.rfind("/") + 1 :].partition(".")
                is_image = f".{ending.lower()}" in image_suffixes()
                if not stem or member.isdir() or not (is_image or ending.lower() in label_members):
                    continue
                # WebDataset's rule: members with the same name up to the first dot are one sample
                key = name.removesuffix(ending) if label_members else name
                try:
                    if key in (images if is_image else labels):
                        raise ValueError(
                            "its sample has two images, or labels in two members (choose by label_member)"
                        )
                    content = _read_member(archive, member, MAX_IMAGE_BYTES if is_image else MAX_LABEL_BYTES)
                    if is_image:
                        digest, flaw = hashlib.sha256(content).hexdigest(), quick_check(io.BytesIO(content))
                        images[key] = TarImage(
                            url, name, member.offset_data, len(content), digest, flaw or ""
                        )
                    else:
                        labels[key] = _parse_labels(content, ending.lower(), label_key)
                except (ValueError, TypeError, LookupError, RecursionError) as error:
                    bad[key] = f"{name}: {error}"
            # tarfile takes any invalid header for the end of the archive, which is marked by zeros
            stream.seek(archive.offset)
            end = stream.read(MAX_PADDING_BYTES)
            if not end or end.strip(b"\0"):
                raise tarfile.ReadError("no end mark, or data behind it")
    except tarfile.TarError as error:
        rest = [f"{name}: not a tar file, or damaged or truncated from here on ({error})"]
    if label_members:
        for key in images.keys() ^ labels.keys():
            bad.setdefault(
                key, f"{key}*: expected one image and one member with labels (.{', .'.join(label_members)})"
            )
    good = [(images[key], labels.get(key)) for key in sorted(images.keys() - bad.keys())]
    return good, [bad[key] for key in sorted(bad)] + rest


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> bytes:
    if leaves_folder(member.name) or not member.name.isprintable():
        raise ValueError("the name must be printable, relative and without '..'")
    if not member.isreg() or member.issparse() or member.size > limit:
        raise ValueError(f"not a regular file of at most {limit:,} bytes")
    return archive.extractfile(member).read()  # pyright: ignore[reportOptionalMemberAccess]


def _parse_labels(content: bytes, ending: str, key: str) -> str | list[str]:
    text = content.decode("utf-8-sig").strip()
    if ending != "json":
        return text
    labels = json.loads(text)[key]
    if not isinstance(labels, list) or not all(type(label) in (str, int) for label in labels):
        raise ValueError(f"'{key}' must be a list of class names or numbers (data.reader.label_key)")
    return [str(label) for label in labels]
