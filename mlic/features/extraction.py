"""Compute the features that a store lacks."""

import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from mlic.data.images import FULL_BITS, ImageReference, full_check
from mlic.errors import InputError
from mlic.features.hashing import HashedFiles, hash_files
from mlic.features.predicting import ExtractionProgress, FeatureExtractor, FeatureWriter, Work
from mlic.features.store import FeatureStore
from mlic.models.backbone import FrozenBackbone
from mlic.runs.processes import cluster_environment
from mlic.runs.trainer_signals import OwnSignals

logger = logging.getLogger(__name__)

HASH_INDEX = "hashes.sqlite"
VIEWS = ("identity", "flip")
ROOM_MARGIN_BYTES = 100_000_000
ROW_OVERHEAD_BYTES = 72  # name and checksum of a row


@dataclass(frozen=True)
class ExtractionResult:
    """What an extraction found and did.

    Attributes:
        stores: one a view; with several backbones those of one follow those of the other.
        digests: (N,) `S64`, names of the rows of the N paths; empty for unreadable files.
        found: rows that were there, of all views; the same image under two names counts once.
        computed: rows that were added.
        bad: path -> reason, of the images that have no row.
        seconds: of wall clock.
    """

    stores: tuple[FeatureStore, ...]
    digests: np.ndarray
    found: int
    computed: int
    bad: dict[ImageReference, str]
    seconds: float

    @property
    def folder(self) -> Path:
        """Of the first store."""
        return self.stores[0].folder

    @property
    def bytes(self) -> int:
        """Size of the stores on disk."""
        return sum(store.size for store in self.stores)


def join_results(results: Sequence[ExtractionResult], paths: Sequence[ImageReference]) -> ExtractionResult:
    """What several backbones found and did for the same paths, as one result."""
    digests = results[0].digests
    bad = {path: reason for result in results for path, reason in result.bad.items()}
    for result in results[1:]:
        for position in np.flatnonzero(result.digests != digests).tolist():
            bad.setdefault(paths[position], "it changed while features were computed")
    return ExtractionResult(
        stores=tuple(store for result in results for store in result.stores),
        digests=digests,
        found=sum(result.found for result in results),
        computed=sum(result.computed for result in results),
        bad=bad,
        seconds=sum(result.seconds for result in results),
    )


def extract_features(
    backbone: FrozenBackbone,
    paths: Sequence[ImageReference],
    *,
    directory: str | Path,
    dtype: str = "float16",
    views: int = 1,
    batch_size: int = 32,
    num_workers: int | None = None,
    draft_size: int | None = None,
    bits_stored: int = FULL_BITS,
    shard_mb: float = 64,
    shard_seconds: float = 60,
    trainer: Mapping[str, Any] | None = None,
) -> ExtractionResult:
    """Compute the rows that the stores of this backbone lack, found by the bytes of the images.

    With several devices or nodes every process calls this, as Lightning has it; the first one decides what is
    done.

    Args:
        backbone: a `FrozenBackbone`: uint8 (B, 3, H, W) -> float32 (B, *feature_shape), with `identity`,
            `feature_shape` and `transform`.
        paths: N image files.
        directory: folder of all stores and of the index of file hashes.
        dtype: of the stored numbers: `float16`, `bfloat16` or `float32`; rows that overflow it are float32.
        views: 1, or 2 to store the features of the horizontally flipped images too.
        batch_size: images a forward pass; always filled up to that number, so that rows do not depend on the
            rest.
        num_workers: processes that decode images; by default one a core.
        draft_size: short side in pixels to which JPEGs may be reduced while decoding; None decodes them
            whole.
        bits_stored: of 16-bit grey images, the bits in use; see `mlic.data.open_image`.
        shard_mb: size in 10^6 bytes of a shard.
        shard_seconds: age at which a shard is closed even so.
        trainer: keyword arguments of `lightning.Trainer`: accelerator, devices, num_nodes, strategy.

    Returns:
        What was found and computed. Bad images are listed there, all of them, and not raised.

    Raises:
        InputError: no room on the disk, a folder that cannot be written, bad settings, features that are not finite.
    """
    start = time.perf_counter()
    _check_numbers(batch_size, num_workers, shard_mb)
    engine = _make_trainer(trainer, FeatureWriter(shard_mb=shard_mb, shard_seconds=shard_seconds))
    if not backbone.is_optimized:
        backbone.optimize_for(engine.strategy.root_device)
    decoding = {"draft_size": draft_size, "bits_stored": bits_stored}
    stores = make_stores(backbone, directory, dtype=dtype, views=views, **decoding)
    extractor = FeatureExtractor(
        backbone,
        stores,
        **decoding,
        batch_size=batch_size,
        num_workers=_workers(num_workers, engine),
    )
    index = Path(directory) / HASH_INDEX
    if engine.is_global_zero:
        files = hash_files(paths, index)
        before = _fill(stores, paths, files, extractor, engine)
    else:
        # The first process sends its list of work. Hashing here too would only double the reading.
        _predict(engine, extractor)
        files, before = hash_files(paths, index), 0
    return _summary(stores, paths, files, before, start, bits_stored)


def _check_numbers(batch_size: int, num_workers: int | None, shard_mb: float) -> None:
    for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value is not None and not (type(value) is int and value >= least):
            raise InputError(f"features.{key}={value}: expected a whole number of at least {least}.")
    if not shard_mb > 0:
        raise InputError(f"features.shard_mb={shard_mb}: expected a number above 0.")


def _summary(
    stores: tuple[FeatureStore, ...],
    paths: Sequence[ImageReference],
    files: HashedFiles,
    lacking_before: int,
    start: float,
    bits_stored: int,
) -> ExtractionResult:
    for store in stores:
        store.refresh()
        store.touch()
    names = _distinct(files)
    lacking = sum(len(store.missing(names)) for store in stores)
    return ExtractionResult(
        stores=stores,
        digests=files.digests,
        found=len(names) * len(stores) - max(lacking_before, lacking),
        computed=max(0, lacking_before - lacking),
        bad=files.bad | _explain_missing(stores, paths, files, bits_stored),
        seconds=time.perf_counter() - start,
    )


def make_stores(
    backbone: FrozenBackbone,
    directory: str | Path,
    *,
    dtype: str,
    views: int,
    draft_size: int | None,
    bits_stored: int = FULL_BITS,
) -> tuple[FeatureStore, ...]:
    """The stores of a backbone, one a view; see `extract_features` for the arguments.

    Raises:
        InputError: bad `views` or `dtype`.
    """
    if views not in range(1, len(VIEWS) + 1):
        raise InputError(f"features.views: {views} is none of 1 (the image), 2 (its mirror image too).")
    identity = {**backbone.identity, "decoding": "whole" if draft_size is None else f"draft {draft_size}"}
    if bits_stored != FULL_BITS:  # stores of before there was a choice stay valid
        identity["bits_stored"] = bits_stored
    return tuple(
        FeatureStore(directory, identity, feature_shape=backbone.feature_shape, dtype=dtype, view=view)
        for view in VIEWS[:views]
    )


def _make_trainer(options: Mapping[str, Any] | None, writer: FeatureWriter) -> L.Trainer:
    environment = cluster_environment()
    return L.Trainer(
        **(options or {}),
        callbacks=[writer, ExtractionProgress(), OwnSignals()],
        plugins=[environment] if environment else None,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # RankSampler gives each image to one process
    )


def _workers(num_workers: int | None, engine: L.Trainer) -> int:
    if num_workers is not None:
        return num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // (engine.world_size // engine.num_nodes))


def _distinct(files: HashedFiles) -> np.ndarray:
    names = np.unique(files.digests)
    return names[names != b""]


def _fill(
    stores: Sequence[FeatureStore],
    paths: Sequence[ImageReference],
    files: HashedFiles,
    extractor: FeatureExtractor,
    engine: L.Trainer,
) -> int:
    """Compute what is missing, on the first process; returns the number of rows that were."""
    names = _distinct(files)
    if engine.world_size == 1 and not any(len(store.missing(names)) for store in stores):
        logger.info("features: all %d rows found in '%s'", len(names) * len(stores), stores[0].folder)
        return 0
    with _locked(stores):
        lacking = [len(store.missing(names)) for store in stores]
        extractor.work = _list_work(stores, paths, files)
        _announce(stores, len(names) * len(stores) - sum(lacking), sum(lacking), len(extractor.work))
        if len(extractor.work) or engine.world_size > 1:
            # others may be on their way into the same call, and would wait for this process
            _predict(engine, extractor)
    return sum(lacking)


@contextmanager
def _locked(stores: Sequence[FeatureStore]) -> Iterator[None]:
    """Hold all stores; always taken in the same order, so that two processes never wait for each other."""
    with ExitStack() as locks:
        for store in stores:
            locks.enter_context(store.lock())
        yield


def _list_work(stores: Sequence[FeatureStore], paths: Sequence[ImageReference], files: HashedFiles) -> Work:
    """The first path of each content that lacks a row."""
    lacks = {store.view: store.lacks(files.digests) for store in stores}
    readable = files.digests != b""
    _, first = np.unique(files.digests, return_index=True)
    chosen = np.sort(first)
    chosen = chosen[np.any([lacks[view][chosen] for view in lacks], axis=0) & readable[chosen]]
    return Work(
        paths=[paths[position] for position in chosen.tolist()],
        digests=files.digests[chosen],
        states=files.states[chosen],
        views=tuple(view for view in lacks if lacks[view][chosen].any()),
    )


def _announce(stores: Sequence[FeatureStore], found: int, lacking: int, num_images: int) -> None:
    """Say what will be done, and refuse when the disk has not the room."""
    layout, folder = stores[0].layout, stores[0].folder
    size = lacking * (layout.row_bytes + ROW_OVERHEAD_BYTES)
    logger.info(
        "features: %d rows found, %d to compute from %d images, %s in '%s'",
        found,
        lacking,
        num_images,
        _megabytes(size),
        folder,
    )
    free = shutil.disk_usage(folder).free
    if size + ROOM_MARGIN_BYTES > free:
        advice = "Choose another folder with features.dir, or make room (python -m mlic.features action=prune days=30)."
        if stores[0].identity.get("pool") != "avg":
            advice = (
                f"Pool the features with model.backbone.pool=avg, which makes them much smaller. {advice}"
            )
        raise InputError(
            f"features.dir: {lacking} rows of {_megabytes(layout.row_bytes)} take {_megabytes(size)}, but "
            f"'{folder}' has {_megabytes(free)} free, {_megabytes(ROOM_MARGIN_BYTES)} reserved. {advice}"
        )


def _megabytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.3g} MB"


def _predict(engine: L.Trainer, extractor: FeatureExtractor) -> None:
    with warnings.catch_warnings():
        # the number of workers was chosen for these cores
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        engine.predict(extractor, return_predictions=False)


def _explain_missing(
    stores: Sequence[FeatureStore], paths: Sequence[ImageReference], files: HashedFiles, bits_stored: int
) -> dict[ImageReference, str]:
    """Reasons why readable files have no row: decoding them once more tells."""
    lacks = np.any([store.lacks(files.digests) for store in stores], axis=0) & (files.digests != b"")
    changed = "no row was stored: it changed while it was read, or features.dir is not shared by all nodes"
    return {
        paths[position]: full_check(paths[position], bits_stored) or changed
        for position in np.flatnonzero(lacks).tolist()
    }
