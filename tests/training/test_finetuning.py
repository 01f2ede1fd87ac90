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
MakeRun = Callable[..., Path]
UNFROZEN = ("features=live", "model.backbone.unfreeze=2", "model.backbone.learning_rate=0.01")
STANDARDIZED = "head.standardize=true"
ONE_EPOCH = "trainer.max_epochs=1"


@pytest.fixture(scope="module")
def first(make_run: MakeRun) -> Path:
    """A run on cached features, to start from; do not write to it."""
    return make_run(STANDARDIZED, "optimizer.lr=0.05")


@pytest.fixture(scope="module")
def tuned(make_run: MakeRun, first: Path) -> tuple[Path, FrozenBackbone, dict[str, torch.Tensor]]:
    """A run that starts from it and trains two stages, its backbone, and that backbone's state before training."""
    made: list[tuple[FrozenBackbone, dict[str, torch.Tensor]]] = []
    original = FrozenBackbone.optimize_for

    def keep(self: FrozenBackbone, device: torch.device) -> FrozenBackbone:
        result = original(self, device)
        made.append((result, {name: value.clone() for name, value in result.state_dict().items()}))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrozenBackbone, "optimize_for", keep)
        return (make_run(*UNFROZEN, STANDARDIZED, f"init_from='{first}'"), *made[0])


def saved(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)


def scores_of(folder: Path) -> np.ndarray:
    return Predictions.read_parquet(folder / "predictions" / "test.parquet").scores


def test_a_run_changes_exactly_the_unfrozen_stages(
    tuned: tuple[Path, FrozenBackbone, dict[str, torch.Tensor]], predicts_as_tested: Callable[..., Any]
):
    folder, backbone, before = tuned
    stages = network_stages(backbone.network)
    expected = {f"network.{name}" for stage in stages[-2:] for name in stage}
    changed = {name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == expected == backbone.trained_names
    checkpoint = saved(folder)
    stored = {name for name in checkpoint["state_dict"] if name.startswith("backbone.")}
    assert stored == {f"backbone.{name}" for name in expected}
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([0.001, 0.01, 0.01])
    predicts_as_tested(folder)


def test_a_run_starts_from_the_head_and_backbone_of_another(first: Path, tuned: Any, make_run: MakeRun):
    still = (*UNFROZEN[:2], STANDARDIZED, ONE_EPOCH, "optimizer.lr=0", "model.backbone.learning_rate=0")
    again = [make_run(*still, f"init_from='{start}'") for start in (first, tuned[0])]
    np.testing.assert_allclose(scores_of(again[0]), scores_of(first), atol=5e-3)
    np.testing.assert_allclose(scores_of(again[1]), scores_of(tuned[0]), atol=1e-5)
    assert np.abs(scores_of(first) - scores_of(tuned[0])).max() > 0.01


def test_augmented_training_varies_training_images_only(
    make_run: MakeRun, predicts_as_tested: Callable[..., Any]
):
    still = ("features=live", "optimizer.lr=0")
    plain, varied = make_run(*still), make_run(*still, "features.augment={scale: [0.3, 0.6], hflip: 0.5}")
    np.testing.assert_allclose(scores_of(varied), scores_of(plain), atol=1e-6)
    losses = [pd.read_csv(folder / "epochs.csv")["train/loss"].to_numpy() for folder in (plain, varied)]
    assert np.abs(losses[0] - losses[1]).max() > 1e-5
    predicts_as_tested(varied)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            (STANDARDIZED, "model.recipe.hidden=[8]"),
            r"the head of .* is different .*Set head and its options",
        ),
        (("data.min_images_per_class=20",), r".* has 4 classes, this run has \d; in only one of them"),
        (("seed=1",), r".* was trained on weights .*Choose the model of that run"),
        ((), r".* trained more of its backbone .*features=live and model\.backbone\.unfreeze"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(
    overrides: tuple[str, ...], message: str, first: Path, tuned: Any, tiny_config: MakeConfig
):
    start = first if overrides else tuned[0]
    with pytest.raises(InputError, match=f"init_from: {message}"):
        train(tiny_config(*overrides, f"init_from='{start}'"))


def test_a_start_that_has_seen_the_test_images_is_refused(
    make_run: MakeRun, tiny_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    start = make_run("data.split.seed=1", ONE_EPOCH)
    with pytest.raises(
        InputError,
        match=r"init_from: \d+ of the 12 test images of this run, such as shapes_\d\d\.jpg, are among the train",
    ):
        train(tiny_config(f"init_from='{start}'"))
    # the same test part, and more to train on
    second = make_run(ONE_EPOCH)
    train(tiny_config(ONE_EPOCH, "data.split.val=0", f"init_from='{second}'"))
    alone = Path(shutil.copy(start / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt"))
    with pytest.raises(InputError, match=r"are among the train and val images of '.*alone\.ckpt'"):
        train(tiny_config(f"init_from='{alone}'"))
    forget_seen(alone)
    train(tiny_config(ONE_EPOCH, f"init_from='{alone}'"))
    assert "did not record its training images" in caplog.text
    assert saved(tmp_path / "run")["mlic"]["seen"]["is_whole"] is False


def forget_seen(checkpoint: Path) -> None:
    """Make it one of a version that did not record the images that were seen."""
    content = torch.load(checkpoint, weights_only=True)
    del content["mlic"]["seen"]
    torch.save(content, checkpoint)


def test_a_run_carries_on_what_the_runs_it_comes_from_have_seen(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    """A -> B on other images -> C, tested on images of A."""
    rows = tiny_csv[0].read_text(encoding="utf-8").splitlines()
    on = {}
    for name, half in {"a": rows[1:31], "b": rows[31:]}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join([rows[0], *half]) + "\n", encoding="utf-8")
        on[name] = f"data.annotations='{tmp_path / name}.csv'"
    one = (ONE_EPOCH, "data.split.val=0", "data.split.on_missing=warn")
    train(tiny_config(*one, on["a"], output=tmp_path / "A"))
    train(tiny_config(*one, on["b"], f"init_from='{tmp_path / 'A'}'", output=tmp_path / "B"))
    of_b = f"init_from='{tmp_path / 'B'}'"
    with pytest.raises(InputError, match=r"test images of this run, .* or of a run that it started from"):
        train(tiny_config(*one, on["a"], of_b, "data.split.seed=1"))
    # tested on images that neither has trained on
    train(tiny_config(*one, on["a"], of_b, output=tmp_path / "C"))
    trained = [(pd.read_csv(tmp_path / name / "split.csv")["split"] == "train").sum() for name in "AB"]
    assert len(saved(tmp_path / "C")["mlic"]["seen"]["train"]) == sum(trained)
    table = read_csv(tmp_path / "a.csv", tiny_csv[1])
    counted = count_in_run(Classifier.load(tmp_path / "B", device="cpu"), table)
    assert counted == {"train": trained[0], "val": 0, "test": 0}


def test_a_start_is_read_before_anything_is_removed_or_computed(
    first: Path, tiny_config: MakeConfig, tmp_path: Path
):
    run = Path(shutil.copytree(first, tmp_path / "run"))
    for own in (run, run / "checkpoints" / "last.ckpt"):
        with pytest.raises(InputError, match=r"init_from: .* is in output, which is cleared"):
            train(tiny_config(f"init_from='{own}'"))
    assert (run / "checkpoints" / "best.ckpt").is_file()
    with pytest.raises(InputError, match="does not exist"):
        train(tiny_config(f"init_from='{tmp_path / 'absent'}'", output=tmp_path / "other"))
    assert not (tmp_path / "store").exists()
