"""Extraction with `Trainer.predict`: the images, a module that computes features, and a callback that stores them."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from mlic.data.image_dataset import PADDING, ImageBatch, ImageDataset, Item, Transform, image_loader
from mlic.data.images import ImageReference
from mlic.errors import InputError
from mlic.features.hashing import DIGEST_DTYPE, state_of
from mlic.features.machine import describe_machine
from mlic.features.shard import DTYPES, finite_rows
from mlic.features.store import FeatureStore
from mlic.features.writer import ShardWriter
from mlic.models import Backbone
from mlic.runs.terminal import has_room_for_bar

logger = logging.getLogger(__name__)

Prediction = tuple[np.ndarray, Tensor]
NAMES_SHOWN = 3
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

    def __init__(
        self,
        references: Sequence[ImageReference],
        states: np.ndarray,
        transform: Transform,
        draft_size: int | None,
        bits_stored: int,
    ) -> None:
        """Create a dataset from the result of `hash_files`.

        Args:
            references: N images.
            states: size, mtime and ctime (N, 3) when they were hashed.
            transform: maps a PIL image to uint8 (3, H, W).
            draft_size: see `mlic.data.open_image`.
            bits_stored: see `mlic.data.open_image`.
        """
        super().__init__(references, transform, draft_size=draft_size, bits_stored=bits_stored, strict=False)
        self.states = states

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


class RankSampler(Sampler[int]):
    """Yields every n-th image for one of n processes, each image once, without padding or repetition.

    A process without images gets one index of padding, so that it takes part in collective operations.
    """

    def __init__(self, num_images: int, rank: int, num_processes: int) -> None:
        """Select the images of process `rank` from `num_images`."""
        own = range(rank, num_images, num_processes)
        self.indices: Sequence[int] = own if len(own) else [PADDING]

    def __len__(self) -> int:
        """Return the number of indices."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices in ascending order."""
        return iter(self.indices)


class FeatureExtractor(L.LightningModule):
    """Runs a frozen backbone on images in `Trainer.predict`."""

    def __init__(
        self,
        backbone: Backbone,
        store: FeatureStore,
        *,
        draft_size: int | None,
        bits_stored: int,
        batch_size: int,
        num_workers: int,
    ) -> None:
        """Store the parts; see `extract_features`."""
        super().__init__()
        self.backbone, self.draft_size, self.bits_stored = backbone, draft_size, bits_stored
        self.batch_size, self.num_workers = batch_size, num_workers
        self.store, self.row_dtype = store, DTYPES[store.layout.dtype]
        self.pending = PendingImages([], np.empty(0, dtype=DIGEST_DTYPE), np.empty((0, 3), dtype=np.int64))

    def setup(self, stage: str) -> None:
        """Use the list of the first process, because others may have read the store at another time."""
        self.pending = self.trainer.strategy.broadcast(self.pending)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return a loader of the images of this process."""
        return image_loader(
            self.images(),
            sampler=RankSampler(len(self.pending), self.trainer.global_rank, self.trainer.world_size),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            on_cpu=self.device.type == "cpu",
        )

    def images(self) -> HashedImages:
        """Return the images without a row, of all processes."""
        paths, states = self.pending.paths, self.pending.states
        return HashedImages(paths, states, self.backbone.transform, self.draft_size, self.bits_stored)

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Prediction:
        """Return image numbers (b,) without padding, and features (b, *feature_shape) on the CPU.

        Features have the dtype of the store, or float32 if one of them overflows it.

        Raises:
            InputError: features are infinite or not a number.
        """
        images, _, numbers = batch
        valid = numbers != PADDING
        kept = numbers[valid].cpu().numpy()
        if batch_idx == 0 and len(self.pending) >= MEASURED_FROM:
            self.backbone.choose_engine(images[:MEASURED_IMAGES], self.store.folder.parent / ENGINES_FILE)
        wide = self.backbone(images)[valid]
        rows = wide.to(self.row_dtype)
        if not torch.isfinite(rows).all():
            rows = wide
            self._check_finite(kept, finite_rows(wide).cpu().numpy())
        return kept, rows.cpu()

    def _check_finite(self, numbers: np.ndarray, finite: np.ndarray) -> None:
        if finite.all():
            return
        broken = [str(self.pending.paths[number]) for number in numbers[~finite]]
        more = f" and {len(broken) - NAMES_SHOWN} more" if len(broken) > NAMES_SHOWN else ""
        raise InputError(
            f"features of {len(broken)} of {len(numbers)} images in a batch are infinite or not a number: "
            f"{', '.join(broken[:NAMES_SHOWN])}{more}. Check the weights, or set "
            "model.backbone.precision=float32."
        )


class FeatureWriter(BasePredictionWriter):
    """Adds the rows of each process to the store in separate shards; the first process shows progress."""

    def __init__(self) -> None:
        """Write after each batch."""
        super().__init__(write_interval="batch")
        self._writer: ShardWriter | None = None
        self._progress: ExtractionProgress | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the writer and start the clock."""
        assert isinstance(pl_module, FeatureExtractor)
        self._writer = pl_module.store.writer(machine=describe_machine(pl_module.device))
        if trainer.is_global_zero:
            self._progress = ExtractionProgress(len(pl_module.pending))

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Prediction,
        batch_indices: Sequence[int] | None,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Pass the rows of a batch to the writer, and count the same number for each other process."""
        assert isinstance(pl_module, FeatureExtractor) and self._writer is not None
        numbers, rows = prediction
        self._writer.add(pl_module.pending.digests[numbers], rows)
        if self._progress is not None:
            self._progress.update(len(numbers) * trainer.world_size)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the remaining rows, and wait until all processes have done so."""
        self._finish()
        trainer.strategy.barrier()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Write the rows that were computed before an error or a signal."""
        try:
            self._finish()
        except Exception as error:  # a full disk, most likely, which is also the exception above
            logger.warning("the last rows could not be written: %s", error)

    def _finish(self) -> None:
        if self._progress is not None:
            self._progress.close()
        if self._writer is not None:
            self._writer.flush()


class ExtractionProgress:
    """Images per second and remaining time: a bar on a terminal, else ten lines."""

    def __init__(self, total: int) -> None:
        """Start the clock for a number of images."""
        self._total, self._start = total, time.perf_counter()
        self._done, self._next_line = 0, total / PROGRESS_LINES
        self._bar = tqdm(
            total=total, unit="image", desc="features", dynamic_ncols=True, disable=not has_room_for_bar()
        )

    def update(self, number: int) -> None:
        """Count images."""
        number = min(number, self._total - self._done)
        self._done += number
        self._bar.update(number)
        if self._bar.disable and number and self._done >= self._next_line:
            self._next_line = self._done + self._total / PROGRESS_LINES
            rate = self._done / (time.perf_counter() - self._start)
            left = (self._total - self._done) / rate
            message = "features: %d of %d images, %.1f images/s, %.0f s left"
            logger.info(message, self._done, self._total, rate, left)

    def close(self) -> None:
        """Close the bar, so that an error starts on a new line."""
        self._bar.close()
