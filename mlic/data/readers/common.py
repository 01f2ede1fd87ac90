"""Helpers shared by the readers: text and JSON, safe file names, labels of names, and the table."""

import json
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from posixpath import normpath
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd

from mlic.data.file_names import leaves_folder
from mlic.data.images import without_image_extension
from mlic.data.readers.folders import locate_images, subfolder_of
from mlic.data.table import LabelTable, check_class_names, is_text
from mlic.errors import InputError

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NOT_PLAIN = re.compile(r"//|(^|/)\.(/|$)|/$")
MALFORMED = (AttributeError, LookupError, TypeError, ValueError)  # errors of JSON with unexpected content

# maps a row number to its place in the annotations, such as `labels.csv, line 7`
Place = Callable[[int], str]


def safe_file_names(names: Sequence[object], place: Place, extension: str | None = None) -> list[str]:
    """Normalize file names and check that none of them leaves the image folder.

    Args:
        names: file names as annotated.
        place: see `Place`.
        extension: end of all names, in place of the extension of an image if they have one. Default: as annotated.

    Raises:
        InputError: a name is empty, not a string, not valid text, or leads out of the folder.
    """
    safe: list[str] = []
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            problem = f"the file name of the image is {name!r}; expected a name such as photo.jpg"
        elif not is_text(name):
            problem = f"the file name {name!r} is not valid UTF-8 text"
        elif _ADDRESS.match(name):
            problem = (
                f"'{name}' is an address; download the images and use file names relative to data.images"
            )
        elif leaves_folder(name):
            problem = (
                f"'{name}' leaves the image folder; file names must be relative to data.images, without '..'"
            )
        else:
            safe.append(normpath(name) if _NOT_PLAIN.search(name) else name)
            continue
        raise InputError(f"{place(row)}: {problem}.")
    return safe if extension is None else [without_image_extension(name) + extension for name in safe]


def names_in_folders(
    files: Sequence[Path], file_of: np.ndarray, folders: Sequence[Path], names: Sequence[object], place: Place,
    extension: str | None = None,
) -> list[str]:  # fmt: skip
    """Return safe names relative to the image folders, also if those in a file are relative to a folder of its own.

    Args:
        files: annotation files.
        file_of: int (N,), the number of the annotation file of each name.
        folders: image folders.
        names: N file names as annotated.
        place: see `Place`.
        extension: see `safe_file_names`.

    Raises:
        InputError: see `safe_file_names` and `subfolder_of`.
    """
    safe = np.array(safe_file_names(names, place, extension), dtype=object)
    for number, file in enumerate(files):
        rows = file_of == number
        safe[rows] = subfolder_of(file, folders, safe[rows].tolist()) + safe[rows]
    return safe.tolist()


def first_rows(names: Sequence[str], values: np.ndarray, place: Place, what: str = "labels") -> np.ndarray:
    """Return the first row of each name; the values (N, K) of repeated rows must be equal.

    Raises:
        InputError: they differ.
    """
    number_of, _ = pd.factorize(np.array(names, dtype=object))
    _, first = np.unique(number_of, return_index=True)
    if len(first) < len(names):
        differ = np.flatnonzero((values != values[first[number_of]]).any(axis=1))
        if len(differ):
            row = int(differ[0])
            raise InputError(
                f"{place(row)}: the {what} of '{names[row]}' differ from those in {place(int(first[number_of[row]]))}. "
                "List each image once, with all its labels."
            )
    return first


def build_table(
    source: str | Path,
    folders: Sequence[Path],
    names: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    place: Place,
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
        place: see `Place`.
        parts: N parts; empty strings where the annotations give none.
        columns: N values of other columns.
        unannotated: `drop` leaves out images without labels.

    Raises:
        InputError: there are no images, class names cannot be used, an image is listed twice with different labels or
            parts, or its name is in more than one folder.
    """
    if not len(names) or not len(classes):
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
        source,
        len(kept),
        len(classes),
        without.sum(),
        unannotated,
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
    names: Sequence[Collection[str]], classes: Sequence[str] | None, place: Place
) -> tuple[np.ndarray, list[str]]:
    """Convert the class names of each image to labels.

    Args:
        names: class names of N images.
        classes: all class names. Default: the names that occur, sorted.
        place: see `Place`.

    Returns:
        Labels (N, C) of 0 and 1, and the C class names.

    Raises:
        InputError: a label is not one of `classes`.
    """
    found = sorted(set().union(*names)) if classes is None else list(classes)
    column_of = {name: number for number, name in enumerate(found)}
    labels = np.zeros((len(names), len(found)), dtype=np.int8)
    for row, labels_of_row in enumerate(names):
        for name in labels_of_row:
            if name not in column_of:
                raise InputError(
                    f"{place(row)}: label '{name}' is not one of the {len(found)} classes: "
                    f"{shorten(', '.join(found), 300)}. Correct it, or add it to data.reader.classes."
                )
            labels[row, column_of[name]] = 1
    return labels, found


def parse_json(text: bytes | str, place: str) -> Any:
    """Parse a JSON text.

    Raises:
        InputError: the text is not valid JSON, is nested too deeply, or has numbers of thousands of digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not valid JSON ({error}).") from None


def malformed(place: str, error: Exception, expected: str) -> InputError:
    """Return the error about JSON that is not as expected, from the exception that its content caused."""
    reason = error if isinstance(error, ValueError) else repr(error)
    return InputError(f"{place}: {reason}. Expected {expected}.")


def list_of(content: Any, key: str) -> list[Any]:
    """Return a list in parsed JSON.

    Raises:
        LookupError, TypeError: the content has no such key, or it is not a list.
    """
    if not isinstance(content[key], list):
        raise TypeError(f"'{key}' is not a list")
    return content[key]


def read_text(file: Path) -> str:
    """Return the content of a UTF-8 text file.

    Raises:
        InputError: it is not UTF-8 text.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error.reason}).") from None
