"""The rows of predictions.csv, and the names of the files that mlic.predict writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlic.errors import InputError
from mlic.escaping import escape_table
from mlic.evaluation.guarantees import decide
from mlic.evaluation.predictions import SCORE

if TYPE_CHECKING:  # it imports torch
    from mlic.inference.classifier import ScoredBatch

SEPARATOR = "|"
DIGITS = "%.4f"
FILE_NAME, LABELS, ERROR, ASK, ANSWER = "file_name", "labels", "error", "ask", "answer:"
RANK = "rank"
PREDICTIONS_FILE, PAGE_FILE = "predictions.csv", "index.html"
HEADER = f"{FILE_NAME},{LABELS},{ERROR},".encode()  # followed by scores


def prediction_rows(
    batch: "ScoredBatch",
    classes: Sequence[str],
    upper: np.ndarray,
    lower: np.ndarray | None = None,
    *,
    top_k: int | None = None,
) -> pd.DataFrame:
    """Return one row per image; see `Classifier.predict` for the columns.

    Args:
        batch: scores of the images.
        classes: C names.
        upper: thresholds (C,); labels with a score above are predicted.
        lower: thresholds (C,) up to which a label is absent. Labels with a score in between are listed in the column
            `ask`, and `answer:<class>` is yes, no or ask.
        top_k: return this many classes, best first, instead of the scores of all classes.

    Raises:
        InputError: `top_k` is below 1.
    """
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k={top_k}: expected at least 1, or null for the scores of all.", key="top_k")
    scores, names = batch.scores, np.array(classes, dtype=object)
    # a stable sort keeps equal scores in the order of the classes
    ranking = np.argsort(-scores, axis=1, kind="stable")
    answers = decide(scores.astype(np.float64), upper, upper if lower is None else lower)

    def joined(answer: str) -> list[str]:
        pairs = zip(answers == answer, ranking, strict=True)
        return [SEPARATOR.join(names[order][row[order]]) for row, order in pairs]

    # an object column keeps names that are not UTF-8
    columns: dict[str, Any] = {FILE_NAME: pd.Series(list(batch.names), dtype=object)}
    columns |= {LABELS: joined("yes"), ERROR: batch.errors}
    if lower is not None:
        columns |= {ASK: joined("ask"), **{ANSWER + name: answers[:, c] for c, name in enumerate(classes)}}
    if top_k is None:
        return pd.DataFrame(columns | {SCORE + name: scores[:, c] for c, name in enumerate(classes)})
    usable = np.array([not error for error in batch.errors])
    for place, best in enumerate(ranking.T[:top_k], 1):
        columns[f"class_{place}"] = np.where(usable, names[best], "")
        columns[f"score_{place}"] = scores[np.arange(len(scores)), best]
    return pd.DataFrame(columns)


def append_rows(file: IO[bytes], table: pd.DataFrame) -> None:
    """Write rows to a CSV file, escaped by `escape_table`, scores with four digits, and flush it."""
    text = escape_table(table).to_csv(header=file.tell() == 0, index=False, float_format=DIGITS)
    file.write(text.encode(errors="surrogateescape"))
    file.flush()


def output_files(output: str | Path) -> tuple[Path, Path]:
    """Return the CSV file and the first page of an output, after a check that mlic.predict may replace the former.

    A folder, or a name without an extension, means predictions.csv and index.html in it. The page of another CSV file
    is beside it, and has its name.

    Raises:
        InputError: the CSV file is not a regular file, or was not written by `mlic.predict`.
    """
    path = Path(output)
    table = path / PREDICTIONS_FILE if path.is_dir() or not path.suffix else path
    page = PAGE_FILE if table.name == PREDICTIONS_FILE else f"{table.stem}.html"
    if table.exists():
        start = table.open("rb").read(len(HEADER)) if table.is_file() else None  # reading a device may block
        if start not in (HEADER, b""):
            raise InputError(
                f"output: '{table}' was not written by mlic.predict and would be lost. Choose another name.",
                key="output",
            )
    return table, table.with_name(page)
