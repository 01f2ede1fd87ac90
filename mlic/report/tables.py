"""A table with its meaning: what a column holds, which cell is best. Written as CSV here, shown elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mlic.escaping import escape_table
from mlic.runs.folder import write_atomically

BEST, AHEAD = "best", "ahead"  # ahead: best, and the difference to the next is beyond chance
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
        header: as shown.
        kind: one of FORMATS.
        group: header over several columns.
        interval: the cells carry low and high.
        better: `high` or `low` where one end is better.
        meaning: one sentence.
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
    """A value (None: there is none), its interval, and BEST, AHEAD or "" for neither."""

    value: Any = None
    low: float | None = None
    high: float | None = None
    mark: str = ""

    def text(self, kind: str) -> str:
        """As shown, without the interval."""
        if self.value is None:
            return EN_DASH
        return (
            FORMATS[kind].format(self.value).replace("-", MINUS)
            if kind == "difference"
            else self._plain(kind)
        )

    def interval_text(self, kind: str) -> str:
        """The interval as shown, "" without."""
        if self.low is None or self.high is None:
            return ""
        low, high = (FORMATS[kind].format(value).replace("-", MINUS) for value in (self.low, self.high))
        return f"{low} to {high}" if kind == "difference" else f"{low}{EN_DASH}{high}"

    def _plain(self, kind: str) -> str:
        if isinstance(self.value, str):  # a column of numbers may hold words too
            return self.value
        if kind == "probability" and self.value < 0.001:
            return "< 0.001"
        return FORMATS[kind].format(self.value)


@dataclass(frozen=True)
class Row:
    """Cells in the order of the columns; `reference` for rows of another data set, which are never ranked."""

    cells: Sequence[Cell]
    reference: bool = False


@dataclass
class Table:
    """A table of the report.

    Attributes:
        key: name of the CSV file, and its place in the page.
        title: heading.
        columns, rows: the content.
        notes: sentences under it.
        filter_column: key of a column by whose values the page filters, one at a time.
    """

    key: str
    title: str
    columns: Sequence[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    filter_column: str = ""

    @property
    def has_groups(self) -> bool:
        """Whether a line of group headers is needed."""
        return any(column.group for column in self.columns)

    def group_spans(self) -> list[tuple[str, int]]:
        """Neighbouring columns with the same group: (group, number of columns)."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans

    def place(self, key: str) -> int:
        """Index of a column."""
        return [column.key for column in self.columns].index(key)

    def to_frame(self) -> pd.DataFrame:
        """All values unrounded: `key`, and `key_low`, `key_high` where there are intervals."""
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
    """Mark the best cells of columns that name a better end; for figures without a test of chance.

    A column in which all are equal, or of one row, has no best.
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
