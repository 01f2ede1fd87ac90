"""Features of a frozen backbone, computed once and kept on disk."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlic.features.dataset import FeatureDataset, MemoryRows, StreamedRows
    from mlic.features.extraction import ExtractionResult, extract_features
    from mlic.features.hashing import HashedFiles, hash_files
    from mlic.features.reader import FeatureReader
    from mlic.features.sampling import FeatureSampler
    from mlic.features.shard import DamagedShardError
    from mlic.features.source import CachedFeatures
    from mlic.features.store import FeatureStore
    from mlic.features.writer import ShardWriter

# Imported on first use: listing the stores does not wait for lightning.
_HOMES = {
    "CachedFeatures": "source",
    "DamagedShardError": "shard",
    "ExtractionResult": "extraction",
    "FeatureDataset": "dataset",
    "FeatureReader": "reader",
    "FeatureSampler": "sampling",
    "FeatureStore": "store",
    "HashedFiles": "hashing",
    "MemoryRows": "dataset",
    "ShardWriter": "writer",
    "StreamedRows": "dataset",
    "extract_features": "extraction",
    "hash_files": "hashing",
}

__all__ = [
    "CachedFeatures",
    "DamagedShardError",
    "ExtractionResult",
    "FeatureDataset",
    "FeatureReader",
    "FeatureSampler",
    "FeatureStore",
    "HashedFiles",
    "MemoryRows",
    "ShardWriter",
    "StreamedRows",
    "extract_features",
    "hash_files",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlic.features' has no attribute '{name}'")
    return getattr(import_module(f"mlic.features.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
