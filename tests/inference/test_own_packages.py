"""A head and a loss of the user's own package, in every command; never on a checkpoint's word."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from mlic.compare import compare
from mlic.config import compose
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.inference import Classifier
from mlic.predict import predict

SOURCE = """
from torch import nn


class Head(nn.Sequential):
    def __init__(self, feature_shape, num_classes, width=4):
        super().__init__(nn.Linear(feature_shape[0], width), nn.Linear(width, num_classes))


class Loss(nn.Module):
    def __init__(self, class_weights):
        super().__init__()

    def forward(self, logits, targets):
        return nn.functional.binary_cross_entropy_with_logits(logits, targets)
"""
OWN = (
    "~head", "+head={_target_: own_parts.Head, _partial_: true, width: 3}",
    "~loss", "+loss={_target_: own_parts.Loss, _partial_: true}", "trainer.max_epochs=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def own_run(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "own_parts.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield make_run(*OWN)
    sys.modules.pop("own_parts", None)


def test_predict_and_evaluate_take_the_package_by_name(
    own_run: Path, command_config: Callable[..., DictConfig], tiny_images: Path, tmp_path: Path
):
    def predicted(*given: str) -> dict:
        options = (f"images={tiny_images}/shapes_00.jpg", *given)
        return predict(command_config("predict", *options, output=tmp_path / "p.csv", run=own_run))

    def evaluated(*given: str) -> dict:
        return evaluate(command_config("evaluate", "part=test", *given, output=tmp_path / "out", run=own_run))

    refused = r"uses 'own_parts\.Head'.* classes of mlic\.models .*packages=\[own_parts\]"
    for command in (predicted, evaluated):
        with pytest.raises(InputError, match=refused):
            command()
    assert predicted("packages=[own_parts]") == {}
    assert len(pd.read_csv(tmp_path / "p.csv")) == 1
    trained = pd.read_json(own_run / "metrics.json")["test"]["loss"]
    assert evaluated("packages=own_parts")["test"]["loss"] == pytest.approx(trained)


@pytest.mark.usefixtures("without_figures")
def test_compare_draws_activation_maps(own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = (f"runs='{own_run}'", "activation_maps=true", "resamples=10", "gallery_images=1")
    for given, drawn in (("packages=[]", False), ("packages=[own_parts]", True)):
        page = compare(compose(*options, given, output=tmp_path / str(drawn), config_name="compare"))
        assert ("no activation maps" not in page.read_text()) == drawn


def test_a_run_starts_from_another(own_run: Path, make_run: Callable[..., Path]):
    begun = make_run(*OWN, f"init_from='{own_run}'", "packages=[own_parts]", "optimizer.lr=0")
    first, second = (
        torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for run in (own_run, begun)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_checkpoint_allows_nothing_by_itself(own_run: Path, tmp_path: Path):
    content = torch.load(own_run / "checkpoints" / "best.ckpt", weights_only=True)
    for config in (content["hyper_parameters"]["config"], content["mlic"]["config"]):
        config["packages"] = ["own_parts"]
    torch.save(content, tmp_path / "given.ckpt")
    with pytest.raises(InputError, match=r"packages=\[own_parts\]"):
        Classifier.load(tmp_path / "given.ckpt", device="cpu")
