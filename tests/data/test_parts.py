"""Parts that the user gives: columns, files, an earlier split."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlic.data import LabelTable, split_hash, stratified_split
from mlic.data.parts import with_parts
from mlic.data.split_settings import SplitSettings
from mlic.errors import InputError

MakeTable = Callable[..., LabelTable]


@pytest.fixture
def table(make_table: MakeTable) -> LabelTable:
    """60 images named 00000.jpg ... with 3 frequent classes."""
    return make_table(np.random.default_rng(0).random((60, 3)) < 0.5)


def given(table: LabelTable, cells: list[str], column: str = "part", **options: Any) -> list[str]:
    """The parts that a column gives to the first images; its cells are repeated."""
    values = np.array([cells[row % len(cells)] for row in range(len(table))], dtype=object)
    settings = SplitSettings.of({"column": column, **options})
    parts = with_parts(replace(table, columns={column: values}), settings).parts
    assert parts is not None
    return parts[: len(cells)].tolist()


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        (["train", "valid", " TEST"], {}, ["train", "val", "test"]),
        (["training", "dev"], {}, ["train", "val"]),
        (["False", "True"], {"column": "is_valid"}, ["train", "val"]),
        (["1", "0.0"], {"column": "is_test"}, ["test", "train"]),
        (["0", "1", "2"], {"values": {0: "train", 1: "val", 2: "test"}}, ["train", "val", "test"]),
        (["True", "False"], {"values": {False: "test", True: "train"}}, ["train", "test"]),
        (["1", "0"], {"values": {True: "val", False: "train"}}, ["val", "train"]),
        (["1", "2", "3"], {"folds": 3, "fold": 3}, ["train", "train", "test"]),
        (["fold_0", "fold_1"], {"folds": 2}, ["test", "train"]),
    ],
)
def test_a_column_gives_the_parts(table: LabelTable, cells: list[str], options: dict, expected: list[str]):
    assert given(table, cells, **options) == expected


@pytest.mark.parametrize(
    ("cells", "column", "readings"),
    [
        (["0", "1", "2"], "partition", 2),
        (["True", "False"], "flag", 2),
        (["0", "1"], "is_train", 2),
        (["1", "2", "3", "4"], "fold", 1),
    ],
)
def test_a_column_with_several_meanings_asks_with_settings_that_work(
    table: LabelTable, cells: list[str], column: str, readings: int
):
    with pytest.raises(InputError, match=r"values: .* \(\d+ images\)") as error:
        given(table, cells, column)
    offered = re.findall(r"data\.split\.values=\{([^.}]*)\}", str(error.value))
    found = {
        tuple(given(table, cells, column, values=dict(pair.split(": ") for pair in text.split(", "))))
        for text in offered
    }
    for folds, fold in re.findall(r"data\.split\.folds=(\d+) data\.split\.fold=(\d+)", str(error.value)):
        found.add(tuple(given(table, cells, column, folds=int(folds), fold=int(fold))))
    assert len(found) == readings and all({"train"} < set(parts) for parts in found)


def test_a_column_that_cannot_be_used_is_named_with_what_there_is(table: LabelTable):
    for cells, options, message in (
        (["a", "b"], {}, r"Set the meaning: 'data\.split\.values=\{a: train, b: test\}'"),
        (["0", "1", "7"], {"values": {0: "train", 1: "test"}}, "'7' have no part"),
        (
            ["train", "test"],
            {"folds": 2},
            r"must have 2 numbers of folds; found 2 values: 'train' \(30 images\)",
        ),
        (["1", "2"], {"folds": 2}, r"data\.split\.fold: 0 is not a fold"),
        (
            ["train", "test", ""],
            {},
            r"unlisted: 20 of 60 images have no part in column 'part', .*drop leaves",
        ),
        (["train"], {"files": "list.txt"}, "set only one of them"),
        ([""], {}, "column 'part' gives no image a part"),
    ):
        with pytest.raises(InputError, match=message):
            given(table, cells, "part", **options)
    with pytest.raises(InputError, match="no column 'c'; there are 'a', 'b'"):
        with_parts(replace(table, columns=dict.fromkeys("ab", table.file_names)), SplitSettings(column="c"))
    assert given(table, ["train", "test", ""], unlisted="train")[2] == "train"


def test_official_parts_are_used_unless_they_are_to_be_ignored(
    table: LabelTable, caplog: pytest.LogCaptureFixture
):
    official = replace(table, parts=np.array(["train"] * 40 + ["test"] * 20, dtype=object))
    with caplog.at_level(logging.INFO):
        used = with_parts(official, SplitSettings())
    assert "parts from the annotations" in caplog.text and "40 train, 0 val, 20 test" in caplog.text
    split = stratified_split(used)
    np.testing.assert_array_equal(split.test, np.arange(40, 60))
    assert 4 <= len(split.val) <= 8 and split.val.max() < 40
    ignored = with_parts(official, SplitSettings(official="ignore"))
    assert stratified_split(ignored).names() == stratified_split(table).names()
    assert split_hash(ignored) == split_hash(table) != split_hash(used)
    assert split_hash(used, test=0.5) == split_hash(used)  # the share of a given part changes nothing
    with pytest.raises(InputError, match=r"data\.split\.folds: the parts are already given"):
        with_parts(official, SplitSettings(folds=5))


def parts_of(table: LabelTable, folder: Path, lists: dict[str, str] | str, **options: Any) -> list[str]:
    """The parts that files with these texts give."""
    if isinstance(lists, str):
        files: Any = folder / "parts.txt"
        files.write_text(lists)
    else:
        files = {part: folder / f"{part}.txt" for part in lists}
        for part, text in lists.items():
            files[part].write_text(text)
    parts = with_parts(table, SplitSettings.of({"files": files, **options})).parts
    assert parts is not None
    return parts.tolist()


def test_lists_give_the_parts_with_or_without_extensions_and_folders(table: LabelTable, tmp_path: Path):
    table = LabelTable.build(".", [f"a b/{row}.v1.jpg" for row in range(4)], table.labels[:4], table.classes)
    for form in ("a b/{}.v1.jpg", "a b/{}.v1", "{}.v1.jpg", "{}.v1", "{}.v1.png", r".\a b\{}.v1.jpg"):
        names = [form.format(row) for row in range(4)]
        lists = {"train": "\r\n".join(names[:2]), "test": "\n".join([*names[2:], ""])}
        assert parts_of(table, tmp_path, lists) == ["train", "train", "test", "test"], form
        assert parts_of(table, tmp_path, {"test": lists["test"]}) == ["train", "train", "test", "test"]
        for separator in (" ", ",", "\t"):
            text = "".join(f"{name}{separator}{row % 3}\n" for row, name in enumerate(names))
            for header in ("", f"image{separator}partition\n"):
                assert parts_of(table, tmp_path, header + text) == ["train", "val", "test", "train"]


def test_lists_that_cannot_be_used_are_refused(table: LabelTable, tmp_path: Path):
    table = LabelTable.build(".", ["a/1.jpg", "b/1.jpg", "b/2.jpg"], table.labels[:3], table.classes)
    for lists, message in (
        ({"test": "x.jpg"}, r"none of the 1 listed names, such as 'x\.jpg', .* such as 'a/1\.jpg'"),
        ({"test": "1"}, "'a/1.jpg' and 'b/1.jpg'"),
        ({"test": "a/1.jpg", "train": "a/1.jpg"}, "'a/1.jpg' is listed in several parts"),
        ({"test": ""}, "lists no images"),
        ({"train": "a/1.jpg"}, "2 of 3 images have no part"),
        ({"train": "a/1.jpg", "evil": "b/1.jpg"}, "must be one of train, val, test"),
        ("a/1.jpg\n", "expected the name of an image and its part"),
        ("a/1.jpg 0\nb/1.jpg 1\n", "Set the meaning"),
    ):
        with pytest.raises(InputError, match=message):
            parts_of(table, tmp_path, lists)
    with pytest.raises(InputError, match=r"'gone\.txt' cannot be read"):
        with_parts(table, SplitSettings(files={"test": "gone.txt"}))
    lists = {"train": "a/1.jpg", "test": "b/2.jpg"}
    assert parts_of(table, tmp_path, lists, unlisted="drop") == ["train", "test"]


def test_missing_classes_of_given_parts_offer_what_helps(make_table: MakeTable):
    labels = np.ones((60, 2))
    labels[40:, 1] = 0
    table = replace(make_table(labels), parts=np.array(["train"] * 40 + ["test"] * 20, dtype=object))
    with pytest.raises(InputError, match=r"'c01' \(40 images\) is not in test") as error:
        stratified_split(table)
    assert "data.min_images_per_class=41" in str(error.value)
    with pytest.raises(InputError, match=r"40 images, .* are too few"):
        stratified_split(table, val=0.7)


def test_an_earlier_split_is_kept_when_images_are_added(make_table: MakeTable, tmp_path: Path):
    labels = np.random.default_rng(0).random((1069, 8)) < np.geomspace(0.5, 0.05, 8)
    table = make_table(labels)
    first = table.select(np.arange(1069) % 16 > 0)
    names = np.array(stratified_split(first).names(), dtype=object)
    (tmp_path / "run").mkdir()
    frame = pd.DataFrame(
        {"file_name": [*first.file_names, "gone.jpg"], "split": [*names, "test"], "sha256": ""}
    )
    frame.to_csv(tmp_path / "run" / "split.csv", index=False)
    for keep in (tmp_path / "run", tmp_path / "run" / "split.csv"):
        kept = with_parts(table, SplitSettings(keep=str(keep)))
        split = stratified_split(kept)
        parts = np.array(split.names(), dtype=object)
        np.testing.assert_array_equal(parts[np.arange(1069) % 16 > 0], names)
        shares = labels[split.test].sum(axis=0) / labels.sum(axis=0)
        np.testing.assert_allclose(shares, 0.2, atol=0.02)
        np.testing.assert_allclose(len(split.val) / 1069, 0.1, atol=0.01)
    assert split_hash(kept) != split_hash(table)
    # a new copy of a test image follows it, and a group that the earlier split divides is an error
    new, test = 16, int(split.test[0] if split.test[0] % 16 else split.test[1])
    follows = kept.join_groups(np.where(np.arange(1069) == new, test, np.arange(1069)))
    assert stratified_split(follows).names()[new] == "test"
    divided = follows.join_groups(np.where(np.arange(1069) == split.train[1], test, np.arange(1069)))
    with pytest.raises(InputError, match=r"1 of 1067 groups .* divided by the given parts: 3 images"):
        stratified_split(divided)
    assert stratified_split(divided, groups={"on_divided": "warn"}).names()[test] == "test"
    for text, message in (
        ("a,b\n", "cannot be read"),
        ("file_name,split\n00001.jpg,x\n", "has the part 'x'"),
    ):
        (tmp_path / "other.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            with_parts(table, SplitSettings(keep=str(tmp_path / "other.csv")))
