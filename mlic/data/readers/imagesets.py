"""Image sets of Pascal VOC: `ImageSets/Main/<class>_train.txt` with 1, -1 or 0 for each image."""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from mlic.data.readers.common import build_table, read_text, safe_file_names
from mlic.data.readers.folders import Paths, annotation_folders, image_folders
from mlic.data.table import UNKNOWN, LabelTable
from mlic.errors import InputError, check_choice

MARKS = {"1": 1, "-1": 0}
DIFFICULT = {"unknown": UNKNOWN, "keep": 1, "drop": 0}
_FILE = re.compile(r"(.+)_(train|val|trainval|test)\.txt")


def read_imagesets(
    annotations: Paths, images: Paths, *, difficult: str = "unknown", extension: str = ".jpg"
) -> LabelTable:
    """Read one file per class and part, with a line such as `000012 -1` for each image.

    1 means that the image has the class, -1 that it does not, and 0 that it shows only difficult objects of the class,
    which VOC's evaluation ignores. Labels of images that are not in the file of a class are unknown. The files give the
    images their parts; `trainval` is used as `train` if there are no files of train and val.

    Args:
        annotations: folders of the files (`VOC2007/ImageSets/Main`).
        images: image folders (`VOC2007/JPEGImages`).
        difficult: meaning of 0: `unknown`, `keep` (present) or `drop` (absent).
        extension: appended to the names.

    Returns:
        The label table.

    Raises:
        InputError: the folder has no such files, a line is malformed, or an image has two labels of a class or is in
            two parts.
    """
    check_choice("data.reader.difficult", difficult, tuple(DIFFICULT))
    places = annotation_folders(annotations, "a folder such as VOC2007/ImageSets/Main")
    source = ", ".join(map(str, places))
    files = [file for folder in places for file in sorted(folder.iterdir())]
    found = [(file, match[1], match[2]) for file in files if (match := _FILE.fullmatch(file.name))]
    if not found:
        raise InputError(f"{source}: no files such as cat_train.txt in this folder.")
    parts = {part for _, _, part in found}
    used = parts - {"trainval"} if parts & {"train", "val"} else parts
    classes = sorted({name for _, name, part in found if part in used})
    labels: dict[str, dict[str, int]] = defaultdict(dict)
    part_of: dict[str, str] = {}
    for file, class_name, part in found:
        if part in used:
            for place, image, label in _lines(file, DIFFICULT[difficult]):
                if labels[image].setdefault(class_name, label) != label:
                    raise InputError(f"{place}: '{image}' has another label of '{class_name}' above.")
                if part_of.setdefault(image, part) != part:
                    raise InputError(f"{place}: '{image}' is in the parts {part_of[image]} and {part}.")
    matrix = np.array(
        [[row.get(name, UNKNOWN) for name in classes] for row in labels.values()], dtype=np.int8
    )
    names = safe_file_names(list(labels), lambda row: source, extension)
    return build_table(
        source,
        image_folders(images),
        names,
        matrix,
        classes,
        lambda row: f"{source}, {names[row]}",
        parts=["train" if part == "trainval" else part for part in part_of.values()],
    )


def _lines(file: Path, difficult: int) -> list[tuple[str, str, int]]:
    """Return place, image and label of each line."""
    lines = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if fields := line.rsplit(maxsplit=1):
            if len(fields) != 2 or fields[1] not in (*MARKS, "0"):
                raise InputError(f"{file}, line {number}: '{line[:60]}'; expected an image and 1, -1 or 0.")
            lines.append((f"{file}, line {number}", fields[0].strip(), MARKS.get(fields[1], difficult)))
    return lines
