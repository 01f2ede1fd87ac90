"""What needs no network does not wait for torch."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from mlic.cli import main
main(["--help"])
print("list:", {"torch", "hydra"} & set(sys.modules))
from mlic.command_help import help_text
print(help_text("train", ["--help"]))
print("help:", {"torch", "lightning", "timm", "pandas"} & set(sys.modules))
from mlic.config import compose
from mlic.verify import verify
verify(compose(*sys.argv[2:], output=sys.argv[1], config_name="verify"))
print("verify:", {"torch", "lightning", "timm"} & set(sys.modules))
import mlic.compare, mlic.report.report
print("compare:", {"torch", "lightning", "timm", "torchvision"} & set(sys.modules))
"""


@pytest.mark.slow
def test_predicting_does_not_import_lightning(tiny_run: Path, tiny_csv: tuple[Path, Path]):
    program = """
import sys
from mlic import Classifier
print(Classifier.load(sys.argv[1], device="cpu").predict(sys.argv[2], num_workers=0).shape)
print({"lightning", "sklearn", "hydra", "matplotlib", "scipy.sparse"} & set(sys.modules))
"""
    command = [sys.executable, "-c", program, str(tiny_run), str(tiny_csv[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr


@pytest.mark.slow
def test_the_list_of_commands_and_verify_and_compare_do_not_import_torch(
    tiny_csv: tuple[Path, Path], tmp_path: Path
):
    annotations, images = tiny_csv
    settings = (str(tmp_path), "data=csv", f"data.annotations={annotations}", f"data.images={images}")
    command = [sys.executable, "-c", PROGRAM, *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.endswith("set()")]
    assert lines == ["list: set()", "help: set()", "verify: set()", "compare: set()"]
