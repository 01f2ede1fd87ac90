"""Training runs: preparation, callbacks, trainer and results."""

from mlic.training.callbacks import EpochTable, TrainingProgress
from mlic.training.checkpoint_io import DurableCheckpoints
from mlic.training.weight_average import WeightAverage

__all__ = ["DurableCheckpoints", "EpochTable", "TrainingProgress", "WeightAverage"]
