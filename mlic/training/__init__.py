"""Callbacks and steps of a training run."""

from mlic.training.epoch_table import EpochTable
from mlic.training.progress import TrainingProgress

__all__ = ["EpochTable", "TrainingProgress"]
