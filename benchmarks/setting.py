"""Settings shared by all benchmarks: data, network, sizes and a temporary folder."""

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mlic.models.engines import processor

TINY_NETWORK = (
    "model=timm", "model.backbone.name=test_efficientnet", "model.backbone.pretrained=false",
    "model.recipe.hidden=[256]", "model.recipe.dropout=0.6",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Data and sizes of the benchmarks.

    Attributes:
        data: folder with `labels.csv` and `images/`.
        work: temporary folder; nothing is written elsewhere.
        quick: smoke test with a tiny random network, few epochs and repetitions; the measurements are meaningless.
    """

    data: Path
    work: Path
    quick: bool = False

    @property
    def epochs(self) -> int:
        """Number of epochs of a training run."""
        return 2 if self.quick else 40

    def choose(self, full: int, quick: int) -> int:
        """Return `full`, or `quick` in a smoke test."""
        return quick if self.quick else full

    def overrides(self, *more: str) -> list[str]:
        """Return the Hydra overrides of a CPU run on these data with efficientnet_lite2."""
        network = TINY_NETWORK if self.quick else ("model=efficientnet_lite2",)
        return [
            "data=csv",
            f"data.annotations='{self.data / 'labels.csv'}'",
            f"data.images='{self.data / 'images'}'",
            "data.min_images_per_class=0.02",
            "data.split.on_missing=warn",
            "trainer=cpu",
            f"trainer.max_epochs={self.epochs}",
            *network,
            *more,
        ]

    def photographs(self) -> list[Path]:
        """Return all images, sorted by name."""
        return sorted(path for path in (self.data / "images").iterdir() if path.suffix == ".jpg")


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """Return a description of the machine as plain JSON types."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": cores(),
        "capabilities": sorted(name for name, has in torch.cpu.get_capabilities().items() if has is True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
    }


def load_average() -> list[float]:
    """Return the load over 1, 5 and 15 minutes; other programs distort all measurements."""
    return [round(value, 2) for value in os.getloadavg()]
