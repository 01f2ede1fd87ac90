import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mlic.data.download import RemoteFile, download, unpack
from mlic.errors import InputError

CONTENT = bytes(range(256)) * 1000


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_file_is_downloaded_once_and_checked(file_server: Any, tmp_path: Path):
    file_server.files["/file.zip"] = CONTENT
    remote = RemoteFile(f"{file_server.url}/file.zip", hashlib.md5(CONTENT).hexdigest())
    target = tmp_path / "new" / "file.zip"
    assert download(remote, target).read_bytes() == CONTENT
    requests = len(file_server.requests)
    assert download(remote, target) == target
    assert len(file_server.requests) == requests
    target.write_bytes(b"put there by hand")
    with pytest.raises(InputError, match=r"file.zip: the MD5 digest is not"):
        download(remote, target)
    assert target.read_bytes() == b"put there by hand"
    target.unlink()
    file_server.files["/file.zip"] = bytes(len(CONTENT))
    for url in (remote.url, f"{file_server.url}/none.zip"):
        with pytest.raises(InputError, match=rf"cannot be downloaded: .* save it as {target}"):
            download(RemoteFile(url, remote.md5), target)
    assert list(target.parent.iterdir()) == []


def test_a_folder_is_unpacked_whole(tmp_path: Path):
    files = {"photos/a.jpg": b"1", "photos/sub/b.jpg": b"2", "photos/../../../evil": b"3", "photos2/c": b"4"}
    archive = make_zip(tmp_path / "a.zip", files)
    folder = unpack(archive, "photos", tmp_path / "inner" / "out")
    assert (folder / "a.jpg").read_bytes() == b"1" and (folder / "sub" / "b.jpg").read_bytes() == b"2"
    assert not (tmp_path / "evil").exists() and not (tmp_path.parent / "evil").exists()
    assert unpack(archive, "photos2/c", tmp_path / "new" / "c").read_bytes() == b"4"
