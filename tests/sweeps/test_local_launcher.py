"""Whole sweeps by hydra/launcher=local, with the command of docs/sweeps.md."""

import json
import os
import re
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra.errors import CompactHydraException

from hydra_plugins.mlic_local_launcher import make_environments

PAGE = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")
(COMMAND,) = re.findall(r"-m mlic\.train (-m hydra/launcher=local .*)$", PAGE, flags=re.MULTILINE)


@pytest.fixture
def arguments(tiny_arguments: tuple[str, ...], tmp_path: Path) -> tuple[str, ...]:
    places = (f"features.dir={tmp_path / 'store'}", "features.num_workers=0", "trainer.max_epochs=2")
    kept = [item for item in shlex.split(COMMAND) if not item.startswith("seed=")]
    return (*kept, *tiny_arguments, *places, "hydra.launcher.parallel=2")


def test_places_take_gpus_and_threads_from_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8))
    assert make_environments(None, None) == [
        {"CUDA_VISIBLE_DEVICES": "2", "OMP_NUM_THREADS": "4"},
        {"CUDA_VISIBLE_DEVICES": "5", "OMP_NUM_THREADS": "4"},
    ]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in make_environments(3, None)] == ["2", "5", "2"]
    assert make_environments(1, []) == [{"CUDA_VISIBLE_DEVICES": ""}]
    with pytest.raises(CompactHydraException, match=r"hydra\.launcher\.parallel=0: expected a number"):
        make_environments(0, None)


@pytest.mark.slow
def test_a_failing_job_takes_no_other_along(run_server: Any, arguments: tuple[str, ...], tmp_path: Path):
    jobs = ("head.dropout=0,-1,0.5", "hydra.launcher.gpus=[0,1]")
    assert run_server.run(*arguments, *jobs, folder=tmp_path) == 1
    sweep = tmp_path / "outputs" / "sweeps" / "local"
    table = pd.read_csv(sweep / "jobs.csv", keep_default_na=False)
    assert table["state"].tolist() == ["finished", "failed", "finished"]
    assert table["error"].tolist() == ["", "head.dropout=-1: expected a number in [0, 1).", ""]
    shown = (tmp_path / "command.log").read_text()
    assert re.search(r"#1 : .* head.dropout=-1 .* failed", shown) and "(GPU 1)" in shown
    assert "CompactHydraException" not in shown
    for number, folder in ((0, "head.dropout=0"), (2, "head.dropout=0.5")):
        assert "epoch 2/2" in (sweep / folder / "train.log").read_text()
        assert "epoch 2/2" in (sweep / ".local" / f"{number}.log").read_text()


@pytest.mark.slow
def test_jobs_end_with_a_sweep_that_is_killed(run_server: Any, arguments: tuple[str, ...], tmp_path: Path):
    sweep = run_server.start(*arguments, "seed=0,1", "trainer.max_epochs=100000", folder=tmp_path)
    places = tmp_path / "outputs" / "sweeps" / "local"
    until = time.monotonic() + 120
    while len(list(places.glob("*/epochs.csv"))) < 2:
        assert time.monotonic() < until, (tmp_path / "command.log").read_text()
        time.sleep(0.05)
    os.kill(sweep, signal.SIGKILL)
    assert run_server.wait(sweep) == -signal.SIGKILL
    while {json.loads(file.read_text())["state"] for file in places.glob("*/status.json")} != {"interrupted"}:
        assert time.monotonic() < until
        time.sleep(0.05)
