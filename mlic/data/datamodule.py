"""The LightningDataModule: read, check, curate, split, weigh, then batches."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mlic.data.augmentation import AugmentedImages
from mlic.data.bad_images import leave_out
from mlic.data.curation import CurationReport, curate
from mlic.data.grouping import find_copies
from mlic.data.image_dataset import ImageDataset, image_loader
from mlic.data.images import FULL_BITS, DraftSize, ImageReference, check_bits_stored, check_images
from mlic.data.sampling import EpochSeededSampler, RowSampler
from mlic.data.splitting import Split, split_hash, stratified_split
from mlic.data.table import LabelTable
from mlic.data.weighting import class_weights
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
EVALUATION_BATCH = 256
COPIES_SHOWN = 3


class FeatureSource(Protocol):
    """What stands in for the images when features are computed beforehand."""

    def extract(self, paths: Sequence[ImageReference]) -> dict[ImageReference, str]:
        """Compute what is missing; returns unreadable images with the reason."""
        ...

    def dataset(self, paths: Sequence[ImageReference], targets: np.ndarray) -> Dataset:
        """Rows of (features, target, row), in the order of `paths`."""
        ...

    def training_sampler(self, rows: np.ndarray, seed: int) -> Sampler[int]:
        """Rows in a new order each epoch."""
        ...

    def evaluation_dataset(self) -> Dataset:
        """The same rows with the features of all views, for evaluation."""
        ...


class MultiLabelDataModule(L.LightningDataModule):
    """From annotations and images to batches of (inputs, targets, rows).

    Inputs are uint8 images (B, 3, H, W) (for an ensemble (B, P)), or float32 features (B, *feature_shape) with a
    feature source; targets are float32 (B, C); rows are int64 (B,), the row numbers in `table`.

    Attributes (after `setup`):
        table: the curated labels, sorted by file name.
        curation: what curation dropped and why.
        bad_images: path -> reason, of the images left out with `on_bad_image="drop"`.
        split: row numbers of train, val and test.
        class_weights: (C,) float32, from the training rows alone.
        digests: (N,) of the images' bytes, where `hash_images` is set.

    Set before `setup`: `features`, or `transform` and `resize_size` of a backbone, and perhaps `augmentation`, an image
    transform for training alone; and `hash_images`, from paths to digests (N,) of their bytes, so that copies of an
    image stay in one part of the split.
    """

    table: LabelTable
    full_table: LabelTable
    curation: CurationReport
    split: Split
    class_weights: np.ndarray
    digests: np.ndarray

    def __init__(
        self,
        reader: Callable[..., LabelTable],
        *,
        annotations: str | Path | None = None,
        images: str | Path | Sequence[str] | None = None,
        num_images: int | None = None,
        min_images_per_class: int | float = 0,
        unlabelled: str = "keep",
        decode: str = "reduced",
        bits_stored: int = FULL_BITS,
        on_bad_image: str = "error",
        split: Mapping[str, Any] | None = None,
        class_weights: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        """Keep the settings; nothing is read before `setup`.

        Args:
            reader: such as `mlic.data.read_csv`; called with `annotations` and `images` where they are given.
            annotations: annotation file or folder.
            images: folder of the images, or what else the reader takes.
            num_images: size of a random subset to take, seeded by `seed`.
            min_images_per_class: rarer classes are dropped; an int counts, a float in (0, 1) is a share of the images.
            unlabelled: `keep` or `drop` images without labels after that.
            decode: `reduced` scales JPEGs much larger than the input down while decoding; `exact` afterwards.
            bits_stored: of 16-bit grey images, the bits in use; see `open_image`.
            on_bad_image: `error`, or `drop` to leave unreadable images out before the split.
            split: `test`, `val` (shares of all images) and `seed`.
            class_weights: keyword arguments of `mlic.data.class_weights`.
            batch_size: images a training step.
            num_workers: processes that decode images; by default one a core.
            seed: of the subset and of the order of training rows.
        """
        super().__init__()
        check_choice("data.on_bad_image", on_bad_image, ("error", "drop"))
        check_choice("data.decode", decode, ("reduced", "exact"))
        for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value is not None and value < least:
                raise InputError(f"data.{key}={value}: expected a whole number of at least {least}.")
        self.decode, self.bits_stored = decode, check_bits_stored(bits_stored)
        self.reader, self.annotations, self.images = reader, annotations, images
        self.num_images, self.min_images_per_class = num_images, min_images_per_class
        self.unlabelled, self.on_bad_image = unlabelled, on_bad_image
        self.split_options = {"test": 0.2, "val": 0.1, "seed": 0, **(split or {})}
        self.weight_options = dict(class_weights or {})
        self.batch_size, self.seed = batch_size, seed
        self.num_workers = num_workers if num_workers is not None else (os.cpu_count() or 1)
        self.transform: Callable[..., Any] | None = None
        self.augmentation: Callable[..., Any] | None = None
        self.resize_size: DraftSize = None
        self.features: FeatureSource | None = None
        self.hash_images: Callable[[Sequence[ImageReference]], np.ndarray] | None = None
        self.bad_images: dict[ImageReference, str] = {}
        self._dataset: Dataset | None = None

    def read(self) -> None:
        """Read the annotations, check the images and curate.

        With a feature source only the files' form is checked here: extraction decodes each image anyway, and
        reports all broken ones in one go. Without one, each image is decoded now.

        Raises:
            InputError: annotations or images that cannot be used.
        """
        self.full_table = self._read()
        table = self._curate()
        self._leave_out(
            check_images(
                table.paths(),
                full=self.features is None,
                workers=self.num_workers,
                bits_stored=self.bits_stored,
            ),
            table,
        )
        self.table = self._curate()

    def read_labels(self, left_out: Iterable[str] = ()) -> None:
        """Read the annotations and curate, without a look at the images.

        Args:
            left_out: file names of those that count as bad.

        Raises:
            InputError: annotations that cannot be used.
        """
        self.full_table = self._read()
        names = np.array(sorted(left_out), dtype=object)
        names = names[np.isin(names, self.full_table.file_names)]
        self.bad_images = dict.fromkeys(replace(self.full_table, file_names=names).paths(), "")
        self.table = self._curate()

    def setup(self, stage: str | None = None) -> None:
        """Read unless that was done, extract features where a source is set, split and weigh; once.

        Raises:
            InputError: annotations, images or settings that cannot be used.
        """
        if self._dataset is not None:
            return
        if not hasattr(self, "table"):
            self.read()
        # before the hours that extraction may take; again only if that leaves images out
        self.group_copies()
        self.split, images = stratified_split(self.table, **self.split_options), len(self.table)
        self.extract()
        if len(self.table) != images:
            self.group_copies()
            self.split = stratified_split(self.table, **self.split_options)
        counts = self.table.labels[self.split.train].sum(axis=0, dtype=np.int64)
        self.class_weights = class_weights(counts, self.table.classes, **self.weight_options)
        self._dataset = self._make_dataset()

    def extract(self) -> None:
        """Compute missing features of the curated images; broken images found so are left out, or an error.

        Raises:
            InputError: broken images with `on_bad_image="error"`, or what `FeatureSource.extract` raises.
        """
        if self.features is not None and (bad := self.features.extract(self.table.paths())):
            self._leave_out(bad, self.table)
            self.table = self._curate()

    def group_copies(self) -> None:
        """Put images of the same bytes into one group of the table, and warn of those whose labels differ."""
        if self.hash_images is None:
            return
        self.digests = self.hash_images(self.table.paths())
        self.table = self.table.group_copies(self.digests)
        copies = find_copies(self.digests)
        differ = copies[(self.table.labels[copies[:, 0]] != self.table.labels[copies[:, 1]]).any(axis=1)]
        if len(copies):
            logger.info("%d images are copies of another: they stay in one part with it", len(copies))
        if len(differ):
            names = self.table.file_names[differ[:COPIES_SHOWN]]
            logger.warning(
                "%d images have the bytes of another image and other labels: %s%s. Correct one of each pair; "
                "mlic.verify lists all.",
                len(differ),
                ", ".join(f"'{copy}' (as '{first}')" for copy, first in names),
                ", ..." if len(differ) > COPIES_SHOWN else "",
            )

    def _read(self) -> LabelTable:
        places = {"annotations": self.annotations, "images": self.images}
        given = {key: place for key, place in places.items() if place is not None}
        wanted = {
            key for key, item in signature(self.reader).parameters.items() if item.default is Parameter.empty
        }
        if missing := [f"data.{key}" for key in places if key in wanted and key not in given]:
            raise InputError(
                f"{' and '.join(missing)} must be given for this kind of data, such as "
                "data=csv data.annotations=labels.csv data.images=photos."
            )
        return self.reader(**given)

    def _curate(self) -> LabelTable:
        """Curate all readable images; the subset is drawn before, so that a bad image does not change it."""
        table = self.full_table
        if self.bad_images:
            table = table.select(np.array([path not in self.bad_images for path in table.paths()]))
        table, self.curation = curate(
            table,
            num_images=self.num_images,
            min_images_per_class=self.min_images_per_class,
            unlabelled=self.unlabelled,
            seed=self.seed,
        )
        return table

    def _leave_out(self, bad: dict[ImageReference, str], table: LabelTable) -> None:
        leave_out(bad, table, self.on_bad_image)
        self.bad_images |= bad

    def _make_dataset(self) -> Dataset:
        targets = self.table.labels.astype(np.float32)
        if self.features is not None:
            return self.features.dataset(self.table.paths(), targets)
        if self.transform is None:
            raise ValueError(
                "set `transform` (such as FrozenBackbone.transform) or `features` before setup()"
            )
        return self._images(self.transform, self.draft_size)

    def _images(self, transform: Callable[..., Any], draft_size: DraftSize) -> ImageDataset:
        return ImageDataset(
            self.table.paths(), transform, draft_size=draft_size, bits_stored=self.bits_stored
        )

    def _augmented(self) -> Dataset:
        """The images under `augmentation`; decoded at twice the size, since it may enlarge a part of them."""
        size = self.draft_size
        draft_size = tuple(2 * side for side in size) if isinstance(size, tuple) else size and 2 * size
        assert self.augmentation is not None
        return AugmentedImages(self._images(self.augmentation, draft_size), seed=self.seed)

    @property
    def draft_size(self) -> DraftSize:
        """Short side in pixels that a JPEG may be reduced to while it is decoded; one for each of several backbones."""
        return self.resize_size if self.decode == "reduced" else None

    @property
    def parts(self) -> list[str]:
        """The parts that have images."""
        return [part for part in PARTS if len(getattr(self.split, part))]

    @property
    def split_hash(self) -> str:
        """Digest of file names, labels, seed and fractions."""
        return split_hash(self.table, **self.split_options)

    def loader(self, part: str, *, training: bool = False) -> DataLoader:
        """Batches of one part; `training` shuffles by (seed, epoch)."""
        return self.loader_of(getattr(self.split, part), training=training)

    def loader_of(self, rows: np.ndarray, *, training: bool = False) -> DataLoader:
        """Batches of some rows of `table`, as `loader` gives those of a part."""
        sampler: Sampler[int] = RowSampler(rows)
        if training and self.features is not None:
            sampler = self.features.training_sampler(rows, self.seed)
        elif training:
            stride = 0 if self.augmentation is None else len(self.table)
            sampler = EpochSeededSampler(rows, seed=self.seed, stride=stride)
        batch_size = self.batch_size if training else max(self.batch_size, EVALUATION_BATCH)
        assert self._dataset is not None
        if self.features is not None:
            # features lie ready: the dataset gives whole batches, without processes
            dataset = self._dataset if training else self.features.evaluation_dataset()
            return DataLoader(dataset, batch_size, sampler=sampler, collate_fn=_as_is)
        return image_loader(
            self._augmented() if training and self.augmentation is not None else self._dataset,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            on_cpu=not torch.cuda.is_available(),
            sampler=sampler,
            targets=torch.from_numpy(self.table.labels.astype(np.float32)),
            persistent=True,
        )

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of the training part."""
        return self.loader("train", training=True)

    def val_dataloader(self) -> DataLoader:
        """Batches of the val part."""
        return self.loader("val")

    def test_dataloader(self) -> list[DataLoader]:
        """One loader for each of `parts`, to evaluate the chosen checkpoint on all of them."""
        return [self.loader(part) for part in self.parts]


def _as_is(batch: Any) -> Any:
    """The dataset's `__getitems__` has made the batch."""
    return batch
