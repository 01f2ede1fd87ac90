"""Unusable images: refused or left out, with an explanation where many share one cause."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mlic.data.images import ImageReference
from mlic.data.table import LabelTable
from mlic.errors import InputError

logger = logging.getLogger(__name__)

SHOWN = 10
TRIED = (
    1000  # missing names that are examined; a network file system answers a few thousand queries per second
)
ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".webp", ".tif", ".tiff", ".bmp", ".gif")
CORRECT = "Correct the names in the annotations."


def leave_out(bad: Mapping[ImageReference, str], table: LabelTable, on_bad_image: str) -> None:
    """Raise an error for bad images, or log that they are left out.

    Args:
        bad: maps each bad image to the reason.
        table: all images, including the bad ones.
        on_bad_image: `error` or `drop`.

    Raises:
        InputError: there are bad images and `on_bad_image` is `error`; or, with `drop`, no image is left, or most are
            missing for one cause that can be corrected.
    """
    if not bad:
        return
    files = (path for path in bad if isinstance(path, Path))
    missing = [path.relative_to(table.image_dir).as_posix() for path in files if not os.path.lexists(path)]
    cause = explain_missing(table.image_dir, missing)
    lines = sorted(f"  {image}: {reason}" for image, reason in bad.items())[:SHOWN]
    if len(bad) > SHOWN:
        lines.append(f"  and {len(bad) - SHOWN} more; mlic.verify lists all")
    listing = "\n".join([*lines, *([cause] if cause else [])])
    if on_bad_image == "error":
        if not cause or len(missing) < len(bad):
            listing += "\nRepair or remove them, or leave them out with data.on_bad_image=drop."
        raise InputError(f"{len(bad)} images cannot be used:\n{listing}")
    if len(bad) == len(table) or (cause and 2 * len(missing) > len(table)):
        raise InputError(f"{len(bad)} of {len(table)} images cannot be used:\n{listing}")
    logger.warning("%d images cannot be used and are left out:\n%s", len(bad), listing)


def explain_missing(folder: Path, missing: Sequence[str]) -> str | None:
    """Return the common cause and its remedy if most of the files are missing for one cause, else None.

    Args:
        folder: image folder.
        missing: names of missing files, relative to the folder.
    """
    if not missing:
        return None
    tried = missing[:: max(1, len(missing) // TRIED)][:TRIED]
    counts = {
        (words, remedy): sum(_is_file(folder, change(name)) for name in tried)
        for words, remedy, change in _changes(folder, tried[0])
    }
    (words, remedy), found = max(counts.items(), key=lambda item: item[1])
    if found <= len(tried) // 2:
        return None
    number = f"{found} of {len(tried)}{' tested' if len(tried) < len(missing) else ''}"
    return f"{words}, {number} exist. {remedy}"


def _changes(folder: Path, example: str) -> Iterator[tuple[str, str, Callable[[str], str]]]:
    """Yield possible mistakes in the names: the correction in words, the remedy, and the correcting function."""
    for ending in ENDINGS:
        yield f"With '{ending}' appended", CORRECT, lambda name, ending=ending: name + ending
        yield (
            f"With the extension '{ending}' instead of theirs",
            CORRECT,
            lambda name, ending=ending: os.path.splitext(name)[0] + ending,
        )
    yield "With '/' instead of '\\'", CORRECT, lambda name: name.replace("\\", "/")
    yield "In lower case", CORRECT, str.lower
    yield "In upper case", CORRECT, str.upper
    parts, own = example.split("/"), folder.resolve()
    for number in range(1, len(parts)):
        prefix = "/".join(parts[:number]) + "/"
        is_own = own.parts[-number:] == tuple(parts[:number])
        remedy = (
            f"Set data.images={own.parents[number - 1]}, or remove '{prefix}' from names."
            if is_own
            else CORRECT
        )
        yield (
            f"Without the leading '{prefix}'",
            remedy,
            lambda name, prefix=prefix: name.removeprefix(prefix),
        )
    yield "Without their folders", CORRECT, os.path.basename


def _is_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except OSError:  # the name is too long
        return False
