"""One test for each row of the table of bad input: the error, its message, and that nothing there was lost."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file

from mlic.errors import InputError
from mlic.inference import Classifier
from mlic.train import train

MakeConfig = Callable[..., DictConfig]


def test_images_that_cannot_be_used(tiny_config: MakeConfig, tiny_images: Path, tmp_path: Path):
    images = Path(shutil.copytree(tiny_images, tmp_path / "images"))
    whole = (tiny_images / "shapes_05.jpg").read_bytes()
    (images / "shapes_01.jpg").unlink()
    (images / "shapes_02.jpg").write_bytes(b"")
    (images / "shapes_03.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "shapes_04.jpg").write_bytes(b"<html>404</html>")
    (images / "shapes_06.jpg").unlink()
    (images / "shapes_06.jpg").mkdir()
    (images / "shapes_07.jpg").write_bytes(b"P6 60000 60000 255\n")
    with pytest.raises(InputError, match=r"6 images cannot be used:\n") as refusal:
        train(tiny_config(f"data.images={images}"))
    for name, reason in (
        ("01", "no such file"), ("02", "empty (0 bytes)"), ("03", "truncated"), ("04", "not an image in"),
        ("06", "not a regular file"), ("07", "more pixels than the limit"),
    ):  # fmt: skip
        assert any(name in line and reason in line for line in str(refusal.value).splitlines()), name
    assert "data.on_bad_image=drop" in str(refusal.value)
    assert not list((tmp_path / "store").glob("*/*.safetensors"))
    assert not (tmp_path / "run" / "checkpoints").exists()
    train(tiny_config(f"data.images={images}", "data.on_bad_image=drop"))
    bad = {f"shapes_{number:02d}.jpg" for number in (1, 2, 3, 4, 6, 7)}
    dropped = json.loads((tmp_path / "run" / "dataset.json").read_text())["bad_images"]
    assert {Path(name).name for name in dropped} == bad
    assert not bad & set(pd.read_csv(tmp_path / "run" / "split.csv")["file_name"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the small network."""
    from mlic.models.weights import load_network

    torch.manual_seed(3)
    file = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(load_network("test_efficientnet", pretrained=False).state_dict(), file)
    return file


def test_checkpoints_and_stores_of_others(
    tiny_config: MakeConfig, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with_file = ("model.backbone.pretrained=true", f"model.backbone.weights={weights}")
    run = tmp_path / "first"
    train(tiny_config(*with_file, output=run))
    other = tmp_path / "other.safetensors"
    state = load_file(weights)
    save_file(
        {name: value * 1.5 if value.is_floating_point() else value for name, value in state.items()}, other
    )
    with pytest.raises(
        InputError, match=r"trained on features of weights \w{12}\.\.\., but those of .* here are \w{12}"
    ):
        Classifier.load(run, weights=other)
    with pytest.raises(
        InputError, match=r"init_from: .* was trained on weights \w{12}\.\.\., those of this run are \w{12}"
    ):
        train(tiny_config(*with_file[:1], f"model.backbone.weights={other}", f"init_from={run}"))
    with pytest.raises(
        InputError, match=r"init_from: .* has 4 classes, this run has 1; in only one of them: circle"
    ):
        train(tiny_config(*with_file, f"init_from={run}", "data.min_images_per_class=19"))
    # a shard put into the store of other weights
    shards = sorted((tmp_path / "store").glob("*/*.safetensors"))
    stores = {path.parent for path in shards}
    assert len(stores) == 2
    first, second = sorted(stores)
    foreign = second / "foreign.safetensors"
    foreign.write_bytes(next(first.glob("*.safetensors")).read_bytes())
    caplog.set_level(logging.WARNING)
    for chosen in (weights, other):
        train(tiny_config(*with_file[:1], f"model.backbone.weights={chosen}"))
    assert "foreign.safetensors' is not used" in caplog.text
