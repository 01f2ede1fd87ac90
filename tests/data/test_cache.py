from pathlib import Path

import pytest

from mlic.data import cache_dir
from mlic.data.cache import atomic_folder


def test_the_cache_is_found_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLIC_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("MLIC_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "mlic"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == tmp_path / "home" / ".cache" / "mlic"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / "home" / ".cache" / "mlic"
    monkeypatch.setenv("MLIC_CACHE", "~/somewhere")
    assert cache_dir() == tmp_path / "home" / "somewhere"
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "data"
    with atomic_folder(target) as new:
        (new / "file").write_text("content")
        assert not target.exists()
    assert (target / "file").read_text() == "content"
    assert target.stat().st_mode & 0o777 == 0o755

    def break_off() -> None:
        with atomic_folder(tmp_path / "other") as new:
            (new / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_with_files_is_not_replaced(tmp_path: Path):
    target = tmp_path / "data"
    target.mkdir()
    (target / "mine").write_text("precious")
    with pytest.raises(OSError, match="not empty"), atomic_folder(target):
        pass
    assert (target / "mine").read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target]
