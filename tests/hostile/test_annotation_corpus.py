"""Annotation files as people and programs write them, and as nobody should: a table, or a refusal with its place."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlic.data import (
    read_coco,
    read_csv,
    read_imagefolder,
    read_imagesets,
    read_labelstudio,
    read_openimages,
    read_voc,
)
from mlic.errors import InputError

READERS = {
    "csv": read_csv, "json": read_coco, "xml": read_voc, "studio": read_labelstudio, "open": read_openimages,
    "jsonl": lambda file, images, **options: read_imagefolder(images, file, **options),
    "sets": lambda file, images, **options: read_imagesets(file.parent, images, **options),
}  # fmt: skip
FILES = {
    "studio": "project.json",
    "open": "train-labels.csv",
    "jsonl": "metadata.jsonl",
    "sets": "cat_train.txt",
}
MANY = 100_000
Table = dict[str, set[str]]
ALIKE = ("K\u00e4lte", "Ka\u0308lte")  # the same letters composed and decomposed


class Case(NamedTuple):
    """Content of the annotation file (bytes are taken as they are).

    The outcome is the table, the number of its classes, or a match for the message.
    """

    content: bytes | str
    outcome: Table | int | str
    options: Mapping[str, Any] = {}


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


def named(name: str) -> str:
    """COCO with a third image of that name."""
    return coco(more_images={"id": 3, "file_name": name})


GOOD: Table = {"a.jpg": {"cat"}, "b.jpg": {"dog"}}
LEAVES = "leaves the image folder"
CSV: dict[str, Case] = {
    "empty": Case(b"", "line 1: the header is ''"),
    "header alone": Case("file_name,labels\n", "no rows below the header"),
    "spaces and blank lines": Case("file_name , labels\n\n a.jpg , cat \n\nb.jpg,dog | \n", GOOD),
    "trailing commas": Case("file_name,labels,\na.jpg,cat,\n", {"a.jpg": {"cat"}}),
    "too few fields": Case("file_name,labels\na.jpg\n", "line 2: 1 fields, but the header has 2"),
    "latin 1": Case("file_name,labels\na.jpg,Kälte\n".encode("latin-1"), {"a.jpg": {"Kälte"}}),
    "another code page": Case("file_name,labels\na.jpg,кошка\n".encode("cp1251"), "not UTF-8 text"),
    "an open quote": Case('file_name,labels\na.jpg,"cat\nb.jpg,dog\n', r"line \d: malformed CSV"),
    "a huge field": Case(f"file_name,labels\na.jpg,{'c' * 200_000}\n", "line 2: malformed CSV"),
    "floats as bits": Case("file_name,cat,dog\na.jpg,1.0,0.0\nb.jpg, 0,1\n", GOOD),
    "nan as bits": Case("file_name,cat,dog\na.jpg,nan,0\n", "line 2: column 'cat' is 'nan'"),
    "many columns": Case(f"file_name,{','.join(f'c{n}' for n in range(MANY))}\na.jpg{',1' * MANY}\n", MANY),
    "many equal columns": Case(f"file_name{',c' * MANY}\na.jpg{',1' * MANY}\n", "each column needs its own name"),
    "listed twice": Case("file_name,labels\na.jpg,cat\nb.jpg,dog\na.jpg,cat\n", GOOD),
    "listed twice otherwise": Case("file_name,labels\na.jpg,cat\n./a.jpg,dog|cat\n", "line 3: the labels of 'a.jpg'"),
    "a step up": Case("file_name,labels\na..b.jpg,cat\nsub/../../a.jpg,cat\n", f"line 3: 'sub/../../a.jpg' {LEAVES}"),
    "absolute": Case("file_name,labels\n/etc/passwd,cat\n", f"line 2: '/etc/passwd' {LEAVES}"),
    "of windows": Case("file_name,labels\nC:\\a.jpg,cat\n", LEAVES),
    "a step up of windows": Case("file_name,labels\n..\\a.jpg,cat\n", LEAVES),
    "a server of windows": Case("file_name,labels\n\\\\host\\a,cat\n", LEAVES),
    "an address": Case("file_name,labels\nfile:///etc/passwd,cat\n", "line 2: 'file:///etc/passwd' is an address"),
    "NUL in a name": Case("file_name,labels\na\0.jpg,cat\n", r"line 2: the file name of the image is 'a\\x00.jpg'"),
    "escape in a label": Case("file_name,labels\na.jpg,\x1b[31mcat\n", "contains a control character"),
    "labels that look alike": Case(f"file_name,labels\na.jpg,{ALIKE[0]}\nb.jpg,{ALIKE[1]}\n", "differ only in case"),
    "right to left and joined": Case("file_name,labels\na.jpg,קטן|👩‍🚀\n", {"a.jpg": {"קטן", "👩‍🚀"}}),
    "code as a label": Case("file_name,labels\na.jpg,<script>|=cmd()\n", {"a.jpg": {"<script>", "=cmd()"}}),
    "not in the classes": Case("file_name,labels\na.jpg,cta\n", "label 'cta' is not", {"classes": ["cat", "dog"]}),
    "no label at all": Case("file_name,labels\na.jpg,\nb.jpg,\n", "no image has a label"),
}  # fmt: skip
COCO: dict[str, Case] = {
    "empty": Case(b"", "not valid JSON"),
    "utf 16": Case(coco().encode("utf-16"), GOOD),
    "a list": Case("[]", "images: TypeError.*Expected COCO"),
    "nested too deep": Case("[" * 200_000, "not valid JSON"),
    "a number of 10,000 digits": Case(coco()[:-1] + ', "info": ' + "9" * 10_000 + "}", "not valid JSON"),
    "numbers for entries": Case(coco(more_annotations=7), r"annotations\[2\]: .*Expected COCO"),
    "no images": Case(coco(images=[], annotations=[]), "no image has a label"),
    "duplicate image id": Case(coco(more_images={"id": 1, "file_name": "c.jpg"}), "id 1 is used for both"),
    "duplicate category": Case(coco(more_categories={"id": 3, "name": "cat"}), "two categories have the same name"),
    "unknown category": Case(labelled(1, 9), r"annotations\[2\]: KeyError.9"),
    "number as text": Case(labelled("1", 1), r"annotations\[2\]: KeyError.'1'"),
    "NaN": Case(labelled(float("nan"), 1), r"annotations\[2\]: .*nan"),
    "crowd mark as text": Case(labelled(1, 2, iscrowd="0"), r"annotations\[2\]: .*iscrowd 0 or 1"),
    "neighbours of large numbers": Case(
        coco(images=[{"id": 2**53, "file_name": "a.jpg"}, {"id": 2**53 + 1, "file_name": "b.jpg"}],
             annotations=[{"image_id": 2**53, "category_id": 1}, {"image_id": 2**53 + 1, "category_id": 2}]),
        GOOD,
    ),
    "a step up": Case(named("../c.jpg"), f"'../c.jpg' {LEAVES}"),
    "half a character": Case(named("\ud800.jpg"), "is not valid UTF-8 text"),
    "many categories": Case(coco(categories=[{"id": n, "name": f"c{n}"} for n in range(MANY)]), MANY),
}  # fmt: skip
VOC_FILE = "<annotation><filename>{}</filename><object><name>cat</name></object></annotation>"
LAUGHS = "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 11))
VOC: dict[str, Case] = {
    "utf 16": Case(VOC_FILE.format("a.jpg").encode("utf-16"), {"a.jpg": {"cat"}}),
    "empty": Case(b"", "not valid XML"),
    "many-byte encoding": Case('<?xml version="1.0" encoding="shift_jis"?><annotation/>', "not valid XML"),
    "a step up": Case(VOC_FILE.format("../a.jpg"), LEAVES),
    "a billion laughs": Case(f"<!DOCTYPE a [<!ENTITY a0 'ha'>{LAUGHS}]>{VOC_FILE.format('&a10;')}", "not valid XML"),
    "a file from elsewhere": Case(
        f"<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>{VOC_FILE.format('a&f;.jpg')}", "not valid XML"
    ),
    "nested too deep": Case("<a>" * 100_000 + "</a>" * 100_000, "expected <annotation>|not valid XML"),
    "object without a name": Case(VOC_FILE.replace("<name>cat</name>", ""), "an <object> with a <name>"),
}  # fmt: skip
DEEP, LONG = "[" * 200_000, "9" * 10_000
STUDIO: dict[str, Case] = {
    "empty": Case(b"", "not valid JSON"),
    "nested too deep": Case(DEEP, "not valid JSON"),
    "a number of 10,000 digits": Case(f"[{LONG}]", "not valid JSON"),
    "an address": Case('[{"image": "https://host/a.jpg", "c": {"choices": ["cat"]}}]', {"a.jpg": {"cat"}}),
    "a step up": Case('[{"image": "/data/local-files/?d=../../a.jpg", "c": {"choices": ["cat"]}}]', LEAVES),
    "of windows": Case('[{"image": "C:\\\\a.jpg", "c": {"choices": ["cat"]}}]', {"a.jpg": {"cat"}}),
    "classes of numbers": Case(
        '[{"image": "a.jpg", "c": {"choices": [1e999]}}]', "the class inf is not a text"
    ),
}
OPEN_HEADER = "ImageID,LabelName,Confidence\n"
OPEN: dict[str, Case] = {
    "empty": Case(b"", "not a CSV file"),
    "another header": Case("file_name,labels\na,cat\n", "the column ImageID"),
    "header alone": Case(OPEN_HEADER, "no image has a label"),
    "latin 1": Case(f"{OPEN_HEADER}a,Kälte,1\n".encode("latin-1"), "not a CSV file"),
    "confidence": Case(f"{OPEN_HEADER}a,cat,nan\n", "Confidence is 'nan'; expected a number"),
    "too much confidence": Case(f"{OPEN_HEADER}a,cat,1e9\n", "Confidence is '1e9'; expected a number"),
    "a step up": Case(f"{OPEN_HEADER}../a,cat,1\n", LEAVES),
    "an address": Case(f"{OPEN_HEADER}https://host/a,cat,1\n", "is an address"),
    "NUL in a name": Case(f"{OPEN_HEADER}a\0b,cat,1\n", "the file name of the image is|not a CSV file"),
    "alike": Case(f"{OPEN_HEADER}a,Cat,1\na,cat,0\n", "differ only in case"),
}
LINES: dict[str, Case] = {
    "empty": Case(b"", "the header is"),
    "latin 1": Case('{"file_name": "Kälte.jpg"}'.encode("latin-1"), "not UTF-8 text"),
    "nested too deep": Case(DEEP, "line 1: not valid JSON"),
    "a number of 10,000 digits": Case(LONG, "line 1: not valid JSON"),
    "a step up": Case('{"file_name": "../a.jpg", "labels": ["cat"]}', f"line 1: '../a.jpg' {LEAVES}"),
    "an address": Case('{"file_name": "s3://b/a.jpg", "labels": ["cat"]}', "is an address"),
    "half a character": Case('{"file_name": "\\ud800.jpg", "labels": ["cat"]}', "is not valid UTF-8 text"),
    "lists in lists": Case('{"file_name": "a.jpg", "labels": [["cat"]]}', "list"),
}
SETS: dict[str, Case] = {
    "empty": Case(b"", "no image has a label"),
    "latin 1": Case("Kälte 1".encode("latin-1"), "not UTF-8 text"),
    "an address": Case("https://host/a 1", "is an address"),
    "absolute": Case("/etc/passwd 1", LEAVES),
    "a huge mark": Case(f"a {LONG}", "expected an image and 1, -1 or 0"),
}
TABLES = {"csv": CSV, "json": COCO, "xml": VOC, "studio": STUDIO, "open": OPEN, "jsonl": LINES, "sets": SETS}
CASES = {f"{kind}: {name}": (kind, case) for kind, table in TABLES.items() for name, case in table.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_table_or_a_refusal_with_its_place(name: str, tmp_path: Path):
    kind, case = CASES[name]
    file = tmp_path / FILES.get(kind, f"labels.{kind}")
    file.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    annotations = tmp_path if kind == "xml" else file
    if isinstance(case.outcome, str):
        with pytest.raises(InputError, match=case.outcome) as refusal:
            READERS[kind](annotations, tmp_path, **case.options)
        assert len(str(refusal.value)) < 2000
        return
    table = READERS[kind](annotations, tmp_path, **case.options)
    if isinstance(case.outcome, int):
        assert len(table.classes) == case.outcome
        return
    assert case.outcome == {
        image: {label for label, bit in zip(table.classes, row, strict=True) if bit}
        for image, row in zip(table.file_names, table.labels, strict=True)
    }
