import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import fit_thresholds
from mlic.train import train

MakeConfig = Callable[..., DictConfig]


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def checkpoint_info(folder: Path, name: str) -> dict:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["mlic"]


def test_thresholds_are_those_of_val_and_test_stands_at_both(tiny_config: MakeConfig, tmp_path: Path):
    results = train(tiny_config())
    folder = tmp_path / "run"
    val, test = (
        Predictions.read_parquet(folder / "predictions" / f"{part}.parquet") for part in ("val", "test")
    )
    fitted = fit_thresholds(val.scores, val.targets)
    stored = read_json(folder / "thresholds.json")
    assert stored["fitted_on"] == "val"
    assert stored["common"] == fitted.common
    assert stored["per_class"] == dict(zip(val.classes, fitted.per_class.tolist(), strict=True))
    expected = evaluate_scores(test.scores, test.targets, test.classes, fitted.per_class)
    calibrated = read_json(folder / "metrics.json")["test_calibrated"]
    assert calibrated == {"loss": results["test"]["loss"], **expected}
    assert list(calibrated) == list(results["test"])
    assert calibrated["map"] == results["test"]["map"]
    assert calibrated["f1_micro"] != results["test"]["f1_micro"]


def test_the_chosen_checkpoint_can_be_used_by_itself(tiny_config: MakeConfig, tmp_path: Path):
    train(tiny_config("trainer.max_epochs=2"))
    folder = tmp_path / "run"
    info = checkpoint_info(folder, "best")
    assert info["thresholds"] == read_json(folder / "thresholds.json")
    weights = read_json(folder / "dataset.json")["class_weights"]
    assert info["class_weights"] == pytest.approx([weights[name] for name in info["classes"]])
    assert info["precision"] == "float32"
    assert "thresholds" not in checkpoint_info(folder, "last")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_without_val_nothing_is_fitted(tiny_config: MakeConfig, tmp_path: Path):
    results = train(tiny_config("data.split.val=0", "trainer.max_epochs=1"))
    stored = read_json(tmp_path / "run" / "thresholds.json")
    assert stored["fitted_on"] is None
    assert stored["common"] == 0.5
    assert set(stored["per_class"].values()) == {0.5}
    assert "test_calibrated" not in results


@pytest.mark.parametrize("features", ["cached", "live"])
def test_split_holds_the_digest_of_each_image(
    features: str, tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    train(tiny_config("trainer.max_epochs=1", f"features={features}"))
    split = pd.read_csv(tmp_path / "run" / "split.csv")
    digests = [hashlib.sha256((tiny_csv[1] / name).read_bytes()).hexdigest() for name in split["file_name"]]
    assert split["sha256"].tolist() == digests
    assert np.unique(digests).size == 60
