"""Files that belong together take the places of the former ones together."""

from pathlib import Path

import pytest

from mlic.runs.folder import NEW, replacing_together


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_all_files_come_at_the_end_and_others_stay(tmp_path: Path):
    output = tmp_path / "out"
    (output / "tables").mkdir(parents=True)
    (output / "notes.txt").write_text("mine")
    (output / "tables" / "a.csv").write_text("old")
    (output / NEW / "left").mkdir(parents=True)  # by a kill
    before = content(output)
    with replacing_together(output) as new:
        (new / "tables").mkdir()
        (new / "tables" / "a.csv").write_text("new")
        (new / "index.html").write_text("new")
        assert {name: text for name, text in content(output).items() if not name.startswith(NEW)} == before
    assert content(output) == {"notes.txt": "mine", "tables/a.csv": "new", "index.html": "new"}
    assert not (output / NEW).exists()


def test_an_error_leaves_the_former_files(tmp_path: Path):
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(OSError, match="full"), replacing_together(tmp_path) as new:  # noqa: PT012
        (new / "a.csv").write_text("half")
        raise OSError("full")
    assert content(tmp_path) == {"a.csv": "old"} and not (tmp_path / NEW).exists()
