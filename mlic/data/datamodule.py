"""The LightningDataModule: reads, checks, curates and splits the data, and makes batches."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mlic.data.augmentation import AugmentedImages
from mlic.data.bad_images import leave_out
from mlic.data.curation import CurationReport, curate
from mlic.data.grouping import find_copies, with_groups
from mlic.data.image_dataset import ImageDataset, image_loader
from mlic.data.images import FULL_BITS, DraftSize, ImageReference, check_bits_stored, check_images
from mlic.data.parts import read_annotations, with_parts
from mlic.data.sampling import EpochSeededSampler, RowSampler
from mlic.data.split_settings import PARTS, SplitSettings
from mlic.data.splitting import Split, check_sizes, split_hash, stratified_split
from mlic.data.table import LabelTable
from mlic.data.weighting import class_weights
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

EVALUATION_BATCH = 256


class FeatureSource(Protocol):
    """Interface of a source of stored features that are used in place of images."""

    def extract(self, paths: Sequence[ImageReference]) -> dict[ImageReference, str]:
        """Compute missing features; return unreadable images with the reasons."""
        ...

    def dataset(self, paths: Sequence[ImageReference], targets: np.ndarray) -> Dataset:
        """Return a dataset of (features, target, row) in the order of `paths`."""
        ...

    def training_sampler(self, rows: np.ndarray, seed: int) -> Sampler[int]:
        """Return a sampler with a new order of `rows` in each epoch."""
        ...


class MultiLabelDataModule(L.LightningDataModule):
    """Reads annotations and images and yields batches of (inputs, targets, rows).

    Inputs are uint8 images (B, 3, H, W) ((B, P) for an ensemble) or, with a feature source, float32 features
    (B, *feature_shape). Targets are float32 (B, C): 1, 0 or, where the label is unknown, -1. Rows are int64
    (B,), row numbers in `table`.

    Attributes (after `setup`):
        table: curated labels, sorted by file name.
        curation: report of the curation.
        bad_images: maps images left out with `on_bad_image="drop"` to the reasons.
        split: row numbers of train, val and test.
        class_weights: float32 (C,), computed from the training rows only.
        digests: digests (N,) of the bytes of the images, if `hash_images` is set.

        To be set before `setup`: `features`, or `transform` and `resize_size` of a backbone and optionally
        `augmentation` (an image transform for training only); and optionally `hash_images`, a function from paths to
        digests (N,) of their bytes, which keeps copies of an image in one part of the split, and `group_images`, a
        function from the table to group numbers (N,), for `split.groups.by=duplicates`.
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
        annotations: str | Path | Sequence[str] | None = None,
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
        """Store the settings; nothing is read before `setup`.

        Args:
            reader: reader such as `mlic.data.read_csv`; called with `annotations` and `images` if they are given.
            annotations: annotation files or folders.
            images: image folder, or another location that the reader accepts.
            num_images: size of a random subset.
            min_images_per_class: rarer classes are dropped; an int is a count, a float in (0, 1) a share of the images.
            unlabelled: `keep` or `drop` images without labels, after rare classes are dropped.
            decode: `reduced` scales large JPEGs down while decoding (faster); `exact` decodes them at full size.
            bits_stored: bits in use in 16-bit greyscale images; see `open_image`.
            on_bad_image: `error`, or `drop` to leave out unreadable images before the split.
            split: fields of `SplitSettings`, such as `test`, `val` (shares of all images) and `seed`.
            class_weights: keyword arguments of `mlic.data.class_weights`.
            batch_size: images per training step.
            num_workers: number of processes that decode images. Default: one per core.
            seed: seed of the subset and of the order of training rows.
        """
        super().__init__()
        check_choice("data.on_bad_image", on_bad_image, ("error", "drop"))
        check_choice("data.decode", decode, ("reduced", "exact"))
        for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers or 0, 0)):
            if value < least:
                raise InputError(f"data.{key}={value}: expected a whole number of at least {least}.")
        self.decode, self.bits_stored = decode, check_bits_stored(bits_stored)
        self.reader, self.annotations, self.images = reader, annotations, images
        self.on_bad_image = on_bad_image
        self.curation_options: dict[str, Any] = {
            "num_images": num_images, "min_images_per_class": min_images_per_class, "unlabelled": unlabelled,
            "seed": seed,
        }  # fmt: skip
        self.split_settings = SplitSettings.of(split or {})
        self.weight_options = dict(class_weights or {})
        self.batch_size, self.seed = batch_size, seed
        self.num_workers = num_workers if num_workers is not None else (os.cpu_count() or 1)
        self.transform: Callable[..., Any] | None = None
        self.augmentation: Callable[..., Any] | None = None
        self.resize_size: DraftSize = None
        self.features: FeatureSource | None = None
        self.hash_images: Callable[[Sequence[ImageReference]], np.ndarray] | None = None
        self.group_images: Callable[[LabelTable], np.ndarray] | None = None
        self.bad_images: dict[ImageReference, str] = {}
        self._dataset: Dataset | None = None

    def read(self) -> None:
        """Read the annotations, check the images and curate the table.

        With a feature source, images are checked without decoding them, because extraction decodes every image and
        reports all broken ones together. Otherwise every image is decoded here.

        Raises:
            InputError: annotations or images cannot be used.
        """
        self.full_table = self._read()
        table = self._curate()
        options = {"workers": self.num_workers, "bits_stored": self.bits_stored}
        self._leave_out(check_images(table.paths(), full=self.features is None, **options), table)
        self.table = self._curate()

    def read_labels(self, left_out: Iterable[str] = ()) -> None:
        """Read the annotations and curate the table without checking the images.

        Args:
            left_out: file names of images that count as bad.

        Raises:
            InputError: annotations cannot be used.
        """
        self.full_table = self._read()
        names = np.array(sorted(left_out), dtype=object)
        names = names[np.isin(names, self.full_table.file_names)]
        self.bad_images = dict.fromkeys(replace(self.full_table, file_names=names).paths(), "")
        self.table = self._curate()

    def setup(self, stage: str | None = None) -> None:
        """Read the data if needed, extract features if a source is set, split, and compute class weights.

        Later calls do nothing.

        Raises:
            InputError: annotations, images or settings cannot be used.
        """
        if self._dataset is not None:
            return
        if not hasattr(self, "table"):
            self.read()
        if self.group_images is None:
            # Split before extraction, which may take hours, to find errors early; split again if it drops images.
            self.group_copies()
            self.split, images = stratified_split(self.table, self.split_settings), len(self.table)
            self.extract()
        else:  # groups of near duplicates are known after extraction
            check_sizes(self.table, self.split_settings)
            images = None
            self.extract()
        if len(self.table) != images:
            self.group_copies()
            self.split = stratified_split(self.table, self.split_settings)
        counts = self.table.select(self.split.train).counts()
        self.class_weights = class_weights(counts, self.table.classes, **self.weight_options)
        self._dataset = self._make_dataset()

    def extract(self) -> None:
        """Compute missing features of the curated images, and apply `on_bad_image` to broken images.

        Raises:
            InputError: there are broken images and `on_bad_image` is `error`, or an error of `FeatureSource.extract`.
        """
        if self.features is not None and (bad := self.features.extract(self.table.paths())):
            self._leave_out(bad, self.table)
            self.table = self._curate()

    def group_copies(self) -> None:
        """Put images with identical bytes into one group of the table, and warn if their labels differ.

        With `group_images`, its groups are joined with these and with those that the table has.
        """
        if self.group_images is not None:
            self.table = self.table.join_groups(self.group_images(self.table))
        if self.hash_images is None:
            return
        self.digests = self.hash_images(self.table.paths())
        self.table = self.table.group_copies(self.digests)
        copies = find_copies(self.digests)
        one, other = self.table.labels[copies[:, 0]], self.table.labels[copies[:, 1]]
        differ = copies[(one + other == 1).any(axis=1)]  # 1 and 0; an unknown label contradicts nothing
        if len(copies):
            logger.info("%d images are copies of others and stay in the same part of the split", len(copies))
        if len(differ):
            logger.warning(
                "%d images are copies of other images but have different labels, such as '%s' and '%s'. Correct one of "
                "each pair; mlic.verify lists all.",
                len(differ),
                *self.table.file_names[differ[0]],
            )

    def _read(self) -> LabelTable:
        places = {"annotations": self.annotations, "images": self.images}
        table = read_annotations(self.reader, places, self.split_settings)
        return with_groups(with_parts(table, self.split_settings), self.split_settings.groups)

    def _curate(self) -> LabelTable:
        table = self.full_table
        if self.bad_images:
            table = table.select(np.array([path not in self.bad_images for path in table.paths()]))
        table, self.curation = curate(table, **self.curation_options)
        return table

    def _leave_out(self, bad: dict[ImageReference, str], table: LabelTable) -> None:
        leave_out(bad, table, self.on_bad_image)
        self.bad_images |= bad

    def _make_dataset(self) -> Dataset:
        targets = self.table.labels.astype(np.float32)
        if self.features is not None:
            return self.features.dataset(self.table.paths(), targets)
        if self.transform is None:
            raise ValueError("set `transform` or `features` before setup()")
        return self._images(self.transform, self.draft_size)

    def _images(self, transform: Callable[..., Any], draft_size: DraftSize) -> ImageDataset:
        options: dict[str, Any] = {"draft_size": draft_size, "bits_stored": self.bits_stored}
        return ImageDataset(self.table.paths(), transform, **options)

    def _augmented(self) -> Dataset:
        # decoded at twice the size, because the augmentation may enlarge a crop of the image
        size = self.draft_size
        draft_size = tuple(2 * side for side in size) if isinstance(size, tuple) else size and 2 * size
        assert self.augmentation is not None
        return AugmentedImages(self._images(self.augmentation, draft_size), seed=self.seed)

    @property
    def draft_size(self) -> DraftSize:
        """Short side in pixels to which JPEGs may be reduced while decoding; one per backbone of an ensemble."""
        return self.resize_size if self.decode == "reduced" else None

    @property
    def parts(self) -> list[str]:
        """Names of the parts that are not empty."""
        return [part for part in PARTS if len(getattr(self.split, part))]

    @property
    def split_hash(self) -> str:
        """Digest of file names, labels, groups, given parts and settings of the split; see `split_hash`."""
        return split_hash(self.table, self.split_settings)

    def loader(self, part: str, *, training: bool = False) -> DataLoader:
        """Return a loader of one part; `training` shuffles by (seed, epoch)."""
        return self.loader_of(getattr(self.split, part), training=training)

    def loader_of(self, rows: np.ndarray, *, training: bool = False) -> DataLoader:
        """Return a loader of some rows of `table`; `training` shuffles by (seed, epoch)."""
        sampler: Sampler[int] = RowSampler(rows)
        if training and self.features is not None:
            sampler = self.features.training_sampler(rows, self.seed)
        elif training:
            stride = 0 if self.augmentation is None else len(self.table)
            sampler = EpochSeededSampler(rows, seed=self.seed, stride=stride)
        batch_size = self.batch_size if training else max(self.batch_size, EVALUATION_BATCH)
        assert self._dataset is not None
        if self.features is not None:
            # stored features need no decoding: the dataset returns whole batches, without worker processes
            return DataLoader(self._dataset, batch_size, sampler=sampler, collate_fn=_as_is)
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
        """Return a loader of the training part that shuffles."""
        return self.loader("train", training=True)

    def val_dataloader(self) -> DataLoader:
        """Return a loader of the val part."""
        return self.loader("val")

    def test_dataloader(self) -> list[DataLoader]:
        """Return one loader for each of `parts`, to evaluate the selected checkpoint on all of them."""
        return [self.loader(part) for part in self.parts]


def _as_is(batch: Any) -> Any:
    # the `__getitems__` of the dataset has already made the batch
    return batch
