"""Pascal VOC: a folder with one XML file per image (http://host.robots.ox.ac.uk/pascal/VOC/)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from mlic.data.readers.common import build_table, labels_of_names, safe_file_names
from mlic.data.readers.folders import Paths, annotation_folders, image_folders
from mlic.data.table import LabelTable
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)


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
    files = [file for folder in annotation_folders(annotations) for file in sorted(folder.glob("*.xml"))]
    if not files:
        raise InputError(f"{annotations}: no XML files in this folder; expected one per image.")
    parsed = [_parse(file) for file in files]

    def place(row: int) -> str:
        return str(files[row])

    # a class that only difficult objects have is kept
    labels, found = labels_of_names([{name for name, _ in objects} for _, objects in parsed], classes, place)
    marks = [is_difficult for _, objects in parsed for _, is_difficult in objects]
    logger.info("%s: of %d objects %d are difficult (%s)", annotations, len(marks), sum(marks), difficult)
    if difficult == "drop":
        easy = [{name for name, is_difficult in objects if not is_difficult} for _, objects in parsed]
        labels, _ = labels_of_names(easy, found, place)
    names = safe_file_names([name for name, _ in parsed], place, extension)
    source = ", ".join(dict.fromkeys(str(file.parent) for file in files))
    return build_table(source, image_folders(images), names, labels, found, place, unannotated=unannotated)


def _parse(file: Path) -> tuple[str, list[tuple[str, bool]]]:
    """Return the name of the image, and class and difficulty of each object."""
    try:
        root = ElementTree.parse(file).getroot()
    except (
        ElementTree.ParseError,
        LookupError,
        ValueError,
    ) as error:  # also an encoding unknown to the parser
        raise InputError(f"{file}: not valid XML ({error}).") from None
    objects = [
        ((entry.findtext("name") or "").strip(), (entry.findtext("difficult") or "0").strip() == "1")
        for entry in root.findall("object")
    ]
    file_name = (root.findtext("filename") or "").strip()
    if root.tag != "annotation" or not file_name or not all(name for name, _ in objects):
        raise InputError(
            f"{file}: expected <annotation> with a <filename>, and an <object> with a <name> for each."
        )
    return file_name, objects
