"""Listing of images given as folders, files, patterns, tar shards or images in memory."""

import csv
import glob
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlic.data.images import RAW_SUFFIXES, ImageReference, image_suffixes
from mlic.data.readers.tar_shards import read_shards
from mlic.errors import InputError
from mlic.escaping import restore_cell

logger = logging.getLogger(__name__)

PATTERN_CHARACTERS = "*?["
LISTS = (".txt", ".csv")
Found = tuple[ImageReference, str, Path | None]  # image, name, and the folder to which the name is relative

OneImage = str | Path | Image.Image | np.ndarray
Images = OneImage | Iterable[OneImage]


def list_images(images: str | Path | Iterable[str | Path]) -> tuple[list[ImageReference], list[str]]:
    """Find image files, and images in tar shards.

    Args:
        images: a folder (all visible files below it with an image extension, even of unreadable formats, sorted by
            name), a file, a pattern such as `photos/**/*.jpg`, tar shards as for `read_webdataset` (names ending in
            .tar), a list of files (.txt with one name in each line, or the first column of a .csv), or several of
            these. Names in a list are relative to its folder.

    Returns:
        The files, and their names relative to the common folder of all that is given. The folder of a pattern is the
        one before its first wildcard.

    Raises:
        InputError: an entry does not exist, or no images are found.
    """
    entries = [images] if isinstance(images, str | Path) else list(images)
    found = [pair for entry in entries for pair in _find(str(entry))]
    if not found:
        raise InputError(
            "images: the list is empty. Expected a folder, files, or a pattern such as photos/*.jpg."
        )
    roots = {os.path.abspath(root) for _, _, root in found if root is not None}
    common = os.path.commonpath(roots) if roots else ""
    names = [
        name if root is None else Path(os.path.relpath(os.path.join(root, name), common)).as_posix()
        for _, name, root in found
    ]
    return [path for path, _, _ in found], names


def find_images(images: Images) -> tuple[list[ImageReference | Image.Image], list[str]]:
    """Like `list_images`, but images may also be in memory.

    Args:
        images: input of `list_images`, a PIL image, an array (uint8 (H, W, 3); uint8 or uint16 (H, W) for greyscale),
            or several of these. In a list, missing files are kept, and get a separate error each.

    Returns:
        Files and PIL images, and their names; `image <position>` without a name.

    Raises:
        InputError: see `list_images`; or an array has an invalid shape or dtype.
        TypeError: an entry is not an image.
    """
    if isinstance(images, str | Path) and not Path(images).is_file():
        paths, names = list_images(images)
        return [*paths], names
    kinds = str | bytes | Mapping | Image.Image | np.ndarray
    alone = isinstance(images, kinds) or not isinstance(images, Iterable)
    entries: Any = [images] if alone else images
    found = [pair for place, entry in enumerate(entries) for pair in _look_at(entry, place)]
    return [image for image, _ in found], [name for _, name in found]


def _look_at(entry: Any, place: int) -> list[tuple[ImageReference | Image.Image, str]]:
    if isinstance(entry, str | Path):
        text = str(entry)
        is_list = text.lower().endswith((".tar", *LISTS))
        means_more = Path(entry).is_dir() or is_list or re.search(r"://|[*?\[]", text)
        return [(path, name) for path, name, _ in _find(text)] if means_more else [(Path(entry), text)]
    if isinstance(entry, np.ndarray):
        entry = _from_array(entry)
    if not isinstance(entry, Image.Image):
        raise TypeError(
            f"images: {type(entry).__name__} is not an image; expected a path, a folder, a PIL image, a numpy array, "
            "or a list of these."
        )
    return [(entry, str(getattr(entry, "filename", "") or f"image {place}"))]


def _from_array(array: np.ndarray) -> Image.Image:
    form = (array.dtype.name, array.shape[2:])
    if array.ndim not in (2, 3) or form not in (("uint8", (3,)), ("uint8", ()), ("uint16", ())):
        raise InputError(
            f"images: an array {array.dtype} {array.shape} is not an image; expected uint8 (height, width, 3), or "
            "uint8 or uint16 (height, width) for greyscale."
        )
    return Image.fromarray(array)


def _find(entry: str) -> list[Found]:
    if not entry:  # Path("") is the working folder
        raise InputError(
            "images: '' is not a path. Expected a folder, a file or a pattern such as photos/*.jpg."
        )
    path = Path(entry)
    if entry.endswith(".tar") or "://" in entry:
        _, found = read_shards(entry)
        return [(image, name, None) for name, (image, _) in found.items()]
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():  # even if its name contains characters of a pattern
        return _listed(path) if path.suffix.lower() in LISTS else [(path, path.name, path.parent)]
    if any(character in entry for character in PATTERN_CHARACTERS):
        matches = [match for match in sorted(glob.glob(entry, recursive=True)) if Path(match).is_file()]
        if not matches:
            raise InputError(f"images: no file matches '{entry}'.")
        folder = os.path.dirname(re.split(r"[*?\[]", entry)[0])
        return [(Path(match), os.path.relpath(match, folder or "."), Path(folder)) for match in matches]
    hint = " Separate several files as [first.jpg,second.jpg]." if "," in entry else ""
    raise InputError(
        f"images: '{entry}' does not exist. Expected a folder, files, or a pattern such as "
        f"photos/*.jpg.{hint}"
    )


def _listed(file: Path) -> list[Found]:
    """Return the images in a list; a table may have a header, and names that `escape_cell` changed."""
    is_table = file.suffix.lower() == ".csv"
    try:
        with file.open(encoding="utf-8-sig", newline="" if is_table else None) as lines:
            cells = [row[0] for row in csv.reader(lines) if row] if is_table else list(lines)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"images: '{file}' cannot be read as a list of images ({error}).") from error
    names = [restore_cell(cell.strip()) for cell in cells if cell.strip()]
    bases = (file.parent, Path())
    base = next((base for base in bases for name in names[:2] if (base / name).is_file()), file.parent)
    if is_table and names and Path(names[0]).suffix.lower() not in image_suffixes() | RAW_SUFFIXES:
        del names[0]  # the header
    absent = [name for name in names if not (base / name).is_file()]
    if absent or not names:
        raise InputError(
            f"images: {len(absent)} of {len(names)} images in '{file}' do not exist{', such as ' * bool(absent)}"
            f"{', '.join(absent[:3])}. Names must be relative to the folder of the list, or to the working folder."
        )
    # a name that is absolute has its own folder
    roots = [(base / name).parent if os.path.isabs(name) else base for name in names]
    return [
        (base / name, os.path.relpath(base / name, root), root)
        for name, root in zip(names, roots, strict=True)
    ]


def _in_folder(folder: Path) -> list[Found]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    relative = [path.relative_to(folder) for path in files]
    chosen: list[Found] = [
        (path, name.as_posix(), folder)
        for path, name in zip(files, relative, strict=True)
        if path.suffix.lower() in image_suffixes() | RAW_SUFFIXES
        and not any(part.startswith(".") for part in name.parts)
    ]
    if not chosen:
        raise InputError(
            f"images: '{folder}' contains {len(files)} files, none with the extension of an image "
            "(.jpg, .png, ...)."
        )
    if len(chosen) < len(files):
        logger.info("%s: %d files that are not images are left out", folder, len(files) - len(chosen))
    return chosen
