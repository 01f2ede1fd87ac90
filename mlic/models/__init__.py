"""Frozen backbones, heads, losses, and the LightningModule that trains a head."""

from mlic.models.backbone import FrozenBackbone
from mlic.models.classifier import MultiLabelClassifier
from mlic.models.heads import DenseHead
from mlic.models.losses import AsymmetricLoss, FocalLoss, WeightedBCE

__all__ = [
    "AsymmetricLoss",
    "DenseHead",
    "FocalLoss",
    "FrozenBackbone",
    "MultiLabelClassifier",
    "WeightedBCE",
]
