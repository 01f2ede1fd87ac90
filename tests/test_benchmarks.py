"""The benchmarks run, on a tiny network; nothing is timed here."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.long
@pytest.mark.slow
def test_every_benchmark_gives_finite_figures(tiny_csv: tuple[Path, Path], tmp_path: Path):
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--data", tiny_csv[0].parent, "--out", out]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert {row["benchmark"] for row in result["rows"]} == set(BENCHMARKS)
    assert all(math.isfinite(row["measured"]) for row in result["rows"])
    assert all((row["passed"] is None) == (row["target"] is None) for row in result["rows"])
    assert result["machine"]["cores"] >= 1 and len(result["machine"]["load_before"]) == 3
    assert all(row["name"] in done.stdout for row in result["rows"])
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_data_and_benchmarks_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--data", str(tmp_path)]) == 2
    assert f"no labels.csv in '{tmp_path}'" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "invalid choice: 'speed'" in capsys.readouterr().err
