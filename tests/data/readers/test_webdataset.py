"""Tar shards as a data set: which shards, labels, what is kept, each kind of bad input, and shards on a server."""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mlic.data import LabelTable, check_images, open_image, read_webdataset, tar_images
from mlic.data.images import full_check, quick_check
from mlic.data.readers import tar_shards
from mlic.data.readers.tar_shards import expand_braces, list_shards, read_shards
from mlic.data.tar_images import TarImage, read_tar_image
from mlic.errors import InputError
from mlic.features.hashing import hash_files

Pack = Callable[..., bytes]
Write = Callable[..., Path]
Member = bytes | str | tarfile.TarInfo


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 10), (shade, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


IMAGE = picture(0)
GOOD: dict[str, Member] = {
    "000.jpg": IMAGE, "000.txt": "dog|cat\n", "001.jpg": picture(50), "001.txt": "",
    "sub/002.png": picture(100), "sub/002.txt": "dog\nbird",
}  # fmt: skip


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Pack) -> Write:
    """A function (shard -> members) -> folder; the index is kept in a cache of its own."""
    monkeypatch.setenv("MLIC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "shards"
    folder.mkdir()

    def write(**members: Mapping[str, Member] | list[tuple[str, Member]] | bytes) -> Path:
        for name, content in members.items():
            (folder / f"{name}.tar").write_bytes(content if isinstance(content, bytes) else pack(content))
        return folder

    return write


def labels_of(table: LabelTable) -> dict[str, list[str]]:
    names = (
        [name for name, has in zip(table.classes, row, strict=True) if has] for row in table.labels.tolist()
    )
    return dict(zip(table.file_names.tolist(), names, strict=True))


def test_braces_are_those_of_a_shell(tmp_path: Path):
    assert [*expand_braces("x-{08..10}.tar")] == ["x-08.tar", "x-09.tar", "x-10.tar"]
    assert [*expand_braces("{a,b}/{1..2}")] == ["a/1", "a/2", "b/1", "b/2"]
    with pytest.raises(InputError, match="over 1,000,000 shards"):
        list_shards(tmp_path / "{0..99999}{0..99999}{0..99999}")


def test_folders_patterns_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def names(*places: str | Path) -> list[str]:
        return [*list_shards(places)[1].values()]

    for name in ("b-01.tar", "b-00.tar", "a.tar", "labels.csv", "sub/c.tar", "[1]/d.tar", "packed/a.tar.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    root, found = list_shards(tmp_path)
    assert root == str(tmp_path) and [*found.values()] == ["a.tar", "b-00.tar", "b-01.tar"]
    assert next(iter(found)) == str(tmp_path / "a.tar")
    assert names(tmp_path / "b-*.tar") == names(f"{tmp_path}/b-{{00..01}}.tar") == ["b-00.tar", "b-01.tar"]
    assert names(f"file://{tmp_path}/a.tar") == ["a.tar"] and names(tmp_path / "[1]" / "d.tar") == ["d.tar"]
    assert names(tmp_path / "a.tar", tmp_path / "sub") == ["a.tar", "sub/c.tar"]
    monkeypatch.chdir(tmp_path / "sub")
    assert names(".") == ["c.tar"] and names("../a.tar", "c.tar") == ["a.tar", "sub/c.tar"]
    for place, message in (
        (tmp_path / "none.tar", r"none\.tar: the shard cannot be read \(FileNotFoundError"),
        (tmp_path / "none", r"none' cannot be read \(FileNotFoundError"),
        (tmp_path / "packed", r"no tar shards in .*packed.*Decompress"),
        (tmp_path / "packed" / "a.tar.gz", r"no tar shards in .*a\.tar\.gz.*Decompress"),
        ("pipe:touch x.tar", "the shard cannot be read"),
        ([], "the list of tar shards is empty"),
    ):
        with pytest.raises(InputError, match=message):
            read_shards(place)
    assert not Path("x.tar").exists()


def test_images_are_read_as_files_are(shards: Write, tmp_path: Path):
    table = read_webdataset(shards(a=GOOD, b={"000.JPG": picture(9), "000.cls": "cat"}))
    assert labels_of(table) == {
        "a.tar/000.jpg": ["cat", "dog"], "a.tar/001.jpg": [], "a.tar/sub/002.png": ["bird", "dog"],
        "b.tar/000.JPG": ["cat"],
    }  # fmt: skip
    files = [tmp_path / name for name in ("0", "1", "2", "3")]
    members: Any = [GOOD["000.jpg"], GOOD["001.jpg"], GOOD["sub/002.png"], picture(9)]
    for reference, file, content in zip(table.paths(), files, members, strict=True):
        file.write_bytes(content)
        assert open_image(reference).tobytes() == open_image(file).tobytes()
        assert quick_check(reference) is full_check(reference) is None
    hashed = hash_files(table.paths(), tmp_path / "index")
    assert (hashed.digests == hash_files(files).digests).all()
    assert (hashed.num_read, hashed.bad) == (0, {})


@pytest.mark.parametrize(
    ("members", "options", "expected"),
    [
        ({"0.json": '{"tags": ["a", "b"], "width": 3}'}, {"label_key": "tags"}, ["a", "b"]),
        ({"0.json": '{"labels": [1, 0]}'}, {"classes": ["a", "b"]}, ["a", "b"]),
        ({"0.json": '{"labels": [7]}', "1.jpg": IMAGE, "1.json": '{"labels": []}'}, {}, ["7"]),
        ({"0.cls": "1"}, {"classes": ["b", "a"]}, ["a"]),
        ({"0.labels": "日本, ä"}, {"separator": ","}, ["ä", "日本"]),
        ({"0.txt": "a caption", "0.cls": "a"}, {"label_member": "cls"}, ["a"]),
    ],
)
def test_forms_of_labels(shards: Write, members: dict[str, Member], options: dict, expected: list[str]):
    table = read_webdataset(shards(a={"0.jpg": IMAGE, **members}), **options)
    assert labels_of(table)["a.tar/0.jpg"] == expected


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_forms_of_tar(shards: Write, pack: Pack, form: int):
    long = "folder/" * 12 + "x" * 90
    table = read_webdataset(shards(a=pack({f"./{long}.jpg": IMAGE, f"./{long}.txt": "a"}, form)))
    assert labels_of(table) == {f"a.tar/{long}.jpg": ["a"]}
    assert full_check(table.paths()[0]) is None


def test_a_shard_is_read_once_and_again_when_it_changes(
    shards: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, read = shards(a=GOOD, b={"0.jpg": picture(1), "0.txt": "dog"}), []
    scan = tar_shards._scan
    monkeypatch.setattr(tar_shards, "_scan", lambda *given: read.append(Path(given[1]).name) or scan(*given))
    image = [read_webdataset(folder).paths()[3] for _ in range(2)][1]
    assert sorted(read) == ["a.tar", "b.tar"]
    red = open_image(image).getpixel((0, 0))
    shards(b={"0.txt": "dog", "0.jpg": picture(200)})
    with pytest.raises(InputError, match=r"b.tar: '0.jpg' is not as it was indexed"):
        open_image(image)
    image = read_webdataset(folder).paths()[3]
    assert read[2:] == ["b.tar"] and open_image(image).getpixel((0, 0)) != red
    for index in (tmp_path / "cache").glob("webdataset/*.json"):
        index.write_bytes(index.read_bytes()[:100])
    assert read_webdataset(folder).paths()[3] == image and sorted(read[3:]) == ["a.tar", "b.tar"]


def link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


BAD: list[tuple[list[tuple[str, Member]], str]] = [
    ([("sub/../../x.jpg", b"1")], r"x.jpg: the name must be printable, relative and without '\.\.'"),
    ([("x.jpg", link("x.jpg"))], r"a.tar/x.jpg: not a regular file"),
    ([("x.jpg", IMAGE), ("x.jpg", picture(2)), ("x.txt", "a")], r"x.jpg: its sample has two images"),
    ([("x.jpg", IMAGE), ("x.txt", "a"), ("x.json", '{"labels": []}')], "labels in two members"),
    ([("x.jpg", IMAGE)], r"a.tar/x\.\*: expected one image and one member with labels \(\.json, "),
    ([("x.jpg", IMAGE), ("x.json", "[" * 100_000)], r"x.json: "),
    ([("x.jpg", IMAGE), ("x.json", "[1]")], r"x.json: "),
    ([("x.jpg", IMAGE), ("x.json", '{"labels": "dog"}')], r"x.json: 'labels' must be a list"),
    ([("x.jpg", IMAGE), ("x.txt", b"\xff\xfe")], r"x.txt: 'utf-8' codec"),
    ([("x.jpg", IMAGE), ("x.txt", b"x" * 5_000_000)], "not a regular file of at most 4,194,304 bytes"),
]


@pytest.mark.parametrize(("members", "message"), BAD)
def test_bad_samples_are_named_or_dropped(shards: Write, members: list, message: str):
    folder = shards(a=[*GOOD.items(), *members])
    for _ in range(2):  # also from the index
        with pytest.raises(InputError, match=message) as refusal:
            read_webdataset(folder)
        assert "data.on_bad_image=drop" in str(refusal.value)
    table = read_webdataset(folder, on_bad_sample="drop")
    assert table.file_names.tolist() == ["a.tar/000.jpg", "a.tar/001.jpg", "a.tar/sub/002.png"]


def test_damaged_shards_are_named_and_their_whole_samples_kept(
    shards: Write, pack: Pack, caplog: pytest.LogCaptureFixture
):
    whole = pack(GOOD)
    second, third = whole.index(b"001.jpg"), whole.index(b"sub/002.png")
    overwritten = whole[:second] + bytes([7]) * 512 + whole[second + 512 :]
    cut = [whole[:end] for end in (third + 700, third + 100, third)]
    for content, left in ((cut[0], 2), (cut[1], 2), (cut[2], 2), (overwritten, 1), (whole + whole, 3)):
        folder = shards(a=content)
        with pytest.raises(InputError, match=r"a.tar/.*damaged or truncated from here on"):
            read_webdataset(folder)
        assert len(read_webdataset(folder, on_bad_sample="drop")) == left
    for content in (b"", b"\x1f\x8b\x08" + bytes(600)):
        caplog.clear()
        with pytest.raises(InputError, match="no usable samples"):
            read_webdataset(shards(a=content), on_bad_sample="drop")
        assert "a.tar/: not a tar file" in caplog.text


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        ({}, {}, "the tar shards contain no usable samples"),
        ({"0.txt": ""}, {}, "no image in the tar shards has a label"),
        ({"0.txt": "['dog']\n"}, {}, r"a\.tar/0\.jpg: the labels \['dog'\] look like a JSON"),
        ({"0.txt": "bird"}, {"classes": ["dog", "cat"]}, r"a.tar/0.jpg: label 'bird' .* 2 classes: dog, cat"),
        ({"0.json": '{"labels": [2]}'}, {"classes": ["a", "b"]}, r"label '2' is not one of the 2 classes"),
    ],
)  # fmt: skip
def test_wrong_labels_and_options_are_refused(shards: Write, members: dict, options: dict, message: str):
    content = {"0.jpg": IMAGE, **members} if members else {}
    with pytest.raises(InputError, match=message):
        read_webdataset(shards(a=content), on_bad_sample="drop", **options)


def test_broken_images_are_found_while_indexing(shards: Write):
    images = {"0.jpg": IMAGE[:-30], "1.jpg": b"", "2.jpg": b"text", "3.jpg": IMAGE}
    labels = {f"{number}.txt": "a" for number in range(4)}
    table = read_webdataset(shards(a={**images, **labels}))
    reasons = {path.name: reason for path, reason in check_images(table.paths()).items()}
    assert reasons.keys() == {"0.jpg", "1.jpg", "2.jpg"}
    assert "truncated" in reasons["0.jpg"] and "not an image" in reasons["2.jpg"]
    assert reasons["1.jpg"] == "the file is empty (0 bytes)"


def test_labels_from_a_csv_file(shards: Write, tmp_path: Path):
    folder = shards(a={"0.jpg": IMAGE, "1.jpg": picture(1)}, b={"0.jpg": picture(2), "5.jpg": picture(5)})
    file = tmp_path / "labels.csv"
    file.write_text("file_name,labels\nb.tar/0.jpg,\n1.jpg,cat|dog\na.tar/0.jpg,dog\n")
    table = read_webdataset(folder, file)
    assert labels_of(table) == {"a.tar/0.jpg": ["dog"], "a.tar/1.jpg": ["cat", "dog"], "b.tar/0.jpg": []}
    assert full_check(table.paths()[0]) is None
    file.write_text("file_name,labels\n0.jpg,dog\na.tar/1.jpg,dog\n9.jpg,dog\n")
    with pytest.raises(InputError, match=r"2 file names are not in exactly one tar shard, such as 0.jpg"):
        read_webdataset(folder, file)


@pytest.fixture
def served(
    file_server: Any, shards: Write, tiny_images: Path, pack: Pack, monkeypatch: Any
) -> tuple[list[TarImage], list[bytes]]:
    """References and bytes of images in two shards on a server."""
    monkeypatch.setattr(tar_images, "PAUSE_SECONDS", 0)
    files = sorted(tiny_images.iterdir())[:6]
    for number in range(2):
        own = files[3 * number : 3 * (number + 1)]
        file_server.files[f"/set/{number}.tar"] = pack({file.name: file.read_bytes() for file in own})
    root, found = read_shards(f"{file_server.url}/set/{{0..1}}.tar")
    assert root == f"{file_server.url}/set"
    assert list(found)[3] == f"1.tar/{files[3].name}"
    return [image for image, _ in found.values()], [file.read_bytes() for file in files]


def test_each_image_is_a_range(served: Any, file_server: Any):
    references, contents = served
    file_server.requests.clear()
    file_server.failures = [503, 503]
    assert read_tar_image(references[4]) == contents[4]
    first, last = references[4].offset, references[4].offset + references[4].size - 1
    assert [asked for _, asked in file_server.requests] == [f"bytes={first}-{last}"] * 3
    file_server.ranges = False
    with pytest.raises(InputError, match=r"does not support range requests"):
        read_tar_image(references[4])
    # with another signature, the index is still that of the shard
    file_server.ranges = True
    file_server.requests.clear()
    file_server.files["/set/0.tar?sig=2"] = file_server.files["/set/0.tar"]
    (image, _), *_ = read_shards(f"{file_server.url}/set/0.tar?sig=2")[1].values()
    assert image[1:] == references[0][1:] and not file_server.requests


def test_a_changed_or_lost_shard_is_named(served: Any, file_server: Any):
    image = served[0][1]
    whole = file_server.files["/set/0.tar"]
    for changed in (whole.replace(b"\xff\xd8", b"\xff\xd7"), whole[: image.offset + 10]):
        file_server.files["/set/0.tar"] = changed
        with pytest.raises(InputError, match=rf"0.tar: '{image.name}' is not as it was indexed"):
            read_tar_image(image)
    del file_server.files["/set/0.tar"]
    with pytest.raises(InputError, match="the shard cannot be read"):
        read_tar_image(image)
