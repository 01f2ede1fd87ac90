"""The layout of run folders, and atomic writing of files."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

from mlic.errors import InputError
from mlic.runs.signals import delayed_signals

FORMAT = 1  # version of the layout, stored in status.json; increase it if older readers would misread a file
STATUS_FILE = "status.json"
STATUS_TEXT = '"seconds": {'  # does not occur in a status.json of other programs
SETTINGS_FILE, DATASET_FILE, MODEL_FILE, SPLIT_FILE = "config.yaml", "dataset.json", "model.json", "split.csv"
METRICS_FILE, THRESHOLDS_FILE, EPOCHS_FILE = "metrics.json", "thresholds.json", "epochs.csv"
# of a head in closed form, in place of epochs: of ridge, and of nearest neighbours
PENALTIES_FILE, NEIGHBOURS_FILE = "penalties.csv", "neighbours.csv"
EVALUATION_FILE, EVALUATED_FILE = "evaluation.json", "predictions.parquet"  # of mlic.evaluate
GUARANTEES_FILE = "guarantees.json"
# of a run besides its status; whatever else lies in its folder is left alone. First what a run could go on from
RESULT_FILES = (
    "checkpoints/*.ckpt", SETTINGS_FILE, METRICS_FILE, THRESHOLDS_FILE, EPOCHS_FILE, PENALTIES_FILE,
    NEIGHBOURS_FILE, GUARANTEES_FILE, DATASET_FILE, MODEL_FILE, SPLIT_FILE,
    "predictions/*.parquet", "events.out.tfevents.*",
    "tensorboard/events.out.tfevents.*",  # of runs of earlier versions
)  # fmt: skip
# of a search, whose winner is a run in a folder below
TRIALS_FILE = "trials.csv"
WINNER = "winner"
FOLD = "fold_"  # of a cross-validation, with a number: folders of the runs of its folds
EARLIER = "earlier"  # folder of results from which a run could not be resumed
# files that a command, its shell or its scheduler may create in the folder before the command checks it
SIDE_FILES = (".*", "*.log", "*.out", "*.err")
NEW = ".new"  # temporary folder of a result


class RunFolder:
    """Paths of a run folder. Files are replaced atomically, so that readers never see partial files."""

    def __init__(self, path: str | Path) -> None:
        """Create the folder if it is missing."""
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoints(self) -> Path:
        """Folder of best.ckpt and last.ckpt."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """Checkpoint of the last finished epoch."""
        return self.checkpoints / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """Checkpoint of the epoch selected on val."""
        return self.checkpoints / "best.ckpt"

    def predictions(self, part: str) -> Path:
        """Return the path of the scores and targets of `val`, `test` or `loo`."""
        return self.path / "predictions" / f"{part}.parquet"

    def has_results(self) -> bool:
        """Return True if there is more than a status, which is all that a run leaves if its preparation fails."""
        return bool(self._find(RESULT_FILES))

    def clear(self) -> None:
        """Remove the files of an earlier run except its status, without which it would not be a run folder."""
        for path in self._find(RESULT_FILES):
            path.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Move the files of an earlier run except its status to `earlier/1`, or the next free number.

        Returns:
            The new folder.
        """
        places = (self.path / EARLIER / str(number) for number in count(1))
        place = next(place for place in places if not place.exists())
        for path in self._find(RESULT_FILES):
            target = place / path.relative_to(self.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        return place

    def remove_unfinished(self) -> None:
        """Remove temporary files of a killed process."""
        for path in self._find((".*.tmp", "*/.*.tmp")):
            path.unlink(missing_ok=True)

    def _find(self, patterns: Sequence[str]) -> list[Path]:
        return [path for pattern in patterns for path in self.path.glob(pattern)]

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file; NaN is refused, because JSON does not support it."""
        write_atomically(
            self.path / name, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )


def refuse_foreign_folder(
    folder: str | Path, *, mark: str = STATUS_FILE, text: str = STATUS_TEXT, kind: str = "run folder"
) -> None:
    """Check that a folder for results is new, empty, or has earlier results of the same kind.

    Args:
        folder: folder for results. Hidden files and logs in it are ignored.
        mark: file that all earlier results of this kind have.
        text: text in this file that distinguishes it from files of other programs with the same name.
        kind: kind of the folder, for the message.

    Raises:
        InputError: the path is a file, or a folder that is not empty and does not have the mark.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output: '{folder}' is a file. Expected the name of a folder.")
    if not folder.is_dir() or has_mark(folder, mark=mark, text=text):
        return
    names = sorted(path.name for path in folder.iterdir() if not any(map(path.match, SIDE_FILES)))
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(
            f"output: '{folder}' is not a {kind} and not empty ({shown}). Choose another output."
        )


def has_mark(folder: str | Path, *, mark: str = STATUS_FILE, text: str = STATUS_TEXT) -> bool:
    """Return True if a folder contains results of mlic; by default, if it is a run folder."""
    try:
        return text in (Path(folder) / mark).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def fold_folders(folder: str | Path) -> list[Path]:
    """Return the runs of the folds of a cross-validation that have begun; empty for any other folder."""
    folds = sorted(Path(folder).glob(f"{FOLD}*")) if has_mark(folder) else []
    return [fold for fold in folds if has_mark(fold) and (fold / SETTINGS_FILE).is_file()]


def refuse_other_kind(folder: str | Path, kind: str) -> None:
    """Check that a folder has no results of another kind, whose files would be mixed with the new ones.

    Args:
        folder: folder for results.
        kind: `run`, `cross-validation` or `search`.

    Raises:
        InputError: the folder has results of another kind.
    """
    if (Path(folder) / TRIALS_FILE).is_file():
        there = "search"
    elif fold_folders(folder):
        there = "cross-validation"
    else:
        there = "run" if (Path(folder) / SETTINGS_FILE).is_file() else kind
    if there != kind:
        raise InputError(
            f"output: '{folder}' is the folder of a {there}, not of a {kind}. Choose another output."
        )


def write_atomically(path: Path, text: str, *, durable: bool = True, errors: str = "strict") -> None:
    """Write a text file atomically; see `replacing`, and `str.encode` for `errors`."""
    with replacing(path, durable=durable) as file:
        file.write(text.encode(errors=errors))


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` on success; a kill or an error leaves the former file.

    Without `durable`, a power loss can lose the file. Waiting for the disk takes as long as several training steps.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_together(folder: Path) -> Iterator[Path]:
    """Create a temporary folder whose files replace those of the same names in `folder` on success.

    An error or a signal leaves the former result complete. The caller must hold the folder; see `locked_folder`.
    """
    new = folder / NEW
    shutil.rmtree(new, ignore_errors=True)  # left by a killed process
    try:
        new.mkdir(parents=True)
        yield new
        with delayed_signals():
            for path in [path for path in new.rglob("*") if path.is_file()]:
                place = folder / path.relative_to(new)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
    finally:
        shutil.rmtree(new, ignore_errors=True)
