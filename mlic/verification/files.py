"""Findings about files: copies of other images, and names with an image or an annotation, but not both."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from mlic.data.bad_images import find_similar
from mlic.data.grouping import find_copies
from mlic.data.images import image_files
from mlic.data.table import LabelTable
from mlic.verification.findings import Finding

SEPARATOR = "|"


def find_duplicates(table: LabelTable, digests: np.ndarray) -> list[Finding]:
    """Return one finding for each image with the same bytes as an earlier one, compared with the first of these.

    Args:
        table: N images and their labels.
        digests: digests (N,) of the bytes; empty ones are ignored.
    """
    return [_compare(table, row, first) for row, first in find_copies(digests).tolist()]


def _compare(table: LabelTable, row: int, first: int) -> Finding:
    own, other = table.labels[row], table.labels[first]
    conflicts = own + other == 1  # 1 and 0; an unknown label contradicts nothing
    names = {"file_name": table.file_names[row], "same_as": table.file_names[first]}
    differences = [
        f"only {where}: {SEPARATOR.join(table.classes[column] for column in np.flatnonzero(labels))}"
        for where, labels in (("here", conflicts & (own == 1)), ("there", conflicts & (other == 1)))
        if labels.any()
    ]
    if not differences:
        return Finding("duplicate", **names, detail="same labels")
    return Finding("conflicting_duplicate", **names, detail="; ".join(differences))


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
