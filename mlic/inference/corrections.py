"""Photographs whose labels a person has corrected, in a folder that `data=csv` reads as it stands."""

import csv
import io
import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mlic.errors import InputError
from mlic.runs.folder import write_atomically
from mlic.runs.lock import locked_folder

CORRECTIONS_FILE = "corrections.csv"
HEADER = "file_name,labels\n"
DIGITS = 8  # of the sha256, so that photographs of the same name stay apart


def read_corrections(folder: Path) -> dict[str, str]:
    """Return the labels of each photograph as a JSON list, by file name; empty if there are none yet.

    Raises:
        InputError: corrections.csv in the folder is another table.
    """
    file = folder / CORRECTIONS_FILE
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output: '{folder}' is not a folder. Choose another one.", key="output")
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else HEADER
    except (IsADirectoryError, UnicodeDecodeError):
        text = ""
    if not text.startswith(HEADER):
        raise InputError(
            f"output: '{file}' was not written by mlic.app. Choose another folder.", key="output"
        )
    return {row[0]: row[-1] for row in csv.reader(io.StringIO(text.removeprefix(HEADER))) if row}


def add_correction(folder: Path, photograph: Path, labels: Sequence[str]) -> str:
    """Copy a photograph to the folder, and write its labels to corrections.csv in place of earlier ones.

    A JSON list keeps names such as "dining table" and "a|b" whole. Names begin with a digest and lists with a bracket,
    so that a spreadsheet takes neither for a formula.

    Args:
        folder: created if it is missing.
        photograph: file of the photograph.
        labels: all labels that it has.

    Returns:
        The name of the copy.

    Raises:
        InputError: another process writes to the folder, or see `read_corrections`.
    """
    name = f"{sha256(photograph.read_bytes()).hexdigest()[:DIGITS]}-{photograph.name}"
    with locked_folder(folder):
        rows = {**read_corrections(folder), name: json.dumps(list(labels), ensure_ascii=False)}
        shutil.copyfile(photograph, folder / name)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows.items())
        write_atomically(folder / CORRECTIONS_FILE, HEADER + text.getvalue())
    return name
