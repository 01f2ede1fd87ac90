"""The `Classifier`, a trained run that scores photographs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from mlic.data.image_dataset import ImageDataset, image_loader
from mlic.data.images import FULL_BITS, DraftSize, ImageReference, check_bits_stored
from mlic.errors import InputError
from mlic.evaluation.thresholds import CALIBRATED, resolve_thresholds
from mlic.inference.building import check_packages
from mlic.inference.checkpoint import SavedRun, read_saved_run
from mlic.inference.guarantees import refuse_other_checkpoint
from mlic.inference.listing import Images, find_images
from mlic.inference.loading import WeightsFiles, find_device, head_dtype, make_backbone, make_head
from mlic.inference.prediction_table import prediction_rows
from mlic.models import Backbone

ThresholdSetting = str | float | Mapping[str, float]
NOT_FINITE = "its features or scores are infinite or not a number"


class ScoredBatch(NamedTuple):
    """The result of scoring a batch of images."""

    paths: Sequence[ImageReference | Image.Image]
    logits: Tensor  # float32 (B, C) on the CPU; meaningless for images with an error
    errors: list[str]  # reason why an image cannot be used, or ""

    @property
    def scores(self) -> np.ndarray:
        """Sigmoid of the logits, float32 (B, C); NaN for images that cannot be used."""
        scores = torch.sigmoid(self.logits).numpy()
        scores[[bool(error) for error in self.errors]] = np.nan
        return scores


class Classifier:
    """Backbone and head of a run, ready to use. Create one with `load`.

    Images are decoded and transformed as in training. Features are not rounded to the number format of a feature
    store, so that scores may differ in the fourth decimal from those of a run on cached features.

    Attributes:
        saved: content of the checkpoint.
        classes: names in the order of the scores.
        backbone, head: the networks on `device` in eval mode.
        device: device of the networks.
        packages: names of packages of the user whose classes the checkpoint may name.
    """

    def __init__(
        self,
        saved: SavedRun,
        backbone: Backbone,
        head: nn.Module,
        device: torch.device,
        packages: Sequence[str] = (),
    ) -> None:
        """Create a classifier from its parts; see `load`."""
        self.saved, self.backbone, self.packages = saved, backbone, packages
        self.classes, self.device, self._dtype = saved.classes, device, head_dtype(self.config)
        self.is_cached = self.config["features"].get("mode") == "cached"
        live = nn.Sequential(backbone, head).eval()
        self.head: nn.Module = (head if self.is_cached else live).to(device=device, dtype=self._dtype)

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        device: str = "auto",
        weights: WeightsFiles = None,
        precision: str | None = None,
        packages: Sequence[str] = (),
    ) -> Self:
        """Load a run folder (its selected checkpoint) or a checkpoint file.

        Nothing is unpickled, and no class outside mlic and `packages` is built, so that files of unknown origin are
        safe.

        Args:
            run: run folder or checkpoint.
            device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
            weights: local file of the weights of the backbone, if the location used by the run is not available; a list
                for an ensemble, with None for members that need no file.
            precision: precision of the backbone instead of that of the run: `auto`, `float32`, `bfloat16`, `float16` or
                `int8`.
            packages: names of your packages whose `torch.nn.Module` classes the checkpoint may use as backbone, head or
                loss, such as `["mine"]`.

        Raises:
            InputError: the checkpoint is missing or refused, or the weights are not those of the run.
        """
        packages, saved = check_packages(packages), read_saved_run(run)
        try:
            target = find_device(device)
            backbone = make_backbone(saved, target, weights=weights, precision=precision, packages=packages)
            head = make_head(saved, backbone.feature_shape, packages)
            return cls(saved, backbone, head, target, packages)
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"'{saved.checkpoint}' cannot be built from its settings: {error!r}. Expected a checkpoint "
                "written by mlic.train."
            ) from error

    def __repr__(self) -> str:
        """Return network, head, number of classes and run."""
        head = str(self.config["head"].get("_target_")).rpartition(".")[2]
        run = str(self.saved.folder or self.saved.checkpoint)
        return f"Classifier(network={self.backbone.name!r}, head={head!r}, classes={len(self.classes)}, run={run!r})"

    @property
    def config(self) -> Mapping[str, Any]:
        """Whole config of the run."""
        return self.saved.config

    @property
    def thresholds(self) -> np.ndarray | None:
        """Thresholds float64 (C,) tuned on the val part of the run (0.5 without val); None if not in the checkpoint."""
        if self.saved.thresholds is None:
            return None
        per_class = self.saved.thresholds["per_class"]
        return np.array([per_class[name] for name in self.classes], dtype=np.float64)

    def choose_thresholds(self, thresholds: ThresholdSetting) -> np.ndarray:
        """Return thresholds float64 (C,); see `mlic.evaluation.thresholds.resolve_thresholds`.

        Raises:
            InputError: the setting cannot be used.
        """
        if isinstance(thresholds, str) and thresholds.endswith(".json"):
            refuse_other_checkpoint(Path(thresholds), self.saved.checkpoint)
        return resolve_thresholds(thresholds, self.classes, self.saved.thresholds)

    @property
    def draft_size(self) -> DraftSize:
        """Draft size with which the run decoded its images; see `mlic.data.images.open_at_sizes`."""
        return self.backbone.resize_size if self.config["data"].get("decode") == "reduced" else None

    @property
    def bits_stored(self) -> int:
        """Bits in use with which the run decoded its images; see `mlic.data.open_image`."""
        return check_bits_stored(self.config["data"].get("bits_stored", FULL_BITS))

    @property
    def batch_size(self) -> int:
        """Images per forward pass of the backbone in the evaluation of the run."""
        return self.config["features"]["batch_size"] if self.is_cached else self.config["data"]["batch_size"]

    def stream(
        self,
        paths: Sequence[ImageReference | Image.Image],
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
    ) -> Iterator[ScoredBatch]:
        """Score images batch by batch in order, in constant memory.

        Args:
            paths: image files, or images in memory; unusable ones are returned with their error.
            batch_size: images per forward pass. Default: that of the run.
            num_workers: number of processes that decode images. Default: one per core.
        """
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size={batch_size}: expected a whole number of at least 1.")
        if num_workers is not None and num_workers < 0:
            raise InputError(f"num_workers={num_workers}: expected a whole number of at least 0.")
        size = batch_size or self.batch_size
        workers = num_workers if num_workers is not None else (os.cpu_count() or 1)
        images = ImageDataset(
            paths,
            self.backbone.transform,
            draft_size=self.draft_size,
            bits_stored=self.bits_stored,
            strict=False,
        )
        start = 0
        batches = image_loader(
            images,
            batch_size=size,
            num_workers=workers,
            on_cpu=self.device.type == "cpu",
        )
        for pixels, errors, _ in batches:
            logits = self.logits(self.inputs(pixels))
            for row in (~torch.isfinite(logits).all(dim=1)).nonzero().flatten().tolist():
                errors[row] = errors[row] or NOT_FINITE
            yield ScoredBatch(paths[start : start + len(errors)], logits, errors)
            start += len(errors)

    def inputs(self, pixels: Tensor) -> Tensor:
        """Convert uint8 images returned by the `transform` of the backbone to the input of `logits`."""
        pixels = pixels.to(self.device, non_blocking=self.device.type == "cuda")  # from pinned memory
        return self.backbone(pixels) if self.is_cached else pixels

    def logits(self, inputs: Tensor) -> Tensor:
        """Compute logits float32 (B, C) on the CPU from features or images returned by `inputs`."""
        inputs = inputs.to(self.device, self._dtype if inputs.is_floating_point() else None)
        with torch.inference_mode():
            return self.head(inputs).float().cpu()

    def predict(
        self,
        images: Images,
        *,
        thresholds: ThresholdSetting = CALIBRATED,
        top_k: int | None = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
    ) -> pd.DataFrame:
        """Predict labels and scores of images.

        Args:
            images: a file, folder, pattern or tar shards, as for `list_images`; an image in memory (a PIL image, an
                array uint8 (H, W, 3), or uint8 or uint16 (H, W) for greyscale); or several of these.
            thresholds: see `choose_thresholds`; labels with a score above their threshold are predicted.
            top_k: return this many classes, best first, instead of the scores of all classes.
            batch_size: see `stream`.
            num_workers: see `stream`.

        Returns:
            One row per image: file_name (relative to a given folder; `image <position>` without a name), labels (joined
            by `|`, best first), error (empty if none), and `score:<class>` for each class or, with `top_k`, class_1,
            score_1, class_2, ...

        Raises:
            InputError: settings or arrays are invalid. A broken image is a row with its error.
            TypeError: `images` are not images.
        """
        limits = self.choose_thresholds(thresholds)
        found, names = find_images(images)
        tables, done = [], 0
        for batch in self.stream(found, batch_size=batch_size, num_workers=num_workers):
            own = names[done : done + len(batch.errors)]
            tables.append(prediction_rows(own, batch, self.classes, limits, top_k))
            done += len(own)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
