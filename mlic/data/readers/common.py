"""Helpers shared by the readers: path checks, safe file names, images listed more than once."""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from glob import glob
from pathlib import Path
from posixpath import normpath
from typing import Any

import numpy as np

from mlic.data.file_names import leaves_folder
from mlic.data.images import ImageReference, image_suffixes
from mlic.data.parts import PART_NAMES
from mlic.data.table import FoundImages, LabelTable, check_class_names, is_text
from mlic.errors import InputError

logger = logging.getLogger(__name__)

Paths = str | Path | Sequence[str | Path]
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NOT_PLAIN = re.compile(r"//|(^|/)\.(/|$)|/$")
_BARE = re.compile(r"[A-Za-z_][\w/.-]*")  # needs no quotes in a shell or in Hydra
NAMES_TRIED = 1000
CLASSES_SHOWN = 20
CELL_SHOWN = 60
SEPARATORS = (",", ";", "|", "\t", "/", "&", "+", " ")  # the first that fits is suggested


def existing_file(path: str | Path, what: str) -> Path:
    """Return `path` as a Path.

    Raises:
        InputError: `path` is not a file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file. data.annotations must be {what}.", key="data.annotations")
    return Path(path)


def existing_folder(path: str | Path, key: str, what: str) -> Path:
    """Return `path` as a Path.

    Raises:
        InputError: `path` is not a folder.
    """
    if not Path(path).is_dir():
        raise InputError(f"{path}: no such folder. data.{key} must be {what}.", key=f"data.{key}")
    return Path(path)


def image_folder(path: str | Path) -> Path:
    """Return the image folder as a Path.

    Raises:
        InputError: `path` is not a folder.
    """
    return existing_folder(path, "images", "the folder to which the annotated file names are relative")


def annotation_files(annotations: Paths, what: str) -> list[Path]:
    """Return the annotation files of `data.annotations`: a file, a pattern such as `labels_*.csv`, or a list of them.

    Raises:
        InputError: one of them is not a file.
    """
    return [existing_file(path, what) for path in _expand(annotations, "annotations")]


def annotation_folders(annotations: Paths, what: str) -> list[Path]:
    """Return the folders of annotation files of `data.annotations`: a folder, a pattern, or a list of them.

    Raises:
        InputError: one of them is not a folder.
    """
    return [existing_folder(path, "annotations", what) for path in _expand(annotations, "annotations")]


def image_folders(images: Paths) -> list[Path]:
    """Return the folders of `data.images`: a folder, a pattern such as `photos/images_*/images`, or a list of them.

    Raises:
        InputError: one of them is not a folder.
    """
    return [image_folder(path) for path in _expand(images, "images")]


def _expand(paths: Paths, key: str) -> list[Path]:
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        # a name that exists is never a pattern, although it may contain brackets
        matches = [] if Path(path).exists() else sorted(glob(str(path)))
        found += map(Path, matches or [path])
    if not found:
        raise InputError(f"data.{key} is an empty list.", key=f"data.{key}")
    return list(dict.fromkeys(found))


def locate_images(
    folders: Sequence[Path], names: Collection[str]
) -> tuple[Path, Mapping[str, ImageReference] | None]:
    """Search each name in all folders.

    Args:
        folders: image folders.
        names: file names, relative to one of the folders.

    Returns:
        `image_dir` and `references` of a `LabelTable`. With one folder there are no references. A name that is in none
        of the folders refers to the first one, and is reported with the other missing images.

    Raises:
        InputError: a name is in more than one folder.
    """
    if len(folders) == 1:
        return folders[0], None
    by_parent: dict[str, set[str]] = {}
    for name in names:
        parent, _, last = name.rpartition("/")
        by_parent.setdefault(parent, set()).add(last)
    folder_of: dict[str, int] = {}
    repeated: dict[tuple[int, int], list[str]] = {}
    # whole folders are listed, because a network file system answers only a few thousand queries per second
    for number, folder in enumerate(folders):
        for parent, wanted in by_parent.items():
            start = f"{parent}/" if parent else ""
            for name in sorted(start + last for last in wanted & _listing(folder / parent)):
                if (first := folder_of.setdefault(name, number)) != number:
                    repeated.setdefault((first, number), []).append(name)
    if repeated:
        listed = "\n".join(
            f"  {len(twice)} names in '{folders[first]}' and '{folders[second]}', such as '{twice[0]}'"
            for (first, second), twice in repeated.items()
        )
        raise InputError(
            f"data.images: the same file name is in more than one folder:\n{listed}\n"
            "Remove one of the files, or set data.images to a common parent and annotate names relative to it."
        )
    return Path(os.path.commonpath(map(os.path.abspath, folders))), FoundImages(folders, folder_of)


def parts_of_files(files: Sequence[Path]) -> list[str]:
    """Return the parts that the names of annotation files, or of their folders, state.

    Examples are `instances_train2017.json` and `valid/_classes.csv`.

    Returns:
        `train`, `val` or `test` for each file; empty strings unless all files state a part, and not all the same.
    """
    parts = [part_named(file.stem) or part_named(file.parent.name) for file in files]
    return parts if "" not in parts and len(set(parts)) > 1 else [""] * len(files)


def part_named(name: str) -> str:
    """Return the part that a name states, such as `val` for `validation-2017`; an empty string if none or several."""
    parts = {PART_NAMES[word] for word in re.findall(r"[a-z]+", name.lower()) if word in PART_NAMES}
    return parts.pop() if len(parts) == 1 else ""


def subfolder_of(file: Path, folders: Sequence[Path], names: Sequence[str]) -> str:
    """Return the prefix that makes the names in one annotation file relative to the image folder.

    Annotation files of parts often have names relative to a folder of their part: the folder of the file itself
    (`valid/_classes.csv`), or a folder that the name of the file contains (`train2017` in `instances_train2017.json`).

    Args:
        file: annotation file.
        folders: image folders; with several there is no prefix, because each is searched.
        names: safe file names.

    Returns:
        A prefix such as `train2017/`; an empty string if the names are relative to the image folder itself.

    Raises:
        InputError: files exist with and without the prefix.
    """
    if len(folders) > 1 or not names:
        return ""
    folder, own = folders[0], file.absolute().parent
    words = [word for word in re.split("[_-]", file.stem) if word.strip(".")]  # never '..'
    prefixes = [f"{word}/" for word in words if (folder / word).is_dir()]
    if own != folder.absolute() and own.is_relative_to(folder.absolute()):
        prefixes.append(f"{own.relative_to(folder.absolute()).as_posix()}/")
    tried = names[:: max(1, len(names) // NAMES_TRIED)][:NAMES_TRIED]
    found = {
        prefix: any(os.path.isfile(folder / prefix / name) for name in tried) for prefix in ["", *prefixes]
    }
    used = [prefix for prefix, is_used in found.items() if is_used]
    if len(used) > 1:
        raise InputError(
            f"{file}: images with these names are in both '{folder / used[0]}' and '{folder / used[1]}'. Set "
            "data.images to the one that is meant."
        )
    return used[0] if used else ""


def _listing(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:  # opening the images reports the cause
        return set()


def safe_file_names(
    names: Sequence[object], place: Callable[[int], str], extension: str | None = None
) -> list[str]:
    """Normalize file names and check that none of them leaves the image folder.

    Args:
        names: file names as annotated.
        place: maps a row number to its place in the annotations, such as `labels.csv, line 7`.
        extension: end of all names, in place of the extension of an image if they have one. Default: as annotated.

    Raises:
        InputError: a name is empty, not a string, not valid text, or leads out of the folder.
    """
    safe: list[str] = []
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise InputError(
                f"{place(row)}: the file name of the image is {name!r}; expected a name such as photo.jpg."
            )
        if not is_text(name):
            raise InputError(
                f"{place(row)}: {name!r} is not valid UTF-8 text; rename the file and write its name in UTF-8."
            )
        if _ADDRESS.match(name):
            raise InputError(
                f"{place(row)}: '{name}' is an address. Download the images and use file names relative to "
                "data.images."
            )
        if leaves_folder(name):
            raise InputError(f"{place(row)}: '{name}' leaves the image folder. {_how_to_stay(names)}")
        safe.append(normpath(name) if _NOT_PLAIN.search(name) else name)
    if extension is not None:
        stems = ((name, *os.path.splitext(name)) for name in safe)
        return [(stem if end.lower() in image_suffixes() else name) + extension for name, stem, end in stems]
    return safe


def _how_to_stay(names: Sequence[object]) -> str:
    leaving = [name for name in names if isinstance(name, str) and leaves_folder(name)]
    start = re.sub(r"[^/\\]*$", "", leaving[0])
    number = sum(name.startswith(start) for name in leaving)
    change = f" {number} names begin with '{start}': remove it, and" if number > 1 else ""
    return (
        f"File names must be relative to data.images, without '..';{change} point data.images at a folder that holds "
        "all images."
    )


def check_separator(separator: str) -> str:
    r"""Return the separator, with `\t` replaced by a tab.

    Raises:
        InputError: the separator is empty.
    """
    if not separator:
        raise InputError(
            "data.reader.separator is empty; expected the text between two labels, such as '|'.",
            key="data.reader.separator",
        )
    return separator.replace(r"\t", "\t")


def setting(key: str, names: Sequence[str]) -> str:
    """Return `data.reader.<key>=[a,b]` as typed in a shell."""
    if all(map(_BARE.fullmatch, names)):
        return f"data.reader.{key}=[{','.join(names)}]"
    quoted = ",".join('"' + name.replace('"', r"\"") + '"' for name in names)
    return f"'data.reader.{key}=[{quoted}]'"


def option(key: str, value: str) -> str:
    """Return `data.reader.<key>=<value>` as typed in a shell."""
    if _BARE.fullmatch(value):
        return f"data.reader.{key}={value}"
    quoted = value.replace("\t", r"\t").replace("'", r"\'")
    return f"\"data.reader.{key}='{quoted}'\""


def refuse_list(text: str, place: str, separator: str, classes: Sequence[str] | None) -> None:
    """Refuse labels that are written as a JSON or Python list or object.

    Raises:
        InputError: the text begins with a bracket or a brace and is not one of the classes.
    """
    if text.startswith(("[", "{")) and text not in (classes or ()):
        shown = text if len(text) <= CELL_SHOWN else f"{text[:CELL_SHOWN]}..."
        raise InputError(
            f"{place}: the labels {shown} look like a JSON or Python list or object. Expected class names joined by "
            f"'{separator}', such as car{separator}cat, and an empty field for an image without labels "
            "(data.reader.separator sets the separator)."
        )


def refuse_combinations(names: Sequence[str], place: str) -> None:
    """Refuse class names that are several names joined by a character other than the separator.

    A character is taken for the real separator if it splits most names into parts that also occur alone or in other
    combinations. Names with equally many words are accepted unless a word also occurs alone: "red car", "blue car",
    "red bus" and "blue bus" are valid names.

    Args:
        names: C different class names found in the annotations.
        place: origin of the names, for the message.

    Raises:
        InputError: most names are combinations; the message names the setting.
    """
    for separator in SEPARATORS:
        found = _combinations(names, separator)
        if 2 * len(found) > len(names):
            character = r"\t" if separator == "\t" else separator
            raise InputError(
                f"{place}: {len(found)} of {len(names)} class names are combinations of others, such as {found[0]!r}. "
                f"Set the separator of the labels: \"data.reader.separator='{character}'\". If these are single names, "
                "list all classes in data.reader.classes."
            )


def _combinations(names: Sequence[str], separator: str) -> list[str]:
    """Return the names whose parts also occur alone or in other combinations."""
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
    """Merge repeated rows into one row per file name.

    Args:
        file_names: N names.
        labels: labels (N, C).
        place: maps a row number to its place in the annotations.

    Returns:
        Names (M,) and labels (M, C) of the rows kept.

    Raises:
        InputError: an image is listed twice with different labels.
    """
    kept = first_rows(file_names, labels, place)
    return np.array(file_names, dtype=object)[kept], labels[kept]


def first_rows(
    names: Sequence[str], labels: np.ndarray, place: Callable[[int], str], what: str = "labels"
) -> np.ndarray:
    """Return the first row of each name; the values (N, K) of repeated rows must be equal.

    Raises:
        InputError: they differ.
    """
    first_rows: dict[str, int] = {}
    first_of = np.array([first_rows.setdefault(name, row) for row, name in enumerate(names)], dtype=np.int64)
    repeated = np.flatnonzero(first_of != np.arange(len(names)))
    differ = repeated[(labels[repeated] != labels[first_of[repeated]]).any(axis=1)]
    if len(differ):
        row, first = int(differ[0]), int(first_of[differ[0]])
        raise InputError(
            f"{place(row)}: the {what} of '{names[row]}' differ from those in {place(first)}. "
            "List each image once, with all its labels."
        )
    return np.flatnonzero(first_of == np.arange(len(names)))


def build_table(
    source: str | Path,
    folders: Sequence[Path],
    names: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    place: Callable[[int], str],
    *,
    parts: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    unannotated: str = "keep",
) -> LabelTable:
    """Merge repeated images, search the images in the folders, and build the table.

    Args:
        source: the annotations, for messages.
        folders: image folders.
        names: N safe file names.
        labels: labels (N, C) of 1, 0 and -1 (unknown).
        classes: C names.
        place: maps a row number to its place in the annotations.
        parts: N parts; empty strings where the annotations give none.
        columns: N values of other columns.
        unannotated: `drop` leaves out images without labels.

    Raises:
        InputError: there are no images, class names cannot be used, an image is listed twice with different labels or
            parts, or its name is in more than one folder.
    """
    if not len(names):
        raise InputError(f"{source}: no image has a label.")
    check_class_names(classes, str(source), labels)
    kept = first_rows(names, labels, place)
    part_of = np.array(parts or [""] * len(names), dtype=object)
    first_rows(names, part_of[:, None], place, "parts")
    without = ~(labels[kept] == 1).any(axis=1)
    if unannotated == "drop":
        kept = kept[~without]
    file_names = np.array(names, dtype=object)[kept]
    folder, references = locate_images(folders, file_names)
    logger.info(
        "%s: %d images kept, %d classes; %d images have no label (%s)",
        *(source, len(kept), len(classes), without.sum(), unannotated),
    )
    return LabelTable.build(
        folder,
        file_names,
        labels[kept],
        classes,
        references=references,
        parts=part_of[kept] if any(part_of) else None,
        columns={name: np.array(values, dtype=object)[kept] for name, values in (columns or {}).items()},
    )


def labels_of_names(
    names: Sequence[Collection[str]],
    classes: Sequence[str] | None,
    source: str | Path,
    place: Callable[[int], str],
) -> tuple[np.ndarray, list[str]]:
    """Convert the class names of each image to labels.

    Args:
        names: class names of N images.
        classes: all class names. Default: the names that occur, sorted.
        source: the annotations, for messages.
        place: maps a row number to its place in the annotations.

    Returns:
        Labels (N, C) of 0 and 1, and the C class names.

    Raises:
        InputError: no image has a label, or a label is not one of `classes`.
    """
    found = sorted(set().union(*names)) if classes is None else list(classes)
    if not found:
        raise InputError(f"{source}: no image has a label.")
    column = {name: number for number, name in enumerate(found)}
    labels = np.zeros((len(names), len(found)), dtype=np.int8)
    for row, labels_of_row in enumerate(names):
        for name in labels_of_row:
            labels[row, column[name] if name in column else column_of(found, name, place(row))] = 1
    return labels, found


def parse_json(text: bytes | str, place: str, expected: str) -> Any:
    """Parse a JSON text.

    Raises:
        InputError: the text is not valid JSON, is nested too deeply, or has numbers of thousands of digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not valid JSON ({error}). Expected {expected}; is it complete?") from None


def objects(content: Any, place: str, expected: str) -> list[dict[str, Any]]:
    """Return a parsed list of JSON objects.

    Raises:
        InputError: it is not a list, or one of its entries is not an object.
    """
    if not isinstance(content, list):
        raise InputError(f"{place}: the list is missing. Expected {expected}.")
    for row, entry in enumerate(content):
        if type(entry) is not dict:
            raise InputError(f"{place}[{row}]: expected a JSON object ({{...}}).")
    return content


def read_text(file: Path) -> str:
    """Return the content of a UTF-8 text file.

    Raises:
        InputError: it is not UTF-8 text.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error.reason}).") from None


def label_matrix(num_images: int, num_classes: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return labels uint8 (N, C) with 1 at each pair of row and column."""
    labels = np.zeros((num_images, num_classes), dtype=np.uint8)
    labels[rows, columns] = 1
    return labels


def column_of(classes: Sequence[str], name: str, place: str) -> int:
    """Return the column of a class.

    Raises:
        InputError: the label is not one of the classes.
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
