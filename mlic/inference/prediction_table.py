"""The rows of predictions.csv, and atomic writing of the file."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pandas as pd

from mlic.errors import InputError
from mlic.escaping import escape_table
from mlic.evaluation.predictions import SCORE
from mlic.runs.folder import replacing

SEPARATOR = "|"
FILE_NAME, LABELS, ERROR = "file_name", "labels", "error"
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
) -> pd.DataFrame:
    """Return one row per image; see `Classifier.predict` for the columns.

    Args:
        names: names of B images.
        batch: scores of the images.
        classes: C names.
        thresholds: thresholds (C,).
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
    labels = [
        SEPARATOR.join(str(classes[column]) for column in order if row[column] > thresholds[column])
        for row, order in zip(scores.astype(np.float64), ranking, strict=True)
    ]
    columns: dict[str, Any] = {
        # an object column keeps names that are not UTF-8
        FILE_NAME: pd.Series(list(names), dtype=object),
        LABELS: labels,
        ERROR: batch.errors,
    }
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
        """Write rows, escaped by `escape_table`, and flush the file."""
        text = escape_table(table).to_csv(header=not self._has_header, index=False)
        self._file.write(text.encode(errors="surrogateescape"))
        self._file.flush()
        self._has_header = True


def refuse_other_file(path: Path) -> None:
    """Check that a file to replace is a table of predictions.

    Raises:
        InputError: the path is a folder, a device, or a file that `mlic.predict` did not write.
    """
    if path.is_dir():
        raise InputError(f"output: '{path}' is a folder. Expected the name of a CSV file.")
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
