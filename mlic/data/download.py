"""Download files whose digest is known, and unpack archives whole or not at all."""

import http.client
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torchvision.datasets.utils import check_md5, download_url

from mlic.addresses import may_connect
from mlic.errors import InputError


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: address, and MD5 digest in hex as published."""

    url: str
    md5: str


def download(remote: RemoteFile, target: Path) -> Path:
    """Download to `target`, unless the right file is there.

    Args:
        remote: what to download.
        target: the file to be; one that was put there by hand is checked and used.

    Returns:
        `target`.

    Raises:
        InputError: no connection, or a file of another digest; the message says what to do.
    """
    if target.is_file():
        if not check_md5(target, remote.md5):
            raise InputError(
                f"{target}: its MD5 digest is not {remote.md5}, as published for {remote.url}. Remove the file, and "
                "try again."
            )
        return target
    if not may_connect():
        raise InputError(
            f"{remote.url} is not downloaded on the word of a run folder or checkpoint. If you trust it, name the "
            "data yourself, such as data=coco_val2017."
        )
    part = target.with_name(target.name + ".part")
    try:
        download_url(remote.url, target.parent, part.name, remote.md5)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{remote.url} cannot be downloaded: {error}. Try again when there is a connection, or get the file by "
            f"other means and put it at {target}."
        ) from error
    return part.rename(target)


def unpack(archive: Path, member: str, target: Path) -> Path:
    """Unpack one file or folder of a zip archive, whole or not at all.

    Args:
        archive: the zip file.
        member: name of the file or folder in it.
        target: where it shall be; nothing or an empty folder must be there.

    Returns:
        `target`.

    Raises:
        InputError: the archive is damaged or has no such member.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as new:
        try:
            with zipfile.ZipFile(archive) as source:
                for name in source.namelist():
                    if f"{name}/".startswith(f"{member}/"):
                        # takes '..' and drive letters out of names and makes no links: nothing is written elsewhere
                        source.extract(name, new)
            return (Path(new) / member).rename(target)
        # an entry below a file, or a member that is not there
        except (zipfile.BadZipFile, zlib.error, EOFError, NotADirectoryError, FileNotFoundError) as error:
            raise InputError(
                f"{archive}: '{member}' cannot be unpacked ({error}). Remove the archive, and try again."
            ) from error
