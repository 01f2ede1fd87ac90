"""Two processes under torchrun, on the CPU, by the command of docs/sweeps.md."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from mlic.evaluation.predictions import Predictions

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_SECONDS = 240
(COMMAND,) = re.findall(
    r"^    \.venv/bin/torchrun (.*)$",
    (REPOSITORY / "docs" / "sweeps.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", *shlex.split(COMMAND))
DATA = ("data=csv", "data.annotations=labels.csv", "data.images=photos")


def torchrun(*settings: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command with further settings, which replace those that it has."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *settings]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        process.terminate()  # torchrun then ends its processes
        process.wait()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@pytest.fixture
def arguments(
    tiny_arguments: tuple[str, ...], tiny_csv: tuple[Path, Path], tmp_path: Path
) -> tuple[str, ...]:
    """What makes the command quick, in a folder with its `labels.csv` and `photos`."""
    for name, place in zip(("labels.csv", "photos"), tiny_csv, strict=True):
        (tmp_path / name).symlink_to(place)
    kept = [
        item
        for item in tiny_arguments
        if not item.startswith(("trainer=", "data.annotations=", "data.images="))
    ]
    places = (f"features.dir={tmp_path / 'store'}", "features.dtype=float32", "features.num_workers=0")
    # 36 images for training in batches of 5, 12 in each other part: nothing is a multiple of two processes' batches
    return (*kept, *places, "data.batch_size=5", "trainer.max_epochs=3", "resume=auto")


def test_two_processes_write_one_run_with_the_metrics_of_one_device(
    arguments: tuple[str, ...], run_server: Any, tmp_path: Path
):
    done = torchrun(*arguments, "trainer.accelerator=cpu", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "outputs" / "large"
    assert {path.name for path in tmp_path.iterdir()} == {"outputs", "store", "labels.csv", "photos"}
    assert list(run.parent.iterdir()) == [run]
    epochs = re.findall(r"epoch (\d)/3 ", (run / "train.log").read_text())
    assert epochs == ["1", "2", "3"] and done.stdout.count("epoch 3/3") == 1
    split = pd.read_csv(run / "split.csv")
    for part in ("val", "test"):
        scored = Predictions.read_parquet(run / "predictions" / f"{part}.parquet").file_names.tolist()
        assert scored == split.loc[split["split"] == part, "file_name"].tolist()
    # one process goes on from the last epoch: it loads the chosen weights and tests them
    alone = tmp_path / "alone"
    shutil.copytree(run, alone)
    (alone / "metrics.json").unlink()
    status = json.loads((alone / "status.json").read_text())
    (alone / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    settings = yaml.safe_load((alone / "config.yaml").read_text())
    settings["trainer"]["devices"] = 1  # only for the comparison: a run is resumed by as many processes
    (alone / "config.yaml").write_text(yaml.safe_dump(settings))
    assert run_server.run(*DATA, *arguments, "trainer=cpu", f"output={alone}", folder=tmp_path) == 0
    assert "epoch" not in (tmp_path / "command.log").read_text().split("features:")[-1].split("test")[0]
    expected = json.loads((run / "metrics.json").read_text())
    for part, metrics in json.loads((alone / "metrics.json").read_text()).items():
        for name, value in metrics.items():
            if isinstance(value, float):
                assert value == pytest.approx(expected[part][name], abs=1e-6), (part, name)


@pytest.mark.long
def test_two_processes_of_a_run_for_one_are_refused_by_both(arguments: tuple[str, ...], tmp_path: Path):
    done = torchrun(*arguments, "trainer=cpu", folder=tmp_path)
    assert done.returncode == 1
    assert "trainer.devices=1 under torchrun: " in done.stderr
    assert not (tmp_path / "outputs" / "large" / "status.json").exists()
