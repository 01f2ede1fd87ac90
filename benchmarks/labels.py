"""Time from an annotation file to split and class weights, at the size of COCO's training set."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row
from benchmarks.setting import Setting
from benchmarks.timing import measured
from mlic.data import split_plan
from mlic.data.curation import curate
from mlic.data.readers.coco import read_coco
from mlic.data.splitting import stratified_split
from mlic.data.weighting import class_weights

IMAGES, CLASSES, LABELS_AN_IMAGE = 82_000, 80, 3


def labels(setting: Setting) -> list[Row]:
    """Measure reading, curation, split and weights, and the share of iterstrat."""
    number = setting.choose(IMAGES, 2000)
    folder = setting.work / "labels"
    folder.mkdir()
    annotations = _write_coco(folder / "instances.json", number)
    seconds: dict[str, float] = {}
    with _iterstrat_timed() as splitter:
        with _noted(seconds, "read"):
            table = read_coco(annotations, folder)
        with _noted(seconds, "curate"):
            table, _ = curate(table, num_images=None, min_images_per_class=0.001, unlabelled="keep", seed=0)
        with _noted(seconds, "split"):
            split = stratified_split(table, test=0.2, val=0.1, seed=0)
        with _noted(seconds, "weigh"):
            class_weights(table.labels[split.train].sum(axis=0, dtype=np.int64), table.classes)
    total = sum(seconds.values())
    parts = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    return [
        Row(f"labels: {number:,} images x {CLASSES} classes in COCO JSON", total, "s", detail=parts),
        Row(
            "iterstrat's own share of that",
            splitter[0] / total,
            target=">= 0.5",
            detail=f"{splitter[0]:.2f} s of {total:.2f} s",
        ),
    ]


def _write_coco(path: Path, number: int) -> Path:
    """Write COCO annotations with boxes and areas; class frequencies are proportional to 1 / rank."""
    random = np.random.default_rng(0)
    frequency = 1 / np.arange(1, CLASSES + 1)
    # the largest keys of an exponential race are a weighted sample without replacement
    race = random.exponential(size=(number, CLASSES)) / frequency
    drawn = np.argpartition(race, LABELS_AN_IMAGE, axis=1)[:, :LABELS_AN_IMAGE]
    images = [
        {"id": image, "file_name": f"{image:012d}.jpg", "height": 480, "width": 640}
        for image in range(number)
    ]
    entries: list[dict[str, Any]] = [
        {"id": image * LABELS_AN_IMAGE + place, "image_id": image, "category_id": int(label) + 1}
        | {"iscrowd": 0, "area": 1234.5, "bbox": [10.5, 20.25, 100.75, 50.5]}
        for image, row in enumerate(drawn)
        for place, label in enumerate(row)
    ]
    categories = [{"id": label + 1, "name": f"class {label:02d}"} for label in range(CLASSES)]
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return path


@contextmanager
def _noted(seconds: dict[str, float], name: str) -> Iterator[None]:
    with measured() as clock:
        yield
    seconds[name] = clock.wall


@contextmanager
def _iterstrat_timed() -> Iterator[list[float]]:
    """Measure the seconds in the splitter of the library, in a list of one."""
    spent = [0.0]
    original = split_plan.MultilabelStratifiedShuffleSplit

    class Timed(original):
        def split(self, *args: Any, **options: Any) -> Iterator[Any]:
            start = time.perf_counter()
            parts = list(super().split(*args, **options))
            spent[0] += time.perf_counter() - start
            return iter(parts)

    split_plan.MultilabelStratifiedShuffleSplit = Timed  # pyright: ignore[reportPrivateImportUsage]
    try:
        yield spent
    finally:
        split_plan.MultilabelStratifiedShuffleSplit = original  # pyright: ignore[reportPrivateImportUsage]
