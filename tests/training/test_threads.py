"""How many threads a head is trained on."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from mlic.models import DenseHead, MultiLabelClassifier, WeightedBCE
from mlic.train import train
from mlic.training.threads import head_threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def eight_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


def a_model(num_features: int, backbone: Any = None) -> MultiLabelClassifier:
    return MultiLabelClassifier(
        head=DenseHead((num_features,), 4, hidden=[256], dropout=0.5),
        loss=WeightedBCE(torch.ones(4).numpy()),
        optimizer=torch.optim.Adam,
        classes=list("abcd"),
        backbone=backbone,
    )


@pytest.mark.parametrize(
    ("num_features", "batch_size", "expected"),
    # 256 x features x images a step, in units of 32 million
    [(1280, 32, 1), (1280, 128, 1), (8192, 32, 2), (25088, 32, 6), (25088, 128, 8)],
)
def test_threads_grow_with_the_work_of_a_step(num_features: int, batch_size: int, expected: int):
    with head_threads(a_model(num_features), (num_features,), batch_size, CPU):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 8


def test_a_head_on_maps_works_at_each_place():
    with head_threads(a_model(1280), (1280, 7, 7), 32, CPU):
        assert torch.get_num_threads() == 8


def test_a_number_that_was_set_is_never_exceeded():
    torch.set_num_threads(2)
    with head_threads(a_model(25088), (25088,), 128, CPU):
        assert torch.get_num_threads() == 2


def test_threads_are_given_back_after_an_error():
    with pytest.raises(KeyError), head_threads(a_model(1280), (1280,), 32, CPU):
        raise KeyError
    assert torch.get_num_threads() == 8


@pytest.mark.parametrize("device", [CPU, torch.device("cuda")])
def test_a_live_backbone_and_an_accelerator_keep_all(device: torch.device):
    backbone = nn.Identity() if device == CPU else None
    with head_threads(a_model(1280, backbone), (1280,), 32, device):
        assert torch.get_num_threads() == 8


@pytest.mark.parametrize(("features", "expected"), [("cached", {1}), ("live", {8})])
def test_a_run_trains_on_them(
    features: str, expected: set[int], tiny_config: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
):
    seen = set()
    fit = L.Trainer.fit

    def fit_and_look(*arguments: object, **options: object) -> None:
        seen.add(torch.get_num_threads())
        fit(*arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(L.Trainer, "fit", fit_and_look)
    train(tiny_config(f"features={features}", "trainer.max_epochs=1"))
    assert seen == expected
    assert torch.get_num_threads() == 8
