"""Escaping of untrusted text, such as names of files and classes, for spreadsheets and terminals."""

import logging
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# spreadsheet programs evaluate such a cell as a formula, which may run commands and send requests
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ESCAPED = tuple(f"'{first}" for first in ("'", *_FORMULA))
# C0 and C1 except line breaks and tabs, lone surrogates, and characters that change the direction of text
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_cell(value: Any) -> Any:
    """Prepend an apostrophe to text that a spreadsheet would evaluate, or that begins with an apostrophe.

    Other values, such as the number -0.5, are unchanged. `restore_cell` is the inverse.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(("'", *_FORMULA)) else value


def restore_cell(text: str) -> str:
    """Undo `escape_cell`; other text, such as that of older files, is unchanged."""
    return text[1:] if text.startswith(_ESCAPED) else text


def escape_table(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Apply `escape_cell` to all text of a table, including the header, before it is written as CSV."""
    import pandas as pd  # imported only when needed, because the import is slow

    escaped = {
        # the string dtype of pandas refuses names that are not UTF-8
        name: pd.Series(map(escape_cell, column), index=column.index, dtype=object)
        for name, column in frame.items()
        if column.dtype.kind not in "biuf"
    }
    return frame.assign(**escaped).rename(columns=escape_cell)  # pyright: ignore[reportCallIssue]


def printable(text: str) -> str:
    r"""Escape control characters (as `\x1b`) except line breaks and tabs.

    Otherwise terminal escapes in a name could rewrite the output of the terminal or paste commands.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class PrintableFormatter(logging.Formatter):
    """The log formatter of all commands for terminal and log file; see `printable`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record like `logging.Formatter`, and escape control characters."""
        return printable(super().format(record))
