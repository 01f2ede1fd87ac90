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

from mlic.runs.folder import FORMAT, STATUS_FILE, RunFolder, fold_folders
from mlic.runs.system_errors import key_of, translate

logger = logging.getLogger(__name__)


class RunStatus:
    """A context manager that updates status.json: running, then finished, failed or interrupted.

    Exceptions are recorded and propagated. In a folder with an earlier run, nothing is written before `start`, so that
    a run that fails before leaves the earlier one unchanged.
    """

    def __init__(
        self, folder: RunFolder, *, write: bool = True, seconds: Mapping[str, float] | None = None
    ) -> None:
        """Create the status of a run folder.

        Args:
            folder: the run folder.
            write: write from the beginning; False if the folder has an earlier run, and for all processes except the
                first of a distributed run.
            seconds: seconds of each phase before the run was interrupted.
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
        """Write the state `running`; raises an error if the folder is not writable."""
        self._write()
        return self

    def start(self) -> None:
        """Write from now on, and replace the status of an earlier run."""
        self.write = True
        self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the final state."""
        if error is None:
            self.content["state"] = "finished"
        else:
            self.content["state"] = "interrupted" if _ended_from_outside(error) else "failed"
            self.content["error"] = {
                "type": type(error).__name__,
                "key": key_of(error),
                "message": (translate(error) if isinstance(error, Exception) else None) or str(error),
                "traceback": "".join(traceback.format_exception(error)),
            }
        self.content["ended"] = _now()
        self._save()
        if error is not None and self.write:
            self._show_resuming()

    def _show_resuming(self) -> None:
        path = self.folder.path
        if path in fold_folders(path.parent):  # the whole cross-validation is resumed, not one of its folds
            return
        if self.folder.last_checkpoint.is_file() or fold_folders(path):
            logger.warning(
                "finished epochs are kept: mlic.train with the same settings and resume=auto output='%s' "
                "continues from there",
                path,
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
        """Write the status; a full disk must not hide the error that is being handled."""
        try:
            self._write()
        except OSError as error:
            logger.warning("%s cannot be written: %s", self.folder.path / STATUS_FILE, error)

    def _write(self) -> None:
        if self.write:
            self.folder.write_json(STATUS_FILE, self.content)


def _ended_from_outside(error: BaseException | None) -> bool:
    """Return True for KeyboardInterrupt and SystemExit, and for errors raised while handling one of them."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return True
        error = error.__context__
    return False


def _overrides(folder: RunFolder) -> list[str]:
    """Return the overrides of the command line, from which comparisons name the run; [] for other commands."""
    if not HydraConfig.initialized():
        return []
    hydra = HydraConfig.get()
    own = Path(hydra.runtime.output_dir).resolve() == folder.path.resolve()
    return list(hydra.overrides.task) if own else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
