import re
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
    assert table.labels.dtype == np.uint8
    assert list(table.paths()) == [Path("photos/a.jpg"), Path("photos/b.jpg")]
    assert list(table.paths()[1:]) == [Path("photos/b.jpg")]


def test_select_takes_numbers_and_masks_and_stays_sorted():
    table = build(["a", "b", "c"], ["x", "y"], [[1, 0], [0, 1], [1, 1]])
    assert table.select([2, 0]).file_names.tolist() == ["a", "c"]
    assert table.select(np.array([False, True, True])).labels.tolist() == [[0, 1], [1, 1]]
    chosen = table.select_classes([1])
    assert (chosen.classes, len(chosen), chosen.counts().tolist()) == (("y",), 3, [2])
    assert table.counts().dtype == np.int64
    assert len(table.select([])) == 0


def test_repeated_names_are_refused():
    with pytest.raises(InputError, match=r"1 file name\(s\) given more than once: 'a'"):
        build(["a", "a"], ["x"], [[1], [0]])
    with pytest.raises(InputError, match=r"1 class\(s\) given more than once: 'x'"):
        build(["a"], ["x", "x"], [[1, 0]])


def test_shapes_and_empty_class_names_are_refused():
    with pytest.raises(InputError, match=r"shape \(1, 2\), expected \(1 file names, 1 classes\)"):
        build(["a"], ["x"], [[1, 0]])
    with pytest.raises(InputError, match="a class has an empty name"):
        build(["a"], [""], [[1]])


@pytest.mark.parametrize(
    "alike", [("Dog", "dog"), ("fire  truck", "Fire truck"), ("Äpfel", "a\u0308pfel"), ("dog ", "dog")]
)
def test_classes_that_differ_in_case_or_blanks_are_refused_with_their_counts(alike: tuple[str, str]):
    counts = {alike[0]: 2, alike[1]: 1}
    listed = " and ".join(f"'{name}' ({counts[name]} images)" for name in sorted(alike))
    with pytest.raises(
        InputError, match=re.escape(f"only in capital letters or blanks: {listed}. Write them")
    ):
        build(["a", "b", "c"], ["cat", *alike], [[0, 1, 0], [1, 1, 0], [1, 0, 1]])
