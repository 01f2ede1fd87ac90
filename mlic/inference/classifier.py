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
from torch.nn import functional

from mlic.data.image_dataset import ImageDataset, image_loader
from mlic.data.images import FULL_BITS, DraftSize, ImageReference, check_bits_stored
from mlic.errors import InputError
from mlic.evaluation.thresholds import CALIBRATED, resolve_thresholds
from mlic.inference.checkpoint import SavedRun, read_saved_run
from mlic.inference.guarantees import read_thresholds
from mlic.inference.listing import Images, list_images
from mlic.inference.loading import WeightsFiles, find_device, make_backbone, make_head
from mlic.inference.prediction_table import prediction_rows
from mlic.models import Backbone

ThresholdSetting = str | float | Mapping[str, float]
NOT_FINITE = "its features or scores are infinite or not a number"
# Scores are computed without mixed precision; only weights that were trained in a narrow format (a `precision` of the
# `lightning.Trainer`) keep it.
NARROW = {"bf16-true": torch.bfloat16, "16-true": torch.float16}


class ScoredBatch(NamedTuple):
    """The result of scoring a batch of images."""

    names: Sequence[str]
    images: Sequence[ImageReference | Image.Image]
    logits: Tensor  # float32 (B, C) on the CPU; meaningless for images with an error
    errors: list[str]  # reason why an image cannot be used, or ""
    vectors: Tensor | None = None  # see `Classifier.unit_vectors`; None unless asked for

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
        config: whole config of the run.
        classes: names in the order of the scores.
        backbone, head: the networks on `device` in eval mode.
        device: device of the networks.
        packages: names of packages of the user whose classes the checkpoint may name.
        is_cached: True if the run was trained on stored features.
        batch_size: images per forward pass of the backbone in the evaluation of the run.
        draft_size: draft size with which the run decoded its images; see `mlic.data.images.open_at_sizes`.
        bits_stored: bits in use with which the run decoded its images; see `mlic.data.open_image`.
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
        config = saved.config
        self.saved, self.config, self.classes = saved, config, saved.classes
        self.backbone, self.device, self.packages = backbone, device, packages
        self.is_cached: bool = config["features"].get("mode") == "cached"
        self.batch_size: int = config["features" if self.is_cached else "data"]["batch_size"]
        is_reduced = config["data"].get("decode") == "reduced"
        self.draft_size: DraftSize = backbone.resize_size if is_reduced else None
        self.bits_stored = check_bits_stored(config["data"].get("bits_stored", FULL_BITS))
        self._dtype = NARROW.get(str(config["trainer"].get("precision")), torch.float32)
        whole = head if self.is_cached else nn.Sequential(backbone, head).eval()
        self.head: nn.Module = whole.to(device=device, dtype=self._dtype)

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
        packages, saved = (packages,) if isinstance(packages, str) else tuple(packages), read_saved_run(run)
        try:
            target = find_device(device)
            backbone = make_backbone(saved, target, weights=weights, precision=precision, packages=packages)
            head = make_head(saved, backbone.feature_shape, packages)
            return cls(saved, backbone, head, target, packages)
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(f"'{saved.checkpoint}' cannot be built from its settings: {error!r}.") from error

    def __repr__(self) -> str:
        """Return network, head, number of classes and run."""
        head = str(self.config["head"].get("_target_")).rpartition(".")[2]
        run = str(self.saved.folder or self.saved.checkpoint)
        return f"Classifier(network={self.backbone.name!r}, head={head!r}, classes={len(self.classes)}, run={run!r})"

    @property
    def thresholds(self) -> np.ndarray | None:
        """Thresholds float64 (C,) tuned on the val part of the run (0.5 without val); None if not in the checkpoint."""
        return None if self.saved.thresholds is None else self.choose_thresholds(CALIBRATED)

    def choose_thresholds(self, thresholds: ThresholdSetting) -> np.ndarray:
        """Return thresholds float64 (C,).

        Args:
            thresholds: path of a thresholds.json or guarantees.json, or see
                `mlic.evaluation.thresholds.resolve_thresholds`.

        Raises:
            InputError: the setting cannot be used.
        """
        if isinstance(thresholds, str) and thresholds.endswith(".json"):
            return read_thresholds(Path(thresholds), self.classes, self.saved.checkpoint)
        return resolve_thresholds(thresholds, self.classes, self.saved.thresholds)

    def stream(
        self,
        images: Sequence[ImageReference | Image.Image],
        names: Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        with_vectors: bool = False,
    ) -> Iterator[ScoredBatch]:
        """Score images batch by batch in order, in constant memory.

        Args:
            images: image files, or images in memory; unusable ones are returned with their error.
            names: names of the images. Default: their paths.
            batch_size: images per forward pass. Default: that of the run.
            num_workers: number of processes that decode images. Default: one per core.
            with_vectors: also return the unit vectors of the features.
        """
        for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value is not None and value < least:
                raise InputError(f"{key}={value}: expected a whole number of at least {least}.", key=key)
        sizes: dict[str, Any] = {"draft_size": self.draft_size, "bits_stored": self.bits_stored}
        dataset = ImageDataset(images, self.backbone.transform, strict=False, **sizes)
        batches = image_loader(
            dataset,
            batch_size=batch_size or self.batch_size,
            num_workers=(os.cpu_count() or 1) if num_workers is None else num_workers,
            on_cpu=self.device.type == "cpu",
        )
        names, start = [str(image) for image in images] if names is None else names, 0
        for pixels, errors, _ in batches:
            inputs, end = self.inputs(pixels), start + len(errors)
            logits = self.logits(inputs)
            is_finite = torch.isfinite(logits).all(dim=1).tolist()
            errors = [
                error or ("" if finite else NOT_FINITE)
                for error, finite in zip(errors, is_finite, strict=True)
            ]
            vectors = self.unit_vectors(inputs) if with_vectors else None
            yield ScoredBatch(names[start:end], images[start:end], logits, errors, vectors)
            start = end

    def inputs(self, pixels: Tensor) -> Tensor:
        """Convert uint8 images returned by the `transform` of the backbone to the input of `logits`."""
        pixels = pixels.to(self.device, non_blocking=self.device.type == "cuda")  # from pinned memory
        return self.backbone(pixels) if self.is_cached else pixels

    def logits(self, inputs: Tensor) -> Tensor:
        """Compute logits float32 (B, C) on the CPU from features or images returned by `inputs`."""
        inputs = inputs.to(self.device, self._dtype if inputs.is_floating_point() else None)
        with torch.inference_mode():
            return self.head(inputs).float().cpu()

    def unit_vectors(self, inputs: Tensor) -> Tensor:
        """Return unit vectors float16 (B, channels) on the CPU of the inputs of `logits`, to compare images.

        Feature maps are averaged over their positions. A run without stored features computes them a second time.
        """
        with torch.inference_mode():
            features = inputs if self.is_cached else self.backbone(inputs)
            maps = features.float().reshape(len(features), self.backbone.num_channels, -1)
            return functional.normalize(maps.mean(dim=2)).half().cpu()

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
            images: see `mlic.inference.list_images`.
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
        limits, (found, names) = self.choose_thresholds(thresholds), list_images(images)
        batches = self.stream(found, names, batch_size=batch_size, num_workers=num_workers)
        tables = [prediction_rows(batch, self.classes, limits, top_k=top_k) for batch in batches]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
