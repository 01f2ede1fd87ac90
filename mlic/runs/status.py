"""status.json: the state of a run, its error, and the seconds of each phase."""

import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hydra.core.hydra_config import HydraConfig

from mlic.runs.folder import FORMAT, STATUS_FILE, RunFolder
from mlic.runs.system_errors import translate

logger = logging.getLogger(__name__)


class RunStatus:
    """A context that keeps status.json true: running, then finished, failed or interrupted.

    The exception goes on its way: the file is for those who look at the folder later. In a folder that holds an earlier
    run nothing is written before `start`, so that a run which fails until then leaves the earlier one as it was.
    """

    def __init__(
        self, folder: RunFolder, *, write: bool = True, seconds: Mapping[str, float] | None = None
    ) -> None:
        """Bind to a folder.

        Args:
            folder: of the run.
            write: whether to write from the start; False where the folder holds an earlier run, and for all processes
                but the first of a distributed run.
            seconds: of each phase, spent before the run was interrupted.
        """
        self.folder, self.write = folder, write
        self.content: dict[str, Any] = {
            "format": FORMAT,
            "state": "running",
            "error": None,
            "seconds": dict(seconds or {}),
            "started": _now(),
            "ended": None,
            "overrides": _overrides(folder),
        }

    def __enter__(self) -> Self:
        """Write the state `running`; an error where the folder cannot be written."""
        self._write()
        return self

    def start(self) -> None:
        """Write from now on, in the place of an earlier run's status."""
        self.write = True
        self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the end state."""
        if error is None:
            self.content["state"] = "finished"
        else:
            self.content["state"] = "interrupted" if _ended_from_outside(error) else "failed"
            self.content["error"] = {
                "type": type(error).__name__,
                "message": (translate(error) if isinstance(error, Exception) else None) or str(error),
                "traceback": "".join(traceback.format_exception(error)),
            }
        self.content["ended"] = _now()
        self._save()
        if error is not None and self.write and self.folder.last_checkpoint.is_file():
            logger.warning(
                "the epochs that were finished are kept: mlic.train with the same settings and resume=auto output='%s' "
                "goes on from there",
                self.folder.path,
            )

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
        """Write, but let no full disk hide the error that is on its way."""
        try:
            self._write()
        except OSError as error:
            logger.warning("%s cannot be written: %s", self.folder.path / STATUS_FILE, error)

    def _write(self) -> None:
        if self.write:
            self.folder.write_json(STATUS_FILE, self.content)


def _ended_from_outside(error: BaseException | None) -> bool:
    """KeyboardInterrupt or SystemExit, or what broke while one of them was on its way."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return True
        error = error.__context__
    return False


def _overrides(folder: RunFolder) -> list[str]:
    """Return the overrides of the command line, by which comparisons name the run; [] if another command trains it."""
    if not HydraConfig.initialized():
        return []
    hydra = HydraConfig.get()
    own = Path(hydra.runtime.output_dir).resolve() == folder.path.resolve()
    return list(hydra.overrides.task) if own else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
