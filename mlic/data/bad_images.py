"""Unusable images: refused or left out, with an explanation where many share one cause."""

import logging
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mlic.data.images import ImageReference, image_files, image_suffixes, without_image_extension
from mlic.data.table import LabelTable
from mlic.errors import InputError

logger = logging.getLogger(__name__)

SHOWN = 10
TRIED = 1000  # missing names that are examined


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
    missing = [
        name
        for name, image in zip(table.file_names, table.paths(), strict=True)
        if image in bad and isinstance(image, Path) and not os.path.lexists(image)
    ]
    cause = explain_missing(table.folders, missing, {*table.file_names} - {*missing})
    if not cause and len(missing) == len(table):
        cause = describe_images(table.folders)
    lines = sorted(f"  {image}: {reason}" for image, reason in bad.items())[:SHOWN]
    lines += [f"  and {len(bad) - SHOWN} more; mlic.verify lists all"] if len(bad) > SHOWN else []
    listing = "\n".join([*lines, *filter(None, [cause])])
    if on_bad_image == "error" or len(bad) == len(table) or (cause and 2 * len(missing) > len(table)):
        remedy = "" if cause else "\nRepair or remove them, or leave them out with data.on_bad_image=drop."
        raise InputError(f"{len(bad)} images cannot be used, of {len(table)}:\n{listing}{remedy}")
    logger.warning("%d images cannot be used and are left out:\n%s", len(bad), listing)


def explain_missing(
    folders: Sequence[Path], missing: Sequence[str], present: Collection[str] = ()
) -> str | None:
    r"""Return the common cause and its remedy if most of the files are missing for one cause, else None.

    Names are compared with those of the images in the folders, without regard to extension, case, Unicode form, folders
    and `\` or `/`.

    Args:
        folders: image folders.
        missing: names of missing files, relative to a folder.
        present: names of the files that exist; settings that would change them are not suggested.
    """
    if not missing:
        return None
    tried = missing[:: max(1, len(missing) // TRIED)][:TRIED]
    similar = find_similar(folders, tried)
    endings = {os.path.splitext(name)[1] for name in present}
    remedies = {name: _remedy(name, file, folders, endings) for name, file in similar.items()}
    remedy, found = Counter(remedies.values()).most_common(1)[0] if remedies else ("", 0)
    if found <= len(tried) // 2:
        return None
    example = next(name for name in remedies if remedies[name] == remedy)
    return (
        f"{found} of {len(tried)}{' tested' if len(tried) < len(missing) else ''} missing names differ from files only "
        f"in extension, case, Unicode form, folders or slashes: '{example}' from '{similar[example]}'. {remedy}"
    )


def describe_images(folders: Sequence[Path]) -> str:
    """Return a sentence with an example of the images in the folders."""
    file = next((file for folder in folders for file in image_files(folder)), None)
    if file is None:
        return f"There are no images in {folders[0]}."
    pattern = f" If all its folders hold images, set data.images='{folders[0]}/*'." if "/" in file else ""
    return f"Images in {folders[0]} have names such as '{file}'.{pattern}"


def find_similar(folders: Sequence[Path], names: Sequence[str]) -> dict[str, str]:
    r"""Map names to the image files that differ only in extension, case, Unicode form, folders, and `\` or `/`.

    Names for which several files are equally similar are left out.

    Args:
        folders: image folders.
        names: names of missing files, relative to a folder.
    """
    wanted = {end for name in names for end in _ends(name)}
    files: dict[str, set[str]] = defaultdict(set)
    for file in (file for folder in folders for file in image_files(folder)):
        for end in wanted.intersection(_ends(file)):
            if len(files[end]) < 2:  # two are as ambiguous as thousands
                files[end].add(file)
    longest = {name: next((files[end] for end in _ends(name) if end in files), set()) for name in names}
    return {name: next(iter(found)) for name, found in longest.items() if len(found) == 1}


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()


def _ends(name: str) -> list[str]:
    """Return the ends of a name after each `/`, the longest first, each with and without its extension."""
    parts = _plain(name).split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    return [form for end in ends for form in (end, os.path.splitext(end)[0])]


def _remedy(name: str, file: str, folders: Sequence[Path], endings: set[str]) -> str:
    """Return the settings that make the name that of the file and keep names with these endings, or other advice."""
    settings: list[str] = []
    ending, meant = os.path.splitext(name)[1], os.path.splitext(file)[1]
    # readers replace the extensions of images only
    if ending != meant and endings <= {meant} and (not ending or ending.lower() in image_suffixes()):
        settings.append(f"data.reader.extension={meant}")
        name = without_image_extension(name) + meant
    if name != file:
        path = folders[0].resolve() / file
        # the folder in which the name is that of the file
        place = next((place for place in path.parents if place / name == path), None)
        if place is None or endings or len(folders) > 1:
            return "Correct the names in the annotations."
        settings.append(f"data.images={place}")
    return f"Set {' '.join(settings)}."
