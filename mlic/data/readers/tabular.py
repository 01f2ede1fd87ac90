"""Tables of text: CSV and similar files, JSON lines and spreadsheets, with the line of each row.

Text is parsed by `csv` of the standard library rather than by pandas, which fills rows that are too short with empty
cells and, below a header that is too short, takes the first column for an index. Both lose labels silently.
"""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from mlic.data.readers.common import objects, parse_json, read_text
from mlic.errors import InputError

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars", " ": "blanks"}
SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods")
JSON_LINES = (".jsonl", ".ndjson")
SIGNS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "-1": -1, "-1.0": -1}
RECORDS_TRIED = 200
NAMES_SHOWN = 5
IMAGE_NAME = re.compile(r"\.(jpe?g|png|gif|bmp|tiff?|webp|heic|avif|jp2|dcm)$", re.IGNORECASE)
_COUNT = re.compile(r"\A\s*(\d+)[ \t]*(?=\r?\n)")
_EXCEL = re.compile(r"\Asep=.\r?\n")  # names the delimiter to Excel
_WORD = re.compile(r"[^\W\d_]+")

Records = list[tuple[list[str], int]]  # cells, and the line on which they end


@dataclass(frozen=True)
class TextTable:
    """Rows of text.

    Attributes:
        files: the files that were read.
        columns: cells of each column, without blanks around them, by its name in the header.
        origins: number of the file, and line in it, of each row.
        form: how the files were read, if not as UTF-8 text separated by commas, such as ` (UTF-16, tabs)`.
    """

    files: Sequence[Path]
    columns: dict[str, list[str]]
    origins: list[tuple[int, int]]
    form: str

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.origins)

    def place(self, row: int) -> str:
        """Return file and line of a row, for messages."""
        file, line = self.origins[row]
        return f"{self.files[file]}, line {line}"


def read_tables(
    files: Sequence[Path], delimiter: str | None = None, encoding: str | None = None
) -> TextTable:
    r"""Read tables with the same columns, one below the other.

    Args:
        files: text files, or spreadsheets with one sheet.
        delimiter: character between two cells; `\t` is a tab, a blank any number of blanks. Default: recognised.
        encoding: encoding of text files. Default: UTF-8, UTF-16 or Windows-1252, whichever is recognised.

    Raises:
        InputError: a file is malformed, has no rows, or other columns than the first one; or the delimiter or encoding
            cannot be recognised.
    """
    columns: dict[str, list[str]] = {}
    origins: list[tuple[int, int]] = []
    forms: dict[str, None] = {}
    for number, file in enumerate(files):
        header, records, form = _read(file, delimiter, encoding)
        if number and set(header) != set(columns):
            differ = sorted(set(header) ^ set(columns))[:NAMES_SHOWN]
            raise InputError(f"{file}: its columns differ from those of {files[0]}: {', '.join(differ)}.")
        for name, cells in zip(header, zip(*(cells for cells, _ in records), strict=True), strict=True):
            columns.setdefault(name, []).extend(cells)
        origins += [(number, line) for _, line in records]
        forms[form] = None
    return TextTable(files, columns, origins, "".join(forms))


def _read(file: Path, delimiter: str | None, encoding: str | None) -> tuple[list[str], Records, str]:
    """Return header, rows below it, and the form in words."""
    count = None
    if file.suffix.lower() in SPREADSHEETS:
        records, forms = _spreadsheet(file), ["spreadsheet"]
    elif file.suffix.lower() in JSON_LINES:
        records, forms = _json_lines(file), ["JSON lines"]
    else:
        text, name = _decode(file, encoding)
        text = _EXCEL.sub("\n", text)
        if start := _COUNT.match(text):  # as in CelebA, the first line is the number of rows
            count, text = int(start[1]), "\n" * start[0].count("\n") + text[start.end() :]
        if text.lstrip()[:1] in ("{", "[", "<"):
            raise InputError(
                f"{file}: JSON or XML, not a table. Read annotations of COCO, Pascal VOC and Label Studio with "
                "data=coco, data=voc and data=labelstudio; write others as a table with one row per image."
            )
        delimiter = _delimiter(file, text, delimiter)
        records = list(_records(file, text, delimiter))
        forms = [name, "" if delimiter == "," else DELIMITERS.get(delimiter, f"'{delimiter}'")]
    header = records[0][0] if records else []
    if len(records) > 1 and _lacks_first_name(header, records[1:]):
        header = ["", *header]
    # pandas' name for a column without one, such as an index or the blank column behind a last comma
    header = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    _check(file, header, records, count)
    form = ", ".join(filter(None, forms))
    return header, records[1:], f" ({form})" if form else ""


def _check(file: Path, header: list[str], records: Records, count: int | None) -> None:
    if len(header) < 2:
        raise InputError(
            f"{file}, line 1: the header is '{''.join(header)}'; expected a header of at least two columns, one of "
            "which names the images. Set data.reader.delimiter if another character separates them."
        )
    if any(map(IMAGE_NAME.search, header)):
        raise InputError(
            f"{file}, line 1: expected the names of the columns, not the first image. Add a header such as "
            "'file_name,labels'."
        )
    if repeated := sorted(name for name, times in Counter(header).items() if times > 1)[:NAMES_SHOWN]:
        raise InputError(
            f"{file}, line 1: each column needs its own name; repeated: {', '.join(repeated)}. If this is "
            "the first image, add a header."
        )
    if len(records) == 1:
        raise InputError(f"{file}: no rows below the header; expected one row per image.")
    for cells, line in records[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{file}, line {line}: {len(cells)} fields, but the header has {len(header)}. Put fields that contain "
                "the delimiter in double quotes, or set data.reader.delimiter to another one."
            )
    if count is not None and count != len(records) - 1:
        raise InputError(f"{file}: its first line is {count}, but {len(records) - 1} rows follow the header.")


def _lacks_first_name(header: list[str], records: Records) -> bool:
    """Return True if each row has one cell more than the header, and all cells but the first are 0, 1 or -1."""
    return all(len(cells) == len(header) + 1 and SIGNS.keys() >= set(cells[1:]) for cells, _ in records)


def _decode(file: Path, encoding: str | None) -> tuple[str, str]:
    """Return the text of a file and its encoding, unless that is UTF-8."""
    data = file.read_bytes()
    if encoding is None:
        for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            encoding = "UTF-16" if data.startswith(mark) else encoding
    name = encoding or "UTF-8"
    try:
        return data.decode(encoding or "utf-8-sig").removeprefix("\ufeff"), encoding or ""
    except LookupError:
        raise InputError(f"data.reader.encoding={encoding}: not the name of an encoding.") from None
    except UnicodeError as error:
        if encoding is None and _is_western(data):
            return data.decode("cp1252"), "Windows-1252"
        raise InputError(
            f"{file}: not {name} text ({error}). Save the file as UTF-8, or set its encoding, such as "
            "data.reader.encoding=cp1252 (Western Europe on Windows), cp1250 (Central Europe) or cp1251 (Cyrillic)."
        ) from None


def _is_western(data: bytes) -> bool:
    """Return True if bytes read as Windows-1252 look like German, French and the like.

    Every other code page has letters or signs in the same places. Text is taken for Western European if there are no
    other signs than ASCII, and no word consists mainly of accented letters, as Cyrillic or Greek would.
    """
    text = data.decode("cp1252", errors="replace")
    if any(not character.isascii() and not "À" <= character <= "ÿ" for character in set(text)):
        return False
    words = [word for word in set(_WORD.findall(text)) if not word.isascii()]
    return all(2 * sum(not character.isascii() for character in word) <= len(word) for word in words)


def _delimiter(file: Path, text: str, delimiter: str | None) -> str:
    """Return the given delimiter, or the one that divides all lines into equally many cells."""
    if delimiter is not None:
        delimiter = delimiter.replace(r"\t", "\t")
        if len(delimiter) != 1:
            raise InputError("data.reader.delimiter must be one character.", key="data.reader.delimiter")
        return delimiter
    fitting = [character for character in DELIMITERS if _divides(file, text, character)]
    if len(fitting) > 1:
        options = " or ".join(f"\"data.reader.delimiter='{character}'\"" for character in fitting)
        raise InputError(
            f"{file}: {' and '.join(DELIMITERS[character] for character in fitting)} divide all lines into equally "
            f"many cells. Set the delimiter: {options}.".replace("\t", r"\t")
        )
    # if none fits, the character of the header serves to name the first line that is wrong
    first = text.lstrip().partition("\n")[0]
    return next(iter([*fitting, *(character for character in ",\t;|" if character in first), ","]))


def _divides(file: Path, text: str, delimiter: str) -> bool:
    try:
        (header, _), *records = islice(_records(file, text, delimiter), RECORDS_TRIED)
    except (InputError, ValueError):  # malformed, or no line at all
        return False
    if delimiter == " " and any(character in text.lstrip().partition("\n")[0] for character in ",\t;|"):
        return False
    return (len(header) > 1 and all(len(cells) == len(header) for cells, _ in records)) or (
        bool(records) and _lacks_first_name(header, records)
    )


def _records(file: Path, text: str, delimiter: str) -> Iterator[tuple[list[str], int]]:
    """Yield the cells of each row that is not empty, and the line on which it ends."""
    if delimiter == " ":
        for line, row in enumerate(io.StringIO(text, newline=None), 1):
            if cells := row.split():
                yield cells, line
        return
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield cells, reader.line_num
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: malformed CSV ({error}).") from None


def _spreadsheet(file: Path) -> Records:
    try:
        sheets = pd.read_excel(file, sheet_name=None, header=None, dtype=str, na_filter=False)
    except ImportError as error:
        raise InputError(
            f"{file}: reading spreadsheets needs another package ({error}). Install it, or save the sheet as CSV."
        ) from None
    except Exception as error:  # zip, XML and format errors of the packages behind pandas
        raise InputError(f"{file}: not a spreadsheet that can be read ({error}).") from error
    full = [sheet for sheet in sheets.values() if sheet.size]
    if len(full) != 1:
        raise InputError(f"{file}: {len(full)} sheets with content; expected one. Save one of them as CSV.")
    rows = ([str(cell).strip() for cell in row] for row in full[0].to_numpy())
    return [(cells, line) for line, cells in enumerate(rows, 1) if any(cells)]


def _json_lines(file: Path) -> Records:
    """Return the keys as a header, and the values as text; lists and objects stay JSON."""
    lines = [(line, number) for number, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]
    expected = "a JSON object on each line"
    entries = [parse_json(line, f"{file}, line {number}", expected) for line, number in lines]
    rows = objects(entries, str(file), expected)
    header = list(dict.fromkeys(key for row in rows for key in row))
    cells = ([_json_cell(row.get(name)) for name in header] for row in rows)
    return [(header, 0), *zip(cells, (number for _, number in lines), strict=True)]


def _json_cell(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else json.dumps(value, ensure_ascii=False)
