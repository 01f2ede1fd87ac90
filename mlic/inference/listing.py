"""Listing of images given as folders, files, patterns, tar shards, lists or images in memory."""

import csv
import glob
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlic.data.images import RAW_SUFFIXES, image_suffixes
from mlic.data.readers.tar_shards import read_shards
from mlic.errors import InputError
from mlic.escaping import restore_cell

LISTS = (".txt", ".csv")
OneImage = str | Path | Image.Image | np.ndarray
Images = OneImage | Iterable[OneImage]
Found = tuple[Any, str, Path | None]  # image, and its name or the folder to which its name will be relative


def list_images(images: Images) -> tuple[list[Any], list[str]]:
    """Find images.

    Args:
        images: a folder (all visible files below it with an image extension, even of unreadable formats, sorted by
            name), a file, a pattern such as `photos/**/*.jpg`, tar shards as for `read_webdataset` (names ending in
            .tar), a list of files (.txt with one name in each line, or the first column of a .csv), a PIL image, an
            array (uint8 (H, W, 3); uint8 or uint16 (H, W) for greyscale), or several of these. Names in a list are
            relative to its folder, or to the working folder.

    Returns:
        Image references and PIL images; and their names, those of files relative to the common folder of all files.
        The folder of a pattern is the one before its first wildcard. An image in memory is named by its file name, or
        `image <position>`.

    Raises:
        InputError: an entry does not exist, no images are found, or an array has an invalid shape or dtype.
        TypeError: an entry is not an image.
    """
    single = str | bytes | Mapping | Image.Image | np.ndarray  # not iterated
    entries: Any = [images] if isinstance(images, single) or not isinstance(images, Iterable) else images
    found = [image for place, entry in enumerate(entries) for image in _find(entry, place)]
    roots = {os.path.abspath(root) for _, _, root in found if root is not None}
    common = os.path.commonpath(roots) if roots else ""
    names = [
        name if root is None else Path(os.path.relpath(image, common)).as_posix()
        for image, name, root in found
    ]
    return [image for image, _, _ in found], names


def _find(entry: Any, place: int) -> list[Found]:
    if isinstance(entry, np.ndarray):
        form = (entry.dtype.name, entry.ndim, entry.shape[2:])
        if form not in (("uint8", 3, (3,)), ("uint8", 2, ()), ("uint16", 2, ())):
            expected = "uint8 (height, width, 3), or uint8 or uint16 (height, width)"
            raise InputError(f"images: expected arrays {expected}, got {entry.dtype} {entry.shape}.")
        entry = Image.fromarray(entry)
    if isinstance(entry, Image.Image):
        return [(entry, str(getattr(entry, "filename", "") or f"image {place}"), None)]
    if not isinstance(entry, str | Path):
        kind = type(entry).__name__
        raise TypeError(
            f"images: {kind} is not an image; expected a path, a PIL image, an array or a list of these."
        )
    text, path = str(entry), Path(entry)
    if text.endswith(".tar") or "://" in text:
        return [(image, name, None) for name, (image, _) in read_shards(text)[1].items()]
    if text and path.is_dir():  # Path("") is the working folder
        return _in_folder(path)
    if path.is_file():  # even if its name contains characters of a pattern
        return _listed(path) if path.suffix.lower() in LISTS else [(path, "", path.parent)]
    folder = Path(os.path.dirname(re.split(r"[*?\[]", text)[0]))
    files = [Path(match) for match in sorted(glob.glob(text, recursive=True)) if os.path.isfile(match)]
    if not files:
        hint = "Expected a folder, files as [first.jpg,second.jpg], or a pattern such as photos/*.jpg."
        raise InputError(f"images: '{text}' does not exist, and no file matches it. {hint}", key="images")
    return [(file, "", folder) for file in files]


def _listed(file: Path) -> list[Found]:
    """Return the images in a list; a table may have a header, and names that `escape_cell` changed."""
    is_table = file.suffix.lower() == ".csv"
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
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
        count, shown = f"{len(absent)} of {len(names)}", ", ".join(absent[:3])
        raise InputError(
            f"images: {count} images in '{file}' are not in its folder or the working folder: {shown}."
        )
    # a name that is absolute has its own folder
    paths = [base / name for name in names]
    return [
        (path, "", path.parent if path == Path(name) else base)
        for path, name in zip(paths, names, strict=True)
    ]


def _in_folder(folder: Path) -> list[Found]:
    suffixes = image_suffixes() | RAW_SUFFIXES
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file()]
    shown = [
        path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not shown:
        raise InputError(f"images: '{folder}' has no file with the extension of an image.", key="images")
    return [(path, "", folder) for path in shown]
