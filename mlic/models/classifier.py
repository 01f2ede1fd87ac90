"""The LightningModule: a head over features, or over a frozen backbone that computes them."""

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
from mlic.models.ensemble import Backbone
from mlic.models.scores import CollectedScores, ScoreCollector

Batch = tuple[Tensor, Tensor, Tensor]
CHECKPOINT_KEY = "mlic"
BACKBONE_PREFIX = "backbone."
# Shown by loggers and progress bars, besides what callbacks monitor. All metrics of an epoch go to epochs.csv: the time
# that Lightning takes for a value that is logged grows with their number.
WATCHED = frozenset(("train/loss", "train/map", "val/loss", "val/map"))


def epoch_seed(seed: int, epoch: int) -> int:
    """What torch is seeded with at the start of an epoch, before dropout draws."""
    return seed * 1_000_003 + epoch


class MultiLabelClassifier(L.LightningModule):
    """Trains a head on batches of (inputs, targets, rows); inputs are features, or images when it has a backbone.

    Attributes:
        epoch_metrics: `train/loss`, `val/map` and all other metrics of the running epoch, as far as they are computed.
        results: after `Trainer.test`, the metrics of each part that was tested, in the layout of metrics.json.
        predictions: after `Trainer.test`, the collected scores of each part.
        seen: goes into each checkpoint, and comes from one that is loaded: the images that the weights have seen, see
            `mlic.inference.seen`.
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
        file_names: Sequence[str] = (),
        checkpoint_info: Mapping[str, Any] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            head: features (B, *feature_shape) -> logits (B, C).
            loss: logits (B, C), targets (B, C) -> scalar.
            optimizer: parameters -> optimizer, such as a partial of `torch.optim.Adam`.
            classes: C names, in the order of the logits.
            backbone: None when batches hold features.
            scheduler: optimizer and `total_steps` -> learning rates step by step, such as a partial of
                `cosine_with_warmup`; None leaves them as they are.
            seed: with the epoch it determines all dropout masks, so that a resumed run draws the same ones.
            file_names: of all rows, to name the images of a batch that diverged.
            checkpoint_info: plain values that go into each checkpoint: backbone, classes, split hash.
        """
        super().__init__()
        self.head, self.loss, self.backbone = head, loss, backbone
        self.optimizer, self.scheduler = optimizer, scheduler
        self.classes, self.seed = tuple(classes), seed
        self.file_names = file_names
        self.checkpoint_info = dict(checkpoint_info or {})
        self.strict_loading = False  # the frozen backbone is not in the checkpoint
        self.train_scores, self.val_scores = ScoreCollector(), ScoreCollector()
        self.test_scores = nn.ModuleList()
        self.test_parts: tuple[str, ...] = ("test",)
        self.epoch_metrics: dict[str, float] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.predictions: dict[str, CollectedScores] = {}
        self.seen: dict[str, Any] | None = None

    def features(self, inputs: Tensor) -> Tensor:
        """Features, or uint8 images as its `transform` gives them when there is a backbone -> (B, *feature_shape)."""
        return inputs if self.backbone is None else self.backbone(inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Features, or uint8 images when there is a backbone -> logits (B, C)."""
        return self.head(self.features(inputs))

    def exact_logits(self, inputs: Tensor) -> Tensor:
        """Logits (B, C) without mixed precision: rounded to 8 bits, scores tie, and ties change AP and AUC."""
        with torch.autocast(self.device.type, enabled=False):
            return self(inputs)

    def configure_optimizers(self) -> Any:
        """The optimizer over the head and what else is trained, and its learning rates."""
        optimizer = self.make_optimizer()
        if self.scheduler is None:
            return optimizer
        schedule = self.scheduler(optimizer, total_steps=self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def make_optimizer(self) -> Optimizer:
        """A new optimizer over the head and what else is trained.

        Raises:
            InputError: a setting that it refuses.
        """
        groups = [] if self.backbone is None else self.backbone.parameter_groups()
        head = self.head.parameters()
        try:
            return self.optimizer([{"params": head}, *groups] if groups else head)
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer: {error}. Correct it there, or leave it at its default.") from error

    def on_train_epoch_start(self) -> None:
        """Forget the metrics of the epoch before."""
        self.epoch_metrics = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout from (seed, epoch): Lightning's own order of draws differs after a resume."""
        if batch_idx == 0:
            torch.manual_seed(epoch_seed(self.seed, self.current_epoch))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; the scores of the epoch are those seen in training, with dropout, as Keras reports them."""
        inputs, targets, rows = batch
        logits = self(inputs)
        loss = self.loss(logits, targets)
        # reading the loss waits for a GPU: there, once an epoch; nowhere else does it cost anything
        if (self.device.type == "cpu" or self.trainer.is_last_batch) and not math.isfinite(loss.item()):
            raise InputError(self._divergence_message(loss, rows))
        self.train_scores.update(rows, logits, targets)
        return loss

    def _divergence_message(self, loss: Tensor, rows: Tensor) -> str:
        names = [str(self.file_names[row]) if self.file_names else f"row {row}" for row in rows.tolist()]
        return (
            f"the loss became {loss.item()} in epoch {self.current_epoch}. Images of that batch: {', '.join(names)}. "
            "Look for broken features or weights, or lower the learning rate (optimizer.lr)."
        )

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """After the last batch log the metrics of the epoch's training batches.

        Here rather than in `on_train_epoch_end`, which runs after that of the callbacks that want the values.
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
        metrics = self.evaluate(collector.compute())
        collector.reset()
        values = {f"{part}/{name}": value for name, value in metrics.items() if isinstance(value, float)}
        self.epoch_metrics.update(values)
        trainer: Any = self.trainer
        watched = WATCHED.union(getattr(callback, "monitor", None) for callback in trainer.callbacks)
        logged = {name: value for name, value in values.items() if name in watched}
        self.log_dict(logged, prog_bar=True, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def evaluate(self, collected: CollectedScores) -> dict[str, Any]:
        """All metrics, and the loss over all images at once, whatever the batches were."""
        loss = self.loss.to("cpu")(collected.logits, collected.targets).item()
        self.loss.to(self.device)
        return {"loss": loss, **evaluate_scores(collected.scores, collected.targets.numpy(), self.classes)}

    def expect_test_parts(self, parts: Sequence[str]) -> None:
        """Name the dataloaders that `Trainer.test` will be given, in their order."""
        self.test_parts = tuple(parts)
        self.test_scores = nn.ModuleList(ScoreCollector() for _ in parts)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect the logits of a batch of one part."""
        inputs, targets, rows = batch
        collector: Any = self.test_scores[dataloader_idx]
        collector.update(rows, self.exact_logits(inputs), targets)

    def on_test_epoch_end(self) -> None:
        """Compute the metrics of each part."""
        for part, collector in zip(self.test_parts, self.test_scores, strict=True):
            self.predictions[part] = collector.compute()  # pyright: ignore[reportCallIssue]
            self.results[part] = self.evaluate(self.predictions[part])

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Without what is frozen of the backbone: 1.4 MB instead of 16 for the default model, 350 for NASNetLarge."""
        state = super().state_dict(*args, **kwargs)
        trained = set() if self.backbone is None else self.backbone.trained_names
        return {
            name: value
            for name, value in state.items()
            if not name.startswith(BACKBONE_PREFIX) or name.removeprefix(BACKBONE_PREFIX) in trained
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to use the head: which backbone, which classes, and which images it has seen."""
        checkpoint[CHECKPOINT_KEY] = {**self.checkpoint_info, "seen": self.seen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another backbone, other classes or another split."""
        saved = checkpoint.get(CHECKPOINT_KEY, {})
        for key, expected in self.checkpoint_info.items():
            if saved.get(key) != expected:
                raise InputError(f"the checkpoint has {key} = {saved.get(key)!r}, this run has {expected!r}.")
        self.seen = saved.get("seen")
