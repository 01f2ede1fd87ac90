"""The average of the weights and the schedule through interruption and choice of checkpoint."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from mlic.data.sampling import EpochSeededSampler
from mlic.errors import InputError
from mlic.features.dataset import FeatureDataset, MemoryRows
from mlic.models import DenseHead, MultiLabelClassifier, WeightedBCE, cosine_with_warmup
from mlic.training import WeightAverage

EPOCHS = 6
STEPS = 5  # an epoch


class Recorder(L.Callback):
    """Keeps the running weights after each step, and those that are validated; may stop in an epoch."""

    def __init__(self, stop_in: int | None = None) -> None:
        self.stop_in = stop_in
        self.steps: list[Tensor] = []
        self.validated: list[Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.current_epoch == self.stop_in:
            raise RuntimeError("killed")
        self.steps.append(first_weight(pl_module))

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.validated.append(first_weight(pl_module))


def first_weight(module: Any) -> Tensor:
    return next(module.head.parameters()).detach().clone()


def make_model() -> MultiLabelClassifier:
    torch.manual_seed(0)
    return MultiLabelClassifier(
        DenseHead((6,), 3, hidden=[8], dropout=0.3),
        WeightedBCE([1.0, 1.0, 1.0]),
        partial(torch.optim.Adam, lr=0.01),
        ["a", "b", "c"],
        scheduler=partial(cosine_with_warmup, warmup=0.2),
    )


def loaders() -> tuple[DataLoader, DataLoader]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 2, (40, 3), generator=generator).float()
    dataset = FeatureDataset(MemoryRows(torch.randn(40, 6, generator=generator)), targets)
    sampler = EpochSeededSampler(range(40), seed=0)
    return DataLoader(dataset, 8, sampler=sampler, collate_fn=list), DataLoader(dataset, 40, collate_fn=list)


def fit(
    folder: Path, *callbacks: L.Callback, resume: bool = False, monitor: str | None = None
) -> MultiLabelClassifier:
    model = make_model()
    checkpoint = ModelCheckpoint(folder, filename="best", save_last=True, monitor=monitor, mode="max")
    trainer = L.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, callbacks=[*callbacks, checkpoint],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    options: dict[str, Any] = {"ckpt_path": folder / "last.ckpt", "weights_only": True} if resume else {}
    trainer.fit(model, *loaders(), **options)
    return model


def load(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / f"{name}.ckpt", weights_only=True)


def test_the_average_is_that_of_each_step_of_the_last_epochs(tmp_path: Path):
    recorder = Recorder()
    model = fit(tmp_path, recorder, WeightAverage(share=0.5))
    assert len(recorder.steps) == EPOCHS * STEPS
    for epoch in range(EPOCHS):
        steps = recorder.steps[: (epoch + 1) * STEPS]
        expected = steps[-1] if epoch < 3 else torch.stack(steps[3 * STEPS :]).mean(0)
        torch.testing.assert_close(recorder.validated[epoch], expected)
    saved = load(tmp_path, "last")
    torch.testing.assert_close(first_weight(model), recorder.validated[-1])
    torch.testing.assert_close(saved["state_dict"]["head.2.weight"], recorder.validated[-1])
    torch.testing.assert_close(saved["weight_average"]["running"]["head.2.weight"], recorder.steps[-1])
    assert saved["weight_average"]["count"] == 3 * STEPS


@pytest.mark.parametrize("killed_in", [2, 4])
def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(killed_in: int, tmp_path: Path):
    """And training goes as it would without an average."""
    whole, plain, first, second = Recorder(), Recorder(), Recorder(stop_in=killed_in), Recorder()
    fit(tmp_path / "whole", whole, WeightAverage())
    fit(tmp_path / "plain", plain)
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "parts", first, WeightAverage())
    fit(tmp_path / "parts", second, WeightAverage(), resume=True)
    assert len(first.steps) == killed_in * STEPS
    for step, others in enumerate(zip(plain.steps, first.steps + second.steps, strict=True)):
        assert all(torch.equal(whole.steps[step], other) for other in others)
    expected, found = load(tmp_path / "whole", "last"), load(tmp_path / "parts", "last")
    assert all(
        torch.equal(found["state_dict"][name], value) for name, value in expected["state_dict"].items()
    )
    assert found["weight_average"]["count"] == expected["weight_average"]["count"]
    assert found["lr_schedulers"][0]["last_epoch"] == EPOCHS * STEPS


def test_the_chosen_checkpoint_holds_what_was_validated(tmp_path: Path):
    recorder = Recorder()
    fit(tmp_path, recorder, WeightAverage(share=0.9), monitor="val/map")
    best = load(tmp_path, "best")
    torch.testing.assert_close(best["state_dict"]["head.2.weight"], recorder.validated[best["epoch"]])


def test_impossible_shares_and_a_run_without_end_are_refused():
    for share in (0, 1.5):
        with pytest.raises(InputError, match=rf"callbacks\.weight_average\.share={share}:"):
            WeightAverage(share=share)
    trainer = L.Trainer(max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match=r"set trainer\.max_epochs"):
        WeightAverage().setup(trainer, make_model(), "fit")
