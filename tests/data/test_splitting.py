import logging
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mlic.data import LabelTable, Split, curate, split_hash, stratified_split
from mlic.data.splitting import stratified_folds
from mlic.errors import InputError

MakeTable = Callable[..., LabelTable]
OPTIONS = {"test": 0.2, "val": 0.1, "seed": 0}


def skewed_labels(num_images: int, num_classes: int) -> np.ndarray:
    """(N, C) with shares from a half down to a fiftieth."""
    shares = np.geomspace(0.5, 0.02, num_classes)
    return (np.random.default_rng(0).random((num_images, num_classes)) < shares).astype(np.uint8)


def assert_complete(split: Split, num_rows: int) -> None:
    rows = np.concatenate(list(split.parts().values()))
    np.testing.assert_array_equal(np.sort(rows), np.arange(num_rows))
    assert all((np.diff(part) > 0).all() for part in split.parts().values())


def test_shares_of_classes_and_of_unlabelled_images_are_kept(make_table: MakeTable):
    labels = skewed_labels(2000, 12)
    labels[::10] = 0
    split = stratified_split(make_table(labels), test=0.2, val=0.1)
    unlabelled = np.asarray(~labels.any(axis=1))
    for part, share in ((split.test, 0.2), (split.val, 0.1)):
        # the rarest class is on 36 images: one more or less is 0.03
        assert (np.abs(labels[part].sum(axis=0) / labels.sum(axis=0) - share) < 0.03).all()
        assert unlabelled[part].sum() / unlabelled.sum() == pytest.approx(share, abs=0.01)


def test_a_class_too_rare_is_named_with_the_curation_that_does(make_table: MakeTable):
    labels = skewed_labels(500, 4)
    labels[:, 3] = 0
    labels[:2, 3] = 1
    table = make_table(labels, ["a", "b", "c", "unicorn"])
    with pytest.raises(InputError, match=r"'unicorn' \(2 images\) is not in") as refusal:
        stratified_split(table, test=0.1, val=0.1)
    found = re.search(r"data.min_images_per_class=(\d+)", str(refusal.value))
    assert found is not None
    curated, _ = curate(table, min_images_per_class=int(found[1]))
    split = stratified_split(curated, test=0.1, val=0.1)
    assert curated.classes == ("a", "b", "c")
    assert all(curated.labels[rows].any(axis=0).all() for rows in split.parts().values())


def test_a_missing_class_may_be_a_warning(make_table: MakeTable, caplog: pytest.LogCaptureFixture):
    labels = skewed_labels(100, 3)
    labels[:, 2] = 0
    with caplog.at_level(logging.WARNING):
        split = stratified_split(make_table(labels), on_missing="warn")
    assert "'c02' (0 images) is not in train and val and test" in caplog.text
    assert_complete(split, 100)
    with pytest.raises(InputError, match="Use more images"):
        stratified_split(make_table(np.zeros((10, 1))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 1.0}, "data.split.test=1.0"),
        ({"seed": -1}, "data.split.seed=-1"),
        ({"test": 0.7, "val": 0.3}, "data.split.val=0.3 and data.split.test=0.7 leave none for training"),
        ({"on_missing": "no"}, "data.split.on_missing"),
        ({"folds": 51}, "expected 2 to 50 folds"),
        ({"folds": 5, "fold": 5}, r"data\.split\.fold=5: expected"),
        ({"folds": 2, "val": 0.5}, "data.split.val=0.5 and data.split.test=0.5 leave none"),
    ],
)
def test_settings_out_of_range_are_refused(make_table: MakeTable, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        stratified_split(make_table(skewed_labels(50, 2)), **options)


def test_the_hash_changes_with_all_it_covers(make_table: MakeTable):
    labels = skewed_labels(30, 3)
    flipped = labels.copy()
    flipped[0, 0] ^= 1
    table = make_table(labels)
    tables = [table, make_table(labels, ["x", "y", "z"]), table.select(range(29)), make_table(flipped)]
    hashes = [split_hash(each, **OPTIONS) for each in tables]
    hashes += [split_hash(table, **{**OPTIONS, **change}) for change in ({"seed": 1}, {"val": 0.2})]
    hashes += [split_hash(table, **OPTIONS, folds=5, fold=fold) for fold in range(2)]
    assert len(set(hashes)) == len(hashes)
    # must not change between versions: checkpoints store it
    fixed = LabelTable.build(".", ["a.jpg", "b.jpg"], np.eye(2), ["x", "y"])
    assert split_hash(fixed, **OPTIONS).startswith("e513cd4a343c104c")


def test_folds_are_disjoint_complete_and_have_every_class(make_table: MakeTable):
    table = make_table(skewed_labels(600, 6))
    splits = [stratified_split(table, val=0.1, folds=5, fold=fold) for fold in range(5)]
    for split in splits:
        assert_complete(split, 600)
        assert [len(split.test), len(split.val)] == pytest.approx([120, 60], abs=4)
        np.testing.assert_allclose(table.labels[split.test].mean(0), table.labels.mean(0), atol=0.02)
    tested = [split.test for split in splits]
    np.testing.assert_array_equal(np.sort(np.concatenate(tested)), np.arange(600))
    for test, fold in zip(tested, stratified_folds(table, 5), strict=True):
        np.testing.assert_array_equal(test, fold)
    assert stratified_split(table, val=0.1, folds=5, fold=3).names() == splits[3].names()
    assert stratified_split(table, val=0.1, folds=5, fold=3, seed=1).names() != splits[3].names()


def test_folds_divide_no_group(make_table: MakeTable):
    groups = np.arange(600)
    groups[100:400] = groups[100:400] // 4 * 4  # 75 groups of 4
    table = replace(make_table(skewed_labels(600, 6)), groups=groups)
    folds = stratified_folds(table, 3)
    assert [len(fold) for fold in folds] == pytest.approx([200] * 3, abs=10)
    assert sum(len(set(groups[fold])) for fold in folds) == len(set(groups))
    np.testing.assert_array_equal(stratified_split(table, val=0, folds=3, fold=1).test, folds[1])


def test_thirty_copies_of_one_image_come_to_one_part(make_table: MakeTable):
    table = make_table(skewed_labels(95, 3))
    digests = np.array([str(max(row, 30)) for row in range(95)], dtype="S64")  # 31 copies
    digests[60:63] = b""  # broken images are no copies of each other
    grouped = table.group_copies(digests)
    for seed in (0, 1):
        assert len(set(stratified_split(grouped, seed=seed, on_missing="warn").names()[:31])) == 1
    assert split_hash(grouped, **OPTIONS) != split_hash(table, **OPTIONS)
    # without copies groups change nothing
    single = table.group_copies(np.array([f"{7 * row % 95:02d}" for row in range(95)], dtype="S64"))
    names = [stratified_split(each, on_missing="warn").names() for each in (single, table)]
    assert names[0] == names[1] and split_hash(single, **OPTIONS) == split_hash(table, **OPTIONS)


def test_calibration_is_taken_from_train_alone(make_table: MakeTable):
    table = make_table(skewed_labels(600, 8))
    without = stratified_split(table, **OPTIONS)
    split = stratified_split(table, calibration=0.2, on_missing="warn", **OPTIONS)
    assert_complete(split, 600)
    np.testing.assert_array_equal(split.test, without.test)
    np.testing.assert_array_equal(split.val, without.val)
    assert set(split.calibration) <= set(without.train)
    assert len(split.calibration) == pytest.approx(120, abs=6)
    assert list(without.parts()) == ["train", "val", "test"]
    assert split_hash(table, calibration=0, **OPTIONS) == split_hash(table, **OPTIONS)
    assert split_hash(table, calibration=0.2, **OPTIONS) != split_hash(table, **OPTIONS)
    grouped = replace(table, groups=np.arange(600) // 4)
    parts = np.array(stratified_split(grouped, calibration=0.2, **OPTIONS).names())
    assert all(len(set(parts[start : start + 4])) == 1 for start in range(0, 600, 4))
    with pytest.raises(InputError, match=r"data\.split\.calibration=0\.7 leave none for training"):
        stratified_split(table, calibration=0.7, **OPTIONS)
