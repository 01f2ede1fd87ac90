"""Data: label tables read from annotations, then curated, split and weighted."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlic.data.annotations import read_coco, read_csv, read_voc, read_webdataset
    from mlic.data.cache import cache_dir
    from mlic.data.coco_val2017 import read_coco_val2017
    from mlic.data.curation import CurationReport, curate
    from mlic.data.datamodule import MultiLabelDataModule
    from mlic.data.demo import read_demo
    from mlic.data.image_dataset import ImageDataset
    from mlic.data.images import BadImageError, check_images, open_image
    from mlic.data.splitting import Split, split_hash, stratified_split
    from mlic.data.table import LabelTable
    from mlic.data.weighting import class_weights

# Imported on first use, so that reading and checking data does not have to wait for torch.
_HOMES = {
    "BadImageError": "images",
    "CurationReport": "curation",
    "ImageDataset": "image_dataset",
    "LabelTable": "table",
    "MultiLabelDataModule": "datamodule",
    "Split": "splitting",
    "cache_dir": "cache",
    "check_images": "images",
    "class_weights": "weighting",
    "curate": "curation",
    "open_image": "images",
    "read_coco": "annotations",
    "read_coco_val2017": "coco_val2017",
    "read_csv": "annotations",
    "read_demo": "demo",
    "read_voc": "annotations",
    "read_webdataset": "annotations",
    "split_hash": "splitting",
    "stratified_split": "splitting",
}

__all__ = [
    "BadImageError",
    "CurationReport",
    "ImageDataset",
    "LabelTable",
    "MultiLabelDataModule",
    "Split",
    "cache_dir",
    "check_images",
    "class_weights",
    "curate",
    "open_image",
    "read_coco",
    "read_coco_val2017",
    "read_csv",
    "read_demo",
    "read_voc",
    "read_webdataset",
    "split_hash",
    "stratified_split",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlic.data' has no attribute '{name}'")
    return getattr(import_module(f"mlic.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
