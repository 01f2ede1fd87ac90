from typing import Any

import pytest
import timm
import torch

from mlic.models import FrozenBackbone
from mlic.models.unfreezing import network_stages

TINY = "test_efficientnet"


def make(**options: Any) -> FrozenBackbone:
    torch.manual_seed(0)
    return FrozenBackbone(TINY, pretrained=False, **options)


def images(backbone: FrozenBackbone) -> torch.Tensor:
    size = backbone.image_size
    return torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "last"),
    [(TINY, {"blocks.4", "conv_head", "bn2"}), ("resnetv2_50", {"stages.3", "norm"})],
)
def test_stages_hold_each_parameter_once_and_end_with_the_last_layers(name: str, last: set[str]):
    network = timm.create_model(name, pretrained=False, num_classes=0)
    stages = network_stages(network)
    names = [parameter for stage in stages for parameter in stage]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    assert {prefix for prefix in last if any(item.startswith(prefix) for item in stages[-1])} == last
    assert not any(item.startswith(tuple(last)) for stage in stages[:-1] for item in stage)
    assert len(stages) >= 4


@pytest.mark.parametrize("unfreeze", [0, 1, "all"])
def test_exactly_the_last_stages_take_gradients(unfreeze: int | str):
    backbone = make(unfreeze=unfreeze)
    stages = network_stages(backbone.network)
    number = len(stages) if unfreeze == "all" else int(unfreeze)
    expected = {f"network.{name}" for stage in stages[len(stages) - number :] for name in stage}
    assert backbone.trained_names == expected
    features = backbone.train()(images(backbone))
    assert features.requires_grad == (number > 0)
    if number:
        features.sum().backward()
    with_gradient = {name for name, weight in backbone.named_parameters() if weight.grad is not None}
    assert with_gradient == expected
    with torch.no_grad():
        assert not backbone(images(backbone)).requires_grad


def test_the_trained_stages_have_a_learning_rate_and_batch_norm_keeps_its_statistics():
    backbone = make(unfreeze=3, learning_rate=0.1).train().optimize_for(torch.device("cpu"))
    groups = backbone.parameter_groups()
    assert [group["lr"] for group in groups] == [0.1] * 3
    trained = {id(weight) for weight in backbone.parameters() if weight.requires_grad}
    assert {id(weight) for group in groups for weight in group["params"]} == trained
    assert all(weight.dtype == torch.float32 for weight in backbone.parameters())
    before = {name: buffer.clone() for name, buffer in backbone.network.named_buffers()}
    backbone(images(backbone))
    assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.network.named_buffers())
