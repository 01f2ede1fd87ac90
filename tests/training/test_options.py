"""Heads and options of training in whole runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from mlic.data import open_image
from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions
from mlic.features.store import FeatureStore
from mlic.inference import Classifier
from mlic.inference.evaluating import evaluate_run
from mlic.inference.labelled import read_labelled_set
from mlic.inference.loading import make_head
from mlic.train import train

MakeConfig = Callable[..., DictConfig]


@pytest.mark.parametrize("head", ["linear", "csra", "attention"])
def test_heads_train_and_predict(
    head: str, tiny_config: MakeConfig, predicts_as_tested: Callable[..., Classifier], tmp_path: Path
):
    results = train(tiny_config(f"head={head}", "head.standardize=true"))
    assert results["test"]["map"] > 0
    predicts_as_tested(tmp_path / "run")
    places = [path for path in (tmp_path / "store").iterdir() if (path / "store.json").is_file()]
    shapes = [len(FeatureStore.at(place).layout.feature_shape) for place in places]
    assert shapes == [1 if head == "linear" else 3]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("head=csra", "model.backbone.pool=avg"), r"head=csra .*model\.backbone\.pool=none"),
        (("model.backbone.unfreeze=2",), r"model\.backbone\.unfreeze=2 trains .* set features=live"),
        (
            ("data.split.val=0", "callbacks=early_stopping"),
            r"early_stopping monitors the val part, but data\.split",
        ),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(
    overrides: tuple[str, ...], message: str, tiny_config: MakeConfig
):
    with pytest.raises(InputError, match=message):
        train(tiny_config(*overrides))


@pytest.mark.parametrize("features", ["cached", "live"])
def test_standardization_is_that_of_the_training_rows(features: str, tiny_config: MakeConfig, tmp_path: Path):
    overrides = ("head.standardize=true", "trainer.max_epochs=1")
    train(tiny_config(*overrides, output=tmp_path / "cached"))
    if features == "live":
        train(tiny_config(*overrides, "features=live", output=tmp_path / "live"))
    split = pd.read_csv(tmp_path / "cached" / "split.csv")
    digests = split.loc[split["split"] == "train", "sha256"].to_numpy().astype("S64")
    (place,) = (path for path in (tmp_path / "store").iterdir() if (path / "store.json").is_file())
    store = FeatureStore.at(place)
    store.refresh()
    rows = store.load(digests).double()
    path = tmp_path / features / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)["state_dict"]
    mean, deviation = state["head.1.mean"].double(), state["head.1.deviation"].double()
    torch.testing.assert_close(mean, rows.mean(0), rtol=1e-3, atol=1e-3)
    expected = rows.std(0, unbiased=False)
    varying = expected > 1e-3
    torch.testing.assert_close(deviation[varying], expected[varying], rtol=1e-2, atol=1e-3)
    assert varying.any()


AVERAGED = ("scheduler=cosine", "callbacks=weight_average", "optimizer=adamw")


@pytest.mark.parametrize("features", ["cached", "live"])
def test_schedule_and_average_without_val(
    features: str, tiny_config: MakeConfig, predicts_as_tested: Callable[..., Classifier], tmp_path: Path
):
    train(tiny_config(*AVERAGED, f"features={features}", "data.split.val=0"))
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 2 and checkpoint["weight_average"]["count"] > 0
    assert checkpoint["lr_schedulers"][0]["_last_lr"][0] < 1e-4
    assert all(name.startswith("head.") for name in checkpoint["state_dict"])
    predicts_as_tested(tmp_path / "run")


@pytest.mark.parametrize("features", ["cached", "live"])
def test_mirror_images_are_averaged_alike_in_all_ways_to_scores(
    features: str,
    tiny_config: MakeConfig,
    predicts_as_tested: Callable[..., Classifier],
    tiny_csv: tuple[Path, Path],
    tmp_path: Path,
):
    """Test of the run, prediction from files, and evaluation."""
    train(
        tiny_config(
            f"features={features}", "model.backbone.mirror=true", "trainer.max_epochs=2", "head.standardize=true",
        )
    )  # fmt: skip
    folder, images = tmp_path / "run", tiny_csv[1]
    classifier = predicts_as_tested(folder)
    tested = Predictions.read_parquet(folder / "predictions" / "test.parquet")
    backbone: Any = classifier.backbone
    assert backbone.mirror
    pixels = [torch.from_numpy(backbone.transform(open_image(images / name))) for name in tested.file_names]
    head = make_head(classifier.saved, backbone.feature_shape)
    backbone.mirror = False
    with torch.no_grad():
        one, other = (backbone(batch) for batch in (torch.stack(pixels), torch.stack(pixels).flip(-1)))
        np.testing.assert_allclose(tested.scores, torch.sigmoid(head((one + other) / 2)), atol=1e-3)
        assert np.abs(tested.scores - torch.sigmoid(head(one)).numpy()).max() > 2e-3
    backbone.mirror = True
    labelled = read_labelled_set(classifier.saved, None, "test")
    evaluated = evaluate_run(classifier, labelled, num_workers=0)
    np.testing.assert_allclose(evaluated.predictions.scores, tested.scores, atol=1e-6)
