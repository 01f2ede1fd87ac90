"""How many threads a head is trained on."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig

from mlic.models import DenseHead, MultiLabelClassifier, WeightedBCE
from mlic.train import train
from mlic.training.devices import head_threads

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
    ("shape", "batch_size", "expected"),
    # 256 x features x images a step, in units of 32 million; a head on maps works at each place
    [
        ((1280,), 32, 1), ((1280,), 128, 1), ((8192,), 32, 2), ((25088,), 32, 6), ((25088,), 128, 8),
        ((1280, 7, 7), 32, 8),
    ],
)  # fmt: skip
def test_threads_grow_with_the_work_of_a_step(shape: tuple[int, ...], batch_size: int, expected: int):
    with head_threads(a_model(shape[0]), shape, batch_size, CPU):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 8
    torch.set_num_threads(2)
    with suppress(KeyError), head_threads(a_model(shape[0]), shape, batch_size, CPU):
        inside = torch.get_num_threads()
        raise KeyError
    assert inside <= 2 == torch.get_num_threads()  # a number that was set is never exceeded


def test_a_run_on_cached_features_trains_on_them(
    tiny_config: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
):
    seen, fit = set(), L.Trainer.fit

    def fit_and_look(*arguments: object, **options: object) -> None:
        seen.add(torch.get_num_threads())
        fit(*arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(L.Trainer, "fit", fit_and_look)
    train(tiny_config("trainer.max_epochs=1"))
    assert seen == {1} and torch.get_num_threads() == 8
