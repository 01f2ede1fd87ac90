"""Heads and options of training in whole runs."""

from collections.abc import Callable
from pathlib import Path

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


def saved_state(folder: Path, name: str = "best") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def assert_predicts_as_tested(folder: Path, images: Path) -> None:
    """What the run wrote about its test images is what its checkpoint says of the files."""
    tested = Predictions.read_parquet(folder / "predictions" / "test.parquet")
    paths = [images / name for name in tested.file_names]
    found = Classifier.load(folder, device="cpu").predict(paths, num_workers=0)
    scores = found[[f"score:{name}" for name in tested.classes]].to_numpy()
    np.testing.assert_allclose(scores, tested.scores, atol=5e-4)


@pytest.mark.parametrize("head", ["linear", "csra", "attention"])
def test_heads_train_and_predict(
    head: str, tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    results = train(tiny_config(f"head={head}", "head.standardize=true"))
    assert results["test"]["map"] > 0
    assert_predicts_as_tested(tmp_path / "run", tiny_csv[1])
    places = [path for path in (tmp_path / "store").iterdir() if (path / "store.json").is_file()]
    shapes = [len(FeatureStore.at(place).layout.feature_shape) for place in places]
    assert shapes == [1 if head == "linear" else 3]


def test_a_map_head_on_pooled_features_names_the_override(tiny_config: MakeConfig):
    with pytest.raises(InputError, match=r"head=csra .*model\.backbone\.pool=none"):
        train(tiny_config("head=csra", "model.backbone.pool=avg"))


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
    state = saved_state(tmp_path / features)
    torch.testing.assert_close(state["head.1.mean"].double(), rows.mean(0), rtol=1e-3, atol=1e-3)
    deviation = rows.std(0, unbiased=False)
    varying = deviation > 1e-3
    torch.testing.assert_close(
        state["head.1.deviation"].double()[varying], deviation[varying], rtol=1e-2, atol=1e-3
    )
    assert varying.any()


@pytest.mark.parametrize("loss", ["focal", "asymmetric"])
def test_losses_train(loss: str, tiny_config: MakeConfig, tmp_path: Path):
    results = train(tiny_config(f"loss={loss}", "loss.label_smoothing=0.1"))
    epochs = pd.read_csv(tmp_path / "run" / "epochs.csv")
    assert epochs["train/loss"].iloc[-1] < epochs["train/loss"].iloc[0]
    assert results["test"]["loss"] > 0


AVERAGED = ("scheduler=cosine", "callbacks=weight_average", "optimizer=adamw")


@pytest.mark.parametrize("features", ["cached", "live"])
def test_schedule_and_average_without_val(
    features: str, tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    train(tiny_config(*AVERAGED, f"features={features}", "data.split.val=0"))
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 2
    assert checkpoint["weight_average"]["count"] > 0
    assert checkpoint["lr_schedulers"][0]["_last_lr"][0] < 1e-4
    assert all(name.startswith("head.") for name in checkpoint["state_dict"])
    assert_predicts_as_tested(tmp_path / "run", tiny_csv[1])


def test_the_average_is_chosen_on_val_and_tested(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    results = train(tiny_config(*AVERAGED, "callbacks.weight_average.share=1", "trainer.max_epochs=4"))
    epochs = pd.read_csv(tmp_path / "run" / "epochs.csv")
    assert results["val"]["map"] == pytest.approx(epochs["val/map"].max(), abs=1e-6)
    assert_predicts_as_tested(tmp_path / "run", tiny_csv[1])


def test_two_views_are_averaged_alike_in_all_ways_to_scores(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    """Val and test of the run, prediction from files, evaluation from the store, and a live backbone."""
    overrides = (
        "features.views=2",
        "trainer.max_epochs=2",
        "features.dtype=float32",
        "head.standardize=true",
    )
    train(tiny_config(*overrides))
    folder, images = tmp_path / "run", tiny_csv[1]
    assert_predicts_as_tested(folder, images)
    tested = Predictions.read_parquet(folder / "predictions" / "test.parquet")
    classifier = Classifier.load(folder, device="cpu")
    pixels = torch.stack(
        [
            torch.from_numpy(classifier.backbone.transform(open_image(images / name)))
            for name in tested.file_names
        ]
    )
    head = make_head(classifier.saved, classifier.backbone.feature_shape)
    with torch.no_grad():
        logits = (head(classifier.backbone(pixels)) + head(classifier.backbone(pixels.flip(-1)))) / 2
        one_view = head(classifier.backbone(pixels))
    np.testing.assert_allclose(tested.scores, torch.sigmoid(logits), atol=1e-4)
    assert np.abs(tested.scores - torch.sigmoid(one_view).numpy()).max() > 1e-3
    labelled = read_labelled_set(classifier.saved, None, "test")
    evaluated = evaluate_run(classifier, labelled, num_workers=0)
    np.testing.assert_array_equal(evaluated.predictions.scores, tested.scores)


def test_a_live_backbone_sees_the_mirror_image_too(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    train(tiny_config("features=live", "features.views=2", "trainer.max_epochs=1"))
    one = train(tiny_config("features=live", "trainer.max_epochs=1", output=tmp_path / "one"))
    assert_predicts_as_tested(tmp_path / "run", tiny_csv[1])
    tested = Predictions.read_parquet(tmp_path / "run" / "predictions" / "test.parquet")
    plain = Predictions.read_parquet(tmp_path / "one" / "predictions" / "test.parquet")
    assert np.abs(tested.scores - plain.scores).max() > 1e-4
    assert one["test"]["map"] > 0
