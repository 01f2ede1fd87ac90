"""Tar shards as a data set: labels, what is kept, and each kind of bad input."""

import io
import logging
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mlic.data import LabelTable, check_images, open_image, read_webdataset
from mlic.data.images import full_check, quick_check
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
        ({"0.cls": "1"}, {"classes": ["b", "a"]}, ["a"]),
        ({"0.labels": "日本, ä"}, {"separator": ","}, ["ä", "日本"]),
        ({"0.txt": "a caption", "0.cls": "a"}, {"label_member": "cls"}, ["a"]),
    ],
)
def test_forms_of_labels(shards: Write, members: dict[str, Member], options: dict, expected: list[str]):
    table = read_webdataset(shards(a={"0.jpg": IMAGE, **members}), **options)
    assert labels_of(table) == {"a.tar/0.jpg": expected}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_forms_of_tar(shards: Write, pack: Pack, form: int):
    long = "folder/" * 12 + "x" * 90
    table = read_webdataset(shards(a=pack({f"./{long}.jpg": IMAGE, f"./{long}.txt": "a"}, form)))
    assert labels_of(table) == {f"a.tar/{long}.jpg": ["a"]}
    assert full_check(table.paths()[0]) is None


def test_a_shard_is_read_once_and_again_when_it_changes(shards: Write, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    folder = shards(a=GOOD, b={"0.jpg": picture(1), "0.txt": "dog"})
    for expected in ("2 tar shards, 2 of them newly indexed", "2 tar shards, 0 of them newly indexed"):
        caplog.clear()
        image = read_webdataset(folder).paths()[3]
        assert expected in caplog.text
    red = open_image(image).getpixel((0, 0))
    shards(b={"0.txt": "dog", "0.jpg": picture(200)})
    with pytest.raises(InputError, match=r"b.tar: '0.jpg' has changed since"):
        open_image(image)
    image = read_webdataset(folder).paths()[3]
    assert "2 tar shards, 1 of them newly indexed" in caplog.text
    assert open_image(image).getpixel((0, 0)) != red
    (folder / "b.tar").unlink()
    with pytest.raises(InputError, match=r"b.tar: the shard cannot be read"):
        open_image(image)


def test_a_broken_index_is_made_again(shards: Write, tmp_path: Path):
    table = read_webdataset(shards(a=GOOD))
    (index,) = (tmp_path / "cache").glob("webdataset/*.json")
    for broken in (b"", index.read_bytes()[:100], b"{}", b"[[[1]], [], []]"):
        index.write_bytes(broken)
        assert labels_of(read_webdataset(shards())) == labels_of(table)


def link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


BAD: list[tuple[list[tuple[str, Member]], str]] = [
    ([("sub/../../x.jpg", b"1")], r"a.tar: sub/../../x.jpg: the name leads out of the shard"),
    ([("x.jpg", link("x.jpg"))], r"x.jpg: a link, device or sparse file"),
    ([("x.jpg", IMAGE), ("x.jpg", picture(2)), ("x.txt", "a")], r"x.jpg: the name occurs twice in the shard"),
    ([("x.jpg", IMAGE), ("x.png", picture(2)), ("x.txt", "a")], "2 images in one sample"),
    ([("x.jpg", IMAGE)], "x.jpg: no labels"),
    (
        [("x.jpg", IMAGE), ("x.txt", "a"), ("x.json", '{"labels": []}')],
        "choose one with data.reader.label_member",
    ),
    ([("x.jpg", IMAGE), ("x.json", "[" * 100_000)], r"x.json: malformed \("),
    ([("x.jpg", IMAGE), ("x.json", "[1]")], r"x.json: malformed \(TypeError.*data.reader.label_key"),
    ([("x.jpg", IMAGE), ("x.txt", b"\xff\xfe")], r"x.txt: malformed \(UnicodeDecodeError"),
    ([("x.jpg", IMAGE), ("x.txt", b"x" * 5_000_000)], "5000000 bytes, more than the limit"),
    ([("x\n.jpg", IMAGE)], "the name is not printable UTF-8"),
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


def test_a_shard_that_was_cut_off_is_named_and_its_whole_samples_kept(shards: Write, pack: Pack):
    whole = pack(GOOD)
    second, third = whole.index(b"001.jpg"), whole.index(b"sub/002.png")
    for end in (third + 700, third + 100, third):
        folder = shards(a=whole[:end])
        with pytest.raises(InputError, match=r"a.tar: .*cannot be read from here on: .*truncated"):
            read_webdataset(folder)
        assert len(read_webdataset(folder, on_bad_sample="drop")) == 2
    for content, message in (
        (whole[:second] + bytes([7]) * 512 + whole[second + 512 :], r"000.txt: .*damaged \(no tar header here\)"),
        (whole + whole, "data after the end mark"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            read_webdataset(shards(a=content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a.tar: the shard is empty \(0 bytes\)"),
        (b"\x1f\x8b\x08" + bytes(600), r"a.tar: a compressed tar, .*gunzip"),
        ({}, "the tar shards contain no usable samples"),
        ({"0.jpg": IMAGE, "0.txt": ""}, "no image in the tar shards has a label"),
        ({"0.jpg": IMAGE, "0.json": '{"labels": [1]}'}, r"a.tar/0.jpg: label 1 is a number"),
        ({"0.jpg": IMAGE, "0.txt": "['dog']\n"}, r"a\.tar/0\.jpg: the labels \['dog'\] look like a JSON"),
    ],
)  # fmt: skip
def test_useless_shards_are_refused_even_if_samples_may_be_dropped(shards: Write, content: Any, message: str):
    with pytest.raises(InputError, match=message):
        read_webdataset(shards(a=content), on_bad_sample="drop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["dog", "cat"]}, r"a.tar/sub/002.png: label 'bird' is not one of the 2 classes: dog, cat"),
        ({"classes": ["a", "a"]}, "data.reader.classes lists a class twice"),
        ({"label_member": "xml"}, "data.reader.label_member"),
    ],
)  # fmt: skip
def test_labels_and_options_must_be_among_those_there_are(shards: Write, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        read_webdataset(shards(a=GOOD), **options)


def test_a_class_number_must_be_one_of_the_classes(shards: Write):
    with pytest.raises(InputError, match=r"label 2 .* 2 classes"):
        read_webdataset(shards(a={"0.jpg": IMAGE, "0.json": '{"labels": [2]}'}), classes=["a", "b"])


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
    file.write_text("file_name,labels\na.tar/0.jpg,dog\n1.jpg,cat|dog\nb.tar/0.jpg,\n")
    table = read_webdataset(folder, file)
    assert labels_of(table) == {"a.tar/0.jpg": ["dog"], "a.tar/1.jpg": ["cat", "dog"], "b.tar/0.jpg": []}
    assert full_check(table.paths()[0]) is None
    file.write_text("file_name,labels\n0.jpg,dog\na.tar/1.jpg,dog\n9.jpg,dog\n")
    with pytest.raises(InputError, match=r"2 of 3 file names are not in exactly one tar shard: 0.jpg, 9.jpg"):
        read_webdataset(folder, file)


def test_combinations_are_refused(shards: Write):
    texts = ("cat", "cat, dog", "dog, cow", "cow, cat, dog")
    joined = {f"{row}.jpg": IMAGE for row in range(4)} | {
        f"{row}.txt": text for row, text in enumerate(texts)
    }
    with pytest.raises(
        InputError, match=r"3 of 4 class names are combinations .*data\.reader\.separator=','"
    ):
        read_webdataset(shards(a=joined))
    assert read_webdataset(shards(a=joined), separator=",").classes == ("cat", "cow", "dog")
