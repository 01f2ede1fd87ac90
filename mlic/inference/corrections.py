"""Photographs whose labels a person has corrected, in a folder that `data=csv` reads as it stands."""

import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pandas as pd

from mlic.errors import InputError
from mlic.escaping import escape_table
from mlic.runs.folder import write_atomically
from mlic.runs.lock import locked_folder

CORRECTIONS_FILE, COLUMNS = "corrections.csv", ["file_name", "labels"]
DIGITS = 8  # of the sha256, so that photographs of the same name stay apart


def read_corrections(folder: Path) -> dict[str, str]:
    """Return the labels of each photograph as a JSON list, by file name; empty if there are none yet.

    Raises:
        InputError: the folder is a file, or corrections.csv in it is another table.
    """
    file = folder / CORRECTIONS_FILE
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):  # not a table
        table = pd.DataFrame()
    if list(table.columns) != COLUMNS:
        raise InputError(f"output: '{folder}' is not a folder of mlic.app. Choose another.", key="output")
    return dict(table.to_numpy().tolist())


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
        text = escape_table(pd.DataFrame(rows.items(), columns=COLUMNS)).to_csv(index=False)
        write_atomically(folder / CORRECTIONS_FILE, text)
    return name
