"""Annotation files and images made at random: a table or an InputError, pixels or a BadImageError, nothing else."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlic.data import LabelTable, read_coco, read_csv, read_voc, split_hash
from mlic.data.images import BadImageError, full_check, open_image, quick_check
from mlic.errors import InputError
from mlic.runs.reading import load_overrides

FUZZ = settings.get_profile("fuzz")
PIECES = st.sampled_from(
    ["file_name", "labels", ",", "\n", "\r\n", "\r", "|", '"', '""', "a.jpg", "b.jpg", "cat", "dog", "0", "1", "1.0",
     " ", "\0", "\ufeff", "..", "/", "\\", "./", "K\u00e4", "Ka\u0308", "\x1b", "file_name,labels\n", "file_name,cat\n"]
)  # fmt: skip
IDS = st.one_of(
    st.integers(), st.sampled_from([0, 1, 2, -1, 2**31, 2**53, 2**63, 2**64]), st.text(max_size=3), st.none(),
    st.booleans(), st.floats(),
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(["a.jpg", "./a.jpg", "a.jpg/", "../a.jpg", "/a", "b.jpg"]), st.text(max_size=8), IDS
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
COCO = st.fixed_dictionaries(
    {
        "images": st.lists(
            st.one_of(st.fixed_dictionaries({"id": IDS, "file_name": NAMES}), JSON), max_size=4
        )
        | JSON,
        "categories": st.lists(st.fixed_dictionaries({"id": IDS, "name": NAMES}) | JSON, max_size=4) | JSON,
        "annotations": st.lists(
            st.fixed_dictionaries({"image_id": IDS, "category_id": IDS}, optional={"iscrowd": IDS}) | JSON,
            max_size=5,
        )
        | JSON,
    }
)
# of the right form more often than not
LIKELY_COCO = st.builds(
    lambda ids, classes, pairs, crowd: {
        "images": [{"id": identity, "file_name": f"{row}.jpg"} for row, identity in enumerate(ids)],
        "categories": [{"id": identity, "name": f"c{row}"} for row, identity in enumerate(classes)],
        "annotations": [
            {"image_id": ids[one % len(ids)], "category_id": classes[two % len(classes)], "iscrowd": crowd}
            for one, two in pairs
        ],
    },
    st.lists(
        st.integers() | st.text(max_size=4),
        min_size=1,
        max_size=6,
        unique_by=lambda value: (type(value), value),
    ),
    st.lists(
        st.integers() | st.text(max_size=4),
        min_size=1,
        max_size=4,
        unique_by=lambda value: (type(value), value),
    ),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9),
    st.sampled_from([0, 1, False, True, None]),
)


def sound(table: LabelTable, folder: Path) -> None:
    """What every table must be, whatever it was read from."""
    assert len(set(table.file_names)) == len(table) and list(table.file_names) == sorted(table.file_names)
    assert len({str(path) for path in table.paths()}) == len(table), "two names of one file"
    assert table.labels.shape == (len(table), len(table.classes)) and table.labels.max(initial=0) <= 1
    for path in table.paths():
        assert folder.resolve() in (folder / str(path)).resolve().parents, path
    split_hash(table, test=0.1, val=0.1, seed=0)
    json.dumps([*table.classes, *table.file_names], ensure_ascii=False).encode()


def read(reader: Callable[..., LabelTable], file: Path, folder: Path, **options: Any) -> LabelTable | None:
    try:
        table = reader(file, folder, **options)
    except InputError:
        return None
    sound(table, folder)
    return table


@settings(FUZZ)
@given(content=st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60) | st.binary(max_size=60))
def test_csv(content: str | bytes, tmp_path: Path, tried: Callable[[], None]):
    tried()
    file = tmp_path / "labels.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    read(read_csv, file, tmp_path)
    read(read_csv, file, tmp_path, classes=["cat", "dog"])


@settings(FUZZ)
@given(content=COCO | LIKELY_COCO | JSON)
def test_coco(content: Any, tmp_path: Path, tried: Callable[[], None]):
    tried()
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    read(read_coco, file, tmp_path)
    read(read_coco, file, tmp_path, crowd="drop", unannotated="drop")


@settings(FUZZ)
@given(content=LIKELY_COCO)
def test_coco_labels_lie_where_the_file_says(
    content: dict[str, Any], tmp_path: Path, tried: Callable[[], None]
):
    tried()
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    table = read(read_coco, file, tmp_path)
    assert table is not None
    names = {(type(entry["id"]), entry["id"]): entry["file_name"] for entry in content["images"]}
    classes = {(type(entry["id"]), entry["id"]): entry["name"] for entry in content["categories"]}
    wanted = {
        (
            names[type(entry["image_id"]), entry["image_id"]],
            classes[type(entry["category_id"]), entry["category_id"]],
        )
        for entry in content["annotations"]
    }
    rows, columns = np.nonzero(table.labels)
    assert {(table.file_names[r], table.classes[c]) for r, c in zip(rows, columns, strict=True)} == wanted


XML = st.sampled_from(
    ["<annotation>", "</annotation>", "<filename>", "</filename>", "<object>", "</object>", "<name>", "</name>",
     "a.jpg", "cat", "<difficult>1</difficult>", "&amp;", "&x;", "<!DOCTYPE a [<!ENTITY x 'y'>]>", "\0",
     "<?xml version='1.0'?>", "<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>"]
)  # fmt: skip


@settings(FUZZ)
@given(content=st.lists(XML, max_size=14).map("".join) | st.text(max_size=50) | st.binary(max_size=50))
def test_voc(content: str | bytes, tmp_path: Path, tried: Callable[[], None]):
    tried()
    file = tmp_path / "a.xml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    read(read_voc, tmp_path, tmp_path)


def encoded(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


WHOLE = [
    encoded("JPEG"), encoded("JPEG", progressive=True), encoded("PNG"), encoded("GIF"), encoded("BMP"),
    encoded("TIFF"), encoded("TIFF", compression="tiff_lzw"), encoded("WEBP"), encoded("AVIF"), encoded("JPEG2000"),
    encoded("PPM"), encoded("TGA"), encoded("PCX"), encoded("ICO"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@settings(FUZZ)
@given(
    whole=st.sampled_from(WHOLE),
    changes=st.lists(st.tuples(st.integers(0, 2**20), st.binary(max_size=6)), max_size=6),
    cut=st.integers(0, 2**20),
)
def test_images(
    whole: bytes, changes: list[tuple[int, bytes]], cut: int, tmp_path: Path, tried: Callable[[], None]
):
    tried()
    content = bytearray(whole)
    for place, piece in changes:
        start = place % len(content)
        content[start : start + len(piece)] = piece
    path = tmp_path / "picture"
    path.write_bytes(content if cut % 3 else content[: cut % len(content)])
    try:
        image = open_image(path)
    except BadImageError as error:
        assert full_check(path) == error.reason
    else:
        assert image.mode == "RGB" and image.width and image.height and np.asarray(image).dtype == np.uint8
        assert quick_check(path) is None


@settings(FUZZ)
@given(
    text=st.text(max_size=60)
    | JSON.map(json.dumps)
    | st.lists(st.sampled_from("-: {}[]&*!|>'\"\n\t#%a?,"), max_size=30).map("".join)
)
def test_overrides(text: str, tried: Callable[[], None]):
    tried()
    try:
        found = load_overrides(text)
    except ValueError:
        return
    assert all(isinstance(item, str) for item in found)
