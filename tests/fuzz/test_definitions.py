"""The COCO reader, curation, split and the store hold what they promise for labels of any kind."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlic.data import LabelTable, curate, read_coco, split_hash, stratified_split
from mlic.data.split_settings import PARTS
from mlic.data.splitting import without_parts
from mlic.errors import InputError
from mlic.features.hashing import DIGEST_DTYPE
from mlic.features.store import FeatureStore

FUZZ = settings.get_profile("fuzz")
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0:"), min_size=1, max_size=6)


@st.composite
def tables(draw: Any, min_images: int = 1, max_images: int = 60) -> LabelTable:
    """Labels of any kind, under names of any kind."""
    images, classes = draw(st.integers(min_images, max_images)), draw(st.integers(1, 6))
    share = draw(st.sampled_from([0.02, 0.2, 0.5, 0.98]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = draw(st.lists(NAMES, min_size=images, max_size=images, unique=True))
    return LabelTable.build(
        ".", names, random.random((images, classes)) < share, [f"c{c}" for c in range(classes)]
    )


def shuffled(table: LabelTable, seed: int) -> LabelTable:
    """The same table from rows and columns in another order."""
    random = np.random.default_rng(seed)
    rows, columns = random.permutation(len(table)), random.permutation(len(table.classes))
    classes = [table.classes[column] for column in columns]
    return LabelTable.build(".", table.file_names[rows], table.labels[rows][:, columns], classes)


@settings(FUZZ)
@given(
    table=tables(), seed=st.integers(0, 2**31), least=st.integers(0, 20) | st.floats(0, 0.99), keep=st.booleans(),
    share=st.floats(0.05, 1),
)  # fmt: skip
def test_curation(table: LabelTable, seed: int, least: float, keep: bool, share: float):
    options: Any = {
        "num_images": max(1, round(share * len(table))), "min_images_per_class": least,
        "unlabelled": "keep" if keep else "drop", "seed": seed,
    }  # fmt: skip
    try:
        curated, report = curate(table, **options)
    except InputError as error:
        assert "left after curation" in str(error)
        return
    again, _ = curate(shuffled(table, seed), **options)
    assert list(curated.file_names) == list(again.file_names) and curated.classes == again.classes
    np.testing.assert_array_equal(curated.labels, again.labels)
    assert set(curated.file_names) <= set(table.file_names) and set(curated.classes) <= set(table.classes)
    assert report.images_before == len(table) and report.images_after == len(curated)
    assert len(curated) == options["num_images"] - (0 if keep else report.unlabelled)
    assert (curated.counts() >= report.min_images).all()
    assert all(count < report.min_images for count in report.dropped_classes.values())
    assert {*curated.classes, *report.dropped_classes} == set(table.classes)
    assert keep or curated.labels.any(axis=1).all()


@st.composite
def divided_tables(draw: Any) -> LabelTable:
    """Tables with groups, given parts and an earlier split, none of which divides a group."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images, classes = draw(st.integers(20, 120)), draw(st.integers(1, 6))
    labels = random.choice([0, 0, 0, 1, 1, -1], (images, classes))
    table = LabelTable.build(
        ".", [f"{row:04d}" for row in range(images)], labels, [f"c{c}" for c in range(classes)]
    )
    groups = random.integers(0, images // 2, images) if draw(st.booleans()) else np.arange(images)
    official = draw(st.sampled_from([(), ("train", "test"), ("train", "val"), PARTS]))
    parts = random.choice(official, images)[groups].astype(object) if official else None
    kept = None
    if draw(st.booleans()):
        kept = np.array(["", *PARTS], dtype=object)[random.integers(0, 4, images)][groups]
        if parts is not None:  # the earlier split took parts that are not given from train
            taken = (parts == "train") & ((kept == "train") | ~np.isin(kept, official))
            kept = np.where(taken, kept, "").astype(object)
    return replace(table, groups=groups, parts=parts, kept=kept)


@settings(FUZZ)
@given(
    table=divided_tables(), seed=st.integers(0, 2**32 - 1), test=st.sampled_from([0, 0.1, 0.25, 0.5]),
    val=st.sampled_from([0, 0.1, 0.3]), folds=st.none() | st.integers(2, 4), by=st.sampled_from([None, "name"]),
)  # fmt: skip
def test_splits(table: LabelTable, seed: int, test: float, val: float, folds: int | None, by: str | None):
    options: Any = {
        "test": test, "val": val, "seed": seed, "on_missing": "warn", "folds": folds, "groups": {"by": by}
    }  # fmt: skip
    try:
        split = stratified_split(table, **options)
    except InputError as error:
        assert any(text in str(error) for text in ("too few", "an empty part", "data.split"))
        return
    rows = np.concatenate(list(split.parts().values()))
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(table)))  # disjoint and complete
    names = np.array(split.names(), dtype=object)
    given_part = table.parts if table.parts is not None else np.full(len(table), "train", dtype=object)
    kept = table.kept if table.kept is not None else np.full(len(table), "", dtype=object)
    fixed, known = given_part != "train", kept != ""
    np.testing.assert_array_equal(names[fixed], given_part[fixed])
    assert not set(names[~fixed]) & (set(given_part) - {"train"})
    np.testing.assert_array_equal(names[known], kept[known])
    assert table.groups is not None
    assert all(len(set(names[table.groups == group])) == 1 for group in set(table.groups))
    assert stratified_split(table, **options).names() == names.tolist()
    is_given = table.parts is not None or table.kept is not None
    assert (split_hash(table, **options) != split_hash(without_parts(table), **options)) == is_given
    if not is_given and folds is None:
        assert (test > 0 or len(split.test) == 0) and (val > 0 or len(split.val) == 0)


@settings(FUZZ)
@given(table=tables(min_images=3), seed=st.integers(0, 2**32 - 1), folds=st.none() | st.integers(2, 3))
def test_a_split_does_not_depend_on_the_order_of_rows_and_classes(
    table: LabelTable, seed: int, folds: int | None
):
    options: Any = {"test": 0.25, "val": 0.1, "seed": seed, "on_missing": "warn", "folds": folds}
    with suppress(InputError):
        names = stratified_split(table, **options).names()
        assert stratified_split(shuffled(table, seed), **options).names() == names


def some_ids(most: int) -> st.SearchStrategy[list[int | str]]:
    each = st.integers() | st.text(max_size=4)
    return st.lists(each, min_size=1, max_size=most, unique_by=lambda value: (type(value), value))


COCO = st.builds(
    lambda ids, classes, pairs, crowd: {
        "images": [{"id": identity, "file_name": f"{row}.jpg"} for row, identity in enumerate(ids)],
        "categories": [{"id": identity, "name": f"c{row}"} for row, identity in enumerate(classes)],
        "annotations": [
            {"image_id": ids[one % len(ids)], "category_id": classes[two % len(classes)], "iscrowd": crowd}
            for one, two in pairs
        ],
    },
    some_ids(6),
    some_ids(4),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9),
    st.sampled_from([0, 1, False, True, None]),
)


@settings(FUZZ)
@given(content=COCO)
def test_coco_labels_lie_where_the_file_says(content: dict[str, Any], tmp_path: Path):
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    table = read_coco(file, tmp_path)
    # numbers and texts are different ids, though True == 1
    names = {(type(entry["id"]), entry["id"]): entry["file_name"] for entry in content["images"]}
    classes = {(type(entry["id"]), entry["id"]): entry["name"] for entry in content["categories"]}
    wanted = {
        (names[type(image), image], classes[type(category), category])
        for image, category in ((each["image_id"], each["category_id"]) for each in content["annotations"])
    }
    rows, columns = np.nonzero(table.labels)
    assert {(table.file_names[r], table.classes[c]) for r, c in zip(rows, columns, strict=True)} == wanted


@settings(FUZZ)
@given(
    numbers=st.lists(st.integers(0, 40), min_size=1, max_size=60), asked=st.lists(st.integers(0, 60), max_size=30),
    dtype=st.sampled_from(["float16", "bfloat16", "float32"]), shape=st.sampled_from([(1,), (3,), (2, 2, 2)]),
    step=st.integers(1, 20),
)  # fmt: skip
def test_the_store_gives_back_what_it_was_given(
    numbers: list[int], asked: list[int], dtype: str, shape: tuple[int, ...], step: int,
    tmp_path_factory: pytest.TempPathFactory,
):  # fmt: skip
    root: Path = tmp_path_factory.mktemp("store")

    def digests(values: list[int]) -> np.ndarray:
        return np.array([f"{value:064x}" for value in values], dtype=DIGEST_DTYPE)

    def rows(values: list[int]) -> torch.Tensor:
        made = [torch.randn(shape, generator=torch.Generator().manual_seed(value)) for value in values]
        return torch.stack(made).to(getattr(torch, dtype))

    for start in range(0, len(numbers), step):
        part = numbers[start : start + step]
        store = FeatureStore(root, {"network": "n"}, feature_shape=shape, dtype=dtype)
        with store.lock():
            writer = store.writer(shard_bytes=100)
            writer.add(digests(part), rows(part))
            writer.flush()
    again = FeatureStore(root, {"network": "n"}, feature_shape=shape, dtype=dtype)
    assert again.is_missing(digests(asked)).tolist() == [n not in numbers for n in asked]
    assert again.num_rows >= len(set(numbers))
    assert torch.equal(again.load(digests(numbers)), rows(numbers))
