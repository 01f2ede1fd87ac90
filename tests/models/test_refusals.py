"""Settings that no network, head, loss or schedule can have are refused by their key."""

from functools import partial
from typing import Any

import pytest
import torch

from mlic.errors import InputError
from mlic.models import (
    AsymmetricLoss,
    AttentionHead,
    BlendHead,
    CSRAHead,
    DenseHead,
    EnsembleBackbone,
    FrozenBackbone,
    NearestHead,
    RidgeHead,
    WeightedBCE,
    cosine_with_warmup,
)
from mlic.models.weights import load_network

TINY = "test_efficientnet"
MAP, VECTOR, WEIGHTS = (6, 3, 4), (1280,), (0.5, 1.0)
BACKBONE = partial(FrozenBackbone, TINY, pretrained=False)
SCHEDULE = partial(cosine_with_warmup, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0))


def ensemble(members: Any, **options: Any) -> EnsembleBackbone:
    return EnsembleBackbone(members, pretrained=False, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BACKBONE(crop_pct=1.5), r"model\.backbone\.crop_pct"),
        (lambda: BACKBONE(crop_mode="sqash"), "crop_mode: must be one of center, squash, border"),
        (lambda: BACKBONE(pool="mean"), r"must be one of auto, cls"),
        (lambda: BACKBONE(precision="half").optimize_for(torch.device("cpu")), "must be one of auto, float32"),
        (lambda: BACKBONE(unfreeze=99), r"model\.backbone\.unfreeze"),
        (lambda: BACKBONE(unfreeze="some"), "unfreeze"),
        (lambda: BACKBONE(unfreeze=1, precision="bfloat16"), r"precision=bfloat16: .* trainer\.precision=bf16-mixed"),
        (lambda: load_network("resnetv2_15"), r"has no network 'resnetv2_15'.*Similar names: .*resnet"),
        (lambda: load_network(TINY, weights="no.safetensors"), r"'.*no.safetensors' does not exist"),
        (lambda: DenseHead(MAP, 5, hidden_dropout=1.0), "head.hidden_dropout"),
        (lambda: DenseHead(MAP, 5, hidden=[0]), "width"),
        (lambda: CSRAHead(VECTOR, 5), r"head=csra .*shape \(1280,\).*model\.backbone\.pool=none"),
        (lambda: AttentionHead(MAP, 5, width=10, num_heads=4), "head.num_heads"),
        (lambda: RidgeHead(VECTOR, 2, power=0), r"head\.power=0: expected a number above 0"),
        (lambda: RidgeHead(VECTOR, 2, penalties=[1, -1]), r"head\.penalties"),
        (lambda: RidgeHead(VECTOR, 2, penalties=float("nan")), r"head\.penalties"),
        (lambda: BlendHead(VECTOR, 2, weight=2), r"head\.weight=2"),
        (lambda: NearestHead(VECTOR, 2, neighbours=[2.5]), r"head\.neighbours=.*whole numbers above 0"),  # pyright: ignore[reportArgumentType]
        (lambda: WeightedBCE(WEIGHTS, label_smoothing=1.5), r"loss\.label_smoothing"),
        (lambda: AsymmetricLoss(WEIGHTS, clip=1), r"loss\.clip"),
        (lambda: SCHEDULE(total_steps=10, warmup=1.0), r"scheduler\.warmup=1.0"),
        (lambda: SCHEDULE(total_steps=float("inf")), r"set trainer\.max_epochs"),  # pyright: ignore[reportArgumentType]
        (lambda: ensemble([]), r"model\.backbone\.members: the list is empty"),
        (lambda: ensemble([{"name": TINY}, "vgg16"]), r"members\.1=vgg16: .* Expected a list such as \[\{name"),
        (lambda: ensemble([{"name": TINY, "pols": 1}]), r"members\.0=.*: got an unexpected keyword argument 'pols'"),
        (lambda: ensemble([{"name": TINY, "pool": "none"}]), r"members\.0\.pool=none keeps feature maps"),
        (lambda: ensemble([{"name": TINY}], unfreeze="all"), r"members\.0\.unfreeze=all: the backbones"),
        (lambda: ensemble([{"name": "no_such_net"}]), r"members\.0: model\.backbone\.name: timm .* 'no_such_net'"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(make: Any, message: str):
    with pytest.raises(InputError, match=message):
        make()
