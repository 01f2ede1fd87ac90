"""A whole search: trials, winner, what it writes, and that it never looks at test rows."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mlic.config import CONFIG_DIR
from mlic.errors import InputError
from mlic.features.dataset import FeatureDataset, MemoryRows
from mlic.models import DenseHead, FocalLoss
from mlic.runs.folder import RunFolder
from mlic.runs.status import RunStatus
from mlic.training.run import run
from mlic.tuning.bank import Bank
from mlic.tuning.run import run_tuning

# a run draws its masks in another order than a bank of heads does
NO_DROPOUT = ("head.dropout=0", "~tune.space.head.dropout", "~tune.space.head.hidden_dropout")

Search = Callable[..., tuple[Any, dict[str, str | None]]]
PLAIN = ("tune.halving=null", "scheduler=cosine", *NO_DROPOUT)


def trials_of(folder: Path) -> list[dict[str, Any]]:
    """Rows of trials.csv, the best first."""
    return pd.read_csv(folder / "trials.csv").to_dict("records")  # pyright: ignore[reportReturnType]


@pytest.fixture(scope="module")
def halved(search_in: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished search that stops hopeless heads; do not write to it."""
    folder = tmp_path_factory.mktemp("halved") / "tuned"
    run_tuning(*search_in(folder))
    return folder


@pytest.fixture(scope="module")
def plain(search_in: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished search that trains all heads to the end; do not write to it."""
    folder = tmp_path_factory.mktemp("plain") / "tuned"
    run_tuning(*search_in(folder, *PLAIN))
    return folder


def test_a_search_leaves_trials_and_a_winner_that_is_an_ordinary_run(halved: Path):
    rows = trials_of(halved)
    assert sorted(row["trial"] for row in rows) == list(range(6))
    assert [row["state"] for row in rows] == ["finished"] * 2 + ["stopped"] * 4
    assert sorted(row["epochs"] for row in rows) == [1, 1, 1, 2, 3, 3]
    assert rows[0]["map"] >= rows[1]["map"]
    assert (halved / "figures" / "trials.png").stat().st_size > 10_000
    results = json.loads((halved / "winner" / "metrics.json").read_text())
    assert {"train", "val", "test", "test_calibrated"} <= set(results)
    assert json.loads((halved / "status.json").read_text())["state"] == "finished"


def test_the_first_trial_is_the_config_as_it_is(plain: Path, tiny_search: Search, tmp_path: Path):
    config, choices = tiny_search(*PLAIN)
    OmegaConf.set_struct(config, False)
    del config.tune
    run(config)
    curve = pd.read_csv(tmp_path / "tuned" / "epochs.csv")["val/map"].to_list()
    rows = trials_of(plain)
    assert {row["state"] for row in rows} == {"finished"}
    first = next(row for row in rows if row["trial"] == 0)
    assert first["map"] == pytest.approx(max(curve), abs=1e-5)
    assert first["epoch"] == curve.index(max(curve)) + 1
    assert [first[group] for group in ("optimizer", "loss")] == [choices["optimizer"], choices["loss"]]
    assert first["optimizer.lr"] == config.optimizer.lr


def test_tuned_yaml_runs_the_winner_again(plain: Path, tmp_path: Path):
    options = [f"hydra.searchpath=[file://{plain}]", "experiment=tuned", "trainer=cpu"]
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = compose("train", overrides=[*options, f"output={tmp_path / 'again'}"])
    assert run(config) == json.loads((plain / "winner" / "metrics.json").read_text())


def test_folds_choose_without_a_val_part(tiny_search: Search, tmp_path: Path):
    results = run_tuning(*tiny_search("tune.folds=3", "data.split.val=0"))
    table = pd.read_csv(tmp_path / "tuned" / "trials.csv")
    folds = table[["fold_0", "fold_1", "fold_2"]]
    np.testing.assert_allclose(folds.mean(axis=1), table["map"], rtol=1e-4)
    assert set(results) == {"train", "test"}
    epochs = pd.read_csv(tmp_path / "tuned" / "winner" / "epochs.csv")
    assert len(epochs) == table["epoch"][0]


@pytest.fixture
def without_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search alone: the winner is not trained."""
    monkeypatch.setattr("mlic.tuning.run.run", lambda config: {})


@pytest.mark.usefixtures("without_winner")
@pytest.mark.parametrize("folds", ["null", "2"])
def test_choosing_never_reads_a_test_row(folds: str, tiny_search: Search, monkeypatch: pytest.MonkeyPatch):
    """All rows that the search reads lie in train and val; the winner's run comes after."""
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
    run_tuning(*tiny_search(f"tune.folds={folds}"))
    assert len(test) == 12 and len(seen) == 48 and not test & seen


def test_metric_and_best_epoch_are_those_of_the_search(tiny_search: Search, tmp_path: Path):
    by_loss = ("callbacks.checkpoint.monitor=val/loss", "callbacks.checkpoint.mode=min")
    options = ("tune.metric=auc_micro", "head.standardize=true", "tune.halving=null", "trainer.max_epochs=6")
    results = run_tuning(*tiny_search(*by_loss, *options, *NO_DROPOUT))
    curve = pd.read_csv(tmp_path / "tuned" / "winner" / "epochs.csv")["val/auc_micro"].tolist()
    assert len(set(curve)) > 1
    assert results["val"]["auc_micro"] == pytest.approx(max(curve), abs=1e-6)
    best = trials_of(tmp_path / "tuned")[0]["auc_micro"]
    assert results["val"]["auc_micro"] == pytest.approx(best, abs=1e-5)


@pytest.mark.usefixtures("without_winner")
def test_a_head_that_diverges_stops_alone(tiny_search: Search, tmp_path: Path):
    space = "+tune.space.optimizer={choice: {sgd: {lr: {choice: [0.01, inf]}}}}"
    run_tuning(*tiny_search("~tune.space.optimizer", "~tune.space.loss", space, "tune.halving=null"))
    states = {(row["optimizer.lr"] > 1, row["state"]) for row in trials_of(tmp_path / "tuned")}
    assert states == {(True, "diverged"), (False, "finished")}


@pytest.mark.usefixtures("without_winner")
def test_rows_from_the_disk_are_searched(
    tiny_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(MemoryRows, "__init__", None)  # no row is held
    run_tuning(*tiny_search("features.memory_gb=0.00001"))
    assert 0 < trials_of(tmp_path / "tuned")[0]["map"] <= 1


@pytest.mark.usefixtures("without_winner")
def test_banks_side_by_side_train_the_same(
    plain: Path, tiny_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names: set[str] = set()
    train_epoch = Bank.train_epoch

    def train(self: Bank, *arguments: Any, **options: Any) -> None:
        names.add(threading.current_thread().name)
        train_epoch(self, *arguments, **options)

    monkeypatch.setattr(Bank, "train_epoch", train)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    run_tuning(*tiny_search(*PLAIN))
    assert len(names) > 1
    assert (tmp_path / "tuned" / "trials.csv").read_text() == (plain / "trials.csv").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["features=live"], "features=cached"),
        (["callbacks=early_stopping"], "tune.halving"),
        (["head=csra"], "not mlic.models.CSRAHead.*sweeper=search"),
        (["data.split.val=0"], "tune.folds=5"),
        (["tune.metric=mpa"], "tune.metric: must be one of map"),
        (["tune.seed=-1"], "^tune.seed=-1: expected a whole number from 0"),
        (["tune.heads=1"], "tune.heads=1: expected at least 2"),
        (["resume=auto"], "resume=auto: mlic.tune always starts from the beginning"),
        (
            ["+trainer.gradient_clip_val=1"],
            "trainer.gradient_clip_val=1: the heads of a search are trained without it",
        ),
        (["+tune.space.trainer={max_epochs: {choice: [1]}}"], "tune.space.trainer.*sweeper=search"),
    ],
)
def test_what_cannot_be_searched_is_named(overrides: list[str], message: str, tiny_search: Search):
    with pytest.raises(InputError, match=message):
        run_tuning(*tiny_search(*overrides))


def test_an_earlier_search_stays_until_all_was_checked(
    halved: Path, search_in: Search, tmp_path: Path, contents: Callable[[Path], dict[Path, bytes]]
):
    before = contents(halved)
    for override, message in (
        (f"data.annotations={tmp_path}/lables.csv", "lables.csv"),
        ("model.backbone.name=nope", "nope"),
        (f"data.split.keep={halved / 'winner'}", r"data\.split\.keep: .* is in output"),
        ("+tune.space.head.droput={uniform: [0, 1]}", "tune.space: the settings .*droput.* do not fit"),
    ):
        with pytest.raises(InputError, match=message):
            run_tuning(*search_in(halved, override))
        assert contents(halved) == before


def test_an_interrupted_search_does_not_show_the_winner_of_an_earlier_one(
    tiny_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "tuned"
    with RunStatus(RunFolder(folder)), RunStatus(RunFolder(folder / "winner")):
        (folder / "experiment").mkdir()
        (folder / "experiment" / "tuned.yaml").touch()
    (folder / "notes.txt").touch()

    def interrupted(self: Search) -> None:
        raise SystemExit(143)

    monkeypatch.setattr("mlic.tuning.search.Search.run", interrupted)
    with pytest.raises(SystemExit):
        run_tuning(*tiny_search())
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"
    assert (folder / "trials.csv").is_file() and (folder / "notes.txt").is_file()
    assert not (folder / "winner").exists() and not (folder / "experiment" / "tuned.yaml").exists()


def test_a_folder_of_something_else_is_left_alone(tiny_search: Search, tmp_path: Path):
    for name in ("config.yaml", "trials.csv"):
        shutil.rmtree(tmp_path / "tuned", ignore_errors=True)
        file = tmp_path / "tuned" / name
        file.parent.mkdir()
        file.write_text("mine")
        refused = r"output: '.*tuned' is (not a folder of a search|the folder of a run)"
        with pytest.raises(InputError, match=refused):
            run_tuning(*tiny_search())
        assert [path.name for path in file.parent.iterdir() if path.name != ".lock"] == [name]


class OwnFocal(FocalLoss):
    """With a parameter that the stack does not know."""

    def __init__(self, *arguments: Any, beta: float = 1.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.beta = beta


class OwnHead(DenseHead):
    """A head that may compute something else."""


def test_classes_of_ones_own_are_refused_before_any_work(tiny_search: Search, tmp_path: Path):
    loss = (f"loss._target_={__name__}.OwnFocal", "+loss.beta=1", "+tune.space.loss.beta={choice: [0, 5]}")
    own = r"supports only {}, not .*Own{}.*sweeper=search"
    for overrides, message in (
        (loss, "^loss: mlic.tune " + own.format("WeightedBCE, FocalLoss, AsymmetricLoss", "Focal")),
        ([f"head._target_={__name__}.OwnHead"], "^head: mlic.tune " + own.format("DenseHead", "Head")),
    ):
        with pytest.raises(InputError, match=message):
            run_tuning(*tiny_search("~tune.space.loss.choice", *overrides))
    assert not (tmp_path / "tuned" / "status.json").exists()


@pytest.mark.slow
def test_a_signal_ends_a_search_at_once(run_server: Any, tiny_arguments: tuple[str, ...], tmp_path: Path):
    options = ("tune.heads=4", "tune.halving=null", "trainer.max_epochs=100000", "output=tuned")
    process = run_server.start(*tiny_arguments, *options, folder=tmp_path, command="tune")
    log, deadline = tmp_path / "command.log", time.monotonic() + 60
    while not (log.exists() and "classes (" in log.read_text()):
        assert time.monotonic() < deadline, "no search began"
        time.sleep(0.1)
    time.sleep(1)  # among the epochs
    os.kill(process, signal.SIGTERM)
    assert run_server.wait(process) == 128 + signal.SIGTERM
    assert "Traceback" not in log.read_text()
    assert json.loads((tmp_path / "tuned" / "status.json").read_text())["state"] == "interrupted"
