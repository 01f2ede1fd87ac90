"""What all readers share: places that must exist, safe file names, images listed more than once."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from posixpath import normpath

import numpy as np

from mlic.data.file_names import leaves_folder
from mlic.data.table import is_text
from mlic.errors import InputError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NOT_PLAIN = re.compile(r"//|(^|/)\.(/|$)|/$")
_BARE = re.compile(r"[A-Za-z_][\w/.-]*")  # what the shell and Hydra take without quotes
CLASSES_SHOWN = 20
CELL_SHOWN = 60
SEPARATORS = (",", ";", "|", "\t", "/", "&", "+", " ")  # the first that fits is proposed


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
        if _ADDRESS.match(name):
            raise InputError(
                f"{place(row)}: '{name}' is an address. Download the images, and give file names relative to "
                "data.images."
            )
        if leaves_folder(name):
            raise InputError(f"{place(row)}: '{name}' leaves the image folder. {_how_to_stay(names)}")
        safe.append(normpath(name) if _NOT_PLAIN.search(name) else name)
    return safe


def _how_to_stay(names: Sequence[object]) -> str:
    leaving = [name for name in names if isinstance(name, str) and leaves_folder(name)]
    start = re.sub(r"[^/\\]*$", "", leaving[0])
    number = sum(name.startswith(start) for name in leaving)
    change = f" {number} names begin with '{start}': remove that, and" if number > 1 else ""
    return (
        f"File names must be relative to data.images, without '..';{change} point data.images at a folder that holds "
        "all images."
    )


def check_separator(separator: str) -> str:
    """The separator, with a tab for its escape.

    Raises:
        InputError: it is empty.
    """
    if not separator:
        raise InputError(
            "data.reader.separator is empty; give what stands between two labels, such as '|'.",
            key="data.reader.separator",
        )
    return separator.replace(r"\t", "\t")


def setting(key: str, names: Sequence[str]) -> str:
    """`data.reader.<key>=[a,b]` as it is typed in a shell."""
    if all(map(_BARE.fullmatch, names)):
        return f"data.reader.{key}=[{','.join(names)}]"
    quoted = ",".join('"' + name.replace('"', r"\"") + '"' for name in names)
    return f"'data.reader.{key}=[{quoted}]'"


def refuse_list(text: str, place: str, separator: str, classes: Sequence[str] | None) -> None:
    """Refuse labels that are written as a list or an object of JSON or Python.

    Raises:
        InputError: the text begins with a bracket or a brace, and is not one of the classes.
    """
    if text.startswith(("[", "{")) and text not in (classes or ()):
        shown = text if len(text) <= CELL_SHOWN else f"{text[:CELL_SHOWN]}..."
        raise InputError(
            f"{place}: the labels are {shown}, a list or an object of JSON or Python. Expected class names joined by "
            f"'{separator}', such as car{separator}cat, and nothing for an image without labels "
            "(data.reader.separator sets what joins them)."
        )


def refuse_combinations(names: Sequence[str], place: str) -> None:
    """Refuse class names that are several names joined by something else than the separator.

    That is so where most names hold a character that splits them into names that occur too: by themselves, or in other
    combinations. Names that all have the same number of words are left alone unless a word occurs by itself: "red car",
    "blue car", "red bus" and "blue bus" are names.

    Args:
        names: C different class names, none of them given by the user.
        place: where they are from.

    Raises:
        InputError: names the setting.
    """
    for separator in SEPARATORS:
        found = _combinations(names, separator)
        if 2 * len(found) > len(names):
            character = r"\t" if separator == "\t" else separator
            raise InputError(
                f"{place}: {len(found)} of {len(names)} class names are combinations of others, such as {found[0]!r}. "
                f"Set what stands between two labels: \"data.reader.separator='{character}'\". If they are names, list "
                "all classes in data.reader.classes."
            )


def _combinations(names: Sequence[str], separator: str) -> list[str]:
    """Names that split into names which occur too."""
    pieces = {name: [part.strip() for part in name.split(separator) if part.strip()] for name in names}
    joined = {name: parts for name, parts in pieces.items() if len(parts) > 1}
    alone = {parts[0] for parts in pieces.values() if len(parts) == 1}
    times = Counter(part for parts in joined.values() for part in set(parts))
    if len({len(parts) for parts in joined.values()}) < 2 and not alone & times.keys():
        return []
    return [name for name, parts in joined.items() if all(part in alone or times[part] > 1 for part in parts)]


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
