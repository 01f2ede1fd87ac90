import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlic.data import LabelTable, read_csv
from mlic.errors import InputError


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., LabelTable]:
    """A function (text of a CSV file, options) -> table."""

    def read(text: str, **options: Any) -> LabelTable:
        file = tmp_path / "labels.csv"
        file.write_bytes(text.encode())
        return read_csv(file, tmp_path, **options)

    return read


def test_both_forms_give_the_same_table(tiny_csv: tuple[Path, Path], tiny_bits: tuple[Path, Path]):
    joined, bits = read_csv(*tiny_csv), read_csv(*tiny_bits)
    assert joined.classes == bits.classes == ("circle", "cross", "square", "triangle")
    np.testing.assert_array_equal(joined.labels, bits.labels)
    np.testing.assert_array_equal(joined.file_names, bits.file_names)
    assert joined.counts().tolist() == [18, 18, 36, 18]


def test_separator_spaces_quotes_byte_order_mark_and_line_ends(read: Callable[..., LabelTable]):
    table = read('\ufefffile_name,labels\r\nb.jpg,"dog, small; cat"\r\n\r\n./sub//a.jpg,\r\n', separator=";")
    assert table.classes == ("cat", "dog, small")
    assert table.file_names.tolist() == ["b.jpg", "sub/a.jpg"]
    assert table.labels.tolist() == [[1, 1], [0, 0]]


def test_given_classes_are_kept_even_without_images(read: Callable[..., LabelTable]):
    for text in ("file_name,labels\na.jpg,dog\n", "file_name,dog\na.jpg,1\n"):
        table = read(text, classes=["dog", "bird"])
        assert (table.classes, table.labels.tolist()) == (("bird", "dog"), [[0, 1]])


def test_missing_places_are_named(read: Callable[..., LabelTable], tmp_path: Path):
    with pytest.raises(InputError, match=r"none.csv: no such file. data.annotations must be a CSV file"):
        read_csv(tmp_path / "none.csv", tmp_path)
    with pytest.raises(InputError, match="separator is empty"):
        read("file_name,labels\na.jpg,dog\n", separator="")
    with pytest.raises(InputError, match=r"photos: no such folder. data.images must be"):
        read_csv(tmp_path / "labels.csv", tmp_path / "photos")


def joined_file(rows: list[list[str]], separator: str) -> str:
    lines = [f'{row:03d}.jpg,"{separator.join(names)}"' for row, names in enumerate(rows)]
    return "\n".join(["file_name,labels", *lines])


@pytest.mark.parametrize("separator", [", ", "\t", " & "])
def test_names_that_another_separator_joins_are_refused(separator: str, read: Callable[..., LabelTable]):
    rows = ["cat", "dog", "cat dog", "person dog", "person car cat", "car dog", "", "person car"]
    text = joined_file([row.split() for row in rows], separator)
    shown = r"\t" if separator == "\t" else separator.strip()
    with pytest.raises(InputError, match="5 of 7 class names are combinations of others") as refusal:
        read(text)
    assert f"\"data.reader.separator='{shown}'\"" in str(refusal.value)
    assert read(text, separator=shown).classes == ("car", "cat", "dog", "person")
    if separator != "\t":  # which no name may hold; others are names if the user says so
        given = [separator.join(row.split()) for row in rows if row]
        assert len(read(text, classes=given).classes) == 7


@pytest.mark.parametrize(
    "names", [["blue bus", "blue car", "red bus", "red car"], ["cat", "cat, dog", "dog", "horse"]]
)
def test_names_of_several_words_are_left_alone(names: list[str], read: Callable[..., LabelTable]):
    assert read(joined_file([[name] for name in names], "|")).classes == tuple(names)


def test_photographs_joined_by_commas_are_refused(coco_data: Path, read: Callable[..., LabelTable]):
    text = (coco_data / "labels.csv").read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"of 631 class names are combinations .*separator=','"):
        read(re.sub(",(.*)", lambda found: f',"{found[1]}"', text).replace("|", ", "))


@pytest.mark.parametrize("cell", ['"[""car"", ""cat""]"', "[]"])
def test_lists_in_cells_are_refused(cell: str, read: Callable[..., LabelTable]):
    with pytest.raises(InputError, match=r"line 3: the labels \[.*JSON or Python.* Expected .* car\|cat"):
        read(f"file_name,labels\na.jpg,dog\nb.jpg,{cell}\n")


@pytest.mark.parametrize(
    ("header", "cells", "message"),
    [
        ("cat,is_valid,Unnamed: 0", "1,0,0", r"ignore_columns=\[\"is_valid\",\"Unnamed: 0\"\]"),
        ("cat,patient,Age Years", "1,p7,40", r"'patient' is 'p7'; .*ignore_columns=\[\"patient\",\"Age Years\"\]"),
        ("labels,is_valid", "cat,0", r"columns beside 'labels': is_valid\. .*ignore_columns=\[is_valid\]"),
    ],
)  # fmt: skip
def test_columns_that_are_not_classes_are_asked_about(
    header: str, cells: str, message: str, read: Callable[..., LabelTable]
):
    text = f"file_name,{header}\na.jpg,{cells}\n"
    with pytest.raises(InputError, match=message):
        read(text)
    assert read(text, ignore_columns=header.split(",")[1:]).classes == ("cat",)


def test_a_column_is_a_class_where_the_user_says_so(read: Callable[..., LabelTable]):
    text = "file_name,cat,train\na.jpg,1,0\n"
    assert read(text, ignore_columns=[]).classes == ("cat", "train")
    assert read(text, classes=["cat", "train"]).classes == ("cat", "train")
    for ignored, message in (
        (["file_name"], "no column 'file_name' to ignore"),
        (["cat", "train"], "no column"),
    ):
        with pytest.raises(InputError, match=message):
            read(text, ignore_columns=ignored)
