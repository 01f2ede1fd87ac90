"""Extraction with `Trainer.predict`: the images, and a module that computes and stores their features."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from mlic.data.image_dataset import PADDING, ImageBatch, ImageDataset, Item, Transform, image_loader
from mlic.data.images import ImageReference
from mlic.errors import InputError
from mlic.features.hashing import DIGEST_DTYPE, state_of
from mlic.features.machine import describe_machine
from mlic.features.shard import DTYPES, finite_rows
from mlic.features.store import FeatureStore
from mlic.models import Backbone

logger = logging.getLogger(__name__)

ENGINES_FILE = "engines.json"  # choices of engines
MEASURED_FROM = 500  # fewer images are computed before the choice would pay
MEASURED_IMAGES = 8  # of the largest networks, a CPU computes about one image per second
PROGRESS_LINES = 10


@dataclass(frozen=True)
class PendingImages:
    """Images without a row, each content once.

    Attributes:
        paths: N images.
        digests: `S64` (N,), names of their rows.
        states: size, mtime and ctime (N, 3) when they were hashed.
    """

    paths: Sequence[ImageReference]
    digests: np.ndarray
    states: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)


class HashedImages(ImageDataset):
    """Images that are unchanged since they were hashed; others are black images with the row number `PADDING`."""

    def __init__(self, pending: PendingImages, transform: Transform, **decoding: Any) -> None:
        """Create a dataset of images; `decoding` are arguments of `ImageDataset`."""
        super().__init__(pending.paths, transform, strict=False, **decoding)
        self.states = pending.states

    def __getitem__(self, row: int) -> Item:
        """Decode one row."""
        item = super().__getitem__(row)
        if item[1] == PADDING:
            return item
        try:
            is_same = state_of(self.references[row]) == tuple(self.states[row].tolist())  # pyright: ignore[reportArgumentType]
        except OSError:
            is_same = False
        return item if is_same else self.black("it changed while it was read")


class FeatureExtractor(L.LightningModule):
    """Runs a frozen backbone on images in `Trainer.predict`.

    Each process adds its rows to the store in shards of its own; the first process shows progress.
    """

    def __init__(
        self,
        backbone: Backbone,
        store: FeatureStore,
        *,
        batch_size: int,
        num_workers: int,
        **decoding: Any,
    ) -> None:
        """Store the parts; see `extract_features`, and `ImageDataset` for `decoding`."""
        super().__init__()
        self.backbone, self.store, self.decoding = backbone, store, decoding
        self.batch_size, self.num_workers = batch_size, num_workers
        self.pending = PendingImages([], np.empty(0, DIGEST_DTYPE), np.empty((0, 3), np.int64))
        self._writer = store.writer()
        self._progress: ExtractionProgress | None = None

    def setup(self, stage: str) -> None:
        """Use the list of the first process, because others may have read the store at another time."""
        self.pending = self.trainer.strategy.broadcast(self.pending)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return a loader of the images of this process: every n-th of n processes, without repetition."""
        own = range(self.trainer.global_rank, len(self.pending), self.trainer.world_size)
        return image_loader(
            self.images(),
            # a process without images gets one of padding, so that it takes part in collective operations
            sampler=own or [PADDING],
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            on_cpu=self.device.type == "cpu",
        )

    def images(self) -> HashedImages:
        """Return the images without a row, of all processes."""
        return HashedImages(self.pending, self.backbone.transform, **self.decoding)

    def on_predict_start(self) -> None:
        """Open the writer and start the clock."""
        self._writer = self.store.writer(machine=describe_machine(self.device))
        if self.trainer.is_global_zero:
            self._progress = ExtractionProgress(len(self.pending))

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> np.ndarray:
        """Compute and store the rows of a batch, and return the numbers of its images without padding.

        Raises:
            InputError: features are infinite or not a number.
        """
        images, _, numbers = batch
        valid = numbers != PADDING
        kept = numbers[valid].cpu().numpy()
        if batch_idx == 0 and len(self.pending) >= MEASURED_FROM:
            self.backbone.choose_engine(images[:MEASURED_IMAGES], self.store.folder.parent / ENGINES_FILE)
        wide = self.backbone(images)[valid]
        # in the dtype of the store, or float32 if one of them overflows it: fewer bytes leave a GPU
        rows = wide.to(DTYPES[self.store.layout.dtype])
        if not torch.isfinite(rows).all():
            rows, broken = wide, kept[~finite_rows(wide).cpu().numpy()]
            if len(broken):
                raise InputError(
                    f"features of {len(broken)} of {len(kept)} images in a batch are infinite or not a number, such as "
                    f"'{self.pending.paths[broken[0]]}'. Check the weights, or set model.backbone.precision=float32."
                )
        self._writer.add(self.pending.digests[kept], rows.cpu())
        if self._progress is not None:
            # the other processes have done about the same number
            self._progress.update(len(kept) * self.trainer.world_size)
        return kept

    def on_predict_end(self) -> None:
        """Write the remaining rows, and wait until all processes have done so."""
        self.finish()
        self.trainer.strategy.barrier()

    def finish(self) -> None:
        """Write the rows that were computed so far, also after an error or a signal."""
        if self._progress is not None:
            self._progress.bar.close()
        self._writer.flush()


class ExtractionProgress:
    """Images per second and remaining time: a bar on a terminal, else ten lines."""

    def __init__(self, total: int) -> None:
        """Start the clock for a number of images."""
        self._total, self._done, self._start = total, 0, time.perf_counter()
        self.bar = tqdm(total=total, unit="image", desc="features", dynamic_ncols=True, disable=None)

    def update(self, number: int) -> None:
        """Count images."""
        before, self._done = self._done, min(self._done + number, self._total)
        self.bar.update(self._done - before)
        lines = (done * PROGRESS_LINES // max(1, self._total) for done in (before, self._done))
        if self.bar.disable and next(lines) < next(lines):
            rate = self._done / (time.perf_counter() - self._start)
            message = "features: %d of %d images, %.1f images/s, %.0f s left"
            logger.info(message, self._done, self._total, rate, (self._total - self._done) / rate)
