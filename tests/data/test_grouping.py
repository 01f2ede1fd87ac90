"""Groups of images that stay in one part."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlic.data import LabelTable, stratified_split
from mlic.data.grouping import with_groups
from mlic.data.split_plan import group_numbers
from mlic.data.split_settings import GroupSettings
from mlic.errors import InputError

NAMES = ("p1/s1/a.jpg", "p1/s2/a.jpg", "p2/s1/a.jpg", "p2/s1/b.jpg")


@pytest.fixture
def table() -> LabelTable:
    patients = np.array(["7", "7", "", ""], dtype=object)
    return LabelTable.build(".", NAMES, np.eye(4)[:, :2], ["x", "y"], columns={"patient": patients})


@pytest.mark.parametrize(
    ("by", "value", "groups"),
    [
        ("column", "patient", [0, 0, 1, 2]),
        ("folder", None, [0, 1, 2, 2]),
        ("folder", 1, [0, 0, 1, 1]),
        ("folder", "9", [0, 1, 2, 2]),
        ("name", r"p\d", [0, 0, 1, 1]),
        ("name", r"s\d/(a|b)", [0, 0, 0, 1]),
    ],
)
def test_groups_by_column_folder_or_name(table: LabelTable, by: str, value: Any, groups: list[int]):
    found = group_numbers(with_groups(table, GroupSettings(by, value)))
    assert found is not None and found.tolist() == groups


@pytest.mark.parametrize(
    ("by", "value", "message"),
    [
        ("column", None, r"groups\.value: the annotations have no column 'None'"),
        ("column", "sex", "no column 'sex'; there are 'patient'"),
        ("folder", "p", "value: not for groups.by=folder"),
        ("folder", 0, "finds no group for 4 of 4 images"),
        ("name", "(", "value: not for groups.by=name"),
        ("name", "^p1", r"finds no group for 2 of 4 images, such as 'p2/s1/a\.jpg'"),
        ("name", None, "finds no group for 4 of 4"),
    ],
)
def test_groupings_that_cannot_be_are_refused(table: LabelTable, by: str, value: Any, message: str):
    with pytest.raises(InputError, match=message):
        with_groups(table, GroupSettings(by, value))


def test_copies_join_the_groups_that_they_belong_to(table: LabelTable):
    grouped = with_groups(table, GroupSettings("folder", 1))
    joined = group_numbers(grouped.group_copies(np.array([b"1", b"2", b"2", b""])))
    assert joined is not None and joined.tolist() == [0, 0, 0, 0]


def test_given_parts_that_divide_a_group_are_an_error_or_a_warning(
    make_table: Callable[..., LabelTable], caplog: pytest.LogCaptureFixture
):
    parts = np.array(["train"] * 30 + ["test"] * 10, dtype=object)
    table = replace(make_table(np.ones((40, 1))), parts=parts, groups=np.arange(40) % 35)
    with pytest.raises(
        InputError, match=r"5 of 35 groups .* divided by the given parts: 10 images, .*on_divided"
    ):
        stratified_split(table)
    split = stratified_split(table, groups={"on_divided": "warn"})
    assert split.test.tolist() == list(range(30, 40)) and "5 of 35 groups" in caplog.text


def test_classes_keep_their_shares_in_grouped_splits(make_table: Callable[..., LabelTable]):
    random = np.random.default_rng(0)
    labels = random.random((2000, 12)) < np.geomspace(0.4, 0.02, 12)
    groups = random.permutation(np.repeat(np.arange(2000), random.integers(1, 11, 2000))[:2000])
    table = replace(make_table(labels), groups=groups)

    def deviation(rows: np.ndarray) -> float:
        return float(np.abs(labels[rows].sum(axis=0) / labels.sum(axis=0) - 0.2).mean())

    drawn = [np.isin(groups, random.permutation(groups.max() + 1)[: groups.max() // 5]) for _ in range(20)]
    split = stratified_split(table, groups={"by": "name"})
    assert deviation(split.test) < np.mean([deviation(np.flatnonzero(rows)) for rows in drawn]) / 5
    assert [len(part) for part in split.parts().values()] == pytest.approx([1400, 200, 400], abs=6)
