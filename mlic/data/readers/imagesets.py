"""Image sets of Pascal VOC: `ImageSets/Main/<class>_train.txt` with 1, -1 or 0 for each image."""

import re

import numpy as np
import pandas as pd

from mlic.data.readers.common import build_table, read_text, safe_file_names
from mlic.data.readers.folders import Paths, annotation_folders, image_folders
from mlic.data.table import UNKNOWN, LabelTable
from mlic.errors import InputError, check_choice

DIFFICULT = {"unknown": UNKNOWN, "keep": 1, "drop": 0}
_FILE = re.compile(r"(.+)_(train|val|trainval|test)\.txt")
_LINE = re.compile(r"(.*\S)\s+(1|-1|0)")


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
    meaning = {"1": 1, "-1": 0, "0": DIFFICULT[difficult]}
    folders = annotation_folders(annotations)
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    found = [(file, match[1], match[2]) for file in files if (match := _FILE.fullmatch(file.name))]
    if not found:
        raise InputError(f"{annotations}: no files such as cat_train.txt in this folder.")
    given = {part for _, _, part in found}
    used = given - {"trainval"} if given & {"train", "val"} else given
    rows: list[tuple[str, str, int, str, str]] = []
    for file, class_name, part in found:
        for number, line in enumerate(read_text(file).splitlines() if part in used else (), 1):
            place, match = f"{file}, line {number}", _LINE.fullmatch(line.strip())
            if match:
                rows.append((place, match[1], meaning[match[2]], class_name, part))
            elif line.strip():
                raise InputError(f"{place}: '{line[:60]}'; expected an image and 1, -1 or 0.")
    table = pd.DataFrame(rows, columns=["place", "image", "label", "class", "part"], dtype=object)
    for key, what in ((["image", "class"], "label"), (["image"], "part")):
        different = table.drop_duplicates([*key, what])
        for place, image, *_ in different[different.duplicated(key)].itertuples(index=False):
            raise InputError(f"{place}: '{image}' has another {what} above.")
    table = table.drop_duplicates(["image", "class"])
    classes = sorted({class_name for _, class_name, part in found if part in used})
    labels = table.pivot(index="image", columns="class", values="label").reindex(columns=classes)
    parts = table.groupby("image")["part"].first().replace("trainval", "train")
    names = safe_file_names(list(labels.index), lambda row: str(annotations), extension)
    return build_table(
        str(annotations),
        image_folders(images),
        names,
        labels.fillna(UNKNOWN).to_numpy(dtype=np.int8),
        classes,
        names.__getitem__,
        parts=parts.tolist(),
    )
