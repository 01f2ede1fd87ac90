"""Text of others' making, such as names of files and classes: in a spreadsheet, and on a terminal."""

import logging
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# a cell that begins so is a formula to spreadsheet programs, which may run commands and send requests
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ESCAPED = tuple(f"'{first}" for first in ("'", *_FORMULA))
# C0 and C1 but for line ends and tabs, half characters, and what reverses the direction of text
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_cell(value: Any) -> Any:
    """Text that a spreadsheet would compute gets an apostrophe in front, as does text that begins with one.

    Other values, such as the number -0.5, stay as they are. `restore_cell` is the way back.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(("'", *_FORMULA)) else value


def restore_cell(text: str) -> str:
    """Undo `escape_cell`; text that it cannot have made, of an older file, stays as it is."""
    return text[1:] if text.startswith(_ESCAPED) else text


def escape_table(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The table with `escape_cell` on all text, that of the header too; to be written as CSV."""
    import pandas as pd  # takes long to import: not before a table is written

    escaped = {
        # pandas' own type of text refuses names that are not UTF-8
        name: pd.Series(map(escape_cell, column), index=column.index, dtype=object)
        for name, column in frame.items()
        if column.dtype.kind not in "biuf"
    }
    return frame.assign(**escaped).rename(columns=escape_cell)  # pyright: ignore[reportCallIssue]


def printable(text: str) -> str:
    r"""The text with its control characters as `\x1b`; line ends and tabs stay.

    A name that holds terminal escapes could otherwise rewrite what the terminal shows, or paste commands.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class PrintableFormatter(logging.Formatter):
    """The formatter of all commands, on the terminal and in the log file; see `printable`."""

    def format(self, record: logging.LogRecord) -> str:
        """Equivalent to that of `logging.Formatter`, made printable."""
        return printable(super().format(record))
