"""Shares of the classes in splits of groups, against random groups, and seconds against splits of single images."""

import time
from dataclasses import replace

import numpy as np

from benchmarks.rows import Row
from benchmarks.setting import Setting
from mlic.data import LabelTable, curate, read_csv, stratified_split
from mlic.data.split_settings import GroupSettings, SplitSettings

TEST = 0.2
RANDOM_SPLITS, SEEDS = 20, 3
IMAGES, CLASSES, LABELS_AN_IMAGE, GROUPS = 82_000, 80, 3, 10_000


def groups(setting: Setting) -> list[Row]:
    """Measure the photographs in random groups of 1 to 10, and 82,000 images with 80 classes in 10,000 groups."""
    random = np.random.default_rng(0)
    photographs = read_csv(setting.data / "labels.csv", setting.data / "images")
    photographs, _ = curate(photographs, min_images_per_class=0.02)
    sizes = random.integers(1, 11, len(photographs))
    small = random.permutation(np.repeat(np.arange(len(sizes)), sizes)[: len(sizes)])
    number = setting.choose(IMAGES, 2000)
    large = random.integers(0, number * GROUPS // IMAGES, number)
    return [
        *_compare("photographs in groups of 1 to 10", photographs, small),
        *_compare(f"{number:,} images in groups", _drawn_table(number, random), large),
    ]


def _compare(name: str, table: LabelTable, numbers: np.ndarray) -> list[Row]:
    grouped, random = replace(table, groups=numbers), np.random.default_rng(1)
    settings = [
        SplitSettings(test=TEST, on_missing="warn", seed=seed, groups=GroupSettings(by="column"))
        for seed in range(SEEDS)
    ]
    drawn = [_deviation(table, _random_rows(numbers, random)) for _ in range(RANDOM_SPLITS)]
    found, seconds, alone = [], [], []
    for each in settings:
        start = time.perf_counter()
        split = stratified_split(grouped, each)
        seconds.append(time.perf_counter() - start)
        found.append(_deviation(table, split.test))
        start = time.perf_counter()
        stratified_split(table, each)
        alone.append(time.perf_counter() - start)
    return [
        Row(
            f"{name}: error of shares in test",
            float(np.mean(found) / np.mean(drawn)),
            target="<= 0.333",
            detail=f"{np.mean(found):.2%} on average, {np.mean(drawn):.2%} with groups drawn at random",
        ),
        Row(
            f"{name}: seconds",
            float(np.median(seconds) / np.median(alone)),
            target="<= 3",
            detail=f"{np.median(seconds):.2f} s, {np.median(alone):.2f} s without groups",
        ),
    ]


def _random_rows(numbers: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the rows of random groups that together hold the share of test."""
    sizes = np.bincount(numbers)
    order = random.permutation(len(sizes))
    chosen = order[np.cumsum(sizes[order]) <= TEST * len(numbers)]
    return np.flatnonzero(np.isin(numbers, chosen))


def _deviation(table: LabelTable, rows: np.ndarray) -> float:
    """Return the mean over classes of the difference between the share in `rows` and that of test."""
    return float(np.abs(table.positives[rows].sum(axis=0) / table.counts() - TEST).mean())


def _drawn_table(number: int, random: np.random.Generator) -> LabelTable:
    """Return random labels whose class frequencies are proportional to 1 / rank."""
    race = random.exponential(size=(number, CLASSES)) * np.arange(1, CLASSES + 1)
    labels = np.zeros((number, CLASSES), dtype=np.int8)
    labels[
        np.arange(number)[:, None], np.argpartition(race, LABELS_AN_IMAGE, axis=1)[:, :LABELS_AN_IMAGE]
    ] = 1
    return LabelTable.build(
        ".", [f"{row:06d}" for row in range(number)], labels, [f"{name:02d}" for name in range(CLASSES)]
    )
