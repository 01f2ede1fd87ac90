"""COCO instances JSON (https://cocodataset.org/#format-data)."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlic.data.readers.common import (
    existing_file,
    image_folder,
    label_matrix,
    merge_repeated,
    safe_file_names,
)
from mlic.data.table import LabelTable, check_class_names
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

SECTIONS = ("images", "annotations", "categories")


def read_coco(
    annotations: str | Path, images: str | Path, *, crowd: str = "keep", unannotated: str = "keep"
) -> LabelTable:
    """Read the categories of each image from COCO instances JSON; boxes and masks are ignored.

    Every category of the file becomes a class, even if it has no images. Category ids may have gaps, as they do in
    COCO.

    Args:
        annotations: COCO instances JSON.
        images: folder that `file_name` is relative to.
        crowd: `drop` ignores annotations with `iscrowd: 1`, and with them labels that only a crowd region has.
        unannotated: `drop` leaves out images without annotations (after `crowd` is applied).

    Returns:
        The label table.

    Raises:
        InputError: the file is missing or malformed, has an unknown id, lists an image with two different sets of
            labels, or names an image outside the folder.
    """
    check_choice("data.reader.crowd", crowd, ("keep", "drop"))
    check_choice("data.reader.unannotated", unannotated, ("keep", "drop"))
    file, folder = existing_file(annotations, "a COCO instances JSON file"), image_folder(images)
    content = _load(file)
    image_ids, names = _images(file, content)
    category_ids, classes = _categories(file, content)

    rows = _positions(file, content, "image_id", image_ids, "images")
    columns = _positions(file, content, "category_id", category_ids, "categories")
    is_crowd = _crowd(file, content)
    kept = ~is_crowd if crowd == "drop" else np.ones_like(is_crowd)
    labels = label_matrix(len(names), len(classes), rows[kept], columns[kept])
    check_class_names(classes, f"{file}, categories", labels)

    file_names, labels = merge_repeated(names, labels, lambda row: f"{file}, image id {image_ids[row]}")
    without = ~labels.any(axis=1)
    use = ~without if unannotated == "drop" else np.ones_like(without)
    logger.info(
        "%s: %d images kept, %d classes; "
        "of %d annotations %d are crowd regions (%s); %d images have none (%s)",
        *(file, use.sum(), len(classes), len(is_crowd), is_crowd.sum(), crowd, without.sum(), unannotated),
    )
    return LabelTable.build(folder, file_names[use], labels[use], classes)


def _load(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Parse the file and check that its three sections are lists of objects."""
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}). "
            "Expected a COCO instances file; is it complete?"
        ) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or numbers of thousands of digits
        raise InputError(f"{file}: not a JSON text file ({error}). Expected a COCO instances file.") from None
    for section in SECTIONS:
        if not isinstance(content, dict) or not isinstance(content.get(section), list):
            raise InputError(
                f"{file}: the list '{section}' is missing. Expected COCO instances JSON "
                "with images, annotations and categories."
            )
        if not set(map(type, content[section])) <= {dict}:
            place = next(row for row, entry in enumerate(content[section]) if type(entry) is not dict)
            raise InputError(f"{file}, {section}[{place}]: expected a JSON object ({{...}}).")
    return content


def _field(file: Path, content: dict[str, list[dict[str, Any]]], section: str, key: str) -> list[Any]:
    """Return one field of all entries of a section; ids must be integers or strings."""
    values = [entry.get(key) for entry in content[section]]
    if not set(map(type, values)) <= {int, str}:
        place = next(row for row, value in enumerate(values) if type(value) not in (int, str))
        expected = "a number or a string" if key.endswith("id") else "a string"
        raise InputError(f"{file}, {section}[{place}]: '{key}' is {values[place]!r}, expected {expected}.")
    return values


def _images(file: Path, content: dict[str, list[dict[str, Any]]]) -> tuple[pd.Index, list[str]]:
    """Return the ids and file names of the images; identical repeated entries count once."""
    ids = _field(file, content, "images", "id")
    names = safe_file_names(
        _field(file, content, "images", "file_name"), lambda row: f"{file}, images[{row}]"
    )
    name_of: dict[Any, str] = {}
    for row, (identity, name) in enumerate(zip(ids, names, strict=True)):
        if name_of.setdefault(identity, name) != name:
            raise InputError(
                f"{file}, images[{row}]: id {identity!r} is used for both '{name_of[identity]}' "
                f"and '{name}'. Each image needs its own id."
            )
    if not name_of:
        raise InputError(f"{file}: the list 'images' is empty; expected at least one image.")
    return pd.Index(list(name_of)), list(name_of.values())


def _categories(file: Path, content: dict[str, list[dict[str, Any]]]) -> tuple[pd.Index, list[str]]:
    """Return the ids and names of the categories, and refuse repeated ones."""
    ids, names = _field(file, content, "categories", "id"), _field(file, content, "categories", "name")
    classes = [str(name) for name in names]
    for key, values in (("id", ids), ("name", classes)):
        row = _first_repeated(values)
        if row is not None:
            raise InputError(
                f"{file}, categories[{row}]: {key} {values[row]!r} occurs twice; "
                "each category needs its own id and name."
            )
    return pd.Index(ids), classes


def _first_repeated(values: list[Any]) -> int | None:
    seen: set[Any] = set()
    for row, value in enumerate(values):
        if value in seen:
            return row
        seen.add(value)
    return None


def _crowd(file: Path, content: dict[str, list[dict[str, Any]]]) -> np.ndarray:
    """Return bool (annotations,), True for crowd regions; a missing `iscrowd` means False."""
    marks = [entry.get("iscrowd") or 0 for entry in content["annotations"]]
    if not (set(map(type, marks)) <= {int, bool} and set(marks) <= {0, 1}):
        row = next(
            row for row, mark in enumerate(marks) if type(mark) not in (int, bool) or mark not in (0, 1)
        )
        raise InputError(f"{file}, annotations[{row}]: 'iscrowd' is {marks[row]!r}, expected 0 or 1.")
    return np.array(marks, dtype=bool)


def _positions(
    file: Path, content: dict[str, list[dict[str, Any]]], key: str, index: pd.Index, section: str
) -> np.ndarray:
    """Return the positions (annotations,) in `section` of the ids stored under `key`."""
    ids = _field(file, content, "annotations", key)
    positions = index.get_indexer(pd.Index(ids)) if ids else np.zeros(0, dtype=np.int64)
    unknown = np.flatnonzero(positions < 0)
    if len(unknown):
        raise InputError(
            f"{file}, annotations[{unknown[0]}]: {key} {ids[unknown[0]]!r} is not in the list '{section}' "
            f"({len(unknown)} such annotations). Add it there, or remove these annotations."
        )
    return positions
