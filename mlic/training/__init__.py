"""Training runs: preparation, callbacks, trainer and results."""

from mlic.training.checkpoint_io import DurableCheckpoints
from mlic.training.epoch_table import EpochTable
from mlic.training.progress import TrainingProgress
from mlic.training.weight_average import WeightAverage

__all__ = ["DurableCheckpoints", "EpochTable", "TrainingProgress", "WeightAverage"]
