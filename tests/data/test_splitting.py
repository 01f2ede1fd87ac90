import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlic.data import LabelTable, Split, class_weights, curate, read_csv, split_hash, stratified_split
from mlic.data.splitting import group_numbers, stratified_folds
from mlic.errors import InputError

MakeTable = Callable[..., LabelTable]


def skewed_labels(num_images: int, num_classes: int, seed: int = 0) -> np.ndarray:
    """(N, C) with shares from a half down to a fiftieth."""
    shares = np.geomspace(0.5, 0.02, num_classes)
    return (np.random.default_rng(seed).random((num_images, num_classes)) < shares).astype(np.uint8)


def assert_complete(split: Split, num_rows: int) -> None:
    rows = np.concatenate(list(split.parts().values()))
    assert len(rows) == num_rows
    np.testing.assert_array_equal(np.sort(rows), np.arange(num_rows))
    assert all((np.diff(part) > 0).all() for part in split.parts().values())


def test_shares_of_classes_and_of_unlabelled_images_are_kept(make_table: MakeTable):
    labels = skewed_labels(2000, 12)
    labels[::10] = 0
    table = make_table(labels)
    split = stratified_split(table, test=0.2, val=0.1)
    for part, share in ((split.test, 0.2), (split.val, 0.1)):
        shares = labels[part].sum(axis=0) / table.counts()
        # the rarest class is on 36 images: one more or less is 0.03
        assert (np.abs(shares - share) < 0.03).all()
        unlabelled = np.flatnonzero(~labels.any(axis=1))
        assert np.isin(part, unlabelled).sum() / len(unlabelled) == pytest.approx(share, abs=0.01)


def test_a_class_too_rare_is_named_with_the_curation_that_does(make_table: MakeTable):
    labels = skewed_labels(500, 4)
    labels[:, 3] = 0
    labels[:2, 3] = 1
    table = make_table(labels, ["a", "b", "c", "unicorn"])
    with pytest.raises(InputError, match=r"has none of unicorn \(2 images\)") as refusal:
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
    assert "train has none of c02 (0 images); val has none of c02 (0 images)" in caplog.text
    assert_complete(split, 100)
    with pytest.raises(InputError, match=r"Use more images"):
        stratified_split(make_table(np.zeros((10, 1))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 1.0}, r"data.split.test=1.0: expected a share"),
        ({"seed": -1}, r"data.split.seed=-1: expected a whole number from 0"),
        ({"test": 0.7, "val": 0.3}, r"data.split.test=0.7 and data.split.val=0.3 leave no image to train on"),
        ({"on_missing": "no"}, r"data.split.on_missing: must be one of error, warn"),
    ],
)
def test_settings_out_of_range_are_refused(make_table: MakeTable, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        stratified_split(make_table(skewed_labels(50, 2)), **options)


def test_the_hash_changes_with_all_it_covers(make_table: MakeTable):
    labels = skewed_labels(30, 3)
    options = {"test": 0.2, "val": 0.1, "seed": 0}
    hashes = [
        split_hash(make_table(labels), **{**options, **change}) for change in ({}, {"seed": 1}, {"val": 0.2})
    ]
    hashes.append(split_hash(make_table(labels, ["x", "y", "z"]), **options))
    hashes.append(split_hash(make_table(labels).select(range(29)), **options))
    flipped = labels.copy()
    flipped[0, 0] ^= 1
    hashes.append(split_hash(make_table(flipped), **options))
    hashes += [split_hash(make_table(labels), **options, folds=5, fold=fold) for fold in range(5)]
    assert len(set(hashes)) == len(hashes)
    assert split_hash(make_table(labels), **options, on_missing="warn") == hashes[0]
    # must not change between versions: checkpoints store it
    fixed = LabelTable.build(".", ["a.jpg", "b.jpg"], np.eye(2), ["x", "y"])
    assert split_hash(fixed, **options).startswith("e513cd4a343c104c")


def test_weights_come_from_training_rows_alone(make_table: MakeTable):
    table = make_table(skewed_labels(400, 4))
    split = stratified_split(table)
    changed = table.labels.copy()
    changed[np.concatenate([split.val, split.test])] = 1
    weights = [
        class_weights(labels[split.train].sum(axis=0), table.classes) for labels in (table.labels, changed)
    ]
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_allclose(weights[0], 1 / np.sqrt(table.select(split.train).counts()), rtol=1e-6)


def test_real_photographs_are_split_evenly(coco_data: Path):
    table, _ = curate(read_csv(coco_data / "labels.csv", coco_data / "images"), min_images_per_class=22)
    split = stratified_split(table, test=0.2, val=0)
    assert_complete(split, 1069)
    shares = table.labels[split.test].sum(axis=0) / table.counts()
    assert len(split.test) == pytest.approx(214, abs=8)
    assert shares.min() > 0.15
    assert shares.max() < 0.32


def test_folds_are_disjoint_complete_and_have_every_class(make_table: MakeTable):
    table = make_table(skewed_labels(600, 6))
    splits = [stratified_split(table, val=0.1, folds=5, fold=fold) for fold in range(5)]
    for split in splits:
        assert_complete(split, 600)
        assert len(split.test) == pytest.approx(120, abs=4)
        assert len(split.val) == pytest.approx(60, abs=4)
        shares = table.labels[split.test].mean(axis=0)
        np.testing.assert_allclose(shares, table.labels.mean(axis=0), atol=0.02)
    tested = np.concatenate([split.test for split in splits])
    np.testing.assert_array_equal(np.sort(tested), np.arange(600))
    again = stratified_split(table, val=0.1, folds=5, fold=3)
    assert again.names() == splits[3].names()
    assert stratified_split(table, val=0.1, folds=5, fold=3, seed=1).names() != splits[3].names()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 51}, "expected from 2 to 50"),
        ({"folds": 5, "fold": 5}, r"data\.split\.fold=5: expected from 0 to 4"),
        ({"folds": 2, "val": 0.5}, r"data\.split\.val=0\.5: with data\.split\.folds=2 .* below 0\.5"),
    ],
)
def test_impossible_folds_are_refused(options: dict, message: str, make_table: MakeTable):
    with pytest.raises(InputError, match=message):
        stratified_split(make_table(skewed_labels(50, 2)), **options)


def test_a_class_too_rare_for_a_fold_is_named_with_a_remedy(make_table: MakeTable):
    labels = np.ones((40, 2), dtype=np.uint8)
    labels[3:, 1] = 0
    message = r"test has none of c01 \(3 images\)\. Drop rare classes with data\.min_images_per_class=4"
    with pytest.raises(InputError, match=message):
        [stratified_split(make_table(labels), val=0, folds=5, fold=fold) for fold in range(5)]


def test_folds_are_the_test_parts_of_cross_validation(make_table: MakeTable):
    table = make_table(np.random.default_rng(0).integers(0, 2, (30, 3)))
    folds = stratified_folds(table, 3, seed=1)
    assert sorted(np.concatenate(folds)) == list(range(30))
    for number, fold in enumerate(folds):
        split = stratified_split(table, val=0, folds=3, fold=number, seed=1)
        np.testing.assert_array_equal(fold, split.test)
    with pytest.raises(InputError, match="folds=31: expected from 2 to 30"):
        stratified_folds(table, 31)


def test_copies_stay_in_one_part_and_classes_keep_their_shares(make_table: MakeTable):
    labels = skewed_labels(600, 6)
    groups = np.arange(600)
    groups[100:400] = groups[100:400] // 4 * 4  # 75 groups of 4
    labels[groups == 100] = 1
    table = replace(make_table(labels), groups=groups)
    split = stratified_split(table, test=0.2, val=0.1, seed=0)
    parts = np.array(split.names(600))
    assert all(len(set(parts[groups == group])) == 1 for group in groups)
    assert np.abs([len(split.train) - 420, len(split.val) - 60, len(split.test) - 120]).max() <= 8
    shares = table.labels[split.test].sum(axis=0) / table.counts()
    assert np.abs(shares - 0.2).max() < 0.05
    for folds in (
        stratified_folds(table, 3),
        [stratified_split(table, val=0, folds=3, fold=f).test for f in range(3)],
    ):
        assert not set.intersection(*(set(groups[fold]) for fold in folds))
        assert [len(fold) for fold in folds] == pytest.approx([200] * 3, abs=10)
        assert sum(len(set(groups[fold])) for fold in folds) == len(set(groups))


def test_thirty_copies_of_one_image_come_to_one_part(make_table: MakeTable):
    table = make_table(skewed_labels(95, 3))
    digests = np.array([str(max(row, 30)) for row in range(95)], dtype="S64")  # 31 copies
    digests[60:63] = b""  # broken images are no copies of each other
    grouped = table.group_copies(digests)
    names = stratified_split(grouped, on_missing="warn").names()
    assert len(set(names[:31])) == 1
    assert len(set(stratified_split(grouped, seed=1, on_missing="warn").names()[:31])) == 1
    assert split_hash(grouped, test=0.2, val=0.1, seed=0) != split_hash(table, test=0.2, val=0.1, seed=0)
    rest = grouped.select(np.arange(30, 95))
    assert group_numbers(rest) is None


def test_without_copies_groups_change_nothing(make_table: MakeTable):
    table = make_table(skewed_labels(80, 3))
    grouped = table.group_copies(np.array([f"{7 * row % 80:02d}" for row in range(80)], dtype="S64"))
    options = {"test": 0.2, "val": 0.1, "seed": 0}
    splits = [stratified_split(each, **options, on_missing="warn") for each in (grouped, table)]
    assert splits[0].names() == splits[1].names()
    assert split_hash(grouped, **options) == split_hash(table, **options)


def test_a_part_that_copies_leave_empty_is_refused(make_table: MakeTable):
    table = make_table(np.ones((10, 2))).group_copies(np.full(10, b"same", dtype="S64"))
    with pytest.raises(InputError, match=r"a part empty: copies .*, and only 1 of the 10 images differ"):
        stratified_split(table, on_missing="warn")
