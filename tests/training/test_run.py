import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from omegaconf import DictConfig
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions
from mlic.models.backbone import FrozenBackbone, digest_of
from mlic.train import train
from mlic.training.run import run

MakeConfig = Callable[..., DictConfig]


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_run_leaves_the_whole_folder(tiny_config: MakeConfig, tmp_path: Path):
    results = train(tiny_config())
    folder = tmp_path / "run"
    assert set(results) == {"train", "val", "test", "test_calibrated"}
    assert read_json(folder / "metrics.json") == results
    assert read_json(folder / "status.json")["state"] == "finished"
    assert set(read_json(folder / "status.json")["seconds"]) == {
        "backbone",
        "data",
        "features",
        "records",
        "fit",
        "test",
    }
    dataset = read_json(folder / "dataset.json")
    assert dataset["classes"] == ["circle", "cross", "square", "triangle"]
    split = pd.read_csv(folder / "split.csv")
    assert split["split"].value_counts().to_dict() == dataset["images"]
    assert sum(dataset["images"].values()) == 60
    epochs = pd.read_csv(folder / "epochs.csv")
    assert epochs["epoch"].tolist() == [0, 1, 2]
    assert {"train/loss", "train/map", "val/loss", "val/map", "val/auc_macro"} <= set(epochs.columns)
    assert not epochs.isna().any().any()
    for figure in ("labels", "samples"):
        with Image.open(folder / "figures" / f"{figure}.png") as image:
            assert image.width > 300


def test_figures_are_those_of_scikit_learn_on_the_saved_predictions(tiny_config: MakeConfig, tmp_path: Path):
    results = train(tiny_config())
    for part in ("val", "test"):
        saved = Predictions.read_parquet(tmp_path / "run" / "predictions" / f"{part}.parquet")
        average_precisions = [
            average_precision_score(saved.targets[:, column], saved.scores[:, column]) for column in range(4)
        ]
        assert results[part]["map"] == pytest.approx(np.mean(average_precisions), abs=1e-6)
        assert results[part]["auc_macro"] == pytest.approx(
            roc_auc_score(saved.targets, saved.scores), abs=1e-6
        )
    split = pd.read_csv(tmp_path / "run" / "split.csv")
    assert saved.file_names.tolist() == split.loc[split["split"] == "test", "file_name"].tolist()


def test_epochs_and_final_metrics_stand_in_tensorboard(tiny_config: MakeConfig, tmp_path: Path):
    results = train(tiny_config())
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    epochs = pd.read_csv(tmp_path / "run" / "epochs.csv")
    logged = [event.value for event in events.Scalars("val/map")]
    np.testing.assert_allclose(logged, epochs["val/map"], rtol=1e-5)
    assert events.Scalars("final/test_map")[0].value == pytest.approx(results["test"]["map"], rel=1e-5)
    assert "hp_metric" not in events.Tags()["scalars"]
    for name in ("labels", "samples"):
        shown = events.Images(f"data/{name}")[0]
        with Image.open(io.BytesIO(shown.encoded_image_string)) as image:
            assert image == Image.open(tmp_path / "run" / "figures" / f"{name}.png")


def test_checkpoint_is_safe_small_and_without_the_backbone(tiny_config: MakeConfig, tmp_path: Path):
    train(tiny_config())
    for name in ("best", "last"):
        checkpoint = torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert all(key.startswith("head.") for key in checkpoint["state_dict"])
        assert checkpoint["mlic"]["classes"] == ["circle", "cross", "square", "triangle"]
        assert len(checkpoint["mlic"]["weights_digest"]) == 64
        assert (
            checkpoint["mlic"]["split_hash"] == read_json(tmp_path / "run" / "dataset.json")["split"]["hash"]
        )
        assert checkpoint["optimizer_states"]


def test_the_best_epoch_on_val_is_the_one_tested(tiny_config: MakeConfig, tmp_path: Path):
    results = train(tiny_config("trainer.max_epochs=6", "optimizer.lr=0.05"))
    epochs = pd.read_csv(tmp_path / "run" / "epochs.csv")
    assert results["val"]["map"] == pytest.approx(epochs["val/map"].max(), abs=1e-6)


def test_without_val_the_last_epoch_is_tested(tiny_config: MakeConfig, tmp_path: Path):
    results = train(tiny_config("data.split.val=0"))
    assert set(results) == {"train", "test"}
    best, last = (
        torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for name in ("best", "last")
    )
    assert best["epoch"] == last["epoch"] == 2
    assert not any(column.startswith("val/") for column in pd.read_csv(tmp_path / "run" / "epochs.csv"))


def test_early_stopping_without_val_is_refused(tiny_config: MakeConfig):
    with pytest.raises(InputError, match=r"early_stopping watches the val part, and data\.split\.val is 0"):
        train(tiny_config("data.split.val=0", "callbacks=early_stopping"))


def test_same_seed_same_weights_other_seed_others(tiny_config: MakeConfig, tmp_path: Path):
    def weights(name: str, *overrides: str) -> dict[str, torch.Tensor]:
        train(tiny_config(*overrides, output=tmp_path / name))
        return torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    first, again, other = weights("a"), weights("b"), weights("c", "seed=1")
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_live_training_gives_the_figures_of_cached_training(tiny_config: MakeConfig, tmp_path: Path):
    cached = train(tiny_config("features.dtype=float32"))
    live = train(tiny_config("features=live", output=tmp_path / "live"))
    for part, metrics in cached.items():
        for name, value in metrics.items():
            if isinstance(value, float):
                assert live[part][name] == pytest.approx(value, abs=1e-3), (part, name)


def test_the_frozen_backbone_is_byte_identical_after_live_training(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    kept: list[tuple[FrozenBackbone, str]] = []
    original = FrozenBackbone.optimize_for

    def keep(self: FrozenBackbone, device: torch.device) -> FrozenBackbone:
        kept.append((original(self, device), digest_of(self.network)))
        return self

    monkeypatch.setattr(FrozenBackbone, "optimize_for", keep)
    train(tiny_config("features=live"))
    (backbone, before), *_ = kept
    assert any(name.endswith("running_mean") for name, _ in backbone.network.named_buffers())
    assert digest_of(backbone.network) == before
    assert not any(module.training for module in backbone.modules())


def test_a_loss_that_diverges_stops_with_the_images_of_the_batch(tiny_config: MakeConfig, tmp_path: Path):
    with pytest.raises(
        InputError, match=r"the loss became (nan|inf) in epoch \d.*shapes_\d\d\.jpg.*optimizer\.lr"
    ):
        train(tiny_config("optimizer.lr=1e30", "loss.pos_weight=1e30"))
    status = read_json(tmp_path / "run" / "status.json")
    assert status["state"] == "failed"
    assert "the loss became" in status["error"]["message"]
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_bad_images_are_all_named_or_left_out_before_the_split(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    images = tiny_csv[1]
    broken = tmp_path / "images"
    broken.mkdir()
    for path in images.iterdir():
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
    train(tiny_config(place, "data.on_bad_image=drop"))
    names = pd.read_csv(tmp_path / "run" / "split.csv")["file_name"]
    assert len(names) == 57
    assert not set(names) & {"shapes_03.jpg", "shapes_07.jpg", "shapes_11.jpg"}
    assert len(read_json(tmp_path / "run" / "dataset.json")["bad_images"]) == 3


def test_scores_are_not_rounded_by_mixed_precision(tiny_config: MakeConfig, tmp_path: Path):
    train(tiny_config("trainer.precision=bf16-mixed"))
    saved = Predictions.read_parquet(tmp_path / "run" / "predictions" / "test.parquet")
    logits = torch.logit(torch.from_numpy(saved.scores).double())
    rounded = logits.bfloat16().double()
    assert ((logits - rounded).abs() > 1e-4 * logits.abs()).float().mean() > 0.5


def test_the_other_loggers_and_losses_run(tiny_config: MakeConfig, tmp_path: Path):
    results = run(
        tiny_config("logger=csv", "loss.pos_weight=2", "optimizer=adamw", "data.class_weights.scheme=none")
    )
    assert results["test"]["loss"] > 0
    assert (tmp_path / "run" / "csv" / "metrics.csv").is_file()
    settings = yaml.safe_load((tmp_path / "run" / "csv" / "hparams.yaml").read_text())
    assert settings["loss.pos_weight"] == 2
    assert settings["data.class_weights.scheme"] == "none"
    assert set(read_json(tmp_path / "run" / "dataset.json")["class_weights"].values()) == {1.0}
