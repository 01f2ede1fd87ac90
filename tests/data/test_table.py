from pathlib import Path

import numpy as np
import pytest

from mlic.data import LabelTable
from mlic.errors import InputError


def build(names: list[str], classes: list[str], labels: list[list[int]]) -> LabelTable:
    return LabelTable.build("photos", names, np.array(labels), classes)


def test_rows_and_columns_are_sorted_together():
    table = build(["b.jpg", "a.jpg"], ["zebra", "ant"], [[1, 0], [1, 1]])
    assert table.file_names.tolist() == ["a.jpg", "b.jpg"]
    assert table.classes == ("ant", "zebra")
    assert table.labels.tolist() == [[1, 1], [0, 1]]
    assert (table.labels.dtype, table.counts().dtype) == (np.int8, np.int64)
    assert list(table.paths()) == [Path("photos/a.jpg"), Path("photos/b.jpg")]
    assert list(table.paths()[1:]) == [Path("photos/b.jpg")]


def test_select_takes_numbers_and_masks_and_stays_sorted():
    table = build(["a", "b", "c"], ["x", "y"], [[1, 0], [0, 1], [1, 1]])
    assert table.select([2, 0]).file_names.tolist() == ["a", "c"]
    assert table.select(np.array([False, True, True])).labels.tolist() == [[0, 1], [1, 1]]
    chosen = table.select_classes([1])
    assert (chosen.classes, len(chosen), chosen.counts().tolist()) == (("y",), 3, [2])
    assert len(table.select([])) == 0


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (["a", "a"], ["x", "y"], r"file name\(s\) occur more than once: 'a'"),
        (["a", "b"], ["x", "x"], r"class\(s\) occur more than once: 'x'"),
        (["a"], ["x", "y"], r"shape \(2, 2\), expected \(1 file names, 2 classes\)"),
        (["a", "b"], ["x", ""], "the class name '' is empty"),
        (["a", "b"], ["Dog", "dog"], r"case, .*: 'Dog' \(1 images\) and 'dog' \(1 images\)"),
        (["a", "b"], ["fire  truck", "Fire truck"], "only in case, whitespace or Unicode"),
        (["a", "b"], ["\u00c4pfel", "A\u0308pfel"], r"'.xc4pfel' .* and 'A.u0308pfel'"),
    ],
)
def test_names_that_are_not_distinct_are_refused(names: list[str], classes: list[str], message: str):
    with pytest.raises(InputError, match=message):
        build(names, classes, [[1, 0], [0, 1]])
