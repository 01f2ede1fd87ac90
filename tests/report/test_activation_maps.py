from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mlic.config import compose
from mlic.report.activation_maps import activation_map, add_activation_maps, shown_label
from mlic.report.galleries import Label, Photograph, build_galleries
from mlic.report.reading import read_run
from mlic.report.thumbnails import Thumbnails, image_folder
from mlic.train import train

RUN = (
    "data=csv", "data.split.test=0.2", "data.split.val=0.2", "data.num_workers=0", "data.batch_size=8",
    "model=timm", "model.backbone.name=test_efficientnet", "model.backbone.pretrained=false",
    "model.backbone.precision=float32", "model.recipe.hidden=[16]", "features.num_workers=0", "trainer=cpu",
    "trainer.max_epochs=1",
)  # fmt: skip


class TwoChannels(nn.Module):
    """A network whose feature map is the red and the green part of the image, pooled by their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.pooling(images[:, :2].float() / 255)


def test_the_map_is_the_weighted_sum_of_the_channels():
    pixels = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    pixels[0, 0, 0, 0] = 255
    pixels[0, 0, 0, 1] = 51
    pixels[0, 1, 1, 1] = 255
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, -1.0], [-1.0, 0.0]]))
    network: Any = TwoChannels()
    assert activation_map(network, head, pixels, 0) == pytest.approx(np.array([[1, 0.2], [0, 0]]), abs=1e-6)
    assert not activation_map(network, head, pixels, 1).any(), "nothing supports the second class"


def test_the_label_shown_is_the_surest_error_else_the_surest_hit():
    def photograph(true: list[Label], predicted: list[Label]) -> Photograph:
        return Photograph("x.jpg", 0.0, true, predicted, None)

    hit, wrong, missed = Label("hit", 0.99, True), Label("wrong", 0.8, False), Label("missed", 0.1, False)
    assert shown_label(photograph([hit, missed], [hit, wrong])) == "missed"
    assert shown_label(photograph([hit], [hit, wrong])) == "wrong"
    assert shown_label(photograph([hit], [hit, Label("other", 0.6, True)])) == "hit"
    assert shown_label(photograph([], [])) is None


@pytest.mark.slow
def test_maps_of_a_real_run_and_a_note_without_its_checkpoint(tiny_csv: tuple[Path, Path], tmp_path: Path):
    annotations, images = tiny_csv
    places = (
        f"data.annotations={annotations}",
        f"data.images={images}",
        f"features.dir={tmp_path / 'store'}",
    )
    train(compose(*RUN, *places, output=tmp_path / "run"))
    run = read_run(tmp_path / "run")
    small = Thumbnails(image_folder(run.dataset), 64)
    galleries = build_galleries(run, small, count=2)
    (first, *_), *_ = (gallery.photographs for gallery in add_activation_maps(run, galleries, small))
    assert first.map_image is not None and first.map_image.startswith("data:image/jpeg;base64,")
    assert first.map_label in run.classes
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        checkpoint.unlink()
    assert add_activation_maps(run, galleries, small) == galleries
    assert any(note.startswith("no activation maps: ") for note in run.notes)
