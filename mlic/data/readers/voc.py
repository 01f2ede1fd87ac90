"""Pascal VOC: a folder with one XML file per image (http://host.robots.ox.ac.uk/pascal/VOC/)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from mlic.data.readers.common import build_table, labels_of_names, safe_file_names
from mlic.data.readers.folders import Paths, annotation_folders, image_folders
from mlic.data.table import LabelTable
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)


class _Annotation(NamedTuple):
    """The content of one XML file: the image, the classes of its objects, and True for difficult objects."""

    file: Path
    file_name: str
    names: list[str]
    difficult: list[bool]


def read_voc(
    annotations: Paths,
    images: Paths,
    *,
    difficult: str = "keep",
    unannotated: str = "keep",
    classes: Sequence[str] | None = None,
    extension: str | None = None,
) -> LabelTable:
    """Read the classes of each image from Pascal VOC XML files.

    Args:
        annotations: folders of XML files (`VOC2007/Annotations`).
        images: folders to which `<filename>` is relative (`VOC2007/JPEGImages`).
        difficult: `drop` ignores objects marked difficult, and with them labels that only such objects support.
        unannotated: `drop` leaves out images without objects (after `difficult` is applied).
        classes: all class names; any other label is then an error. Default: the names that occur.
        extension: end of all file names, such as `.jpg`, if the annotations omit it or have another one.

    Returns:
        The label table.

    Raises:
        InputError: the folder is missing or has no XML files; a file is malformed, has a label outside `classes`, or
            names an image outside the folder; or two files list different labels for one image.
    """
    check_choice("data.reader.difficult", difficult, ("keep", "drop"))
    check_choice("data.reader.unannotated", unannotated, ("keep", "drop"))
    places = annotation_folders(annotations, "a folder of VOC XML files")
    source = ", ".join(map(str, places))
    entries = [_parse(file) for folder in places for file in sorted(folder.glob("*.xml"))]
    if not entries:
        raise InputError(
            f"{source}: no XML files in this folder; expected one per image (VOC's 'Annotations')."
        )

    def place(row: int) -> str:
        return str(entries[row].file)

    file_names = safe_file_names([entry.file_name for entry in entries], place, extension)
    # a class that only difficult objects have is kept
    labels, found = labels_of_names([entry.names for entry in entries], classes, source, place)
    if difficult == "drop":
        easy = [
            [name for name, mark in zip(entry.names, entry.difficult, strict=True) if not mark]
            for entry in entries
        ]
        labels, _ = labels_of_names(easy, found, source, place)
    marks = [mark for entry in entries for mark in entry.difficult]
    logger.info("%s: of %d objects %d are difficult (%s)", source, len(marks), sum(marks), difficult)
    return build_table(
        source, image_folders(images), file_names, labels, found, place, unannotated=unannotated
    )


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
