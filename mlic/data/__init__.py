"""From annotation files and image folders to curated, split and weighted labels."""

from mlic.data.annotations import read_coco, read_csv, read_voc, read_webdataset
from mlic.data.cache import cache_dir
from mlic.data.coco_val2017 import read_coco_val2017
from mlic.data.curation import CurationReport, curate
from mlic.data.datamodule import MultiLabelDataModule
from mlic.data.demo import read_demo
from mlic.data.images import BadImageError, ImageDataset, check_images, load_image
from mlic.data.splitting import Split, split_hash, stratified_split
from mlic.data.table import LabelTable
from mlic.data.weighting import class_weights

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
    "load_image",
    "read_coco",
    "read_coco_val2017",
    "read_csv",
    "read_demo",
    "read_voc",
    "read_webdataset",
    "split_hash",
    "stratified_split",
]
