"""Cached features as a source of training data: missing features are computed first."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlic.data.images import ImageReference
from mlic.errors import InputError
from mlic.features.dataset import (
    ConcatenatedReader,
    FeatureDataset,
    FeatureRows,
    FeatureSampler,
    MemoryRows,
    StreamedRows,
)
from mlic.features.extraction import ExtractionResult, extract_features
from mlic.features.near_duplicates import descriptors
from mlic.models import Backbone

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.5  # share of the free memory for features
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


class CachedFeatures:
    """Provides stored features to a data module in place of images.

    Each member of an ensemble uses the same store as when it is used alone; the rows of several stores are
    concatenated.

    Attributes:
        result: result of the last extraction, of all members for an ensemble.
        rows: rows of the last `dataset`.
    """

    result: ExtractionResult
    rows: FeatureRows

    def __init__(
        self,
        backbone: Backbone,
        *,
        directory: str | Path,
        memory_gb: float | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> None:
        """Store the settings; nothing is read before `extract`.

        Args:
            backbone: one network, or several with one store each.
            directory: folder of all stores.
            memory_gb: memory for features in 10^9 bytes; larger data sets are streamed from disk during training.
                Default: half of the available memory.
            device: device of training; features are moved there if they fit in half of its free memory.
            options: further keyword arguments of `extract_features`.
        """
        self.backbone, self.directory = backbone, Path(directory)
        self.memory_gb, self.device, self.options = memory_gb, torch.device(device), options
        self._paths: Sequence[ImageReference] = ()

    @property
    def timing(self) -> dict[str, Any]:
        """Return the wall-clock seconds per image of all stored rows, and the machine; {} if they are not known."""
        seconds = [store.seconds_per_row for store in self.result.stores]
        if any(own is None for own in seconds):
            return {}
        machine = " and ".join(sorted({store.machines for store in self.result.stores}))
        return {"seconds_per_image": sum(own for own in seconds if own is not None), "machine": machine}

    @property
    def can_compare(self) -> bool:
        """True if `descriptors` can be called, and the rows of the last `dataset` are in memory."""
        return not self._is_flattened_ensemble and isinstance(getattr(self, "rows", None), MemoryRows)

    @property
    def _is_flattened_ensemble(self) -> bool:
        members = self.backbone.members
        return len(members) > 1 and any(own.num_channels < own.feature_shape[0] for own in members)

    def extract(self, paths: Sequence[ImageReference]) -> dict[ImageReference, str]:
        """Compute missing rows.

        Args:
            paths: images.

        Returns:
            Images without a row and the reasons.

        Raises:
            InputError: see `extract_features`.
        """
        self.result = extract_features(self.backbone, paths, directory=self.directory, **self.options)
        self._paths = paths
        return self.result.bad

    def dataset(self, paths: Sequence[ImageReference], targets: np.ndarray) -> FeatureDataset:
        """Return a dataset of images that were passed to `extract`, in the order of `paths`.

        Args:
            paths: N images.
            targets: targets (N, C) of 1, 0 and -1 (unknown).

        Raises:
            InputError: rows were removed after `extract`.
        """
        row_of = {str(path): row for row, path in enumerate(self._paths)}
        digests = self.result.digests[[row_of[str(path)] for path in paths]]
        readers = [store.reader(digests) for store in self.result.stores]
        reader = readers[0] if len(readers) == 1 else ConcatenatedReader(readers)
        size = reader.row_bytes * len(digests)
        limit = self.memory_gb * 1e9 if self.memory_gb is not None else MEMORY_SHARE * available_memory()
        if size > limit:
            logger.info(
                "features: %.1f GB are streamed from disk, %.1f GB at a time", size / 1e9, limit / 1e9
            )
            self.rows = StreamedRows(reader, memory_bytes=limit)
        else:
            device = self.device if size <= MEMORY_SHARE * _free_on(self.device) else torch.device("cpu")
            logger.info("features: %.1f MB in the memory of %s", size / 1e6, device)
            self.rows = MemoryRows(reader.gather(np.arange(len(digests))), device)
        self._dataset = FeatureDataset(self.rows, targets)
        return self._dataset

    def descriptors(self) -> Tensor:
        """Return vectors float32 (N, F) of the images of the last `dataset`, to find near duplicates.

        Raises:
            InputError: features are flattened maps of several networks.
        """
        if self._is_flattened_ensemble:
            raise InputError(
                "near duplicates are not supported for an ensemble with model.backbone.pool=flatten: use pool=avg."
            )
        return descriptors(self.rows, self.backbone.num_channels)

    def training_sampler(self, rows: np.ndarray, seed: int) -> FeatureSampler:
        """Return a sampler of rows of the last `dataset` with a new order in each epoch."""
        return FeatureSampler(self._dataset, rows, seed=seed)


def _free_on(device: torch.device) -> float:
    """Return the free memory of a GPU in bytes; infinity for the CPU, 0 for devices that do not report it."""
    if device.type == "cpu":
        return float("inf")
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def available_memory() -> int:
    """Return the bytes available without swapping; on Linux within the limit of the control group of the job."""
    for line in _MEMINFO.read_text().splitlines() if _MEMINFO.exists() else []:
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, _left_in_group(_CGROUP))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 2**32


def _left_in_group(root: Path) -> int:
    try:
        own = root / Path("/proc/self/cgroup").read_text().strip().rpartition("::/")[2]
        return int((own / "memory.max").read_text()) - int((own / "memory.current").read_text())
    except (OSError, ValueError):  # no control groups, or no limit ("max")
        return 2**62
