"""Which shards are meant."""

from pathlib import Path

import fsspec
import pytest

from mlic import addresses
from mlic.errors import InputError
from mlic.tars.listing import expand_braces, list_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("b-01.tar", "b-00.tar", "a.tar", "labels.csv", "sub/c.tar"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(*places: str | Path) -> list[str]:
    return [shard.name for shard in list_shards(places)[1]]


def test_braces_are_those_of_a_shell():
    assert expand_braces("a") == ["a"]
    assert expand_braces("x-{08..10}.tar") == ["x-08.tar", "x-09.tar", "x-10.tar"]
    assert expand_braces("{2..0}") == ["2", "1", "0"]
    assert expand_braces("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]
    for text, message in (
        ("{a}", r"'\{a\}' in '\{a\}'; expected"),
        ("{0..9999999}", "more than 1,000,000 shards"),
    ):
        with pytest.raises(InputError, match=message):
            expand_braces(text)


def test_folders_patterns_and_files(folder: Path, monkeypatch: pytest.MonkeyPatch):
    root, shards = list_shards(folder)
    assert (root, [shard.name for shard in shards]) == (str(folder)[1:], ["a.tar", "b-00.tar", "b-01.tar"])
    assert shards[0].url == str(folder / "a.tar") and shards[0].state["size"] == "1"
    assert names(folder / "b-*.tar") == names(f"{folder}/b-{{00..01}}.tar") == ["b-00.tar", "b-01.tar"]
    assert names(folder / "**/*.tar") == ["a.tar", "b-00.tar", "b-01.tar", "sub/c.tar"]
    assert names(folder / "a.tar") == names(f"file://{folder}/a.tar") == ["a.tar"]
    assert names(folder / "a.tar", folder / "sub") == ["a.tar", "sub/c.tar"]
    assert names(folder / "sub", folder / "sub" / "c.tar") == ["c.tar"]
    monkeypatch.chdir(folder)
    assert names("sub") == ["c.tar"]


def test_a_name_with_the_characters_of_a_pattern_is_a_name(tmp_path: Path):
    (tmp_path / "[1]").mkdir()
    (tmp_path / "[1]" / "a.tar").write_bytes(b"x")
    assert names(tmp_path / "[1]" / "a.tar") == ["a.tar"]


def test_a_shard_in_memory_changes_its_state(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(addresses, "PROTOCOLS", ("memory",))
    system = fsspec.filesystem("memory")
    system.pipe("/listing/a.tar", b"1")
    root, (shard,) = list_shards("memory://listing/*.tar")
    assert (root, shard.name) == ("memory:/listing", "a.tar")
    assert system.cat_file(shard.url) == b"1"
    system.pipe("/listing/a.tar", b"12")
    assert list_shards("memory://listing")[1][0].state != shard.state


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none.tar", r"there is no '.*none.tar'. data.images must be tar shards"),
        ("none", r"there is no '.*none'"),
        ("*.zip", r"no tar shard in .*zip"),
        ("empty", r"no tar shard in .*empty"),
        ("pipe:cat x.tar", "commands are not run"),
        ("nosuch://x/a.tar", r"'nosuch://x/a.tar' is not opened: an address must begin with one of file://"),
        ("packed", r"packed/a.tar.gz: a compressed tar.*gunzip"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, place: str, message: str):
    (folder / "empty").mkdir()
    (folder / "packed").mkdir()
    (folder / "packed" / "a.tar.gz").write_bytes(b"x")
    with pytest.raises(InputError, match=message):
        list_shards(place if ":" in place else folder / place)
