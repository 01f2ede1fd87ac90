"""Images that are missing or broken: what is said, and for how many."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from mlic.data import LabelTable
from mlic.data.bad_images import explain_missing, leave_out
from mlic.errors import InputError


def leave_out_missing(folder: Path, names: list[str], missing: Iterable[str], on_bad_image: str) -> None:
    table = LabelTable.build(folder, names, np.ones((len(names), 1)), ["cat"])
    leave_out({folder / name: "no such file" for name in missing}, table, on_bad_image)


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
        ("a_{}", "'a_0' from 'a_0.jpg'. Set data.reader.extension=.jpg."),
        ("a_{}.png", "'a_0.png' from 'a_0.jpg'. Set data.reader.extension=.jpg."),
        ("inner\\b_{}.jpg", "Correct the names"),
        ("A_{}.jpg", "'A_0.jpg' from 'a_0.jpg'. Correct"),
        ("a_{}.JPG", "Set data.reader.extension=.jpg."),
        ("photos/a_{}.jpg", "Set data.images={parent}."),
        ("data/set/a_{}.jpg", "Correct"),
        ("b_{}.jpg", "Set data.images={parent}/photos/inner."),
        ("b_{}", "Set data.reader.extension=.jpg data.images={parent}/photos/inner."),
        ("other/b_{}.jpg", "Correct"),
        ("K\u00e4lte_{}.jpg", "Correct"),
        ("set\\k\u00c4lte_{}", "Correct"),
    ],
)  # fmt: skip
def test_the_one_cause_of_many_missing_files_is_named(name: str, message: str, photos: Path):
    for number in range(5):
        (photos / f"Ka\u0308lte_{number}.jpg").touch()
    names = [name.format(number) for number in range(6)]  # one is missing for another cause
    for choice in ("error", "drop"):
        with pytest.raises(InputError) as refusal:
            leave_out_missing(photos, names, names, choice)
        assert "5 of 6 missing names differ from files only in" in str(refusal.value)
        assert message.format(parent=photos.parent) in str(refusal.value)
    assert explain_missing([photos], [f"c_{number}.jpg" for number in range(6)]) is None


def test_some_missing_files_are_left_out_and_most_are_not(photos: Path, caplog: pytest.LogCaptureFixture):
    names = ["a_0.jpg", "a_1.jpg", "a_2.jpg", "a_3"]
    leave_out_missing(photos, names, ["a_3"], "drop")
    assert "1 images cannot be used and are left out" in caplog.text
    assert "'a_3' from 'a_3.jpg'. Set" in caplog.text
    (photos / "a_5.png").touch()  # the setting would change the other names, too
    leave_out_missing(photos, [*names, "a_5.png"], ["a_3"], "drop")
    assert "'a_3' from 'a_3.jpg'. Correct" in caplog.text
    names = ["a_0.jpg", "a_1", "a_2", "a_3"]
    with pytest.raises(InputError, match="3 images cannot be used, of 4"):
        leave_out_missing(photos, names, names[1:], "drop")


def test_a_long_list_is_cut_after_ten(photos: Path):
    names = [f"n_{number:04d}" for number in range(2_000)]
    with pytest.raises(InputError, match=r"^2000 images cannot be used") as refusal:
        leave_out_missing(photos, names, names, "error")
    assert len(str(refusal.value).splitlines()) == 13
    assert "and 1990 more; mlic.verify lists all" in str(refusal.value)
