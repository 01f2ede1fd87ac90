"""The files of the image folder against the names in the annotations."""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from unicodedata import normalize

from mlic.data.images import image_suffixes
from mlic.verification.findings import Finding


def image_files(folder: Path) -> Iterator[str]:
    """Names, relative to the folder, of all files below it that are named as images; hidden ones are left out.

    Links to folders are not followed: they may lead round in a circle.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inner = Path(place).relative_to(folder).as_posix()
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in image_suffixes():
                yield name if inner == "." else f"{inner}/{name}"


def find_unannotated(folder: Path, annotated: Iterable[str]) -> list[Finding]:
    """One finding for each image file that no annotation names."""
    known = set(annotated)
    return [Finding("unannotated_image", name) for name in image_files(folder) if name not in known]


def find_missing(missing: Collection[str], unannotated: Iterable[str]) -> list[Finding]:
    """One finding for each annotated name without a file, with the file that it may mean.

    That is one in no annotation whose name differs by capital letters or the form of its accents (file systems
    decompose some), else the only one of that name in any folder.

    Args:
        missing: annotated names without a file.
        unannotated: files without an annotation.
    """
    by_name: dict[str, str] = {}
    by_ending: dict[str, str | None] = {}
    for name in unannotated if missing else ():
        by_name.setdefault(_plain(name), name)
        ending = _plain(name.rpartition("/")[2])
        by_ending[ending] = None if ending in by_ending else name
    findings = []
    for name in missing:
        meant = by_name.get(_plain(name)) or by_ending.get(_plain(name.rpartition("/")[2]))
        hint = f"; perhaps '{meant}' is meant" if meant else ""
        findings.append(Finding("missing_image", name, detail=f"no such file{hint}"))
    return findings


def _plain(name: str) -> str:
    return normalize("NFC", name).casefold()
