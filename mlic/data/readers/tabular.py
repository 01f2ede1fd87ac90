"""Tables of text: CSV and similar files, JSON lines and spreadsheets, with the line of each row.

Text is parsed by `csv` of the standard library rather than by pandas, which fills rows that are too short with empty
cells and, below a header that is too short, takes the first column for an index. Both lose labels silently.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from mlic.data.readers.common import parse_json, read_text
from mlic.errors import InputError

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars", " ": "blanks"}
SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods")
JSON_LINES = (".jsonl", ".ndjson")
SIGNS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "-1": -1, "-1.0": -1}
RECORDS_TRIED = 200
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
            differ = ", ".join(sorted(set(header) ^ set(columns))[:5])
            raise InputError(f"{file}: its columns differ from those of {files[0]}: {differ}.")
        for name, cells in zip(header, zip(*(cells for cells, _ in records), strict=True), strict=True):
            columns.setdefault(name, []).extend(cells)
        origins += [(number, line) for _, line in records]
        forms[form] = None
    return TextTable(files, columns, origins, "".join(forms))


def _read(file: Path, delimiter: str | None, encoding: str | None) -> tuple[list[str], Records, str]:
    """Return header, rows below it, and the form in words."""
    count, form = None, ""
    if file.suffix.lower() in SPREADSHEETS:
        records, form = _spreadsheet(file), "spreadsheet"
    elif file.suffix.lower() in JSON_LINES:
        records, form = _json_lines(file), "JSON lines"
    else:
        text, form = _decode(file, encoding)
        text = _EXCEL.sub("\n", text)
        if start := _COUNT.match(text):  # as in CelebA, the first line is the number of rows
            count, text = int(start[1]), "\n" * start[0].count("\n") + text[start.end() :]
        if text.lstrip()[:1] in ("{", "[", "<"):
            raise InputError(
                f"{file}: JSON or XML, not a table; see data=coco, data=voc and data=labelstudio."
            )
        delimiter = _delimiter(file, text, delimiter)
        records = list(_records(file, text, delimiter))
        words = "" if delimiter == "," else DELIMITERS.get(delimiter, f"'{delimiter}'")
        form = ", ".join(filter(None, (form, words)))
    header, *rows = records or [([], 0)]
    # pandas' name for a column without one, such as an index or the blank column behind a last comma
    names = [""] * _lacks_first_name(header[0], rows) + header[0]
    names = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
    problems = {
        f"the header is '{''.join(names)}'; expected at least two columns. Set data.reader.delimiter": len(
            names
        )
        < 2,
        "expected the names of the columns, not the first image": any(map(IMAGE_NAME.search, names)),
        "each column needs its own name": len({*names}) < len(names),
        "no rows below the header": not rows,
        f"its first line is {count}, but {len(rows)} rows follow the header": count not in (None, len(rows)),
    }
    for problem in (problem for problem, is_there in problems.items() if is_there):
        raise InputError(f"{file}, line 1: {problem}.")
    for cells, line in rows:
        if len(cells) != len(names):
            raise InputError(
                f"{file}, line {line}: {len(cells)} fields, but the header has {len(names)}. Put fields that contain "
                "the delimiter in double quotes, or set data.reader.delimiter to another one."
            )
    return names, rows, f" ({form})" if form else ""


def _lacks_first_name(header: list[str], records: Records) -> bool:
    """Return True if each row has one cell more than the header, and all cells but the first are 0, 1 or -1."""
    cells = (cells for cells, _ in records)
    return bool(records) and all(len(row) == len(header) + 1 and SIGNS.keys() >= {*row[1:]} for row in cells)


def _decode(file: Path, encoding: str | None) -> tuple[str, str]:
    """Return the text of a file and its encoding, unless that is UTF-8."""
    data = file.read_bytes()
    if encoding is None and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "UTF-16"
    try:
        return data.decode(encoding or "utf-8-sig").removeprefix("\ufeff"), encoding or ""
    except (LookupError, UnicodeError) as error:
        if encoding is None and _is_western(data):
            return data.decode("cp1252"), "Windows-1252"
        raise InputError(
            f"{file}: not {encoding or 'UTF-8'} text ({error}). Save the file as UTF-8, or set its encoding, such as "
            "data.reader.encoding=cp1252 (Western Europe on Windows), cp1250 (Central Europe) or cp1251 (Cyrillic)."
        ) from None


def _is_western(data: bytes) -> bool:
    """Return True if bytes read as Windows-1252 look like German, French and the like.

    Every other code page has letters or signs in the same places. Text is taken for Western European if there are no
    other signs than ASCII, and no word consists mainly of accented letters, as Cyrillic or Greek would.
    """
    text = data.decode("cp1252", errors="replace")
    words = {word for word in _WORD.findall(text) if not word.isascii()}
    return all(character.isascii() or "À" <= character <= "ÿ" for character in {*text}) and all(
        2 * sum(not character.isascii() for character in word) <= len(word) for word in words
    )


def _delimiter(file: Path, text: str, delimiter: str | None) -> str:
    """Return the given delimiter, or the one that divides all lines into equally many cells."""
    if delimiter is not None:
        delimiter = delimiter.replace(r"\t", "\t")
        if len(delimiter) != 1:
            raise InputError("data.reader.delimiter must be one character.", key="data.reader.delimiter")
        return delimiter
    first = text.lstrip().partition("\n")[0]
    in_header = [character for character in ",\t;|" if character in first]
    fitting = [
        character
        for character in DELIMITERS
        if _divides(file, text, character) and not (character == " " and in_header)
    ]
    if len(fitting) > 1:
        options = " or ".join(f"\"data.reader.delimiter='{character}'\"" for character in fitting)
        raise InputError(
            f"{file}: {' and '.join(DELIMITERS[character] for character in fitting)} divide all lines into equally "
            f"many cells. Set the delimiter: {options}.".replace("\t", r"\t")
        )
    # if none fits, the character of the header serves to name the first line that is wrong
    return [*fitting, *in_header, ","][0]


def _divides(file: Path, text: str, delimiter: str) -> bool:
    try:
        (header, _), *records = islice(_records(file, text, delimiter), RECORDS_TRIED)
    except ValueError:  # malformed, or no line at all
        return False
    equal = len(header) > 1 and all(len(cells) == len(header) for cells, _ in records)
    return equal or _lacks_first_name(header, records)


def _records(file: Path, text: str, delimiter: str) -> Iterator[tuple[list[str], int]]:
    """Yield the cells of each row that is not empty, and the line on which it ends."""
    if delimiter == " ":
        lines = ((row.split(), line) for line, row in enumerate(io.StringIO(text, newline=None), 1))
        yield from ((cells, line) for cells, line in lines if cells)
        return
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True, strict=True)
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
        [sheet] = [sheet for sheet in sheets.values() if sheet.size]
    except Exception as error:  # a package is missing; zip, XML and format errors; several sheets
        raise InputError(f"{file}: not a spreadsheet of one sheet that can be read ({error}).") from error
    rows = ([str(cell).strip() for cell in row] for row in sheet.to_numpy())
    return [(cells, line) for line, cells in enumerate(rows, 1) if any(cells)]


def _json_lines(file: Path) -> Records:
    """Return the keys as a header, and the values as text; lists and objects stay JSON."""
    lines = [(line, number) for number, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]
    rows = [(parse_json(line, f"{file}, line {number}"), number) for line, number in lines]
    if wrong := [number for row, number in rows if not isinstance(row, dict)]:
        raise InputError(f"{file}, line {wrong[0]}: expected a JSON object ({{...}}) on each line.")
    header = list(dict.fromkeys(key for row, _ in rows for key in row))
    return [(header, 0), *(([_json_cell(row.get(key)) for key in header], number) for row, number in rows)]


def _json_cell(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else json.dumps(value, ensure_ascii=False)
