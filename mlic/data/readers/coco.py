"""COCO instances JSON (https://cocodataset.org/#format-data)."""

import logging
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mlic.data.readers import common
from mlic.data.readers.folders import Paths, annotation_files, image_folders, part_named, parts_of_files
from mlic.data.table import UNKNOWN, LabelTable
from mlic.errors import check_choice

logger = logging.getLogger(__name__)

EXPECTED = (
    "COCO instances JSON with images, annotations and categories, ids in these lists, and iscrowd 0 or 1"
)


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
    files, folders = annotation_files(annotations), image_folders(images)
    contents = [_read_file(file, crowd) for file in files]
    annotated = [*chain.from_iterable(names for names, _, _ in contents)]
    sets = [*chain.from_iterable(labels for _, labels, _ in contents)]
    file_of = np.repeat(np.arange(len(files)), [len(names) for names, _, _ in contents])
    classes = list(dict.fromkeys(chain.from_iterable(own for _, _, own in contents)))

    def place(row: int) -> str:
        return f"{files[file_of[row]]}, '{annotated[row]}'"

    names = common.names_in_folders(files, file_of, folders, annotated, place, extension)
    labels, _ = common.labels_of_names(sets, classes, place)
    for number, (_, _, own) in enumerate(contents):
        others = ~np.isin(classes, own)
        labels[np.ix_(file_of == number, others)] = UNKNOWN
        if others.any():
            logger.warning(
                "%s: labels of %d classes that it does not list are unknown", files[number], others.sum()
            )
    of_file = parts_of_files(files)
    pairs = zip(file_of, names, strict=True)
    parts = [of_file[number] or part_named(name.partition("/")[0]) for number, name in pairs]
    if "" in parts or len(set(parts)) < 2:
        parts = None  # not of all images
    elif "test" not in parts:
        logger.info("the part val is used as test, because there is no test part")
        parts = [part.replace("val", "test") for part in parts]
    return common.build_table(
        ", ".join(map(str, files)),
        folders,
        names,
        labels,
        classes,
        place,
        parts=parts,
        unannotated=unannotated,
    )


def _read_file(file: Path, crowd: str) -> tuple[list[Any], list[set[str]], list[str]]:
    """Return file names, the class names of each image, and all class names of one file."""
    content, place, crowds = common.parse_json(file.read_bytes(), str(file)), "images", 0
    try:
        images, categories = {}, {}
        for section, key, found in (("images", "file_name", images), ("categories", "name", categories)):
            for row, entry in enumerate(common.list_of(content, section)):
                place = f"{section}[{row}]"
                _check_types(entry["id"], entry[key])
                if found.setdefault(entry["id"], entry[key]) != entry[key]:
                    raise ValueError(
                        f"id {entry['id']!r} is used for both '{found[entry['id']]}' and another"
                    )
        if not images:  # the part of this file would be missing without a word
            place = "images"
            raise ValueError("the list is empty")
        classes = list(map(str, categories.values()))
        if len(set(classes)) < len(classes):
            raise ValueError("two categories have the same name")
        labels: dict[Any, set[str]] = {identity: set() for identity in images}
        for row, entry in enumerate(common.list_of(content, "annotations")):
            place = f"annotations[{row}]"
            _check_types(entry["image_id"], entry["category_id"])
            own, name = labels[entry["image_id"]], str(categories[entry["category_id"]])
            is_crowd = {0: False, 1: True, None: False}[entry.get("iscrowd")]
            crowds += is_crowd
            if crowd == "keep" or not is_crowd:
                own.add(name)
    except common.MALFORMED as error:
        raise common.malformed(f"{file}, {place}", error, EXPECTED) from None
    number = len(content["annotations"])
    logger.info("%s: of %d annotations %d are crowd regions (%s)", file, number, crowds, crowd)
    return list(images.values()), list(labels.values()), classes


def _check_types(*values: Any) -> None:
    if not {*map(type, values)} <= {int, str}:  # True and 1.0 are equal to 1
        raise TypeError(f"expected whole numbers and texts, got {values}")
