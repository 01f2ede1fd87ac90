"""Averaging of the weights over the last epochs."""

from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mlic.errors import InputError

STATE_KEY = "weight_average"


def first_averaged_epoch(share: float, max_epochs: int) -> int:
    """Return the number (from 0) of the first averaged epoch; at least one epoch is averaged."""
    return min(round((1 - share) * max_epochs), max_epochs - 1)


class WeightAverage(L.Callback):
    """Evaluates and stores the mean of the weights after each step of the last epochs, without affecting training.

    Izmailov et al., Averaging Weights Leads to Wider Optima, 2018, with equal weight for all steps. Only trained
    weights are averaged, so that a frozen backbone has no cost. From the first averaged step on, val scores and the
    `state_dict` of checkpoints are those of the average, which is therefore selected, tested and used later.
    Checkpoints also contain the running weights for resuming. Lightning's `WeightAveraging` would evaluate the
    initial weights until the first averaged epoch, and store a copy of the frozen backbone in each checkpoint.
    """

    def __init__(self, *, share: float = 0.5) -> None:
        """Average over the last `share` of the epochs, in (0, 1].

        Raises:
            InputError: `share` is out of range.
        """
        if not 0 < share <= 1:
            raise InputError(f"callbacks.weight_average.share={share}: expected a number in (0, 1].")
        self.share = share
        self.count = 0
        self._average: dict[str, Tensor] = {}
        self._swapped = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that the length of the run is known."""
        if stage == "fit" and (trainer.max_epochs or 0) < 1:
            raise InputError(
                "callbacks=weight_average requires the length of the run: set trainer.max_epochs."
            )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights of this step to the average."""
        assert trainer.max_epochs is not None
        if trainer.current_epoch < first_averaged_epoch(self.share, trainer.max_epochs):
            return
        self.count += 1
        current = _trained_weights(pl_module)
        if self.count == 1:
            self._average = {name: weight.clone() for name, weight in current.items()}
        else:
            for name, average in self._average.items():
                average.lerp_(current[name], 1 / self.count)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Switch to the average."""
        if self.count and trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Switch back to the running weights."""
        if self.count and trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the module, for runs without checkpoints."""
        if self.count:
            self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average in `state_dict`, and also the running weights."""
        if not self.count:
            return
        state = checkpoint["state_dict"]
        average, running = self._average, {name: state[name] for name in self._average}
        if self._swapped:
            average, running = running, average
        checkpoint["state_dict"] = {**state, **{name: weight.clone() for name, weight in average.items()}}
        checkpoint[STATE_KEY] = {
            "count": self.count,
            "running": {name: weight.clone() for name, weight in running.items()},
        }

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore average and running weights in a resumed run; otherwise only the average is needed."""
        if trainer.state.fn != TrainerFn.FITTING or STATE_KEY not in checkpoint:
            return
        saved = checkpoint[STATE_KEY]
        weights = _trained_weights(pl_module)
        self.count, self._swapped = saved["count"], False
        self._average = {}
        for name, running in saved["running"].items():
            self._average[name] = checkpoint["state_dict"][name].to(weights[name].device, copy=True)
            weights[name].copy_(running)

    def _swap(self, pl_module: L.LightningModule) -> None:
        for name, weight in _trained_weights(pl_module).items():
            weight_before = weight.clone()
            weight.copy_(self._average[name])
            self._average[name].copy_(weight_before)
        self._swapped = not self._swapped


def _trained_weights(module: L.LightningModule) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in module.named_parameters() if weight.requires_grad}
