"""Made images, and a backbone of one convolution, for the feature store."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mlic.features import hashing
from mlic.features.store import FeatureStore
from mlic.models import Backbone

SIZE = 16
NUM_FEATURES = 6


class TinyBackbone(Backbone):
    """A backbone of one convolution with fixed random weights; counts its images."""

    def __init__(self, *, scale: float = 1.0, pool: str = "flatten") -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.kernel: Tensor
        self.register_buffer("kernel", torch.randn(NUM_FEATURES, 3, SIZE, SIZE, generator=generator) * scale)
        self.scale, self.pool, self.feature_shape = scale, pool, (NUM_FEATURES,)
        self.num_channels = NUM_FEATURES
        self.num_batches, self.is_optimized = 0, True

    @property
    def identity(self) -> dict[str, Any]:
        return {"network": "tiny", "weights": self.scale, "pool": self.pool, "precision": "float32"}

    def transform(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((SIZE, SIZE))).transpose(2, 0, 1)

    def forward(self, images: Tensor) -> Tensor:
        self.num_batches += 1
        return torch.nn.functional.conv2d(images.float() / 255, self.kernel).flatten(1)

    def optimize_for(self, device: torch.device) -> Self:
        return self

    def augmentation(self, **options: Any) -> Any:
        return self.transform


def _make_images(folder: Path, number: int, *, seed: int = 0, size: int = 24) -> list[Path]:
    """Images of random pixels, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = []
    for index in range(number):
        pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        paths.append(folder / f"image_{seed}_{index:04d}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def _numbered(count: int, *, start: int = 0) -> np.ndarray:
    words = [str(number).encode() for number in range(start, start + count)]
    return np.array([hashlib.sha256(word).hexdigest() for word in words], dtype=hashing.DIGEST_DTYPE)


@pytest.fixture
def numbered() -> Callable[..., np.ndarray]:
    """Makes the digests of so many numbers."""
    return _numbered


@pytest.fixture(scope="session")
def make_images() -> Callable[..., list[Path]]:
    """Makes a folder of images."""
    return _make_images


@pytest.fixture
def make_backbone() -> type[TinyBackbone]:
    """Makes tiny backbones."""
    return TinyBackbone


@pytest.fixture
def backbone() -> TinyBackbone:
    return TinyBackbone()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return _make_images(tmp_path / "images", 10)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust files however young they are."""
    monkeypatch.setattr(hashing, "RACY_NS", -(10**9))


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., FeatureStore]:
    """Stores below one folder; the same arguments name the same store."""

    def make(shape: Sequence[int] = (3,), *, dtype: str = "float32", **identity: Any) -> FeatureStore:
        described = {"network": "net", "pool": "avg", **identity}
        return FeatureStore(tmp_path / "features", described, feature_shape=tuple(shape), dtype=dtype)

    return make


@pytest.fixture
def filled(make_store: Callable[..., FeatureStore]) -> tuple[FeatureStore, np.ndarray, Tensor]:
    """A store of 40 rows in 4 shards, with their digests and features."""
    store, digests = make_store(), _numbered(40)
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    with store.lock():
        for start in range(0, 40, 10):
            writer = store.writer()
            writer.add(digests[start : start + 10], features[start : start + 10])
            writer.flush()
    store.refresh()
    return store, digests, features
