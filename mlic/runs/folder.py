"""The run folder: where each file of a run lies, and how it is written."""

import json
import os
from pathlib import Path
from typing import Any


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

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file; NaN is refused, since it is no JSON."""
        write_atomically(
            self.path / name, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the folder."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))


def write_atomically(path: Path, text: str, *, durable: bool = True, errors: str = "strict") -> None:
    """Write to a temporary name beside `path`, flush, rename.

    Without `durable` only a loss of power can cost the file; waiting for the disk takes as long as some training
    steps. `errors` is that of `str.encode`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8", errors=errors, newline="") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
