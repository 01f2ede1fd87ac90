"""Findings of a verification; each is one row of problems.csv."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import pandas as pd

# kinds and their descriptions, in the order of problems.csv: those that distort metrics come first
KINDS = {
    "annotations": "the annotations cannot be read",
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

COLUMNS = ("kind", "file_name", "class", "same_as", "detail")


@dataclass(frozen=True)
class Finding:
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


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by kind in the order of `KINDS`, then by file and class."""
    rank = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda finding: (rank[finding.kind], finding.file_name, finding.class_name))


def count_kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """Count the findings of each kind that occurs, in the order of `KINDS`."""
    counts = Counter(finding.kind for finding in findings)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return the table of problems.csv, one row per finding."""
    # the string dtype of pandas refuses names that are not UTF-8
    return pd.DataFrame([astuple(finding) for finding in findings], columns=list(COLUMNS), dtype=object)
