"""Cached features in the place of images: extracts what is missing, then serves training."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlic.data.images import DraftSize, ImageReference
from mlic.errors import InputError
from mlic.features.dataset import AllViews, FeatureDataset, MemoryRows, Reader, StreamedRows
from mlic.features.extraction import ExtractionResult, extract_features, join_results
from mlic.features.memory import available_memory
from mlic.features.sampling import FeatureSampler
from mlic.features.shard import DamagedShardError
from mlic.features.side_by_side import SideBySideReader
from mlic.models.backbone import FrozenBackbone
from mlic.models.ensemble import Backbone, EnsembleBackbone

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.5  # of what is free, for features


class CachedFeatures:
    """What a data module uses instead of images when the backbone's features are kept.

    Each member of an ensemble keeps them in the stores that it has when it is used by itself; rows are served side by
    side.

    Attributes:
        result: of the last extraction; of an ensemble, of all members together.
    """

    result: ExtractionResult

    def __init__(
        self,
        backbone: Backbone,
        *,
        directory: str | Path,
        dtype: str = "float16",
        views: int = 1,
        memory_gb: float | None = None,
        device: torch.device | str = "cpu",
        draft_size: DraftSize = None,
        **options: Any,
    ) -> None:
        """Keep the settings; nothing is read before `extract`.

        Args:
            backbone: a `FrozenBackbone`, or an `EnsembleBackbone`.
            directory: folder of all stores.
            dtype: of the stored numbers; see `FeatureStore`.
            views: 1, or 2 to store the flipped images too; training then draws one view an image and epoch, and
                evaluation averages the logits of both.
            memory_gb: in 10^9 bytes, for features in memory; larger sets are read from the disk while
                training. By default half of the memory that is available.
            device: where training runs; features go there when they fit in half of its free memory.
            draft_size: see `extract_features`; one for each member of an ensemble.
            options: further keyword arguments of `extract_features`.
        """
        self.backbone, self.directory, self.dtype, self.views = backbone, Path(directory), dtype, views
        self.memory_gb, self.device, self.options = memory_gb, torch.device(device), options
        self.members: list[FrozenBackbone] = (
            list(backbone.members) if isinstance(backbone, EnsembleBackbone) else [backbone]
        )
        self.draft_sizes = draft_size if isinstance(draft_size, tuple) else (draft_size,) * len(self.members)
        self._paths: Sequence[ImageReference] = ()
        self._served: FeatureDataset | None = None

    def extract(self, paths: Sequence[ImageReference]) -> dict[ImageReference, str]:
        """Compute the rows that are missing.

        Args:
            paths: image files.

        Returns:
            Path -> reason, of the images that have no row.

        Raises:
            InputError: see `extract_features`.
        """
        members = zip(self.members, self.draft_sizes, strict=True)
        self.result = join_results([self._extract(paths, *member) for member in members], paths)
        self._paths = paths
        return self.result.bad

    def _extract(
        self, paths: Sequence[ImageReference], backbone: FrozenBackbone, draft_size: int | None
    ) -> ExtractionResult:
        result = extract_features(
            backbone,
            paths,
            directory=self.directory,
            dtype=self.dtype,
            views=self.views,
            draft_size=draft_size,
            **self.options,
        )
        logger.info(
            "features: %d rows found, %d computed, %d images without, in %.1f s; %.1f MB in '%s'",
            result.found,
            result.computed,
            len(result.bad),
            result.seconds,
            result.bytes / 1e6,
            result.folder,
        )
        return result

    def dataset(self, paths: Sequence[ImageReference], targets: np.ndarray) -> FeatureDataset:
        """Features and targets of images that `extract` was given, in the order asked.

        Rows found damaged are computed again, once.

        Args:
            paths: N image files.
            targets: (N, C), 0 or 1.

        Raises:
            InputError: the store is damaged again and again.
        """
        try:
            self._served = self._dataset(paths, targets)
            return self._served
        except DamagedShardError:
            self.extract(paths)
        try:
            self._served = self._dataset(paths, targets)
            return self._served
        except DamagedShardError as error:
            raise InputError(
                f"shard '{error.path}' is damaged ({error.reason}), though its rows were just computed: check the disk "
                "of features.dir."
            ) from error

    def _dataset(self, paths: Sequence[ImageReference], targets: np.ndarray) -> FeatureDataset:
        row_of = {str(path): row for row, path in enumerate(self._paths)}
        digests = self.result.digests[[row_of[str(path)] for path in paths]]
        del row_of
        readers = [self._reader(view, digests) for view in range(self.views)]
        size = sum(reader.row_bytes for reader in readers) * len(digests)
        limit = self.memory_gb * 1e9 if self.memory_gb is not None else MEMORY_SHARE * available_memory()
        if size > limit:
            logger.info(
                "features: %.1f GB are read from the disk, %.1f GB at a time", size / 1e9, limit / 1e9
            )
            return FeatureDataset(StreamedRows(readers, memory_bytes=limit), targets)
        device = self.device if size <= MEMORY_SHARE * _free_on(self.device) else torch.device("cpu")
        logger.info("features: %.1f MB in the memory of %s", size / 1e6, device)
        everything = np.arange(len(digests))
        return FeatureDataset(MemoryRows([reader.gather(everything) for reader in readers], device), targets)

    def _reader(self, view: int, digests: np.ndarray) -> Reader:
        """Access to the rows of one view, those of several backbones side by side."""
        readers = [store.reader(digests) for store in self.result.stores[view :: self.views]]
        return readers[0] if len(readers) == 1 else SideBySideReader(readers)

    def evaluation_dataset(self) -> FeatureDataset | AllViews:
        """The rows of the last `dataset`; with several views, features are (B, views, *feature_shape).

        Raises:
            ValueError: there is none yet.
        """
        if self._served is None:
            raise ValueError("call `dataset` first")
        return self._served if self.views == 1 else AllViews(self._served)

    def training_sampler(self, rows: np.ndarray, seed: int) -> FeatureSampler:
        """Rows of the last `dataset` in a new order each epoch, in one view each.

        Raises:
            ValueError: there is none yet.
        """
        if self._served is None:
            raise ValueError("call `dataset` first")
        return FeatureSampler(self._served, rows, seed=seed)


def _free_on(device: torch.device) -> float:
    """Free bytes of a GPU; no bound for the CPU, and nothing for devices that do not tell."""
    if device.type == "cpu":
        return float("inf")
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
