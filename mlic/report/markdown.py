"""The report as Markdown; all names are escaped."""

import html
import re
from collections.abc import Sequence

from mlic.report.tables import AHEAD, BEST, Cell, Column, Row, Table

_SPECIAL = re.compile(r"([\\`*_\[\]|~^$]|^[#+-])")


def escape(text: str) -> str:
    """Escape text for one line of Markdown: HTML as entities, Markdown characters with a backslash."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return _SPECIAL.sub(r"\\\1", plain)


def render_markdown(title: str, lead: Sequence[str], tables: Sequence[Table], figures: Sequence[str]) -> str:
    """Render the whole report.

    Args:
        title: heading.
        lead: sentences at the top.
        tables: all tables.
        figures: names of the files in figures/ without extension.
    """
    parts = [f"# {escape(title)}", "\n".join(f"- {escape(sentence)}" for sentence in lead)]
    for table in tables:
        notes = "\n".join(f"- {escape(note)}" for note in table.notes)
        parts += [f"## {escape(table.title)}", markdown_table(table), notes]
    if figures:
        parts += ["## Figures", "\n".join(f"![{name}](figures/{name}.png)" for name in figures)]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(table: Table) -> str:
    """Render a table; the best values are bold, with a star if they are significantly better than the next."""
    headers = [
        escape(f"{column.header}, {column.group}" if column.group else column.header)
        for column in table.columns
    ]
    rules = ["---" if column.kind == "text" else "---:" for column in table.columns]
    lines = [headers, rules, *(_cells(table.columns, row) for row in table.rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(columns: Sequence[Column], row: Row) -> list[str]:
    return [_cell(column, cell) for column, cell in zip(columns, row.cells, strict=True)]


def _cell(column: Column, cell: Cell) -> str:
    text = escape(cell.text(column.kind))
    if cell.mark in (BEST, AHEAD):
        text = f"**{text}**" + (r"\*" if cell.mark == AHEAD else "")
    interval = cell.interval_text(column.kind)
    return f"{text} ({interval})" if interval else text
