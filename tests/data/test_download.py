import zipfile
from pathlib import Path

from mlic.data.download import unpack

CONTENT = bytes(range(256)) * 1000


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_folder_is_unpacked_whole(tmp_path: Path):
    files = {"photos/a.jpg": b"1", "photos/sub/b.jpg": b"2", "photos/../../../evil": b"3", "photos2/c": b"4"}
    archive = make_zip(tmp_path / "a.zip", files)
    folder = unpack(archive, "photos", tmp_path / "inner" / "out")
    assert (folder / "a.jpg").read_bytes() == b"1" and (folder / "sub" / "b.jpg").read_bytes() == b"2"
    assert not (tmp_path / "evil").exists() and not (tmp_path.parent / "evil").exists()
    assert unpack(archive, "photos2/c", tmp_path / "new" / "c").read_bytes() == b"4"
