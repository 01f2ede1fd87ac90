"""Comparison of the files in the image folder with the names in the annotations."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mlic.data.bad_images import find_similar
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


def find_missing(
    folders: Sequence[Path], missing: Sequence[str], unannotated: Collection[str]
) -> list[Finding]:
    """Return one finding for each annotated name without a file, with the unannotated file that was probably meant."""
    meant = {name: file for name, file in find_similar(folders, missing).items() if file in unannotated}
    hints = {name: f"; did you mean '{file}'?" for name, file in meant.items()}
    return [Finding("missing_image", name, detail=f"no such file{hints.get(name, '')}") for name in missing]
