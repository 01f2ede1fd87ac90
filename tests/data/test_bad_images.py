"""Images that are missing or broken: what is said, and for how many."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mlic.data import LabelTable
from mlic.data.bad_images import explain_missing, leave_out
from mlic.data.images import ImageReference
from mlic.errors import InputError


def table_of(folder: Path, names: Sequence[str]) -> LabelTable:
    return LabelTable.build(folder, names, np.ones((len(names), 1)), ["cat"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """`photos/a_0.jpg` to `a_4.jpg`, and five more in its folder `inner`."""
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    for number in range(5):
        (folder / f"a_{number}.jpg").touch()
        (folder / "inner" / f"b_{number}.jpg").touch()
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_{}", r"With '.jpg' appended 5 of 6 are there. Correct the names in the annotations."),
        ("a_{}.png", r"With the ending '.jpg' instead of theirs 5 of 6 are there."),
        ("inner\\b_{}.jpg", r"With '/' instead of '\' 5 of 6 are there."),
        ("A_{}.JPG", "In small letters 5 of 6 are there."),
        (
            "photos/a_{}.jpg",
            "Without 'photos/' at their beginning 5 of 6 are there. Set data.images={parent}, or",
        ),
        ("data/set/a_{}.jpg", "Without 'data/set/' at their beginning 5 of 6 are there. Correct"),
        ("c_{}.jpg", None),
    ],
)
def test_the_one_cause_of_many_missing_files_is_named(name: str, message: str | None, photos: Path):
    names = [name.format(number) for number in range(6)]  # one is missing for another cause
    table = table_of(photos, names)
    cause = explain_missing(photos, names)
    if message is None:
        assert cause is None
        return
    message = message.format(parent=photos.parent)
    assert cause is not None and cause.startswith(message)
    bad = dict.fromkeys(table.paths(), "no such file")
    for choice in ("error", "drop"):
        with pytest.raises(InputError) as refusal:
            leave_out(bad, table, choice)
        assert f"  {photos / sorted(names)[0]}: no such file\n" in str(refusal.value)
        assert message in str(refusal.value)


def test_some_missing_files_are_left_out_and_most_are_not(photos: Path, caplog: pytest.LogCaptureFixture):
    table = table_of(photos, ["a_0.jpg", "a_1.jpg", "a_2.jpg", "a_3"])
    leave_out({photos / "a_3": "no such file"}, table, "drop")
    assert "1 images cannot be used and are left out" in caplog.text
    assert "With '.jpg' appended 1 of 1 are there" in caplog.text
    other = table_of(photos, ["a_0.jpg", "a_1", "a_2", "a_3"])
    bad: dict[ImageReference, str] = {photos / f"a_{number}": "no such file" for number in (1, 2, 3)}
    with pytest.raises(
        InputError, match=r"3 of 4 images cannot be used:\n(?s:.*)With '\.jpg' appended 3 of 3"
    ):
        leave_out(bad, other, "drop")


def test_a_long_list_is_cut_after_ten(photos: Path):
    names = [f"n_{number:06d}" for number in range(12_000)]
    table = table_of(photos, names)
    with pytest.raises(InputError) as refusal:
        leave_out(dict.fromkeys(table.paths(), "no such file"), table, "error")
    lines = str(refusal.value).splitlines()
    assert lines[0] == "12000 images cannot be used:"
    assert lines[-2] == "  and 11990 more; mlic.verify lists all"
    assert len(lines) == 13
