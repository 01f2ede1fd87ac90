"""Images decoded into batches."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlic.data import BadImageError, ImageDataset, image_dataset
from mlic.data.image_dataset import DECODER_NICENESS, PADDING, CollateImages, PackedReferences, image_loader
from mlic.data.tars.images import TarImage


def to_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((8, 6))).transpose(2, 0, 1)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Four images, the third of which is broken."""
    found = [tmp_path / f"{row}.png" for row in range(4)]
    for row, path in enumerate(found):
        Image.new("RGB", (8, 6), (row + 1, 0, 0)).save(path)
    found[2].write_bytes(b"")
    return found


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_an_error_or_a_black_image_and_never_another(paths: list[Path], workers: int):
    options = {"batch_size": 3, "num_workers": workers, "on_cpu": True}
    with pytest.raises(BadImageError, match=r"2.png: the file is empty"):
        list(image_loader(ImageDataset(paths, to_array), **options))
    told = ImageDataset(paths, to_array, strict=False)
    first, last = image_loader(told, **options, fill=True)
    assert first[0].shape == last[0].shape == (3, 3, 6, 8) and first[0].dtype == torch.uint8
    assert first[0][:, 0, 0, 0].tolist() == [1, 2, 0]
    assert first[1] == ["", "", "the file is empty (0 bytes)"] and last[1] == [""]
    assert first[2].tolist() == [0, 1, PADDING] and last[2].tolist() == [3, PADDING, PADDING]


def test_references_are_the_same_after_packing():
    names = (Path("/a/ä b.jpg"), Path("[1].jpg"), Path(os.fsdecode(b"\xff.jpg")))
    references = [*names, TarImage("https://h/a.tar", "x.jpg", 512, 10, "0" * 64, "truncated")]
    assert list(PackedReferences(references)) == references


def test_targets_are_those_of_the_rows(paths: list[Path]):
    loader = image_loader(
        ImageDataset([paths[0], paths[3]], to_array),
        batch_size=2,
        num_workers=0,
        on_cpu=True,
        sampler=[1, 0],  # pyright: ignore[reportArgumentType]
        targets=torch.eye(2),
    )
    images, targets, rows = next(iter(loader))
    assert images[:, 0, 0, 0].tolist() == [4, 1] and rows.tolist() == [1, 0]
    assert targets.tolist() == [[0, 1], [1, 0]]


def test_the_draft_size_is_handed_on(tmp_path: Path):
    Image.new("RGB", (960, 640)).save(tmp_path / "a.jpg")
    sizes: list[tuple[int, int]] = []

    def transform(images: list[Image.Image]) -> np.ndarray:
        sizes.extend(image.size for image in images)
        return np.zeros((1,), dtype=np.uint8)

    ImageDataset([tmp_path / "a.jpg"], transform, draft_size=(160, 600, 160))[0]
    assert sizes == [(240, 160), (960, 640), (240, 160)]


def test_a_worker_shares_the_tensors_of_a_batch_itself(monkeypatch: pytest.MonkeyPatch):
    items = [(torch.zeros(3, dtype=torch.uint8), 0, "")]
    assert not CollateImages()(items)[0].is_shared()
    monkeypatch.setattr(image_dataset, "get_worker_info", lambda: "a worker")
    images, targets, rows = CollateImages(torch.ones(1, 2))(items)
    assert isinstance(targets, torch.Tensor)
    assert images.is_shared() and targets.is_shared() and rows.is_shared()


def test_decoders_beside_a_network_on_the_processor_have_a_lower_priority(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
):
    steps: list[int] = []
    monkeypatch.setattr(image_dataset.os, "nice", steps.append)
    for on_cpu in (True, False):
        loader = image_loader(ImageDataset(paths[:2], to_array), batch_size=1, num_workers=9, on_cpu=on_cpu)
        assert loader.num_workers == 2
        if loader.worker_init_fn is not None:
            loader.worker_init_fn(0)
    assert steps == [DECODER_NICENESS]
