"""Images decoded into batches."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlic.data import BadImageError, ImageDataset, image_dataset
from mlic.data.image_dataset import PADDING, CollateImages, PackedReferences, image_loader
from mlic.data.tar_images import TarImage


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
    first, last = image_loader(told, **options)
    assert (len(first[0]), len(last[0])) == (3, 1) and first[0].dtype == torch.uint8
    assert first[0][:, 0, 0, 0].tolist() == [1, 2, 0]
    assert first[1] == ["", "", "the file is empty (0 bytes)"] and last[1] == [""]
    assert first[2].tolist() == [0, 1, PADDING] and last[2].tolist() == [3]


def test_references_are_the_same_after_packing():
    names = (Path("/a/ä b.jpg"), Path("[1].jpg"), Path(os.fsdecode(b"\xff.jpg")))
    references = [*names, TarImage("https://h/a.tar", "x.jpg", 512, 10, "0" * 64, "truncated")]
    assert list(PackedReferences(references)) == references


def test_targets_are_those_of_the_rows(paths: list[Path]):
    dataset = ImageDataset([paths[0], paths[3]], to_array)
    options = {"batch_size": 2, "num_workers": 0, "on_cpu": True, "sampler": [1, 0]}
    images, targets, rows = next(iter(image_loader(dataset, **options, targets=torch.eye(2))))
    assert images[:, 0, 0, 0].tolist() == [4, 1] and rows.tolist() == [1, 0]
    assert targets.tolist() == [[0, 1], [1, 0]]


def test_a_worker_shares_the_tensors_of_a_batch_itself(monkeypatch: pytest.MonkeyPatch):
    """Else a full /dev/shm is an error in a thread of the worker, and the loader waits forever."""
    items = [(torch.zeros(3, dtype=torch.uint8), 0, "")]
    monkeypatch.setattr(image_dataset, "get_worker_info", lambda: "a worker")
    assert all(part.is_shared() for part in CollateImages(torch.ones(1, 2))(items))  # pyright: ignore
