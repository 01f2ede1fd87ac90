"""Tables of a report, with descriptions of columns and marks of the best cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mlic.escaping import escape_table
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
    "number": "{:.2f}",
    "probability": "{:.3f}",
}


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: name in the CSV file.
        header: displayed header.
        kind: one of FORMATS.
        group: header of several columns.
        interval: True if the cells have low and high.
        better: `high` or `low` if one direction is better.
        meaning: short description.
    """

    key: str
    header: str
    kind: str = "text"
    group: str = ""
    interval: bool = False
    better: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Cell:
    """A value (None if missing), its interval, and a mark (BEST, AHEAD or "")."""

    value: Any = None
    low: float | None = None
    high: float | None = None
    mark: str = ""

    def text(self, kind: str) -> str:
        """Return the displayed text without the interval."""
        if self.value is None:
            return EN_DASH
        return (
            FORMATS[kind].format(self.value).replace("-", MINUS)
            if kind == "difference"
            else self._plain(kind)
        )

    def interval_text(self, kind: str) -> str:
        """Return the displayed interval, or "" without one."""
        if self.low is None or self.high is None:
            return ""
        low, high = (FORMATS[kind].format(value).replace("-", MINUS) for value in (self.low, self.high))
        return f"{low} to {high}" if kind == "difference" else f"{low}{EN_DASH}{high}"

    def _plain(self, kind: str) -> str:
        if isinstance(self.value, str):  # a column of numbers may contain text, too
            return self.value
        if kind == "probability" and self.value < 0.001:
            return "< 0.001"
        return FORMATS[kind].format(self.value)


@dataclass(frozen=True)
class Row:
    """Cells in the order of the columns; rows of another data set have `reference` set and are never ranked."""

    cells: Sequence[Cell]
    reference: bool = False


@dataclass
class Table:
    """A table of the report.

    Attributes:
        key: name of the CSV file and anchor in the page.
        title: heading.
        columns, rows: content.
        notes: sentences below the table.
        filter_column: key of a column by whose values the page filters rows.
    """

    key: str
    title: str
    columns: Sequence[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    filter_column: str = ""

    @property
    def has_groups(self) -> bool:
        """True if the table has a line of group headers."""
        return any(column.group for column in self.columns)

    def group_spans(self) -> list[tuple[str, int]]:
        """Return (group, number of columns) of adjacent columns with the same group."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans

    def place(self, key: str) -> int:
        """Return the index of a column."""
        return [column.key for column in self.columns].index(key)

    def to_frame(self) -> pd.DataFrame:
        """Return unrounded values in columns `key`, and `key_low` and `key_high` for intervals."""
        content: dict[str, list[Any]] = {}
        for place, column in enumerate(self.columns):
            cells = [row.cells[place] for row in self.rows]
            content[column.key] = [cell.value for cell in cells]
            if column.interval:
                content[f"{column.key}_low"] = [cell.low for cell in cells]
                content[f"{column.key}_high"] = [cell.high for cell in cells]
        frame = pd.DataFrame(content)
        return frame.convert_dtypes() if len(frame) else frame

    def write_csv(self, folder: Path) -> Path:
        """Write `folder/<key>.csv`."""
        return write_table(folder / f"{self.key}.csv", self.to_frame())


def write_table(path: Path, frame: pd.DataFrame) -> Path:
    """Write a CSV file whole: a full disk leaves the former one."""
    write_atomically(path, escape_table(frame).to_csv(index=False), durable=False)
    return path


def mark_best(table: Table) -> Table:
    """Mark the best cells of columns with `better`, for values without a significance test.

    A column with equal values or only one row has no best cell.
    """
    for place, column in enumerate(table.columns):
        values = [row.cells[place].value for row in table.rows if not row.reference]
        known = [value for value in values if value is not None]
        if not column.better or len(set(known)) < 2:
            continue
        best = max(known) if column.better == "high" else min(known)
        for index, row in enumerate(table.rows):
            if not row.reference and row.cells[place].value == best:
                cells = list(row.cells)
                cells[place] = Cell(best, cells[place].low, cells[place].high, BEST)
                table.rows[index] = Row(cells)
    return table
