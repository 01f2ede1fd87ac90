"""Listing of images given as folders, files, patterns, tar shards or images in memory."""

import glob
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlic.data.images import RAW_SUFFIXES, ImageReference, image_suffixes
from mlic.data.readers.tar_shards import read_shards
from mlic.errors import InputError

logger = logging.getLogger(__name__)

PATTERN_CHARACTERS = "*?["

OneImage = str | Path | Image.Image | np.ndarray
Images = OneImage | Iterable[OneImage]


def list_images(images: str | Path | Iterable[str | Path]) -> tuple[list[ImageReference], list[str]]:
    """Find image files, and images in tar shards.

    Args:
        images: a folder (all visible files below it with an image extension, even of unreadable formats, sorted by
            name), a file, a pattern such as `photos/**/*.jpg`, tar shards as for `read_webdataset` (names ending in
            .tar), or several of these.

    Returns:
        The files and their names: relative to a given folder, else as found.

    Raises:
        InputError: an entry does not exist, or no images are found.
    """
    entries = [images] if isinstance(images, str | Path) else list(images)
    found = [pair for entry in entries for pair in _find(str(entry))]
    if not found:
        raise InputError(
            "images: the list is empty. Expected a folder, files, or a pattern such as photos/*.jpg."
        )
    return [path for path, _ in found], [name for _, name in found]


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
    if isinstance(images, str | Path):
        paths, names = list_images(images)
        return [*paths], names
    alone = isinstance(images, bytes | Mapping | Image.Image | np.ndarray) or not isinstance(images, Iterable)
    entries: Any = [images] if alone else images
    found = [pair for place, entry in enumerate(entries) for pair in _look_at(entry, place)]
    return [image for image, _ in found], [name for _, name in found]


def _look_at(entry: Any, place: int) -> list[tuple[ImageReference | Image.Image, str]]:
    if isinstance(entry, str | Path):
        text = str(entry)
        means_more = Path(entry).is_dir() or text.endswith(".tar") or re.search(r"://|[*?\[]", text)
        return [*_find(text)] if means_more else [(Path(entry), text)]
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


def _find(entry: str) -> list[tuple[ImageReference, str]]:
    if not entry:  # Path("") is the working folder
        raise InputError(
            "images: '' is not a path. Expected a folder, a file or a pattern such as photos/*.jpg."
        )
    path = Path(entry)
    if entry.endswith(".tar") or "://" in entry:
        _, found = read_shards(entry)
        return [(image, name) for name, (image, _) in found.items()]
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():  # even if its name contains characters of a pattern
        return [(path, entry)]
    if any(character in entry for character in PATTERN_CHARACTERS):
        matches = [match for match in sorted(glob.glob(entry, recursive=True)) if Path(match).is_file()]
        if not matches:
            raise InputError(f"images: no file matches '{entry}'.")
        return [(Path(match), match) for match in matches]
    hint = " Separate several files as [first.jpg,second.jpg]." if "," in entry else ""
    raise InputError(
        f"images: '{entry}' does not exist. Expected a folder, files, or a pattern such as "
        f"photos/*.jpg.{hint}"
    )


def _in_folder(folder: Path) -> list[tuple[ImageReference, str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    relative = [path.relative_to(folder) for path in files]
    chosen: list[tuple[ImageReference, str]] = [
        (path, name.as_posix())
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
