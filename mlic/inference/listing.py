"""The image files that a user means: a folder, files, or a pattern."""

import glob
import logging
from collections.abc import Iterable
from pathlib import Path

from mlic.data.images import image_suffixes
from mlic.data.tar_shards import image_names
from mlic.errors import InputError

logger = logging.getLogger(__name__)

PATTERN_CHARACTERS = "*?["


def list_images(images: str | Path | Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Find image files, and images in tar shards.

    Args:
        images: a folder (all files below it with an image's name ending, in the order of their names; hidden
            ones are left out), a file, a pattern such as `photos/**/*.jpg`, tar shards as for `read_webdataset`
            (their names end with .tar), or several of these.

    Returns:
        The files, and a name for each: relative to the folder that was given, else as found.

    Raises:
        InputError: what was given is not there, or no image is found.
    """
    entries = [images] if isinstance(images, str | Path) else list(images)
    found = [pair for entry in entries for pair in _find(str(entry))]
    if not found:
        raise InputError(
            "images: the list is empty. Expected a folder, files, or a pattern such as photos/*.jpg."
        )
    return [path for path, _ in found], [name for _, name in found]


def _find(entry: str) -> list[tuple[Path, str]]:
    path = Path(entry)
    if entry.endswith(".tar") or "://" in entry:
        folder, names = image_names(entry)
        return [(folder / name, name) for name in names]
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():  # also one whose name holds characters of a pattern
        return [(path, entry)]
    if any(character in entry for character in PATTERN_CHARACTERS):
        matches = [match for match in sorted(glob.glob(entry, recursive=True)) if Path(match).is_file()]
        if not matches:
            raise InputError(f"images: no file matches '{entry}'.")
        return [(Path(match), match) for match in matches]
    hint = " Give several files as [first.jpg,second.jpg]." if "," in entry else ""
    raise InputError(
        f"images: there is no file or folder '{entry}'. Expected a folder, files, or a pattern such as "
        f"photos/*.jpg.{hint}"
    )


def _in_folder(folder: Path) -> list[tuple[Path, str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    relative = [path.relative_to(folder) for path in files]
    chosen = [
        (path, name.as_posix())
        for path, name in zip(files, relative, strict=True)
        if path.suffix.lower() in image_suffixes() and not any(part.startswith(".") for part in name.parts)
    ]
    if not chosen:
        raise InputError(
            f"images: '{folder}' holds {len(files)} files, none with the name ending of an image "
            "(.jpg, .png, ...)."
        )
    if len(chosen) < len(files):
        logger.info("%s: %d files that are no images are left out", folder, len(files) - len(chosen))
    return chosen
