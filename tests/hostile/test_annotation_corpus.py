"""Annotation files as people and programs write them, and as nobody should: a table, or a refusal with its place."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from mlic.data import (
    LabelTable,
    read_coco,
    read_csv,
    read_imagefolder,
    read_imagesets,
    read_labelstudio,
    read_openimages,
    read_voc,
)
from mlic.errors import InputError

READERS: dict[str, Callable[..., LabelTable]] = {
    "labels.csv": read_csv, "instances.json": read_coco, "project.json": read_labelstudio,
    "a.xml": lambda file, images: read_voc(file.parent, images), "train-labels.csv": read_openimages,
    "metadata.jsonl": lambda file, images: read_imagefolder(images, file),
    "cat_train.txt": lambda file, images: read_imagesets(file.parent, images),
}  # fmt: skip
MANY = 100_000
ALIKE = ("K\u00e4lte", "Ka\u0308lte")  # the same letters composed and decomposed
VOC = "<annotation><filename>{}</filename><object><name>cat</name></object></annotation>"
OPEN = "ImageID,LabelName,Confidence\n"


def coco(**changes: Any) -> str:
    """Two images, two categories, one label each; `changes` replace sections, or append to them as `more_...`."""
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1}, {"image_id": 2, "category_id": 2}],
    }
    for key, value in changes.items():
        if key.startswith("more_"):
            content[key.removeprefix("more_")].append(value)
        else:
            content[key] = value
    return json.dumps(content)


def labelled(image: Any, category: Any, **more: Any) -> str:
    """COCO with a third annotation."""
    return coco(more_annotations={"image_id": image, "category_id": category, **more})


# the content of each kind of file with one image of that name
NAMED: dict[str, Callable[[str], str]] = {
    "labels.csv": lambda name: f"file_name,labels\nb.jpg,dog\n{name},cat\n",
    "instances.json": lambda name: coco(more_images={"id": 3, "file_name": name}),
    "project.json": lambda name: json.dumps([{"image": name, "c": {"choices": ["cat"]}}]),
    "a.xml": lambda name: VOC.format(escape(name)),
    "train-labels.csv": lambda name: f"{OPEN}{name},cat,1\n",
    "metadata.jsonl": lambda name: json.dumps({"file_name": name, "labels": ["cat"]}),
    "cat_train.txt": lambda name: f"{name} 1\n",
}
UNSAFE = (
    "sub/../../a.jpg", "/etc/passwd", "C:\\a.jpg", "..\\a.jpg", "\\\\host\\a", "file:///etc/passwd",
    "s3://bucket/a.jpg", "a\0.jpg", "\ud800.jpg",
)  # fmt: skip


def read(kind: str, content: bytes | str, folder: Path) -> LabelTable:
    (folder / kind).write_bytes(
        content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    )
    return READERS[kind](folder / kind, folder)


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
@pytest.mark.parametrize("kind", READERS)
def test_no_name_leaves_the_folder_or_is_an_address(kind: str, name: str, tmp_path: Path):
    if kind == "project.json":  # exports of Label Studio have addresses, whose last part is the name
        with suppress(InputError):
            assert not set(read(kind, NAMED[kind](name), tmp_path).file_names[0]) & set("/\\:\0")
        return
    with pytest.raises(InputError):
        read(kind, NAMED[kind](name), tmp_path)


@pytest.mark.parametrize(
    "content", [b"", "Kälte 1".encode("latin-1"), "[" * 200_000, "9" * 10_000, "[[1e999]]"]
)
@pytest.mark.parametrize("kind", READERS)
def test_other_content_is_refused(kind: str, content: bytes | str, tmp_path: Path):
    with pytest.raises(InputError):
        read(kind, content, tmp_path)


# content (bytes are taken as they are), and the table, the number of its classes, or a match for the message
Case = tuple[bytes | str, dict[str, set[str]] | int | str]
GOOD = {"a.jpg": {"cat"}, "b.jpg": {"dog"}}
CSV: dict[str, Case] = {
    "latin 1": ("file_name,labels\na.jpg,Kälte\n".encode("latin-1"), {"a.jpg": {"Kälte"}}),
    "another code page": ("file_name,labels\na.jpg,кошка\n".encode("cp1251"), "not UTF-8 text"),
    "an open quote": ('file_name,labels\na.jpg,"cat\nb.jpg,dog\n', r"line \d: malformed CSV"),
    "many columns": (f"file_name,{','.join(f'c{n}' for n in range(MANY))}\na.jpg{',1' * MANY}\n", MANY),
    "listed twice": ("file_name,labels\na.jpg,cat\n./a.jpg,dog|cat\n", "line 3: the labels of 'a.jpg'"),
    "an address": ("file_name,labels\nfile:///etc/passwd,cat\n", "line 2: 'file:///etc/passwd' is an address"),
    "escape in a label": ("file_name,labels\na.jpg,\x1b[31mcat\n", "has a control character"),
    "labels that look alike": (f"file_name,labels\na.jpg,{ALIKE[0]}\nb.jpg,{ALIKE[1]}\n", "differ only in case"),
}  # fmt: skip
COCO: dict[str, Case] = {
    "utf 16": (coco().encode("utf-16"), GOOD),
    "numbers for entries": (coco(more_annotations=7), r"annotations\[2\]: .*Expected COCO"),
    "duplicate image id": (coco(more_images={"id": 1, "file_name": "c.jpg"}), "id 1 is used for both"),
    "number as text": (labelled("1", 1), r"annotations\[2\]: KeyError.'1'"),
    "NaN": (labelled(float("nan"), 1), r"annotations\[2\]: .*nan"),
    "crowd mark as text": (labelled(1, 2, iscrowd="0"), r"annotations\[2\]: .*iscrowd 0 or 1"),
    "neighbours of large numbers": (
        coco(images=[{"id": 2**53, "file_name": "a.jpg"}, {"id": 2**53 + 1, "file_name": "b.jpg"}],
             annotations=[{"image_id": 2**53, "category_id": 1}, {"image_id": 2**53 + 1, "category_id": 2}]),
        GOOD,
    ),
    "many categories": (coco(categories=[{"id": n, "name": f"c{n}"} for n in range(MANY)]), MANY),
}  # fmt: skip
LAUGHS = "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 11))
XML: dict[str, Case] = {
    "utf 16": (VOC.format("a.jpg").encode("utf-16"), {"a.jpg": {"cat"}}),
    "a billion laughs": (f"<!DOCTYPE a [<!ENTITY a0 'ha'>{LAUGHS}]>{VOC.format('&a10;')}", "not valid XML"),
    "a file from elsewhere": (
        f"<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>{VOC.format('a&f;.jpg')}", "not valid XML"
    ),
    "nested too deep": ("<a>" * 100_000 + "</a>" * 100_000, "expected <annotation>|not valid XML"),
}  # fmt: skip
OTHERS: dict[str, Case] = {
    "confidence": (f"{OPEN}a,cat,nan\n", "Confidence is 'nan'; expected a number"),
    "too much confidence": (f"{OPEN}a,cat,1e9\n", "Confidence is '1e9'; expected a number"),
    "alike": (f"{OPEN}a,Cat,1\na,cat,0\n", "differ only in case"),
}
TABLES = {"labels.csv": CSV, "instances.json": COCO, "a.xml": XML, "train-labels.csv": OTHERS}
CASES = {f"{kind}: {name}": (kind, case) for kind, table in TABLES.items() for name, case in table.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_table_or_a_refusal_with_its_place(name: str, tmp_path: Path):
    kind, (content, outcome) = CASES[name]
    if isinstance(outcome, str):
        with pytest.raises(InputError, match=outcome):
            read(kind, content, tmp_path)
        return
    table = read(kind, content, tmp_path)
    if isinstance(outcome, int):
        assert len(table.classes) == outcome
        return
    assert outcome == {
        image: {label for label, bit in zip(table.classes, row, strict=True) if bit}
        for image, row in zip(table.file_names, table.labels, strict=True)
    }
