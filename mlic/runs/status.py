"""status.json: the state of a run, its error, and the seconds of each phase."""

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from mlic.runs.folder import RunFolder

STATUS_FILE = "status.json"


class RunStatus:
    """A context that keeps status.json true: running, then finished, failed or interrupted.

    The exception goes on its way: the file is for those who look at the folder later.
    """

    def __init__(self, folder: RunFolder, *, write: bool = True) -> None:
        """Bind to a folder; `write=False` for all processes but the first of a distributed run."""
        self.folder, self.write = folder, write
        self.content: dict[str, Any] = {
            "state": "running",
            "error": None,
            "seconds": {},
            "started": _now(),
            "ended": None,
        }

    def __enter__(self) -> Self:
        """Write the state `running`."""
        self._save()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the end state."""
        if error is None:
            self.content["state"] = "finished"
        else:
            # KeyboardInterrupt, SystemExit: ended from outside
            self.content["state"] = "failed" if isinstance(error, Exception) else "interrupted"
            self.content["error"] = {
                "type": type(error).__name__,
                "message": str(error),
                "traceback": "".join(traceback.format_exception(error)),
            }
        self.content["ended"] = _now()
        self._save()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to `seconds[name]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.content["seconds"]
            seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - start, 3)
            self._save()

    def _save(self) -> None:
        if self.write:
            self.folder.write_json(STATUS_FILE, self.content)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
