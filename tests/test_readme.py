"""Each command of the README runs, on smaller data where it would take long."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlic.config import compose

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    \.venv/bin/python -m (\S+)(.*)$", README, flags=re.MULTILINE)
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
# what makes a command of the README quick; the command itself stays as it stands
SMALLER = {
    "mlic.train": ["trainer.max_epochs=1", "data.split.val=0.2"],
    "mlic.train -m": ["trainer.max_epochs=1", "data.num_images=150", "data.split.on_missing=warn"],
    "mlic.tune": ["trainer.max_epochs=2", "data.split.val=0.2", "tune.heads=4"],
}
SMALLER_SEARCH = ["trainer.max_epochs=1", "data.split.val=0.2", "hydra.sweeper.n_trials=2"]


def smaller(module: str, arguments: list[str]) -> list[str]:
    if "hydra/sweeper=search" in arguments:
        return SMALLER_SEARCH
    return SMALLER.get(f"{module} -m" if "-m" in arguments else module, [])


@pytest.mark.slow
def test_commands_run_one_after_the_other(tmp_path: Path, tiny_csv: tuple[Path, Path]):
    annotations, images = tiny_csv
    (tmp_path / "labels.csv").symlink_to(annotations)
    (tmp_path / "photos").symlink_to(images)
    ran = []
    for module, rest in COMMANDS:
        arguments = shlex.split(rest, comments=True)
        if "experiment=report" in arguments or "--help" in arguments:
            continue  # the hub's weights: see test_report_models.py; --help: see test_packaging.py
        if any(item.startswith("hydra/launcher=") for item in arguments):
            continue  # see sweeps/test_local_launcher.py and slurm/
        command = [sys.executable, "-m", module, *arguments, *smaller(module, arguments)]
        finished = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
        )
        assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
        ran.append(module)
    commands = {"train", "predict", "evaluate", "compare", "extract", "tune", "verify"}
    assert {f"mlic.{name}" for name in commands} <= set(ran)
    assert (tmp_path / "outputs" / "compare" / "index.html").stat().st_size > 100_000
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 61
    assert len(list((tmp_path / "outputs" / "sweeps").glob("lite/*/metrics.json"))) == 3


@pytest.mark.slow
def test_python_examples_run(
    tmp_path: Path,
    tiny_csv: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(tiny_csv[1])
    train_block, use_block = PYTHON_BLOCKS
    exec(train_block, {})
    assert 0.1 < float(capsys.readouterr().out.splitlines()[-1]) <= 1
    (tmp_path / "outputs" / "first").symlink_to(tmp_path / "outputs" / "from_python")
    names: dict[str, Any] = {}
    exec(use_block, names)
    assert len(names["table"]) == 60


def test_options_of_the_table_exist(tmp_path: Path):
    table = README.split("Often needed:")[1].split("`.venv/bin/python -m mlic.train --help`")[0]
    keys = re.findall(r"`((?:data|head|optimizer|trainer)\.[a-z_.]+)", table)
    config = compose(output=tmp_path)
    assert len(keys) >= 10
    for key in keys:
        node = config
        for name in key.split("."):
            assert name in node, key
            node = node[name]


def test_make_targets_of_the_readme_exist():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z]+)", README)) - {"and"}
    assert {"demo", "test", "help", "sweep"} <= named <= targets


def test_pictures_of_the_readme_are_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert len(pictures) >= 2
    assert all((Path(__file__).parent.parent / picture).is_file() for picture in pictures)
