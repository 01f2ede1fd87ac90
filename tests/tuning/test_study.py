"""Studies in a file: interrupted ones go on, several processes share one; and searches over whole runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mlic.errors import InputError
from mlic.training.trial import train_trial
from mlic.tuning import evaluation

Search = Callable[..., dict[str, dict[str, Any]]]
TrialsOf = Callable[[Path], Any]


def load(journal: Path) -> optuna.Study:
    return optuna.load_study(study_name="tuning", storage=JournalStorage(JournalFileBackend(str(journal))))


@pytest.mark.parametrize("kind", ["sqlite:///", ""])
def test_an_interrupted_study_goes_on_elsewhere(
    kind: str, search: Search, trials_of: TrialsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    storage = f"tune.storage={kind}{tmp_path / 'study'}"
    trained = 0

    def train(*arguments: Any) -> Any:
        nonlocal trained
        trained += 1
        if trained == 3:
            raise SystemExit(143)
        return train_trial(*arguments)

    monkeypatch.setattr(evaluation, "train_trial", train)
    with pytest.raises(SystemExit):
        search(tmp_path / "first", storage)
    assert len(trials_of(tmp_path / "first")) == 2
    results = search(tmp_path / "second", storage)
    trials = trials_of(tmp_path / "second")
    assert len(trials) == 4 and trained == 5
    assert sorted(trials.index) == [0, 1, 3, 4]  # the interrupted trial does not count
    assert results["val"]["map"] == pytest.approx(trials["map"].iloc[0], rel=1e-5)
    for override in ("tune.metric=auc_macro", "head.standardize=true"):
        with pytest.raises(InputError, match=rf"other settings \(.*{override.partition('=')[0]}"):
            search(tmp_path / "third", storage, override)


def test_an_interrupted_first_trial_is_repeated(
    search: Search, trials_of: TrialsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    storage = f"tune.storage={tmp_path / 'study'}"
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "train_trial", lambda *arguments: exit(1))
        with pytest.raises(SystemExit):
            search(tmp_path / "tuned", storage)
    # the process of another one was killed
    study = load(tmp_path / "study")
    study.enqueue_trial({}, user_attrs={"given": True})
    study.ask()
    search(tmp_path / "tuned", storage, "tune.trials=2")
    trials = trials_of(tmp_path / "tuned")
    assert len(trials) >= 2 and (trials["optimizer.lr"] == 0.001).any()
    assert (tmp_path / "tuned" / "winner" / "metrics.json").is_file()


@pytest.mark.slow
def test_two_processes_share_a_study(run_server: Any, tiny_arguments: tuple[str, ...], tmp_path: Path):
    options = (*tiny_arguments, "trainer.max_epochs=2", "tune.trials=8", "tune.storage=study.log")
    stored = ("features.dir=store", "features.num_workers=0")
    assert run_server.run(*tiny_arguments, *stored, folder=tmp_path, command="extract") == 0
    processes = [
        run_server.start(
            *options, *stored, f"output={name}", folder=tmp_path, command="tune", log=f"{name}.log"
        )
        for name in ("one", "two")
    ]
    for process, name in zip(processes, ("one", "two"), strict=True):
        assert run_server.wait(process) == 0, (tmp_path / f"{name}.log").read_text()
    trials = load(tmp_path / "study.log").trials
    complete = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert 8 <= len(complete) <= 9  # one that had begun
    parameters = [json.dumps(trial.params, sort_keys=True) for trial in complete]
    assert len(set(parameters)) >= 8
    assert all((tmp_path / name / "winner" / "metrics.json").is_file() for name in ("one", "two"))


def test_whole_runs_are_searched(search: Search, trials_of: TrialsOf, tmp_path: Path):
    folder = tmp_path / "tuned"
    space = (
        "~tune.space.optimizer", "~tune.space.loss", "~tune.space.head",
        "+tune.space.head={choice: [dense, ridge]}", "+tune.space.data={batch_size: {choice: [4, 8, 16]}}",
    )  # fmt: skip
    options = ("tune.over=runs", "tune.trials=5", "features=live", "optimizer.lr=1e-6", *space)
    results = search(folder, *options, small=("trainer.max_epochs=1",))
    trials = trials_of(folder)
    assert trials["head"][0] == "dense" and set(trials["head"]) == {"dense", "ridge"}
    for number, row in trials.iterrows():
        run = folder / "trials" / str(number)
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics["val"]["map"] == pytest.approx(row["map"], rel=1e-5)
        config = (run / "config.yaml").read_text()
        assert f"batch_size: {row['data.batch_size']}\n" in config
    assert results == json.loads((folder / "trials" / str(trials.index[0]) / "metrics.json").read_text())
    assert json.loads((folder / "winner" / "metrics.json").read_text()) == results
    assert "on val" in (folder / "summary.txt").read_text()
