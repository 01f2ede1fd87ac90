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
from mlic.features import hash_files

Pack = Callable[..., bytes]
Member = bytes | str | tarfile.TarInfo


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 10), (shade, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


GOOD: dict[str, Member] = {
    "000.jpg": picture(0), "000.txt": "dog|cat\n", "001.jpg": picture(50), "001.txt": "",
    "sub/002.png": picture(100), "sub/002.txt": "dog\nbird",
}  # fmt: skip


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Pack) -> Callable[..., Path]:
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


def test_samples_of_all_shards(shards: Callable[..., Path], caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    table = read_webdataset(shards(a=GOOD, b={"000.JPG": picture(9), "000.cls": "cat"}))
    assert labels_of(table) == {
        "a.tar/000.jpg": ["cat", "dog"], "a.tar/001.jpg": [], "a.tar/sub/002.png": ["bird", "dog"],
        "b.tar/000.JPG": ["cat"],
    }  # fmt: skip
    assert "tar shards: 4 images, 3 classes; 1 images have no label" in caplog.text


def test_images_are_read_as_files_are(shards: Callable[..., Path], tmp_path: Path):
    table = read_webdataset(shards(a=GOOD))
    files = [tmp_path / name for name in ("0", "1", "2")]
    for file, member in zip(files, ("000.jpg", "001.jpg", "sub/002.png"), strict=True):
        content = GOOD[member]
        assert isinstance(content, bytes)
        file.write_bytes(content)
    hashed = hash_files(table.paths(), tmp_path / "index")
    assert (hashed.digests == hash_files(files).digests).all()
    assert (hashed.num_read, hashed.bad) == (0, {})
    for reference, file in zip(table.select([0, 1, 2]).paths(), files, strict=True):
        assert open_image(reference).tobytes() == open_image(file).tobytes()
        assert quick_check(reference) is full_check(reference) is None


@pytest.mark.parametrize(
    ("members", "options", "expected"),
    [
        ({"0.json": '{"labels": ["a", "b"], "width": 3}'}, {}, ["a", "b"]),
        ({"0.json": '{"tags": ["a"]}'}, {"label_key": "tags"}, ["a"]),
        ({"0.json": '{"labels": [1, 0]}'}, {"classes": ["a", "b"]}, ["a", "b"]),
        ({"0.cls": "1"}, {"classes": ["b", "a"]}, ["a"]),
        ({"0.cls": "1"}, {}, ["1"]),
        ({"0.labels": "b, a"}, {"separator": ","}, ["a", "b"]),
        ({"0.txt": "a caption", "0.cls": "a"}, {"label_member": "cls"}, ["a"]),
        ({"0.txt": "ä|日本"}, {}, ["ä", "日本"]),
    ],
)
def test_forms_of_labels(
    shards: Callable[..., Path], members: dict[str, Member], options: dict, expected: list[str]
):
    table = read_webdataset(shards(a={"0.jpg": picture(0), **members}), **options)
    assert labels_of(table) == {"a.tar/0.jpg": expected}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_forms_of_tar(shards: Callable[..., Path], pack: Pack, form: int):
    long = "folder/" * 12 + "x" * 90 if form != tarfile.USTAR_FORMAT else "folder/x"
    members: dict[str, Member] = {f"./{long}.jpg": picture(0), f"./{long}.txt": "a"}
    table = read_webdataset(shards(a=pack(members, form)))
    assert labels_of(table) == {f"a.tar/{long}.jpg": ["a"]}
    assert full_check(table.paths()[0]) is None


def test_a_shard_is_read_once_and_again_when_it_changes(
    shards: Callable[..., Path], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    folder = shards(a=GOOD, b={"0.jpg": picture(1), "0.txt": "dog"})
    for expected in ("2 tar shards, 2 of them read", "2 tar shards, 0 of them read"):
        caplog.clear()
        table = read_webdataset(folder)
        assert expected in caplog.text
    image = table.paths()[3]
    assert str(image) == f"{folder}/b.tar/0.jpg"
    red = open_image(image).getpixel((0, 0))
    shards(b={"0.txt": "dog", "0.jpg": picture(200)})
    with pytest.raises(InputError, match=r"b.tar: '0.jpg' has changed since.*Start again"):
        open_image(image)
    caplog.clear()
    image = read_webdataset(folder).paths()[3]
    assert "2 tar shards, 1 of them read" in caplog.text
    assert open_image(image).getpixel((0, 0)) != red
    (folder / "b.tar").unlink()
    with pytest.raises(InputError, match=r"b.tar: the shard cannot be read \(FileNotFoundError"):
        open_image(image)


def test_a_broken_index_is_made_again(shards: Callable[..., Path], tmp_path: Path):
    table = read_webdataset(shards(a=GOOD))
    (index,) = (tmp_path / "cache").glob("webdataset/*.json")
    whole = index.read_bytes()
    for broken in (b"", whole[:100], b"[]", b"{}", b"[[[1]], [], []]"):
        index.write_bytes(broken)
        assert labels_of(read_webdataset(shards())) == labels_of(table)


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


BAD: list[tuple[list[tuple[str, Member]], str]] = [
    ([("../x.jpg", b"1")], r"a.tar: ../x.jpg: the name leads out of the shard"),
    ([("sub/../../x.jpg", b"1")], "the name leads out of the shard"),
    ([("x.jpg", link("x.jpg", tarfile.SYMTYPE))], r"x.jpg: a link, device or sparse file; .*--dereference"),
    ([("x.jpg", picture(1)), ("x.jpg", picture(2)), ("x.txt", "a")], r"x.jpg: it is in the shard twice"),
    (
        [("x.jpg", picture(1)), ("x.png", picture(2)), ("x.txt", "a")],
        r"2 images in one sample \(x.jpg, x.png\)",
    ),
    ([("x.jpg", picture(1))], r"x.jpg: no labels; expected x.json or .cls or .txt or .labels beside it"),
    ([("x.txt", "a")], r"x.txt: labels without an image"),
    (
        [("x.jpg", picture(1)), ("x.txt", "a"), ("x.json", '{"labels": []}')],
        "choose one by data.reader.label_member",
    ),
    ([("x.jpg", picture(1)), ("x.json", "[" * 100_000)], r"x.json: malformed \("),
    ([("x.jpg", picture(1)), ("x.json", "[1]")], r"x.json: malformed \(TypeError.*data.reader.label_key"),
    ([("x.jpg", picture(1)), ("x.json", '{"labels": "dog"}')], "'dog' is not such a list"),
    ([("x.jpg", picture(1)), ("x.txt", b"\xff\xfe")], r"x.txt: malformed \(UnicodeDecodeError"),
    ([("x.jpg", picture(1)), ("x.txt", b"x" * 5_000_000)], "5000000 bytes, more than the limit"),
    ([("x\n.jpg", picture(1))], "the name is not printable UTF-8"),
]


@pytest.mark.parametrize(("members", "message"), BAD)
def test_bad_samples_are_named_or_dropped(
    shards: Callable[..., Path],
    members: list[tuple[str, Member]],
    message: str,
    caplog: pytest.LogCaptureFixture,
):
    folder = shards(a=[*GOOD.items(), *members])
    for _ in range(2):  # also from the index
        with pytest.raises(InputError, match=message) as refusal:
            read_webdataset(folder)
        assert "data.on_bad_image=drop" in str(refusal.value)
    table = read_webdataset(folder, on_bad_sample="drop")
    assert table.file_names.tolist() == ["a.tar/000.jpg", "a.tar/001.jpg", "a.tar/sub/002.png"]
    assert "their samples are left out" in caplog.text


def test_a_shard_that_was_cut_off_is_named_and_its_whole_samples_kept(
    shards: Callable[..., Path], pack: Pack
):
    whole = pack(GOOD)
    second, third = whole.index(b"001.jpg"), whole.index(b"sub/002.png")
    for end in (third + 700, third + 100, third):
        folder = shards(a=whole[:end])
        with pytest.raises(InputError, match=r"a.tar: .*cannot be read from here on: .*cut off"):
            read_webdataset(folder)
        assert len(read_webdataset(folder, on_bad_sample="drop")) == 2
    folder = shards(a=whole[:second] + bytes([7]) * 512 + whole[second + 512 :])
    with pytest.raises(InputError, match=r"a.tar: 000.txt: .*damaged \(no tar header here\)"):
        read_webdataset(folder)
    with pytest.raises(InputError, match=r"a.tar: the shard: more follows behind the end mark \(joined tars"):
        read_webdataset(shards(a=whole + whole))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a.tar: the shard is empty \(0 bytes\)"),
        (b"no tar" * 200, r"a.tar: not a tar file"),
        (b"PK\x03\x04", r"a.tar: not a tar file"),
        (b"\x1f\x8b\x08" + bytes(600), r"a.tar: a compressed tar, .*gunzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), r"a.tar: a compressed tar"),
        ({}, "the tar shards hold no usable sample. Expected images such as 000123.jpg"),
        ({"0.jpg": picture(0), "0.txt": ""}, "no image of the tar shards has a label"),
        ({"0.jpg": picture(0), "0.json": '{"labels": [1]}'}, r"a.tar/0.jpg: label 1 is a number; .*classes"),
    ],
)
def test_useless_shards_are_refused_even_if_samples_may_be_dropped(
    shards: Callable[..., Path], content: bytes | dict[str, Member], message: str
):
    with pytest.raises(InputError, match=message):
        read_webdataset(shards(a=content), on_bad_sample="drop")


def test_labels_must_be_among_the_classes(shards: Callable[..., Path]):
    folder = shards(a=GOOD)
    with pytest.raises(
        InputError, match=r"a.tar/sub/002.png: label 'bird' is not one of the 2 classes: dog, cat"
    ):
        read_webdataset(folder, classes=["dog", "cat"])
    shards(a={"0.jpg": picture(0), "0.cls": "2"})
    with pytest.raises(
        InputError, match=r"a.tar/0.jpg: label 2 is not one of the 2 classes, which count from 0"
    ):
        read_webdataset(folder, classes=["dog", "cat"])
    refused: list[tuple[dict[str, Any], str]] = [
        ({"classes": ["a", "a"]}, "data.reader.classes: a class is named twice"),
        ({"separator": ""}, "data.reader.separator is empty"),
        ({"label_member": "xml"}, "data.reader.label_member: must be one of auto, json"),
        ({"on_bad_sample": "keep"}, "data.reader.on_bad_sample: must be one of error, drop"),
    ]
    for options, message in refused:
        with pytest.raises(InputError, match=message):
            read_webdataset(folder, **options)


def test_broken_images_are_found_while_indexing(shards: Callable[..., Path]):
    members = {
        "0.jpg": picture(0)[:-30],
        "0.txt": "a",
        "1.jpg": b"",
        "1.txt": "a",
        "2.jpg": b"text",
        "2.txt": "a",
    }
    table = read_webdataset(shards(a={**members, "3.jpg": picture(3), "3.txt": "a"}))
    reasons = {path.name: reason for path, reason in check_images(table.paths()).items()}
    assert reasons.keys() == {"0.jpg", "1.jpg", "2.jpg"}
    assert "truncated" in reasons["0.jpg"]
    assert reasons["1.jpg"] == "the file is empty (0 bytes)"
    assert "not an image" in reasons["2.jpg"]
    assert len(check_images(table.paths(), full=True)) == 3


def test_labels_from_a_csv_file(shards: Callable[..., Path], tmp_path: Path):
    folder = shards(
        a={"0.jpg": picture(0), "1.jpg": picture(1)}, b={"0.jpg": picture(2), "5.jpg": picture(5)}
    )
    file = tmp_path / "labels.csv"
    file.write_text("file_name,labels\na.tar/0.jpg,dog\n1.jpg,cat|dog\nb.tar/0.jpg,\n")
    table = read_webdataset(folder, file)
    assert labels_of(table) == {"a.tar/0.jpg": ["dog"], "a.tar/1.jpg": ["cat", "dog"], "b.tar/0.jpg": []}
    assert full_check(table.paths()[0]) is None
    file.write_text("file_name,labels\n0.jpg,dog\na.tar/1.jpg,dog\n9.jpg,dog\n")
    message = r"2 of 3 file names are in no tar shard, or in several: 0.jpg, 9.jpg. .*a.tar/0.jpg"
    with pytest.raises(InputError, match=message):
        read_webdataset(folder, file)


def test_lists_and_combinations_in_texts_are_refused(shards: Callable[..., Path]):
    with pytest.raises(InputError, match=r"a\.tar/000\.jpg: the labels are \['dog'\], a list or an object"):
        read_webdataset(shards(a={"000.jpg": picture(0), "000.txt": "['dog']\n"}))
    labels = ("cat", "cat, dog", "dog, cow", "cow, cat, dog")
    joined = {
        f"{row}.{end}": part
        for row, text in enumerate(labels)
        for end, part in (("jpg", picture(row)), ("txt", text))
    }
    with pytest.raises(
        InputError, match=r"3 of 4 class names are combinations .*data\.reader\.separator=','"
    ):
        read_webdataset(shards(a=joined))
    assert read_webdataset(shards(a=joined), separator=",").classes == ("cat", "cow", "dog")
