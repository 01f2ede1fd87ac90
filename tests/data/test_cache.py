from pathlib import Path

import pytest

from mlic.data import cache_dir
from mlic.data.cache import atomic_folder


def test_the_cache_is_found_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLIC_CACHE", "~/own")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / "own"
    monkeypatch.delenv("MLIC_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "mlic"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == tmp_path / "home" / ".cache" / "mlic"
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "data"
    with atomic_folder(target) as new:
        (new / "file").write_text("precious")
        assert not target.exists()
    assert target.stat().st_mode & 0o777 == 0o755

    def write(folder: Path, error: type[BaseException] | None = None) -> None:
        with atomic_folder(folder) as new:
            (new / "file").write_text("half")
            if error:
                raise error

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "other", KeyboardInterrupt)
    with pytest.raises(OSError, match="not empty"):
        write(target)
    assert (target / "file").read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target]
