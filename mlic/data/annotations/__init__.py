"""Readers of annotation formats; each returns a `LabelTable`."""

from mlic.data.annotations.coco import read_coco
from mlic.data.annotations.csv import read_csv
from mlic.data.annotations.voc import read_voc
from mlic.data.annotations.webdataset import read_webdataset

__all__ = ["read_coco", "read_csv", "read_voc", "read_webdataset"]
