"""python -m mlic.verify"""

import subprocess
import sys

import pytest
from PIL import Image


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mlic.verify", *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_the_exit_status_tells_clean_from_problems_from_unusable_input(data_set, tmp_path):
    output = tmp_path / "März, =1"  # as Hydra's grammar does not take it
    arguments = [*data_set.arguments(), f"output={output}"]
    clean = run_command(*arguments)
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert clean.stdout.splitlines()[-1] == "no problems"
    files = "problems.csv classes.csv class_pairs.csv verification.json figures index.html .lock"
    assert {path.name for path in output.iterdir()} == set(files.split())
    for name in ("labels", "samples"):
        with Image.open(output / "figures" / f"{name}.png") as image:
            assert image.width > 300
    (data_set.images / "n000.png").write_bytes(b"")
    found = run_command(*arguments)
    assert found.returncode == 1
    assert "bad_image: 1 (cannot be used)\n    n000.png: the file is empty (0 bytes)" in found.stdout
    unusable = run_command(*arguments, "data.split.val=2")
    assert unusable.returncode == 2
    assert "\ndata.split.val=2: expected a share, from 0 to below 1" in unusable.stderr
    assert "Traceback" not in found.stdout + found.stderr + unusable.stderr
