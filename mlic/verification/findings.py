"""Findings of a verification; each is one row of problems.csv."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mlic.data.bad_images import explain_missing, find_similar
from mlic.data.grouping import find_copies
from mlic.data.images import image_files
from mlic.data.table import LabelTable

# kinds and their descriptions, in the order of problems.csv: those that distort metrics come first
KINDS = {
    "conflicting_duplicate": "copy of another image with different labels",
    "bad_image": "cannot be used",
    "unused_bits": "16-bit greyscale images that are decoded too dark",
    "file_names": "the names of many files differ from the annotated ones",
    "missing_image": "annotated, but the file is missing",
    "split": "the split cannot be made",
    "rare_class": "too rare for every part of the split",
    "near_duplicate": "looks like a copy of an image in another part; data.split.groups.by=duplicates prevents it",
    "duplicate": "copy of another image with the same labels",
    "unannotated_image": "in the folder, but not annotated",
    "few_test_images": "fewer than 10 images in test, so that the figures of the class are uncertain",
    "unknown_labels": "labels that are not known",
}
# facts that limit what the figures can say, but need no correction
NOTES = ("few_test_images", "unknown_labels")
SEPARATOR = "|"
FEW_TEST_IMAGES = 10


class Finding(NamedTuple):
    """One finding; fields that do not apply are empty.

    Attributes:
        kind: one of `KINDS`.
        file_name: file name as annotated, or relative to the image folder.
        class_name: name of a rare class.
        same_as: file name of the image with the same bytes, or of the near duplicate.
        detail: description of the problem.
    """

    kind: str
    file_name: str = ""
    class_name: str = ""
    same_as: str = ""
    detail: str = ""


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return one row per finding, in the order of `KINDS`, then of file and class.

    Returns:
        Columns `kind`, `file_name`, `class`, `same_as` and `detail`; see `Finding`.
    """
    rank = {kind: place for place, kind in enumerate(KINDS)}
    rows = sorted(findings, key=lambda each: (rank[each.kind], each.file_name, each.class_name))
    # the string dtype of pandas refuses names that are not UTF-8
    table = pd.DataFrame(rows, columns=list(Finding._fields), dtype=object)
    return table.rename(columns={"class_name": "class"})


def class_names(table: LabelTable, columns: np.ndarray) -> str:
    """Return the names of some classes (column numbers, or a mask), joined by `SEPARATOR`."""
    return SEPARATOR.join(np.array(table.classes, dtype=object)[columns])


def find_in_images(
    table: LabelTable, digests: np.ndarray, unusable: dict[int, str], greys: list[int], bits_stored: int
) -> Iterator[Finding]:
    """Yield findings on bad, missing and unannotated images, duplicates, and unused bits.

    Args:
        table: N images and their labels.
        digests: see `inspect_images`.
        unusable: see `inspect_images`.
        greys: see `inspect_images`.
        bits_stored: see `mlic.data.open_image`.
    """
    references, missing = table.paths(), []
    for row, reason in unusable.items():
        path, name = references[row], str(table.file_names[row])
        if isinstance(path, Path) and not os.path.lexists(path):
            missing.append(name)
        else:
            yield Finding("bad_image", name, detail=reason)
    yield from find_unmatched(table, missing)
    yield from find_duplicates(table, digests)
    largest = max(greys, default=0)
    used = max(8, largest.bit_length())
    if largest and used < bits_stored:
        detail = (
            f"{len(greys)} 16-bit greyscale images use {used} of {bits_stored} bits (largest value {largest}): "
            f"data.bits_stored={used} scales them to the full range"
        )
        yield Finding("unused_bits", detail=detail)


def find_duplicates(table: LabelTable, digests: np.ndarray) -> Iterator[Finding]:
    """Yield a finding for each image with the same bytes as an earlier one, compared with the first of these."""
    for row, first in find_copies(digests).tolist():
        own, other = table.labels[row], table.labels[first]
        conflicts = own + other == 1  # 1 and 0; an unknown label contradicts nothing
        differences = {"only here": conflicts & (own == 1), "only there": conflicts & (other == 1)}
        detail = "; ".join(
            f"{where}: {class_names(table, labels)}" for where, labels in differences.items() if labels.any()
        )
        kind, names = "conflicting_duplicate" if detail else "duplicate", table.file_names[[row, first]]
        yield Finding(kind, names[0], same_as=names[1], detail=detail or "same labels")


def find_unmatched(table: LabelTable, missing: Sequence[str]) -> Iterator[Finding]:
    """Yield findings on annotated names without a file (`missing`), and on files without an annotation."""
    annotated = set(table.file_names)
    if cause := explain_missing(table.folders, missing, annotated - {*missing}):
        yield Finding("file_names", detail=cause)
    unannotated = {name for folder in table.folders for name in image_files(folder)} - annotated
    yield from (Finding("unannotated_image", name) for name in unannotated)
    meant = {name: file for name, file in find_similar(table.folders, missing).items() if file in unannotated}
    for name in missing:
        hint = f"; did you mean '{meant[name]}'?" if name in meant else ""
        yield Finding("missing_image", name, detail=f"no such file{hint}")


def find_in_classes(table: LabelTable, classes: pd.DataFrame) -> Iterator[Finding]:
    """Yield notes on classes with few test images, and on the share of unknown labels.

    Args:
        table: all annotated images.
        classes: see `class_table`; without the column `test` there are no notes on test images.
    """
    for row in classes.to_dict("records"):
        if 0 < row.get("test", 0) < FEW_TEST_IMAGES:
            detail = f"{row['test']} images in test; data.split.folds tests on all images in turn"
            yield Finding("few_test_images", class_name=row["class"], detail=detail)
    unknown = (~table.known).mean(axis=0)
    if unknown.any():
        most = int(unknown.argmax())
        detail = (
            f"{unknown.mean():.1%} of the labels are unknown, most of '{table.classes[most]}' ({unknown[most]:.1%}); "
            "they take no part in losses and metrics"
        )
        yield Finding("unknown_labels", detail=detail)
