"""Whole runs: what they leave in their folder, and what their checkpoints hold."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from omegaconf import DictConfig
from sklearn.metrics import average_precision_score, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlic.errors import InputError
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import fit_thresholds
from mlic.models.backbone import FrozenBackbone, digest_of
from mlic.train import train
from mlic.training.run import extract

MakeConfig = Callable[..., DictConfig]
MakeRun = Callable[..., Path]
CLASSES = ["circle", "cross", "square", "triangle"]
# of the runs that are compared: val rises and falls, so that the best epoch is not the last
LEARNING = ("trainer.max_epochs=6", "optimizer.lr=0.05")


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def load(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def cached(make_run: MakeRun) -> Path:
    """A run on cached features; do not write to it."""
    return make_run(*LEARNING, "features.dtype=float32")


@pytest.fixture(scope="module")
def live(make_run: MakeRun) -> tuple[Path, FrozenBackbone, str]:
    """The same with a live backbone, that backbone after training, and its digest before."""
    kept: list[tuple[FrozenBackbone, str]] = []
    original = FrozenBackbone.optimize_for

    def keep(self: FrozenBackbone, device: torch.device) -> FrozenBackbone:
        kept.append((original(self, device), digest_of(self.network)))
        return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrozenBackbone, "optimize_for", keep)
        return (make_run(*LEARNING, "features=live"), *kept[0])


@pytest.fixture(scope="module")
def without_val(make_run: MakeRun) -> Path:
    """A run without val, with other loggers, losses and class weights."""
    others = ("logger=csv", "loss.pos_weight=2", "optimizer=adamw", "data.class_weights.scheme=none")
    return make_run("data.split.val=0", *others)


def test_a_run_leaves_the_whole_folder(cached: Path):
    status, dataset = read_json(cached / "status.json"), read_json(cached / "dataset.json")
    assert status["state"] == "finished"
    assert set(status["seconds"]) == {"backbone", "data", "features", "records", "fit", "test"}
    assert set(read_json(cached / "metrics.json")) == {"train", "val", "test", "test_calibrated"}
    assert dataset["classes"] == CLASSES
    split = pd.read_csv(cached / "split.csv")
    assert split["split"].value_counts().to_dict() == dataset["images"]
    assert sum(dataset["images"].values()) == 60
    epochs = pd.read_csv(cached / "epochs.csv")
    assert epochs["epoch"].tolist() == list(range(6))
    assert {"train/loss", "train/map", "val/loss", "val/map", "val/auc_macro"} <= set(epochs.columns)
    assert not epochs.isna().any().any()


def test_figures_are_those_of_scikit_learn_on_the_saved_predictions(cached: Path):
    results, split = read_json(cached / "metrics.json"), pd.read_csv(cached / "split.csv")
    for part in ("val", "test"):
        saved = Predictions.read_parquet(cached / "predictions" / f"{part}.parquet")
        assert saved.file_names.tolist() == split.loc[split["split"] == part, "file_name"].tolist()
        precisions = [
            average_precision_score(saved.targets[:, column], saved.scores[:, column]) for column in range(4)
        ]
        assert results[part]["map"] == pytest.approx(np.mean(precisions), abs=1e-6)
        assert results[part]["auc_macro"] == pytest.approx(
            roc_auc_score(saved.targets, saved.scores), abs=1e-6
        )


def test_the_best_epoch_is_tested_and_stands_in_tensorboard(cached: Path):
    results, epochs = read_json(cached / "metrics.json"), pd.read_csv(cached / "epochs.csv")
    assert results["val"]["map"] == pytest.approx(epochs["val/map"].max(), abs=1e-6)
    events = EventAccumulator(str(cached)).Reload()
    for name in ("train/loss", "train/auc_macro", "val/map", "val/precision_micro", "val/recall_micro"):
        logged = [event.value for event in events.Scalars(name)]
        np.testing.assert_allclose(logged, epochs[name], rtol=1e-5)
    assert events.Scalars("z_test/map")[0].value == pytest.approx(results["test"]["map"], rel=1e-5)
    assert {tag.partition("/")[0] for tag in events.Tags()["scalars"]} == {"train", "val", "z_test"}


def test_checkpoints_are_safe_small_and_usable_by_themselves(cached: Path):
    assert sorted(path.name for path in (cached / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    dataset = read_json(cached / "dataset.json")
    for name in ("best", "last"):
        checkpoint = load(cached, name)
        assert all(key.startswith("head.") for key in checkpoint["state_dict"])
        assert checkpoint["mlic"]["classes"] == CLASSES
        assert len(checkpoint["mlic"]["weights_digest"]) == 64
        assert checkpoint["mlic"]["split_hash"] == dataset["split"]["hash"]
        assert checkpoint["optimizer_states"]
    best = load(cached, "best")["mlic"]
    assert best["thresholds"] == read_json(cached / "thresholds.json")
    assert best["class_weights"] == pytest.approx([dataset["class_weights"][name] for name in CLASSES])
    assert best["precision"] == "float32"
    assert "thresholds" not in load(cached, "last")["mlic"]


def test_thresholds_are_those_of_val_and_test_stands_at_both(cached: Path):
    val, test = (
        Predictions.read_parquet(cached / "predictions" / f"{part}.parquet") for part in ("val", "test")
    )
    fitted, stored = fit_thresholds(val.scores, val.targets), read_json(cached / "thresholds.json")
    per_class = dict(zip(val.classes, fitted.per_class.tolist(), strict=True))
    assert stored == {"common": fitted.common, "per_class": per_class, "fitted_on": "val"}
    results = read_json(cached / "metrics.json")
    expected = evaluate_scores(test.scores, test.targets, test.classes, fitted.per_class)
    assert results["test_calibrated"] == {"loss": results["test"]["loss"], **expected}
    assert results["test_calibrated"]["f1_micro"] != results["test"]["f1_micro"]


def test_split_holds_the_digest_of_each_image(
    cached: Path, live: tuple[Path, Any, str], tiny_csv: tuple[Path, Path]
):
    for folder in (cached, live[0]):
        split = pd.read_csv(folder / "split.csv")
        paths = [tiny_csv[1] / name for name in split["file_name"]]
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        assert split["sha256"].tolist() == digests and len(set(digests)) == 60


def test_without_val_the_last_epoch_is_tested_and_no_threshold_is_fitted(without_val: Path):
    assert set(read_json(without_val / "metrics.json")) == {"train", "test"}
    assert load(without_val, "best")["epoch"] == load(without_val, "last")["epoch"] == 1
    assert not any(name.startswith("val/") for name in pd.read_csv(without_val / "epochs.csv"))
    thresholds = read_json(without_val / "thresholds.json")
    assert (thresholds["fitted_on"], thresholds["common"]) == (None, 0.5)
    assert set(thresholds["per_class"].values()) == {0.5}


def test_other_loggers_hold_curves_and_settings(without_val: Path):
    assert "train/map" in pd.read_csv(without_val / "csv" / "metrics.csv")
    settings = yaml.safe_load((without_val / "csv" / "hparams.yaml").read_text())
    assert (settings["loss.pos_weight"], settings["data.class_weights.scheme"]) == (2, "none")
    assert set(read_json(without_val / "dataset.json")["class_weights"].values()) == {1.0}


def test_same_seed_same_weights_other_seed_others(cached: Path, make_run: MakeRun):
    again, other = (make_run(*LEARNING, "features.dtype=float32", f"seed={seed}") for seed in (0, 1))
    first, again, other = (load(folder, "last")["state_dict"] for folder in (cached, again, other))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_live_backbone_stays_frozen_and_gives_the_figures_of_cached_training(
    cached: Path, live: tuple[Path, FrozenBackbone, str]
):
    folder, backbone, before = live
    assert any(name.endswith("running_mean") for name, _ in backbone.network.named_buffers())
    assert digest_of(backbone.network) == before
    assert not any(module.training for module in backbone.modules())
    found = read_json(folder / "metrics.json")
    for part, metrics in read_json(cached / "metrics.json").items():
        for name, value in metrics.items():
            if isinstance(value, float):
                assert found[part][name] == pytest.approx(value, abs=1e-3), (part, name)


def test_a_loss_that_diverges_stops_with_the_images_of_the_batch(tiny_config: MakeConfig, tmp_path: Path):
    message = r"the loss became (nan|inf) in epoch \d.*optimizer\.lr"
    with pytest.raises(InputError, match=message):
        train(tiny_config("optimizer.lr=1e30", "loss.pos_weight=1e30"))
    status = read_json(tmp_path / "run" / "status.json")
    assert status["state"] == "failed" and "the loss became" in status["error"]["message"]
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_bad_images_are_all_named_or_left_out_before_the_split(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    broken = tmp_path / "images"
    broken.mkdir()
    for path in tiny_csv[1].iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "shapes_03.jpg").write_bytes(b"")
    whole = (broken / "shapes_07.jpg").read_bytes()
    (broken / "shapes_07.jpg").write_bytes(whole[: len(whole) // 2])
    (broken / "shapes_11.jpg").unlink()
    place = f"data.images={broken}"
    with pytest.raises(
        InputError, match=r"(?s)3 images cannot be used.*_03.*0 bytes.*_07.*_11.*no such file"
    ):
        train(tiny_config(place))
    train(tiny_config(place, "data.on_bad_image=drop", "trainer.max_epochs=1"))
    names = pd.read_csv(tmp_path / "run" / "split.csv")["file_name"]
    assert len(names) == 57 and not set(names) & {f"shapes_{number}.jpg" for number in ("03", "07", "11")}
    assert len(read_json(tmp_path / "run" / "dataset.json")["bad_images"]) == 3


def test_scores_are_not_rounded_by_mixed_precision(make_run: MakeRun):
    folder = make_run("trainer.precision=bf16-mixed", "trainer.max_epochs=1")
    saved = Predictions.read_parquet(folder / "predictions" / "test.parquet")
    logits = torch.logit(torch.tensor(saved.scores).double())
    rounded = logits.bfloat16().double()
    assert ((logits - rounded).abs() > 1e-4 * logits.abs()).float().mean() > 0.5


def test_extract_computes_what_training_then_finds(
    tiny_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    result = extract(tiny_config())
    assert (result.found, result.computed, result.bad) == (0, 60, {})
    assert not (tmp_path / "run" / "status.json").exists()
    with caplog.at_level("INFO"):
        train(tiny_config("trainer.max_epochs=1"))
    assert any("60 rows found" in message for message in caplog.messages)
    with pytest.raises(InputError, match="features=live does not store features"):
        extract(tiny_config("features=live"))
