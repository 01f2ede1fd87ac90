"""SIGKILL at random moments, and the signals that end a run in order."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

pytestmark = pytest.mark.slow

SETTINGS = (
    ("optimizer=adam",),
    ("head=csra", "scheduler=cosine", "callbacks=weight_average"),
    ("head=attention", "loss=asymmetric", "optimizer=adamw", "callbacks=early_stopping"),
    ("features=augmented", "head=linear", "loss=focal", "optimizer=sgd", "model.backbone.unfreeze=1"),
)
TRIED = SETTINGS if "MLIC_FUZZ_CASES" in os.environ else SETTINGS[1:2]  # the others under make fuzz
KILLS_A_SETTING = 5
EPOCHS = 6
LONGEST_WAIT = 0.1  # seconds: as long as an epoch, or the test at the end
Arguments = Callable[..., list[str]]


def state_of(folder: Path) -> str:
    return json.loads((folder / "status.json").read_text())["state"]


@pytest.fixture
def arguments(tiny_arguments: tuple[str, ...], tmp_path: Path) -> Arguments:
    """Command line of a run in the folder `name`."""

    def make(name: str, *overrides: str) -> list[str]:
        places = [f"features.dir={tmp_path / 'store'}"] if "features=augmented" not in overrides else []
        return [*tiny_arguments, *places, *overrides, f"output={tmp_path / name}", "resume=auto"]

    return make


def wait_for_epochs(folder: Path, epochs: int) -> None:
    """Until the run has begun, and so many rows of epochs.csv are written."""
    table, end = folder / "epochs.csv", time.monotonic() + 120
    while not (folder / "status.json").is_file() or (
        epochs and (not table.is_file() or len(table.read_text().splitlines()) <= epochs)
    ):
        assert time.monotonic() < end, folder
        time.sleep(0.002)


@pytest.mark.parametrize("settings", TRIED)
def test_runs_killed_at_random_moments_end_the_same(
    settings: tuple[str, ...],
    run_server: Any,
    arguments: Arguments,
    fingerprint: Callable[[Path], dict[str, str]],
    tmp_path: Path,
):
    overrides = (*settings, f"trainer.max_epochs={EPOCHS}")
    assert run_server.run(*arguments("whole", *overrides), folder=tmp_path) == 0
    expected = fingerprint(tmp_path / "whole")
    drawn, killed, with_checkpoint = random.Random(len(settings)), 0, 0
    for epochs in drawn.sample(range(EPOCHS + 1), KILLS_A_SETTING):
        folder = tmp_path / f"killed{epochs}"
        process = run_server.start(*arguments(folder.name, *overrides), folder=tmp_path)
        wait_for_epochs(folder, epochs)
        time.sleep(drawn.uniform(0, LONGEST_WAIT))
        os.kill(process, signal.SIGKILL)
        status = run_server.wait(process)
        assert status in (-signal.SIGKILL, 0)  # a run that was in its test may be faster
        killed += status != 0
        with_checkpoint += status != 0 and (folder / "checkpoints" / "last.ckpt").is_file()
        assert run_server.run(*arguments(folder.name, *overrides), folder=tmp_path) == 0
        assert fingerprint(folder) == expected, (folder / "train.log").read_text()
        assert not list(folder.rglob("*.tmp"))
    print(f"{settings}: {killed} killed, {with_checkpoint} with a checkpoint, all equal: {expected}")
    assert killed >= KILLS_A_SETTING - 2 and with_checkpoint >= KILLS_A_SETTING - 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_in_order(
    number: signal.Signals, code: int, run_server: Any, arguments: Arguments, tmp_path: Path
):
    command = arguments("run", "trainer.max_epochs=10000")
    process = run_server.start(*command, folder=tmp_path)
    wait_for_epochs(tmp_path / "run", 3)
    os.kill(process, number)
    assert run_server.wait(process) == code
    assert state_of(tmp_path / "run") == "interrupted"
    rows = len(pd.read_csv(tmp_path / "run" / "epochs.csv"))
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert rows - 1 <= checkpoint["epoch"] + 1 <= rows
    assert "resume=auto" in (tmp_path / "run" / "train.log").read_text()
