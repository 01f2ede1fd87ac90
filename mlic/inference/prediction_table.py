"""The rows of predictions.csv, and atomic writing of the file."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pandas as pd

from mlic.errors import InputError
from mlic.escaping import escape_table
from mlic.evaluation.guarantees import decide
from mlic.evaluation.predictions import SCORE
from mlic.runs.folder import replacing

SEPARATOR = "|"
DIGITS = "%.4f"
FILE_NAME, LABELS, ERROR, ASK, ANSWER = "file_name", "labels", "error", "ask", "answer:"
PREDICTIONS_FILE, PAGE_FILE = "predictions.csv", "index.html"
HEADER = f"{FILE_NAME},{LABELS},{ERROR},".encode()  # followed by scores


class Scored(Protocol):
    """Interface of scored images."""

    @property
    def scores(self) -> np.ndarray:
        """Scores float32 (B, C); NaN for images that cannot be used."""
        ...

    @property
    def errors(self) -> list[str]:
        """Reasons why images cannot be used; empty strings for others."""
        ...


def prediction_rows(
    names: Sequence[str],
    batch: Scored,
    classes: Sequence[str],
    thresholds: np.ndarray,
    top_k: int | None = None,
    lower: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return one row per image; see `Classifier.predict` for the columns.

    Args:
        names: names of B images.
        batch: scores of the images.
        classes: C names.
        thresholds: thresholds (C,); labels with a score above are predicted.
        lower: thresholds (C,) up to which a label is absent. Labels with a score in between are listed in the column
            `ask`, and `answer:<class>` is yes, no or ask.
        top_k: return this many classes, best first, instead of the scores of all classes.

    Raises:
        InputError: `top_k` is below 1.
    """
    if top_k is not None and top_k < 1:
        raise InputError(
            f"top_k={top_k}: expected a number of classes of at least 1, or null for the scores of all."
        )
    scores, usable = batch.scores, np.array([not error for error in batch.errors])
    # a stable sort keeps equal scores in the order of the classes
    ranking = np.argsort(-scores, axis=1, kind="stable")
    exact = scores.astype(np.float64)
    chosen = exact > thresholds

    def joined(flags: np.ndarray) -> list[str]:
        pairs = zip(flags, ranking, strict=True)
        return [SEPARATOR.join(str(classes[place]) for place in order if row[place]) for row, order in pairs]

    columns: dict[str, Any] = {
        # an object column keeps names that are not UTF-8
        FILE_NAME: pd.Series(list(names), dtype=object),
        LABELS: joined(chosen),
        ERROR: batch.errors,
    }
    if lower is not None:
        answers = decide(exact, thresholds, lower)
        columns[ASK] = joined(answers == "ask")
        columns |= {ANSWER + name: answers[:, column] for column, name in enumerate(classes)}
    if top_k is None:
        columns |= {SCORE + name: scores[:, column] for column, name in enumerate(classes)}
    else:
        all_names = np.array(list(classes), dtype=object)
        for place in range(min(top_k, len(classes))):
            best = ranking[:, place]
            columns[f"class_{place + 1}"] = np.where(usable, all_names[best], "")
            columns[f"score_{place + 1}"] = scores[np.arange(len(scores)), best]
    return pd.DataFrame(columns)


class PredictionFile:
    """Appends tables to a CSV file."""

    def __init__(self, file: IO[bytes]) -> None:
        """Write to a new or empty file."""
        self._file = file
        self._has_header = False

    def append(self, table: pd.DataFrame) -> None:
        """Write rows, escaped by `escape_table`, scores with four digits, and flush the file."""
        text = escape_table(table).to_csv(header=not self._has_header, index=False, float_format=DIGITS)
        self._file.write(text.encode(errors="surrogateescape"))
        self._file.flush()
        self._has_header = True


def refuse_other_file(path: Path) -> None:
    """Check that a file to replace is a table of predictions.

    Raises:
        InputError: the path is not a regular file, or a file that `mlic.predict` did not write.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise InputError(f"output: '{path}' is not a regular file. Expected the name of a CSV file.")
    with path.open("rb") as file:
        start = file.read(len(HEADER))
    if start not in (HEADER, b""):
        raise InputError(
            f"output: '{path}' was not written by mlic.predict and would be lost. Choose another name."
        )


@contextmanager
def open_predictions(path: Path) -> Iterator[PredictionFile]:
    """Open a temporary file that is renamed to `path` on success and removed on error.

    Raises:
        InputError: the folder is not writable.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(replacing(path))
        except OSError as error:
            raise InputError(f"output: '{path}' cannot be written ({error.strerror}).") from error
        yield PredictionFile(file)


def output_files(output: str | Path) -> tuple[Path, Path]:
    """Return the CSV file and the first page of an output.

    A folder, or a name without an extension, means predictions.csv and index.html in it. The page of another CSV file
    is beside it, and has its name.
    """
    path = Path(output)
    table = path / PREDICTIONS_FILE if path.is_dir() or not path.suffix else path
    page = PAGE_FILE if table.name == PREDICTIONS_FILE else f"{table.stem}.html"
    return table, table.with_name(page)
