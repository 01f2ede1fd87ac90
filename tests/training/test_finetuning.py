"""Training part of the backbone, and starting from another run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from mlic.data import read_csv
from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions
from mlic.inference import Classifier
from mlic.inference.evaluating import count_in_run
from mlic.models.backbone import FrozenBackbone
from mlic.models.unfreezing import network_stages
from mlic.train import train

MakeConfig = Callable[..., DictConfig]
UNFROZEN = ("features=live", "model.backbone.unfreeze=2", "model.backbone.learning_rate=0.01")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FrozenBackbone, dict[str, torch.Tensor]]]:
    """Each backbone that a run makes, with a copy of its state before training."""
    made: list[tuple[FrozenBackbone, dict[str, torch.Tensor]]] = []
    original = FrozenBackbone.optimize_for

    def keep(self: FrozenBackbone, device: torch.device) -> FrozenBackbone:
        result = original(self, device)
        made.append((result, {name: value.clone() for name, value in result.state_dict().items()}))
        return result

    monkeypatch.setattr(FrozenBackbone, "optimize_for", keep)
    return made


def saved(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)


def assert_predicts_as_tested(folder: Path, images: Path) -> None:
    tested = Predictions.read_parquet(folder / "predictions" / "test.parquet")
    found = Classifier.load(folder, device="cpu").predict(
        [images / name for name in tested.file_names], num_workers=0
    )
    scores = found[[f"score:{name}" for name in tested.classes]].to_numpy()
    np.testing.assert_allclose(scores, tested.scores, atol=1e-4)


def test_a_run_changes_exactly_the_unfrozen_stages(
    tiny_config: MakeConfig, kept: list, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    train(tiny_config(*UNFROZEN, "trainer.max_epochs=1"))
    (backbone, before), *_ = kept
    stages = network_stages(backbone.network)
    expected = {f"network.{name}" for stage in stages[-2:] for name in stage}
    changed = {name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == expected == backbone.trained_names
    checkpoint = saved(tmp_path / "run")
    stored = {name for name in checkpoint["state_dict"] if name.startswith("backbone.")}
    assert stored == {f"backbone.{name}" for name in expected}
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([0.001, 0.01, 0.01])
    assert_predicts_as_tested(tmp_path / "run", tiny_csv[1])


def test_cached_features_of_a_trained_backbone_are_refused(tiny_config: MakeConfig):
    with pytest.raises(InputError, match=r"model\.backbone\.unfreeze=2 trains .* needs features=live"):
        train(tiny_config("model.backbone.unfreeze=2"))


def test_augmented_training_varies_training_images_only(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    settings = ("trainer.max_epochs=2", "optimizer.lr=0")
    plain = train(tiny_config(*settings, "features=live", output=tmp_path / "plain"))
    varied = train(
        tiny_config(*settings, "features=live", "features.augment={scale: [0.3, 0.6], hflip: 0.5}")
    )
    epochs = {name: pd.read_csv(tmp_path / name / "epochs.csv") for name in ("plain", "run")}
    assert varied["test"]["loss"] == pytest.approx(plain["test"]["loss"], abs=1e-6)
    losses = [epochs[name]["train/loss"].to_numpy() for name in ("plain", "run")]
    assert np.abs(losses[0] - losses[1]).max() > 1e-5
    assert_predicts_as_tested(tmp_path / "run", tiny_csv[1])


def test_a_run_starts_from_the_head_and_backbone_of_another(tiny_config: MakeConfig, tmp_path: Path):
    train(tiny_config("head.standardize=true", "optimizer.lr=0.05", output=tmp_path / "first"))
    still = ("trainer.max_epochs=1", "optimizer.lr=0", "model.backbone.learning_rate=0")
    second = train(
        tiny_config(
            *UNFROZEN[:2],
            *still,
            "head.standardize=true",
            f"init_from='{tmp_path / 'first'}'",
            output=tmp_path / "b",
        )
    )
    scores = [
        Predictions.read_parquet(tmp_path / name / "predictions" / "test.parquet").scores
        for name in ("first", "b")
    ]
    np.testing.assert_allclose(scores[1], scores[0], atol=5e-3)
    tuned = train(
        tiny_config(
            *UNFROZEN, "head.standardize=true", f"init_from='{tmp_path / 'first'}'", output=tmp_path / "c"
        )
    )
    third = train(
        tiny_config(
            *UNFROZEN[:2],
            *still,
            "head.standardize=true",
            f"init_from='{tmp_path / 'c'}'",
            output=tmp_path / "d",
        )
    )
    assert third["test"]["loss"] == pytest.approx(tuned["test"]["loss"], abs=1e-5)
    assert second["test"]["loss"] != pytest.approx(tuned["test"]["loss"], abs=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("model.recipe.hidden=[8]",),
            r"init_from: the head of .* is another one .*Set head and its options",
        ),
        (
            ("data.min_images_per_class=20",),
            r"init_from: .* knows 4 classes, this run has \d; in one of them only",
        ),
        (("seed=1",), r"init_from: .* was trained on weights .*Choose the model of that run"),
        ((), r"init_from: .* trained more of its backbone .*features=live and model\.backbone\.unfreeze"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(
    overrides: tuple[str, ...], message: str, tiny_config: MakeConfig, tmp_path: Path
):
    first = UNFROZEN if not overrides else ()
    train(tiny_config(*first, "trainer.max_epochs=1", output=tmp_path / "first"))
    with pytest.raises(InputError, match=message):
        train(tiny_config(*overrides, f"init_from='{tmp_path / 'first'}'"))


def test_a_start_that_has_seen_the_test_images_is_refused(
    tiny_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    train(tiny_config("data.split.seed=1", "trainer.max_epochs=1", output=tmp_path / "first"))
    with pytest.raises(
        InputError,
        match=r"init_from: \d+ of the 12 test images of this run, such as shapes_\d\d\.jpg, are among the train",
    ):
        train(tiny_config(f"init_from='{tmp_path / 'first'}'"))
    # the same test part, and more to train on
    train(tiny_config("trainer.max_epochs=1", output=tmp_path / "second"))
    train(tiny_config("trainer.max_epochs=1", "data.split.val=0", f"init_from='{tmp_path / 'second'}'"))
    alone = Path(shutil.copy(tmp_path / "first" / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt"))
    with pytest.raises(InputError, match=r"are among the train and val images of '.*alone\.ckpt'"):
        train(tiny_config(f"init_from='{alone}'"))
    forget_seen(alone)
    train(tiny_config("trainer.max_epochs=1", f"init_from='{alone}'"))
    assert "does not tell on which images" in caplog.text
    assert saved(tmp_path / "run")["mlic"]["seen"]["is_whole"] is False


def forget_seen(checkpoint: Path) -> None:
    """Make it one of a version that did not record the images that were seen."""
    content = torch.load(checkpoint, weights_only=True)
    del content["mlic"]["seen"]
    torch.save(content, checkpoint)


def test_a_run_carries_on_what_the_runs_it_comes_from_have_seen(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    """A -> B on other images -> C, tested on images of A; A is of a version that recorded its split alone."""
    rows = tiny_csv[0].read_text(encoding="utf-8").splitlines()
    files = {"a": rows[1:31], "b": rows[31:]}
    for name, half in files.items():
        (tmp_path / f"{name}.csv").write_text("\n".join([rows[0], *half]) + "\n", encoding="utf-8")
    one = ("trainer.max_epochs=1", "data.split.val=0", "data.split.on_missing=warn")
    on = {name: f"data.annotations='{tmp_path / name}.csv'" for name in files}
    train(tiny_config(*one, on["a"], output=tmp_path / "A"))
    for checkpoint in (tmp_path / "A" / "checkpoints").iterdir():
        forget_seen(checkpoint)
    train(tiny_config(*one, on["b"], f"init_from='{tmp_path / 'A'}'", output=tmp_path / "B"))
    of_b = f"init_from='{tmp_path / 'B'}'"
    with pytest.raises(InputError, match=r"test images of this run, .* or of a run that it started from"):
        train(tiny_config(*one, on["a"], of_b, "data.split.seed=1"))
    train(
        tiny_config(*one, on["a"], of_b, output=tmp_path / "C")
    )  # tested on images that neither has trained on
    trained = [(pd.read_csv(tmp_path / name / "split.csv")["split"] == "train").sum() for name in "AB"]
    assert len(saved(tmp_path / "C")["mlic"]["seen"]["train"]) == sum(trained)
    counted = count_in_run(
        Classifier.load(tmp_path / "B", device="cpu"), read_csv(tmp_path / "a.csv", tiny_csv[1])
    )
    assert counted == {"train": trained[0], "val": 0, "test": 0}


def test_a_start_is_read_before_anything_is_removed_or_computed(tiny_config: MakeConfig, tmp_path: Path):
    train(tiny_config("trainer.max_epochs=1"))
    for own in (tmp_path / "run", tmp_path / "run" / "checkpoints" / "last.ckpt"):
        with pytest.raises(InputError, match=r"init_from: .* lies in output, which is emptied"):
            train(tiny_config(f"init_from='{own}'"))
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    (tmp_path / "store").rename(tmp_path / "taken_away")
    with pytest.raises(InputError, match="does not exist"):
        train(tiny_config(f"init_from='{tmp_path / 'absent'}'", output=tmp_path / "other"))
    assert not (tmp_path / "store").exists()
