"""The Makefile: its help is complete, it installs once, parameters arrive, and `clean` keeps results."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make as from a fresh shell, also when the tests themselves were started by make."""
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS", "LONG", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile and its inputs, which takes itself for installed."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/pip").touch(mode=0o755)
    (tmp_path / ".venv/.ready").touch()
    return tmp_path


def test_help_is_the_default_and_lists_every_target(project: Path) -> None:
    shown = make(project)
    assert shown.returncode == 0, shown.stderr
    assert re.findall(r"^  ([a-z]+) +\S", shown.stdout, re.MULTILINE) == TARGETS
    wanted = "demo test lint format types bench sweep compare tensorboard notebooks clean"
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(wanted.split()) < set(TARGETS) and phony and phony[1].split() == TARGETS


def test_parameters_reach_the_command_and_nothing_is_installed_again(project: Path) -> None:
    targets = ("demo", "sweep", "compare", "bench", "tensorboard", "test")
    shown = make(project, "--dry-run", *targets, "ARGS=key=value").stdout
    for command in (
        "mlic.train",
        "compare=true",
        "mlic.compare",
        "benchmarks",
        "--logdir outputs",
        'not long"',
    ):
        assert f"{command} key=value" in shown
    assert "-m venv" not in shown and "pip install" not in shown
    assert 'and not gpu" key=value' in make(project, "--dry-run", "test", "LONG=1", "ARGS=key=value").stdout


def test_clean_keeps_results_and_environment(project: Path) -> None:
    kept, cache = project / "outputs/runs/first/__pycache__/metrics.json", project / "mlic/__pycache__"
    for folder in (kept.parent, cache):
        folder.mkdir(parents=True)
    kept.touch()
    assert make(project, "clean").returncode == 0
    assert kept.exists() and (project / ".venv/.ready").exists() and not cache.exists()
