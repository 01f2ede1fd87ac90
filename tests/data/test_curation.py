import json
from collections.abc import Callable

import numpy as np
import pytest

from mlic.data import LabelTable, curate
from mlic.errors import InputError

MakeTable = Callable[..., LabelTable]


@pytest.fixture
def table(make_table: MakeTable) -> LabelTable:
    """10 images: `often` on 9, `rare` alone on the last, `some` on 3."""
    labels = np.zeros((10, 3), dtype=np.uint8)
    labels[:9, 0] = labels[9, 1] = labels[:3, 2] = 1
    return make_table(labels, ["often", "rare", "some"])


def test_rare_classes_go_and_then_images_without_labels(table: LabelTable):
    kept, kept_report = curate(table, min_images_per_class=3)
    assert kept.classes == ("often", "some")
    assert (len(kept), kept_report.unlabelled, kept_report.unlabelled_dropped) == (10, 1, False)
    curated, report = curate(table, min_images_per_class=3, unlabelled="drop")
    assert len(curated) == 9
    assert json.loads(json.dumps(report.as_dict())) == {
        "images_before": 10, "images_after": 9, "classes_before": 3, "classes_after": 2, "min_images": 3,
        "dropped_classes": {"rare": 1}, "not_in_subset": 0, "unlabelled": 1, "unlabelled_dropped": True,
    }  # fmt: skip


def test_a_share_is_rounded_up_but_not_beyond_its_value(table: LabelTable, make_table: MakeTable):
    for share, count in ((0.3, 3), (0.301, 4), (3, 3)):
        assert curate(table, min_images_per_class=share)[1].min_images == count
    # 0.1 * 30 is a little more than 3 in floating point
    assert curate(make_table(np.ones((30, 1))), min_images_per_class=0.1)[1].min_images == 3


def test_the_share_is_of_the_subset_and_counts_too(make_table: MakeTable):
    labels = np.zeros((100, 2), dtype=np.uint8)
    labels[:, 0] = labels[:20, 1] = 1
    curated, report = curate(make_table(labels), num_images=40, min_images_per_class=0.5)
    assert (len(curated), report.min_images, report.not_in_subset) == (40, 20, 60)
    assert report.dropped_classes.keys() == {"c01"} and report.dropped_classes["c01"] < 20


def test_the_subset_depends_on_the_seed_and_each_name_alone(make_table: MakeTable):
    table = make_table(np.ones((200, 1)))
    before = curate(table, num_images=50)[0].file_names
    assert len(set(before)) == 50
    assert set(before) != set(curate(table, num_images=50, seed=1)[0].file_names)
    after = curate(table.select(table.file_names != before[7]), num_images=50)[0].file_names
    assert set(before) - set(after) == {before[7]}
    assert len(set(after) - set(before)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_images_per_class": 10}, r"requires 10 of 10 images, but no class has more than 9"),
        ({"min_images_per_class": 1.5}, "data.min_images_per_class=1.5"),
        ({"num_images": 11}, "data.num_images=11: expected from 1 to 10"),
        ({"num_images": 0}, "data.num_images=0"),
        ({"unlabelled": "no"}, "data.unlabelled: must be one of"),
    ],
)
def test_settings_out_of_range_are_refused(table: LabelTable, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        curate(table, **options)
