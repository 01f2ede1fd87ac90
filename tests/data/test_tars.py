"""Which shards are meant, and images read out of shards on a server by ranges."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlic.data.tars import images
from mlic.data.tars.images import TarImage, read_tar_image
from mlic.data.tars.index import read_shards
from mlic.data.tars.listing import expand_braces, list_shards
from mlic.errors import InputError

Served = tuple[list[TarImage], list[bytes]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for inner in ("sub", "[1]", "empty", "packed"):
        (tmp_path / inner).mkdir()
    for name in ("b-01.tar", "b-00.tar", "a.tar", "labels.csv", "sub/c.tar", "[1]/d.tar", "packed/a.tar.gz"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(*places: str | Path) -> list[str]:
    return [shard.name for shard in list_shards(places)[1]]


def test_braces_are_those_of_a_shell():
    assert expand_braces("x-{08..10}.tar") == ["x-08.tar", "x-09.tar", "x-10.tar"]
    assert expand_braces("{a,b}/{2..1}") == ["a/2", "a/1", "b/2", "b/1"]
    for text, message in (("{a}", r"'\{a\}' in '\{a\}'"), ("{0..9999999}", "more than 1,000,000")):
        with pytest.raises(InputError, match=message):
            expand_braces(text)


def test_folders_patterns_and_files(folder: Path, monkeypatch: pytest.MonkeyPatch):
    root, shards = list_shards(folder)
    assert (root, [shard.name for shard in shards]) == (str(folder), ["a.tar", "b-00.tar", "b-01.tar"])
    assert shards[0].url == str(folder / "a.tar") and shards[0].state["size"] == "1"
    assert names(folder / "b-*.tar") == names(f"{folder}/b-{{00..01}}.tar") == ["b-00.tar", "b-01.tar"]
    assert names(f"file://{folder}/a.tar") == ["a.tar"] and names(folder / "[1]" / "d.tar") == ["d.tar"]
    assert names(folder / "a.tar", folder / "sub") == ["a.tar", "sub/c.tar"]
    monkeypatch.chdir(folder)
    assert names("sub") == ["c.tar"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none.tar", r"'.*none.tar' does not exist"),
        ("empty", r"no tar shards in .*empty"),
        ("pipe:cat x.tar", "commands are not supported"),
        ("packed", r"packed/a.tar.gz: a compressed tar.*gunzip"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, place: str, message: str):
    with pytest.raises(InputError, match=message):
        list_shards(place if ":" in place else folder / place)


@pytest.fixture
def served(
    file_server: Any, tiny_images: Path, pack: Callable[..., bytes], monkeypatch: Any, tmp_path: Path
) -> Served:
    """References and bytes of images in two shards on a server."""
    monkeypatch.setenv("MLIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "PAUSE_SECONDS", 0)
    files = sorted(tiny_images.iterdir())[:6]
    for number in range(2):
        own = files[3 * number : 3 * (number + 1)]
        file_server.files[f"/set/{number}.tar"] = pack({file.name: file.read_bytes() for file in own})
    root, found, _ = read_shards(f"{file_server.url}/set/{{0..1}}.tar")
    assert root == f"{file_server.url}/set"
    assert list(found)[3] == f"1.tar/{files[3].name}"
    return list(found.values()), [file.read_bytes() for file in files]


def test_each_image_is_a_range(served: Served, file_server: Any):
    references, contents = served
    file_server.requests.clear()
    file_server.failures = [503, 503]
    assert read_tar_image(references[4]) == contents[4]
    first, last = references[4].offset, references[4].offset + references[4].size - 1
    assert [asked for _, asked in file_server.requests] == [f"bytes={first}-{last}"] * 3
    file_server.ranges = False
    with pytest.raises(InputError, match=r"the server sent \d+ bytes instead of"):
        read_tar_image(references[4])


def test_a_changed_or_lost_shard_is_named(served: Served, file_server: Any):
    image = served[0][1]
    whole = file_server.files["/set/0.tar"]
    for changed in (whole.replace(b"\xff\xd8", b"\xff\xd7"), whole[: image.offset + 10]):
        file_server.files["/set/0.tar"] = changed
        with pytest.raises(InputError, match=rf"0.tar: '{image.name}' has changed since"):
            read_tar_image(image)
    del file_server.files["/set/0.tar"]
    with pytest.raises(InputError, match="the shard cannot be read"):
        read_tar_image(image)
