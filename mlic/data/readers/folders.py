"""Annotation files and image folders: patterns and lists of them, folders of parts, and images in several folders."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from glob import glob
from pathlib import Path

from mlic.data.images import ImageReference
from mlic.data.parts import PART_NAMES
from mlic.data.table import FoundImages
from mlic.errors import InputError

Paths = str | Path | Sequence[str | Path]
NAMES_TRIED = 1000


def annotation_files(annotations: Paths, what: str) -> list[Path]:
    """Return the annotation files of `data.annotations`: a file, a pattern such as `labels_*.csv`, or a list of them.

    Raises:
        InputError: one of them is not a file.
    """
    return _expand(annotations, "data.annotations", what, folders=False)


def annotation_folders(annotations: Paths, what: str) -> list[Path]:
    """Return the folders of annotation files of `data.annotations`: a folder, a pattern, or a list of them.

    Raises:
        InputError: one of them is not a folder.
    """
    return _expand(annotations, "data.annotations", what, folders=True)


def image_folders(images: Paths) -> list[Path]:
    """Return the folders of `data.images`: a folder, a pattern such as `photos/images_*/images`, or a list of them.

    Raises:
        InputError: one of them is not a folder.
    """
    what = "the folder to which the annotated file names are relative"
    return _expand(images, "data.images", what, folders=True)


def _expand(paths: Paths, key: str, what: str, *, folders: bool) -> list[Path]:
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        # a name that exists is never a pattern, although it may contain brackets
        matches = [] if Path(path).exists() else sorted(glob(str(path)))
        found += map(Path, matches or [path])
    if not found:
        raise InputError(f"{key} is an empty list.", key=key)
    for path in found:
        if not (path.is_dir() if folders else path.is_file()):
            kind = "folder" if folders else "file"
            raise InputError(f"{path}: no such {kind}. {key} must be {what}.", key=key)
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
