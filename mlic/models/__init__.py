"""Frozen backbones, heads, losses, and the LightningModule that trains a head."""

from mlic.models.backbone import FrozenBackbone
from mlic.models.blend import BlendHead
from mlic.models.classifier import MultiLabelClassifier
from mlic.models.ensemble import EnsembleBackbone
from mlic.models.heads import DenseHead
from mlic.models.interface import Backbone
from mlic.models.losses import AsymmetricLoss, FocalLoss, WeightedBCE
from mlic.models.map_heads import AttentionHead, CSRAHead
from mlic.models.nearest import NearestHead
from mlic.models.ridge import RidgeHead
from mlic.models.schedules import cosine_with_warmup
from mlic.models.standardization import Standardization, fit_standardization

__all__ = [
    "AsymmetricLoss",
    "AttentionHead",
    "Backbone",
    "BlendHead",
    "CSRAHead",
    "DenseHead",
    "EnsembleBackbone",
    "FocalLoss",
    "FrozenBackbone",
    "MultiLabelClassifier",
    "NearestHead",
    "RidgeHead",
    "Standardization",
    "WeightedBCE",
    "cosine_with_warmup",
    "fit_standardization",
]
