"""Images that cannot be used: refused or left out, with the one cause that many of them may have."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mlic.data.table import LabelTable
from mlic.errors import InputError
from mlic.tars.members import is_member

logger = logging.getLogger(__name__)

SHOWN = 10
TRIED = (
    1000  # names, of the missing ones: a file system over a network answers some thousand questions a second
)
FOLDERS_TRIED = 50
ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".webp", ".tif", ".tiff", ".bmp", ".gif")
CORRECT = "Correct the names in the annotations."


def leave_out(bad: Mapping[Path, str], table: LabelTable, on_bad_image: str) -> None:
    """Refuse bad images, or log that they are left out.

    Args:
        bad: path -> reason.
        table: all images, with the bad ones.
        on_bad_image: `error`, or `drop`.

    Raises:
        InputError: there are bad images, with `error`; with `drop`, only where no image is left, or most are missing
            for one cause that can be mended.
    """
    if not bad:
        return
    missing = [
        path.relative_to(table.image_dir).as_posix()
        for path in bad
        if not is_member(path) and not os.path.lexists(path)
    ]
    cause = explain_missing(table.image_dir, missing)
    lines = [f"  {path}: {reason}" for path, reason in sorted(bad.items())[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"  and {len(bad) - SHOWN} more; mlic.verify lists all")
    listing = "\n".join([*lines, *([cause] if cause else [])])
    if on_bad_image == "error":
        is_mended = cause and len(missing) == len(bad)
        advice = (
            "" if is_mended else "\nRepair or remove them, or leave them out with data.on_bad_image=drop."
        )
        raise InputError(f"{len(bad)} images cannot be used:\n{listing}{advice}")
    if len(bad) == len(table) or (cause and 2 * len(missing) > len(table)):
        raise InputError(f"{len(bad)} of {len(table)} images cannot be used:\n{listing}")
    logger.warning("%d images cannot be used and are left out:\n%s", len(bad), listing)


def explain_missing(folder: Path, missing: Sequence[str]) -> str | None:
    """The one cause for which most of the files are missing, and what to do; None if there is none.

    Args:
        folder: of the images.
        missing: names without a file, relative to the folder.
    """
    tried = missing[:: max(1, len(missing) // TRIED)][:TRIED]
    most, words = len(tried) // 2, None
    for changed, change, remedy in _changes(folder, tried):
        there = sum(_is_file(folder, change(name)) for name in tried)
        if there > most:
            most, words = there, (changed, remedy)
    if words is None:
        return None
    number = f"{most} of {len(tried)}{' that were tried' if len(tried) < len(missing) else ''}"
    return f"{words[0]} {number} are there. {words[1]}"


def _changes(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Callable[[str], str], str]]:
    """Yield each possible mistake in the names: the change in words, the change, and the remedy."""
    if not names:
        return
    for ending in ENDINGS:
        yield f"With '{ending}' appended", lambda name, ending=ending: name + ending, CORRECT
    for ending in ENDINGS:
        yield (
            f"With the ending '{ending}' instead of theirs",
            lambda name, ending=ending: os.path.splitext(name)[0] + ending,
            CORRECT,
        )
    yield "With '/' instead of '\\'", lambda name: name.replace("\\", "/"), CORRECT
    yield "In small letters", str.lower, CORRECT
    yield "In capital letters", str.upper, CORRECT
    parts = names[0].split("/")
    for number in range(1, len(parts)):
        prefix = "/".join(parts[:number]) + "/"
        own = folder.resolve()
        is_own = own.parts[-number:] == tuple(parts[:number])
        remedy = f"Set data.images={own.parents[number - 1]}, or leave '{prefix}' out." if is_own else CORRECT
        yield (
            f"Without '{prefix}' at their beginning",
            lambda name, prefix=prefix: name.removeprefix(prefix),
            remedy,
        )
    yield "Without their folders", os.path.basename, CORRECT
    for inner in _folders(folder):
        yield (
            f"In the folder '{inner.name}'",
            lambda name, inner=inner: f"{inner.name}/{name}",
            f"Set data.images={inner}.",
        )


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if entry.is_dir())[:FOLDERS_TRIED]
    except OSError:
        return []


def _is_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except OSError:  # a name that is too long
        return False
