"""The console script `mlic`; the installed one is tried in test_packaging.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlic.cli import COMMANDS, main

PACKAGE = Path(__file__).parent.parent / "mlic"


def entry_points() -> set[str]:
    """The modules that `python -m` runs."""
    files = [*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__main__.py")]
    found = [path for path in files if '\nif __name__ == "__main__"' in path.read_text()]
    return {path.parent.name if path.stem == "__main__" else path.stem for path in found} - {"cli"}


def python(*arguments: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_each_command_is_listed(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert main(["-h"]) == 0
    assert capsys.readouterr().out == shown
    assert set(COMMANDS) == entry_points()
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["trian", "model=vgg16"]) == 2
    assert "must be one of verify, extract, train" in capsys.readouterr().err


def test_a_command_ends_as_its_module_does(tmp_path: Path):
    arguments = ("verify", "data=csv", "+bogus=1")
    status, shown = python("-m", "mlic.verify", *arguments[1:], folder=tmp_path)
    assert status == 2 and shown.startswith("mlic verify: loading")
    assert python("-m", "mlic.cli", *arguments, folder=tmp_path) == (status, shown)
