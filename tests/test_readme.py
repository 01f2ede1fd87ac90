"""Each command of the README runs, on smaller data where it would take long."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mlic.config import compose

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    \.venv/bin/python -m (\S+)(.*)$", README, flags=re.MULTILINE)
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
# what a command of the README is made smaller by; the last one wins
SMALL = {
    "labels.csv": ["model.backbone.pretrained=false", "trainer.max_epochs=1", "data.split.val=0.2"],
    "experiment=report": None,  # test_report_models.py
    "-m model=": ["data.num_images=150", "trainer.max_epochs=1", "data.split.on_missing=warn"],
}


def run_module(module: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)


def without_comment(text: str) -> str:
    return text.split("  #")[0].strip()


@pytest.mark.slow
@pytest.mark.parametrize(("module", "rest"), COMMANDS, ids=[f"{m}{r}"[:60] for m, r in COMMANDS])
def test_command_runs(module: str, rest: str, tmp_path: Path, tiny_csv: tuple[Path, Path]):
    arguments = shlex.split(without_comment(rest))
    if "experiment=report" in arguments:
        pytest.skip("needs the weights of the hub; tests/test_report_models.py runs it with random ones")
    annotations, images = tiny_csv
    (tmp_path / "labels.csv").symlink_to(annotations)
    (tmp_path / "photos").symlink_to(images)
    for text, smaller in SMALL.items():
        if text in rest:
            arguments += smaller or []
    finished = run_module(module, arguments, tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout or finished.stderr


@pytest.mark.slow
def test_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (block,) = PYTHON_BLOCKS
    exec(block, {})
    assert 0.1 < float(capsys.readouterr().out.splitlines()[-1]) <= 1
    assert (tmp_path / "outputs" / "from_python" / "metrics.json").is_file()


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
