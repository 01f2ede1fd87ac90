"""WebDataset tar shards (https://github.com/webdataset/webdataset): images, and labels under the same names."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlic.data.readers.common import column_of, label_matrix
from mlic.data.readers.csv import read_csv
from mlic.data.readers.label_text import check_separator, refuse_combinations, refuse_list
from mlic.data.table import LabelTable
from mlic.data.tars.images import TarImage
from mlic.data.tars.index import LABEL_MEMBERS, read_shards
from mlic.data.tars.listing import ShardPaths
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

NAMES_SHOWN = 3
SAMPLE = "Expected images such as 000123.jpg, each with a 000123.json, .cls, .txt or .labels that holds class names."


def read_webdataset(
    images: ShardPaths,
    annotations: str | Path | None = None,
    *,
    label_member: str = "auto",
    label_key: str = "labels",
    separator: str = "|",
    classes: Sequence[str] | None = None,
    ignore_columns: Sequence[str] | None = None,
    on_bad_sample: str = "error",
) -> LabelTable:
    """Read labels from tar shards. Images are later read from the shards as well, without unpacking them.

    The members of a sample share their name up to the first dot: an image, and its labels in `.json`, `.cls`, `.txt`
    or `.labels`. Each shard is read once from start to end. An index of its content is kept in the cache folder and
    stays valid while size and modification time (or tag) of the shard are unchanged.

    Args:
        images: tar shards: a folder, file, pattern or address (`https://`, `s3://`, `gs://`, `hf://`), or several.
        annotations: CSV file as for `read_csv`, used instead of labels in the shards. Its file names are
            `<shard>/<name in the shard>`, or only the latter if it is unique.
        label_member: `json`, `cls`, `txt` or `labels`; `auto` takes the one that is present.
        label_key: key of a `.json` whose value is a list of class names, or of indices into `classes`.
        separator: text between class names in text members; line breaks separate them, too.
        classes: all class names, in the order of their indices; any other label is then an error.
        ignore_columns: columns of the CSV file that are not classes; see `read_csv`.
        on_bad_sample: `error`, or `drop` to leave out broken and incomplete samples.

    Returns:
        The label table; its file names are `<shard>/<name in the shard>`, its folder is that of the shards.

    Raises:
        InputError: shards, samples or labels cannot be used.
    """
    check_choice("data.reader.label_member", label_member, ("auto", *LABEL_MEMBERS))
    check_choice("data.reader.on_bad_sample", on_bad_sample, ("error", "drop"))
    separator = check_separator(separator)
    root, found, labels = read_shards(
        images,
        on_bad_sample=on_bad_sample,
        label_member=label_member if annotations is None else "none",
        label_key=label_key,
    )
    if annotations is not None:
        options = {"separator": separator, "classes": classes, "ignore_columns": ignore_columns}
        table = _from_csv(annotations, root, found, options)
    else:
        table = _from_members(root, found, labels, separator, classes)
    logger.info(
        "tar shards: %d images, %d classes; %d images have no label",
        *(len(table), len(table.classes), (~table.labels.any(axis=1)).sum()),
    )
    return table


def _from_members(
    root: str,
    images: Mapping[str, TarImage],
    all_labels: Sequence[Any],
    separator: str,
    classes: Sequence[str] | None,
) -> LabelTable:
    if not images:
        raise InputError(f"data.images: the tar shards contain no usable samples. {SAMPLE}")
    columns_of = {name: column for column, name in enumerate(classes or ())}
    if len(columns_of) < len(classes or ()):
        raise InputError("data.reader.classes lists a class twice.")
    cells: list[tuple[int, int]] = []
    for row, (image, labels) in enumerate(zip(images.values(), all_labels, strict=True)):
        if isinstance(labels, str):
            refuse_list(labels, str(image), separator, classes)
            parts = (part.strip() for line in labels.splitlines() for part in line.split(separator))
            labels = [part for part in parts if part]
        cells += [(row, _column(label, columns_of, classes, str(image))) for label in labels]
    if not columns_of:
        raise InputError(f"data.images: no image in the tar shards has a label. {SAMPLE}")
    if classes is None:
        refuse_combinations(list(columns_of), "data.images")
    rows, columns = np.array(cells, dtype=np.int64).reshape(-1, 2).T
    matrix = label_matrix(len(images), len(columns_of), rows, columns)
    return LabelTable.build(root, list(images), matrix, list(columns_of), references=images)


def _column(label: str | int, columns_of: dict[str, int], classes: Sequence[str] | None, image: str) -> int:
    """Return the column of a class name or, with given `classes`, of an index; otherwise new names add columns."""
    if isinstance(label, str) and label in columns_of:
        return columns_of[label]
    if classes is None:
        if isinstance(label, int):
            raise InputError(
                f"{image}: label {label} is a number; list the class names in order in data.reader.classes."
            )
        return columns_of.setdefault(label, len(columns_of))
    if isinstance(label, str) and not (label.isascii() and label.isdigit()):
        return column_of(classes, label, image)
    if not 0 <= int(label) < len(classes):
        raise InputError(
            f"{image}: label {label} is not an index of one of the {len(classes)} classes (from 0)."
        )
    return int(label)


def _from_csv(
    annotations: str | Path, root: str, images: Mapping[str, TarImage], options: dict[str, Any]
) -> LabelTable:
    # read_csv requires an existing folder but does not use it here; the shards may be on a server
    table = read_csv(annotations, Path(annotations).parent, **options)
    by_member: dict[str, list[str]] = {}
    for name, image in images.items():
        by_member.setdefault(image.name, []).append(name)
    names = [[name] if name in images else by_member.get(name, []) for name in table.file_names]
    lost = [str(name) for name, found in zip(table.file_names, names, strict=True) if len(found) != 1]
    if lost:
        example = next(iter(sorted(images)), "train-000.tar/000123.jpg")
        raise InputError(
            f"{annotations}: {len(lost)} of {len(names)} file names are not in exactly one tar shard: "
            f"{', '.join(lost[:NAMES_SHOWN])}{', …' if len(lost) > NAMES_SHOWN else ''}. "
            f"Expected names such as {example}."
        )
    if len(table) < len(images):
        logger.info(
            "%d images of the shards are not in %s and are left out", len(images) - len(table), annotations
        )
    return LabelTable.build(
        root, [found[0] for found in names], table.labels, table.classes, references=images
    )
