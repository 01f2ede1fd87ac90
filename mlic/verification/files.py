"""Comparison of the files in the image folder with the names in the annotations."""

from collections.abc import Collection, Iterable
from pathlib import Path
from unicodedata import normalize

from mlic.data.images import image_files
from mlic.verification.findings import Finding


def find_unannotated(folders: Iterable[Path], annotated: Iterable[str]) -> list[Finding]:
    """Return one finding for each image file without an annotation."""
    known = set(annotated)
    return [
        Finding("unannotated_image", name)
        for folder in folders
        for name in image_files(folder)
        if name not in known
    ]


def find_missing(missing: Collection[str], unannotated: Iterable[str]) -> list[Finding]:
    """Return one finding for each annotated name without a file, with a suggestion.

    The suggestion is a file without annotation whose name differs only in case or Unicode normalization (which some
    file systems change), else the only file with that name in any folder.

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
        hint = f"; did you mean '{meant}'?" if meant else ""
        findings.append(Finding("missing_image", name, detail=f"no such file{hint}"))
    return findings


def _plain(name: str) -> str:
    return normalize("NFC", name).casefold()
