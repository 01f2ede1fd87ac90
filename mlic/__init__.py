"""Multi-label image classification by transfer learning: frozen backbones, small heads, honest figures."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Small products on several threads: where another program holds one of the cores, threads that spin while they wait
# made a step of head training 10 times slower than threads that sleep. OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from mlic.config import compose
    from mlic.data import LabelTable, MultiLabelDataModule, read_coco, read_csv, read_voc, read_webdataset
    from mlic.errors import InputError
    from mlic.inference import Classifier
    from mlic.models import DenseHead, FrozenBackbone, MultiLabelClassifier, WeightedBCE

# Imported on first use: a report is made without torch, and `--help` does not wait for it.
_HOMES = {
    "compose": "mlic.config",
    "LabelTable": "mlic.data",
    "MultiLabelDataModule": "mlic.data",
    "read_coco": "mlic.data",
    "read_csv": "mlic.data",
    "read_voc": "mlic.data",
    "read_webdataset": "mlic.data",
    "InputError": "mlic.errors",
    "Classifier": "mlic.inference",
    "DenseHead": "mlic.models",
    "FrozenBackbone": "mlic.models",
    "MultiLabelClassifier": "mlic.models",
    "WeightedBCE": "mlic.models",
}

__all__ = [
    "Classifier",
    "DenseHead",
    "FrozenBackbone",
    "InputError",
    "LabelTable",
    "MultiLabelClassifier",
    "MultiLabelDataModule",
    "WeightedBCE",
    "compose",
    "read_coco",
    "read_csv",
    "read_voc",
    "read_webdataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlic' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
