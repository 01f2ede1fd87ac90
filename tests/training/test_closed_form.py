"""Runs of heads in closed form."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from mlic.config import compose
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import fit_thresholds
from mlic.inference import Classifier
from mlic.models import RidgeHead
from mlic.report.reading import read_run
from mlic.training.run import run

MakeRun = Callable[..., Path]
MakeConfig = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def ridge(make_run: MakeRun) -> Path:
    """A run on cached features; do not write to it."""
    return make_run("head=ridge", "data.split.val=0")


def test_a_run_without_epochs_is_an_ordinary_run(
    ridge: Path, predicts_as_tested: Callable[[Path], Classifier]
):
    results = json.loads((ridge / "metrics.json").read_text())
    assert set(results) == {"loo", "train", "test", "test_calibrated"}
    assert not (ridge / "epochs.csv").exists()
    penalties = pd.read_csv(ridge / "penalties.csv")
    assert len(penalties) == 17
    assert results["loo"]["map"] == pytest.approx(penalties["loo/map"].max(), abs=1e-5)
    left_out = Predictions.read_parquet(ridge / "predictions" / "loo.parquet")
    split = pd.read_csv(ridge / "split.csv")
    assert left_out.file_names.tolist() == split.loc[split["split"] == "train", "file_name"].tolist()
    thresholds = json.loads((ridge / "thresholds.json").read_text())
    fitted = fit_thresholds(left_out.scores, left_out.targets)
    assert thresholds["fitted_on"] == "loo"
    assert list(thresholds["per_class"].values()) == pytest.approx(fitted.per_class.tolist())
    predicts_as_tested(ridge)


def test_nearest_neighbours_are_an_ordinary_run(make_run: MakeRun, tiny_images: Path):
    folder = make_run("head=knn")
    candidates = pd.read_csv(folder / "neighbours.csv")
    results = json.loads((folder / "metrics.json").read_text())
    assert candidates["neighbours"].tolist() == [5, 10, 20, 50, 100][: len(candidates)]
    assert results["loo"]["map"] == pytest.approx(candidates["loo/map"].max(), abs=1e-5)
    tested = Predictions.read_parquet(folder / "predictions" / "test.parquet")
    found = Classifier.load(folder, device="cpu").predict(
        [tiny_images / name for name in tested.file_names], num_workers=0
    )
    # a store rounds its features, which may exchange a neighbour by one at the same distance
    same = np.isclose(found[[f"score:{name}" for name in tested.classes]], tested.scores, atol=1e-3)
    assert same.mean() > 0.98
    read = read_run(folder)
    assert read.state == "finished" and not read.notes


def test_evaluation_repeats_the_metrics(ridge: Path, tmp_path: Path):
    config = compose(
        f"run='{ridge}'",
        "part=test",
        "num_workers=0",
        "device=cpu",
        output=tmp_path / "out",
        config_name="evaluate",
    )
    assert evaluate(config)["test"] == json.loads((ridge / "metrics.json").read_text())["test"]


def test_a_live_backbone_gives_the_same_head(ridge: Path, make_run: MakeRun):
    live = make_run("head=ridge", "data.split.val=0", "features=live")
    one, other = (
        Predictions.read_parquet(folder / "predictions/test.parquet").scores for folder in (ridge, live)
    )
    np.testing.assert_allclose(one, other, atol=2e-3)  # a store rounds its features


def test_a_finished_run_is_skipped_and_val_is_used_where_there_is_one(tiny_config: MakeConfig):
    config = tiny_config("head=ridge", "resume=auto")
    first = run(config)
    assert set(first) == {"loo", "train", "val", "test", "test_calibrated"}
    folder = Path(config.output)
    assert json.loads((folder / "thresholds.json").read_text())["fitted_on"] == "val"
    before = (folder / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    assert run(config) == first
    assert (folder / "checkpoints" / "best.ckpt").stat().st_mtime_ns == before


def test_scores_are_left_out_by_group(tiny_csv: tuple[Path, Path], tiny_config: MakeConfig, monkeypatch):
    seen = {}
    fit = RidgeHead.fit_closed_form

    def keep(self, gather, targets, groups=None, *, seed=0):
        seen["groups"] = groups
        return fit(self, gather, targets, groups, seed=seed)

    monkeypatch.setattr(RidgeHead, "fit_closed_form", keep)
    config = tiny_config(
        "head=ridge",
        "data.split.groups.by=name",
        "data.split.groups.value='(\\d)\\.'",
        "data.split.on_missing=warn",
    )
    run(config)
    split = pd.read_csv(Path(config.output) / "split.csv")
    names = split.loc[split["split"] == "train", "file_name"]
    expected = names.str.extract(r"(\d)\.")[0].to_numpy()
    same = seen["groups"][:, None] == seen["groups"]
    np.testing.assert_array_equal(same, expected[:, None] == expected)


def test_settings_of_epochs_are_refused(tiny_config: MakeConfig, ridge: Path):
    for overrides, message in (
        ((f"init_from='{ridge}'",), "init_from"),
        (("features=augmented",), "features=cached"),
        (("features=live", "model.backbone.unfreeze=1"), "unfreeze"),
    ):
        with pytest.raises(InputError, match=message):
            run(tiny_config("head=ridge", "data.split.val=0", *overrides))


def test_a_blend_is_ridge_and_a_dense_head_trained_as_if_alone(ridge: Path, make_run: MakeRun):
    recipe = ("data.split.val=0", "head.standardize=true")
    blend, dense = make_run("head=blend", *recipe), make_run("head=dense", *recipe)
    states = [
        torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        for folder in (blend, ridge, dense)
    ]
    for state, part in zip(states[1:], ("ridge", "dense"), strict=True):
        for name, value in state.items():
            if name.startswith("head."):
                torch.testing.assert_close(states[0][name.replace("head.", f"head.{part}.")], value)
    assert json.loads((blend / "thresholds.json").read_text())["fitted_on"] == "loo"
