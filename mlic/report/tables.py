"""Tables of a report: data frames of unrounded values, and how the page shows their columns."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mlic.escaping import escape_table
from mlic.evaluation.bootstrap import FREQUENT, FREQUENT_MAP, MEAN_OF_FOLDS, Interval
from mlic.runs.folder import write_atomically

BEST, AHEAD = "best", "ahead"  # ahead: best, with a significant difference to the next
MINUS, EN_DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
FORMATS = {
    "text": "{}",
    "integer": "{:,}",
    "score": "{:.3f}",
    "loss": "{:.4f}",
    "difference": "{:+.3f}",
    "seconds": "{:,.2f}",
    "number": "{:.4g}",
    "probability": "{:.3f}",
    "share": "{:.1%}",
}


class Column(NamedTuple):
    """How a column is shown: header, one of FORMATS, description, and group header.

    `source` is the place of its values in a run, see `ReportedRun.find`.
    """

    header: str
    kind: str = "text"
    meaning: str = ""
    source: str = ""
    group: str = ""

    def format(self, value: Any) -> str:
        """Return the text of a value; columns of numbers may contain text, too."""
        if isinstance(value, str):
            return value
        if bool(pd.isna(value)):
            return EN_DASH
        if self.kind == "probability" and value < 0.001:
            return "< 0.001"
        return FORMATS[self.kind].format(value).replace("-", MINUS)


RUN = Column("run")
# header and meaning of all metrics of the report
SCORES = {
    name: Column(header, "score", meaning)
    for name, header, meaning in (
        ("map", "mAP", "mean over classes of the average precision"),
        (MEAN_OF_FOLDS, "mAP, mean of folds", "mean over the folds of the mAP within each"),
        (FREQUENT_MAP, f"mAP, {FREQUENT}+ images", f"over the classes with at least {FREQUENT} test images"),
        ("auc_macro", "AUC", "area under the ROC curve of the scores, mean over classes"),
        ("auc_micro", "AUC micro", "area under the ROC curve of all labels together"),
        ("precision_micro", "precision", "of the labels that it gives, the share that is right (micro)"),
        ("recall_micro", "recall", "of the true labels, the share that it finds (micro)"),
        ("cf1", "CF1", "harmonic mean of macro precision and macro recall"),
        ("of1", "OF1", "micro F1: harmonic mean of precision and recall"),
        (
            "auc_thresholded",
            "AUC of decisions",
            "mean of (TPR + TNR) / 2 over classes, the area of the decisions",
        ),
    )
}


class Cell(NamedTuple):
    """A cell as the page shows it: texts of the value and its interval, a mark (BEST, AHEAD or ""), and the value."""

    text: str
    interval: str
    mark: str
    value: Any


@dataclass
class Table:
    """A table of the report.

    Attributes:
        key: name of the CSV file and anchor in the page.
        title: heading.
        columns: columns by name in the frame, in the order of the CSV file; the page shows those that have values.
        frame: one row per line, of unrounded values. `<name>_low` and `<name>_high` are the interval of `<name>`.
        notes: sentences below the table.
        faint: numbers of rows that are greyed.
        marks: BEST or AHEAD by (number of row, name of column).
        filter_column: column by whose values the page filters rows.
    """

    key: str
    title: str
    columns: Mapping[str, Column]
    frame: pd.DataFrame
    notes: Sequence[str] = ()
    faint: Collection[int] = ()
    marks: dict[tuple[int, str], str] = field(default_factory=dict)
    filter_column: str = ""

    def __post_init__(self) -> None:
        """Order the columns, and store whole numbers as such."""
        ends = ("", "_low", "_high")
        shown = [name + end for name in self.columns for end in ends if not end or name + end in self.frame]
        self.frame = self.frame.reindex(columns=shown)
        self.columns = {
            name: column for name, column in self.columns.items() if bool(self.frame[name].notna().any())
        }
        for name, column in self.columns.items():
            known = self.frame[name].dropna()
            is_float = column.kind == "integer" and known.dtype.kind == "f"
            # numbers of run folders are not trusted
            if is_float and bool(((known % 1 == 0) & (known.abs() < 2**53)).all()):
                self.frame[name] = self.frame[name].astype("Int64")

    def lines(self) -> list[list[Cell]]:
        """Return the cells of all rows."""
        records = self.frame.to_dict("records")
        return [
            [self._cell(row, record, name) for name in self.columns] for row, record in enumerate(records)
        ]

    def _cell(self, row: int, record: Mapping[Any, Any], name: str) -> Cell:
        column, value = self.columns[name], record[name]
        low, high, is_missing = record.get(f"{name}_low"), record.get(f"{name}_high"), bool(pd.isna(value))
        word = " to " if column.kind == "difference" else EN_DASH
        interval = "" if bool(pd.isna(low)) else f"{column.format(low)}{word}{column.format(high)}"
        return Cell(
            column.format(value), interval, self.marks.get((row, name), ""), "" if is_missing else value
        )

    def group_spans(self) -> list[tuple[str, int]]:
        """Return (group, number of columns) of adjacent columns with the same group; [] without groups."""
        groups = groupby(column.group for column in self.columns.values())
        spans = [(group, len(list(own))) for group, own in groups]
        return spans if len(spans) > 1 else []

    def write_csv(self, folder: Path) -> Path:
        """Write `folder/<key>.csv`."""
        return write_table(folder / f"{self.key}.csv", self.frame)


def interval_cells(name: str, interval: Interval | None) -> dict[str, float]:
    """Return the cells of a value and its interval; {} without one."""
    if interval is None:
        return {}
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def write_table(path: Path, frame: pd.DataFrame) -> Path:
    """Write a CSV file whole: a full disk leaves the former one."""
    write_atomically(path, escape_table(frame).to_csv(index=False), durable=False)
    return path
