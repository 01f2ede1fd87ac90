"""The run folder: where each file of a run lies, and how it is written."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mlic.errors import InputError

STATUS_FILE = "status.json"
STATUS_TEXT = '"seconds": {'  # what status.json of other programs does not have
# of a run; whatever else lies in its folder is left alone
RESULT_FILES = (
    "status.json", "config.yaml", "metrics.json", "thresholds.json", "epochs.csv", "dataset.json", "model.json",
    "split.csv", "checkpoints/*.ckpt", "predictions/*.parquet", "tensorboard/events.out.tfevents.*",
)  # fmt: skip
# of a search, whose winner is a run in a folder below
TRIALS_FILE = "trials.csv"
WINNER = "winner"
# what a command, its shell or its scheduler puts into a folder before the command looks at it
SIDE_FILES = (".*", "*.log", "*.out", "*.err")


class RunFolder:
    """Paths of DESIGN's run folder; files are replaced whole, so that a reader never sees half of one."""

    def __init__(self, path: str | Path) -> None:
        """Make the folder if it is not there."""
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoints(self) -> Path:
        """Folder of best.ckpt and last.ckpt."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """Folder of the PNG figures."""
        return self.path / "figures"

    def predictions(self, part: str) -> Path:
        """Scores and targets of `val` or `test`."""
        return self.path / "predictions" / f"{part}.parquet"

    def clear(self) -> None:
        """Take away what an earlier run left, its state first: a folder without one is no run."""
        self._remove(RESULT_FILES)

    def remove_unfinished(self) -> None:
        """Take away files that a kill left half written, under their temporary names."""
        self._remove((".*.tmp", "*/.*.tmp"))

    def _remove(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file; NaN is refused, since it is no JSON."""
        write_atomically(
            self.path / name, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the folder."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))


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
        InputError: the folder is not empty and does not have the mark.
    """
    folder = Path(folder)
    if not folder.is_dir() or has_mark(folder, mark=mark, text=text):
        return
    names = sorted(path.name for path in folder.iterdir() if not any(map(path.match, SIDE_FILES)))
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(
            f"output: '{folder}' is not a {kind} and not empty ({shown}). Choose another output."
        )


def has_mark(folder: str | Path, *, mark: str = STATUS_FILE, text: str = STATUS_TEXT) -> bool:
    """Whether a folder holds results of ours: by default, whether it is a run folder."""
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
