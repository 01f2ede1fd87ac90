"""The Lightning side of extraction: a module that computes features, and a callback that stores them."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from mlic.data.image_dataset import PADDING, ImageBatch, image_loader
from mlic.data.images import ImageReference
from mlic.errors import InputError
from mlic.features.hashing import DIGEST_DTYPE
from mlic.features.images import HashedImages, RankSampler
from mlic.features.shard import DTYPES, finite_rows
from mlic.features.store import FeatureStore
from mlic.models.backbone import FrozenBackbone
from mlic.runs.terminal import has_room_for_bar

logger = logging.getLogger(__name__)

Prediction = tuple[np.ndarray, dict[str, Tensor]]
NAMES_SHOWN = 3


@dataclass
class Work:
    """What is to be computed: images that lack a row in at least one of the stores, each content once.

    Attributes:
        paths: N images.
        digests: (n,) `S64`, names of their rows.
        states: (n, 3) size, mtime and ctime when they were hashed.
        views: names of the views to compute.
    """

    paths: Sequence[ImageReference]
    digests: np.ndarray
    states: np.ndarray
    views: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)


class FeatureExtractor(L.LightningModule):
    """Runs a frozen backbone over images, in `Trainer.predict`."""

    def __init__(
        self,
        backbone: FrozenBackbone,
        stores: Sequence[FeatureStore],
        *,
        draft_size: int | None,
        bits_stored: int,
        batch_size: int,
        num_workers: int,
    ) -> None:
        """Keep the parts; see `extract_features`."""
        super().__init__()
        self.backbone, self.draft_size, self.bits_stored = backbone, draft_size, bits_stored
        self.batch_size, self.num_workers = batch_size, num_workers
        self.stores = {store.view: store for store in stores}
        self.row_dtype = DTYPES[stores[0].layout.dtype]
        self.work = Work([], np.empty(0, dtype=DIGEST_DTYPE), np.empty((0, 3), dtype=np.int64), ())

    def setup(self, stage: str) -> None:
        """All processes take the list of the first one: others may have looked at another time."""
        self.work = self.trainer.strategy.broadcast(self.work)

    def predict_dataloader(self) -> DataLoader[Any]:
        """The images of this process."""
        images = HashedImages(
            self.work.paths, self.work.states, self.backbone.transform, self.draft_size, self.bits_stored
        )
        return image_loader(
            images,
            sampler=RankSampler(len(self.work), self.trainer.global_rank, self.trainer.world_size),
            fill=True,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            on_cpu=self.device.type == "cpu",
        )

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Prediction:
        """Image numbers (b,) without padding, and features (b, *feature_shape) of each view, on the CPU.

        Raises:
            InputError: features that are infinite or not a number.
        """
        images, _, numbers = batch
        valid = numbers != PADDING
        kept = numbers[valid].cpu().numpy()
        features = {}
        for view in self.work.views:
            pixels = self.backbone.mirror(images) if view == "flip" else images
            wide = self.backbone(pixels)[valid]
            rows = wide.to(self.row_dtype)
            if not torch.isfinite(rows).all():
                rows = wide  # the writer keeps each row in the narrowest format that holds it
                self._refuse_broken(kept, finite_rows(wide).cpu().numpy())
            features[view] = rows.cpu()
        return kept, features

    def _refuse_broken(self, numbers: np.ndarray, finite: np.ndarray) -> None:
        if finite.all():
            return
        broken = [str(self.work.paths[number]) for number in numbers[~finite]]
        more = f" and {len(broken) - NAMES_SHOWN} more" if len(broken) > NAMES_SHOWN else ""
        raise InputError(
            f"features of {len(broken)} of {len(numbers)} images in a batch are infinite or not a number: "
            f"{', '.join(broken[:NAMES_SHOWN])}{more}. Look for broken weights, or set "
            "model.backbone.precision=float32."
        )


class FeatureWriter(BasePredictionWriter):
    """Each process adds its rows to the stores, in shards of its own."""

    def __init__(self, *, shard_mb: float, shard_seconds: float) -> None:
        """Close shards at that size (in 10^6 bytes) or age."""
        super().__init__(write_interval="batch")
        self.shard_mb, self.shard_seconds = shard_mb, shard_seconds
        self._open = ExitStack()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open a writer for each view."""
        assert isinstance(pl_module, FeatureExtractor)
        self._writers = {
            view: self._open.enter_context(
                store.writer(shard_mb=self.shard_mb, shard_seconds=self.shard_seconds)
            )
            for view, store in pl_module.stores.items()
        }

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
        """Hand the rows of a batch to the writers, but for those that a store has already."""
        assert isinstance(pl_module, FeatureExtractor)
        numbers, features = prediction
        digests = pl_module.work.digests[numbers]
        for view, rows in features.items():
            lacking = pl_module.stores[view].lacks(digests)
            self._writers[view].add(digests[lacking], rows[torch.from_numpy(lacking)])

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what is in hand; no process goes on before all have done so."""
        self._open.close()
        trainer.strategy.barrier()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Keep the rows that were computed before an error or an interrupt."""
        try:
            self._open.close()
        except Exception as error:  # a full disk, most likely, which is also the exception above
            logger.warning("the last rows could not be written: %s", error)


class ExtractionProgress(Callback):
    """Images a second and time left: a bar on a terminal, ten lines elsewhere."""

    def __init__(self) -> None:
        """Draw on the first process only."""
        self._bar: tqdm | None = None
        self._done, self._next_line, self._start = 0, 0.0, 0.0

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        assert isinstance(pl_module, FeatureExtractor)
        self._total, self._start = len(pl_module.work), time.perf_counter()
        self._done, self._next_line = 0, 0.1 * self._total
        if trainer.is_global_zero and has_room_for_bar():
            self._bar = tqdm(total=self._total, unit="image", desc="features", dynamic_ncols=True)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Prediction,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the images of this batch, and as many for each other process."""
        new = min(int((batch[2] != PADDING).sum()) * trainer.world_size, self._total - self._done)
        self._done += new
        if self._bar is not None:
            self._bar.update(new)
        elif trainer.is_global_zero and self._done >= self._next_line:
            self._next_line = self._done + 0.1 * self._total
            seconds = time.perf_counter() - self._start
            rate = self._done / seconds
            logger.info(
                "features: %d of %d images, %.1f images/s, %.0f s left",
                self._done,
                self._total,
                rate,
                (self._total - self._done) / rate if rate else float("inf"),
            )

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error stands on a line of its own."""
        self.on_predict_end(trainer, pl_module)
