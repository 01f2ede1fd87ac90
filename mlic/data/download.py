"""Downloads of files with known digests, and atomic unpacking of archives."""

import http.client
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torchvision.datasets.utils import check_md5, download_url

from mlic.addresses import may_connect
from mlic.errors import InputError


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its address and its published MD5 digest in hex."""

    url: str
    md5: str


def download(remote: RemoteFile, target: Path) -> Path:
    """Download a file to `target`, unless it is already there.

    Args:
        remote: address and digest of the file.
        target: path of the downloaded file; an existing file is checked and used.

    Returns:
        `target`.

    Raises:
        InputError: the download failed or the digest differs; the message says what to do.
    """
    if target.is_file():
        if not check_md5(target, remote.md5):
            raise InputError(
                f"{target}: the MD5 digest is not {remote.md5}, the one of {remote.url}. Remove the file and "
                "try again."
            )
        return target
    if not may_connect():
        raise InputError(
            f"{remote.url} is not downloaded, because the address comes from a run folder or checkpoint. If you "
            "trust it, specify the data on the command line, such as data=coco_val2017."
        )
    part = target.with_name(target.name + ".part")
    try:
        download_url(remote.url, target.parent, part.name, remote.md5)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{remote.url} cannot be downloaded: {error}. Check the connection and try again, or get the file by "
            f"other means and save it as {target}."
        ) from error
    return part.rename(target)


def unpack(archive: Path, member: str, target: Path) -> Path:
    """Unpack one file or folder of a zip archive atomically.

    Args:
        archive: zip file whose digest was checked.
        member: name of the file or folder in the archive.
        target: destination; must not exist or be an empty folder.

    Returns:
        `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as new,
        zipfile.ZipFile(archive) as source,
    ):
        for name in source.namelist():
            if f"{name}/".startswith(f"{member}/"):
                # removes '..' and drive letters from names and makes no links: nothing is written elsewhere
                source.extract(name, new)
        return (Path(new) / member).rename(target)
