"""Annotation files and image folders: patterns and lists of them, folders of parts, and images in several folders."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from glob import glob
from pathlib import Path
from posixpath import dirname, join

from mlic.data.images import ImageReference
from mlic.data.parts import PART_NAMES
from mlic.data.table import FoundImages
from mlic.errors import InputError

Paths = str | Path | Sequence[str | Path]
NAMES_TRIED = 1000


def annotation_files(annotations: Paths) -> list[Path]:
    """Return the annotation files of `data.annotations`: a file, a pattern such as `labels_*.csv`, or a list of them.

    Raises:
        InputError: one of them is not a file.
    """
    return _expand(annotations, "data.annotations", "file")


def annotation_folders(annotations: Paths) -> list[Path]:
    """Return the folders of annotation files of `data.annotations`: a folder, a pattern, or a list of them.

    Raises:
        InputError: one of them is not a folder.
    """
    return _expand(annotations, "data.annotations", "folder")


def image_folders(images: Paths) -> list[Path]:
    """Return the folders of `data.images`: a folder, a pattern such as `photos/images_*/images`, or a list of them.

    Raises:
        InputError: one of them is not a folder.
    """
    return _expand(images, "data.images", "folder")


def _expand(paths: Paths, key: str, kind: str) -> list[Path]:
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        # a name that exists is never a pattern, although it may contain brackets
        matches = [] if Path(path).exists() else sorted(glob(str(path)))
        found += map(Path, matches or [path])
    wrong = [path for path in found if not (path.is_dir() if kind == "folder" else path.is_file())]
    if wrong or not found:
        first = wrong[0] if wrong else "[]"
        raise InputError(
            f"{first}: no such {kind}. {key} must be a {kind}, a pattern, or a list of these.", key=key
        )
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
    wanted, parents = {*names}, {dirname(name) for name in names}
    folder_of: dict[str, int] = {}
    # whole folders are listed, because a network file system answers only a few thousand queries per second
    for number, folder in enumerate(folders):
        there = {join(parent, name) for parent in parents for name in _listing(folder / parent)} & wanted
        if twice := there & folder_of.keys():
            name, first = min(twice), folders[folder_of[min(twice)]]
            raise InputError(
                f"data.images: '{name}' is in '{first}' and in '{folder}' (names in both: {len(twice)}). Remove one of "
                "the files, or set data.images to a common parent and annotate names relative to it."
            )
        folder_of |= dict.fromkeys(there, number)
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
    if len(folders) > 1:
        return ""
    folder, own = folders[0], file.absolute().parent
    prefixes = ["", *(f"{word}/" for word in re.split("[_-]", file.stem) if word.strip("."))]  # never '..'
    if own.is_relative_to(folder.absolute()):
        prefixes.append(f"{own.relative_to(folder.absolute())}/".removeprefix("./"))
    tried = names[:: max(1, len(names) // NAMES_TRIED)][:NAMES_TRIED]
    used = [
        prefix
        for prefix in dict.fromkeys(prefixes)
        if any(os.path.isfile(folder / prefix / name) for name in tried)
    ]
    if len(used) > 1:
        raise InputError(
            f"{file}: images with these names are in both '{folder / used[0]}' and '{folder / used[1]}'. Set "
            "data.images to the one that is meant."
        )
    return used[0] if used else ""


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # opening the images reports the cause
        return []
