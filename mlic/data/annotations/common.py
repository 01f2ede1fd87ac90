"""What all readers share: places that must exist, safe file names, images listed more than once."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from posixpath import normpath

import numpy as np

from mlic.data.file_names import leaves_folder
from mlic.data.table import is_text
from mlic.errors import InputError

_NOT_PLAIN = re.compile(r"//|(^|/)\.(/|$)|/$")
CLASSES_SHOWN = 20


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        InputError: names the key and the choices.
    """
    if value not in choices:
        raise InputError(f"data.reader.{key}: '{value}' is none of {', '.join(choices)}.")


def existing_file(path: str | Path, what: str) -> Path:
    """`path` as Path.

    Raises:
        InputError: it is not a file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file. data.annotations must be {what}.")
    return Path(path)


def existing_folder(path: str | Path, key: str, what: str) -> Path:
    """`path` as Path.

    Raises:
        InputError: it is not a folder.
    """
    if not Path(path).is_dir():
        raise InputError(f"{path}: no such folder. data.{key} must be {what}.")
    return Path(path)


def image_folder(path: str | Path) -> Path:
    """The folder of the images.

    Raises:
        InputError: it is not a folder.
    """
    return existing_folder(path, "images", "the folder that the annotated file names are relative to")


def safe_file_names(names: Sequence[object], place: Callable[[int], str]) -> list[str]:
    """File names without `./`, doubled and last slashes, none of which leaves the image folder.

    Args:
        names: as annotated.
        place: row number -> where it is annotated, such as `labels.csv, line 7`.

    Raises:
        InputError: a name that is empty, no string, no valid text, or leads out of the folder.
    """
    safe: list[str] = []
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise InputError(
                f"{place(row)}: the image's file name is {name!r}; expected a name such as photo.jpg."
            )
        if not is_text(name):
            raise InputError(
                f"{place(row)}: {name!r} holds a byte or half of a character that is no text; rename the file, and "
                "write its name in UTF-8."
            )
        if leaves_folder(name):
            raise InputError(
                f"{place(row)}: '{name}' leaves the image folder. File names must be relative to "
                "data.images, without '..'; point data.images at a folder that holds all images."
            )
        safe.append(normpath(name) if _NOT_PLAIN.search(name) else name)
    return safe


def merge_repeated(
    file_names: Sequence[str], labels: np.ndarray, place: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Keep one row of each file name.

    Args:
        file_names: N names.
        labels: (N, C).
        place: row number -> where it is annotated.

    Returns:
        The rows kept, as names (M,) and labels (M, C).

    Raises:
        InputError: an image listed twice with other labels.
    """
    names = np.array(file_names, dtype=object)
    first_rows: dict[str, int] = {}
    first_of = np.array(
        [first_rows.setdefault(name, row) for row, name in enumerate(file_names)], dtype=np.int64
    )
    repeated = np.flatnonzero(first_of != np.arange(len(names)))
    differ = repeated[(labels[repeated] != labels[first_of[repeated]]).any(axis=1)]
    if len(differ):
        row, first = int(differ[0]), int(first_of[differ[0]])
        raise InputError(
            f"{place(row)}: '{names[row]}' is listed with other labels than in {place(first)}. "
            "List each image once, with all its labels."
        )
    kept = np.flatnonzero(first_of == np.arange(len(names)))
    return names[kept], labels[kept]


def label_matrix(num_images: int, num_classes: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(N, C) uint8 with 1 at each pair of row and column."""
    labels = np.zeros((num_images, num_classes), dtype=np.uint8)
    labels[rows, columns] = 1
    return labels


def column_of(classes: Sequence[str], name: str, place: str) -> int:
    """The column of a class.

    Raises:
        InputError: the label is not among the classes.
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
