"""Whole runs on several tiny random networks; two of them are the same one at two sizes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from omegaconf import DictConfig

from mlic.config import compose
from mlic.errors import InputError
from mlic.inference import Classifier
from mlic.inference.evaluating import evaluate_run
from mlic.inference.labelled import read_labelled_set
from mlic.models import EnsembleBackbone
from mlic.report.extras import draw_maps
from mlic.report.reading import read_run
from mlic.report.run_tables import model_table, settings_table
from mlic.train import train
from mlic.training.run import extract

MakeConfig = Callable[..., DictConfig]
RUN = (
    "data=csv", "data.split.test=0.2", "data.split.val=0.2", "data.num_workers=0", "data.batch_size=8",
    "model.backbone.precision=float32", "model.recipe.hidden=[16]", "trainer=cpu", "trainer.max_epochs=2",
)  # fmt: skip
LEFT = {"network": "test_efficientnet", "options": ("image_size: 64", "pool: avgmax")}
LARGE = {"network": "test_efficientnet", "options": ("image_size: 96",)}
OTHER = {"network": "test_resnet", "options": ("image_size: 64", "pool: flatten")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Network -> file of random weights."""
    torch.manual_seed(0)
    folder, files = tmp_path_factory.mktemp("weights"), {}
    for name in ("test_efficientnet", "test_resnet"):
        files[name] = folder / f"{name}.pt"
        torch.save(timm.create_model(name).state_dict(), files[name])
    return files


@pytest.fixture
def make_config(tiny_csv: tuple[Path, Path], weights: dict[str, Path], tmp_path: Path) -> MakeConfig:
    """(members, overrides) -> config of a run on them, or on one alone; they share their stores."""

    def make(members: tuple[dict, ...], *overrides: str, output: Path = tmp_path / "run") -> DictConfig:
        settings = [
            [f"name: {member['network']}", f"weights: '{weights[member['network']]}'", *member["options"]]
            for member in members
        ]
        if len(members) == 1:
            lines = [line.split(": ") for line in settings[0]]
            chosen = ["model=timm", *(f"model.backbone.{key}={value}" for key, value in lines)]
        else:
            listing = ", ".join("{" + ", ".join(lines) + "}" for lines in settings)
            chosen = ["model=ensemble", f"model.backbone.members=[{listing}]"]
        live = any(item.startswith("features=") for item in overrides)
        stores = [] if live else [f"features.dir={tmp_path / 'store'}", "features.num_workers=0"]
        places = (f"data.annotations={tiny_csv[0]}", f"data.images={tiny_csv[1]}")
        return compose(*RUN, *places, *chosen, *stores, *overrides, output=output)

    return make


@pytest.mark.slow
def test_stores_are_shared_with_runs_on_one_backbone(make_config: MakeConfig):
    def rows(*members: dict) -> tuple[int, int]:
        result = extract(make_config(members))
        return result.found, result.computed

    assert rows(LEFT) == (0, 60)
    assert rows(LEFT, LARGE, OTHER) == (60, 120)
    assert rows(OTHER, LEFT, LARGE) == (180, 0)
    assert rows(LARGE) == rows(OTHER) == (60, 0)


@pytest.mark.slow
@pytest.mark.parametrize("mirror", ["false", "true"])
def test_a_cached_run_is_predicted_and_evaluated_as_tested(
    make_config: MakeConfig, predicts_as_tested: Callable[..., Classifier], tmp_path: Path, mirror: str
):
    members = (LEFT, LARGE, OTHER)
    results = train(make_config(members, f"model.backbone.mirror={mirror}", "head.standardize=true"))
    folder = tmp_path / "run"
    classifier = predicts_as_tested(folder)
    evaluated = evaluate_run(
        classifier, read_labelled_set(classifier.saved, None, "test"), name="test", num_workers=0
    )
    assert evaluated.metrics == {key: results[key] for key in ("test", "test_calibrated")}
    content = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert all(name.startswith("head.") for name in content["state_dict"])
    noted = content["mlic"]["members"]
    assert [(item["network"], item["pool"]) for item in noted] == [
        ("test_efficientnet", "avgmax"), ("test_efficientnet", "avg"), ("test_resnet", "flatten"),
    ]  # fmt: skip
    assert noted[0]["weights"] == noted[1]["weights"] != noted[2]["weights"]
    assert isinstance(classifier.backbone, EnsembleBackbone)
    assert classifier.backbone.provenance["members"] == noted


@pytest.mark.slow
def test_a_comparison_tells_of_the_members(make_config: MakeConfig, tmp_path: Path):
    train(make_config((LEFT, LARGE), "trainer.max_epochs=1", "features.memory_gb=1e-9"))
    run = read_run(tmp_path / "run")
    sizes, chosen = model_table([run]).frame.loc[0], settings_table([run]).frame.loc[0]
    assert sizes["weights_tag"] == chosen["network"] == "test_efficientnet + test_efficientnet"
    assert (chosen["license"], chosen["pool"]) == ("apache-2.0", "avgmax + avg")
    assert sizes["image_size"] == "64 + 96"
    backbone = Classifier.load(tmp_path / "run", device="cpu").backbone
    assert sizes["backbone_parameters"] == backbone.num_parameters
    assert sizes["feature_size"] == backbone.feature_shape[0]
    assert sizes["precision"] == "float32"
    assert json.loads((tmp_path / "run" / "model.json").read_text())["name"] == "ensemble"
    assert draw_maps(run, []) == {}
    assert any("no activation maps: " in note for note in run.notes)


@pytest.mark.slow
def test_other_weights_of_one_member_are_refused(
    make_config: MakeConfig, weights: dict[str, Path], tmp_path: Path
):
    own = tmp_path / "own.pt"
    shutil.copy(weights["test_resnet"], own)
    config = make_config((LEFT, OTHER), "trainer.max_epochs=1")
    config.model.backbone.members[1].weights = str(own)
    train(config)
    torch.save(timm.create_model("test_resnet").state_dict(), own)
    with pytest.raises(InputError, match=r"features of other weights of test_efficientnet \+ test_resnet"):
        Classifier.load(tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match=r"model\.backbone\.weights: expected a list of 2 files"):
        Classifier.load(tmp_path / "run", device="cpu", weights=weights["test_resnet"])
    loaded = Classifier.load(
        tmp_path / "run", device="cpu", weights=[None, weights["test_resnet"]], precision="bfloat16"
    )
    assert loaded.backbone.precision == "bfloat16"


def test_heads_on_maps_are_refused(make_config: MakeConfig):
    with pytest.raises(InputError, match="pool=none keeps feature maps"):
        train(make_config((LARGE, LARGE), "head=csra"))
