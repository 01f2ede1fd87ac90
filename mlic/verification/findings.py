"""What was found: one row of problems.csv each."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from mlic.escaping import escape_cell

# kind -> what it means, in the order of problems.csv: what makes figures wrong first
KINDS = {
    "annotations": "the annotations cannot be read",
    "conflicting_duplicate": "the bytes of another image, under other labels",
    "bad_image": "cannot be used",
    "unused_bits": "16-bit grey images that come out dark",
    "file_names": "the names of many files differ from the annotated ones",
    "missing_image": "annotated, but not there",
    "split": "the split cannot be made",
    "rare_class": "too rare for every part of the split",
    "duplicate": "the bytes and labels of another image",
    "unannotated_image": "in the folder, but in no annotation",
}

COLUMNS = ("kind", "file_name", "class", "same_as", "detail")


@dataclass(frozen=True)
class Finding:
    """One finding; fields that do not apply are empty.

    Attributes:
        kind: one of `KINDS`.
        file_name: as annotated, or relative to the image folder.
        class_name: of a rare class.
        same_as: file name of the image that has the same bytes.
        detail: what is wrong, in words.
    """

    kind: str
    file_name: str = ""
    class_name: str = ""
    same_as: str = ""
    detail: str = ""


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """By kind, in the order of `KINDS`, then by file and class."""
    rank = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda finding: (rank[finding.kind], finding.file_name, finding.class_name))


def count_kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """Kind -> findings, of the kinds that occur, in the order of `KINDS`."""
    counts = Counter(finding.kind for finding in findings)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def to_csv(findings: Iterable[Finding]) -> str:
    """The content of problems.csv.

    All fields are quoted: file names may hold commas, quotes and both kinds of line ends.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([escape_cell(value) for value in astuple(finding)] for finding in findings)
    return stream.getvalue()
