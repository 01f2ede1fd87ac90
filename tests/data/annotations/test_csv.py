import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlic.data import read_csv
from mlic.errors import InputError


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function text -> CSV file."""

    def write(text: str, encoding: str = "utf-8") -> Path:
        file = tmp_path / "labels.csv"
        file.write_bytes(text.encode(encoding))
        return file

    return write


def test_both_forms_give_the_same_table(tiny_csv: tuple[Path, Path], tiny_bits: tuple[Path, Path]):
    joined, bits = read_csv(*tiny_csv), read_csv(*tiny_bits)
    assert joined.classes == bits.classes == ("circle", "cross", "square", "triangle")
    np.testing.assert_array_equal(joined.labels, bits.labels)
    np.testing.assert_array_equal(joined.file_names, bits.file_names)
    assert joined.counts().tolist() == [18, 18, 36, 18]


def test_separator_spaces_quotes_byte_order_mark_and_line_ends(write: Callable[..., Path], tmp_path: Path):
    file = write('\ufefffile_name,labels\r\nb.jpg,"dog, small; cat"\r\n\r\n./sub//a.jpg,\r\n')
    table = read_csv(file, tmp_path, separator=";")
    assert table.classes == ("cat", "dog, small")
    assert table.file_names.tolist() == ["b.jpg", "sub/a.jpg"]
    assert table.labels.tolist() == [[1, 1], [0, 0]]


def test_given_classes_are_kept_even_without_images(write: Callable[..., Path], tmp_path: Path):
    joined = read_csv(write("file_name,labels\na.jpg,dog\n"), tmp_path, classes=["dog", "bird"])
    bits = read_csv(write("file_name,dog\na.jpg,1\n"), tmp_path, classes=["dog", "bird"])
    assert joined.classes == bits.classes == ("bird", "dog")
    assert joined.labels.tolist() == bits.labels.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.jpg", "sub/../../a.jpg", "..\\a.jpg", "C:\\a.jpg", "\\\\host\\a"]
)
def test_a_path_that_leaves_the_folder_is_refused(write: Callable[..., Path], tmp_path: Path, name: str):
    with pytest.raises(InputError, match=r"line 3: .* leaves the image folder"):
        read_csv(write(f"file_name,labels\na..b.jpg,dog\n{name},dog\n"), tmp_path)


def test_missing_places_are_named(write: Callable[..., Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"none.csv: no such file. data.annotations must be a CSV file"):
        read_csv(tmp_path / "none.csv", tmp_path)
    with pytest.raises(InputError, match=r"photos: no such folder. data.images must be"):
        read_csv(write("file_name,labels\na.jpg,dog\n"), tmp_path / "photos")
    with pytest.raises(InputError, match="separator is empty"):
        read_csv(write("file_name,labels\na.jpg,dog\n"), tmp_path, separator="")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_csv(write("file_name,labels\na.jpg,Kälte\n", encoding="latin-1"), tmp_path)


def joined_file(rows: list[list[str]], separator: str) -> str:
    return "file_name,labels\n" + "".join(
        f'{row:03d}.jpg,"{separator.join(names)}"\n' for row, names in enumerate(rows)
    )


ROWS = [["cat"], ["dog"], ["cat", "dog"], ["person", "dog"], ["person", "car", "cat"], ["car", "dog"], []]


@pytest.mark.parametrize("separator", [", ", "\t", " & "])
def test_names_that_another_separator_joins_are_refused(
    separator: str, write: Callable[..., Path], tmp_path: Path
):
    rows = [*ROWS, ["person", "car"]]
    file = write(joined_file(rows, separator))
    shown = r"\t" if separator == "\t" else separator.strip() or " "
    with pytest.raises(InputError, match=re.escape(f"\"data.reader.separator='{shown}'\"")) as refusal:
        read_csv(file, tmp_path)
    assert "5 of 7 class names are combinations of others" in str(refusal.value)
    table = read_csv(file, tmp_path, separator=shown)
    assert table.classes == ("car", "cat", "dog", "person")
    if separator != "\t":  # which no name may hold; others are names if the user says so
        given = [separator.join(names) for names in rows if names]
        assert len(read_csv(file, tmp_path, classes=given).classes) == 7


@pytest.mark.parametrize(
    "names",
    [
        ["red car", "blue car", "red bus", "blue bus"],
        ["cat", "dog", "cat, dog", "horse"],  # most names are plain
    ],
)
def test_names_of_several_words_are_left_alone(names: list[str], write: Callable[..., Path], tmp_path: Path):
    assert read_csv(write(joined_file([[name] for name in names], "|")), tmp_path).classes == tuple(
        sorted(names)
    )


def test_photographs_joined_by_commas_are_refused(
    coco_data: Path, write: Callable[..., Path], tmp_path: Path
):
    text = (coco_data / "labels.csv").read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"of 631 class names are combinations .*separator=','"):
        read_csv(write(re.sub(",(.*)", lambda found: f',"{found[1]}"', text).replace("|", ", ")), tmp_path)


@pytest.mark.parametrize("cell", ['["car", "cat"]', "[]"])
def test_lists_in_cells_are_refused(cell: str, write: Callable[..., Path], tmp_path: Path):
    quoted = cell.replace('"', '""')
    with pytest.raises(InputError, match=r"line 3: the labels are \W.*JSON or Python\. Expected .* car\|cat"):
        read_csv(write(f'file_name,labels\na.jpg,dog\nb.jpg,"{quoted}"\n'), tmp_path)


@pytest.mark.parametrize(
    ("header", "cells", "message"),
    [
        (
            "cat,is_valid,Unnamed: 0",
            "1,0,0",
            r"not classes: is_valid, Unnamed: 0\. .*\[\"is_valid\",\"Unnamed: 0\"\]",
        ),
        (
            "cat,patient,Age Years",
            "1,p7,40",
            r"'patient' is 'p7', .*ignore_columns=\[\"patient\",\"Age Years\"\]",
        ),
        ("labels,is_valid", "cat,0", r"columns beside 'labels': is_valid\. .*ignore_columns=\[is_valid\]"),
    ],
)
def test_columns_that_are_not_classes_are_asked_about(
    header: str, cells: str, message: str, write: Callable[..., Path], tmp_path: Path
):
    with pytest.raises(InputError, match=message):
        read_csv(write(f"file_name,{header}\na.jpg,{cells}\n"), tmp_path)
    names = header.split(",")
    table = read_csv(write(f"file_name,{header}\na.jpg,{cells}\n"), tmp_path, ignore_columns=names[1:])
    assert table.classes == ("cat",)


def test_a_column_is_a_class_where_the_user_says_so(write: Callable[..., Path], tmp_path: Path):
    file = write("file_name,cat,train\na.jpg,1,0\n")
    assert read_csv(file, tmp_path, ignore_columns=[]).classes == ("cat", "train")
    assert read_csv(file, tmp_path, classes=["cat", "train"]).classes == ("cat", "train")


@pytest.mark.parametrize(
    ("ignored", "message"),
    [
        (["file_name"], "there is no column 'file_name' to ignore"),
        (["cat", "dog"], "leaves no column"),
        ("cat", r"must be a list of columns"),
    ],
)
def test_columns_that_cannot_be_ignored(
    ignored: list[str] | str, message: str, write: Callable[..., Path], tmp_path: Path
):
    with pytest.raises(InputError, match=message):
        read_csv(write("file_name,cat,dog\na.jpg,1,0\n"), tmp_path, ignore_columns=ignored)
