import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlic.data.download import RemoteFile, download, unpack_file, unpack_folder
from mlic.errors import InputError

CONTENT = np.random.default_rng(0).bytes(3_000_000)


def remote(server: Any, content: bytes = CONTENT, path: str = "/file.zip") -> RemoteFile:
    server.files.setdefault(path, content)
    return RemoteFile(f"{server.url}{path}", len(content), hashlib.md5(content).hexdigest())


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_file_is_downloaded_once(file_server: Any, tmp_path: Path):
    target = tmp_path / "new" / "file.zip"
    assert download(remote(file_server), target) == target
    assert target.read_bytes() == CONTENT
    assert download(remote(file_server), target) == target
    assert file_server.requests == [("/file.zip", None)]
    assert [path.name for path in target.parent.iterdir()] == ["file.zip"]


def test_an_interrupted_transfer_goes_on_where_it_broke_off(file_server: Any, tmp_path: Path):
    file_server.break_after = [1_000_000, 500_000]
    download(remote(file_server), tmp_path / "file.zip", pause_seconds=0)
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert file_server.requests == [
        ("/file.zip", None),
        ("/file.zip", "bytes=1000000-"),
        ("/file.zip", "bytes=1500000-"),
    ]
    assert file_server.sent == [1_000_000, 500_000, 1_500_000]


def test_a_later_call_goes_on_too(file_server: Any, tmp_path: Path):
    file_server.break_after = [1_200_000]
    with pytest.raises(InputError, match="broke off after 1200000 of 3000000 bytes"):
        download(remote(file_server), tmp_path / "file.zip", attempts=1)
    assert [path.name for path in tmp_path.iterdir()] == ["file.zip.part"]
    download(remote(file_server), tmp_path / "file.zip", attempts=1)
    assert file_server.requests[-1] == ("/file.zip", "bytes=1200000-")
    assert file_server.sent == [1_200_000, 1_800_000]
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_all_again(file_server: Any, tmp_path: Path):
    file_server.ranges, file_server.break_after = False, [1_000_000]
    download(remote(file_server), tmp_path / "file.zip", pause_seconds=0)
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert file_server.sent == [1_000_000, 3_000_000]


def test_another_range_than_asked_for_is_not_appended(file_server: Any, tmp_path: Path):
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
    file_server.wrong_range = True
    with pytest.raises(InputError, match="another range than from byte 1000"):
        download(remote(file_server), tmp_path / "file.zip", attempts=2, pause_seconds=0)
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:1000]


def test_a_whole_part_is_only_checked_and_one_too_long_begun_anew(file_server: Any, tmp_path: Path):
    part = tmp_path / "file.zip.part"
    part.write_bytes(CONTENT)
    download(remote(file_server), tmp_path / "file.zip")
    assert file_server.requests == []
    part.write_bytes(CONTENT + b"more")
    (tmp_path / "file.zip").unlink()
    download(remote(file_server), tmp_path / "file.zip")
    assert file_server.requests == [("/file.zip", None)]
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_not_kept(file_server: Any, tmp_path: Path):
    wanted = remote(file_server)
    file_server.files["/file.zip"] = bytes(len(CONTENT))
    with pytest.raises(InputError, match=rf"with MD5 \w+, expected 3000000 bytes with {wanted.md5}"):
        download(wanted, tmp_path / "file.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_put_by_hand_is_refused_and_kept(file_server: Any, tmp_path: Path):
    target = tmp_path / "file.zip"
    target.write_bytes(b"another")
    with pytest.raises(InputError, match=r"file.zip: 7 bytes with MD5"):
        download(remote(file_server), target)
    assert target.read_bytes() == b"another"


def test_trouble_of_the_server_is_sat_out_and_refusals_are_not(file_server: Any, tmp_path: Path):
    file_server.failures = [503]
    download(remote(file_server), tmp_path / "file.zip", pause_seconds=0)
    assert len(file_server.requests) == 2
    missing = RemoteFile(f"{file_server.url}/none.zip", 1, "")
    with pytest.raises(InputError, match=r"none.zip cannot be downloaded: HTTP Error 404") as refusal:
        download(missing, tmp_path / "none.zip")
    assert len(file_server.requests) == 3
    assert f"put it at {tmp_path / 'none.zip'}" in str(refusal.value)


def test_no_network_is_told_at_once(closed_address: str, tmp_path: Path):
    with pytest.raises(InputError, match=r"cannot be downloaded: .*Connection refused.*Try again when"):
        download(RemoteFile(f"{closed_address}/file.zip", 1, ""), tmp_path / "file.zip", pause_seconds=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_unpacked_whole(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"photos/a.jpg": b"1", "photos/sub/b.jpg": b"2", "else/c": b"3"})
    folder = unpack_folder(archive, "photos", tmp_path / "out")
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert found == {"a.jpg": b"1", "sub/b.jpg": b"2"}
    assert unpack_file(archive, "else/c", tmp_path / "new" / "c").read_bytes() == b"3"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["c"]


@pytest.mark.parametrize("name", ["../evil", "photos/../../evil", "/evil", "C:/evil", "photos\\..\\..\\evil"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str):
    archive = make_zip(tmp_path / "a.zip", {"photos/a.jpg": b"1", name: b"evil"})
    for unpack in (unpack_folder, unpack_file):
        with pytest.raises(InputError, match="leads out of the archive's folder; it is not unpacked"):
            unpack(archive, "photos", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["a.zip"]


def test_broken_archives_leave_nothing(tmp_path: Path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("photos/a.jpg", b"whole")
        archive.writestr("photos/b.jpg", b"damaged")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(stream.getvalue().replace(b"damaged", b"dAmaged", 1))
    with pytest.raises(InputError, match=r"broken.zip: 'photos/b.jpg' is damaged .*Bad CRC"):
        unpack_folder(broken, "photos", tmp_path / "out")
    with pytest.raises(InputError, match=r"broken.zip: has no folder 'none'"):
        unpack_folder(broken, "none", tmp_path / "out")
    with pytest.raises(InputError, match=r"broken.zip: has no file 'none'"):
        unpack_file(broken, "none", tmp_path / "none")
    broken.write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"broken.zip: not a whole zip archive"):
        unpack_folder(broken, "photos", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [broken]
