"""Tables of a report: data frames of unrounded values, and how the page shows their columns."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import pandas as pd

from mlic.escaping import escape_table
from mlic.runs.folder import write_atomically

BEST, AHEAD = "best", "ahead"  # ahead: best, with a significant difference to the next
MINUS, EN_DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
MESSAGE_LENGTH = 240  # characters of a long text; the CSV file has all of it

FORMATS = {
    "text": "{}",
    "message": "{}",
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

    `better` is `high` or `low` if one direction is better.
    """

    header: str
    kind: str = "text"
    meaning: str = ""
    better: str = ""
    group: str = ""

    def format(self, value: Any) -> str:
        """Return the text of a value; columns of numbers may contain text, too."""
        if pd.isna(value):
            return EN_DASH
        if isinstance(value, str):
            cut = self.kind == "message" and len(value) > MESSAGE_LENGTH
            return value[:MESSAGE_LENGTH] + " …" if cut else value
        if self.kind == "probability" and value < 0.001:
            return "< 0.001"
        return FORMATS[self.kind].format(value).replace("-", MINUS)


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
        columns: columns that are shown, by name in the frame; it also sets their order in the CSV file.
        frame: one row per line, of unrounded values. `<name>_low` and `<name>_high` are the interval of `<name>`.
        notes: sentences below the table.
        faint: numbers of rows that are greyed and never best.
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
        names = [
            f"{name}{end}" for name in self.columns for end in ends if not end or name + end in self.frame
        ]
        self.frame = self.frame.reindex(columns=names)
        for name, column in self.columns.items():
            known = self.frame[name].dropna()
            is_float = column.kind == "integer" and pd.api.types.is_float_dtype(known)
            # numbers of run folders are not trusted
            if is_float and ((known % 1 == 0) & (known.abs() < 2**53)).all():
                self.frame[name] = self.frame[name].astype("Int64")

    def mark_best(self) -> Self:
        """Mark the best values of columns with `better`, without a test; equal values have no best."""
        ranked = [row for row in range(len(self.frame)) if row not in self.faint]
        for name, column in self.columns.items():
            known = self.frame[name].iloc[ranked].dropna()
            if column.better and known.nunique() > 1:
                best = known.max() if column.better == "high" else known.min()
                self.marks |= {(int(row), name): BEST for row in known.index[known == best]}
        return self

    def lines(self) -> list[list[Cell]]:
        """Return the cells of all rows."""
        records = self.frame.to_dict("records")
        return [
            [self._cell(place, record, name) for name in self.columns] for place, record in enumerate(records)
        ]

    def _cell(self, place: int, record: Mapping[Any, Any], name: str) -> Cell:
        column, value = self.columns[name], record[name]
        low, high = record.get(f"{name}_low"), record.get(f"{name}_high")
        interval = ""
        if all(isinstance(item, int | float) and not pd.isna(item) for item in (value, low, high)):
            word = " to " if column.kind == "difference" else EN_DASH
            interval = f"{column.format(low)}{word}{column.format(high)}"
        return Cell(
            column.format(value), interval, self.marks.get((place, name), ""), "" if pd.isna(value) else value
        )

    def group_spans(self) -> list[tuple[str, int]]:
        """Return (group, number of columns) of adjacent columns with the same group; [] without groups."""
        spans: list[tuple[str, int]] = []
        for column in self.columns.values():
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans if any(group for group, _ in spans) else []

    def write_csv(self, folder: Path) -> Path:
        """Write `folder/<key>.csv`."""
        return write_table(folder / f"{self.key}.csv", self.frame)


def write_table(path: Path, frame: pd.DataFrame) -> Path:
    """Write a CSV file whole: a full disk leaves the former one."""
    write_atomically(path, escape_table(frame).to_csv(index=False), durable=False)
    return path
