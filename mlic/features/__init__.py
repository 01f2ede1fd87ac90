"""Features of a frozen backbone, computed once and kept on disk."""

from importlib import import_module
from typing import Any

# name -> module; imported on first use, so that listing the stores does not wait for lightning
_PUBLIC = {
    "CachedFeatures": "source",
    "ExtractionResult": "extraction",
    "FeatureDataset": "dataset",
    "FeatureReader": "reader",
    "FeatureSampler": "sampling",
    "FeatureStore": "store",
    "HashedFiles": "hashing",
    "ShardWriter": "writer",
    "extract_features": "extraction",
    "hash_files": "hashing",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
