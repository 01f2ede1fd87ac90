"""The table of jobs and the report at the end of a sweep."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from mlic.config import compose
from mlic.runs.folder import RunFolder
from mlic.sweeps import summary

FIXED = [f"data.annotations=/a/long/way/to/{'x' * 60}/labels.csv", "+trainer.gradient_clip_val=0.9"]
IGNORED = ["sweep", "data.annotations", "trainer.gradient_clip_val"]


@pytest.fixture
def ended(tmp_path: Path) -> Callable[..., DictConfig]:
    """A function (overrides) -> config of a sweep over three seeds without val; one is finished, one interrupted."""
    task = [*FIXED, "sweep=a", "seed=0,1,2"]
    record = {"hydra": {"sweeper": {"_target_": "hydra.BasicSweeper"}, "overrides": {"task": task}}}
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump(record))
    run = RunFolder(tmp_path / "seed=0")
    status = {"state": "finished", "seconds": {"fit": 1.5}, "overrides": [*FIXED, "sweep=a", "seed=0"]}
    run.write_json("status.json", status)
    status |= {
        "state": "interrupted",
        "error": {"message": "143"},
        "overrides": [*FIXED, "sweep=a", "seed=2"],
    }
    RunFolder(tmp_path / "seed=2").write_json("status.json", status)
    run.write_json("metrics.json", {"test": {"map": 0.5}})

    def make(*overrides: str) -> DictConfig:
        config = compose(*overrides, output=tmp_path / "x")
        names: dict[str, Any] = {"job": {"config": {"override_dirname": {"exclude_keys": IGNORED}}}}
        with open_dict(config):
            config.hydra = OmegaConf.create({"sweep": {"dir": str(tmp_path)}, **names})
        return config

    return make


def test_the_table_shows_what_the_sweep_varies(
    ended: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    summary._summarize(ended(), None)
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines() if line.strip().startswith("seed=")]
    assert lines == [
        ["seed=0", "finished", "0.5000", "1.5000"],  # no run has a val part or leave-one-out scores
        ["seed=1", "not", "begun", "-", "-"],
        ["seed=2", "interrupted", "-", "1.5000"],
    ]
    assert "None" not in shown and max(map(len, shown.splitlines())) < 120
    first, second, third = (tmp_path / "jobs.csv").read_text().splitlines()[1:]
    assert first == "seed=0,finished,,,0.5,1.5,seed=0," and second.startswith("seed=1,not begun,,,,,,")
    assert third == "seed=2,interrupted,,,,1.5,seed=2,"


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (["experiment=report", "compare=true"], {"reference": "report"}),
        (["experiment=report", "compare={level: 0.9}"], {"reference": "report", "level": 0.9}),
        (["compare=true", "compare_options={level: 0.9}"], {"level": 0.9}),
        ([], None),
    ],
)
def test_compare_on_the_command_line_keeps_the_options_of_the_experiment(
    overrides: list[str],
    options: dict[str, Any] | None,
    ended: Callable[..., DictConfig],
    monkeypatch: pytest.MonkeyPatch,
):
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(summary.FolderNames, "sweep", ended(*overrides))
    with summary.summarized(lambda sweep, own: str(asked.append(dict(own)))):
        pass
    assert asked == ([] if options is None else [options])
