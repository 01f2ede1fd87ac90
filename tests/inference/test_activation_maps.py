import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mlic.inference.activation_maps import activation_map
from mlic.models import DenseHead, FrozenBackbone
from mlic.report.extras import draw_maps
from mlic.report.photographs import choose_rows
from mlic.report.reading import read_run


class TwoChannels(nn.Module):
    """A network whose feature map is the red and the green part of the image, pooled by their mean."""

    def outputs(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images[:, :2].float() / 255]

    def to_map(self, output: torch.Tensor) -> torch.Tensor:
        return output

    def read_out(self, output: torch.Tensor, *, flip: bool) -> torch.Tensor:
        return output.mean(dim=(2, 3))


@torch.no_grad()
def test_the_map_is_the_weighted_sum_of_the_channels():
    red, green = torch.tensor([[255, 51], [0, 0]]), torch.tensor([[0, 0], [0, 255]])
    pixels = torch.stack([red, green, torch.zeros_like(red)]).to(torch.uint8)[None]
    head = nn.Linear(2, 2)
    head.weight.copy_(torch.tensor([[2.0, -1.0], [-1.0, 0.0]]))
    network: Any = TwoChannels()
    assert activation_map(network, head, pixels, 0) == pytest.approx(np.array([[1, 0.2], [0, 0]]), abs=1e-6)
    assert not activation_map(network, head, pixels, 1).any(), "nothing supports the second class"


def test_with_mirror_images_the_map_of_the_mirror_image_is_the_mirrored_map():
    backbone = FrozenBackbone("test_efficientnet", pretrained=False, precision="float32", mirror=True)
    head = DenseHead(backbone.feature_shape, 2).eval()
    pixels = torch.randint(0, 256, (1, 3, backbone.image_size, backbone.image_size), dtype=torch.uint8)
    found, mirrored = (activation_map(backbone, head, image, 0) for image in (pixels, pixels.flip(-1)))
    np.testing.assert_allclose(found, mirrored[:, ::-1], atol=1e-3)


def test_maps_of_a_real_run_and_a_note_without_its_checkpoint(tiny_run: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    run = read_run(folder)
    rows = choose_rows(run, count=2)["highest_loss"]
    maps = draw_maps(run, rows)
    assert list(maps) == rows and all(label in run.classes for _, label in maps.values())
    assert all(address.startswith("data:image/webp;base64,") for address, _ in maps.values())
    shutil.rmtree(folder / "checkpoints")
    assert draw_maps(run, rows) == {}
    assert any(note.startswith("no activation maps: ") for note in run.notes)
