"""The run folder: where each file of a run lies, and how it is written."""

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

FORMAT = 1  # version of the folder's layout, in status.json; raise it when older readers would misread a file
STATUS_FILE = "status.json"
STATUS_TEXT = '"seconds": {'  # what status.json of other programs does not have
SETTINGS_FILE, DATASET_FILE, MODEL_FILE, SPLIT_FILE = "config.yaml", "dataset.json", "model.json", "split.csv"
METRICS_FILE, THRESHOLDS_FILE, EPOCHS_FILE = "metrics.json", "thresholds.json", "epochs.csv"
OVERRIDES_FILE = ".hydra/overrides.yaml"  # in folders without a format version
# of a run besides its status; whatever else lies in its folder is left alone. First what a run could go on from
RESULT_FILES = (
    "checkpoints/*.ckpt", SETTINGS_FILE, METRICS_FILE, THRESHOLDS_FILE, EPOCHS_FILE, DATASET_FILE, MODEL_FILE,
    SPLIT_FILE, "predictions/*.parquet", "tensorboard/events.out.tfevents.*",
)  # fmt: skip
# of a search, whose winner is a run in a folder below
TRIALS_FILE = "trials.csv"
WINNER = "winner"
EARLIER = "earlier"  # folder of results that a run could not go on from
# what a command, its shell or its scheduler puts into a folder before the command looks at it
SIDE_FILES = (".*", "*.log", "*.out", "*.err")
NEW = ".new"  # where a result is written before it takes its place


class RunFolder:
    """Paths of a run folder; files are replaced whole, so that a reader never sees half of one."""

    def __init__(self, path: str | Path) -> None:
        """Make the folder if it is not there."""
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
        """Checkpoint of the epoch that was chosen on val."""
        return self.checkpoints / "best.ckpt"

    @property
    def figures(self) -> Path:
        """Folder of the PNG figures."""
        return self.path / "figures"

    def predictions(self, part: str) -> Path:
        """Scores and targets of `val` or `test`."""
        return self.path / "predictions" / f"{part}.parquet"

    def has_results(self) -> bool:
        """Return True where there is more than a status, all that a run leaves which ends in its preparation."""
        return bool(self._find(RESULT_FILES))

    def clear(self) -> None:
        """Remove what an earlier run left; its status stays, since a folder without one is not a run folder."""
        for path in self._find(RESULT_FILES):
            path.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Move what an earlier run left, but for its status, to `earlier/1`, or the next number that is free.

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
        """Remove files that a kill left half written, under their temporary names."""
        for path in self._find((".*.tmp", "*/.*.tmp")):
            path.unlink(missing_ok=True)

    def _find(self, patterns: Sequence[str]) -> list[Path]:
        return [path for pattern in patterns for path in self.path.glob(pattern)]

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file; NaN is refused, since JSON has none."""
        write_atomically(
            self.path / name, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )


def refuse_foreign_folder(
    folder: str | Path, *, mark: str = STATUS_FILE, text: str = STATUS_TEXT, kind: str = "run folder"
) -> None:
    """Refuse to write results into a folder that holds something else.

    Args:
        folder: that results go to; it may be absent or empty. Hidden files and logs do not count.
        mark: file that every earlier result of this kind has.
        text: that this file contains, so that another program's file of the same name is not taken for it.
        kind: of the folder, for the message.

    Raises:
        InputError: it is a file, or a folder that is not empty and does not have the mark.
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
    """Return True if a folder holds results of mlic; by default, if it is a run folder."""
    try:
        return text in (Path(folder) / mark).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def write_atomically(path: Path, text: str, *, durable: bool = True, errors: str = "strict") -> None:
    """Write a text file whole, see `replacing`; `errors` is that of `str.encode`."""
    with replacing(path, durable=durable) as file:
        file.write(text.encode(errors=errors))


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of `path` at the end: a kill or an error leaves the former one.

    Without `durable` only a loss of power can cost the file; waiting for the disk takes as long as some training
    steps.
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
    """A folder to write a result to, whose files take the places of those of the same names in `folder` at the end.

    An error or a signal leaves the former result whole. Hold the folder meanwhile, see `locked_folder`.
    """
    new = folder / NEW
    shutil.rmtree(new, ignore_errors=True)  # a kill left it
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
