"""Extraction: computing the features that are missing in a store."""

import logging
import os
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from mlic.data.images import FULL_BITS, DraftSize, ImageReference, full_check
from mlic.errors import InputError
from mlic.features.hashing import HashedFiles, hash_files
from mlic.features.predicting import FeatureExtractor, PendingImages
from mlic.features.store import FeatureStore, size_of
from mlic.models import Backbone
from mlic.runs.processes import cluster_environment
from mlic.runs.trainer_signals import OwnSignals

logger = logging.getLogger(__name__)

HASH_INDEX = "hashes.sqlite"
ROOM_MARGIN_BYTES = 100_000_000
ESTIMATE_ROWS = 200  # fewer images are computed before an estimate would be of use
ESTIMATE_IMAGES = 2  # for a large network on a CPU these take seconds
DIGEST_BYTES = 64  # per row, in addition to its features


@dataclass(frozen=True, eq=False)
class ExtractionResult:
    """Result of an extraction.

    Attributes:
        stores: one store per network of the backbone.
        digests: `S64` (N,), names of the rows of the N paths; empty for unreadable files.
        found: number of existing rows in all stores; identical images count once.
        computed: number of added rows.
        bad: maps images without a row to the reasons.
        seconds: wall-clock seconds.
    """

    stores: tuple[FeatureStore, ...]
    digests: np.ndarray
    found: int
    computed: int
    bad: dict[ImageReference, str]
    seconds: float


def extract_features(
    backbone: Backbone,
    paths: Sequence[ImageReference],
    *,
    directory: str | Path,
    dtype: str = "float16",
    batch_size: int = 32,
    num_workers: int | None = None,
    draft_size: DraftSize = None,
    bits_stored: int = FULL_BITS,
    trainer: Mapping[str, Any] | None = None,
) -> ExtractionResult:
    """Compute the rows of images (identified by their bytes) that are missing in the stores of a backbone.

    With several devices or nodes, every process calls this function, as usual in Lightning; the first process decides
    which images are computed.

    Args:
        backbone: one network, or several with one store each.
        paths: N images.
        directory: folder of all stores and of the index of file hashes.
        dtype: dtype of the stored features: `float16`, `bfloat16` or `float32`; rows that overflow are stored as
            float32.
        batch_size: images per forward pass.
        num_workers: number of processes that decode images. Default: one per core.
        draft_size: short side in pixels to which JPEGs may be reduced while decoding, one per network; None decodes
            them whole.
        bits_stored: bits in use in 16-bit greyscale images; see `mlic.data.open_image`.
        trainer: keyword arguments of `lightning.Trainer`: accelerator, devices, num_nodes, strategy.

    Returns:
        The result, which lists all bad images instead of raising an error.

    Raises:
        InputError: the disk is full, the folder is not writable, settings are invalid, or features are not finite.
    """
    start = time.perf_counter()
    for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value is not None and not (type(value) is int and value >= least):
            raise InputError(f"features.{key}={value}: expected a whole number of at least {least}.")
    engine = _make_trainer(trainer)
    if not backbone.is_optimized:
        backbone.optimize_for(engine.strategy.root_device)
    draft_sizes = draft_size if isinstance(draft_size, tuple) else (draft_size,) * len(backbone.members)
    if num_workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        num_workers = max(1, cores // (engine.world_size // engine.num_nodes))
    extractors = []
    for member, size in zip(backbone.members, draft_sizes, strict=True):
        decoding: Any = {"draft_size": size, "bits_stored": bits_stored}
        store = open_store(member, directory, dtype=dtype, **decoding)
        sizes = {"batch_size": batch_size, "num_workers": num_workers}
        extractors.append(FeatureExtractor(member, store, **sizes, **decoding))
    index, before = Path(directory) / HASH_INDEX, 0
    if engine.is_global_zero:
        files = hash_files(paths, index)
        for extractor in extractors:
            before += _compute_missing(extractor, paths, files, engine)
    else:
        for extractor in extractors:
            _predict(engine, extractor)
        # not before, because the first process sends its list of images and has added their digests to the index
        files = hash_files(paths, index)
    stores = tuple(extractor.store for extractor in extractors)
    digests, bad, missing = _distinct(files), dict(files.bad), 0
    for store in stores:
        store.refresh()
        store.touch()
        missing += int(store.is_missing(digests).sum())
        bad |= _explain_missing(store, paths, files, bits_stored)
    found, computed = len(digests) * len(stores) - max(before, missing), max(0, before - missing)
    seconds = time.perf_counter() - start
    logger.info(
        "features: %d rows found, %d computed%s in %.1f s; %.1f MB in %s",
        found,
        computed,
        f", {len(bad)} images without" if bad else "",
        seconds,
        sum(size_of(store.folder) for store in stores) / 1e6,
        " and ".join(f"'{store.folder}'" for store in stores),
    )
    return ExtractionResult(stores, files.digests, found, computed, bad, seconds)


def open_store(
    backbone: Backbone, directory: str | Path, *, dtype: str, draft_size: int | None, bits_stored: int
) -> FeatureStore:
    """Return the store of a single network and its settings of images; nothing is read or written yet.

    Args:
        backbone: a single network after `optimize_for`, which decides its number format.
        directory: folder of all stores.
        dtype: see `extract_features`.
        draft_size: see `extract_features`.
        bits_stored: see `extract_features`.

    Raises:
        InputError: the dtype is unknown.
    """
    identity = {**backbone.identity, "decoding": "whole" if draft_size is None else f"draft {draft_size}"}
    if bits_stored != FULL_BITS:  # absent by default, so that stores from before this option stay valid
        identity["bits_stored"] = bits_stored
    return FeatureStore(directory, identity, feature_shape=backbone.feature_shape, dtype=dtype)


def _make_trainer(options: Mapping[str, Any] | None) -> L.Trainer:
    environment = cluster_environment()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*`srun` command is available.*")  # one process is enough
        return L.Trainer(
            **(options or {}),
            callbacks=[OwnSignals()],
            plugins=[environment] if environment else None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # the loader has the images of one process
        )


def _distinct(files: HashedFiles) -> np.ndarray:
    digests = np.unique(files.digests)
    return digests[digests != b""]


def _compute_missing(
    extractor: FeatureExtractor, paths: Sequence[ImageReference], files: HashedFiles, engine: L.Trainer
) -> int:
    """Compute the rows missing on the first process, and return their number."""
    store, digests = extractor.store, _distinct(files)
    if engine.world_size == 1 and not store.is_missing(digests).any():
        return 0
    with store.lock():
        # the first path of each content that has no row
        first = np.sort(np.unique(files.digests, return_index=True)[1])
        first = first[store.is_missing(files.digests[first]) & (files.digests[first] != b"")]
        pending = extractor.pending = PendingImages(
            [paths[row] for row in first.tolist()], files.digests[first], files.states[first]
        )
        room, expected = _check_room(store, len(pending)), ""
        if len(pending) >= ESTIMATE_ROWS:
            seconds = _seconds_per_image(extractor, engine)
            duration = timedelta(seconds=round(seconds * len(pending)))
            expected = f" at about {1 / seconds:.2g} images/s, {duration} (h:mm:ss)"
        found = len(digests) - len(pending)
        logger.info("features: %d rows found, %d to compute%s; %s", found, len(pending), expected, room)
        if len(pending) or engine.world_size > 1:
            # other processes may be about to make the same call and would wait for this one
            _predict(engine, extractor)
    return len(pending)


def _seconds_per_image(extractor: FeatureExtractor, engine: L.Trainer) -> float:
    """Measure decoding and network on the first images; on a CPU they share the cores, a GPU works beside it."""
    device = engine.strategy.root_device
    backbone = extractor.backbone.to(device)
    images = extractor.images()
    start = time.perf_counter()
    first = torch.stack([images[row][0] for row in range(ESTIMATE_IMAGES)])
    decoding = (time.perf_counter() - start) / len(first) / max(1, extractor.num_workers)
    batch = first.repeat(extractor.batch_size // len(first) or 1, *[1] * (first.ndim - 1)).to(device)
    batch = batch if device.type == "cuda" else batch[: len(first)]
    backbone(batch).cpu()  # the first pass allocates memory
    start = time.perf_counter()
    backbone(batch).cpu()
    network = (time.perf_counter() - start) / len(batch)
    return (max(decoding, network) if device.type == "cuda" else decoding + network) / engine.world_size


def _check_room(store: FeatureStore, missing: int) -> str:
    """Return the size of missing rows in words; raise an InputError if the disk has no space for them."""
    size = missing * (store.layout.row_bytes + DIGEST_BYTES)
    free = shutil.disk_usage(store.folder).free
    if size + ROOM_MARGIN_BYTES <= free:
        return f"{_megabytes(size)} of the {_megabytes(free)} that are free"
    raise InputError(
        f"features.dir: {missing} rows of {_megabytes(store.layout.row_bytes)} take {_megabytes(size)}, but "
        f"'{store.folder}' has {_megabytes(free)} free, {_megabytes(ROOM_MARGIN_BYTES)} reserved. Choose another "
        "folder with features.dir, free some space (mlic.features action=prune), or pool the features with "
        "model.backbone.pool=avg, which makes them much smaller."
    )


def _megabytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.3g} MB"


def _predict(engine: L.Trainer, extractor: FeatureExtractor) -> None:
    try:
        with warnings.catch_warnings():
            # the number of workers is suitable for these cores
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            engine.predict(extractor, return_predictions=False)
    except BaseException:
        extractor.finish()
        raise


def _explain_missing(
    store: FeatureStore, paths: Sequence[ImageReference], files: HashedFiles, bits_stored: int
) -> dict[ImageReference, str]:
    """Decode the readable files without a row again to find the reasons."""
    missing = store.is_missing(files.digests) & (files.digests != b"")
    changed = "no row was stored: it changed while it was read, or features.dir is not shared by all nodes"
    return {
        paths[position]: full_check(paths[position], bits_stored) or changed
        for position in np.flatnonzero(missing).tolist()
    }
