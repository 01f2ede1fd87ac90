"""What needs no network does not wait for torch."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "torchvision", "timm", "lightning"}
LIST = "from mlic.cli import main; main(['--help'])"
HELP = "from mlic.command_help import help_text; print(help_text('train', ['--help']))"
COMPARE = "import mlic.compare, mlic.report.report"
VERIFY = """
from mlic.config import compose
from mlic.verify import verify
data = ("data=csv", f"data.annotations={folder}/labels.csv", f"data.images={folder}/images")
verify(compose(*data, output=output, config_name="verify"))
"""
PREDICT = """
from mlic import Classifier
print(Classifier.load(run, device="cpu").predict(f"{folder}/images", num_workers=0).shape)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "absent"),
    [
        (LIST, {"torch", "hydra"}), (HELP, {*HEAVY, "pandas"}), (VERIFY, HEAVY), (COMPARE, HEAVY),
        (PREDICT, {"lightning", "torchmetrics", "sklearn", "hydra", "matplotlib", "scipy.sparse"}),
    ],
    ids=["list", "help", "verify", "compare", "predict"],
)  # fmt: skip
def test_commands_import_what_they_need(
    program: str, absent: set[str], tiny_run: Path, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    start = "import sys\nfolder, output, run = sys.argv[1:]\n"
    end = f"\nprint({absent} & set(sys.modules))"
    command = [sys.executable, "-c", start + program + end, tiny_csv[0].parent, tmp_path, tiny_run]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr
