"""What the hostile tests share: a time limit, so that a hang is a failure, and a trap for code that must not run."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60


@pytest.fixture(autouse=True)
def time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that takes a minute hangs; `@pytest.mark.slow` ones have five."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"{request.node.name} hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS * (5 if request.node.get_closest_marker("slow") else 1))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class RunsCode:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[RunsCode]:
    """An object whose unpickling runs code; the test fails if it did."""
    trap = RunsCode(tmp_path / "code ran")
    yield trap
    assert not trap.folder.exists()


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A finished run, which may be changed."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))
