"""Annotation files as people and programs write them, and as nobody should: a table, or a refusal with its place."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlic.data import read_coco, read_csv, read_voc
from mlic.errors import InputError

READERS = {"csv": read_csv, "json": read_coco, "xml": read_voc}
COLUMNS = 1_000_000
Table = dict[str, set[str]]
ALIKE = ("K\u00e4lte", "Ka\u0308lte")  # the same letters composed and decomposed


class Case(NamedTuple):
    """Content of the annotation file (bytes are taken as they are) and the table, or a match for the message."""

    content: bytes | str
    outcome: Table | str
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


def named(name: str) -> str:
    """COCO with a third image of that name."""
    return coco(more_images={"id": 3, "file_name": name})


GOOD: Table = {"a.jpg": {"cat"}, "b.jpg": {"dog"}}
THIRD = "images\\[2\\]"
LEAVES = "leaves the image folder"
CSV: dict[str, Case] = {
    "empty": Case(b"", "line 1: the header is ''"),
    "header alone": Case("file_name,labels\n", "no rows below the header"),
    "byte order mark": Case("\ufefffile_name,labels\na.jpg,cat\nb.jpg,dog\n", GOOD),
    "blank lines between": Case("file_name,labels\n\na.jpg,cat\n\n\nb.jpg,dog\n\n", GOOD),
    "spaces": Case("file_name , labels\n a.jpg , cat \nb.jpg,dog | \n", GOOD),
    "trailing commas": Case(
        "file_name,labels,\na.jpg,cat,\nb.jpg,dog,\n", "line 1: each column needs its own name"
    ),
    "too few fields": Case("file_name,labels\na.jpg\n", "line 2: 1 fields, but the header has 2"),
    "semicolons": Case("file_name;labels\na.jpg;cat\n", "expected 'file_name,labels' or"),
    "latin 1": Case("file_name,labels\na.jpg,Kälte\n".encode("latin-1"), "not UTF-8 text"),
    "an open quote": Case('file_name,labels\na.jpg,"cat\nb.jpg,dog\n', r"line \d: malformed CSV"),
    "a huge field": Case(f"file_name,labels\na.jpg,{'c' * 200_000}\n", "line 2: malformed CSV"),
    "floats as bits": Case("file_name,cat,dog\na.jpg,1.0,0.0\nb.jpg, 0,1\n", GOOD),
    "nan as bits": Case("file_name,cat,dog\na.jpg,nan,0\n", "line 2: column 'cat' is 'nan'"),
    "a million columns": Case(
        f"file_name,{','.join(f'c{n}' for n in range(COLUMNS))}\na.jpg{',1' * COLUMNS}\n", f"^{COLUMNS}$"
    ),
    "a million equal columns and a row": Case(
        f"file_name{',c' * COLUMNS}\na.jpg{',1' * COLUMNS}\n",
        r"line 1: each column needs its own name.*\['c'\]",
    ),
    "listed twice": Case("file_name,labels\na.jpg,cat\nb.jpg,dog\na.jpg,cat\n", GOOD),
    "listed twice otherwise": Case(
        "file_name,labels\na.jpg,cat\na.jpg,dog\n", "line 3: the labels of 'a.jpg' differ"
    ),
    "the same place twice": Case(
        "file_name,labels\na.jpg,cat\n./a.jpg,dog\n", "line 3: the labels of 'a.jpg' differ"
    ),
    "a step up": Case("file_name,labels\n../a.jpg,cat\n", f"line 2: '../a.jpg' {LEAVES}"),
    "absolute": Case("file_name,labels\n/etc/passwd,cat\n", f"line 2: '/etc/passwd' {LEAVES}"),
    "of windows": Case("file_name,labels\nC:\\a.jpg,cat\n", LEAVES),
    "an address": Case(
        "file_name,labels\nfile:///etc/passwd,cat\n", "line 2: 'file:///etc/passwd' is an address"
    ),
    "NUL in a name": Case(
        "file_name,labels\na\0.jpg,cat\n", r"line 2: the file name of the image is 'a\\x00.jpg'"
    ),
    "NUL in a label": Case(
        "file_name,labels\na.jpg,c\0t\n", r"the class name 'c\\x00t' contains a control character"
    ),
    "escape in a label": Case("file_name,labels\na.jpg,\x1b[31mcat\n", "contains a control character"),
    "labels that look alike": Case(
        f"file_name,labels\na.jpg,{ALIKE[0]}\nb.jpg,{ALIKE[1]}\n", "two classes look alike"
    ),
    "right to left and joined": Case("file_name,labels\na.jpg,קטן|👩‍🚀\n", {"a.jpg": {"קטן", "👩‍🚀"}}),
    "code as a label": Case("file_name,labels\na.jpg,<script>|=cmd()\n", {"a.jpg": {"<script>", "=cmd()"}}),
    "label not in the classes": Case(
        "file_name,labels\na.jpg,cta\n",
        "line 2: label 'cta' is not one of the 2 classes: cat, dog",
        {"classes": ["cat", "dog"]},
    ),
    "a class given twice": Case(
        "file_name,labels\na.jpg,cat\n", "more than once: 'cat'", {"classes": ["cat", "cat"]}
    ),
    "no label at all": Case("file_name,labels\na.jpg,\nb.jpg,\n", "no image has a label"),
}
COCO: dict[str, Case] = {
    "empty file": Case(b"", "line 1, column 1: not valid JSON"),
    "utf 16 json": Case(coco().encode("utf-16"), GOOD),
    "cut json": Case(coco()[:60], r"line 1, column \d+: not valid JSON"),
    "a list": Case("[]", "the list 'images' is missing"),
    "nested too deep": Case("[" * 200_000, "not a JSON text file"),
    "a number of 10,000 digits": Case(
        coco()[:-1] + ', "info": ' + "9" * 10_000 + "}", "not a JSON text file"
    ),
    "numbers for entries": Case(coco(more_annotations=7), r"annotations\[2\]: expected a JSON object"),
    "no images": Case(coco(images=[], annotations=[]), "'images' is empty"),
    "duplicate image id": Case(
        coco(more_images={"id": 1, "file_name": "c.jpg"}), f"{THIRD}: id 1 is used for both 'a.jpg'"
    ),
    "duplicate category name": Case(
        coco(more_categories={"id": 3, "name": "cat"}), r"categories\[2\]: name 'cat' occurs twice"
    ),
    "unknown category": Case(
        coco(more_annotations={"image_id": 1, "category_id": 9}), "category_id 9 is not in"
    ),
    "unknown image": Case(coco(more_annotations={"image_id": 9, "category_id": 1}), "image_id 9 is not in"),
    "number as text": Case(
        coco(more_annotations={"image_id": "1", "category_id": 1}), "image_id '1' is not in"
    ),
    "NaN": Case(
        coco(more_annotations={"image_id": float("nan"), "category_id": 1}), "'image_id' is nan, expected"
    ),
    "crowd mark as text": Case(
        coco(more_annotations={"image_id": 1, "category_id": 2, "iscrowd": "0"}),
        r"annotations\[2\]: 'iscrowd' is '0', expected 0 or 1",
    ),
    "neighbours of large numbers": Case(
        coco(
            images=[
                {"id": 2**53, "file_name": "a.jpg"},
                {"id": 2**53 + 1, "file_name": "b.jpg"},
                {"id": -1, "file_name": "c.jpg"},
            ],
            annotations=[{"image_id": 2**53, "category_id": 1}, {"image_id": 2**53 + 1, "category_id": 2}],
        ),
        {**GOOD, "c.jpg": set()},
    ),
    "step up json": Case(named("../c.jpg"), f"{THIRD}: '../c.jpg' {LEAVES}"),
    "half a character in a name": Case(named("\ud800.jpg"), f"{THIRD}: .* is not valid UTF-8 text; rename"),
    "half a character in a class": Case(
        coco(more_categories={"id": 3, "name": "\udc00"}), "categories: the class name .* not valid text"
    ),
    "200,000 categories": Case(
        coco(categories=[{"id": n, "name": f"c{n}"} for n in range(200_000)]), "^200000$"
    ),
}
VOC_OBJECT = "<object><name>cat</name></object>"
VOC: dict[str, Case] = {
    "plain xml": Case(f"<annotation><filename>a.jpg</filename>{VOC_OBJECT}</annotation>", {"a.jpg": {"cat"}}),
    "empty xml": Case(b"", "line 1, column 0: not valid XML"),
    "utf 16 xml": Case(
        f"<annotation><filename>a.jpg</filename>{VOC_OBJECT}</annotation>".encode("utf-16"),
        {"a.jpg": {"cat"}},
    ),
    "many-byte encoding": Case('<?xml version="1.0" encoding="shift_jis"?><annotation/>', "not valid XML"),
    "step up xml": Case(f"<annotation><filename>../a.jpg</filename>{VOC_OBJECT}</annotation>", LEAVES),
    "a billion laughs": Case(
        "<!DOCTYPE a [<!ENTITY a0 'ha'>"
        + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 11))
        + f"]><annotation><filename>&a10;</filename>{VOC_OBJECT}</annotation>",
        "not valid XML",
    ),
    "a file from elsewhere": Case(
        f"<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><annotation><filename>a&f;.jpg</filename>{VOC_OBJECT}</annotation>",
        "not valid XML",
    ),
    "nested too deep xml": Case("<a>" * 100_000 + "</a>" * 100_000, "expected <annotation>|not valid XML"),
    "object without a name": Case(
        "<annotation><filename>a.jpg</filename><object/></annotation>", "object 1 has no <name>"
    ),
}
CASES = {
    f"{kind}: {name}": (kind, case)
    for kind, table in (("csv", CSV), ("json", COCO), ("xml", VOC))
    for name, case in table.items()
}


@pytest.mark.parametrize("name", CASES)
def test_a_table_or_a_refusal_with_its_place(name: str, tmp_path: Path):
    kind, case = CASES[name]
    file = tmp_path / f"labels.{kind}"
    file.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    annotations = tmp_path if kind == "xml" else file
    if isinstance(case.outcome, dict):
        table = READERS[kind](annotations, tmp_path, **case.options)
        found = {
            image: {label for label, bit in zip(table.classes, row, strict=True) if bit}
            for image, row in zip(table.file_names, table.labels, strict=True)
        }
        assert found == case.outcome
    elif re.fullmatch(r"\^\d+\$", case.outcome):
        assert re.match(case.outcome, str(len(READERS[kind](annotations, tmp_path).classes)))
    else:
        with pytest.raises(InputError, match=case.outcome) as refusal:
            READERS[kind](annotations, tmp_path, **case.options)
        assert len(str(refusal.value)) < 2000
