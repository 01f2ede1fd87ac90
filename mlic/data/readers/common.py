"""Helpers shared by the readers: safe file names, images listed more than once, and the table."""

import json
import logging
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from posixpath import normpath
from typing import Any

import numpy as np

from mlic.data.file_names import leaves_folder
from mlic.data.images import image_suffixes
from mlic.data.readers.folders import locate_images
from mlic.data.table import LabelTable, check_class_names, is_text
from mlic.errors import InputError

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NOT_PLAIN = re.compile(r"//|(^|/)\.(/|$)|/$")
CLASSES_SHOWN = 20


def safe_file_names(
    names: Sequence[object], place: Callable[[int], str], extension: str | None = None
) -> list[str]:
    """Normalize file names and check that none of them leaves the image folder.

    Args:
        names: file names as annotated.
        place: maps a row number to its place in the annotations, such as `labels.csv, line 7`.
        extension: end of all names, in place of the extension of an image if they have one. Default: as annotated.

    Raises:
        InputError: a name is empty, not a string, not valid text, or leads out of the folder.
    """
    safe: list[str] = []
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise InputError(
                f"{place(row)}: the file name of the image is {name!r}; expected a name such as photo.jpg."
            )
        if not is_text(name):
            raise InputError(
                f"{place(row)}: {name!r} is not valid UTF-8 text; rename the file and write its name in UTF-8."
            )
        if _ADDRESS.match(name):
            raise InputError(
                f"{place(row)}: '{name}' is an address. Download the images and use file names relative to "
                "data.images."
            )
        if leaves_folder(name):
            raise InputError(f"{place(row)}: '{name}' leaves the image folder. {_how_to_stay(names)}")
        safe.append(normpath(name) if _NOT_PLAIN.search(name) else name)
    if extension is not None:
        stems = ((name, *os.path.splitext(name)) for name in safe)
        return [(stem if end.lower() in image_suffixes() else name) + extension for name, stem, end in stems]
    return safe


def _how_to_stay(names: Sequence[object]) -> str:
    leaving = [name for name in names if isinstance(name, str) and leaves_folder(name)]
    start = re.sub(r"[^/\\]*$", "", leaving[0])
    number = sum(name.startswith(start) for name in leaving)
    change = f" {number} names begin with '{start}': remove it, and" if number > 1 else ""
    return (
        f"File names must be relative to data.images, without '..';{change} point data.images at a folder that holds "
        "all images."
    )


def first_rows(
    names: Sequence[str], labels: np.ndarray, place: Callable[[int], str], what: str = "labels"
) -> np.ndarray:
    """Return the first row of each name; the values (N, K) of repeated rows must be equal.

    Raises:
        InputError: they differ.
    """
    first_rows: dict[str, int] = {}
    first_of = np.array([first_rows.setdefault(name, row) for row, name in enumerate(names)], dtype=np.int64)
    repeated = np.flatnonzero(first_of != np.arange(len(names)))
    differ = repeated[(labels[repeated] != labels[first_of[repeated]]).any(axis=1)]
    if len(differ):
        row, first = int(differ[0]), int(first_of[differ[0]])
        raise InputError(
            f"{place(row)}: the {what} of '{names[row]}' differ from those in {place(first)}. "
            "List each image once, with all its labels."
        )
    return np.flatnonzero(first_of == np.arange(len(names)))


def build_table(
    source: str | Path,
    folders: Sequence[Path],
    names: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    place: Callable[[int], str],
    *,
    parts: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    unannotated: str = "keep",
) -> LabelTable:
    """Merge repeated images, search the images in the folders, and build the table.

    Args:
        source: the annotations, for messages.
        folders: image folders.
        names: N safe file names.
        labels: labels (N, C) of 1, 0 and -1 (unknown).
        classes: C names.
        place: maps a row number to its place in the annotations.
        parts: N parts; empty strings where the annotations give none.
        columns: N values of other columns.
        unannotated: `drop` leaves out images without labels.

    Raises:
        InputError: there are no images, class names cannot be used, an image is listed twice with different labels or
            parts, or its name is in more than one folder.
    """
    if not len(names):
        raise InputError(f"{source}: no image has a label.")
    check_class_names(classes, str(source), labels)
    kept = first_rows(names, labels, place)
    part_of = np.array(parts or [""] * len(names), dtype=object)
    first_rows(names, part_of[:, None], place, "parts")
    without = ~(labels[kept] == 1).any(axis=1)
    if unannotated == "drop":
        kept = kept[~without]
    file_names = np.array(names, dtype=object)[kept]
    folder, references = locate_images(folders, file_names)
    logger.info(
        "%s: %d images kept, %d classes; %d images have no label (%s)",
        *(source, len(kept), len(classes), without.sum(), unannotated),
    )
    return LabelTable.build(
        folder,
        file_names,
        labels[kept],
        classes,
        references=references,
        parts=part_of[kept] if any(part_of) else None,
        columns={name: np.array(values, dtype=object)[kept] for name, values in (columns or {}).items()},
    )


def labels_of_names(
    names: Sequence[Collection[str]],
    classes: Sequence[str] | None,
    source: str | Path,
    place: Callable[[int], str],
) -> tuple[np.ndarray, list[str]]:
    """Convert the class names of each image to labels.

    Args:
        names: class names of N images.
        classes: all class names. Default: the names that occur, sorted.
        source: the annotations, for messages.
        place: maps a row number to its place in the annotations.

    Returns:
        Labels (N, C) of 0 and 1, and the C class names.

    Raises:
        InputError: no image has a label, or a label is not one of `classes`.
    """
    found = sorted(set().union(*names)) if classes is None else list(classes)
    if not found:
        raise InputError(f"{source}: no image has a label.")
    column = {name: number for number, name in enumerate(found)}
    labels = np.zeros((len(names), len(found)), dtype=np.int8)
    for row, labels_of_row in enumerate(names):
        for name in labels_of_row:
            labels[row, column[name] if name in column else column_of(found, name, place(row))] = 1
    return labels, found


def parse_json(text: bytes | str, place: str, expected: str) -> Any:
    """Parse a JSON text.

    Raises:
        InputError: the text is not valid JSON, is nested too deeply, or has numbers of thousands of digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not valid JSON ({error}). Expected {expected}; is it complete?") from None


def objects(content: Any, place: str, expected: str) -> list[dict[str, Any]]:
    """Return a parsed list of JSON objects.

    Raises:
        InputError: it is not a list, or one of its entries is not an object.
    """
    if not isinstance(content, list):
        raise InputError(f"{place}: the list is missing. Expected {expected}.")
    for row, entry in enumerate(content):
        if type(entry) is not dict:
            raise InputError(f"{place}[{row}]: expected a JSON object ({{...}}).")
    return content


def read_text(file: Path) -> str:
    """Return the content of a UTF-8 text file.

    Raises:
        InputError: it is not UTF-8 text.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error.reason}).") from None


def column_of(classes: Sequence[str], name: str, place: str) -> int:
    """Return the column of a class.

    Raises:
        InputError: the label is not one of the classes.
    """
    try:
        return classes.index(name)
    except ValueError:
        more = f", and {len(classes) - CLASSES_SHOWN} more" if len(classes) > CLASSES_SHOWN else ""
        raise InputError(
            f"{place}: label '{name}' is not one of the {len(classes)} classes: "
            f"{', '.join(classes[:CLASSES_SHOWN])}{more}. "
            "Correct the label, or add it to data.reader.classes."
        ) from None
