"""Download a file, resumed where it broke off, and unpack archives whole or not at all.

torch.hub and torchvision check digests but begin anew after each break, which is why this is written here.
"""

import hashlib
import http.client
import logging
import shutil
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mlic.addresses import may_connect
from mlic.data.cache import atomic_folder
from mlic.errors import InputError

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: address, size in bytes, and MD5 digest in hex, both as published."""

    url: str
    size: int
    md5: str


class _Interrupted(Exception):
    """The transfer broke off, and may be taken up again."""


def download(remote: RemoteFile, target: Path, *, attempts: int = 4, pause_seconds: float = 2.0) -> Path:
    """Download to `target`, unless the right file is there.

    The bytes are gathered in `target` + `.part`, which a later call, also of another process, goes on with.
    `target` itself is there only when size and digest are right.

    Args:
        remote: what to download.
        target: the file to be; one that was put there by hand is checked and used.
        attempts: connections to try; each goes on where the last one broke off.
        pause_seconds: before the second attempt; doubled each time.

    Returns:
        `target`.

    Raises:
        InputError: no connection, or a file of another size or digest; the message says what to do.
    """
    if target.is_file():
        _verify(target, remote)
        return target
    if not may_connect():
        raise InputError(
            f"{remote.url} is not downloaded on the word of a run folder or checkpoint. If you trust it, name the "
            "data yourself, such as data=coco_val2017."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for attempt in range(attempts):
        try:
            _fetch(remote, part)
            break
        except (_Interrupted, OSError, http.client.HTTPException) as error:
            if attempt == attempts - 1 or _is_hopeless(error, attempt):
                raise InputError(
                    f"{remote.url} cannot be downloaded: {error}. Try again when there is a connection "
                    f"(it goes on where it broke off), or get the file by other means and put it at {target}."
                ) from error
            logger.warning("%s: %s; trying again", remote.url, error)
            time.sleep(pause_seconds * 2**attempt)
    try:
        _verify(part, remote)
    except InputError:
        part.unlink()  # going on with wrong bytes would never come right
        raise
    part.rename(target)
    return target


def unpack_folder(archive: Path, member: str, target: Path) -> Path:
    """Unpack one folder of a zip archive, whole or not at all.

    Args:
        archive: the zip file.
        member: name of the folder in it.
        target: the folder to be; nothing or an empty folder must be there.

    Returns:
        `target`.

    Raises:
        InputError: not a whole zip archive, a path in it that leads out of it, or no such folder in it.
    """
    with _open_zip(archive) as source, atomic_folder(target) as new:
        names = [info.filename for info in source.infolist() if not info.is_dir()]
        names = [name for name in names if name.startswith(f"{member}/")]
        if not names:
            raise InputError(f"{archive}: has no folder '{member}'; is it the right archive?")
        for name in tqdm(names, f"unpacking {archive.name}", leave=False, disable=None):
            _extract(source, name, new / name.removeprefix(f"{member}/"))
    return target


def unpack_file(archive: Path, member: str, target: Path) -> Path:
    """Unpack one file of a zip archive, whole or not at all; arguments and errors as of `unpack_folder`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    with _open_zip(archive) as source:
        if member not in source.namelist():
            raise InputError(f"{archive}: has no file '{member}'; is it the right archive?")
        _extract(source, member, new)
    return new.replace(target)


def _is_hopeless(error: Exception, attempt: int) -> bool:
    """Whether to give up at once: the server refuses, or nothing answers at the very first."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500
    return isinstance(error, urllib.error.URLError) and attempt == 0


def _fetch(remote: RemoteFile, part: Path) -> None:
    """Append what is missing of `part`, or write it anew where the server knows no ranges."""
    have = part.stat().st_size if part.is_file() else 0
    if have == remote.size:
        return
    have = have if have < remote.size else 0
    request = urllib.request.Request(remote.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _Interrupted(f"the server sent another range than from byte {have}")
        start = have if resumed else 0
        with part.open("ab" if resumed else "wb") as stream, _byte_bar(remote, start) as bar:
            while chunk := response.read(CHUNK_BYTES):
                stream.write(chunk)
                bar.update(len(chunk))
    if part.stat().st_size < remote.size:
        raise _Interrupted(f"the transfer broke off after {part.stat().st_size} of {remote.size} bytes")


def _byte_bar(remote: RemoteFile, start: int) -> tqdm:
    name = remote.url.rpartition("/")[2]
    return tqdm(desc=name, total=remote.size, initial=start, unit="B", unit_scale=True, disable=None)


def _verify(file: Path, remote: RemoteFile) -> None:
    """Compare size and digest with the published ones."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if (size, md5) != (remote.size, remote.md5):
        raise InputError(
            f"{file}: {size} bytes with MD5 {md5}, expected {remote.size} bytes with {remote.md5}, "
            f"as published for {remote.url}. Remove the file if it is still there, and try again."
        )


def _open_zip(archive: Path) -> zipfile.ZipFile:
    try:
        source = zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive}: not a whole zip archive ({error}). Remove it and try again.") from None
    for name in source.namelist():
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            source.close()
            raise InputError(f"{archive}: '{name}' leads out of the archive's folder; it is not unpacked.")
    return source


def _extract(source: zipfile.ZipFile, name: str, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open(name) as packed, target.open("wb") as stream:
            shutil.copyfileobj(packed, stream, CHUNK_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{source.filename}: '{name}' is damaged ({error}). Remove the archive.") from None
