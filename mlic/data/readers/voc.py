"""Pascal VOC: a folder with one XML file per image (http://host.robots.ox.ac.uk/pascal/VOC/)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mlic.data.readers.common import (
    column_of,
    existing_folder,
    image_folder,
    merge_repeated,
    safe_file_names,
)
from mlic.data.table import LabelTable, check_class_names
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Annotation:
    """The content of one XML file: the image, the classes of its objects, and True for difficult objects."""

    file: Path
    file_name: str
    names: list[str]
    difficult: list[bool]


def read_voc(
    annotations: str | Path,
    images: str | Path,
    *,
    difficult: str = "keep",
    unannotated: str = "keep",
    classes: Sequence[str] | None = None,
) -> LabelTable:
    """Read the classes of each image from Pascal VOC XML files.

    Args:
        annotations: folder of XML files (`VOC2007/Annotations`).
        images: folder to which `<filename>` is relative (`VOC2007/JPEGImages`).
        difficult: `drop` ignores objects marked difficult, and with them labels that only such objects support.
        unannotated: `drop` leaves out images without objects (after `difficult` is applied).
        classes: all class names; any other label is then an error. Default: the names that occur.

    Returns:
        The label table.

    Raises:
        InputError: the folder is missing or has no XML files; a file is malformed, has a label outside `classes`, or
            names an image outside the folder; or two files list different labels for one image.
    """
    check_choice("data.reader.difficult", difficult, ("keep", "drop"))
    check_choice("data.reader.unannotated", unannotated, ("keep", "drop"))
    place, folder = (
        existing_folder(annotations, "annotations", "a folder of VOC XML files"),
        image_folder(images),
    )
    entries = [_parse(file) for file in sorted(place.glob("*.xml"))]
    if not entries:
        raise InputError(
            f"{place}: no XML files in this folder; expected one per image (VOC's 'Annotations')."
        )
    file_names = safe_file_names([entry.file_name for entry in entries], lambda row: str(entries[row].file))
    labels, found = _labels(entries, difficult, classes)
    kept_names, labels = merge_repeated(file_names, labels, lambda row: str(entries[row].file))
    without = ~labels.any(axis=1)
    use = ~without if unannotated == "drop" else np.ones_like(without)
    logger.info(
        "%s: %d images kept, %d classes; of %d objects %d are difficult (%s); %d images have none (%s)",
        *(place, use.sum(), len(found), sum(len(entry.names) for entry in entries)),
        *(sum(sum(entry.difficult) for entry in entries), difficult, without.sum(), unannotated),
    )
    return LabelTable.build(folder, kept_names[use], labels[use], found)


def _labels(
    entries: list[_Annotation], difficult: str, classes: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    """Return labels (N, C) and the C class names; a class that only difficult objects have is kept."""
    found = sorted({name for entry in entries for name in entry.names}) if classes is None else list(classes)
    if not found:
        raise InputError(
            f"{entries[0].file.parent}: no image has objects; expected <object> elements with <name>."
        )
    labels = np.zeros((len(entries), len(found)), dtype=np.uint8)
    for row, entry in enumerate(entries):
        for name, is_difficult in zip(entry.names, entry.difficult, strict=True):
            column = column_of(found, name, str(entry.file))
            if difficult == "keep" or not is_difficult:
                labels[row, column] = 1
    check_class_names(found, str(entries[0].file.parent), labels)
    return labels, found


def _parse(file: Path) -> _Annotation:
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        line, column = error.position
        raise InputError(f"{file}, line {line}, column {column}: not valid XML ({error}).") from None
    except (LookupError, ValueError) as error:  # an encoding unknown to the parser
        raise InputError(f"{file}: not valid XML ({error}); write it in UTF-8.") from None
    file_name = (root.findtext("filename") or "").strip()
    if root.tag != "annotation" or not file_name:
        raise InputError(
            f"{file}: expected <annotation> with a <filename>, as in Pascal VOC; found <{root.tag}>."
        )
    objects = root.findall("object")
    names = [(entry.findtext("name") or "").strip() for entry in objects]
    if "" in names:
        raise InputError(f"{file}: object {names.index('') + 1} has no <name>; give each object its class.")
    marked = [(entry.findtext("difficult") or "0").strip() == "1" for entry in objects]
    return _Annotation(file, file_name, names, marked)
