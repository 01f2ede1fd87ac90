"""WebDataset tar shards (https://github.com/webdataset/webdataset): images and labels of one name, side by side."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlic.data.annotations.common import (
    check_separator,
    column_of,
    label_matrix,
    refuse_combinations,
    refuse_list,
    require_choice,
)
from mlic.data.annotations.csv import read_csv
from mlic.data.table import LabelTable
from mlic.data.tar_scan import LABEL_MEMBERS, LabelSource
from mlic.data.tar_shards import Places, index_shards, load_shard, names_in, refuse_problems
from mlic.errors import InputError
from mlic.tars.index import ShardIndex
from mlic.tars.listing import ShardFile

logger = logging.getLogger(__name__)

NAMES_SHOWN = 3
SAMPLE = (
    "Expected images such as 000123.jpg, and 000123.json, .cls, .txt or .labels with class names beside each."
)


def read_webdataset(
    images: Places,
    annotations: str | Path | None = None,
    *,
    label_member: str = "auto",
    label_key: str = "labels",
    separator: str = "|",
    classes: Sequence[str] | None = None,
    ignore_columns: Sequence[str] | None = None,
    on_bad_sample: str = "error",
) -> LabelTable:
    """Read labels from tar shards; images are then read from the shards too, never unpacked.

    A sample is what has one name up to its first dot: an image, and its labels in `.json`, `.cls`, `.txt` or
    `.labels`. Each shard is read once, from its beginning to its end; an index of what it holds is kept in the cache
    folder while size and time of change (or tag) of the shard stay the same.

    Args:
        images: tar shards: a folder, file, pattern, address (`https://`, `s3://`, `gs://`, `hf://`), or several.
        annotations: a CSV file as for `read_csv`, instead of labels in the shards; its file names are
            `<shard>/<name in the shard>`, or the latter alone where that is clear.
        label_member: `json`, `cls`, `txt`, `labels`; `auto` takes the one that is there.
        label_key: of a `.json`: a list of class names, or of numbers into `classes`.
        separator: between class names in a text; lines separate them too.
        classes: all class names, in the order of their numbers; others are then an error.
        ignore_columns: of a CSV file, see `read_csv`.
        on_bad_sample: `error`; `drop` leaves out samples that are broken or not whole.

    Returns:
        The table; its file names are `<shard>/<name in the shard>`, its folder that of the indexes.

    Raises:
        InputError: shards, samples or labels that cannot be used.
    """
    require_choice("label_member", label_member, ("auto", *LABEL_MEMBERS))
    require_choice("on_bad_sample", on_bad_sample, ("error", "drop"))
    separator = check_separator(separator)
    source = LabelSource(label_member if annotations is None else "none", label_key)
    folder, shards = index_shards(images, source)
    refuse_problems(folder, shards, on_bad_sample)
    if annotations is not None:
        options = {"separator": separator, "classes": classes, "ignore_columns": ignore_columns}
        table = _from_csv(annotations, folder, shards, options)
    else:
        table = _from_members(folder, shards, separator, classes)
    logger.info(
        "%d tar shards: %d images, %d classes; %d images have no label",
        *(len(shards), len(table), len(table.classes), (~table.labels.any(axis=1)).sum()),
    )
    return table


def _from_members(
    folder: Path, shards: Sequence[ShardFile], separator: str, classes: Sequence[str] | None
) -> LabelTable:
    columns_of = {name: place for place, name in enumerate(classes or ())}
    if len(columns_of) < len(classes or ()):
        raise InputError("data.reader.classes: a class is named twice.")
    names: list[str] = []
    rows, columns = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for shard in shards:
        index = load_shard(folder, shard, labels=True)
        found = [
            [
                _column(label, columns_of, classes, f"{shard.url}, {index.names[row].decode()}")
                for label in labels
            ]
            for row, labels in enumerate(_labels(shard, index, separator, classes))
        ]
        rows.append(np.repeat(len(names) + np.arange(len(index)), [len(labels) for labels in found]))
        columns.append(np.array([column for labels in found for column in labels], dtype=np.int64))
        names += names_in(shard, index)
    if not names:
        raise InputError(f"data.images: {len(shards)} tar shards hold no usable sample. {SAMPLE}")
    if not columns_of:
        raise InputError(f"data.images: no image of {len(shards)} tar shards has a label. {SAMPLE}")
    if classes is None:
        refuse_combinations(list(columns_of), "data.images")
    labels = label_matrix(len(names), len(columns_of), np.concatenate(rows), np.concatenate(columns))
    return LabelTable.build(folder, names, labels, list(columns_of))


def _labels(
    shard: ShardFile, index: ShardIndex, separator: str, classes: Sequence[str] | None
) -> Iterable[list[Any]]:
    for row in range(len(index)):
        found = json.loads(index.labels[row])
        if isinstance(found, str):
            refuse_list(found.strip(), f"{shard.url}, {index.names[row].decode()}", separator, classes)
            found = [
                label.strip()
                for line in found.splitlines()
                for label in line.split(separator)
                if label.strip()
            ]
        yield found


def _column(label: str | int, columns_of: dict[str, int], classes: Sequence[str] | None, place: str) -> int:
    """Of a name, or of a number where there are classes to count in; new names become new classes."""
    if isinstance(label, str) and label in columns_of:
        return columns_of[label]
    if classes is None:
        if isinstance(label, int):
            raise InputError(
                f"{place}: label {label} is a number; give the class names in their order as data.reader.classes."
            )
        return columns_of.setdefault(label, len(columns_of))
    if isinstance(label, str) and not (label.isascii() and label.isdigit()):
        return column_of(classes, label, place)
    if not 0 <= int(label) < len(classes):
        raise InputError(f"{place}: label {label} is none of the {len(classes)} classes, which count from 0.")
    return int(label)


def _from_csv(
    annotations: str | Path,
    folder: Path,
    shards: Sequence[ShardFile],
    options: dict[str, Any],
) -> LabelTable:
    table = read_csv(annotations, folder, **options)
    whole = {name for shard in shards for name in names_in(shard, load_shard(folder, shard))}
    by_member: dict[str, list[str]] = {}
    if not whole.issuperset(table.file_names):
        for shard in shards:
            for name in names_in(shard, load_shard(folder, shard)):
                by_member.setdefault(name[len(shard.name) + 1 :], []).append(name)
    names = [[name] if name in whole else by_member.get(name, []) for name in table.file_names]
    lost = [str(name) for name, found in zip(table.file_names, names, strict=True) if len(found) != 1]
    if lost:
        example = next(iter(sorted(whole)), "train-000.tar/000123.jpg")
        raise InputError(
            f"{annotations}: {len(lost)} of {len(names)} file names are in no tar shard, or in several: "
            f"{', '.join(lost[:NAMES_SHOWN])}{', …' if len(lost) > NAMES_SHOWN else ''}. "
            f"Expected names such as {example}."
        )
    if len(table) < len(whole):
        logger.info(
            "%d images of the shards are not in %s and are left out", len(whole) - len(table), annotations
        )
    return LabelTable.build(folder, [found[0] for found in names], table.labels, table.classes)
