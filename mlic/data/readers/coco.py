"""COCO instances JSON (https://cocodataset.org/#format-data)."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlic.data.readers.common import build_table, labels_of_names, objects, parse_json, safe_file_names
from mlic.data.readers.folders import (
    Paths,
    annotation_files,
    image_folders,
    part_named,
    parts_of_files,
    subfolder_of,
)
from mlic.data.table import UNKNOWN, LabelTable
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

EXPECTED = "COCO instances JSON with images, annotations and categories"


def read_coco(
    annotations: Paths,
    images: Paths,
    *,
    crowd: str = "keep",
    unannotated: str = "keep",
    extension: str | None = None,
) -> LabelTable:
    """Read the categories of each image from COCO instances JSON; boxes and masks are ignored.

    Every category of the files becomes a class, even if it has no images. Ids may have gaps, as they do in COCO, and
    each file has its own ids: categories of several files are the same class if their names are equal. Classes that are
    not among the categories of a file are unknown for its images.

    Several files such as `instances_train2017.json` and `instances_val2017.json` give the images their parts, and so do
    folders in the file names of one file, such as `train2017/000000000009.jpg`. Without a `test` part, `val` is the
    test part, because COCO publishes no annotations of its test images.

    Args:
        annotations: COCO instances JSON; a file, a pattern, or a list of them.
        images: folder that `file_name` is relative to, or the parent of a folder for each file (`train2017`,
            `val2017`); or a pattern, or a list of folders.
        crowd: `drop` ignores annotations with `iscrowd: 1`, and with them labels that only a crowd region has.
        unannotated: `drop` leaves out images without annotations (after `crowd` is applied).
        extension: end of all file names, such as `.jpg`, if the annotations omit it or have another one.

    Returns:
        The label table.

    Raises:
        InputError: a file is missing or malformed, has an unknown id, lists an image with two different sets of labels,
            or names an image outside the folder.
    """
    check_choice("data.reader.crowd", crowd, ("keep", "drop"))
    check_choice("data.reader.unannotated", unannotated, ("keep", "drop"))
    files, folders = annotation_files(annotations, "a COCO instances JSON file"), image_folders(images)
    contents = [_read_file(file, crowd, extension) for file in files]
    classes = list(dict.fromkeys(name for content in contents for name in content.classes))
    names: list[str] = []
    places: list[str] = []
    parts: list[str] = []
    for file, content, part in zip(files, contents, parts_of_files(files), strict=True):
        prefix = subfolder_of(file, folders, content.names)
        names += [prefix + name for name in content.names]
        places += [f"{file}, '{name}'" for name in content.names]
        parts += [part] * len(content.names)
    source = ", ".join(map(str, files))
    sets = [labels for content in contents for labels in content.labels]
    labels, _ = labels_of_names(sets, classes, source, places.__getitem__)
    first = 0
    for file, content in zip(files, contents, strict=True):
        others = ~np.isin(classes, content.classes)
        if others.any():
            logger.warning(
                "%s: the labels of %d classes that it does not list are unknown", file, others.sum()
            )
        labels[first : first + len(content.names), others] = UNKNOWN
        first += len(content.names)
    if not any(parts):
        parts = [part_named(name.partition("/")[0]) for name in names]
    return build_table(
        source,
        folders,
        names,
        labels,
        classes,
        places.__getitem__,
        parts=_parts(parts),
        unannotated=unannotated,
    )


def _parts(parts: Sequence[str]) -> Sequence[str] | None:
    """Return the parts if they are official ones of all images, with `val` as `test` if there is no `test`."""
    given = set(parts)
    if "" in given or len(given) < 2:
        return None
    if "test" in given:
        return parts
    logger.info("the part val is used as test, because there is no test part")
    return ["test" if part == "val" else part for part in parts]


class _Content(NamedTuple):
    """File names, the class names of each image, and all class names of one file."""

    names: list[str]
    labels: list[set[str]]
    classes: list[str]


def _read_file(file: Path, crowd: str, extension: str | None) -> _Content:
    content = parse_json(file.read_bytes(), str(file), EXPECTED)
    content = content if isinstance(content, dict) else {}
    names = _by_id(file, content, "images", "file_name")
    categories = _by_id(file, content, "categories", "name")
    if not names:
        raise InputError(f"{file}: the list 'images' is empty; expected at least one image.")
    ids = list(names)
    safe = safe_file_names(list(names.values()), lambda row: f"{file}, image id {ids[row]!r}", extension)
    classes = [str(name) for name in categories.values()]
    if repeated := [name for name, count in Counter(classes).items() if count > 1]:
        raise InputError(
            f"{file}, categories: name '{repeated[0]}' occurs twice; each category needs its own."
        )
    labels: dict[Any, set[str]] = {identity: set() for identity in names}
    entries = objects(content.get("annotations"), f"{file}, annotations", EXPECTED)
    crowds = 0
    for row, entry in enumerate(entries):
        place = f"{file}, annotations[{row}]"
        image = _known(entry, "image_id", labels, "images", place)
        category = _known(entry, "category_id", categories, "categories", place)
        is_crowd = entry.get("iscrowd") or 0
        if type(is_crowd) not in (int, bool) or is_crowd not in (0, 1):
            raise InputError(f"{place}: 'iscrowd' is {is_crowd!r}, expected 0 or 1.")
        crowds += is_crowd
        if not is_crowd or crowd == "keep":
            labels[image].add(str(categories[category]))
    logger.info("%s: of %d annotations %d are crowd regions (%s)", file, len(entries), crowds, crowd)
    return _Content(safe, list(labels.values()), classes)


def _by_id(file: Path, content: dict[str, Any], section: str, key: str) -> dict[Any, Any]:
    """Map the ids of a section to names; identical repeated entries count once."""
    named: dict[Any, Any] = {}
    for row, entry in enumerate(objects(content.get(section), f"{file}, {section}", EXPECTED)):
        place = f"{file}, {section}[{row}]"
        identity, name = _typed(entry, "id", place), _typed(entry, key, place)
        if named.setdefault(identity, name) != name:
            raise InputError(
                f"{place}: id {identity!r} is used for both '{named[identity]}' and '{name}'. "
                "Each entry needs its own id."
            )
    return named


def _known(entry: dict[str, Any], key: str, known: dict[Any, Any], section: str, place: str) -> Any:
    identity = _typed(entry, key, place)
    if identity not in known:
        raise InputError(
            f"{place}: {key} {identity!r} is not in the list '{section}'. Add it there, or remove the annotation."
        )
    return identity


def _typed(entry: dict[str, Any], key: str, place: str) -> Any:
    if type(entry.get(key)) not in (int, str):
        expected = "a number or a string" if key.endswith("id") else "a string"
        raise InputError(f"{place}: '{key}' is {entry.get(key)!r}, expected {expected}.")
    return entry[key]
