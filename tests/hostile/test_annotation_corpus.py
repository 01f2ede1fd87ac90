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
    "blank lines": Case("\n\n\n", "line 1: the header is ''"),
    "zero bytes inside": Case(bytes(300), "line 1: the header is"),
    "header alone": Case("file_name,labels\n", "no row below the header"),
    "byte order mark": Case("\ufefffile_name,labels\na.jpg,cat\nb.jpg,dog\n", GOOD),
    "windows lines": Case("file_name,labels\r\na.jpg,cat\r\nb.jpg,dog\r\n", GOOD),
    "old mac lines": Case("file_name,labels\ra.jpg,cat\rb.jpg,dog\r", GOOD),
    "no last line end": Case("file_name,labels\na.jpg,cat\nb.jpg,dog", GOOD),
    "blank lines between": Case("file_name,labels\n\na.jpg,cat\n\n\nb.jpg,dog\n\n", GOOD),
    "spaces": Case("file_name , labels\n a.jpg , cat \nb.jpg,dog | \n", GOOD),
    "trailing label separators": Case("file_name,labels\na.jpg,cat||\nb.jpg,|dog\n", GOOD),
    "a label twice": Case("file_name,labels\na.jpg,cat|cat\nb.jpg,dog\n", GOOD),
    "trailing commas": Case(
        "file_name,labels,\na.jpg,cat,\nb.jpg,dog,\n", "line 1: each column needs a name"
    ),
    "trailing comma in a row": Case(
        "file_name,labels\na.jpg,cat,\n", "line 2: 3 fields where the header has 2"
    ),
    "too few fields": Case("file_name,labels\na.jpg\n", "line 2: 1 fields where the header has 2"),
    "semicolons": Case("file_name;labels\na.jpg;cat\n", "expected 'file_name,labels' or"),
    "tabs": Case("file_name\tlabels\na.jpg\tcat\n", "expected 'file_name,labels' or"),
    "latin 1": Case("file_name,labels\na.jpg,Kälte\n".encode("latin-1"), "not UTF-8 text"),
    "utf 16": Case("file_name,labels\na.jpg,cat\n".encode("utf-16"), "not UTF-8 text"),
    "utf 16 without mark": Case("file_name,labels\na.jpg,cat\n".encode("utf-16-le"), "line 1: the header is"),
    "a picture": Case(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not UTF-8 text"),
    "an open quote": Case('file_name,labels\na.jpg,"cat\nb.jpg,dog\n', r"line \d: malformed CSV"),
    "a huge field": Case(f"file_name,labels\na.jpg,{'c' * 200_000}\n", "line 2: malformed CSV"),
    "numbers as labels": Case(
        "file_name,labels\na.jpg,1\nb.jpg,2|1.0\n", {"a.jpg": {"1"}, "b.jpg": {"2", "1.0"}}
    ),
    "floats as bits": Case("file_name,cat,dog\na.jpg,1.0,0.0\nb.jpg, 0,1\n", GOOD),
    "words as bits": Case(
        "file_name,cat,dog\na.jpg,TRUE,0\n", "line 2: column 'cat' is 'TRUE', expected 0 or 1"
    ),
    "scores as bits": Case(
        "file_name,cat,dog\na.jpg,0.7,0\n", "line 2: column 'cat' is '0.7', expected 0 or 1"
    ),
    "nan as bits": Case("file_name,cat,dog\na.jpg,nan,0\n", "line 2: column 'cat' is 'nan'"),
    "other digits": Case("file_name,cat,dog\na.jpg,\u0661,0\n", "line 2: column 'cat' is '\u0661'"),
    "a million columns": Case(
        f"file_name,{','.join(f'c{n}' for n in range(COLUMNS))}\na.jpg{',1' * COLUMNS}\n", f"^{COLUMNS}$"
    ),
    "a million equal columns": Case(f"file_name{',c' * COLUMNS}\n", "no row below the header"),
    "a million equal columns and a row": Case(
        f"file_name{',c' * COLUMNS}\na.jpg{',1' * COLUMNS}\n",
        r"line 1: each column needs a name of its own.*\['c'\]",
    ),
    "listed twice": Case("file_name,labels\na.jpg,cat\nb.jpg,dog\na.jpg,cat\n", GOOD),
    "listed twice otherwise": Case(
        "file_name,labels\na.jpg,cat\na.jpg,dog\n", "line 3: 'a.jpg' is listed with other"
    ),
    "the same place twice": Case(
        "file_name,labels\na.jpg,cat\n./a.jpg,dog\n", "line 3: 'a.jpg' is listed with other"
    ),
    "the same place with a slash": Case(
        "file_name,labels\na.jpg,cat\na.jpg/,dog\n", "line 3: 'a.jpg' is listed with"
    ),
    "the same place with a dot": Case(
        "file_name,labels\na.jpg,cat\na.jpg/.,dog\n", "line 3: 'a.jpg' is listed with"
    ),
    "a step up": Case("file_name,labels\n../a.jpg,cat\n", f"line 2: '../a.jpg' {LEAVES}"),
    "a step up inside": Case("file_name,labels\nsub/../../a.jpg,cat\n", LEAVES),
    "absolute": Case("file_name,labels\n/etc/passwd,cat\n", f"line 2: '/etc/passwd' {LEAVES}"),
    "of windows": Case("file_name,labels\nC:\\a.jpg,cat\n", LEAVES),
    "of a network": Case("file_name,labels\n\\\\host\\share\\a.jpg,cat\n", LEAVES),
    "an address": Case(
        "file_name,labels\nfile:///etc/passwd,cat\n", "line 2: 'file:///etc/passwd' is an address"
    ),
    "NUL in a name": Case(
        "file_name,labels\na\0.jpg,cat\n", r"line 2: the image's file name is 'a\\x00.jpg'"
    ),
    "NUL in a label": Case(
        "file_name,labels\na.jpg,c\0t\n", r"the class name 'c\\x00t' holds a control character"
    ),
    "escape in a label": Case("file_name,labels\na.jpg,\x1b[31mcat\n", "holds a control character"),
    "a line end in a label": Case('file_name,labels\na.jpg,"c\nat"\n', "holds a control character"),
    "no name": Case("file_name,labels\n,cat\n", "line 2: the image's file name is ''"),
    "labels that look alike": Case(
        f"file_name,labels\na.jpg,{ALIKE[0]}\nb.jpg,{ALIKE[1]}\n", "two classes look alike"
    ),
    "columns that look alike": Case(
        f"file_name,{ALIKE[0]},{ALIKE[1]}\na.jpg,1,0\n", "two classes look alike"
    ),
    "decomposed letters": Case(f"file_name,labels\na.jpg,{ALIKE[1]}\n", {"a.jpg": {ALIKE[1]}}),
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
    "byte order mark json": Case("\ufeff" + coco(), GOOD),
    "utf 16 json": Case(coco().encode("utf-16"), GOOD),
    "latin 1 json": Case('{"images": "Kälte"}'.encode("latin-1"), "not a JSON text file"),
    "cut json": Case(coco()[:60], r"line 1, column \d+: not valid JSON"),
    "two values": Case(coco() + coco(), "not valid JSON"),
    "a list": Case("[]", "no list 'images'"),
    "null": Case("null", "no list 'images'"),
    "nested too deep": Case("[" * 200_000, "not a JSON text file"),
    "nested too deep inside": Case(
        coco()[:-1] + ', "info": ' + '{"a":' * 100_000 + "1" + "}" * 100_001, "not a JSON text file"
    ),
    "a number of 10,000 digits": Case(
        coco()[:-1] + ', "info": ' + "9" * 10_000 + "}", "not a JSON text file"
    ),
    "a section twice": Case(coco()[:-1] + ', "annotations": []}', {"a.jpg": set(), "b.jpg": set()}),
    "section of another type": Case(coco(images={"1": "a.jpg"}), "no list 'images'"),
    "numbers for entries": Case(coco(more_annotations=7), r"annotations\[2\]: expected an object"),
    "no images": Case(coco(images=[], annotations=[]), "'images' is empty"),
    "duplicate image id": Case(
        coco(more_images={"id": 1, "file_name": "c.jpg"}), f"{THIRD}: id 1 was given to 'a.jpg'"
    ),
    "duplicate category id": Case(
        coco(more_categories={"id": 1, "name": "cow"}), r"categories\[2\]: id 1 is there twice"
    ),
    "duplicate category name": Case(
        coco(more_categories={"id": 3, "name": "cat"}), r"categories\[2\]: name 'cat' is there twice"
    ),
    "number and text of one name": Case(
        coco(categories=[{"id": 1, "name": 7}, {"id": 2, "name": "7"}]),
        r"categories\[1\]: name '7' is there twice",
    ),
    "unknown category": Case(
        coco(more_annotations={"image_id": 1, "category_id": 9}), "category_id 9 is not in"
    ),
    "unknown image": Case(coco(more_annotations={"image_id": 9, "category_id": 1}), "image_id 9 is not in"),
    "number as text": Case(
        coco(more_annotations={"image_id": "1", "category_id": 1}), "image_id '1' is not in"
    ),
    "number as a fraction": Case(
        coco(more_annotations={"image_id": 1.5, "category_id": 1}), r"'image_id' is 1\.5, expected"
    ),
    "NaN": Case(
        coco(more_annotations={"image_id": float("nan"), "category_id": 1}), "'image_id' is nan, expected"
    ),
    "truth as a number": Case(
        coco(more_annotations={"image_id": True, "category_id": 1}), "'image_id' is True, expected"
    ),
    "crowd mark as text": Case(
        coco(more_annotations={"image_id": 1, "category_id": 2, "iscrowd": "0"}),
        r"annotations\[2\]: 'iscrowd' is '0', expected 0 or 1",
    ),
    "crowd mark of two": Case(
        coco(more_annotations={"image_id": 1, "category_id": 2, "iscrowd": 2}), "'iscrowd' is 2, expected"
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
    "numbers beyond 64 bits": Case(
        coco(
            images=[{"id": 2**70, "file_name": "a.jpg"}, {"id": 2**70 + 1, "file_name": "b.jpg"}],
            annotations=[{"image_id": 2**70, "category_id": 1}, {"image_id": 2**70 + 1, "category_id": 2}],
        ),
        GOOD,
    ),
    "signed and unsigned numbers": Case(
        coco(
            images=[{"id": -1, "file_name": "a.jpg"}, {"id": 2**63 + 1, "file_name": "b.jpg"}],
            annotations=[{"image_id": -1, "category_id": 1}, {"image_id": 2**63 + 1, "category_id": 2}],
        ),
        GOOD,
    ),
    "unknown among large numbers": Case(
        coco(
            images=[{"id": 2**63, "file_name": "a.jpg"}],
            annotations=[{"image_id": 2**63 + 1, "category_id": 1}],
        ),
        "image_id 9223372036854775809 is not in",
    ),
    "step up json": Case(named("../c.jpg"), f"{THIRD}: '../c.jpg' {LEAVES}"),
    "absolute json": Case(named("/c.jpg"), f"{THIRD}: '/c.jpg' {LEAVES}"),
    "NUL json": Case(named("c\0.jpg"), f"{THIRD}: the image's file name is"),
    "a name of spaces": Case(named("  "), f"{THIRD}: the image's file name is '  '"),
    "half a character in a name": Case(named("\ud800.jpg"), f"{THIRD}: .* is no text; rename"),
    "a byte that is no text in a name": Case(named("\udcff.jpg"), f"{THIRD}: .* is no text; rename"),
    "half a character in a class": Case(
        coco(more_categories={"id": 3, "name": "\udc00"}), "categories: the class name .* no text"
    ),
    "empty class": Case(coco(more_categories={"id": 3, "name": ""}), "categories: a class has an empty name"),
    "control character in a class": Case(
        coco(more_categories={"id": 3, "name": "c\tow"}), "holds a control character"
    ),
    "classes that look alike": Case(
        coco(categories=[{"id": 1, "name": ALIKE[0]}, {"id": 2, "name": ALIKE[1]}]),
        "categories: two classes look alike",
    ),
    "200,000 categories": Case(
        coco(categories=[{"id": n, "name": f"c{n}"} for n in range(200_000)]), "^200000$"
    ),
}
VOC_OBJECT = "<object><name>cat</name></object>"
VOC: dict[str, Case] = {
    "plain xml": Case(f"<annotation><filename>a.jpg</filename>{VOC_OBJECT}</annotation>", {"a.jpg": {"cat"}}),
    "empty xml": Case(b"", "line 1, column 0: not valid XML"),
    "cut xml": Case("<annotation><filename>a.jpg</filename>", "not valid XML"),
    "utf 16 xml": Case(
        f"<annotation><filename>a.jpg</filename>{VOC_OBJECT}</annotation>".encode("utf-16"),
        {"a.jpg": {"cat"}},
    ),
    "unknown encoding": Case('<?xml version="1.0" encoding="klingon"?><annotation/>', "not valid XML"),
    "many-byte encoding": Case('<?xml version="1.0" encoding="shift_jis"?><annotation/>', "not valid XML"),
    "NUL xml": Case("<annotation>\0</annotation>", "not valid XML"),
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
    "another document": Case("<html><body/></html>", "expected <annotation> with a <filename>"),
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


def test_there_are_enough_of_them():
    assert len(CASES) >= 100
    print(f"{len(CASES)} annotation files")
