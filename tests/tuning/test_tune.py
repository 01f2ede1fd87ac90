"""A whole search over heads: trials, winner, what it writes, and that it never looks at test rows."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from mlic.config import CONFIG_DIR
from mlic.errors import InputError
from mlic.features.dataset import FeatureDataset
from mlic.runs.folder import RunFolder
from mlic.runs.status import RunStatus
from mlic.train import train

Search = Callable[..., dict[str, dict[str, Any]]]
TrialsOf = Callable[[Path], Any]
AVERAGED = ("scheduler=cosine", "callbacks=weight_average", "callbacks.checkpoint.monitor=null")


@pytest.fixture(scope="module")
def tuned(search: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished search; do not write to it."""
    folder = tmp_path_factory.mktemp("search") / "tuned"
    search(
        folder, "tune.trials=6", "optimizer.lr=0.0002"
    )  # the lowest of the space, so that another trial wins
    return folder


@pytest.fixture
def without_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search alone: neither the winner nor the given config is trained at the end."""
    monkeypatch.setattr("mlic.tuning.run._finish", lambda *arguments: {})


def metrics_of(run: Path) -> dict[str, dict[str, Any]]:
    return json.loads((run / "metrics.json").read_text())


def test_a_search_leaves_trials_and_two_ordinary_runs(tuned: Path, trials_of: TrialsOf):
    trials = trials_of(tuned)
    assert sorted(trials.index) == list(range(6)) and set(trials["state"]) <= {"finished", "pruned"}
    finished = trials[trials["state"] == "finished"]
    assert finished["map"].is_monotonic_decreasing and set(finished["epochs"]) == {3}
    for name in ("history", "importances"):
        assert (tuned / "figures" / f"{name}.png").stat().st_size > 10_000
    assert json.loads((tuned / "status.json").read_text())["state"] == "finished"
    # each trial is what an ordinary run with its settings gives, with dropout too
    for folder, number in (("winner", trials.index[0]), ("defaults", 0)):
        assert metrics_of(tuned / folder)["val"]["map"] == pytest.approx(trials["map"][number], rel=1e-5)
        epochs = pd.read_csv(tuned / folder / "epochs.csv")["val/map"].tolist()
        assert epochs.index(max(epochs)) + 1 == trials["epoch"][number]


def test_the_first_trial_is_the_config_as_it_is(tuned: Path, trials_of: TrialsOf):
    first = trials_of(tuned).loc[0]
    assert (first["head.hidden"], first["loss"], first["optimizer.lr"]) == ("[16]", "weighted_bce", 0.0002)
    assert first["head.dropout"] == 0.2 and np.isnan(first["head.hidden_dropout"])  # outside of the space


def test_the_summary_compares_on_val_and_on_test(tuned: Path):
    winner, given = (metrics_of(tuned / name) for name in ("winner", "defaults"))
    summary = (tuned / "summary.txt").read_text()
    for part in ("val", "test"):
        difference = winner[part]["map"] - given[part]["map"]
        assert f"{difference:+.4f} on {part} ({winner[part]['map']:.4f} and" in summary
    assert summary.count("95 % interval") == 2 and "optimistic, because val chose the best of 6" in summary


def test_tuned_yaml_runs_the_winner_again(tuned: Path, tmp_path: Path):
    options = [f"hydra.searchpath=[file://{tuned}]", "experiment=tuned", "trainer=cpu"]
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = compose("train", overrides=[*options, f"output={tmp_path / 'again'}"])
    assert train(config) == metrics_of(tuned / "winner")


def test_averages_and_schedules_are_those_of_a_run(search: Search, trials_of: TrialsOf, tmp_path: Path):
    results = search(tmp_path / "tuned", "tune.metric=auc_micro", "tune.trials=3", *AVERAGED)
    trials = trials_of(tmp_path / "tuned")
    assert set(trials["epoch"][trials["state"] == "finished"]) == {3}  # the last one
    assert results["val"]["auc_micro"] == pytest.approx(trials["auc_micro"].iloc[0], rel=1e-5)


def test_folds_choose_without_a_val_part(search: Search, trials_of: TrialsOf, tmp_path: Path):
    results = search(tmp_path / "tuned", "tune.folds=3", "data.split.val=0", "optimizer.lr=0.0002")
    assert set(results) == {"train", "test"}
    trials = trials_of(tmp_path / "tuned")
    for folds, value in zip(trials["folds"], trials["map"], strict=True):
        assert np.mean(json.loads(folds)) == pytest.approx(value, rel=1e-4)
    assert len(pd.read_csv(tmp_path / "tuned" / "winner" / "epochs.csv")) == trials["epoch"].iloc[0]
    assert "on the folds" in (tmp_path / "tuned" / "summary.txt").read_text()


@pytest.mark.parametrize("val", ["0", "0.2"])
def test_a_head_in_closed_form_is_scored_without_epochs(
    val: str, search: Search, trials_of: TrialsOf, tmp_path: Path
):
    results = search(tmp_path / "tuned", "head=ridge", f"data.split.val={val}", small=())
    trials, part = trials_of(tmp_path / "tuned"), "loo" if val == "0" else "val"
    assert 2 <= len(trials) <= 6 and "optimizer.lr" not in trials  # no settings are tried twice
    assert results[part]["map"] == pytest.approx(trials["map"].iloc[0], rel=1e-5)


@pytest.mark.usefixtures("without_runs")
@pytest.mark.parametrize("folds", ["null", "2"])
def test_choosing_never_reads_a_test_row(folds: str, search: Search, monkeypatch: Any, tmp_path: Path):
    seen: set[int] = set()
    test: set[int] = set()
    read, prepare = FeatureDataset.__getitems__, sys.modules["mlic.tuning.run"].prepare

    def noted(self: FeatureDataset, indices: list[int]) -> Any:
        seen.update(index % len(self) for index in indices)
        return read(self, indices)

    def prepared(config: Any) -> Any:
        made = prepare(config)
        test.update(made[0].split.test.tolist())
        return made

    monkeypatch.setattr(FeatureDataset, "__getitems__", noted)
    monkeypatch.setattr("mlic.tuning.run.prepare", prepared)
    search(tmp_path / "tuned", f"tune.folds={folds}", "tune.trials=2")
    assert len(test) == 12 and len(seen) == 48 and not test & seen


class OwnHead(nn.Sequential):
    """A head of a user's own package."""

    def __init__(self, feature_shape: Sequence[int], num_classes: int, *, width: int = 4) -> None:
        super().__init__(nn.Linear(feature_shape[0], width), nn.Tanh(), nn.Linear(width, num_classes))


class OwnLoss(nn.Module):
    """A power of the error."""

    def __init__(self, class_weights: np.ndarray, *, power: float = 2.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return ((torch.sigmoid(logits) - targets).abs() ** self.power).mean()


def test_heads_and_losses_of_ones_own_are_searched(search: Search, trials_of: TrialsOf, tmp_path: Path):
    configs = tmp_path / "conf"
    for group, name, option in (("head", "OwnHead", "width: 3"), ("loss", "OwnLoss", "power: 2.0")):
        (configs / group).mkdir(parents=True)
        text = f"_target_: {__name__}.{name}\n_partial_: true\n{option}\n"
        (configs / group / "own.yaml").write_text(text)
    space = ("~tune.space.loss", "~tune.space.optimizer")
    own = ("+tune.space.loss={power: {uniform: [1, 3]}}", "+tune.space.head={width: {integers: [2, 9]}}")
    options = (f"hydra.searchpath=[file://{configs}]", "head=own", "loss=own", "tune.trials=3", *space, *own)
    results = search(tmp_path / "tuned", *options, small=("trainer.max_epochs=2",))
    trials = trials_of(tmp_path / "tuned")
    assert set(trials["state"]) <= {"finished", "pruned"} and trials["head.width"].nunique() > 1
    assert trials["loss.power"][0] == 2 and trials["head.width"][0] == 3
    assert results["val"]["map"] == pytest.approx(trials["map"].iloc[0], rel=1e-5)


@pytest.mark.usefixtures("without_runs")
def test_only_hopeless_trials_are_stopped_and_never_the_first(
    search: Search, trials_of: TrialsOf, tmp_path: Path
):
    space = ("~tune.space.loss", "~tune.space.optimizer", "~tune.space.head")
    rates = "+tune.space.optimizer={lr: {log_uniform: [1e-9, 0.1]}}"
    options = ("optimizer.lr=1e-9", "trainer.max_epochs=10", "tune.trials=14", *space, rates)
    search(tmp_path / "tuned", *options, small=())
    trials = trials_of(tmp_path / "tuned")
    pruned = trials["state"] == "pruned"
    assert trials["epochs"][0] == 10 and set(trials["epochs"][pruned]) <= {1, 3, 9}
    assert pruned.any() and trials["map"][pruned].max() < trials["map"].iloc[0]


@pytest.mark.usefixtures("without_runs")
def test_a_head_that_diverges_is_a_bad_trial(search: Search, trials_of: TrialsOf, tmp_path: Path):
    space = "+tune.space.optimizer={choice: {sgd: {lr: {choice: [0.01, inf]}}}}"
    options = ("~tune.space.optimizer", "~tune.space.loss", "~tune.space.head", space)
    search(tmp_path / "tuned", *options, small=("trainer.max_epochs=2",))
    trials = trials_of(tmp_path / "tuned")
    failed = trials[trials["state"] == "failed"]
    assert set(failed["optimizer.lr"]) == {np.inf} and failed["error"].str.contains("the loss became").all()
    with pytest.raises(InputError, match="the loss became"):
        search(tmp_path / "tuned", *options, "on_error=stop", small=("trainer.max_epochs=2",))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["features=live"], "features=cached, or tune.over=runs"),
        (["callbacks=early_stopping"], "callbacks.early_stopping: .* are trained without it"),
        (["+trainer.gradient_clip_val=1"], "trainer.gradient_clip_val: .* are trained without it"),
        (["data.split.val=0"], "tune.folds=5"),
        (["tune.metric=mpa"], "tune.metric: must be one of map"),
        (["tune.seed=-1"], "^tune.seed=-1: expected a whole number from 0"),
        (["tune.trials=1"], "tune.trials: expected at least 2"),
        (["tune.trials=null"], "tune.trials: set this or tune.minutes"),
        (["resume=auto"], "a search with tune.storage goes on by itself"),
        (["trainer.devices=2"], "trainer.devices: a search uses one device"),
        (["+tune.space.trainer={max_epochs: {choice: [1]}}"], "tune.space.trainer: .*tune.over=runs"),
        (["+tune.space.head.droput={uniform: [0, 1]}"], "tune.space: the settings .*droput.* do not fit"),
        (["+tune.space.scheduler={choice: {nope: {}}}"], "tune.space: the settings .*nope"),
        (["tune.over=runs", "tune.folds=2"], "tune.folds: tune.over=runs selects on val"),
        (["tune.storage=mysql://host/x"], "tune.storage=mysql://host/x: expected sqlite"),
    ],
)
def test_what_cannot_be_searched_is_named(overrides: list[str], message: str, search: Search, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        search(tmp_path / "tuned", *overrides)
    assert not (tmp_path / "tuned" / "status.json").exists()


def test_an_earlier_search_stays_until_all_was_checked(
    tuned: Path, search: Search, tmp_path: Path, contents: Callable[[Path], dict[Path, bytes]]
):
    before = contents(tuned)
    for override, message in (
        (f"data.annotations={tmp_path}/lables.csv", "lables.csv"),
        ("model.backbone.name=nope", "nope"),
        (f"data.split.keep={tuned / 'winner'}", r"data\.split\.keep: .* is in output"),
        (f"tune.storage={tmp_path}", "tune.storage"),
    ):
        with pytest.raises(InputError, match=message):
            search(tuned, override)
        assert contents(tuned) == before


def test_an_interrupted_search_does_not_show_the_winner_of_an_earlier_one(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "tuned"
    with RunStatus(RunFolder(folder)), RunStatus(RunFolder(folder / "winner")):
        (folder / "experiment").mkdir()
        (folder / "experiment" / "tuned.yaml").touch()
    (folder / "notes.txt").touch()

    def interrupted(*arguments: Any) -> None:
        raise SystemExit(143)

    monkeypatch.setattr("mlic.tuning.evaluation.train_trial", interrupted)
    with pytest.raises(SystemExit):
        search(folder)
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"
    assert (folder / "trials.csv").is_file() and (folder / "notes.txt").is_file()
    assert not (folder / "winner").exists() and not (folder / "experiment" / "tuned.yaml").exists()


def test_a_folder_of_something_else_is_left_alone(search: Search, tmp_path: Path):
    for name in ("config.yaml", "trials.csv"):
        shutil.rmtree(tmp_path / "tuned", ignore_errors=True)
        file = tmp_path / "tuned" / name
        file.parent.mkdir()
        file.write_text("mine")
        refused = r"output: '.*tuned' is (not a folder of a search|the folder of a run)"
        with pytest.raises(InputError, match=refused):
            search(file.parent)
        assert [path.name for path in file.parent.iterdir() if path.name != ".lock"] == [name]


@pytest.mark.slow
def test_a_signal_ends_a_search_at_once(run_server: Any, tiny_arguments: tuple[str, ...], tmp_path: Path):
    options = ("trainer.max_epochs=100000", "output=tuned")
    process = run_server.start(*tiny_arguments, *options, folder=tmp_path, command="tune")
    log, deadline = tmp_path / "command.log", time.monotonic() + 120
    while not (tmp_path / "tuned" / "trials.csv").exists():
        assert time.monotonic() < deadline, "no search began"
        time.sleep(0.1)
    time.sleep(1)  # among the epochs
    os.kill(process, signal.SIGTERM)
    assert run_server.wait(process) == 128 + signal.SIGTERM
    assert "Traceback" not in log.read_text()
    assert json.loads((tmp_path / "tuned" / "status.json").read_text())["state"] == "interrupted"
