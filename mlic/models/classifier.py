"""The LightningModule: a head on features, or on a frozen backbone that computes them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mlic.errors import InputError
from mlic.evaluation.metrics import evaluate_scores
from mlic.models.interface import BACKBONE_PREFIX, CHECKPOINT_KEY, Backbone
from mlic.models.scores import CollectedScores, ScoreCollector

Batch = tuple[Tensor, Tensor, Tensor]
# Metrics for progress bars and, with CURVES, for loggers, besides those that callbacks monitor. All metrics of an epoch
# are only in epochs.csv, because the time that Lightning takes per logged value grows with their number.
WATCHED = frozenset(("loss", "map"))
CURVES = frozenset(("auc_macro", "precision_micro", "recall_micro"))


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of torch at the start of an epoch, before dropout draws."""
    return seed * 1_000_003 + epoch


class MultiLabelClassifier(L.LightningModule):
    """Trains a head on batches of (inputs, targets, rows); inputs are features, or images if it has a backbone.

    Attributes:
        epoch_metrics: `train/loss`, `val/map` and all other metrics of the current epoch computed so far.
        results: metrics of each tested part after `Trainer.test`, in the layout of metrics.json.
        predictions: collected scores of each part after `Trainer.test`.
        seen: images that the weights have seen, stored in and loaded from checkpoints; see `SeenImages.plain`.
    """

    def __init__(
        self,
        head: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer],
        classes: Sequence[str],
        *,
        backbone: Backbone | None = None,
        scheduler: Callable[..., LRScheduler] | None = None,
        seed: int = 0,
        checkpoint_info: Mapping[str, Any] | None = None,
    ) -> None:
        """Create the module from its parts.

        Args:
            head: maps features (B, *feature_shape) to logits (B, C).
            loss: maps logits (B, C) and targets (B, C) of 1, 0 and -1 (unknown) to a scalar.
            optimizer: maps parameters to an optimizer, such as a partial of `torch.optim.Adam`.
            classes: C names in the order of the logits.
            backbone: backbone; None if batches contain features.
            scheduler: maps an optimizer and `total_steps` to a schedule per step, such as a partial of
                `cosine_with_warmup`; None for constant learning rates.
            seed: determines all dropout masks together with the epoch, so that a resumed run draws the same masks.
            checkpoint_info: plain values stored in each checkpoint: backbone, classes, split hash.
        """
        super().__init__()
        self.head, self.loss, self.backbone = head, loss, backbone
        self.optimizer, self.scheduler = optimizer, scheduler
        self.classes, self.seed = tuple(classes), seed
        self.checkpoint_info = dict(checkpoint_info or {})
        self.strict_loading = False  # the frozen backbone is not in the checkpoint
        self.train_scores, self.val_scores = ScoreCollector(), ScoreCollector()
        self.test_scores: dict[str, ScoreCollector] = {}
        self.epoch_metrics: dict[str, float] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.predictions: dict[str, CollectedScores] = {}
        self.seen: dict[str, Any] | None = None

    def features(self, inputs: Tensor) -> Tensor:
        """Return features (B, *feature_shape) of inputs: features or, with a backbone, uint8 images."""
        return inputs if self.backbone is None else self.backbone(inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute logits (B, C) of features or, with a backbone, of uint8 images."""
        return self.head(self.features(inputs))

    def exact_logits(self, inputs: Tensor) -> Tensor:
        """Compute logits (B, C) without mixed precision; rounded to 8 bits, scores would tie and change AP and AUC."""
        with torch.autocast(self.device.type, enabled=False):
            return self(inputs)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and schedule of the head and other trained parameters."""
        optimizer = self.make_optimizer()
        if self.scheduler is None:
            return optimizer
        schedule = self.scheduler(optimizer, total_steps=self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def make_optimizer(self) -> Optimizer:
        """Create an optimizer of the head and other trained parameters.

        Raises:
            InputError: the optimizer refuses a setting.
        """
        groups = [] if self.backbone is None else self.backbone.parameter_groups()
        head = self.head.parameters()
        try:
            return self.optimizer([{"params": head}, *groups] if groups else head)
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer: {error}. Correct it, or use its default.") from error

    def on_train_epoch_start(self) -> None:
        """Reset the metrics of the previous epoch."""
        self.epoch_metrics = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout by (seed, epoch), because the random draws of Lightning differ after resuming."""
        if batch_idx == 0:
            torch.manual_seed(epoch_seed(self.seed, self.current_epoch))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss; training metrics use the scores of training steps with dropout, as in Keras."""
        inputs, targets, rows = batch
        logits = self(inputs)
        loss = self.loss(logits, targets)
        # reading the loss synchronizes a GPU, so it is checked only once per epoch there
        if (self.device.type == "cpu" or self.trainer.is_last_batch) and not math.isfinite(loss.item()):
            raise InputError(
                f"the loss became {loss.item()} in epoch {self.current_epoch}. Lower the learning rate (optimizer.lr), "
                "or check the features."
            )
        self.train_scores.update(rows, logits, targets)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the metrics of the training batches after the last batch.

        `on_train_epoch_end` would be too late, because the hooks of callbacks that use the values run before it.
        """
        if self.trainer.is_last_batch:
            self._log_epoch("train", self.train_scores)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the logits of a batch."""
        inputs, targets, rows = batch
        self.val_scores.update(rows, self.exact_logits(inputs), targets)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the val part."""
        self._log_epoch("val", self.val_scores)

    def _log_epoch(self, part: str, collector: ScoreCollector) -> None:
        metrics = self.evaluate(collector.collect())
        trainer: Any = self.trainer
        monitored = {getattr(callback, "monitor", None) for callback in trainer.callbacks}
        for name, value in metrics.items():
            if not isinstance(value, float):
                continue
            tag = f"{part}/{name}"
            self.epoch_metrics[tag] = value
            watched = name in WATCHED or tag in monitored
            if watched or name in CURVES:
                self.log(
                    tag, value, prog_bar=watched, on_step=False, on_epoch=True, batch_size=1, sync_dist=True
                )

    def evaluate(self, collected: CollectedScores) -> dict[str, Any]:
        """Compute all metrics, and the loss over all images independently of batches."""
        loss = self.loss.to("cpu")(collected.logits, collected.targets).item()
        self.loss.to(self.device)
        return {"loss": loss, **evaluate_scores(collected.scores, collected.targets.numpy(), self.classes)}

    def expect_test_parts(self, parts: Sequence[str]) -> None:
        """Set the names of the dataloaders of `Trainer.test`, in order."""
        self.test_scores = {part: ScoreCollector() for part in parts}

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect the logits of a batch of one part."""
        inputs, targets, rows = batch
        list(self.test_scores.values())[dataloader_idx].update(rows, self.exact_logits(inputs), targets)

    def on_test_epoch_end(self) -> None:
        """Compute the metrics of each part."""
        for part, collector in self.test_scores.items():
            self.predictions[part] = collector.collect()
            self.results[part] = self.evaluate(self.predictions[part])

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Omit frozen weights of the backbone: 1.4 MB instead of 16 for the default model, 350 for NASNetLarge."""
        state = super().state_dict(*args, **kwargs)
        trained = set() if self.backbone is None else self.backbone.trained_names
        return {
            name: value
            for name, value in state.items()
            if not name.startswith(BACKBONE_PREFIX) or name.removeprefix(BACKBONE_PREFIX) in trained
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the information needed to use the head: backbone, classes and seen images."""
        checkpoint[CHECKPOINT_KEY] = {**self.checkpoint_info, "seen": self.seen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another backbone, split or set of classes."""
        saved = checkpoint.get(CHECKPOINT_KEY, {})
        for key, expected in self.checkpoint_info.items():
            if saved.get(key) != expected:
                raise InputError(f"the checkpoint has {key} = {saved.get(key)!r}, this run has {expected!r}.")
        self.seen = saved.get("seen")
