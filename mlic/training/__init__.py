"""Callbacks and steps of a training run."""

from mlic.training.epoch_table import EpochTable
from mlic.training.progress import TrainingProgress
from mlic.training.weight_average import WeightAverage

__all__ = ["EpochTable", "TrainingProgress", "WeightAverage"]
